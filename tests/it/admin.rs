//! The desk of the caretaker: what it tells, what it does, and for whom.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::{Answer, Fault, House, On, Upstream, Weir, eventually_async};

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(answer.whole(200)).expect("JSON")
}

async fn get(weir: &Weir, path: &str) -> Value {
    parsed(&weir.admin().get(path).await)
}

async fn post(weir: &Weir, path: &str, body: &Value) -> Value {
    parsed(&weir.admin().post(path, &body.to_string()).await)
}

#[tokio::test]
async fn the_status_says_how_weir_is() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    eventually_async("it is ready", async || {
        get(&weir, "/api/v1/status").await["ready"] == json!(true)
    })
    .await;
    let status = get(&weir, "/api/v1/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["cache"]["objects"], 0);
}

#[tokio::test]
async fn registries_are_shown_with_endpoints_quota_and_credentials_but_no_secret() {
    let upstream = Upstream::with(|settings| {
        settings.quota = Some(100);
        settings.accounts = vec![("bot".to_owned(), "hunter2-hunter2".to_owned())];
    })
    .await;
    upstream.image("acme/app:1");
    let weir = House::in_front_of(&upstream)
        .config("[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\npassword = \"hunter2-hunter2\"")
        .start()
        .await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    let registries = get(&weir, "/api/v1/registries").await;
    let hub = registries.as_array().expect("a list").iter();
    let hub = hub.clone().find(|r| r["name"] == "docker.io").expect("Hub");
    assert_eq!(hub["endpoints"][0]["url"], upstream.endpoint());
    assert_eq!(hub["endpoints"][0]["breaker"], "closed");
    assert_eq!(hub["quota"][0]["account"], "bot");
    assert_eq!(hub["quota"][0]["limit"], 100);
    assert_eq!(hub["credentials"][0]["username"], "bot");
    for path in ["registries", "config", "status", "resolve?image=acme/app"] {
        let told = get(&weir, &format!("/api/v1/{path}")).await;
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }
    let resolved = get(&weir, "/api/v1/resolve?image=acme/app:1").await;
    assert_eq!(resolved["registry"], "docker.io");
    assert_eq!(resolved["manifest_cached"], true);
    assert_eq!(resolved["endpoints"][0]["steps"][0]["applies"], true);
}

#[tokio::test]
async fn the_configuration_in_force_is_shown_by_its_names() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream).config("[tags]\nfresh_for = \"7m\"");
    let weir = house.start().await;
    let config = get(&weir, "/api/v1/config").await;
    assert_eq!(config["tags"]["fresh_for"], "7m");
    assert_eq!(config["registries"]["docker.io"]["default"], true);
    assert!(config["registries"]["ghcr.io"].is_object());
}

#[tokio::test]
async fn an_image_that_is_removed_is_fetched_again() {
    let upstream = Upstream::start().await;
    upstream.index("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let pulled = weir.client().pull("library/alpine", "3.20").await;
    eventually_async("all of it is stored", async || {
        weir.stored().len() == pulled.len()
    })
    .await;
    let images = get(&weir, "/api/v1/cache/images").await;
    assert_eq!(
        images["images"][0]["image"],
        "docker.io/library/alpine:3.20"
    );
    let removed = post(
        &weir,
        "/api/v1/cache/remove",
        &json!({ "images": ["alpine:3.20"] }),
    )
    .await;
    assert_eq!(removed["objects"], pulled.len());
    assert_eq!(weir.stored(), [""; 0]);
    assert_eq!(
        get(&weir, "/api/v1/cache/images").await["images"],
        json!([])
    );
    upstream.forget();
    assert_eq!(weir.client().pull("library/alpine", "3.20").await, pulled);
    assert!(upstream.count(On::Blob) > 0);
}

#[tokio::test]
async fn content_is_removed_by_digest_too() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 10_000);
    let weir = Weir::in_front_of(&upstream).await;
    weir.client()
        .blob("acme/app", &blob.digest)
        .await
        .whole(200);
    eventually_async("it is stored", async || weir.stored().len() == 1).await;
    let body = json!({ "digests": [blob.digest.to_string()] });
    let removed = post(&weir, "/api/v1/cache/remove", &body).await;
    assert_eq!(removed["bytes"], 10_000);
    let removed = post(&weir, "/api/v1/cache/remove", &body).await;
    assert_eq!(removed["absent"], json!([blob.digest.to_string()]));
}

#[tokio::test]
async fn what_is_pinned_stays_until_it_is_unpinned() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/app", "1").await;
    let stored = 4;
    eventually_async("all of it is stored", async || {
        weir.stored().len() == stored
    })
    .await;
    let body = json!({ "images": ["acme/app:1"] });
    assert_eq!(
        post(&weir, "/api/v1/cache/pin", &body).await["pinned"],
        stored
    );
    let blobs = get(&weir, "/api/v1/cache/blobs").await;
    assert_eq!(blobs["blobs"].as_array().map(Vec::len), Some(stored));
    assert_eq!(blobs["blobs"][0]["pinned"], true);
    // By digest, as the tag goes with the first try.
    let digests: Vec<_> = weir
        .stored()
        .iter()
        .map(|hex| format!("sha256:{hex}"))
        .collect();
    let body = json!({ "digests": digests });
    let removed = post(&weir, "/api/v1/cache/remove", &body).await;
    assert_eq!(removed["pinned"].as_array().map(Vec::len), Some(stored));
    assert_eq!(
        post(&weir, "/api/v1/cache/unpin", &body).await["unpinned"],
        stored
    );
    assert_eq!(
        post(&weir, "/api/v1/cache/remove", &body).await["objects"],
        stored
    );
}

