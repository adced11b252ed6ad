//! The fake registry does what its name says: otherwise a test that passes proves nothing.

use base64::Engine;

use crate::support::client::{Answer, Client};
use crate::support::{Auth, Ended, Fault, Gate, On, Upstream, eventually};

/// A client that goes to the fake directly, with a token for this repository.
async fn logged_in(upstream: &Upstream, repository: &str) -> Client {
    let client = upstream.client();
    let token = token(upstream, &format!("repository:{repository}:pull"), None).await;
    client.with("authorization", &format!("Bearer {token}"))
}

async fn token(upstream: &Upstream, scope: &str, basic: Option<&str>) -> String {
    let mut client = upstream.token_client();
    if let Some(login) = basic {
        let encoded = base64::engine::general_purpose::STANDARD.encode(login);
        client = client.with("authorization", &format!("Basic {encoded}"));
    }
    let answer = client.get(&format!("/token?service=x&scope={scope}")).await;
    let body: serde_json::Value = serde_json::from_slice(answer.whole(200)).expect("JSON");
    body["token"].as_str().expect("a token").to_owned()
}

/// Follows a redirect to the CDN.
async fn follow(upstream: &Upstream, redirect: &Answer, range: Option<&str>) -> Answer {
    let location = redirect.header("location").expect("a redirect");
    let path = location.strip_prefix("http://").expect("an address");
    let path = &path[path.find('/').expect("a path")..];
    let client = upstream.cdn_client();
    match range {
        Some(range) => client.get_range(path, range).await,
        None => client.get(path).await,
    }
}

#[tokio::test]
async fn nobody_gets_anything_without_a_token() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/alpine:3.20");
    let path = "/v2/library/alpine/manifests/3.20";

    let refused = upstream.client().get(path).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer realm=\"http://127.0.0.1:"));
    assert!(challenge.ends_with("scope=\"repository:library/alpine:pull\""));

    let client = logged_in(&upstream, "library/alpine").await;
    let answer = client.get(path).await;
    assert_eq!(answer.whole(200), &image.manifest.bytes);
    let digest = image.manifest.digest.to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
    assert_eq!(
        answer.header("content-type"),
        Some(&*image.manifest.media_type)
    );

    let other = logged_in(&upstream, "library/other").await;
    assert_eq!(other.get(path).await.status, 401);
    upstream.revoke_tokens();
    assert_eq!(client.get(path).await.status, 401);

    assert_eq!(upstream.count(On::Challenge), 3);
    assert_eq!(upstream.count(On::Manifest), 1);
    assert_eq!(upstream.count(On::Token), 2);
    assert_eq!(
        upstream.bytes_sent(On::Manifest),
        image.manifest.bytes.len() as u64
    );
}

#[tokio::test]
async fn head_tells_everything_but_the_body() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let client = logged_in(&upstream, "acme/app").await;
    let head = client.head("/v2/acme/app/manifests/1").await;
    assert!(head.whole(200).is_empty());
    assert_eq!(head.length_header(), Some(image.manifest.bytes.len()));
    let blob = format!("/v2/acme/app/blobs/{}", image.layers[0].digest);
    let head = client.head(&blob).await;
    assert_eq!(head.length_header(), Some(image.layers[0].length()));
    assert_eq!(
        (
            upstream.count(On::ManifestHead),
            upstream.count(On::BlobHead)
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn blobs_come_from_the_cdn_whole_or_in_part() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 100_000);
    let client = logged_in(&upstream, "acme/app").await;
    let redirect = client
        .get(&format!("/v2/acme/app/blobs/{}", blob.digest))
        .await;
    assert_eq!(redirect.status, 307);

    let whole = follow(&upstream, &redirect, None).await;
    assert_eq!(whole.whole(200), &blob.bytes);
    let middle = follow(&upstream, &redirect, Some("bytes=10-19")).await;
    assert_eq!(middle.whole(206), &blob.bytes[10..20]);
    assert_eq!(middle.header("content-range"), Some("bytes 10-19/100000"));
    let suffix = follow(&upstream, &redirect, Some("bytes=-5")).await;
    assert_eq!(suffix.whole(206), &blob.bytes[99_995..]);
    let behind = follow(&upstream, &redirect, Some("bytes=100000-")).await;
    assert_eq!(behind.status, 416);

    upstream.expire_signed_addresses();
    assert_eq!(follow(&upstream, &redirect, None).await.status, 403);
    let path = redirect.header("location").expect("a redirect");
    let path = &path[path.find("/blobs").expect("a path")..];
    let with_token = upstream.cdn_client().with("authorization", "Bearer x");
    assert_eq!(with_token.get(path).await.status, 400);
}

