//! Requests that are wrong, or mean harm: a 4xx with the specification's code, never a panic, never
//! a file outside the directory.

use std::path::PathBuf;

use crate::support::{Upstream, Weir, disk};

async fn weir() -> (Upstream, Weir) {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    (upstream, weir)
}

/// Status and body of an answer as it came over the wire.
fn read(answer: &str) -> (u16, &str) {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body)
}

#[tokio::test]
async fn whatever_writes_is_not_supported() {
    let (upstream, weir) = weir().await;
    for (method, path) in [
        ("PUT", "/v2/acme/app/manifests/1"),
        ("DELETE", "/v2/acme/app/manifests/1"),
        ("POST", "/v2/acme/app/blobs/uploads/"),
        ("PATCH", "/v2/acme/app/blobs/uploads/1"),
        ("PUT", "/v2/acme/app/blobs/uploads/1?digest=x"),
        ("POST", "/v2/"),
    ] {
        let method = method.parse().expect("a method");
        let answer = weir.client().send(method, path).await.rest().await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.error_code(), "UNSUPPORTED", "{path}");
        assert!(
            answer
                .header("allow")
                .is_some_and(|allow| allow.contains("GET"))
        );
    }
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn paths_that_mean_harm_lead_nowhere() {
    let (upstream, weir) = weir().await;
    let hex = "0".repeat(64);
    for path in [
        "/v2/../../etc/passwd/manifests/x".to_owned(),
        "/v2/acme/../../x/manifests/1".to_owned(),
        "/v2/acme/app/manifests/..".to_owned(),
        "/v2/acme/app/manifests/..%2f..%2fetc%2fpasswd".to_owned(),
        "/v2/acme/app/manifests/%2e%2e%2f".to_owned(),
        "/v2/acme%2fapp/manifests/1".to_owned(),
        "/v2/acme/app/manifests/%00".to_owned(),
        "/v2/acme/app/manifests/a%0d%0ab".to_owned(),
        "/v2/acme/app/manifests/%252e".to_owned(),
        "/v2/acme/app/manifests/%zz".to_owned(),
        "/v2/acme/app/blobs/sha256:../../../etc/passwd".to_owned(),
        "/v2/acme/app/blobs/sha256%3a..%2f..%2f".to_owned(),
        format!("/v2/acme/app/blobs/sha256:{}", hex.replace("00", "..")),
        format!("/v2/acme/app/blobs/../sha256:{hex}"),
        "/v2/acme/app/blobs/../../index/db".to_owned(),
        "/../../etc/passwd".to_owned(),
        "//v2//acme/app/manifests/1".to_owned(),
        "/v2/acme\\app/manifests/1".to_owned(),
        "/v2/acme/app/manifests/1/../../../blobs".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "/v2/_catalog/../x".to_owned(),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
        let answer = weir.client().raw(request.as_bytes()).await;
        let (status, body) = read(&answer);
        assert!((400..500).contains(&status), "{path}: {answer}");
        assert!(!body.contains("root:"), "{path}: {answer}");
    }
    assert!(upstream.all_requests().is_empty());
    // Nothing was stored, and nothing was put beside the cache's own directory.
    let cache = weir.cache_directory();
    let mut made = disk::files(cache.parent().expect("the temporary directory"));
    made.retain(|file| !file.starts_with(&cache) || file.starts_with(cache.join("blobs")));
    assert_eq!(made, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn malformed_names_are_called_by_their_code() {
    let (_upstream, weir) = weir().await;
    let hex = "0".repeat(64);
    for (path, status, code) in [
        ("/v2/Acme/app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/acme/-app/manifests/1".to_owned(), 400, "NAME_INVALID"),
        (
            format!("/v2/{}/manifests/1", "a".repeat(300)),
            400,
            "NAME_INVALID",
        ),
        (
            format!("/v2/acme/app/manifests/{}", "a".repeat(129)),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "/v2/acme/app/manifests/.1".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "/v2/acme/app/manifests/sha256:12".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        ("/v2/acme/app/blobs/1".to_owned(), 400, "DIGEST_INVALID"),
        (
            format!("/v2/acme/app/blobs/md5:{hex}"),
            400,
            "DIGEST_INVALID",
        ),
        (
            format!("/v2/acme/app/blobs/sha256:{}", "A".repeat(64)),
            400,
            "DIGEST_INVALID",
        ),
    ] {
        let answer = weir.client().get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.error_code(), code, "{path}");
    }
    let nothing = weir.client().get("/v2/acme/app").await;
    assert_eq!(nothing.status, 404);
    let elsewhere = weir.client().get("/favicon.ico").await;
    assert_eq!(elsewhere.status, 404);
    let long = format!("/v2/{}/manifests/1", "a/".repeat(2000));
    let long = weir.client().get(&long).await;
    assert!(matches!(long.status, 400 | 414), "{}", long.status);
}

#[tokio::test]
async fn requests_that_are_no_http_do_no_harm() {
    let (_upstream, weir) = weir().await;
    for request in [
        "GET /v2/ HTTP/1.1\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\r\n\r\n\r\n\0\u{1}\u{2}",
        "GET\r\n\r\n",
        "GET /v2/ HTTP/9.9\r\nHost: w\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}hello, TLS",
    ] {
        let answer = weir.client().raw_half_closed(request.as_bytes()).await;
        let shown = &request[..request.len().min(40)];
        let (status, _) = read(&answer);
        assert!(
            answer.is_empty() || (400..500).contains(&status),
            "{shown}: {answer}"
        );
    }
    weir.client().get("/v2/").await.whole(200);
}

#[tokio::test]
async fn headers_without_end_are_answered_although_nobody_reads_them() {
    let (_upstream, weir) = weir().await;
    let fat = format!(
        "GET /v2/ HTTP/1.1\r\nHost: w\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let many = format!(
        "GET /v2/ HTTP/1.1\r\nHost: w\r\n{}\r\n",
        "A: b\r\n".repeat(5000)
    );
    for request in [fat, many] {
        // The answer has to survive what the client is still sending.
        let answer = weir.client().raw_half_closed(request.as_bytes()).await;
        let (status, _) = read(&answer);
        assert_eq!(status, 431, "{answer}");
    }
}

#[tokio::test]
async fn a_request_with_two_lengths_ends_its_connection() {
    let (_upstream, weir) = weir().await;
    let smuggled = "GET /v2/ HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: w\r\n\r\n";
    let answer = weir.client().raw_half_closed(smuggled.as_bytes()).await;
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
}

#[tokio::test]
async fn a_client_that_half_closes_still_gets_its_answer() {
    let (_upstream, weir) = weir().await;
    let request = b"GET /v2/acme/app/manifests/1 HTTP/1.1\r\nHost: w\r\n\r\n";
    let answer = weir.client().raw_half_closed(request).await;
    let (status, body) = read(&answer);
    assert_eq!(status, 200, "{answer}");
    assert!(body.contains("schemaVersion"), "{answer}");
}
