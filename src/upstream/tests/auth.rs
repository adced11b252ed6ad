//! Challenges, tokens, Basic: what goes out, how often, and what a refusal says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::server::{Reply, Server};
use super::world::*;
use crate::config::CredentialSource;
use crate::upstream::{Away, ErrorKind};

#[tokio::test]
async fn a_challenge_is_paid_once_for_a_registry_and_a_token_once_for_a_repository() {
    let server = Server::start(bearer(300)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let alpine = remote(&upstream, "r.test/alpine");
    alpine.manifest(&tag("1")).await.unwrap();
    alpine.manifest(&tag("2")).await.unwrap();
    alpine.head(&tag("1")).await.unwrap();
    remote(&upstream, "r.test/busybox")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(
        server.lines(),
        [
            "GET /v2/alpine/manifests/1",
            "GET /token?service=test&scope=repository:alpine:pull",
            "GET /v2/alpine/manifests/1 Bearer",
            "GET /v2/alpine/manifests/2 Bearer",
            "HEAD /v2/alpine/manifests/1 Bearer",
            "GET /token?service=test&scope=repository:busybox:pull",
            "GET /v2/busybox/manifests/1 Bearer",
        ]
    );
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_only() {
    let server = Server::start(bearer(300)).await;
    let mut hub = registry("r.test", &[&server.url()]);
    hub.credentials.push(bot());
    let (upstream, _) = one(hub);
    let fetched = remote(&upstream, "r.test/alpine")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(&*fetched.source.credential, "config:bot");
    assert_eq!(
        server.lines(),
        [
            "GET /v2/alpine/manifests/1",
            "GET /token?service=test&scope=repository:alpine:pull Basic",
            "GET /v2/alpine/manifests/1 Bearer",
        ]
    );
}

#[tokio::test]
async fn a_registry_that_wants_basic_gets_it_from_the_second_request_on() {
    let server = Server::start(|seen| match seen.header("authorization") {
        "" => Reply::new(401).header("www-authenticate", r#"Basic realm="ecr""#),
        "Basic Ym90OnMzY3JldC1wNHNzd29yZC1vZi1ib3Q=" => image_reply(),
        _ => Reply::new(403),
    })
    .await;
    let mut ecr = registry("r.test", &[&server.url()]);
    ecr.credentials.push(bot());
    let (upstream, _) = one(ecr);
    for _ in 0..2 {
        remote(&upstream, "r.test/a/b")
            .manifest(&tag("1"))
            .await
            .unwrap();
    }
    assert_eq!(
        server.lines(),
        [
            "GET /v2/a/b/manifests/1",
            "GET /v2/a/b/manifests/1 Basic",
            "GET /v2/a/b/manifests/1 Basic",
        ]
    );
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/token" => {
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            assert_eq!(
                form,
                "grant_type=refresh_token&client_id=weir&service=test\
                 &scope=repository:a:pull&refresh_token=the-identity-token"
            );
            Reply::ok(format!(r#"{{"access_token":"{TOKEN}"}}"#))
        }
        _ => bearer(300)(seen),
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the-identity-token\n").unwrap();
    let mut acr = registry("r.test", &[&server.url()]);
    acr.credentials
        .push(entry(CredentialSource::IdentityTokenFile {
            username: None,
            file: file.path().to_owned(),
        }));
    let (upstream, _) = one(acr);
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert!(server.lines().contains(&"POST /token".to_owned()));
}

#[tokio::test]
async fn a_service_without_get_is_asked_by_post_with_the_password() {
    let server = Server::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", path) if path.starts_with("/token") => Reply::new(405),
        ("POST", "/token") => {
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            assert!(
                form.starts_with("grant_type=password&username=bot&"),
                "{form}"
            );
            assert!(form.ends_with(&format!("&password={PASSWORD}")), "{form}");
            token_reply(300)
        }
        _ => bearer(300)(seen),
    })
    .await;
    let mut registry = registry("r.test", &[&server.url()]);
    registry.credentials.push(bot());
    let (upstream, _) = one(registry);
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn many_clients_and_images_cost_one_token_for_each_repository() {
    let server = Server::start(bearer(300)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let upstream = Arc::new(upstream);
    let pulls = (0..100).map(|pull| {
        let upstream = Arc::clone(&upstream);
        async move {
            let image = format!("r.test/image{}", pull % 20);
            remote(&upstream, &image).manifest(&tag("1")).await
        }
    });
    for pulled in futures_util::future::join_all(pulls).await {
        pulled.unwrap();
    }
    let tokens = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("GET /token"));
    assert_eq!(tokens.count(), 20);
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background_before_it_expires() {
    let server = Server::start(bearer(100)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let alpine = remote(&upstream, "r.test/alpine");
    alpine.manifest(&tag("1")).await.unwrap();
    server.take();
    pass(Duration::from_secs(82)).await;
    alpine.manifest(&tag("1")).await.unwrap();
    upstream.tasks.close();
    upstream.tasks.wait().await;
    let mut lines = server.lines();
    lines.sort();
    assert_eq!(
        lines,
        [
            "GET /token?service=test&scope=repository:alpine:pull",
            "GET /v2/alpine/manifests/1 Bearer",
        ]
    );
    // The new one holds on where the old one would have ended.
    pass(Duration::from_secs(40)).await;
    alpine.manifest(&tag("1")).await.unwrap();
    assert_eq!(server.lines(), ["GET /v2/alpine/manifests/1 Bearer"]);
}

#[tokio::test]
async fn tokens_of_two_seconds_fail_nobody() {
    let server = Server::start(bearer(2)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let alpine = remote(&upstream, "r.test/alpine");
    for _ in 0..50 {
        alpine.manifest(&tag("1")).await.unwrap();
        pass(Duration::from_millis(400)).await;
    }
}

#[tokio::test]
async fn a_token_that_the_registry_no_longer_takes_is_replaced_once() {
    let granted = Arc::new(AtomicU32::new(0));
    let tokens = Arc::clone(&granted);
    let server = Server::start(move |seen| {
        if seen.path.starts_with("/token") {
            let number = tokens.fetch_add(1, Ordering::SeqCst);
            return Reply::ok(format!(r#"{{"token":"token-{number}","expires_in":300}}"#));
        }
        let newest = tokens.load(Ordering::SeqCst).saturating_sub(1);
        match seen.header("authorization") {
            auth if auth == format!("Bearer token-{newest}") => image_reply(),
            _ => challenge(&format!("{}/token", own_url(seen)), &scope_of(seen)),
        }
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let alpine = remote(&upstream, "r.test/alpine");
    alpine.manifest(&tag("1")).await.unwrap();
    granted.fetch_add(1, Ordering::SeqCst);
    server.take();
    alpine.manifest(&tag("1")).await.unwrap();
    assert_eq!(
        server.lines(),
        [
            "GET /v2/alpine/manifests/1 Bearer",
            "GET /token?service=test&scope=repository:alpine:pull",
            "GET /v2/alpine/manifests/1 Bearer",
        ]
    );
}

#[tokio::test]
async fn a_token_that_does_not_suffice_is_a_refusal_after_one_try() {
    let server = Server::start(|seen| match seen.path.starts_with("/token") {
        true => token_reply(300),
        false => challenge(&format!("{}/token", own_url(seen)), &scope_of(seen))
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#),
    })
    .await;
    let (upstream, metrics) = one(registry("r.test", &[&server.url()]));
    let error = remote(&upstream, "r.test/private")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error.kind, ErrorKind::Refused { status: 401, credential, .. } if &**credential == "anonymous")
    );
    let text = error.to_string();
    assert!(
        text.contains("UNAUTHORIZED: authentication required"),
        "{text}"
    );
    assert!(text.contains("configure a credential"), "{text}");
    assert_eq!(server.take().len(), 3);
    let failures = r#"container_registry_auth_failures_total{registry="r.test",side="upstream"} 1"#;
    assert!(scrape(&metrics).contains(failures));
}

#[tokio::test]
async fn a_refused_token_names_the_token_service_and_the_credential() {
    let server = Server::start(|seen| match seen.path.starts_with("/token") {
        true => Reply::new(403).body(r#"{"details":"incorrect username or password"}"#),
        false => challenge(&format!("{}/token", own_url(seen)), &scope_of(seen)),
    })
    .await;
    let mut registry = registry("r.test", &[&server.url()]);
    registry.credentials.push(bot());
    let (upstream, _) = one(registry);
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("refused the credential config:bot (status 403"),
        "{text}"
    );
    assert!(text.contains("incorrect username or password"), "{text}");
    assert!(text.contains(&server.url()), "{text}");
}

#[tokio::test]
async fn the_scope_that_the_registry_names_is_the_one_asked_for() {
    let server = Server::start(|seen| match seen.header("authorization") {
        "" if !seen.path.starts_with("/token") => {
            challenge(&format!("{}/token", own_url(seen)), "aws")
        }
        _ => bearer(300)(seen),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    for _ in 0..2 {
        remote(&upstream, "r.test/a")
            .manifest(&tag("1"))
            .await
            .unwrap();
    }
    let lines = server.lines();
    assert_eq!(lines[1], "GET /token?service=test&scope=aws");
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn a_token_service_elsewhere_gets_no_credential_unless_it_is_listed() {
    let foreign = Server::start_at("127.0.0.2:0", None, |_| token_reply(300)).await;
    let realm = foreign.url();
    let named = format!("{realm}/token");
    let server = Server::start(move |seen| match seen.header("authorization") {
        "" => challenge(&named, &scope_of(seen)),
        _ => image_reply(),
    })
    .await;
    let mut config = registry("r.test", &[&server.url()]);
    config.credentials.push(bot());
    let (upstream, _) = one(config.clone());
    let error = remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap_err();
    assert!(matches!(
        &error.kind,
        ErrorKind::Away(Away::TokenService { .. })
    ));
    let text = error.to_string();
    assert!(
        text.contains(&realm) && text.contains("token_services"),
        "{text}"
    );
    assert!(foreign.take().is_empty());

    config.token_services.push(uri(&realm));
    let (upstream, _) = one(config.clone());
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(
        foreign.lines(),
        ["GET /token?service=test&scope=repository:a:pull Basic"]
    );

    config.credentials.clear();
    config.token_services.clear();
    let (upstream, _) = one(config);
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(
        foreign.lines(),
        ["GET /token?service=test&scope=repository:a:pull"]
    );
}

#[tokio::test]
async fn a_reload_keeps_the_tokens_of_what_did_not_change() {
    let server = Server::start(bearer(300)).await;
    let mut config = config(vec![registry("r.test", &[&server.url()])]);
    Arc::make_mut(&mut config.registries[0])
        .credentials
        .push(bot());
    let (upstream, _) = upstream(&config);
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    server.take();
    upstream.reload(&config).unwrap();
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(server.lines(), ["GET /v2/a/manifests/1 Bearer"]);
    Arc::make_mut(&mut config.registries[0]).credentials[0] = login("bot", "another");
    upstream.reload(&config).unwrap();
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(
        server.take().len(),
        2,
        "a changed password wants a token of its own"
    );
    config.registries.clear();
    upstream.reload(&config).unwrap();
    assert!(upstream.endpoints().is_empty());
}

#[tokio::test]
async fn clients_are_told_apart() {
    use crate::oci::Target;
    use crate::upstream::{ClientLogin, Identity};
    let server = Server::start(bearer(300)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let target = Target::new("r.test".parse().unwrap(), "a".parse().unwrap());
    for (username, tokens) in [("alice", 1), ("alice", 0), ("bob", 1)] {
        let identity = Identity::Client(ClientLogin {
            username: username.to_owned(),
            secret: PASSWORD.into(),
        });
        let remote = upstream.remote(&target, identity).unwrap();
        let fetched = remote.manifest(&tag("1")).await.unwrap();
        assert_eq!(*fetched.source.credential, *format!("client:{username}"));
        let asked = server
            .lines()
            .into_iter()
            .filter(|line| line.starts_with("GET /token"));
        assert_eq!(asked.count(), tokens, "{username}");
    }
}

#[tokio::test]
async fn a_registry_that_hides_what_is_private_is_asked_how_to_get_in() {
    let server = Server::start(|seen| match seen.path.as_str() {
        path if path.starts_with("/token") => token_reply(300),
        "/v2/" => challenge(&format!("{}/token", own_url(seen)), "registry:catalog:*"),
        _ if seen.header("authorization").is_empty() => Reply::new(404),
        _ => image_reply(),
    })
    .await;
    let mut own = registry("r.test", &[&server.url()]);
    own.credentials.push(bot());
    let (upstream, _) = one(own);
    remote(&upstream, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    remote(&upstream, "r.test/a")
        .manifest(&tag("2"))
        .await
        .unwrap();
    assert_eq!(
        server.lines(),
        [
            "GET /v2/a/manifests/1",
            "GET /v2/",
            "GET /token?service=test&scope=repository:a:pull Basic",
            "GET /v2/a/manifests/1 Bearer",
            "GET /v2/a/manifests/2 Bearer",
        ]
    );
    let open = Server::start(|seen| match seen.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::new(404),
    })
    .await;
    let mut own = registry("r.test", &[&open.url()]);
    own.credentials.push(bot());
    let (upstream, _) = one(own);
    for _ in 0..2 {
        let error = remote(&upstream, "r.test/a")
            .manifest(&tag("1"))
            .await
            .unwrap_err();
        assert!(matches!(error.kind, ErrorKind::NotFound));
    }
    assert_eq!(open.take().len(), 3);
}