/// A registry without tokens and redirects, and one blob in it.
async fn plain_blob(length: usize) -> (Upstream, crate::support::Content, String) {
    let upstream = Upstream::with(|settings| {
        settings.auth = Auth::Open;
        settings.redirect = false;
    })
    .await;
    let blob = upstream.blob("acme/app", length);
    let path = format!("/v2/acme/app/blobs/{}", blob.digest);
    (upstream, blob, path)
}

#[tokio::test]
async fn faults_are_met_in_order_and_only_once() {
    let (upstream, blob, path) = plain_blob(500_000).await;
    let client = upstream.client();
    upstream.fault(On::Blob, Fault::Status(503));
    upstream.fault(On::Blob, Fault::CutAfter(200_000));
    upstream.fault(On::Blob, Fault::ResetAfter(70_000));
    upstream.fault(On::Blob, Fault::CorruptAt(7));
    upstream.fault(On::Blob, Fault::TooShort(3));
    upstream.fault(On::Blob, Fault::TooLong(3));
    upstream.fault(On::Blob, Fault::ClaimsMore(3));
    upstream.fault(On::Blob, Fault::NoLength);
    upstream.fault(On::Blob, Fault::Html);
    upstream.fault(On::Blob, Fault::quota_used_up());

    assert_eq!(client.get(&path).await.status, 503);
    let cut = client.get(&path).await;
    assert_eq!((cut.ended, cut.bytes.len()), (Ended::Closed, 200_000));
    assert_eq!(cut.length_header(), Some(500_000));
    let reset = client.get(&path).await;
    assert_eq!(reset.ended, Ended::Reset);
    assert!(reset.bytes.len() <= 70_000);
    let corrupt = client.get(&path).await;
    assert_ne!(corrupt.whole(200)[7], blob.bytes[7]);
    assert_eq!(corrupt.bytes[8..], blob.bytes[8..]);
    assert_eq!(client.get(&path).await.whole(200).len(), 499_997);
    assert_eq!(client.get(&path).await.whole(200).len(), 500_003);
    let short = client.get(&path).await;
    assert_eq!(
        (short.ended, short.length_header()),
        (Ended::Closed, Some(500_003))
    );
    let chunked = client.get(&path).await;
    assert_eq!(chunked.whole(200), &blob.bytes);
    assert_eq!(chunked.length_header(), None);
    let html = client.get(&path).await;
    assert_eq!(html.header("content-type"), Some("text/html"));
    assert_eq!(client.get(&path).await.error_code(), "TOOMANYREQUESTS");
    assert_eq!(client.get(&path).await.whole(200), &blob.bytes);
}

#[tokio::test]
async fn a_gate_lets_through_what_the_test_wants() {
    let (upstream, blob, path) = plain_blob(300_000).await;
    let gate = Gate::ajar(100);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut open = upstream.client().open(&path).await;
    assert_eq!(open.read_exact(100).await, blob.bytes[..100]);
    assert_eq!(upstream.bytes_sent(On::Blob), 100);
    gate.let_through(70_000);
    assert_eq!(open.read_exact(70_000).await, blob.bytes[100..70_100]);
    gate.open();
    assert_eq!(open.rest().await.whole(200), &blob.bytes[70_100..]);

    let silence = Gate::shut();
    upstream.fault(On::Blob, Fault::SilentBehind(silence.clone()));
    let client = upstream.client();
    let waiting = tokio::spawn(async move { client.get(&path).await });
    eventually("the request is there", || upstream.count(On::Blob) == 2).await;
    assert!(!waiting.is_finished());
    silence.open();
    assert_eq!(waiting.await.expect("an answer").whole(200), &blob.bytes);
}

