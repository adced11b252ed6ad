//! One line of the log a request, with everything that is known of it.

use serde_json::Value;

use crate::support::child::Process;
use crate::support::{House, On, Upstream, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The line of the request with this id.
async fn line(weir: &Process, id: &str) -> Value {
    let find = || {
        let log = weir.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut requests = lines.filter(|line: &Value| line["target"] == "weir::request");
        requests.find(|line| line["request_id"] == id)
    };
    eventually("the request is logged", || find().is_some()).await;
    find().expect("it was there")
}

#[tokio::test]
async fn a_pull_is_one_line_with_everything_that_is_known() {
    let upstream = Upstream::with(|settings| {
        settings.accounts = vec![("bot".to_owned(), "hunter2-hunter2".to_owned())];
    })
    .await;
    let image = upstream.image("acme/app:1");
    let weir = House::in_front_of(&upstream)
        .config(
            "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\n\
             password = \"hunter2-hunter2\"",
        )
        .spawn()
        .await;
    let client = weir.client().user_agent("docker/28.3.1");
    let asking = client.clone().with("x-request-id", "first");
    asking.manifest("acme/app", "1").await.whole(200);
    let told = line(&weir, "first").await;
    for (name, value) in [
        ("client", "127.0.0.1"),
        ("user_agent", "docker/28.3.1"),
        ("registry", "docker.io"),
        ("repository", "acme/app"),
        ("reference", "1"),
        ("kind", "manifest"),
        ("result", "miss"),
        ("credential", "config:bot"),
        ("upstream", &upstream.endpoint()),
        ("digest", &image.manifest.digest.to_string()),
    ] {
        assert_eq!(told[name], value, "{name} in {told}");
    }
    assert_eq!(told["status"], 200);
    assert_eq!(told["bytes"], image.manifest.bytes.len());
    assert!(told["ms"].is_u64(), "{told}");
    let asking = client.with("x-request-id", "second");
    let layer = &image.layers[0];
    asking.blob("acme/app", &layer.digest).await.whole(200);
    let told = line(&weir, "second").await;
    assert_eq!(told["digest"], layer.digest.to_string());
    assert_eq!(told["bytes"], layer.bytes.len());
    assert!(!weir.log().contains("hunter2"));
}

#[tokio::test]
async fn the_trace_of_a_client_is_logged_and_handed_on() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = House::in_front_of(&upstream).spawn().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let client = weir.client().with("x-request-id", "traced");
    let client = client.with("traceparent", &parent);
    client.manifest("acme/app", "1").await.whole(200);
    let layer = &image.layers[0];
    client.blob("acme/app", &layer.digest).await.whole(200);
    assert_eq!(line(&weir, "traced").await["trace_id"], TRACE);
    for on in [On::Manifest, On::BlobRedirect] {
        let asked = upstream.requests(on);
        assert_eq!(asked[0].header("traceparent"), Some(&*parent), "{on:?}");
    }
    // What is no trace goes nowhere.
    let odd = weir.client().with("traceparent", "00-nonsense-01");
    let odd = odd.with("x-request-id", "odd");
    odd.manifest("acme/app", "2").await.whole(404);
    assert!(line(&weir, "odd").await["trace_id"].is_null());
    let last = upstream.all_requests().pop().expect("a request");
    assert_eq!(last.header("traceparent"), None);
}
