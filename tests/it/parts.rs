//! Parts of blobs that are not all there yet: what lazy clients ask for, and what nobody gets before
//! it is known to be right.

use crate::support::{Content, Ended, Fault, Gate, HeldTime, House, On, Upstream, Weir, blob_path};

const MIB: usize = 1 << 20;

/// A blob whose first transfer stalls early, and weir in held time.
async fn stalling(length: usize, time: &HeldTime) -> (Upstream, Content, Weir, Gate) {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", length);
    let gate = Gate::ajar(64 << 10);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = House::in_front_of(&upstream)
        .clock(time.clock())
        .start()
        .await;
    (upstream, blob, weir, gate)
}

#[tokio::test]
async fn the_end_of_a_cold_blob_that_is_slow_in_coming_is_there_at_once() {
    let time = HeldTime::hold();
    let (upstream, blob, weir, gate) = stalling(8 * MIB, &time).await;
    let path = blob_path("acme/app", &blob.digest);
    let client = weir.client();
    // The very first to ask is a lazy client, and what it wants is the footer.
    let footer = client.get_range(&path, "bytes=-65536");
    let (footer, passed) = time.pass_during(footer).await;
    assert_eq!(footer.whole(206), &blob.bytes[8 * MIB - 65536..]);
    assert!(passed.as_secs() < 3, "{passed:?}");
    let entry = client.get_range(&path, "bytes=4000000-4099999");
    let (entry, _) = time.pass_during(entry).await;
    assert_eq!(entry.whole(206), &blob.bytes[4_000_000..4_100_000]);

    gate.open();
    assert_eq!(client.get(&path).await.whole(200), &blob.bytes);
    let wholes = upstream.requests(On::Blob);
    let wholes = wholes.iter().filter(|seen| seen.header("range").is_none());
    assert_eq!(wholes.count(), 1);
    let twice = 65536 + 100_000;
    assert_eq!(upstream.bytes_sent(On::Blob), blob.length() as u64 + twice);
}

#[tokio::test]
async fn what_is_fetched_ahead_never_becomes_a_second_transfer() {
    let time = HeldTime::hold();
    let (upstream, blob, weir, gate) = stalling(8 * MIB, &time).await;
    let path = blob_path("acme/app", &blob.digest);
    let ranges = [2, 4, 6].map(|mib| {
        let (client, path, from) = (weir.client(), path.clone(), mib * MIB);
        let range = format!("bytes={from}-{}", from + 3 * MIB / 2 - 1);
        tokio::spawn(async move { (from, client.get_range(&path, &range).await) })
    });
    let two_are_there = async {
        while ranges.iter().filter(|range| range.is_finished()).count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    time.pass_during(two_are_there).await;
    gate.open();
    for range in ranges {
        let (from, answer) = time.pass_during(range).await.0.expect("an answer");
        assert_eq!(answer.whole(206), &blob.bytes[from..from + 3 * MIB / 2]);
    }
    assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    let limit = blob.length() + 4 * MIB;
    assert!(upstream.bytes_sent(On::Blob) <= limit as u64);
}

#[tokio::test]
async fn several_parts_of_a_growing_blob_come_in_one_answer() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 400_000);
    let gate = Gate::ajar(1000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let client = weir.client().with("range", "bytes=0-99,200000-200099,-100");
    let open = client.open(&path).await;
    gate.open();
    let answer = open.rest().await;
    let body = answer.whole(206);
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("multipart/byteranges"), "{kind}");
    for part in [0..100, 200_000..200_100, 399_900..400_000] {
        let wanted = &blob.bytes[part.clone()];
        assert!(body.windows(100).any(|window| window == wanted), "{part:?}");
    }
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_part_is_given_only_to_who_has_the_rest_of_the_same() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 100_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let client = weir.client().with("range", "bytes=50000-");
    let other = client.clone().with("if-range", "\"another\"");
    assert_eq!(other.get(&path).await.whole(200), &blob.bytes);
    let tag = client.head(&path).await;
    let tag = tag.header("etag").expect("an entity tag").to_owned();
    let same = client.with("if-range", &tag);
    assert_eq!(same.get(&path).await.whole(206), &blob.bytes[50_000..]);
}

#[tokio::test]
async fn the_last_byte_of_a_wrong_blob_is_given_to_nobody() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 100_000);
    upstream.always(On::Blob, Fault::CorruptAt(7));
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    for range in ["bytes=-1", "bytes=0-", "bytes=0-49999,50000-"] {
        let part = weir.client().get_range(&path, range).await;
        assert_eq!(part.ended, Ended::Closed, "{range}");
    }
    assert!(weir.stored().is_empty());
}

/// To HTTP/1.0 the end of the connection is the end of the body, so a cut looks like an end.
#[tokio::test]
async fn a_wrong_blob_of_unknown_length_is_never_complete() {
    let upstream = Upstream::start().await;
    let right = Content::noise(4, 100_000);
    let mut bytes = vec![b'x'; 100_000];
    bytes[0] = b'!';
    let wrong = Content {
        bytes: bytes.into(),
        ..right
    };
    upstream.put_blob("acme/app", &wrong);
    upstream.always(On::Blob, Fault::NoLength);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &wrong.digest);
    let request = format!("GET {path} HTTP/1.0\r\nhost: weir\r\n\r\n");
    let answer = weir.client().raw(request.as_bytes()).await;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert!(body.len() < wrong.length(), "{} bytes", body.len());
}

#[tokio::test]
async fn a_blob_of_unknown_length_comes_whole() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 300_000);
    upstream.always(On::Blob, Fault::NoLength);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    for _ in 0..2 {
        assert_eq!(weir.client().get(&path).await.whole(200), &blob.bytes);
    }
    assert_eq!(upstream.count(On::Blob), 1);
}
