//! The registries of the field, each as it behaves: what is asked, and in which order.

use super::server::{Reply, Seen, Server};
use super::world::*;
use crate::config::{self, CredentialSource};
use crate::upstream::{ErrorKind, Remote};

const BLOB: &str = "the bytes of a layer";

/// Where blobs are: signed URLs, and an error for whoever shows a credential.
async fn storage() -> Server {
    Server::start(|seen| match seen.header("authorization") {
        "" if seen.path.contains("sig=") => Reply::ok(BLOB),
        _ => Reply::new(400).body("<Code>InvalidArgument</Code>"),
    })
    .await
}

fn signed(storage: &Server) -> String {
    format!("{}/layer?sig=1", storage.url_as("localhost"))
}

async fn pull(remote: &Remote) {
    remote.head(&tag("1")).await.unwrap();
    remote.manifest(&tag("1")).await.unwrap();
    let mut download = remote.blob(&sha256(BLOB.as_bytes()), 0).await.unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), BLOB);
    assert!(download.chunk().await.unwrap().is_none());
}

fn entered(seen: &Seen) -> bool {
    seen.header("authorization") == format!("Bearer {TOKEN}")
}

fn is_blob(seen: &Seen) -> bool {
    seen.path.contains("/blobs/")
}

/// The lines of a log with digests cut short.
fn lines(server: &Server) -> Vec<String> {
    let digest = sha256(BLOB.as_bytes()).to_string();
    let short = |line: String| line.replace(&digest, "LAYER");
    server.lines().into_iter().map(short).collect()
}

fn with_login(name: &str, server: &Server, username: &str) -> config::Registry {
    let mut registry = registry(name, &[&server.url()]);
    registry.credentials.push(login(username, PASSWORD));
    registry
}

#[tokio::test]
async fn docker_hub() {
    let auth = Server::start(|_| token_reply(300)).await;
    let cdn = storage().await;
    let (realm, layer) = (format!("{}/token", auth.url()), signed(&cdn));
    let hub = Server::start(move |seen| match (entered(seen), is_blob(seen)) {
        (false, _) => challenge(&realm, &scope_of(seen)),
        (true, true) => Reply::new(307).header("location", &*layer),
        (true, false) => image_reply()
            .header("ratelimit-limit", "200;w=21600")
            .header("ratelimit-remaining", "199;w=21600")
            .header(
                "docker-ratelimit-source",
                "a5f1f0b8-0000-4000-8000-000000000000",
            ),
    })
    .await;
    let (upstream, _) = one(with_login("docker.io", &hub, "bot"));
    pull(&remote(&upstream, "docker.io/alpine")).await;
    assert_eq!(
        lines(&hub),
        [
            "HEAD /v2/library/alpine/manifests/1",
            "HEAD /v2/library/alpine/manifests/1 Bearer",
            "GET /v2/library/alpine/manifests/1 Bearer",
            "GET /v2/library/alpine/blobs/LAYER Bearer",
        ]
    );
    assert_eq!(
        lines(&auth),
        ["GET /token?service=test&scope=repository:library/alpine:pull Basic"]
    );
    assert_eq!(lines(&cdn), ["GET /layer?sig=1"]);
    let quota = upstream.quota().remove(0);
    assert_eq!((&*quota.account, quota.state.remaining), ("bot", 199));
}

