//! The logins of clients, where registries judge them: where they go, and where they never go.

use std::time::Duration;

use crate::support::members::{
    ALICE, BOB, CAROL, Members, SECRET, basic, by_basic, by_bearer, house, members, password,
};
use crate::support::upstream::Settings;
use crate::support::{
    Auth, Client, HeldTime, Logs, On, Upstream, blob_path, eventually_async, manifest_path,
};

const MINUTE: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_secs(4);

/// Whatever may stand for the login of this name.
fn traces_of(name: &str) -> [String; 2] {
    let basic = basic(name, &password(name));
    [password(name), basic["Basic ".len()..].to_owned()]
}

fn saw_login(upstream: &Upstream, name: &str) -> bool {
    let traces = traces_of(name);
    upstream.all_requests().iter().any(|seen| {
        let all = format!("{:?}{}{}", seen.headers, seen.uri, seen.body);
        traces.iter().any(|trace| all.contains(trace))
    })
}

/// The token to which a refusal leads somebody with this login.
async fn token(client: &Client, login: Option<&str>, path: &str) -> Client {
    let refused = client.get(path).await;
    refused.whole(401);
    let challenge = refused.header("www-authenticate").expect("a challenge");
    let scope = challenge.split("scope=\"").nth(1).expect("a scope");
    let scope = scope.trim_end_matches('"');
    let asking = match login {
        Some(name) => client
            .clone()
            .with("authorization", &basic(name, &password(name))),
        None => client.clone(),
    };
    let answer = asking
        .get(&format!("/token?service=weir&scope={scope}"))
        .await;
    let body: serde_json::Value = serde_json::from_slice(answer.whole(200)).expect("JSON");
    let token = body["token"].as_str().expect("a token");
    client
        .clone()
        .with("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn a_login_goes_to_its_registry_and_its_token_service_and_nowhere_else() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let time = HeldTime::hold();
        let upstream = Upstream::with(|settings| {
            members(settings);
            settings.auth = auth;
        })
        .await;
        let other = Upstream::with(|settings| {
            members(settings);
            settings.auth = auth;
        })
        .await;
        let own = Upstream::with(|settings| {
            settings.auth = auth;
            settings.accounts = vec![("bot".to_owned(), "bots-own".to_owned())];
        })
        .await;
        upstream.image("acme/secret:1");
        other.image("acme/secret:1");
        own.image("acme/app:1");
        let weir = house(&upstream)
            .registry("other.test", &other)
            .config("[registries.\"other.test\"]\nauth = \"client\"")
            .registry("own.test", &own)
            .config("[[registries.\"own.test\".credentials]]\nusername = \"bot\"\npassword = \"bots-own\"")
            .clock(time.clock())
            .start()
            .await;
        let alice = token(&weir.client(), Some(ALICE), &manifest_path(SECRET, "1")).await;
        alice.pull(SECRET, "1").await;
        // A token is for the registry it was asked for.
        alice
            .manifest("other.test/acme/secret", "1")
            .await
            .whole(401);
        alice.manifest("own.test/acme/app", "1").await.whole(200);
        let carol = weir
            .client()
            .with("authorization", &basic(CAROL, &password(CAROL)));
        carol.pull("own.test/acme/app", "1").await;

        assert!(saw_login(&upstream, ALICE));
        assert!(!saw_login(&upstream, CAROL) && !saw_login(&upstream, "bot"));
        assert!(other.all_requests().is_empty());
        for name in [ALICE, CAROL] {
            assert!(!saw_login(&own, name), "{name}");
        }
        let redirected: Vec<_> = upstream.requests(On::Blob);
        assert_eq!(redirected.len(), 3);
        assert!(redirected.iter().all(|seen| !seen.is_authorized()));
    }
}

