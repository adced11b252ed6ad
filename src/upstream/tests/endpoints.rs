//! Which endpoint is asked, when the next one is, and how an endpoint comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::server::{Reply, Seen, Server};
use super::world::*;
use crate::oci::Reference;
use crate::upstream::{Away, ErrorKind, Health, Wrong};

/// A port where nobody listens.
async fn nobody() -> String {
    let server = Server::start(|_| Reply::new(500)).await;
    let url = server.url();
    drop(server);
    tokio::task::yield_now().await;
    url
}

#[tokio::test]
async fn trouble_at_the_first_moves_on_to_the_second() {
    let image = image();
    let wrong = || image_reply().body(r#"{"manifests":[],"x":1}"#);
    let troubles = [
        Reply::new(500),
        Reply::new(503),
        Reply::new(429),
        Reply::new(418),
        Reply::ok("<html>").header("content-type", "text/html"),
        wrong(),
        image_reply().cut_after(5),
        image_reply().header("content-encoding", "gzip"),
    ];
    for trouble in troubles {
        let reply = trouble.clone();
        let first = Server::start(move |_| reply.clone()).await;
        let second = Server::start(|_| image_reply()).await;
        let (upstream, _) = one(registry("r.test", &[&first.url(), &second.url()]));
        let fetched = remote(&upstream, "r.test/a").manifest(&tag("1")).await;
        let fetched = fetched.unwrap_or_else(|error| panic!("{trouble:?}: {error}"));
        assert_eq!(*fetched.source.endpoint, *second.url());
        assert_eq!(fetched.manifest.bytes, image);
        assert_eq!(first.take().len(), 1, "{trouble:?}");
    }
    let second = Server::start(|_| image_reply()).await;
    let (upstream, _) = one(registry("r.test", &[&nobody().await, &second.url()]));
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_one_denies_the_next_may_have() {
    for status in [404, 401, 403] {
        let mirror = Server::start(move |_| Reply::new(status)).await;
        let second = Server::start(|_| image_reply()).await;
        let (upstream, _) = one(registry("r.test", &[&mirror.url(), &second.url()]));
        remote(&upstream, "r.test/a")
            .manifest(&tag("1"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_last_word_on_a_denial_is_the_last_endpoints() {
    let kind = async |first: u16, second: u16| {
        let one_says = Server::start(move |_| Reply::new(first)).await;
        let other_says = Server::start(move |_| Reply::new(second)).await;
        let (upstream, _) = one(registry("r.test", &[&one_says.url(), &other_says.url()]));
        remote(&upstream, "r.test/a")
            .manifest(&tag("1"))
            .await
            .unwrap_err()
            .kind
    };
    assert!(matches!(kind(401, 404).await, ErrorKind::NotFound));
    assert!(matches!(kind(404, 401).await, ErrorKind::Refused { .. }));
    // Who could not be asked might have it.
    assert!(matches!(kind(404, 503).await, ErrorKind::Away(_)));
    assert!(matches!(kind(503, 404).await, ErrorKind::Away(_)));
    assert!(matches!(
        kind(429, 404).await,
        ErrorKind::RateLimited { .. }
    ));
}

#[tokio::test]
async fn a_refused_credential_is_not_carried_around() {
    let basic = |_: &Seen| Reply::new(401).header("www-authenticate", "Basic");
    let first = Server::start(basic).await;
    let second = Server::start(basic).await;
    let mut both = registry("r.test", &[&first.url(), &second.url()]);
    both.credentials.push(bot());
    let (upstream, _) = one(both);
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { .. }));
    assert_eq!(first.take().len(), 2);
    assert!(second.take().is_empty());
}

#[tokio::test]
async fn what_the_digest_does_not_fit_is_never_given_out() {
    let server = Server::start(|_| image_reply()).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let other = Reference::Digest(sha256(b"another"));
    let error = remote(&upstream, "r.test/a")
        .manifest(&other)
        .await
        .unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Wrong(Wrong::Digest { .. })));
    let endless = Server::start(|_| {
        let body = vec![b' '; (4 << 20) + 1];
        Reply::ok(body).header("transfer-encoding", "chunked")
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&endless.url()]));
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(matches!(
        error.kind,
        ErrorKind::Wrong(Wrong::TooLong { .. })
    ));
}

#[tokio::test]
async fn a_path_and_a_credential_belong_to_their_endpoint() {
    let server = Server::start(bearer(300)).await;
    let second = Server::start(bearer(300)).await;
    let mut hub = registry(
        "docker.io",
        &[&format!("{}/hub", server.url()), &second.url()],
    );
    let mut own = login("mirror", "mirror-password");
    own.endpoint = Some(uri(&server.url()));
    hub.credentials = vec![bot(), own];
    let (upstream, _) = one(hub);
    let fetched = remote(&upstream, "docker.io/alpine")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(&*fetched.source.credential, "config:mirror");
    assert_eq!(
        server.lines(),
        [
            "GET /v2/hub/library/alpine/manifests/1",
            "GET /token?service=test&scope=repository:hub/library/alpine:pull Basic",
            "GET /v2/hub/library/alpine/manifests/1 Bearer",
        ]
    );
}

#[tokio::test]
async fn a_passing_trouble_is_asked_again() {
    let failed = AtomicBool::new(false);
    let server = Server::start(move |_| match failed.swap(true, Ordering::SeqCst) {
        false => Reply::new(503),
        true => image_reply(),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(server.take().len(), 2);
}

#[tokio::test]
async fn after_failures_nobody_is_asked_until_a_probe_finds_it_well() {
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let server = Server::start(move |_| match is_away.load(Ordering::SeqCst) {
        true => Reply::new(502).body("Bad Gateway"),
        false => image_reply(),
    })
    .await;
    let (upstream, metrics) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    for _ in 0..3 {
        remote.manifest(&tag("1")).await.unwrap_err();
    }
    server.take();
    let error = remote.manifest(&tag("1")).await.unwrap_err();
    assert!(matches!(
        &error.kind,
        ErrorKind::Away(Away::BreakerOpen { .. })
    ));
    assert!(error.to_string().contains("502"), "{error}");
    assert!(server.take().is_empty());
    assert_eq!(upstream.endpoints()[0].health, Health::Shut);
    let gauge = format!(r#"endpoint="{}",registry="r.test"}} 2"#, server.url());
    assert!(scrape(&metrics).contains(&gauge));

    for _ in 0..10 {
        pass(Duration::from_secs(60)).await;
        remote.manifest(&tag("1")).await.unwrap_err();
        assert_eq!(server.take().len(), 1, "one probe a turn");
    }
    away.store(false, Ordering::SeqCst);
    pass(Duration::from_secs(60)).await;
    remote.manifest(&tag("1")).await.unwrap();
    assert_eq!(server.take().len(), 1, "recovery takes one probe");
    assert_eq!(upstream.endpoints()[0].health, Health::Well);
}

#[tokio::test]
async fn an_endpoint_that_sent_wrong_content_is_asked_last_for_it() {
    let first = Server::start(|_| Reply::ok("wrong")).await;
    let second = Server::start(|_| Reply::ok("right")).await;
    let (upstream, _) = one(registry("r.test", &[&first.url(), &second.url()]));
    let remote = remote(&upstream, "r.test/a");
    let digest = sha256(b"right");
    let download = remote.blob(&digest, 0).await.unwrap();
    remote.mark_wrong(&digest, download.source());
    let mut download = remote.blob(&digest, 0).await.unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), "right");
    let other = remote.blob(&sha256(b"other"), 0).await.unwrap();
    assert_eq!(*other.source().endpoint, *first.url());
}

#[tokio::test]
async fn a_blob_is_confirmed_although_head_denies_it() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(404),
        _ if seen.header("range") == "bytes=0-0" => Reply::new(206)
            .header("content-range", "bytes 0-0/5")
            .body("r"),
        _ => Reply::new(500),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    assert!(remote.blob_exists(&sha256(b"right")).await.unwrap());
    let server = Server::start(|_| Reply::new(404)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = super::world::remote(&upstream, "r.test/a");
    assert!(!remote.blob_exists(&sha256(b"right")).await.unwrap());
}

#[tokio::test]
async fn heads_tell_what_they_can() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/v2/a/manifests/full" => image_reply(),
        "/v2/a/manifests/bare" => Reply::new(200).header("content-length", "7"),
        "/v2/a/manifests/none" => Reply::new(405),
        _ => Reply::new(404),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    let full = remote.head(&tag("full")).await.unwrap();
    assert_eq!(full.digest, Some(sha256(&image())));
    assert_eq!(full.length, Some(image().len() as u64));
    assert_eq!(full.media_type.unwrap().as_str(), MANIFEST_TYPE);
    let bare = remote.head(&tag("bare")).await.unwrap();
    assert_eq!((bare.digest, bare.length), (None, Some(7)));
    assert_eq!(remote.head(&tag("none")).await.unwrap().length, None);
    let missing = remote.head(&tag("missing")).await.unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotFound));
}

