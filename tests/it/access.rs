//! Who may have what: challenges, logins, tokens, rules, and content that stays where it may be.

use base64::Engine as _;

use crate::support::{Client, House, Upstream, Weir, blob_path, manifest_path};

fn basic(name: &str, secret: &str) -> String {
    let pair = format!("{name}:{secret}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// A weir in front of two repositories, with the users `ci` and `dev` whose passwords are their
/// names, and these rules.
async fn ruled(upstream: &Upstream, rules: &str) -> Weir {
    let house = House::in_front_of(upstream);
    let users = ["ci", "dev"].map(|name| {
        let hash = bcrypt::hash(name, 4).expect("a password can be hashed");
        format!("{name}:{hash}\n")
    });
    let file = house.file("htpasswd", &users.concat());
    let access = format!("[access]\nhtpasswd = {file:?}\n{rules}");
    house.config(&access).start().await
}

async fn two_repositories() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    upstream.image("acme/secret:1");
    upstream
}

const SECRET_FOR_CI: &str = r#"
[[access.rules]]
anonymous = true
allow = ["docker.io/library/*"]
[[access.rules]]
users = ["ci"]
allow = ["docker.io/acme/**"]
"#;

/// The value of `name="…"` in a challenge.
fn told(challenge: &str, name: &str) -> String {
    let from = challenge.find(&format!("{name}=\"")).expect("it is told") + name.len() + 2;
    let rest = &challenge[from..];
    rest[..rest.find('"').expect("an end")].to_owned()
}

/// The token that the challenge leads to.
async fn token(client: &Client, challenge: &str) -> String {
    let realm: http::Uri = told(challenge, "realm").parse().expect("a URI");
    assert_eq!(realm.path(), "/token");
    let scope = told(challenge, "scope");
    let path = format!("/token?service=weir&scope={scope}");
    let answer = client.get(&path).await;
    let body: serde_json::Value = serde_json::from_slice(answer.whole(200)).expect("JSON");
    assert!(body["expires_in"].as_u64() >= Some(60));
    body["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn an_open_weir_challenges_nobody_and_ignores_logins_for_others() {
    let upstream = two_repositories().await;
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client().with("authorization", &basic("alice", "hub"));
    client.get("/v2/").await.whole(200);
    client.manifest("acme/secret", "1").await.whole(200);
}

#[tokio::test]
async fn a_closed_weir_sends_clients_to_its_token_endpoint_and_back() {
    let upstream = two_repositories().await;
    let weir = ruled(&upstream, "anonymous = false").await;
    let client = weir.client();
    let ping = client.get("/v2/").await;
    ping.whole(401);
    assert_eq!(ping.error_code(), "UNAUTHORIZED");
    let realm = told(
        ping.header("www-authenticate").expect("a challenge"),
        "realm",
    );
    assert_eq!(realm, format!("http://{}/token", weir.address()));

    let refused = client.manifest("acme/secret", "1").await;
    refused.whole(401);
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert_eq!(told(challenge, "scope"), "repository:acme/secret:pull");
    let ci = client.clone().with("authorization", &basic("ci", "ci"));
    let bearer = format!("Bearer {}", token(&ci, challenge).await);
    let client = client.with("authorization", &bearer);
    client.get("/v2/").await.whole(200);
    client.manifest("acme/secret", "1").await.whole(200);
}

#[tokio::test]
async fn a_login_is_taken_with_the_request_and_as_a_form_too() {
    let upstream = two_repositories().await;
    let weir = ruled(&upstream, "anonymous = false").await;
    let ci = weir.client().with("authorization", &basic("ci", "ci"));
    ci.manifest("acme/secret", "1").await.whole(200);
    let form = "grant_type=password&username=ci&password=ci&service=weir&client_id=docker";
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = weir.client().raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("access_token"), "{answer}");
    let wrong = request.replace("password=ci", "password=no");
    let answer = weir.client().raw(wrong.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_wrong_password_or_token_is_refused_and_counted() {
    let upstream = two_repositories().await;
    let weir = ruled(&upstream, "anonymous = false").await;
    for wrong in [
        basic("ci", "dev"),
        basic("eve", "eve"),
        "Bearer a.b.c".into(),
    ] {
        let client = weir.client().with("authorization", &wrong);
        client.get("/v2/").await.whole(401);
        client.manifest("acme/secret", "1").await.whole(401);
    }
    let refused = weir.metrics().await.value(
        "container_registry_auth_failures_total",
        &[("side", "client")],
    );
    assert_eq!(refused, 6.0);
}

#[tokio::test]
async fn content_is_given_only_through_a_repository_that_the_client_may_pull() {
    let upstream = Upstream::start().await;
    let secret = upstream.image("acme/secret:1");
    upstream.image("library/alpine:3.20");
    let weir = ruled(&upstream, SECRET_FOR_CI).await;
    let ci = weir.client().with("authorization", &basic("ci", "ci"));
    ci.pull("acme/secret", "1").await;

    let nobody = weir.client();
    nobody.manifest("library/alpine", "3.20").await.whole(200);
    let layer = secret.layers[0].digest;
    for path in [
        manifest_path("acme/secret", "1"),
        manifest_path("acme/secret", secret.manifest.digest),
        blob_path("acme/secret", &layer),
        "/v2/acme/secret/tags/list".to_owned(),
    ] {
        nobody.get(&path).await.whole(401);
        let dev = weir.client().with("authorization", &basic("dev", "dev"));
        let denied = dev.get(&path).await;
        denied.whole(403);
        assert_eq!(denied.error_code(), "DENIED");
    }
    // Cached, but not a part of what this client may pull.
    nobody
        .get(&blob_path("library/alpine", &layer))
        .await
        .whole(404);
    let catalog = nobody.get("/v2/_catalog").await.text();
    assert!(catalog.contains("library/alpine"), "{catalog}");
    assert!(!catalog.contains("secret"), "{catalog}");
}

#[tokio::test]
async fn who_has_no_login_gets_a_token_for_what_everybody_may_pull() {
    let upstream = two_repositories().await;
    let weir = ruled(&upstream, SECRET_FOR_CI).await;
    let client = weir.client();
    // docker learns how to log in from this ping only.
    let ping = client.get("/v2/").await;
    ping.whole(401);
    for login in [None, Some(basic("alice", "of docker hub"))] {
        let asking = match &login {
            Some(login) => client.clone().with("authorization", login),
            None => client.clone(),
        };
        let challenge = "scope=\"repository:library/alpine:pull\" realm=\"/token\"";
        let bearer = format!("Bearer {}", token(&asking, challenge).await);
        let client = client.clone().with("authorization", &bearer);
        client.get("/v2/").await.whole(200);
        client.manifest("library/alpine", "3.20").await.whole(200);
        client.manifest("acme/secret", "1").await.whole(401);
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is_and_nobody_else_does() {
    let upstream = two_repositories().await;
    let rules = "[[access.rules]]\nnetworks = [\"192.0.2.0/24\"]\nallow = [\"**\"]";
    let near = "192.0.2.7";
    let weir = ruled(&upstream, rules).await;
    let client = weir.client().with("x-forwarded-for", near);
    client.manifest("acme/secret", "1").await.whole(403);
    let rules = format!("{rules}\n[server]\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let weir = ruled(&upstream, &rules).await;
    let client = weir.client().with("x-forwarded-for", near);
    client.manifest("acme/secret", "1").await.whole(200);
    let far = weir.client().with("x-forwarded-for", "198.51.100.1");
    far.manifest("acme/secret", "1").await.whole(403);
}
