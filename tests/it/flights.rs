//! One upstream transfer per blob, however many clients ask: early, late, slow or leaving.

use std::time::Duration;

use crate::support::{
    Content, Ended, Fault, Gate, HeldTime, House, On, Upstream, Weir, blob_path, eventually,
};

const MIB: usize = 1 << 20;

/// A blob, and a path to it through weir.
async fn cold_blob(length: usize) -> (Upstream, Content, Weir, String) {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", length);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    (upstream, blob, weir, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_of_a_cold_blob_cost_one_transfer() {
    let (upstream, blob, weir, path) = cold_blob(64 * MIB).await;
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));

    let mut slow = weir.client().slow().open(&path).await;
    slow.read_exact(1000).await;
    let mut leaving = weir.client().open(&path).await;
    leaving.read_exact(1000).await;
    let others: Vec<_> = (0..48)
        .map(|_| {
            let (client, path) = (weir.client(), path.clone());
            tokio::spawn(async move { client.open(&path).await.hash_rest().await })
        })
        .collect();
    gate.let_through(8 * MIB);
    leaving.read_exact(4 * MIB).await;
    drop(leaving);
    gate.open();

    for other in others {
        let (digest, length, ended) = other.await.expect("a body");
        assert_eq!((length, ended), (blob.length() as u64, Ended::Whole));
        assert_eq!(digest, blob.digest);
    }
    // The slow one has read a thousand bytes while the others finished.
    let rest = slow.rest().await;
    assert_eq!(rest.whole(200), &blob.bytes[1000..]);
    assert_eq!(upstream.count(On::Blob), 1);
    assert_eq!(upstream.bytes_sent(On::Blob), blob.length() as u64);
}

