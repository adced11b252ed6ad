//! What goes along when a registry sends us elsewhere, and what does not.

use super::server::{Reply, Server};
use super::world::*;
use crate::upstream::{Away, ErrorKind};

const BLOB: &[u8] = b"the bytes of a blob";

#[tokio::test]
async fn nothing_of_ours_goes_to_another_host() {
    let cdn = Server::start(|_| Reply::ok(BLOB)).await;
    let there = format!("{}/signed?sig=abc", cdn.url_as("localhost"));
    let server = Server::start(move |seen| match seen.path.contains("/blobs/") {
        true if !seen.header("authorization").is_empty() => {
            Reply::new(307).header("location", &*there)
        }
        _ => bearer(300)(seen),
    })
    .await;
    let mut registry = registry("r.test", &[&server.url()]);
    registry.credentials.push(bot());
    let (upstream, _) = one(registry);
    let digest = sha256(BLOB);
    let mut download = remote(&upstream, "r.test/a")
        .blob(&digest, 0)
        .await
        .unwrap();
    assert_eq!(download.length(), Some(BLOB.len() as u64));
    assert_eq!(download.chunk().await.unwrap().unwrap(), BLOB);
    assert!(download.chunk().await.unwrap().is_none());
    let asked = cdn.take();
    assert_eq!(asked[0].line(), "GET /signed?sig=abc");
    assert!(asked[0].header("user-agent").starts_with("weir/"));
    assert_eq!(asked[0].header("accept-encoding"), "");
}

#[tokio::test]
async fn a_relative_location_keeps_the_authorization() {
    let server = Server::start(|seen| {
        if seen.path.starts_with("/v2/a/blobs/") {
            return match seen.header("authorization") {
                "" => bearer(300)(seen),
                _ => Reply::new(302).header("location", "/artifacts/x?y=z"),
            };
        }
        match (seen.path.as_str(), seen.header("authorization")) {
            ("/artifacts/x?y=z", auth) if !auth.is_empty() => Reply::ok(BLOB),
            _ => bearer(300)(seen),
        }
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let digest = sha256(BLOB);
    let mut download = remote(&upstream, "r.test/a")
        .blob(&digest, 0)
        .await
        .unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), BLOB);
}

#[tokio::test]
async fn a_manifest_may_be_elsewhere_and_be_challenged_there() {
    let regional = Server::start(bearer(300)).await;
    let there = regional.url_as("localhost");
    let edge = Server::start(move |seen| {
        Reply::new(307).header("location", format!("{there}{}", seen.path))
    })
    .await;
    let mut registry = registry("r.test", &[&edge.url()]);
    registry.credentials.push(bot());
    let (upstream, _) = one(registry);
    for _ in 0..2 {
        remote(&upstream, "r.test/pause")
            .manifest(&tag("3.9"))
            .await
            .unwrap();
    }
    assert_eq!(edge.lines(), ["GET /v2/pause/manifests/3.9"; 2]);
    // Anonymously: the credential is for the edge. And the challenge there is remembered.
    assert_eq!(
        regional.lines(),
        [
            "GET /v2/pause/manifests/3.9",
            "GET /token?service=test&scope=repository:pause:pull",
            "GET /v2/pause/manifests/3.9 Bearer",
            "GET /v2/pause/manifests/3.9 Bearer",
        ]
    );
}

#[tokio::test]
async fn circles_and_metadata_services_end_the_way() {
    let server = Server::start(|seen| Reply::new(302).header("location", &*seen.path)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert_eq!(server.take().len(), 6);

    let target = "http://169.254.169.254/latest/meta-data/";
    let server = Server::start(move |_| Reply::new(302).header("location", target)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Away(Away::Protocol { .. })));
}

#[tokio::test]
async fn a_refusal_behind_a_redirect_is_not_the_credentials() {
    let cdn = Server::start(|_| Reply::new(403).body("<Error>Request has expired</Error>")).await;
    let there = cdn.url_as("localhost");
    let server = Server::start(move |_| Reply::new(307).header("location", &*there)).await;
    let mut registry = registry("r.test", &[&server.url()]);
    registry.credentials.push(bot());
    let (upstream, _) = one(registry);
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(matches!(
        error.kind,
        ErrorKind::Away(Away::Status { status: 403, .. })
    ));
}
