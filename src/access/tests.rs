//! Who gets in, who is asked to log in, and what the rules let through.

use super::*;
use crate::config;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Fixture {
    access: Access,
    _file: tempfile::NamedTempFile,
}

/// An [`Access`] by this configuration, in which `HTPASSWD` stands for a file with the users `ci`
/// and `dev`, each with their name as password.
fn fixture(text: &str) -> Fixture {
    let file = tempfile::NamedTempFile::new().unwrap();
    let users = ["ci", "dev"].map(|name| format!("{name}:{}\n", bcrypt::hash(name, 4).unwrap()));
    std::fs::write(file.path(), users.concat()).unwrap();
    let text = text.replace("HTPASSWD", &format!("htpasswd = {:?}", file.path()));
    let config = config::load_str(&text, &[]).unwrap_or_else(|problems| panic!("{problems}"));
    let access = Access::new(&config, Keys::generate()).unwrap();
    Fixture {
        access,
        _file: file,
    }
}

fn target(text: &str) -> Target {
    let (registry, repository) = text.split_once('/').unwrap();
    Target::new(registry.parse().unwrap(), repository.parse().unwrap())
}

fn basic(name: &str, secret: &str) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    let encoded = base64::Engine::encode(&engine, format!("{name}:{secret}"));
    format!("Basic {encoded}")
}

impl Fixture {
    async fn client(
        &self,
        peer: &str,
        authorization: Option<&str>,
    ) -> Result<Client, Unidentified> {
        let arrival = Arrival {
            peer: Some(peer.parse().unwrap()),
            authorization,
            ..Arrival::default()
        };
        self.access.identify(&arrival, NOW).await
    }

    async fn may(&self, peer: &str, name: Option<&str>, pull: &str) -> Result<(), Denied> {
        let authorization = name.map(|name| basic(name, name));
        let client = self.client(peer, authorization.as_deref()).await.unwrap();
        self.access.permits(&client, &target(pull))
    }
}

#[tokio::test]
async fn without_rules_everybody_may_pull_and_nobody_is_challenged() {
    let open = fixture("");
    let hub_login = basic("alice", "of docker hub");
    for authorization in [None, Some("Bearer of.somebody.else"), Some(&hub_login)] {
        let client = open.client("192.0.2.1", authorization).await.unwrap();
        assert!(!open.access.wants_login(&client));
        assert!(client.user.is_none());
        let permitted = open.access.permits(&client, &target("docker.io/a/b"));
        assert_eq!(permitted, Ok(()));
    }
}

#[tokio::test]
async fn a_closed_weir_wants_a_user() {
    let closed = fixture("[access]\nanonymous = false\nHTPASSWD");
    let nobody = closed.client("192.0.2.1", None).await.unwrap();
    assert!(closed.access.wants_login(&nobody));
    let permitted = closed.access.permits(&nobody, &target("docker.io/a/b"));
    assert_eq!(permitted, Err(Denied::NeedsUser));
    assert_eq!(
        closed.may("192.0.2.1", Some("ci"), "docker.io/a/b").await,
        Ok(())
    );
    let wrong = closed.client("192.0.2.1", Some(&basic("ci", "dev"))).await;
    assert_eq!(wrong.unwrap_err(), Unidentified::WrongLogin);
    let no_token = closed.access.grant(None, None, NOW).await;
    assert_eq!(no_token.unwrap_err(), Unidentified::NoLogin);
}

#[tokio::test]
async fn a_token_stands_for_the_user_who_got_it() {
    let closed = fixture("[access]\nanonymous = false\nHTPASSWD");
    let grant = closed
        .access
        .grant(Login::new("ci", "ci"), None, NOW)
        .await
        .unwrap();
    let header = format!("Bearer {}", grant.token);
    let client = closed.client("192.0.2.1", Some(&header)).await.unwrap();
    assert_eq!(client.user.as_deref(), Some("ci"));
    assert!(!closed.access.wants_login(&client));
    let forged = closed.client("192.0.2.1", Some("Bearer a.b.c")).await;
    assert_eq!(forged.unwrap_err(), Unidentified::WrongToken);
}

