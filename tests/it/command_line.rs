//! The binary as a person or a service manager meets it: what it prints, and how it ends.

use std::process::Output;

use crate::support::{Fault, Gate, House, On, Upstream, blob_path, eventually_async};

#[track_caller]
fn assert_one_line(output: &Output, status: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

#[tokio::test]
async fn it_serves_and_ends_with_zero_when_told_to() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let mut weir = House::in_front_of(&upstream).spawn().await;
    weir.client().pull("library/alpine", "3.20").await;
    weir.admin().get("/readyz").await.whole(200);
    weir.terminate();
    let status = weir.wait().await;
    assert_eq!(status.code(), Some(0), "{}", weir.log());
    assert!(weir.log().contains("library/alpine"), "{}", weir.log());
}

#[tokio::test]
async fn requests_under_way_are_finished_after_sigterm() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 2_000_000);
    let gate = Gate::ajar(1_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut weir = House::in_front_of(&upstream).spawn().await;
    let client = weir.client();
    let mut open = client.open(&blob_path("acme/app", &blob.digest)).await;
    open.read_exact(500_000).await;
    weir.terminate();
    eventually_async("nobody new is let in", || {
        let client = client.clone();
        async move { client.try_send(http::Method::GET, "/v2/").await.is_err() }
    })
    .await;
    gate.open();
    assert_eq!(open.rest().await.whole(200), &blob.bytes[500_000..]);
    assert_eq!(weir.wait().await.code(), Some(0), "{}", weir.log());
}

#[tokio::test]
async fn an_invalid_configuration_is_told_whole_and_ends_with_two() {
    let house = House::empty().config(
        r#"
        [server]
        listne = "127.0.0.1:0"
        [tags]
        fresh_for = "soon"
        [cache]
        max_size = "-1"
        "#,
    );
    for arguments in [&["serve"][..], &["check"], &[]] {
        let output = house.run(arguments).await;
        let text = assert_one_line(&output, 2);
        let text = text + &String::from_utf8_lossy(&output.stdout);
        for key in ["listne", "listen", "tags.fresh_for", "cache.max_size"] {
            assert!(
                text.contains(key),
                "{arguments:?}: {key} is missing in {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_good_configuration_passes_the_check() {
    let output = House::empty().run(&["check"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn a_directory_in_use_ends_with_one_clear_line() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let output = house.run(&["serve", "--log-level", "error"]).await;
    let text = assert_one_line(&output, 1);
    let directory = house.cache_directory().display().to_string();
    let named: Vec<_> = text.lines().filter(|l| l.contains(&directory)).collect();
    assert_eq!(named.len(), 1, "{text}");
    weir.client().get("/v2/").await.whole(200);
}

#[tokio::test]
async fn a_busy_port_ends_with_one_clear_line() {
    let upstream = Upstream::start().await;
    let busy = upstream.endpoint().replace("http://", "");
    let house = House::empty().config(&format!("[server]\nlisten = {busy:?}"));
    let output = house.run(&["serve", "--log-level", "error"]).await;
    let text = assert_one_line(&output, 1);
    let named: Vec<_> = text.lines().filter(|line| line.contains(&busy)).collect();
    assert_eq!(named.len(), 1, "{text}");
}

#[tokio::test]
async fn wrong_usage_ends_with_two() {
    let house = House::empty();
    for arguments in [&["sevre"][..], &["--no-such-flag"]] {
        let output = house.run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let version = house.run(&["--version"]).await;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(text.starts_with("weir "), "{text}");
}