#[tokio::test]
async fn an_endless_body_does_not_end() {
    let (upstream, _, path) = plain_blob(10).await;
    upstream.always(On::Blob, Fault::Endless);
    let mut open = upstream.client().open(&path).await;
    open.read_exact(3_000_000).await;
    drop(open);
    upstream.heal();
    assert_eq!(upstream.client().get(&path).await.whole(200).len(), 10);
}

#[tokio::test]
async fn an_upstream_goes_away_and_comes_back() {
    let (upstream, blob, path) = plain_blob(1000).await;
    let client = upstream.client();
    upstream.go_away().await;
    assert!(client.try_send(http::Method::GET, &path).await.is_err());
    upstream.come_back().await;
    assert_eq!(client.get(&path).await.whole(200), &blob.bytes);
}

#[tokio::test]
async fn the_quota_counts_gets_and_forgives_heads() {
    let upstream = Upstream::with(|settings| settings.quota = Some(2)).await;
    upstream.image("library/alpine:1");
    let client = logged_in(&upstream, "library/alpine").await;
    let path = "/v2/library/alpine/manifests/1";
    for remaining in ["1;w=21600", "0;w=21600"] {
        let answer = client.get(path).await;
        assert_eq!(answer.header("ratelimit-remaining"), Some(remaining));
    }
    assert_eq!(client.get(path).await.status, 429);
    assert_eq!(client.head(path).await.status, 200);
}

#[tokio::test]
async fn accounts_may_have_what_others_may_not() {
    let upstream = Upstream::with(|settings| {
        settings.accounts = vec![("bot".to_owned(), "secret".to_owned())];
        settings.private = vec!["acme/secret".to_owned()];
    })
    .await;
    upstream.image("acme/secret:1");
    let path = "/v2/acme/secret/manifests/1";
    let anonymous = logged_in(&upstream, "acme/secret").await;
    let refused = anonymous.get(path).await;
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("insufficient_scope"));

    let scope = "repository:acme/secret:pull";
    let token = token(&upstream, scope, Some("bot:secret")).await;
    let bot = upstream
        .client()
        .with("authorization", &format!("Bearer {token}"));
    assert_eq!(bot.get(path).await.status, 200);

    upstream.set(|settings| settings.auth = Auth::Basic);
    assert_eq!(bot.get(path).await.status, 401);
    let encoded = base64::engine::general_purpose::STANDARD.encode("bot:secret");
    let basic = upstream
        .client()
        .with("authorization", &format!("Basic {encoded}"));
    assert_eq!(basic.get(path).await.status, 200);
}

#[tokio::test]
async fn tags_come_in_pages_and_referrers_by_kind() {
    let upstream = Upstream::with(|settings| settings.auth = Auth::Open).await;
    let image = upstream.image("acme/app:1");
    upstream.push("acme/app:2", &image);
    upstream.push("acme/app:3", &image);
    let client = upstream.client();
    let page = client.get("/v2/acme/app/tags/list?n=2").await;
    assert!(page.text().contains(r#"["1","2"]"#), "{}", page.text());
    assert!(page.header("link").expect("more").contains("last=2&n=2"));
    let rest = client.get("/v2/acme/app/tags/list?n=2&last=2").await;
    assert!(rest.text().contains(r#"["3"]"#));
    assert_eq!(rest.header("link"), None);

    upstream.refer("acme/app", &image.manifest, "application/vnd.example.sig");
    let path = format!("/v2/acme/app/referrers/{}", image.manifest.digest);
    let all = client.get(&path).await;
    assert!(all.text().contains("vnd.example.sig"));
    let none = client.get(&format!("{path}?artifactType=x/y")).await;
    assert!(!none.text().contains("vnd.example.sig"));
}

#[tokio::test]
async fn a_prefix_stands_before_every_repository() {
    let upstream = Upstream::with(|settings| {
        settings.auth = Auth::Open;
        settings.prefix = "/mirror/hub".to_owned();
    })
    .await;
    upstream.image("library/alpine:1");
    let client = upstream.client();
    let with = client
        .get("/v2/mirror/hub/library/alpine/manifests/1")
        .await;
    assert_eq!(with.status, 200);
    let without = client.get("/v2/library/alpine/manifests/1").await;
    assert_eq!(without.error_code(), "NAME_UNKNOWN");
}