#[tokio::test]
async fn rules_let_through_and_everything_else_is_denied() {
    let ruled = fixture(
        r#"[access]
HTPASSWD
[[access.rules]]
anonymous = true
allow = ["docker.io/library/*"]
[[access.rules]]
users = ["ci"]
allow = ["ghcr.io/acme/**"]
[[access.rules]]
users = ["ci"]
networks = ["10.0.0.0/8"]
allow = ["quay.io/secret/*"]
[[access.rules]]
networks = ["10.0.0.0/8"]
allow = ["gcr.io/**"]"#,
    );
    for (peer, name, pull, permitted) in [
        ("192.0.2.1", None, "docker.io/library/alpine", Ok(())),
        ("192.0.2.1", Some("dev"), "docker.io/library/alpine", Ok(())),
        ("192.0.2.1", None, "docker.io/acme/app", Err(Denied::NoRule)),
        (
            "192.0.2.1",
            None,
            "ghcr.io/acme/a/b",
            Err(Denied::NeedsUser),
        ),
        ("192.0.2.1", Some("ci"), "ghcr.io/acme/a/b", Ok(())),
        (
            "192.0.2.1",
            Some("dev"),
            "ghcr.io/acme/a/b",
            Err(Denied::NoRule),
        ),
        (
            "192.0.2.1",
            Some("ci"),
            "ghcr.io/acmeevil/a",
            Err(Denied::NoRule),
        ),
        // Users narrowed by a network.
        (
            "192.0.2.1",
            Some("ci"),
            "quay.io/secret/a",
            Err(Denied::NoRule),
        ),
        ("10.1.2.3", Some("ci"), "quay.io/secret/a", Ok(())),
        ("10.1.2.3", None, "quay.io/secret/a", Err(Denied::NeedsUser)),
        ("10.1.2.3", None, "gcr.io/a/b", Ok(())),
        ("192.0.2.1", None, "gcr.io/a/b", Err(Denied::NoRule)),
    ] {
        assert_eq!(
            ruled.may(peer, name, pull).await,
            permitted,
            "{peer} {name:?} {pull}"
        );
    }
}

#[tokio::test]
async fn where_rules_name_users_a_login_is_wanted_and_an_anonymous_token_suffices() {
    let mixed = fixture(
        r#"[access]
HTPASSWD
[[access.rules]]
anonymous = true
allow = ["docker.io/**"]
[[access.rules]]
users = ["ci"]
allow = ["ghcr.io/**"]"#,
    );
    let nobody = mixed.client("192.0.2.1", None).await.unwrap();
    assert!(mixed.access.wants_login(&nobody));
    let hub_login = Login::new("alice", "of docker hub");
    let docker_hub = Some(RegistryName::docker_hub());
    for login in [None, hub_login.clone()] {
        let grant = mixed
            .access
            .grant(login, docker_hub.clone(), NOW)
            .await
            .unwrap();
        let header = format!("Bearer {}", grant.token);
        let client = mixed.client("192.0.2.1", Some(&header)).await.unwrap();
        assert!(!mixed.access.wants_login(&client));
        assert_eq!(
            mixed.access.permits(&client, &target("docker.io/a/b")),
            Ok(())
        );
        let denied = mixed.access.permits(&client, &target("ghcr.io/a/b"));
        assert_eq!(denied, Err(Denied::NeedsUser));
    }
    // `docker login` asks without a scope, and shall hear that the password is wrong.
    let login = mixed.access.grant(hub_login, None, NOW).await;
    assert_eq!(login.unwrap_err(), Unidentified::WrongLogin);
}

#[tokio::test]
async fn a_registry_that_decides_itself_gets_only_the_login_that_was_meant_for_it() {
    let house = fixture(
        "[registries.\"ghcr.io\"]\nauth = \"client\"\n[registries.\"quay.io\"]\nauth = \"client\"",
    );
    let (ghcr, quay) = (target("ghcr.io/acme/app"), target("quay.io/acme/app"));
    let nobody = house.client("192.0.2.1", None).await.unwrap();
    assert_eq!(
        house.access.permits(&nobody, &ghcr),
        Err(Denied::NeedsLogin)
    );
    assert_eq!(
        house.access.permits(&nobody, &target("docker.io/a/b")),
        Ok(())
    );

    let alice = Login::new("alice", "of ghcr");
    let registry = Some(ghcr.registry.clone());
    let grant = house.access.grant(alice, registry, NOW).await.unwrap();
    let header = format!("Bearer {}", grant.token);
    let client = house.client("192.0.2.1", Some(&header)).await.unwrap();
    assert!(client.user.is_none(), "weir does not know her");
    assert_eq!(house.access.permits(&client, &ghcr), Ok(()));
    let shown = house.access.shown_by(&client, &ghcr);
    assert!(matches!(shown, Some(Shown::Login(login)) if login.username == "alice"));
    assert_eq!(
        house.access.permits(&client, &quay),
        Err(Denied::NeedsLogin)
    );
    assert!(house.access.shown_by(&client, &quay).is_none());
    let shown = house.access.shown_by(&client, &target("docker.io/a/b"));
    assert!(matches!(shown, Some(Shown::Stored)));
}

