//! Ranges far ahead of a growing file, for clients that pull lazily (eStargz, zstd:chunked, SOCI).
//!
//! Such a client wants the end of a blob first. When the fill would be long in coming there, the
//! range gets an upstream request of its own; once the fill has caught up, the file takes over. What
//! is fetched twice that way is bounded for each flight, so that it never becomes a second transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Error;
use crate::oci::Digest;
use crate::upstream::{Download, Remote};

/// A range that the fill reaches sooner than this waits for it.
const WORTH_WAITING_FOR: Duration = Duration::from_millis(300);
/// A range closer than this to the frontier waits for the fill, however slow that is: a request of
/// its own would take as long.
const NEAR_BYTES: u64 = 256 << 10;
/// How soon a range that waits for the fill is considered again.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Of a blob's length, the part that may be fetched ahead in one flight.
const BUDGET_DIVISOR: u64 = 4;
/// What may be fetched ahead of any blob, however short.
const BUDGET_BYTES_MIN: u64 = 4 << 20;

/// What a flight keeps to decide about ranges ahead of it.
pub(super) struct Ahead {
    begun: Instant,
    /// Bytes that an earlier flight had left.
    begun_at: AtomicU64,
    fetched: AtomicU64,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Ahead {
            begun: Instant::now(),
            begun_at: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        }
    }

    /// The fill goes on behind the bytes that are there.
    pub(super) fn begin_at(&self, written: u64) {
        self.begun_at.store(written, Ordering::Relaxed);
    }

    /// Whether `first..` should have a request of its own, when `written` bytes are there by now.
    fn is_worth_it(&self, first: u64, written: u64, now: Instant) -> bool {
        let distance = first.saturating_sub(written);
        if distance < NEAR_BYTES {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.begun);
        let came = written.saturating_sub(self.begun_at.load(Ordering::Relaxed));
        if came == 0 {
            return elapsed > WORTH_WAITING_FOR;
        }
        let until_there = elapsed.as_secs_f64() * distance as f64 / came as f64;
        until_there > WORTH_WAITING_FOR.as_secs_f64()
    }

    /// Takes `bytes` out of the flight's budget for a blob of `length` bytes.
    fn reserve(&self, bytes: u64, length: u64) -> bool {
        let budget = (length / BUDGET_DIVISOR).max(BUDGET_BYTES_MIN);
        let taken = self
            .fetched
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fetched| {
                fetched.checked_add(bytes).filter(|&sum| sum <= budget)
            });
        taken.is_ok()
    }
}

/// The means to fetch a range of one blob ahead of its fill.
#[derive(Clone)]
pub(super) struct Scout {
    pub(super) remote: Remote,
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) ahead: Arc<Ahead>,
}

/// What became of a range ahead of its fill.
pub(super) enum Scouted {
    /// The fill seems to get there as soon; that may change.
    NotYet,
    /// It has to wait for the fill.
    Never,
    Found(Box<Download>),
}

impl Scout {
    /// A request for `at..end`, where it is worth one. An upstream that refuses is no reason to fail:
    /// the fill gets there in the end.
    pub(super) async fn fetch(&self, at: u64, end: u64, written: u64) -> Scouted {
        if !self.ahead.is_worth_it(at, written, Instant::now()) {
            return Scouted::NotYet;
        }
        if !self.ahead.reserve(end - at, self.length) {
            return Scouted::Never;
        }
        match Box::pin(self.remote.blob_range(&self.digest, at, end - 1)).await {
            Ok(download) if download.offset() == at => Scouted::Found(Box::new(download)),
            Ok(_) => Scouted::Never,
            Err(error) => {
                tracing::debug!(digest = %self.digest, %error, "range not fetched ahead");
                Scouted::Never
            }
        }
    }
}

/// The next chunk of a download that stands at `at` and must not pass `end`.
pub(super) async fn chunk(download: &mut Download, at: u64, end: u64) -> Result<Bytes, Error> {
    match download.chunk().await? {
        Some(mut chunk) => {
            chunk.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            Ok(chunk)
        }
        None => Ok(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_range_is_fetched_ahead_when_the_fill_is_long_in_coming() {
        let ahead = Ahead::new();
        let after = |millis| ahead.begun + Duration::from_millis(millis);
        // 10 MiB in 100 ms: 20 MiB further are there in 200 ms.
        assert!(!ahead.is_worth_it(30 * MIB, 10 * MIB, after(100)));
        assert!(ahead.is_worth_it(300 * MIB, 10 * MIB, after(100)));
        // Close by is never worth it, nor is what is there already.
        assert!(!ahead.is_worth_it(10 * MIB + 1, 10 * MIB, after(100_000)));
        assert!(!ahead.is_worth_it(5 * MIB, 10 * MIB, after(100_000)));
        // Nothing has come yet.
        assert!(!ahead.is_worth_it(10 * MIB, 0, after(10)));
        assert!(ahead.is_worth_it(10 * MIB, 0, after(1_000)));
        // What was there before the flight began says nothing about its speed.
        ahead.begin_at(100 * MIB);
        assert!(ahead.is_worth_it(200 * MIB, 101 * MIB, after(1_000)));
    }

    #[test]
    fn what_is_fetched_ahead_is_bounded() {
        let ahead = Ahead::new();
        assert!(ahead.reserve(20 * MIB, 100 * MIB));
        assert!(ahead.reserve(5 * MIB, 100 * MIB));
        assert!(!ahead.reserve(1, 100 * MIB));
    }
}
