//! Parts of blobs: cached, cold, and on their way.

use crate::support::{Content, Fault, Gate, On, Upstream, Weir, blob_path};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn parts_of_a_warm_blob_can_be_had() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 200_000);
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    let path = blob_path("acme/app", &blob.digest);
    client.get(&path).await.whole(200);
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=100-199999", 100..200_000),
        ("bytes=199999-", 199_999..200_000),
        ("bytes=100000-", 100_000..200_000),
        ("bytes=-1000", 199_000..200_000),
        ("bytes=5-999999999", 5..200_000),
    ] {
        let part = client.get_range(&path, range).await;
        assert_eq!(part.whole(206), &blob.bytes[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/200000", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(&*said), "{range}");
    }
    let beyond = client.get_range(&path, "bytes=200000-").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */200000"));
    assert_eq!(upstream.count(On::Blob), 1);
}

#[tokio::test]
async fn a_resumed_download_of_a_cold_blob_gets_the_rest() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 500_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let rest = weir.client().get_range(&path, "bytes=123456-").await;
    assert_eq!(rest.whole(206), &blob.bytes[123_456..]);
    assert_eq!(
        rest.header("content-range"),
        Some("bytes 123456-499999/500000")
    );
}

#[tokio::test]
async fn parts_of_a_cold_blob_can_be_had() {
    for (range, first, behind) in [
        ("bytes=0-0", 0, 1),
        ("bytes=-1000", 199_000, 200_000),
        ("bytes=100-199999", 100, 200_000),
    ] {
        let upstream = Upstream::start().await;
        let blob = upstream.blob("acme/app", 200_000);
        let weir = Weir::in_front_of(&upstream).await;
        let path = blob_path("acme/app", &blob.digest);
        let part = weir.client().get_range(&path, range).await;
        assert_eq!(part.whole(206), &blob.bytes[first..behind], "{range}");
    }
}

#[tokio::test]
async fn several_ranges_come_in_parts() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 200_000);
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    let path = blob_path("acme/app", &blob.digest);
    for _ in ["cold", "warm"] {
        let parts = client.get_range(&path, "bytes=0-9,100-109").await;
        let kind = parts.header("content-type").unwrap_or_default().to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.expect("a multipart body").trim_matches('"');
        let body = parts.whole(206);
        assert_eq!(parts.length_header(), Some(body.len()));
        for (said, bytes) in [
            ("bytes 0-9/200000", &blob.bytes[0..10]),
            ("bytes 100-109/200000", &blob.bytes[100..110]),
        ] {
            assert!(has(body, said.as_bytes()));
            assert!(has(body, bytes));
        }
        assert!(has(body, format!("--{boundary}--").as_bytes()));
    }
}

fn has(body: &[u8], bytes: &[u8]) -> bool {
    body.windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test]
async fn a_condition_that_does_not_hold_gives_the_whole_blob() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 200_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let whole = weir.client().get(&path).await;
    whole.whole(200);
    let etag = whole.header("etag").expect("an ETag").to_owned();
    let holds = weir.client().with("if-range", &etag);
    let part = holds.get_range(&path, "bytes=5-9").await;
    assert_eq!(part.whole(206), &blob.bytes[5..10]);
    let fails = weir.client().with("if-range", "\"another\"");
    let all = fails.get_range(&path, "bytes=5-9").await;
    assert_eq!(all.whole(200), &blob.bytes);
}

#[tokio::test]
async fn what_is_no_range_of_bytes_is_ignored_or_refused() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 20_000);
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    let unknown = weir.client().get_range(&path, "lines=1-2").await;
    assert_eq!(unknown.whole(200), &blob.bytes, "RFC 9110, 14.2: ignored");
    for range in ["bytes=", "bytes=b-c", "bytes=9-5", "5-9"] {
        let answer = weir.client().get_range(&path, range).await;
        assert!(
            matches!(answer.status, 200 | 416),
            "{range}: {}",
            answer.status
        );
        assert!(
            answer.status != 200 || answer.bytes == blob.bytes,
            "{range}"
        );
    }
}

/// A blob of which one MiB has come, and the gate before the rest.
async fn begun(length: usize) -> (Upstream, Content, Weir, String, Gate) {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", length);
    let gate = Gate::ajar(MIB);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = Weir::in_front_of(&upstream).await;
    let path = blob_path("acme/app", &blob.digest);
    weir.client().open(&path).await.read_exact(MIB / 2).await;
    (upstream, blob, weir, path, gate)
}

#[tokio::test]
async fn a_part_that_has_come_is_served_from_the_growing_file() {
    let (upstream, blob, weir, path, gate) = begun(4 * MIB).await;
    let part = weir.client().get_range(&path, "bytes=1000-1999").await;
    assert_eq!(part.whole(206), &blob.bytes[1000..2000]);
    assert_eq!(upstream.count(On::Blob), 1);
    gate.open();
}

#[tokio::test]
async fn a_part_far_ahead_of_the_fill_does_not_wait_for_it() {
    let (upstream, blob, weir, path, gate) = begun(64 * MIB).await;
    let from = 50 * MIB;
    let range = format!("bytes={from}-{}", from + 999);
    let part = weir.client().get_range(&path, &range).await;
    assert_eq!(part.whole(206), &blob.bytes[from..from + 1000]);
    let asked = upstream.requests(On::Blob);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].header("range"), Some(&*range));
    gate.open();
    let all = weir.client().open(&path).await.hash_rest().await;
    assert_eq!(all.0, blob.digest);
    assert_eq!(upstream.count(On::Blob), 2, "the fill went on");
}