#[tokio::test]
async fn a_late_client_joins_the_flight() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut early = weir.client().open(&path).await;
    early.read_exact(MIB / 2).await;

    let mut late = weir.client().open(&path).await;
    let from_the_start = late.read_exact(MIB / 2).await;
    assert_eq!(from_the_start, blob.bytes[..MIB / 2]);
    gate.open();
    assert_eq!(late.rest().await.whole(200), &blob.bytes[MIB / 2..]);
    assert_eq!(early.rest().await.whole(200), &blob.bytes[MIB / 2..]);
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_fill_outlives_its_clients() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut only = weir.client().open(&path).await;
    only.read_exact(1000).await;
    drop(only);
    gate.open();
    eventually("the blob is stored", || {
        weir.stored() == [blob.digest.hex()]
    })
    .await;
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_does_not_end_the_fill() {
    let (upstream, blob, weir, path) = cold_blob(MIB).await;
    let gate = Gate::shut();
    upstream.fault(On::Blob, Fault::SilentBehind(gate.clone()));
    let client = weir.client();
    let asked = path.clone();
    let leaving = tokio::spawn(async move { client.get(&asked).await });
    eventually("the upstream is asked", || upstream.count(On::Blob) == 1).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    gate.open();
    eventually("the blob is stored", || {
        weir.stored() == [blob.digest.hex()]
    })
    .await;
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_slow_client_slows_nobody() {
    let (upstream, blob, weir, path) = cold_blob(16 * MIB).await;
    let mut slow = weir.client().slow().open(&path).await;
    slow.read_exact(1).await;
    let quick = weir.client().get(&path).await;
    assert_eq!(quick.whole(200), &blob.bytes);
    eventually("the blob is stored", || {
        weir.stored() == [blob.digest.hex()]
    })
    .await;
    assert_eq!(slow.rest().await.whole(200), &blob.bytes[1..]);
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn clients_of_one_flight_ask_for_one_token() {
    let (upstream, blob, weir, path) = cold_blob(MIB).await;
    let pulls: Vec<_> = (0..20)
        .map(|_| {
            let (client, path) = (weir.client(), path.clone());
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.expect("an answer").whole(200), &blob.bytes);
    }
    assert_eq!(upstream.count(On::Token), 1);
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_break_is_resumed_where_it_was_and_nobody_notices() {
    for fault in [Fault::CutAfter(700_000), Fault::ResetAfter(700_000)] {
        let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
        upstream.fault(On::Blob, fault);
        let answer = weir.client().get(&path).await;
        assert_eq!(answer.whole(200), &blob.bytes);
        let asked = upstream.requests(On::Blob);
        assert_eq!(asked.len(), 2);
        let range = asked[1].header("range").expect("a resume");
        assert!(range.starts_with("bytes="), "{range}");
        assert!(asked[1].sent() < blob.length() as u64);
    }
}

#[tokio::test]
async fn a_break_is_survived_where_the_upstream_knows_no_ranges() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    upstream.set(|settings| settings.ranges = false);
    upstream.fault(On::Blob, Fault::CutAfter(700_000));
    let answer = weir.client().get(&path).await;
    assert_eq!(answer.whole(200), &blob.bytes);
    let stored = || weir.stored() == [blob.digest.hex()];
    eventually("the blob is stored", stored).await;
}

#[tokio::test]
async fn a_break_is_resumed_although_the_signed_address_has_expired() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut open = weir.client().open(&path).await;
    open.read_exact(MIB / 2).await;
    upstream.expire_signed_addresses();
    upstream.cdn_restarts().await;
    assert_eq!(open.rest().await.whole(200), &blob.bytes[MIB / 2..]);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_the_next_one_tries_again() {
    let (upstream, blob, weir, path) = cold_blob(MIB).await;
    upstream.remove(&blob.digest);
    let pulls: Vec<_> = (0..10)
        .map(|_| {
            let (client, path) = (weir.client(), path.clone());
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    for pull in pulls {
        let answer = pull.await.expect("an answer");
        assert_eq!(answer.status, 404);
        assert_eq!(answer.error_code(), "BLOB_UNKNOWN");
    }
    upstream.put_blob("acme/app", &blob);
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
}

#[tokio::test]
async fn a_blob_on_its_way_is_given_only_in_a_repository_that_has_it() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    upstream.image("acme/other:1");
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut open = weir.client().open(&path).await;
    open.read_exact(MIB / 2).await;
    let elsewhere = weir.client().blob("acme/other", &blob.digest).await;
    assert_eq!(elsewhere.status, 404);
    gate.open();
    assert_eq!(open.rest().await.whole(200), &blob.bytes[MIB / 2..]);
}

#[tokio::test]
async fn a_blob_on_its_way_in_one_repository_is_read_along_in_another() {
    let (upstream, blob, weir, path) = cold_blob(2 * MIB).await;
    upstream.image("acme/other:1");
    upstream.put_blob("acme/other", &blob);
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let mut one = weir.client().open(&path).await;
    one.read_exact(MIB / 2).await;
    let other = blob_path("acme/other", &blob.digest);
    let mut other = weir.client().open(&other).await;
    other.read_exact(MIB / 2).await;
    gate.open();
    assert_eq!(one.rest().await.whole(200), &blob.bytes[MIB / 2..]);
    assert_eq!(other.rest().await.whole(200), &blob.bytes[MIB / 2..]);
    assert_eq!(upstream.bytes_sent(On::Blob), blob.length() as u64);
}

#[tokio::test]
async fn a_slow_connection_gets_company_and_the_blob_is_still_fetched_once() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 48 * MIB);
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let house = House::in_front_of(&upstream)
        .config("[upstream]\nparallel_above = \"16MiB\"")
        .clock(time.clock());
    let weir = house.start().await;
    let path = blob_path("acme/app", &blob.digest);
    let mut open = weir.client().open(&path).await;
    open.read_exact(MIB / 2).await;
    time.pass(Duration::from_secs(2)).await;
    // The first connection stays slow; the others are not behind its gate.
    gate.let_through(7 * MIB);
    let (rest, _) = time.pass_during(open.rest()).await;
    assert_eq!(rest.whole(200), &blob.bytes[MIB / 2..]);
    assert!(upstream.count(On::Blob) > 1, "others joined");
    let sent = upstream.bytes_sent(On::Blob);
    let most = (blob.length() + 4 * MIB) as u64;
    assert!(sent <= most, "{sent}");
}