#[tokio::test]
async fn lists_come_as_they_are_and_referrers_fall_back_to_their_tag() {
    let digest = sha256(b"subject");
    let fallback = format!("/v2/a/manifests/sha256-{}", digest.hex());
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=2&last=b" => Reply::ok(r#"{"tags":["c","d"],"child":[],"manifest":{}}"#)
            .header("link", r#"</v2/a/tags/list?n=2&last=d>; rel="next""#),
        path if path == fallback => Reply::ok(r#"{"schemaVersion":2,"manifests":[]}"#)
            .header("content-type", "application/vnd.oci.image.index.v1+json"),
        _ => Reply::new(404),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    let query = crate::upstream::TagsQuery {
        n: Some(2),
        last: Some("b".to_owned()),
        next_page: None,
    };
    let listing = remote.tags(&query).await.unwrap();
    assert_eq!(
        listing.body,
        r#"{"tags":["c","d"],"child":[],"manifest":{}}"#
    );
    assert_eq!(listing.link_next.unwrap().last.as_deref(), Some("d"));
    let listing = remote.referrers(&digest, Some("x/y")).await.unwrap();
    assert_eq!(listing.body, r#"{"schemaVersion":2,"manifests":[]}"#);
    assert!(!listing.filtered);
    let missing = remote.referrers(&sha256(b"other"), None).await.unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotFound));
}

#[tokio::test]
async fn one_that_is_silent_leaves_the_next_its_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let second = Server::start(|_| image_reply()).await;
    let (upstream, _) = one(registry("r.test", &[&silent, &second.url()]));
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
}
