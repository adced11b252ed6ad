//! What a tag means changes: how long an answer holds, and what it costs to ask again.

use std::time::Duration;

use crate::support::{Fault, Gate, HeldTime, House, On, Upstream, Weir, eventually};

/// A cached image whose tag is asked about anew at every pull.
async fn cached_and_no_longer_fresh() -> (Upstream, Weir, crate::support::Image) {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream).config("[tags]\nfresh_for = \"0s\"");
    let weir = house.start().await;
    weir.client().pull("library/alpine", "3.20").await;
    upstream.forget();
    (upstream, weir, image)
}

#[tokio::test]
async fn a_fresh_tag_costs_nothing_and_after_that_one_head() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream)
        .config("[tags]\nfresh_for = \"60s\"")
        .clock(time.clock());
    let weir = house.start().await;
    let client = weir.client();
    client.manifest("library/alpine", "3.20").await.whole(200);
    upstream.forget();

    time.pass(Duration::from_secs(59)).await;
    client.manifest("library/alpine", "3.20").await.whole(200);
    assert!(upstream.all_requests().is_empty());

    time.pass(Duration::from_secs(2)).await;
    client.manifest("library/alpine", "3.20").await.whole(200);
    client
        .manifest_head("library/alpine", "3.20")
        .await
        .whole(200);
    assert_eq!(upstream.count(On::ManifestHead), 1);
    assert_eq!(upstream.count(On::Manifest), 0);
}

#[tokio::test]
async fn asking_again_about_a_tag_is_no_pull() {
    let (upstream, weir, image) = cached_and_no_longer_fresh().await;
    let answer = weir.client().manifest("library/alpine", "3.20").await;
    assert_eq!(answer.whole(200), &image.manifest.bytes);
    assert_eq!(answer.header("warning"), None);
    assert_eq!(upstream.count(On::ManifestHead), 1);
    assert_eq!(upstream.count(On::Manifest), 0);
}

#[tokio::test]
async fn a_digest_is_never_asked_about_again() {
    let (upstream, weir, image) = cached_and_no_longer_fresh().await;
    let digest = image.manifest.digest;
    weir.client()
        .manifest("library/alpine", digest)
        .await
        .whole(200);
    weir.client()
        .manifest_head("library/alpine", digest)
        .await
        .whole(200);
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn a_tag_that_moved_is_fetched_by_one_get() {
    let (upstream, weir, _) = cached_and_no_longer_fresh().await;
    let newer = upstream.image("library/alpine:3.20");
    let answer = weir.client().manifest("library/alpine", "3.20").await;
    assert_eq!(answer.whole(200), &newer.manifest.bytes);
    assert_eq!(upstream.count(On::Manifest), 1);
}

#[tokio::test]
async fn a_tag_that_vanished_is_gone() {
    let (upstream, weir, image) = cached_and_no_longer_fresh().await;
    upstream.untag("library/alpine:3.20");
    let answer = weir.client().manifest("library/alpine", "3.20").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error_code(), "MANIFEST_UNKNOWN");
    let by_digest = weir
        .client()
        .manifest("library/alpine", image.manifest.digest)
        .await;
    by_digest.whole(200);
}

#[tokio::test]
async fn a_cached_tag_is_served_with_a_warning_while_the_upstream_cannot_answer() {
    let (upstream, weir, image) = cached_and_no_longer_fresh().await;
    let client = weir.client();
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::quota_used_up(),
        Fault::abuse(),
        Fault::Status(403),
        Fault::ResetAfter(0),
    ] {
        upstream.always(On::Any, fault.clone());
        let answer = client.manifest("library/alpine", "3.20").await;
        assert_eq!(answer.whole(200), &image.manifest.bytes, "{fault:?}");
        let warning = answer.header("warning").unwrap_or_default();
        assert!(warning.starts_with("299 - \""), "{fault:?}: {warning}");
        assert!(warning.contains("stale"), "{fault:?}: {warning}");
        upstream.heal();
    }
    upstream.go_away().await;
    let answer = client.manifest("library/alpine", "3.20").await;
    assert!(answer.header("warning").is_some());
    client.pull("library/alpine", "3.20").await;
}

#[tokio::test]
async fn a_tag_that_is_too_stale_is_not_served() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream)
        .config("[tags]\nfresh_for = \"1m\"\nstale_for = \"1h\"")
        .clock(time.clock());
    let weir = house.start().await;
    let client = weir.client();
    client.manifest("library/alpine", "3.20").await.whole(200);
    upstream.go_away().await;
    time.pass(Duration::from_secs(1800)).await;
    let pull = client.manifest("library/alpine", "3.20");
    time.pass_during(pull).await.0.whole(200);
    time.pass(Duration::from_secs(2000)).await;
    let pull = client.manifest("library/alpine", "3.20");
    let (answer, _) = time.pass_during(pull).await;
    assert!(matches!(answer.status, 502 | 504), "{}", answer.status);
}

#[tokio::test]
async fn many_clients_of_one_tag_that_is_no_longer_fresh_cost_one_head() {
    let (upstream, weir, image) = cached_and_no_longer_fresh().await;
    let gate = Gate::shut();
    upstream.fault(On::ManifestHead, Fault::SilentBehind(gate.clone()));
    let pulls: Vec<_> = (0..20)
        .map(|_| {
            let client = weir.client();
            tokio::spawn(async move { client.manifest("library/alpine", "3.20").await })
        })
        .collect();
    let asked = || upstream.count(On::ManifestHead) == 1;
    eventually("the upstream is asked", asked).await;
    eventually("all are waiting", || pulls.iter().all(|p| !p.is_finished())).await;
    gate.open();
    for pull in pulls {
        let answer = pull.await.expect("an answer");
        assert_eq!(answer.whole(200), &image.manifest.bytes);
    }
    assert_eq!(upstream.count(On::Manifest), 0);
}

#[tokio::test]
async fn a_missing_tag_is_remembered_for_a_while() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream)
        .config("[tags]\nmissing_for = \"30s\"")
        .clock(time.clock());
    let weir = house.start().await;
    let client = weir.client();
    let first = client.manifest("library/alpine", "4").await;
    assert_eq!(first.status, 404);
    upstream.forget();
    assert_eq!(client.manifest("library/alpine", "4").await.status, 404);
    assert!(upstream.all_requests().is_empty());

    let image = upstream.image("library/alpine:4");
    time.pass(Duration::from_secs(31)).await;
    let found = client.manifest("library/alpine", "4").await;
    assert_eq!(found.whole(200), &image.manifest.bytes);
}

#[tokio::test]
async fn a_missing_blob_is_never_remembered() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let late = crate::support::Content::noise(99, 5000);
    let weir = Weir::in_front_of(&upstream).await;
    let missing = weir.client().blob("acme/app", &late.digest).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.error_code(), "BLOB_UNKNOWN");
    upstream.put_blob("acme/app", &late);
    let found = weir.client().blob("acme/app", &late.digest).await;
    assert_eq!(found.whole(200), &late.bytes);
}

#[tokio::test]
async fn an_immutable_tag_is_never_asked_about_again() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:v1");
    let house = House::in_front_of(&upstream)
        .config("[tags]\nfresh_for = \"0s\"\nimmutable = [\"*:v[0-9]*\"]");
    let weir = house.start().await;
    weir.client().manifest("acme/app", "v1").await.whole(200);
    upstream.forget();
    weir.client().manifest("acme/app", "v1").await.whole(200);
    assert!(upstream.all_requests().is_empty());
}
