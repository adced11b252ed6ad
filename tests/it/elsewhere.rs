//! When it does not go on where it began: other registries, other endpoints, several connections,
//! and past a cache without room.

use std::time::Duration;

use crate::support::{
    Content, Ended, Fault, Gate, HeldTime, House, On, Upstream, Weir, blob_path, eventually,
    eventually_async,
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_flight_goes_on_from_where_a_follower_came_for_it() {
    let time = HeldTime::hold();
    let (hub, other) = (Upstream::start().await, Upstream::start().await);
    let blob = hub.blob("acme/app", MIB);
    other.put_blob("copy/app", &blob);
    let gate = Gate::ajar(MIB / 2);
    hub.fault(On::Blob, Fault::Behind(gate));
    let house = House::in_front_of(&hub).registry("ghcr.io", &other);
    let weir = house.clock(time.clock()).start().await;
    let mut first = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    first.read_exact(MIB / 2).await;
    let follower = format!("/v2/ghcr.io/copy/app/blobs/{}", blob.digest);
    let second = weir.client().open(&follower).await;
    assert_eq!(other.count(On::Blob), 0, "one transfer serves both");

    hub.go_away().await;
    let (first, _) = time.pass_during(first.rest()).await;
    assert_eq!(first.whole(200), &blob.bytes[MIB / 2..]);
    assert_eq!(second.rest().await.whole(200), &blob.bytes);
    assert_eq!(other.count(On::Blob), 1);
    assert_eq!(other.bytes_sent(On::Blob), (MIB / 2) as u64);
}

#[tokio::test]
async fn after_wrong_bytes_the_next_endpoint_is_asked() {
    let (bad, good) = (Upstream::start().await, Upstream::start().await);
    let blob = good.blob("acme/app", MIB);
    bad.put_blob("acme/app", &blob);
    bad.always(On::Blob, Fault::CorruptAt(MIB / 2));
    let endpoints = format!("endpoints = [{:?}, {:?}]", bad.endpoint(), good.endpoint());
    let house =
        House::in_front_of(&bad).config(&format!("[registries.\"docker.io\"]\n{endpoints}"));
    let weir = house.start().await;
    let path = blob_path("acme/app", &blob.digest);
    let cut = weir.client().get(&path).await;
    assert_eq!(cut.ended, Ended::Closed);
    assert!(weir.stored().is_empty());
    assert_eq!(weir.staged_bytes(), 0);
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    assert_eq!((bad.count(On::Blob), good.count(On::Blob)), (1, 1));
}

/// A cache that is smaller than the blob that is asked for.
async fn tight(blob: &Content) -> (Upstream, Weir, String) {
    let upstream = Upstream::start().await;
    upstream.put_blob("acme/app", blob);
    let house = House::in_front_of(&upstream).config("[cache]\nmax_size = \"1MiB\"");
    let path = blob_path("acme/app", &blob.digest);
    (upstream, house.start().await, path)
}

#[tokio::test]
async fn what_has_no_room_is_streamed_through() {
    let blob = Content::noise(5, 3 * MIB);
    let (_upstream, weir, path) = tight(&blob).await;
    for _ in 0..2 {
        assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    }
    assert!(weir.stored().is_empty());
    assert_eq!(weir.staged_bytes(), 0);
    let scrape = weir.metrics().await;
    assert_eq!(scrape.value("weir_uncached_transfers_total", &[]), 2.0);
}

#[tokio::test]
async fn what_is_streamed_through_and_wrong_is_never_complete() {
    let blob = Content::noise(5, 3 * MIB);
    let (upstream, weir, path) = tight(&blob).await;
    for place in [0, 3 * MIB - 1] {
        upstream.heal();
        upstream.always(On::Blob, Fault::CorruptAt(place));
        let answer = weir.client().get(&path).await;
        assert_eq!(answer.ended, Ended::Closed);
        assert!(answer.bytes.len() < blob.length());
    }
}

/// A blob whose first connection gives a MiB in a second and a half and is slow from then on.
async fn over_a_slow_connection(ranges: bool, time: &HeldTime) -> (Upstream, Content) {
    let upstream = Upstream::with(|settings| settings.ranges = ranges).await;
    let blob = upstream.blob("acme/app", 32 * MIB);
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let house = House::in_front_of(&upstream)
        .config("[upstream]\nparallel_above = \"1MiB\"")
        .clock(time.clock());
    let weir = house.start().await;
    let mut open = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    let first = open.read_exact(MIB / 2).await;
    time.pass(Duration::from_millis(1500)).await;
    gate.let_through(1);
    eventually("others help", || upstream.count(On::Blob) > 1).await;
    // Up to where the others begin; behind that this one gives nothing.
    gate.let_through(4 * MIB);
    let (rest, _) = time.pass_during(open.rest()).await;
    assert_eq!(first, blob.bytes[..MIB / 2]);
    assert!(*rest.whole(200) == blob.bytes[MIB / 2..]);
    (upstream, blob)
}

#[tokio::test]
async fn a_slow_connection_is_helped_out_by_others() {
    let time = HeldTime::hold();
    let (upstream, blob) = over_a_slow_connection(true, &time).await;
    let requests = upstream.requests(On::Blob);
    assert!(requests.len() > 4, "{}", requests.len());
    let sent = upstream.bytes_sent(On::Blob) as f64 / blob.length() as f64;
    assert!(sent <= 1.02, "{sent}");
}

#[tokio::test]
async fn an_upstream_that_ignores_ranges_is_read_over_one_connection() {
    let time = HeldTime::hold();
    let (upstream, _) = over_a_slow_connection(false, &time).await;
    assert!(upstream.count(On::Blob) > 1);
}

#[tokio::test]
async fn a_tag_and_its_digest_that_are_asked_for_together_cost_one_pull() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client()
        .manifest_head("acme/app", "1")
        .await
        .whole(200);
    let gate = Gate::shut();
    upstream.always(On::Manifest, Fault::SilentBehind(gate.clone()));
    let digest = image.manifest.digest;
    let asked = ["1".to_owned(), digest.to_string()].map(|reference| {
        let client = weir.client();
        tokio::spawn(async move { client.manifest("acme/app", reference).await })
    });
    eventually("the upstream is asked", || upstream.count(On::Manifest) > 0).await;
    gate.open();
    for answer in asked {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.whole(200), &image.manifest.bytes);
    }
    assert_eq!(upstream.count(On::Manifest), 1);
}

