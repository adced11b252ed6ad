//! `weir resolve`: what an image means here, without asking any registry.

use serde_json::{Value, json};

use crate::support::{House, Upstream};

async fn resolve(house: &House, images: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["resolve", "--json"], images].concat();
    let output = house.run(&arguments).await;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = serde_json::from_str(&told);
    (output.status.code(), told.expect("JSON on stdout"))
}

/// A registry whose one account may be used for one prefix only.
fn house(upstream: &Upstream) -> House {
    House::in_front_of(upstream).config(
        "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\n\
         password = \"hunter2-hunter2\"\nfor = \"acme/\"",
    )
}

#[tokio::test]
async fn every_spelling_of_docker_hub_means_the_same() {
    let upstream = Upstream::start().await;
    let house = house(&upstream);
    let spellings = [
        "alpine",
        "library/alpine:latest",
        "docker.io/alpine",
        "index.docker.io/library/alpine",
    ];
    let (code, told) = resolve(&house, &spellings).await;
    assert_eq!(code, Some(0));
    for image in told.as_array().expect("a list") {
        assert_eq!(image["registry"], "docker.io", "{image}");
        assert_eq!(image["repository"], "library/alpine", "{image}");
        assert_eq!(image["reference"], "latest", "{image}");
        assert_eq!(image["cached"]["manifest"], false, "{image}");
        assert_eq!(image["endpoints"][0]["url"], upstream.endpoint());
    }
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn which_credential_applies_is_said_and_why_but_never_its_secret() {
    let upstream = Upstream::start().await;
    let house = house(&upstream);
    let (_, told) = resolve(&house, &["acme/app", "alpine"]).await;
    let [acme, alpine] = [&told[0], &told[1]].map(|image| &image["endpoints"][0]);
    assert_eq!(acme["steps"][0]["applies"], true, "{acme}");
    let why = acme["steps"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("bot") && why.contains("15"), "{why}");
    assert_eq!(alpine["credential"], "anonymous");
    let why = alpine["steps"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("not for library/alpine"), "{why}");
    assert!(!told.to_string().contains("hunter2"));
    let text = house.run(&["resolve", "acme/app"]).await;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("docker.io (the default)"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn what_means_nothing_here_fails() {
    let upstream = Upstream::start().await;
    let house = house(&upstream);
    let (code, told) = resolve(&house, &["alpine", "elsewhere.test/app", "UPPER"]).await;
    assert_eq!(code, Some(1));
    assert!(told[0]["error"].is_null());
    let error = told[1]["error"].as_str().expect("an error");
    assert!(error.contains("elsewhere.test"), "{error}");
    assert!(told[2]["error"].is_string());
    let output = house.run(&["resolve"]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn a_cached_image_is_known_while_weir_runs_and_after() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = House::in_front_of(&upstream).start().await;
    weir.client().pull("acme/app", "1").await;
    let digest = json!(image.manifest.digest.to_string());
    // By the admin address of the one that runs, which had no fixed port.
    let admin = weir.admin_address();
    let text = format!("[admin]\nlisten = \"{admin}\"");
    let asking = weir.house().clone().config(&text);
    let (_, told) = resolve(&asking, &["acme/app:1", "acme/app:2"]).await;
    assert_eq!(told[0]["cached"]["digest"], digest, "{told}");
    assert!(told[0]["cached"]["missing"].is_number(), "{told}");
    assert_eq!(told[1]["cached"]["manifest"], false, "{told}");
    // Nobody to ask, and the directory is in use.
    let house = weir.house().clone();
    let (_, told) = resolve(&house, &["acme/app:1"]).await;
    assert!(told[0]["cached"]["manifest"].is_null(), "{told}");
    weir.stop().await;
    let (_, told) = resolve(&house, &["acme/app:1"]).await;
    assert_eq!(told[0]["cached"]["digest"], digest, "{told}");
}

#[tokio::test]
async fn it_says_where_the_clients_own_login_counts() {
    let upstream = Upstream::start().await;
    let house =
        House::in_front_of(&upstream).config("[registries.\"docker.io\"]\nauth = \"client\"");
    let (code, told) = resolve(&house, &["acme/app"]).await;
    assert_eq!(code, Some(0));
    let endpoint = &told[0]["endpoints"][0];
    assert_eq!(endpoint["credential"], "auth = \"client\"");
    let why = endpoint["steps"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("each client brings"), "{why}");
}
