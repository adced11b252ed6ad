//! Requests that two servers would read differently, and headers that would become others: over raw
//! sockets, one answer at most for each, and nothing of it reaches an upstream.

use crate::support::{Upstream, Weir, blob_path};

async fn weir() -> (Upstream, Weir) {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    (upstream, weir)
}

/// The statuses of every answer that came back for what was sent.
async fn statuses(weir: &Weir, sent: &[u8]) -> Vec<u16> {
    let answer = weir.client().raw_half_closed(sent).await;
    let heads = answer.split("HTTP/1.1 ").skip(1);
    heads
        .map(|head| head[..3].parse().expect("a status"))
        .collect()
}

/// A second request that must not be taken for one of its own.
const HIDDEN: &str = "GET /v2/acme/app/manifests/1 HTTP/1.1\r\nHost: w\r\n\r\n";

#[tokio::test]
async fn a_body_of_two_lengths_hides_no_request() {
    let (upstream, weir) = weir().await;
    // Two honest requests in a row are two, so that one more would be seen.
    let ping = "GET /v2/ HTTP/1.1\r\nHost: w\r\n\r\n".repeat(2);
    assert_eq!(statuses(&weir, ping.as_bytes()).await, [200, 200]);
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 0\r\nContent-Length: 60",
        "Content-Length: 0, 60",
        "Content-Length: +0",
        "Content-Length: 0x0",
        "Content-Length: -1",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\u{b}chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\n\tfolded",
    ] {
        for method in ["GET", "POST", "PUT"] {
            let sent =
                format!("{method} /v2/ HTTP/1.1\r\nHost: w\r\n{headers}\r\n\r\n0\r\n\r\n{HIDDEN}");
            let found = statuses(&weir, sent.as_bytes()).await;
            assert!(found.len() <= 1, "{method} {headers:?}: {found:?}");
        }
    }
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn a_line_ends_where_every_server_sees_its_end() {
    let (upstream, weir) = weir().await;
    let hidden = "/v2/acme/app/manifests/1";
    for sent in [
        format!("GET /v2/ HTTP/1.1\r\nHost: w\r\nX: a\rGET {hidden} HTTP/1.1\r\nHost: w\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: w\r\nX: a\r\r\n\r\nGET {hidden} HTTP/1.1\r\n\r\n"),
        format!("GET /v2/\rGET {hidden} HTTP/1.1\r\nHost: w\r\n\r\n"),
        format!("GET /v2/\nGET {hidden} HTTP/1.1\r\nHost: w\r\n\r\n"),
        format!("GET /v2/ HTTP/1.1\r\nHost: w\0\r\n\r\nGET {hidden} HTTP/1.0\r\n\r\n"),
        "GET /v2/ HTTP/1.1\r\nHost: w\r\nNo colon here\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/1.1\r\nHost: w\r\n: no name\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/1.1\r\nHost: w\r\nA B: c\r\n\r\n".to_owned(),
        "GET /v2/ HTTP/1.1\r\nHost: w\r\nX: a\r\n folded\r\n\r\n".to_owned(),
        "GET  /v2/ HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(),
        "GET /v2/ x HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(),
        "G\u{0}T /v2/ HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(),
        "GET /v2/\u{7f} HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(),
    ] {
        let found = statuses(&weir, sent.as_bytes()).await;
        let refused = found.iter().all(|status| (400..500).contains(status));
        assert!(found.len() <= 1 && refused, "{sent:?}: {found:?}");
    }
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn nothing_that_a_client_names_is_dialled_or_tunnelled() {
    let (upstream, weir) = weir().await;
    let elsewhere = Upstream::start().await;
    elsewhere.image("acme/app:1");
    let other = elsewhere.endpoint();
    let host = other.trim_start_matches("http://");
    for (sent, allowed) in [
        (format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"), [404, 405]),
        ("OPTIONS * HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(), [405, 405]),
        ("TRACE /v2/ HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(), [405, 405]),
        (format!("GET {other}/v2/x/y/manifests/1 HTTP/1.1\r\nHost: w\r\n\r\n"), [404, 404]),
        (format!("GET /v2/x/y/manifests/1?ns={host} HTTP/1.1\r\nHost: w\r\n\r\n"), [404, 404]),
        (format!("GET /v2/{host}/x/manifests/1 HTTP/1.1\r\nHost: w\r\n\r\n"), [400, 404]),
        ("GET ftp://w/v2/ HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(), [200, 400]),
        ("GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), [200, 400]),
        (
            "GET /v2/x/y/manifests/1 HTTP/1.1\r\nHost: w\r\nX-Forwarded-Host: evil\r\nForwarded: host=evil\r\n\r\n"
                .to_owned(),
            [404, 404],
        ),
    ] {
        let found = statuses(&weir, sent.as_bytes()).await;
        assert!(found.len() == 1 && allowed.contains(&found[0]), "{sent:?}: {found:?}");
    }
    assert!(elsewhere.all_requests().is_empty());
    let asked = upstream.all_requests();
    let evil = |uri: &str| uri.contains("evil") || uri.contains(host);
    assert!(!asked.iter().any(|seen| evil(&seen.uri)), "{asked:?}");
}

#[tokio::test]
async fn what_a_client_sends_never_becomes_a_header() {
    let (_upstream, weir) = weir().await;
    let client = weir.client();
    for path in [
        "/v2/acme/app/manifests/1?ns=docker.io%0d%0aX-Evil:%20yes",
        "/v2/acme/app/tags/list?n=1&last=a%0d%0aX-Evil:%20yes",
        "/v2/acme/app/tags/list?n=1&ns=docker.io%0d%0aX-Evil:%20yes",
        "/v2/acme/app%0d%0aX-Evil:%20yes/manifests/1",
        "/v2/_catalog?n=1&last=%0d%0aX-Evil:%20yes",
        "/token?service=x%0d%0aX-Evil:%20yes&scope=%22%0d%0aX-Evil:%20yes",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.header("x-evil"), None, "{path}");
        assert!(
            (200..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
    for id in ["a\tb", "a b\"c", &"x".repeat(5_000), "ünïcode"] {
        let sent = format!("GET /v2/ HTTP/1.1\r\nHost: w\r\nX-Request-Id: {id}\r\n\r\n");
        let answer = client.raw_half_closed(sent.as_bytes()).await;
        let (head, _) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let given = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        let given = given.expect("an id");
        assert!(given != id && given.len() < 200, "{given}");
    }
}

#[tokio::test]
async fn encoded_and_overlong_separators_are_refused() {
    let (upstream, weir) = weir().await;
    for name in [
        "acme%2fapp",
        "acme%2Fapp",
        "acme%5capp",
        "acme/%2e%2e/app",
        "acme/..%2fapp",
        "acme/%2e/app",
        "acme%00",
        "acme/app%20",
        "acme%c0%afapp",
        "acme/%c0%ae%c0%ae/app",
        "acme%e0%80%afapp",
        "acme/app%ff",
        "acme/app%",
        "acme/app%2",
        "acme/%252e%252e/app",
        "acme;x/app",
        "acme/app%0a",
        "acme/\u{e4}pp",
    ] {
        for rest in ["manifests/1", "tags/list"] {
            let sent = format!("GET /v2/{name}/{rest} HTTP/1.1\r\nHost: w\r\n\r\n");
            let found = statuses(&weir, sent.as_bytes()).await;
            let refused = found.iter().all(|status| (400..500).contains(status));
            assert!(found.len() <= 1 && refused, "{name}: {found:?}");
        }
    }
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn a_range_bomb_costs_no_more_than_the_blob() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 200_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let client = weir.client();
    client.get(&path).await.whole(200);
    let overlapping = |count: usize| format!("bytes={}", vec!["0-"; count].join(","));
    let all = client.get_range(&path, &overlapping(1000)).await;
    assert_eq!(all.whole(206), &blob.bytes);
    let nested: Vec<_> = (0..1000).map(|first| format!("{first}-")).collect();
    let nested = client
        .get_range(&path, &format!("bytes={}", nested.join(",")))
        .await;
    assert!(nested.whole(206).len() <= blob.length());
    let refused = client.get_range(&path, &overlapping(2000)).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    // Single bytes, none beside another: what stands between them is bounded too.
    let single: Vec<_> = (0..1000)
        .map(|byte| format!("{}-{}", byte * 2, byte * 2))
        .collect();
    let single = client
        .get_range(&path, &format!("bytes={}", single.join(",")))
        .await;
    assert!(
        single.whole(206).len() < 1000 * 200,
        "{}",
        single.bytes.len()
    );
    let several = client.with("range", "bytes=0-9").with("if-range", "\"x\"");
    assert_eq!(several.get(&path).await.whole(200), &blob.bytes);
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_not_read_for_ever() {
    let (_upstream, weir) = weir().await;
    let body = "x".repeat(8 << 20);
    for sent in [
        format!(
            "GET /v2/ HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!(
            "PUT /v2/a/blobs/uploads/1 HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!(
            "POST /token HTTP/1.1\r\nHost: w\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    ] {
        let found = statuses(&weir, sent.as_bytes()).await;
        assert_eq!(found.len(), 1, "{}: {found:?}", &sent[..20]);
        assert!(found[0] < 500, "{}: {found:?}", &sent[..20]);
    }
    weir.client().get("/v2/").await.whole(200);
}
