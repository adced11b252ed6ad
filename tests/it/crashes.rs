//! Killed in the middle: whatever is on disk afterwards is right, and the pull works.

use std::path::PathBuf;

use crate::support::house::blobs;
use crate::support::{Ended, Fault, Gate, House, On, Upstream, blob_path, disk, eventually};

const LAYER_BYTES: usize = 4_000_000;

fn assert_only_right_files(house: &House) {
    let wrong = disk::wrong_files(&house.cache_directory());
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_fill_leaves_nothing_wrong() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream);
    for bytes_until_the_kill in [1, 100_000, LAYER_BYTES / 2, LAYER_BYTES - 1] {
        let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
        let layer = &image.layers[0];
        let gate = Gate::ajar(bytes_until_the_kill);
        upstream.fault(On::Blob, Fault::Behind(gate));
        upstream.forget();
        let weir = house.spawn().await;
        let client = weir.client();
        client
            .manifest("acme/app", image.manifest.digest)
            .await
            .whole(200);
        let path = blob_path("acme/app", &layer.digest);
        let mut open = client.open(&path).await;
        open.read_exact(1).await;
        let all_sent = || upstream.bytes_sent(On::Blob) == bytes_until_the_kill as u64;
        eventually("the upstream has sent what it may", all_sent).await;
        weir.kill().await;
        assert_ne!(open.rest().await.ended, Ended::Whole);
        assert_only_right_files(&house);
        let stored = disk::names(&blobs(&house.cache_directory()));
        assert!(!stored.contains(&layer.digest.hex()));

        let weir = house.spawn().await;
        let pulled = weir.client().blob("acme/app", &layer.digest).await;
        assert_eq!(pulled.whole(200), &layer.bytes);
        assert_only_right_files(&house);
        weir.kill().await;
    }
}

#[tokio::test]
async fn a_fill_that_was_killed_goes_on_where_it_was() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", LAYER_BYTES);
    let house = House::in_front_of(&upstream);
    let gate = Gate::ajar(3_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate));
    let weir = house.spawn().await;
    let path = blob_path("acme/app", &blob.digest);
    let mut open = weir.client().open(&path).await;
    open.read_exact(3_000_000).await;
    weir.kill().await;
    let weir = house.spawn().await;
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    let resumed = upstream.requests(On::Blob);
    let resumed = resumed.last().expect("a second request");
    assert!(resumed.header("range").is_some());
    assert!(resumed.sent() < LAYER_BYTES as u64);
}

#[tokio::test]
async fn a_kill_among_many_pulls_leaves_nothing_wrong() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream);
    for round in 0..5 {
        let name = format!("acme/app{round}");
        let image = upstream.image_of(&format!("{name}:1"), &[300_000; 8]);
        let weir = house.spawn().await;
        let pulls: Vec<_> = image
            .layers
            .iter()
            .map(|layer| {
                let (client, path) = (weir.client(), blob_path(&name, &layer.digest));
                tokio::spawn(async move { client.try_send(http::Method::GET, &path).await })
            })
            .collect();
        let enough = 100_000 * (round + 1);
        eventually("some bytes came", || {
            upstream.bytes_sent(On::Blob) >= enough
        })
        .await;
        weir.kill().await;
        for pull in pulls {
            // However each of them ended.
            let _ = pull.await;
        }
        assert_only_right_files(&house);
        let weir = house.spawn().await;
        assert_eq!(weir.client().pull(&name, "1").await.len(), 10);
        weir.kill().await;
        upstream.forget();
    }
}

#[tokio::test]
async fn a_process_that_is_killed_gives_its_directory_free() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let pulled = weir.client().pull("acme/app", "1").await;
    let folder = blobs(&house.cache_directory());
    let stored = || disk::names(&folder).len() == pulled.len();
    eventually("everything is stored", stored).await;
    weir.kill().await;
    let weir = house.spawn().await;
    upstream.forget();
    weir.client().pull("acme/app", "1").await;
    assert_eq!(upstream.count(On::Blob), 0);
}