#[tokio::test]
async fn upkeep_is_done_out_of_turn() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    for chore in ["gc", "scrub"] {
        let path = format!("/api/v1/cache/{chore}");
        assert_eq!(post(&weir, &path, &json!({})).await["begun"], true);
    }
    let reloaded = post(&weir, "/api/v1/reload", &json!({})).await;
    assert_eq!(reloaded["needs_restart"], json!([]));
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let admin = weir.admin();
    let path = "/api/v1/cache/gc";
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        // A name that was pointed at this machine.
        ("host", "evil.example", 403),
        ("x-forwarded-for", "192.0.2.1", 403),
        // What a form can send.
        ("content-type", "text/plain", 415),
        ("content-type", "application/x-www-form-urlencoded", 415),
    ] {
        let answer = admin.clone().with(name, value).post(path, "{}").await;
        answer.whole(status);
    }
    admin.post(path, "{}").await.whole(200);
    admin.get(path).await.whole(405);
}

#[tokio::test]
async fn who_is_not_on_this_machine_needs_the_token() {
    let house = House::empty();
    let file = house.file("token", "first-token\n");
    let text = format!("[admin]\ntoken_file = {:?}", file.display().to_string());
    let weir = house.clone().config(&text).start().await;
    // As it looks through a proxy.
    let far = weir.admin().with("x-forwarded-for", "192.0.2.1");
    let path = "/api/v1/cache/gc";
    let refused = far.post(path, "{}").await;
    refused.whole(401);
    assert!(refused.header("www-authenticate").is_some());
    let with = |token: &str| {
        far.clone()
            .with("authorization", &format!("Bearer {token}"))
    };
    with("first-token").post(path, "{}").await.whole(200);
    with("second-token").post(path, "{}").await.whole(401);
    house.file("token", "second-token\n");
    with("second-token").post(path, "{}").await.whole(200);
    with("first-token").post(path, "{}").await.whole(401);
    // Reading needs none.
    far.get("/api/v1/status").await.whole(200);
}

#[tokio::test]
async fn what_makes_no_sense_is_said_in_json() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let admin = weir.admin();
    for (body, status) in [
        (r#"{"images": ["UPPER"]}"#, 400),
        (r#"{"digests": ["sha256:0"]}"#, 400),
        (r#"{"images": ["never-pulled:1"]}"#, 404),
        (r#"{"images": ["elsewhere.test/app"]}"#, 400),
        ("{}", 400),
        ("{", 400),
        (r#"{"image": "alpine"}"#, 422),
    ] {
        let answer = admin.post("/api/v1/cache/remove", body).await;
        let told: Value = serde_json::from_slice(answer.whole(status)).expect("JSON");
        assert!(told["error"]["message"].is_string(), "{body}: {told}");
    }
    let big = format!("{{\"images\": [\"{}\"]}}", "a".repeat(300 << 10));
    admin.post("/api/v1/cache/remove", &big).await.whole(413);
    admin.get("/api/v1/nothing").await.whole(404);
    admin.get("/api/v1/resolve").await.whole(400);
}

#[tokio::test]
async fn the_status_page_shows_what_is_and_runs_nothing() {
    let upstream = Upstream::start().await;
    upstream.fault(On::Manifest, Fault::Status(500));
    let weir = Weir::in_front_of(&upstream).await;
    let page = weir.admin().get("/").await;
    page.whole(200);
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    assert!(text.contains(&upstream.endpoint()), "{text}");
    assert!(!text.contains("<script"), "{text}");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
}

/// `admin::door::CONNECTIONS_MAX`.
const CONNECTIONS_MAX: usize = 128;

#[tokio::test]
async fn one_connection_too_many_is_closed_and_counted() {
    let weir = House::empty().start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let stream = TcpStream::connect(weir.admin_address()).await;
        open.push(stream.expect("somebody listens"));
    }
    let mut refused = TcpStream::connect(weir.admin_address())
        .await
        .expect("somebody listens");
    // Closed without a word; the clients of the registry do not notice any of it.
    let read = refused.read(&mut [0; 1]).await;
    assert_eq!(read.expect("an orderly close"), 0);
    weir.client().get("/v2/").await.whole(200);
    drop(open);
    eventually_async("there is room again", async || {
        let answer = weir.admin().try_send(http::Method::GET, "/livez").await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let metrics = weir.metrics().await;
    assert!(metrics.value("weir_admin_connections_refused_total", &[]) >= 1.0);
}