#[tokio::test]
async fn ghcr_refuses_the_token_of_a_private_image() {
    let cdn = storage().await;
    let layer = signed(&cdn);
    let ghcr = Server::start(move |seen| {
        if seen.path.starts_with("/token") {
            return match seen.path.contains("private") {
                true => Reply::new(403)
                    .body(r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#),
                // Neither a lifetime nor the usual name.
                false => Reply::ok(format!(r#"{{"token":"{TOKEN}"}}"#)),
            };
        }
        match (entered(seen), is_blob(seen)) {
            (false, _) => challenge(&format!("{}/token", own_url(seen)), &scope_of(seen)),
            (true, true) => Reply::new(307).header("location", &*layer),
            (true, false) => image_reply(),
        }
    })
    .await;
    let (upstream, _) = one(registry("ghcr.io", &[&ghcr.url()]));
    pull(&remote(&upstream, "ghcr.io/org/public")).await;
    let private = remote(&upstream, "ghcr.io/org/private");
    let error = private.manifest(&tag("1")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { status: 403, .. }));
    let text = error.to_string();
    assert!(text.contains("DENIED: requested access"), "{text}");
    assert!(text.contains("configure a credential"), "{text}");
}

#[tokio::test]
async fn quay_with_a_robot() {
    let cdn = storage().await;
    let layer = signed(&cdn);
    let quay = Server::start(move |seen| {
        if seen.path.starts_with("/v2/auth") {
            return token_reply(3600);
        }
        match (entered(seen), is_blob(seen)) {
            (false, _) => challenge(&format!("{}/v2/auth", own_url(seen)), &scope_of(seen)),
            (true, true) => Reply::new(302).header("location", &*layer),
            (true, false) => image_reply(),
        }
    })
    .await;
    let (upstream, _) = one(with_login("quay.io", &quay, "org+robot"));
    pull(&remote(&upstream, "quay.io/org/app")).await;
    assert_eq!(
        lines(&quay)[1],
        "GET /v2/auth?service=test&scope=repository:org/app:pull Basic"
    );
}

#[tokio::test]
async fn ecr_private_takes_basic_only() {
    let s3 = storage().await;
    let layer = signed(&s3);
    let ecr = Server::start(move |seen| match seen.header("authorization").split(' ').next() {
        Some("Basic") if is_blob(seen) => Reply::new(307).header("location", &*layer),
        Some("Basic") => image_reply(),
        _ => Reply::new(401).header(
            "www-authenticate",
            r#"Basic realm="https://1.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com""#,
        ),
    })
    .await;
    let name = "1.dkr.ecr.eu-central-1.amazonaws.com";
    let (upstream, _) = one(with_login(name, &ecr, "AWS"));
    pull(&remote(&upstream, &format!("{name}/team/app"))).await;
    assert_eq!(
        lines(&ecr),
        [
            "HEAD /v2/team/app/manifests/1",
            "HEAD /v2/team/app/manifests/1 Basic",
            "GET /v2/team/app/manifests/1 Basic",
            "GET /v2/team/app/blobs/LAYER Basic",
        ]
    );
    assert_eq!(lines(&s3), ["GET /layer?sig=1"]);
}

#[tokio::test]
async fn ecr_public_names_a_scope_of_its_own() {
    let ecr = Server::start(|seen| {
        if seen.path.starts_with("/token/") {
            return token_reply(3600);
        }
        match (entered(seen), is_blob(seen)) {
            (false, _) => challenge(&format!("{}/token/", own_url(seen)), "aws"),
            (true, true) => Reply::ok(BLOB),
            (true, false) => image_reply(),
        }
    })
    .await;
    let (upstream, _) = one(registry("public.ecr.aws", &[&ecr.url()]));
    pull(&remote(&upstream, "public.ecr.aws/nginx/nginx")).await;
    assert_eq!(lines(&ecr)[1], "GET /token/?service=test&scope=aws");
}

#[tokio::test]
async fn artifact_registry_redirects_within_itself_and_sends_large_headers() {
    let gar = Server::start(|seen| {
        if seen.path.starts_with("/v2/token") {
            return token_reply(3600);
        }
        if seen.path.starts_with("/artifacts-downloads/") {
            return Reply::ok(BLOB);
        }
        let reply = match (entered(seen), is_blob(seen)) {
            (false, _) => challenge(&format!("{}/v2/token", own_url(seen)), &scope_of(seen)),
            (true, true) => Reply::new(302).header("location", "/artifacts-downloads/x?sig=1"),
            (true, false) => image_reply(),
        };
        (0..120).fold(reply, |reply, n| {
            reply.header(&format!("x-goog-{n}"), "x".repeat(500))
        })
    })
    .await;
    let name = "europe-docker.pkg.dev";
    let (upstream, _) = one(with_login(name, &gar, "_json_key"));
    pull(&remote(&upstream, &format!("{name}/project/repo/app"))).await;
    let asked = lines(&gar);
    assert!(
        asked[1].ends_with("scope=repository:project/repo/app:pull Basic"),
        "{asked:?}"
    );
    assert_eq!(asked[5], "GET /artifacts-downloads/x?sig=1 Bearer");
}

#[tokio::test]
async fn acr_exchanges_an_identity_token() {
    let storage = storage().await;
    let layer = signed(&storage);
    let acr = Server::start(move |seen| {
        if seen.path.starts_with("/oauth2/token") {
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            assert!(form.contains("grant_type=refresh_token"), "{form}");
            return Reply::ok(format!(r#"{{"access_token":"{TOKEN}"}}"#));
        }
        match (entered(seen), is_blob(seen)) {
            (false, _) => challenge(&format!("{}/oauth2/token", own_url(seen)), &scope_of(seen)),
            (true, true) => Reply::new(307).header("location", &*layer),
            (true, false) => image_reply(),
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PASSWORD).unwrap();
    let mut registry = registry("acme.azurecr.io", &[&acr.url()]);
    registry
        .credentials
        .push(entry(CredentialSource::IdentityTokenFile {
            username: Some("00000000-0000-0000-0000-000000000000".to_owned()),
            file: file.path().to_owned(),
        }));
    let (upstream, _) = one(registry);
    pull(&remote(&upstream, "acme.azurecr.io/app")).await;
    assert_eq!(lines(&acr)[1], "POST /oauth2/token");
}

#[tokio::test]
async fn the_kubernetes_registry_sends_everything_elsewhere() {
    let regional = Server::start(|seen| match (entered(seen), is_blob(seen)) {
        _ if seen.path.starts_with("/v2/token") => token_reply(3600),
        (false, _) => challenge(&format!("{}/v2/token", own_url(seen)), &scope_of(seen)),
        (true, true) => Reply::ok(BLOB),
        (true, false) => image_reply(),
    })
    .await;
    let there = regional.url_as("localhost");
    let edge = Server::start(move |seen| {
        let path = seen.path.replace("/v2/", "/v2/k8s-artifacts-prod/images/");
        Reply::new(307).header("location", format!("{there}{path}"))
    })
    .await;
    let (upstream, _) = one(registry("registry.k8s.io", &[&edge.url()]));
    pull(&remote(&upstream, "registry.k8s.io/pause")).await;
    let asked = lines(&regional);
    assert_eq!(
        asked[0],
        "HEAD /v2/k8s-artifacts-prod/images/pause/manifests/1"
    );
    // The scope is the one that the regional registry names.
    assert_eq!(
        asked[1],
        "GET /v2/token?service=test&scope=repository:k8s-artifacts-prod/images/pause:pull"
    );
    assert_eq!(asked.len(), 5);
}

#[tokio::test]
async fn gitlab_tells_projects_apart() {
    let gitlab = Server::start(|seen| {
        if seen.path.starts_with("/jwt/auth") {
            let project = match seen.header("authorization") {
                "Basic b25lOm9uZS1wYXNzd29yZA==" => "group/one",
                "Basic dHdvOnR3by1wYXNzd29yZA==" => "group/two",
                _ => return Reply::new(403),
            };
            return match seen.path.contains(project) {
                true => Reply::ok(format!(r#"{{"token":"{project}"}}"#)),
                false => Reply::new(403),
            };
        }
        let project = scope_of(seen);
        let project = project
            .trim_start_matches("repository:")
            .trim_end_matches("/app:pull");
        match seen.header("authorization") == format!("Bearer {project}") {
            true => image_reply(),
            false => challenge(&format!("{}/jwt/auth", own_url(seen)), &scope_of(seen)),
        }
    })
    .await;
    let mut registry = registry("registry.gitlab.com", &[&gitlab.url()]);
    for project in ["one", "two"] {
        registry.credentials.push(config::Credential {
            prefix: format!("group/{project}"),
            ..login(project, &format!("{project}-password"))
        });
    }
    let (upstream, _) = one(registry);
    for project in ["one", "two", "one"] {
        let image = format!("registry.gitlab.com/group/{project}/app");
        remote(&upstream, &image).manifest(&tag("1")).await.unwrap();
    }
    let tokens = lines(&gitlab)
        .into_iter()
        .filter(|line| line.contains("/jwt/auth"));
    assert_eq!(tokens.count(), 2);
}
