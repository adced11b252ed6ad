//! Starting, stopping, and what is there afterwards.

use crate::support::house::blobs;
use crate::support::{
    Ended, Fault, Gate, House, On, Upstream, Weir, blob_path, disk, eventually, eventually_async,
};

#[tokio::test]
async fn weir_starts_without_any_network() {
    let upstream = Upstream::start().await;
    upstream.go_away().await;
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().get("/v2/").await.whole(200);
    weir.admin().get("/livez").await.whole(200);
    weir.admin().get("/readyz").await.whole(200);
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn a_restart_keeps_what_was_cached() {
    let upstream = Upstream::start().await;
    upstream.index("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let before = weir.client().pull("library/alpine", "3.20").await;
    let weir = weir.restart().await;
    upstream.forget();
    upstream.go_away().await;
    let after = weir.client().pull("library/alpine", "3.20").await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_deleted_index_costs_a_question_and_no_transfer() {
    let upstream = Upstream::start().await;
    upstream.index("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("library/alpine", "3.20").await;
    let house = weir.house().clone();
    weir.stop().await;
    let index = house.cache_directory().join("index");
    std::fs::remove_dir_all(&index).expect("the index is there");
    upstream.forget();
    let weir = house.start().await;
    weir.client().pull("library/alpine", "3.20").await;
    assert_eq!(upstream.count(On::Blob), 0);
}

#[tokio::test]
async fn a_damaged_index_is_no_reason_not_to_start() {
    let upstream = Upstream::start().await;
    upstream.index("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("library/alpine", "3.20").await;
    let house = weir.house().clone();
    weir.stop().await;
    for file in disk::files(&house.cache_directory().join("index")) {
        std::fs::write(&file, b"this is no index").expect("a file can be damaged");
    }
    let weir = house.start().await;
    weir.client().pull("library/alpine", "3.20").await;
}

#[tokio::test]
async fn a_blob_that_was_deleted_behind_its_back_is_fetched_again() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/app", "1").await;
    let layer = &image.layers[0];
    let file = blobs(&weir.cache_directory()).join(layer.digest.hex());
    eventually("the blob is stored", || file.exists()).await;
    std::fs::remove_file(file).expect("a file can be deleted");
    let answer = weir.client().blob("acme/app", &layer.digest).await;
    assert_eq!(answer.whole(200), &layer.bytes);
}

#[tokio::test]
async fn one_directory_has_one_process() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let refused = weir.house().try_start().await.err().expect("it is in use");
    assert_eq!(refused.trim().lines().count(), 1, "{refused}");
    let directory = weir.cache_directory().display().to_string();
    assert!(refused.contains(&directory), "{refused}");
    assert!(refused.contains("use"), "{refused}");
    weir.restart().await;
}

#[tokio::test]
async fn a_busy_port_is_said_in_one_line() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let address = weir.address();
    let house = House::in_front_of(&upstream).config(&format!("[server]\nlisten = \"{address}\""));
    let refused = house.try_start().await.err().expect("the port is busy");
    assert_eq!(refused.trim().lines().count(), 1, "{refused}");
    assert!(refused.contains(&address.to_string()), "{refused}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_said_in_one_line() {
    let house = House::empty();
    let file = house.file("a-file", "not a directory");
    let directory = file.join("cache");
    let house = house.config(&format!(
        "[cache]\ndirectory = {:?}",
        directory.display().to_string()
    ));
    let refused = house.try_start().await.err().expect("no directory");
    assert_eq!(refused.trim().lines().count(), 1, "{refused}");
    assert!(
        refused.contains(&*directory.display().to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_ends_with_zero() {
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
async fn a_drain_has_a_deadline_and_keeps_what_it_has() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 4_000_000);
    let gate = Gate::ajar(3_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let house = House::in_front_of(&upstream).config("[server]\ndrain_timeout = \"100ms\"");
    let weir = house.start().await;
    let path = blob_path("acme/app", &blob.digest);
    let mut open = weir.client().open(&path).await;
    open.read_exact(2_000_000).await;
    let weir = weir.restart().await;
    assert_ne!(open.rest().await.ended, Ended::Whole);

    let answer = weir.client().get(&path).await;
    assert_eq!(answer.whole(200), &blob.bytes);
    let resumed = upstream.requests(On::Blob);
    let resumed = resumed.last().expect("a second request");
    assert!(
        resumed.header("range").is_some(),
        "what was there is not fetched again"
    );
}

#[tokio::test]
async fn the_metrics_of_the_contract_are_there_from_the_start() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let metrics = weir.metrics().await;
    for (name, kind) in [
        ("container_registry_pulls_total", "counter"),
        ("container_registry_auth_failures_total", "counter"),
        ("registry_request_duration_seconds", "histogram"),
    ] {
        assert_eq!(
            metrics.types.get(name).map(String::as_str),
            Some(kind),
            "{name}"
        );
    }
    assert!(metrics.types.keys().any(|name| name.starts_with("weir_")));
    assert!(!metrics.has("rate_limit_remaining"), "absent is not zero");
}

#[tokio::test]
async fn a_pull_is_counted_once() {
    let upstream = Upstream::with(|settings| settings.quota = Some(100)).await;
    upstream.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    client.manifest_head("library/alpine", "3.20").await;
    client.manifest("library/alpine", "3.20").await;
    client.manifest("library/alpine", "3.20").await;
    client.manifest("library/alpine", "none").await;

    let metrics = weir.metrics().await;
    let pulls = |status| {
        let labels = [("registry", "docker.io"), ("status", status)];
        metrics.value("container_registry_pulls_total", &labels)
    };
    assert_eq!((pulls("success"), pulls("not_found")), (2.0, 1.0));
    let answers = metrics.value(
        "registry_request_duration_seconds_count",
        &[("registry", "docker.io"), ("kind", "manifest")],
    );
    assert_eq!(answers, 4.0);
    let hits = metrics.value(
        "registry_request_duration_seconds_count",
        &[("result", "hit")],
    );
    assert_eq!(
        hits, 1.0,
        "HEAD knows the digest only, the first GET fetches"
    );
    assert_eq!(metrics.value("docker_hub_rate_limit_remaining", &[]), 99.0);
    assert_eq!(
        metrics.value("rate_limit_total", &[("registry", "docker.io")]),
        100.0
    );
    for name in metrics.types.keys() {
        for label in metrics.labels(name) {
            assert!(
                !["image", "repository", "client", "tag"].contains(&label),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn the_admin_port_gives_no_images_and_the_other_no_metrics() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let image = weir.admin().manifest("library/alpine", "3.20").await;
    assert_eq!(image.status, 404);
    assert_eq!(weir.client().get("/metrics").await.status, 404);
    eventually("nothing was asked", || upstream.all_requests().is_empty()).await;
}
