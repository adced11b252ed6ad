//! An upstream that sends rubbish: nothing of it is stored, and nobody takes it for the real thing.

use std::path::PathBuf;

use crate::support::client::Answer;
use crate::support::{
    Content, Ended, Fault, HeldTime, House, Image, Logs, On, Upstream, Weir, disk,
};

const LAYER_BYTES: usize = 3_000_000;

/// weir in held time, so that attempts that wait for one another do not take long.
async fn house(upstream: &Upstream, time: &HeldTime) -> Weir {
    let house = House::in_front_of(upstream).clock(time.clock());
    house.start().await
}

async fn blob(weir: &Weir, time: &HeldTime, layer: &Content) -> Answer {
    let client = weir.client();
    let pull = client.blob("acme/app", &layer.digest);
    time.pass_during(pull).await.0
}

async fn manifest(weir: &Weir, time: &HeldTime, reference: String) -> Answer {
    let client = weir.client();
    let pull = client.manifest("acme/app", reference);
    time.pass_during(pull).await.0
}

/// Whether somebody could take this for the content.
fn is_believed(answer: &Answer) -> bool {
    (200..300).contains(&answer.status) && answer.ended == Ended::Whole
}

fn assert_nothing_wrong_is_stored(weir: &Weir, content: &Content) {
    let wrong = disk::wrong_files(&weir.cache_directory());
    assert_eq!(wrong, Vec::<PathBuf>::new());
    assert!(!weir.stored().contains(&content.digest.hex()));
}

#[tokio::test]
async fn a_wrong_blob_is_never_complete_and_never_stored() {
    let faults = [
        ("the first byte is wrong", Fault::CorruptAt(0)),
        (
            "a byte in the middle is wrong",
            Fault::CorruptAt(LAYER_BYTES / 2),
        ),
        ("the last byte is wrong", Fault::CorruptAt(LAYER_BYTES - 1)),
        ("too few bytes", Fault::TooShort(10)),
        ("too many bytes", Fault::TooLong(10)),
        ("fewer than promised", Fault::ClaimsMore(10)),
        ("HTML", Fault::Html),
    ];
    for (what, fault) in faults {
        let time = HeldTime::hold();
        let logs = Logs::capture();
        let upstream = Upstream::start().await;
        let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
        let layer = &image.layers[0];
        let weir = house(&upstream, &time).await;
        weir.client().manifest("acme/app", "1").await.whole(200);
        upstream.always(On::Blob, fault);
        let answer = blob(&weir, &time, layer).await;
        assert!(!is_believed(&answer), "{what}: {}", answer.status);
        assert_ne!(
            answer.ended,
            Ended::Reset,
            "{what}: containerd gives up on a reset"
        );
        assert_nothing_wrong_is_stored(&weir, layer);
        let digest = layer.digest.to_string();
        assert!(
            logs.contain(&digest),
            "{what}: the log says which: {}",
            logs.text()
        );

        upstream.heal();
        let weir = weir.restart_in(&time).await;
        let answer = blob(&weir, &time, layer).await;
        assert_eq!(answer.whole(200), &layer.bytes, "{what}");
    }
}

#[tokio::test]
async fn a_wrong_byte_that_came_once_is_fetched_again() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
    let layer = &image.layers[0];
    let weir = house(&upstream, &time).await;
    upstream.fault(On::Blob, Fault::CorruptAt(LAYER_BYTES / 2));
    assert!(!is_believed(&blob(&weir, &time, layer).await));
    let again = blob(&weir, &time, layer).await;
    assert_eq!(again.whole(200), &layer.bytes);
    let failures = weir.metrics().await;
    assert!(failures.text.contains("verification"), "{}", failures.text);
}

#[tokio::test]
async fn a_wrong_blob_of_unknown_length_is_never_complete() {
    let time = HeldTime::hold();
    let upstream = Upstream::with(|settings| settings.lengths = false).await;
    let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
    let layer = &image.layers[0];
    let weir = house(&upstream, &time).await;
    upstream.always(On::Blob, Fault::CorruptAt(LAYER_BYTES - 1));
    assert!(!is_believed(&blob(&weir, &time, layer).await));
    assert_nothing_wrong_is_stored(&weir, layer);
    upstream.heal();
    let weir = weir.restart_in(&time).await;
    assert_eq!(blob(&weir, &time, layer).await.whole(200), &layer.bytes);
}

