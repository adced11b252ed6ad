//! Blobs: cold and warm, whole and in part, on disk as any OCI tool expects them.

use weir::oci::Algorithm;

use crate::support::content::noise;
use crate::support::{Content, Fault, Gate, On, Upstream, Weir, blob_path, disk, eventually};

#[tokio::test]
async fn a_cold_blob_costs_one_transfer_and_a_warm_one_nothing() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let layer = &image.layers[0];
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    client.manifest("acme/app", "1").await.whole(200);
    let cold = client.blob("acme/app", &layer.digest).await;
    assert_eq!(cold.whole(200), &layer.bytes);
    assert_eq!(upstream.count(On::Blob), 1);
    assert_eq!(upstream.bytes_sent(On::Blob), layer.length() as u64);

    upstream.go_away().await;
    let warm = client.blob("acme/app", &layer.digest).await;
    assert_eq!(warm.whole(200), &layer.bytes);
    for answer in [&cold, &warm] {
        let digest = layer.digest.to_string();
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
        assert_eq!(answer.length_header(), Some(layer.length()));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
}

#[tokio::test]
async fn a_blob_without_a_manifest_is_fetched_too() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 70_000);
    let weir = Weir::in_front_of(&upstream).await;
    for _ in 0..2 {
        let answer = weir.client().blob("acme/app", &blob.digest).await;
        assert_eq!(answer.whole(200), &blob.bytes);
    }
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn an_empty_blob_and_one_by_sha512_are_blobs() {
    let upstream = Upstream::start().await;
    let empty = Content::of("");
    let wide = Content::named_by(Algorithm::Sha512, noise(3, 100_000));
    upstream.put_blob("acme/app", &empty);
    upstream.put_blob("acme/app", &wide);
    let weir = Weir::in_front_of(&upstream).await;
    for blob in [&empty, &wide] {
        for _ in 0..2 {
            let answer = weir.client().blob("acme/app", &blob.digest).await;
            assert_eq!(answer.whole(200), &blob.bytes);
        }
    }
    let folder = weir.cache_directory().join("blobs/sha512");
    let stored = || disk::names(&folder) == [wide.digest.hex()];
    eventually("the blob is stored", stored).await;
}

#[tokio::test]
async fn what_a_client_accepts_to_be_encoded_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client().with("accept-encoding", "zstd, gzip, deflate");
    client.manifest("acme/app", "1").await.whole(200);
    let layer = &image.layers[0];
    let answer = client.blob("acme/app", &layer.digest).await;
    assert_eq!(answer.whole(200), &layer.bytes);
    assert_eq!(answer.header("content-encoding"), None);
    for seen in upstream.all_requests() {
        let asked = seen.header("accept-encoding").unwrap_or("identity");
        assert_eq!(asked, "identity", "{}", seen.uri);
    }
}

#[tokio::test]
async fn head_of_a_blob_tells_its_length_and_fetches_nothing() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 70_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let cold = weir.client().head(&path).await;
    assert!(cold.whole(200).is_empty());
    assert_eq!(cold.length_header(), Some(70_000));
    weir.client().get(&path).await.whole(200);
    upstream.forget();
    let warm = weir.client().head(&path).await;
    assert_eq!(warm.length_header(), Some(70_000));
    assert!(upstream.all_requests().is_empty());
}

#[tokio::test]
async fn the_first_bytes_leave_when_the_upstreams_first_bytes_are_there() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 3_000_000);
    let gate = Gate::ajar(100_000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = Weir::in_front_of(&upstream).await;
    let mut open = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    assert_eq!(open.read_exact(100_000).await, blob.bytes[..100_000]);
    gate.let_through(1);
    assert_eq!(open.read_exact(1).await[..], blob.bytes[100_000..100_001]);
    gate.open();
    assert_eq!(open.rest().await.whole(200), &blob.bytes[100_001..]);
}

#[tokio::test]
async fn a_blob_is_given_only_in_a_repository_that_has_it() {
    let upstream = Upstream::start().await;
    let secret = upstream.image("acme/secret:1");
    upstream.image("acme/open:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/secret", "1").await;
    let layer = &secret.layers[0];
    let elsewhere = weir.client().blob("acme/open", &layer.digest).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(elsewhere.error_code(), "BLOB_UNKNOWN");
    let head = weir
        .client()
        .head(&blob_path("acme/open", &layer.digest))
        .await;
    assert_eq!(head.status, 404);
}

#[tokio::test]
async fn a_blob_of_two_repositories_is_fetched_and_stored_once() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/one:1");
    upstream.push("acme/two:1", &image);
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/one", "1").await;
    weir.client().pull("acme/two", "1").await;
    assert_eq!(upstream.count(On::Blob), 3);
}

#[tokio::test]
async fn the_directory_is_an_image_layout() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/app", "1").await;
    let directory = weir.cache_directory();
    let layout = std::fs::read_to_string(directory.join("oci-layout")).expect("a layout file");
    assert!(layout.contains("imageLayoutVersion"), "{layout}");
    let mut expected: Vec<_> = image.blobs().map(|blob| blob.digest.hex()).collect();
    expected.push(image.manifest.digest.hex());
    expected.sort();
    eventually("everything is published", || weir.stored() == expected).await;
    assert_eq!(
        disk::wrong_files(&directory),
        [""; 0].map(std::path::PathBuf::from)
    );
    assert_eq!(weir.staged_bytes(), 0);
}