#[tokio::test]
async fn no_login_is_seen_in_logs_metrics_or_on_the_desk() {
    let logs = Logs::capture();
    for habit in [by_basic, by_bearer] {
        let house = Members::with(habit).await;
        house.client(ALICE).pull(SECRET, "1").await;
        house.client(CAROL).pull(SECRET, "1").await;
        house.client(BOB).manifest(SECRET, "1").await.whole(403);
        house.time.pass(2 * MINUTE).await;
        house.upstream.go_away().await;
        let alice = house.client(ALICE);
        house
            .time
            .pass_during(alice.manifest(SECRET, "1"))
            .await
            .0
            .whole(200);
        let metrics = house.weir.metrics().await.text;
        let desk = house.weir.admin().get("/api/v1/registries").await.text();
        assert!(desk.contains("\"right_for\":\"1m\""), "{desk}");
        for name in [ALICE, BOB, CAROL] {
            for trace in traces_of(name) {
                assert!(!metrics.contains(&trace) && !desk.contains(&trace));
                assert!(!logs.contain(&trace), "{trace}");
            }
        }
    }
    for right in ["known", "asked", "held while away"] {
        assert!(logs.contain(&format!("right=\"{right}\"")), "{right}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_asked_about_again_and_again() {
    for habit in [by_basic, by_bearer] {
        let house = Members::with(habit).await;
        house.client(ALICE).pull(SECRET, "1").await;
        house.upstream.forget();
        let client = house.client_with(ALICE, "guessed");
        for path in house.paths() {
            client.get(&path).await.whole(403);
        }
        // One for content, one for lists.
        let tried = house.upstream.count(On::Challenge) + house.upstream.count(On::Token);
        assert!((1..=4).contains(&tried), "{tried}");
        house.upstream.forget();
        house.client(ALICE).pull(SECRET, "1").await;
        assert!(
            house.upstream.all_requests().is_empty(),
            "alice's own right is untouched"
        );
        house.time.pass(A_MOMENT).await;
        client.manifest(SECRET, "1").await.whole(403);
        assert!(!house.upstream.all_requests().is_empty());
    }
}

#[tokio::test]
async fn an_old_password_is_worth_nothing_when_it_is_asked_for_again() {
    for habit in [by_basic, by_bearer] {
        let house = Members::configured(habit, "[tags]\nfresh_for = \"1h\"").await;
        let old = house.client(ALICE);
        old.pull(SECRET, "1").await;
        house.upstream.set(|settings| {
            settings.accounts[0].1 = "changed".to_owned();
        });
        // The token that was granted for the old one is good for five minutes at this registry.
        house.time.pass(MINUTE).await;
        for path in house.paths() {
            old.get(&path).await.whole(403);
        }
        house.client_with(ALICE, "changed").pull(SECRET, "1").await;
    }
}

#[tokio::test]
async fn who_has_no_login_gets_what_is_public_and_is_asked_for_one_otherwise() {
    let house = Members::with(by_bearer).await;
    house.upstream.image("open/app:1");
    house.client(ALICE).pull(SECRET, "1").await;
    house.client(ALICE).pull("open/app", "1").await;
    house.upstream.forget();
    let stranger = house.weir.client();
    stranger.get("/v2/").await.whole(401);
    let nobody = token(&stranger, None, &manifest_path("open/app", "1")).await;
    nobody.get("/v2/").await.whole(200);
    nobody.pull("open/app", "1").await;
    assert_eq!(house.upstream.count(On::ManifestHead), 1);
    assert!(!saw_login(&house.upstream, ALICE));
    let layer = house.image.layers[0].digest;
    for path in [manifest_path(SECRET, "1"), blob_path(SECRET, &layer)] {
        let nobody = token(&stranger, None, &path).await;
        let refused = nobody.get(&path).await;
        refused.whole(401);
        assert!(refused.header("www-authenticate").is_some());
        assert!(
            refused.error_message().contains("log in"),
            "{}",
            refused.text()
        );
    }
    let catalog = nobody.get("/v2/_catalog").await.text();
    assert!(
        catalog.contains("open/app") && !catalog.contains("acme"),
        "{catalog}"
    );
}

#[tokio::test]
async fn two_who_use_one_name_are_told_apart_by_their_passwords() {
    let house = Members::with(|settings: &mut Settings| {
        settings.auth = Auth::Basic;
        settings.accounts.push(("alice".to_owned(), "x".to_owned()));
    })
    .await;
    house.client_with("alice", "x").pull(SECRET, "1").await;
    // Name and password read the same when they are put one behind the other.
    let similar = house.client_with("al", "icex");
    similar.manifest(SECRET, "1").await.whole(403);
    house
        .client_with("alice", "")
        .manifest(SECRET, "1")
        .await
        .whole(403);
}

#[tokio::test]
async fn a_reload_keeps_rights_until_the_registry_is_another() {
    let upstream = Upstream::with(|settings| {
        members(settings);
        settings.auth = Auth::Basic;
    })
    .await;
    upstream.image("acme/secret:1");
    let elsewhere = Upstream::with(|settings| {
        members(settings);
        settings.auth = Auth::Basic;
        settings.members.retain(|(_, member)| member != ALICE);
    })
    .await;
    let house = house(&upstream).config("[tags]\nfresh_for = \"1h\"");
    let weir = house.spawn().await;
    let taken_up = async || {
        let metrics = weir.metrics().await;
        metrics.value("weir_config_reloads_total", &[("result", "ok")])
    };
    let before = taken_up().await;
    let alice = weir
        .client()
        .with("authorization", &basic(ALICE, &password(ALICE)));
    alice.pull(SECRET, "1").await;
    upstream.forget();

    let longer = house.config("[registries.\"docker.io\"]\nright_for = \"5m\"");
    weir.rewrite_config(&longer.config_text());
    eventually_async("it is taken up", async || taken_up().await > before).await;
    let before = taken_up().await;
    alice.pull(SECRET, "1").await;
    assert!(upstream.all_requests().is_empty());

    weir.rewrite_config(&longer.registry("docker.io", &elsewhere).config_text());
    eventually_async("it is taken up", async || taken_up().await > before).await;
    alice.manifest(SECRET, "1").await.whole(403);
    assert_eq!(elsewhere.count(On::ManifestHead), 1);
}