#[tokio::test]
async fn an_endless_blob_ends_where_its_manifest_says() {
    let time = HeldTime::hold();
    let upstream = Upstream::with(|settings| settings.lengths = false).await;
    let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
    let layer = &image.layers[0];
    let weir = house(&upstream, &time).await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    upstream.fault(On::Blob, Fault::Endless);
    let answer = blob(&weir, &time, layer).await;
    assert!(!is_believed(&answer), "{}", answer.status);
    assert_ne!(answer.ended, Ended::Reset);
    assert!(answer.bytes.len() <= LAYER_BYTES, "{}", answer.bytes.len());
    assert_nothing_wrong_is_stored(&weir, layer);
    assert_eq!(weir.staged_bytes(), 0, "nothing of it is kept");
    // What was under way when weir had enough may still have come.
    let sent = upstream.bytes_sent(On::Blob);
    assert!(sent < 20 * LAYER_BYTES as u64, "{sent}");
    assert_eq!(blob(&weir, &time, layer).await.whole(200), &layer.bytes);
}

#[tokio::test]
async fn a_small_wrong_blob_is_not_even_begun() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = house(&upstream, &time).await;
    upstream.always(On::Blob, Fault::CorruptAt(0));
    let answer = blob(&weir, &time, &image.config).await;
    assert!(!is_believed(&answer), "{}", answer.status);
    assert_nothing_wrong_is_stored(&weir, &image.config);
}

fn manifest_faults() -> [(&'static str, Fault); 6] {
    let other = Content::of("another").digest.to_string();
    [
        ("HTML", Fault::Html),
        ("endless", Fault::Endless),
        ("cut off", Fault::TooShort(20)),
        ("fewer bytes than promised", Fault::ClaimsMore(20)),
        ("a wrong byte", Fault::CorruptAt(30)),
        ("another digest in the header", Fault::DigestHeader(other)),
    ]
}

async fn assert_refused(what: &str, fault: Fault, by_digest: bool) {
    let time = HeldTime::hold();
    let logs = Logs::capture();
    let upstream = Upstream::start().await;
    let image: Image = upstream.image("acme/app:1");
    let weir = house(&upstream, &time).await;
    upstream.always(On::Manifest, fault);
    let reference = if by_digest {
        image.manifest.digest.to_string()
    } else {
        "1".to_owned()
    };
    let answer = manifest(&weir, &time, reference.clone()).await;
    assert_eq!(answer.status, 502, "{what}: {}", answer.text());
    assert_eq!(answer.ended, Ended::Whole, "{what}");
    let message = answer.error_message();
    assert!(message.contains("docker.io"), "{what}: {message}");
    assert_eq!(weir.stored(), [""; 0], "{what}");
    assert_eq!(weir.staged_bytes(), 0, "{what}");
    assert!(logs.contain("acme/app"), "{what}: {}", logs.text());
    let most = upstream.requests(On::Manifest).len() as u64 * (16 << 20);
    assert!(
        upstream.bytes_sent(On::Manifest) < most,
        "{what}: reading has an end"
    );

    upstream.heal();
    let weir = weir.restart_in(&time).await;
    let answer = manifest(&weir, &time, reference).await;
    assert_eq!(answer.whole(200), &image.manifest.bytes, "{what}");
}

#[tokio::test]
async fn a_wrong_manifest_by_tag_is_refused() {
    for (what, fault) in manifest_faults() {
        assert_refused(what, fault, false).await;
    }
}

#[tokio::test]
async fn a_wrong_manifest_by_digest_is_refused() {
    for (what, fault) in manifest_faults() {
        // Who asks by digest does not need the header.
        if !matches!(fault, Fault::DigestHeader(_)) {
            assert_refused(what, fault, true).await;
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_ends_with_an_orderly_close() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let image = upstream.image_of("acme/app:1", &[LAYER_BYTES]);
    let layer = &image.layers[0];
    let weir = house(&upstream, &time).await;
    let gate = crate::support::Gate::ajar(1_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate));
    let path = crate::support::blob_path("acme/app", &layer.digest);
    let mut open = weir.client().open(&path).await;
    open.read_exact(500_000).await;
    upstream.go_away().await;
    let (rest, _) = time.pass_during(open.rest()).await;
    assert_eq!(rest.ended, Ended::Closed);

    upstream.come_back().await;
    let weir = weir.restart_in(&time).await;
    let answer = blob(&weir, &time, layer).await;
    assert_eq!(answer.whole(200), &layer.bytes);
}
