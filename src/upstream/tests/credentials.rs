//! Where credentials come from, which one is taken, and what is told about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::server::{Reply, Seen, Server};
use super::world::*;
use crate::config::{self, CredentialSource};
use crate::oci::Target;
use crate::upstream::{Away, CredentialOutcome, ErrorKind, Upstream};

fn explained(upstream: &Upstream, image: &str) -> String {
    let (registry, repository) = image.split_once('/').unwrap();
    let target = Target::new(registry.parse().unwrap(), repository.parse().unwrap());
    let traces = upstream.explain(&target);
    traces
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn prefixed(prefix: &str, username: &str) -> config::Credential {
    config::Credential {
        prefix: prefix.to_owned(),
        ..login(username, PASSWORD)
    }
}

#[tokio::test]
async fn the_longest_prefix_wins_and_the_trace_says_why() {
    let mut gitlab = registry("gitlab.test", &["https://gitlab.test"]);
    gitlab.credentials = vec![
        prefixed("", "all"),
        prefixed("group/", "group"),
        prefixed("group/project", "project"),
    ];
    let (upstream, _) = one(gitlab);
    let told = explained(&upstream, "gitlab.test/group/other");
    assert!(
        told.contains("config:group for \"group/\": used, user group"),
        "{told}"
    );
    assert!(
        told.contains("config:project for \"group/project\": not for group/other"),
        "{told}"
    );
    assert!(
        told.contains("config:all: another entry fits better"),
        "{told}"
    );
    assert!(!told.contains(PASSWORD));
    let length = format!("secret of {} characters", PASSWORD.len());
    assert!(told.contains(&length), "{told}");
    assert!(explained(&upstream, "gitlab.test/groups/x").contains("config:all: used"));
    let project = explained(&upstream, "gitlab.test/group/project/app");
    assert!(project.contains("\"group/project\": used"), "{project}");
}

/// Wants Basic with the password that `right` names.
fn basic(seen: &Seen, password: &str) -> Reply {
    use base64::Engine as _;
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("bot:{password}"));
    match seen.header("authorization") {
        auth if auth == format!("Basic {pair}") => image_reply(),
        _ => Reply::new(401).header("www-authenticate", "Basic realm=x"),
    }
}

#[tokio::test]
async fn a_password_file_that_changed_is_used_at_once_after_a_refusal() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let server = Server::start(move |seen| match is_changed.load(Ordering::SeqCst) {
        false => basic(seen, "first-password"),
        true => basic(seen, "second-password"),
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first-password\n").unwrap();
    let mut own = registry("r.test", &[&server.url()]);
    own.credentials.push(entry(CredentialSource::PasswordFile {
        username: "bot".to_owned(),
        file: file.path().to_owned(),
    }));
    let (upstream, _) = one(own);
    let remote = remote(&upstream, "r.test/a");
    remote.head(&tag("1")).await.unwrap();
    changed.store(true, Ordering::SeqCst);
    let error = remote.head(&tag("1")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused { .. }));
    std::fs::write(file.path(), "second-password\n").unwrap();
    remote.head(&tag("1")).await.unwrap();
    std::fs::remove_file(file.path()).unwrap();
    pass(Duration::from_secs(2)).await;
    let error = remote.head(&tag("1")).await.unwrap_err();
    assert!(matches!(
        &error.kind,
        ErrorKind::Away(Away::Credential { .. })
    ));
    let text = error.to_string();
    assert!(text.contains("config:bot (password_file"), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn dockers_config_is_read_under_every_spelling_of_the_hub() {
    let server = Server::start(bearer(300)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let auths = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"Ym90OnMzY3JldA=="}}}"#;
    std::fs::write(&file, auths).unwrap();
    let mut config = config(vec![registry("docker.io", &[&server.url()])]);
    config.credentials.docker_config = Some(file.clone());
    let (upstream, _) = upstream(&config);
    let fetched = remote(&upstream, "docker.io/alpine")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(&*fetched.source.credential, "docker-config:bot");
    assert!(
        server
            .lines()
            .iter()
            .any(|line| line.ends_with("alpine:pull Basic"))
    );
    let told = explained(&upstream, "docker.io/alpine");
    let expected = r#"docker-config "https://index.docker.io/v1/": used, user bot, secret of 6"#;
    assert!(told.contains(expected), "{told}");

    std::fs::write(&file, "{ broken").unwrap();
    pass(Duration::from_secs(2)).await;
    let told = explained(&upstream, "docker.io/alpine");
    assert!(told.contains("it is not docker's config.json"), "{told}");
    assert!(told.contains("anonymous"), "{told}");
    remote(&upstream, "docker.io/alpine")
        .head(&tag("1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mirror_does_not_get_the_registrys_login() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(
        &file,
        r#"{"auths":{"docker.io":{"auth":"Ym90OnMzY3JldA=="}}}"#,
    )
    .unwrap();
    let endpoints = ["https://mirror.example", "https://registry-1.docker.io"];
    let mut config = config(vec![registry("docker.io", &endpoints)]);
    config.credentials.docker_config = Some(file);
    let (upstream, _) = upstream(&config);
    let target = Target::new("docker.io".parse().unwrap(), "alpine".parse().unwrap());
    let traces = upstream.explain(&target);
    assert!(traces[0].used().is_none(), "{}", traces[0]);
    let used = traces[1].used().unwrap();
    assert!(matches!(used.outcome, CredentialOutcome::Used { .. }));
}

#[tokio::test]
async fn a_helper_that_fails_keeps_the_pull_from_going_out_without_it() {
    let server = Server::start(|_| image_reply()).await;
    let mut ecr = registry("r.test", &[&server.url()]);
    ecr.credentials.push(entry(CredentialSource::Helper {
        name: "weir-test-absent".to_owned(),
    }));
    let (upstream, _) = one(ecr);
    let error = remote(&upstream, "r.test/a")
        .head(&tag("1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("docker-credential-weir-test-absent cannot be started"),
        "{text}"
    );
    assert!(server.take().is_empty());
    assert!(explained(&upstream, "r.test/a").contains("would be asked"));
}
