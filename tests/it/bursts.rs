//! One large blob from an upstream that holds each connection to a rate: over several connections,
//! and over one where one is fast enough.

use std::time::Duration;

use crate::support::{
    Bursts, Content, Fault, Gate, HeldTime, House, On, Upstream, Weir, blob_path,
};

const MIB: usize = 1 << 20;
const BURST: usize = 2 * MIB;
const BETWEEN_BURSTS: Duration = Duration::from_millis(250);
/// Requests for one blob at once, as `pull/segments.rs` allows them, beside the one that began.
const LANES_MAX: usize = 4;

async fn in_front_of(upstream: &Upstream, time: &HeldTime) -> Weir {
    House::in_front_of(upstream)
        .config("[upstream]\nparallel_above = \"16MiB\"")
        .clock(time.clock())
        .start()
        .await
}

/// First and last byte that each request asked for.
fn ranges(upstream: &Upstream) -> Vec<Option<(usize, usize)>> {
    let read = |range: &str| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let requests = upstream.requests(On::Blob);
    let ranges = requests.iter().map(|seen| seen.header("range"));
    ranges.map(|range| range.and_then(read)).collect()
}

#[tokio::test]
async fn a_connection_held_to_a_rate_in_bursts_is_joined_by_others() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 48 * MIB);
    let bursts = Bursts::new(BURST, BETWEEN_BURSTS);
    upstream.always(On::Blob, Fault::InBursts(bursts.clone()));
    let weir = in_front_of(&upstream, &time).await;
    let client = weir.client();
    let path = blob_path("acme/app", &blob.digest);
    let pull = async { client.get(&path).await };
    let (answer, passed) = time.pass_during(pull).await;
    assert!(*answer.whole(200) == blob.bytes[..]);

    let asked = ranges(&upstream);
    assert_eq!(asked[0], None, "the first one is for all of it");
    assert!(asked.len() > 1, "it stayed the only one");
    let mut parts: Vec<_> = asked[1..].iter().map(|range| range.unwrap()).collect();
    parts.sort_unstable();
    // They follow one another, to the end.
    for pair in parts.windows(2) {
        assert_eq!(pair[0].1 + 1, pair[1].0);
    }
    assert_eq!(parts.last().unwrap().1, blob.length() - 1);
    let at_once = bursts.most_at_once();
    assert!((2..=LANES_MAX + 1).contains(&at_once), "{at_once} at once");
    // What the first connection had under way when it was left is all that came twice.
    let sent = upstream.bytes_sent(On::Blob);
    let most = (blob.length() + BURST) as u64;
    assert!((blob.length() as u64..=most).contains(&sent), "{sent}");
    let over_one = BETWEEN_BURSTS * (blob.length() / BURST - 1) as u32;
    assert!(passed < over_one, "{passed:?}; over one {over_one:?}");
}

/// A transfer that gives so many bytes at once and the rest a second later.
async fn after_a_pause(first: usize) -> (Upstream, Content) {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", first + 24 * MIB);
    let gate = Gate::ajar(first);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let weir = in_front_of(&upstream, &time).await;
    let mut open = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    let begun = open.read_exact(first).await;
    time.pass(Duration::from_secs(1)).await;
    gate.open();
    let rest = open.rest().await;
    assert!(begun == blob.bytes[..first]);
    assert!(*rest.whole(200) == blob.bytes[first..]);
    (upstream, blob)
}

#[tokio::test]
async fn a_connection_that_is_fast_enough_stays_the_only_one() {
    let (upstream, blob) = after_a_pause(48 * MIB).await;
    assert_eq!(ranges(&upstream), [None]);
    assert_eq!(upstream.bytes_sent(On::Blob), blob.length() as u64);
}

#[tokio::test]
async fn a_connection_that_is_just_too_slow_is_joined_by_others() {
    let (upstream, _) = after_a_pause(32 * MIB).await;
    assert!(ranges(&upstream).len() > 2);
}