#[tokio::test]
async fn who_says_that_there_is_no_login_may_ask_for_what_is_public() {
    let ghcr = target("ghcr.io/acme/app");
    let registry = Some(ghcr.registry.clone());
    let by_client = "[registries.\"ghcr.io\"]\nauth = \"client\"\n";
    let house = fixture(by_client);
    let grant = house.access.grant(None, registry, NOW).await.unwrap();
    let header = format!("Bearer {}", grant.token);
    let client = house.client("192.0.2.1", Some(&header)).await.unwrap();
    assert_eq!(house.access.permits(&client, &ghcr), Ok(()));
    let shown = house.access.shown_by(&client, &ghcr);
    assert!(matches!(shown, Some(Shown::Nothing)));
    // Not where everybody has to say who they are.
    let closed = format!("{by_client}[access]\nanonymous = false\nHTPASSWD");
    let closed = fixture(&closed);
    let refused = closed.access.grant(None, None, NOW).await;
    assert_eq!(refused.unwrap_err(), Unidentified::NoLogin);
    let known = Login::new("ci", "ci");
    let grant = closed.access.grant(known, None, NOW).await.unwrap();
    let header = format!("Bearer {}", grant.token);
    let client = closed.client("192.0.2.1", Some(&header)).await.unwrap();
    assert!(closed.access.shown_by(&client, &ghcr).is_none());
    // A login that weir does not know is the upstream's to judge, and opens nothing else.
    let unknown = Login::new("alice", "of ghcr");
    let grant = closed.access.grant(unknown, None, NOW).await.unwrap();
    let header = format!("Bearer {}", grant.token);
    let client = closed.client("192.0.2.1", Some(&header)).await.unwrap();
    assert!(
        !closed.access.wants_login(&client),
        "docker login goes through"
    );
    for (pull, denied) in [
        ("ghcr.io/acme/app", Denied::NeedsLogin),
        ("docker.io/a/b", Denied::NeedsUser),
    ] {
        assert_eq!(closed.access.permits(&client, &target(pull)), Err(denied));
    }
}

#[tokio::test]
async fn patterns_of_a_registry_hold_for_everybody() {
    let house = fixture(
        "[registries.\"docker.io\"]\nallow = [\"library/*\", \"acme/**\"]\ndeny = [\"acme/secret\"]",
    );
    for (pull, permitted) in [
        ("docker.io/library/alpine", Ok(())),
        ("docker.io/acme/a/b", Ok(())),
        ("docker.io/acme/secret", Err(Denied::NotServed)),
        ("docker.io/other/app", Err(Denied::NotServed)),
        ("ghcr.io/other/app", Ok(())),
        ("not.configured/other/app", Err(Denied::NotServed)),
    ] {
        assert_eq!(
            house.may("192.0.2.1", None, pull).await,
            permitted,
            "{pull}"
        );
    }
}

#[test]
fn a_certificate_is_a_name_too() {
    let text = "[access]\nanonymous = false\n[[access.rules]]\ncertificates = [\"CN=node-*\"]\nallow = [\"docker.io/**\"]";
    let house = fixture(text);
    let pull = target("docker.io/a/b");
    for (name, permitted) in [("node-1", Ok(())), ("other", Err(Denied::NoRule))] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let der = params.self_signed(&key).unwrap();
        let subject = Arc::new(Subject::of_certificate(der.der()).unwrap());
        let arrival = Arrival {
            certificate: Some(&subject),
            ..Arrival::default()
        };
        let client = house.access.stranger(&arrival);
        assert!(!house.access.wants_login(&client));
        assert_eq!(house.access.permits(&client, &pull), permitted, "{name}");
    }
}