#[tokio::test]
async fn a_tag_that_moved_to_a_manifest_that_is_here_names_its_blobs() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let newer = upstream.image("acme/other:1");
    let house = House::in_front_of(&upstream).config("[tags]\nfresh_for = \"0s\"");
    let weir = house.start().await;
    weir.client().pull("acme/app", "1").await;
    weir.client().pull("acme/other", "1").await;
    upstream.push("acme/app:1", &newer);
    weir.client().manifest("acme/app", "1").await.whole(200);
    upstream.forget();
    let layer = &newer.layers[0];
    let answer = weir.client().blob("acme/app", &layer.digest).await;
    assert_eq!(answer.whole(200), &layer.bytes);
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn those_who_join_a_flight_ask_the_upstream_nothing() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", MIB);
    let gate = Gate::ajar(1000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(weir.client().open(&path).await);
    }
    gate.open();
    for reader in readers {
        assert_eq!(reader.rest().await.whole(200), &blob.bytes);
    }
    assert_eq!(upstream.count(On::Blob), 1);
    assert_eq!(upstream.count(On::BlobHead), 0);
}

#[tokio::test]
async fn a_tag_that_is_a_little_old_is_answered_first_and_asked_about_then() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let older = upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream)
        .config("[tags]\nfresh_for = \"60s\"\nrevalidate_for = \"60s\"")
        .clock(time.clock());
    let weir = house.start().await;
    let client = weir.client();
    client.manifest("acme/app", "1").await.whole(200);
    let newer = upstream.image("acme/app:1");
    time.pass(Duration::from_secs(90)).await;
    let gate = Gate::shut();
    upstream.fault(On::ManifestHead, Fault::SilentBehind(gate.clone()));
    let answer = client.manifest("acme/app", "1").await;
    assert_eq!(answer.whole(200), &older.manifest.bytes);
    assert_eq!(answer.header("age"), Some("90"));
    gate.open();
    eventually_async("the newer one is known", async || {
        *client.manifest("acme/app", "1").await.whole(200) == newer.manifest.bytes
    })
    .await;
    assert_eq!(upstream.count(On::ManifestHead), 1);
}
