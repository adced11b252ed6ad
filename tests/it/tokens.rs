//! Tokens and credentials: asked for once, used where they belong, never seen elsewhere.

use std::time::Duration;

use base64::Engine;

use crate::support::upstream::{Habit, Settings};
use crate::support::{Auth, Fault, HeldTime, House, Logs, On, Upstream, Weir};

const PASSWORD: &str = "hunter2-do-not-print";

fn bot(settings: &mut Settings) {
    settings.accounts = vec![("bot".to_owned(), PASSWORD.to_owned())];
    settings.private = vec!["acme/secret".to_owned()];
}

/// weir with the account of the bot.
fn house_with_login(upstream: &Upstream, password: &str) -> House {
    let house = House::in_front_of(upstream);
    let file = house.file("password", &format!("{password}\n"));
    house.config(&format!(
        "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\npassword_file = {:?}",
        file.display().to_string()
    ))
}

fn basic(password: &str) -> String {
    let login = format!("bot:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(login);
    format!("Basic {encoded}")
}

#[tokio::test]
async fn one_token_is_enough_for_one_repository() {
    let upstream = Upstream::start().await;
    upstream.index("library/alpine:3.20");
    upstream.index("library/alpine:3.21");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("library/alpine", "3.20").await;
    weir.client().pull("library/alpine", "3.21").await;
    assert_eq!(upstream.count(On::Token), 1);
    assert!(
        upstream.count(On::Challenge) <= 1,
        "the challenge is remembered"
    );
    let asked = &upstream.requests(On::Token)[0].uri;
    assert!(asked.contains("service=registry.fake.test"), "{asked}");
    assert!(asked.contains("library"), "{asked}");
}

#[tokio::test]
async fn another_repository_needs_another_token_but_no_other_challenge() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:1");
    upstream.image("library/busybox:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("library/alpine", "1").await;
    weir.client().pull("library/busybox", "1").await;
    assert_eq!(upstream.count(On::Token), 2);
    assert_eq!(upstream.count(On::Challenge), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_once_more() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:1");
    upstream.image("library/alpine:2");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("library/alpine", "1").await;
    upstream.revoke_tokens();
    weir.client().pull("library/alpine", "2").await;
    assert_eq!(upstream.count(On::Token), 2);
}

#[tokio::test]
async fn an_expired_token_is_not_used() {
    let time = HeldTime::hold();
    let upstream = Upstream::with(|settings| settings.token.expires_in = Some(60)).await;
    upstream.image("library/alpine:1");
    upstream.image("library/alpine:2");
    let house = House::in_front_of(&upstream).clock(time.clock());
    let weir = house.start().await;
    weir.client().pull("library/alpine", "1").await;
    let challenges = upstream.count(On::Challenge);
    time.pass(Duration::from_secs(61)).await;
    weir.client().pull("library/alpine", "2").await;
    assert_eq!(upstream.count(On::Challenge), challenges);
    assert_eq!(upstream.count(On::Token), 2);
}

#[tokio::test]
async fn tokens_of_every_shape_are_understood() {
    let shapes: [(&str, Habit); 5] = [
        ("access_token", |s| s.token.fields = vec!["access_token"]),
        ("token", |s| s.token.fields = vec!["token"]),
        ("no expiry", |s| s.token.expires_in = None),
        ("issued long ago", |s| {
            s.token.issued_at = Some("2001-01-01T00:00:00Z".to_owned());
        }),
        ("another scope than asked", |s| {
            s.token.bound_to_scope = false;
            s.token.scope = Some("repository:user/image:pull".to_owned());
        }),
    ];
    for (what, shape) in shapes {
        let upstream = Upstream::with(shape).await;
        upstream.image("library/alpine:1");
        let weir = Weir::in_front_of(&upstream).await;
        let pulled = weir.client().pull("library/alpine", "1").await;
        assert_eq!(pulled.len(), 4, "{what}");
        let tokens = upstream.count(On::Token);
        assert!((1..=4).contains(&tokens), "{what}: {tokens} token requests");
    }
}

#[tokio::test]
async fn credentials_go_to_the_token_service_and_nowhere_else() {
    let upstream = Upstream::with(bot).await;
    upstream.image("acme/secret:1");
    let weir = house_with_login(&upstream, PASSWORD).start().await;
    weir.client().pull("acme/secret", "1").await;
    for seen in upstream.all_requests() {
        let authorization = seen.header("authorization").unwrap_or_default();
        let has_token = authorization.starts_with("Bearer fake-token-");
        let expected = if seen.on == On::Token {
            authorization == basic(PASSWORD)
        } else if seen.on == On::Blob {
            authorization.is_empty()
        } else {
            authorization.is_empty() || has_token
        };
        assert!(expected, "{authorization} was sent to {}", seen.uri);
    }
    assert_eq!(upstream.count(On::Odd), 0, "the CDN saw no Authorization");
}

#[tokio::test]
async fn a_registry_with_basic_gets_basic() {
    let upstream = Upstream::with(|settings| {
        bot(settings);
        settings.auth = Auth::Basic;
    })
    .await;
    upstream.image("acme/secret:1");
    let weir = house_with_login(&upstream, PASSWORD).start().await;
    weir.client().pull("acme/secret", "1").await;
    assert_eq!(upstream.count(On::Token), 0);
    assert!(upstream.count(On::Challenge) <= 1);
    for blob in upstream.requests(On::Blob) {
        assert!(!blob.is_authorized(), "{}", blob.uri);
    }
}

#[tokio::test]
async fn refused_credentials_are_named_and_never_shown() {
    for auth in [Auth::Bearer, Auth::Basic] {
        let logs = Logs::capture();
        let upstream = Upstream::with(|settings| {
            bot(settings);
            settings.auth = auth;
        })
        .await;
        upstream.image("acme/secret:1");
        let wrong = "wrong-password-xyzzy";
        let weir = house_with_login(&upstream, wrong).start().await;
        let answer = weir.client().manifest("acme/secret", "1").await;
        assert_eq!(
            answer.status, 502,
            "not 401, which would start a login loop"
        );
        assert_eq!(answer.error_code(), "UNAUTHORIZED");
        assert_eq!(answer.header("www-authenticate"), None);
        let message = answer.error_message();
        assert!(message.contains("docker.io"), "{message}");
        assert!(message.contains("bot"), "{message}");

        let metrics = weir.metrics().await;
        let failures = metrics.value(
            "container_registry_auth_failures_total",
            &[("side", "upstream")],
        );
        assert!(failures >= 1.0);
        for secret in [wrong, &basic(wrong)["Basic ".len()..]] {
            assert!(!answer.text().contains(secret));
            assert!(!metrics.text.contains(secret));
            assert!(!logs.contain(secret), "{}", logs.text());
        }
    }
}

#[tokio::test]
async fn no_secret_is_seen_in_logs_or_metrics_of_a_pull_that_works() {
    let logs = Logs::capture();
    let upstream = Upstream::with(bot).await;
    upstream.image("acme/secret:1");
    let weir = house_with_login(&upstream, PASSWORD).start().await;
    weir.client().pull("acme/secret", "1").await;
    upstream.revoke_tokens();
    upstream.image("acme/secret:2");
    weir.client().pull("acme/secret", "2").await;
    let metrics = weir.metrics().await;
    assert!(
        logs.contain("config:bot"),
        "the credential is named: {}",
        logs.text()
    );
    for secret in [PASSWORD, &basic(PASSWORD)["Basic ".len()..], "fake-token-"] {
        assert!(!logs.contain(secret), "{secret} in {}", logs.text());
        assert!(!metrics.text.contains(secret));
    }
}

#[tokio::test]
async fn a_private_image_without_credentials_says_so() {
    let upstream = Upstream::with(bot).await;
    upstream.image("acme/secret:1");
    let weir = Weir::in_front_of(&upstream).await;
    let answer = weir.client().manifest("acme/secret", "1").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.error_message().contains("configure a credential"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_token_that_is_refused_to_anonymous_clients_is_told_apart() {
    let upstream = Upstream::with(|s| s.token.refuse_anonymous = Some(403)).await;
    upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    let answer = weir.client().manifest("acme/app", "1").await;
    assert_eq!(answer.status, 502);
    let message = answer.error_message();
    assert!(
        message.contains("403") || message.contains("denied"),
        "{message}"
    );
}

#[tokio::test]
async fn credentials_never_go_to_a_token_service_on_another_host() {
    let upstream = Upstream::with(bot).await;
    let stranger = Upstream::start().await;
    // The stranger's CDN listens on another address than the registry.
    let realm = format!("http://{}/token", stranger.cdn_address());
    upstream.set(|settings| settings.token.realm = Some(realm));
    upstream.image("acme/secret:1");
    let weir = house_with_login(&upstream, PASSWORD).start().await;
    let answer = weir.client().manifest("acme/secret", "1").await;
    assert_eq!(answer.status, 502);
    assert!(
        stranger
            .all_requests()
            .iter()
            .all(|seen| !seen.is_authorized())
    );
}

#[tokio::test]
async fn a_host_behind_a_redirect_that_asks_for_a_login_gets_none() {
    for challenge in [
        "Basic realm=\"cdn\"",
        "Bearer realm=\"http://CDN/token\",service=\"cdn\"",
    ] {
        let time = HeldTime::hold();
        let upstream = Upstream::with(|settings| {
            settings.auth = Auth::Basic;
            settings.accounts = vec![("bot".to_owned(), "bot-p4ssword".to_owned())];
        })
        .await;
        let image = upstream.image("acme/app:1");
        let challenge = challenge.replace("CDN", upstream.cdn_address());
        upstream.always(
            On::Blob,
            Fault::Answer {
                status: 401,
                headers: vec![("www-authenticate", challenge.clone())],
                body: String::new(),
            },
        );
        let house = House::in_front_of(&upstream).clock(time.clock()).config(
            "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\npassword = \"bot-p4ssword\"",
        );
        let weir = house.start().await;
        let client = weir.client();
        let pull = client.blob("acme/app", &image.layers[0].digest);
        let (answer, _) = time.pass_during(pull).await;
        assert_eq!(answer.status, 404, "{challenge}: {}", answer.text());
        assert_eq!(answer.error_code(), "BLOB_UNKNOWN", "{challenge}");
        // The registry itself saw the login, or nobody would have been redirected.
        let redirects = upstream.requests(On::BlobRedirect);
        assert!(
            redirects.iter().any(|seen| seen.is_authorized()),
            "{challenge}"
        );
        let at_the_cdn = upstream.all_requests();
        let at_the_cdn = at_the_cdn
            .iter()
            .filter(|seen| matches!(seen.on, On::Blob | On::Odd | On::Token));
        let logins = at_the_cdn.filter(|seen| seen.is_authorized()).count();
        assert_eq!(logins, 0, "{challenge}");
        assert!(upstream.count(On::Blob) > 0, "{challenge}");
    }
}
