//! One large blob over several connections, for upstreams that are slow on each of them.
//!
//! Segments are fetched side by side and handed out in order, so that the staged file still grows at
//! one frontier and is hashed as it grows. Memory is bounded by a pool for the whole process. It
//! begins only when one connection has shown to be slow, and falls back to one when the upstream
//! does not play along.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::oci::{Digest, RegistryName};
use crate::upstream::{Download, Error, ErrorKind, Remote, Wrong};

/// What one request fetches, and what one place in the pool may hold in memory.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Places in the pool: 32 MiB in the whole process.
const SEGMENTS_MAX: usize = 8;
/// Requests for one blob at once.
const LANES_MAX: usize = 4;
/// A connection is measured for this long before others join it.
const MEASURE_FOR: Duration = Duration::from_secs(1);
/// A chunk this long had come before it was asked for: the wait for it was for a processor.
const WAITED_FOR_US_BYTES: usize = 128 << 10;
/// Unless it was waited for this long: no processor is that late, and upstreams that hold a connection to
/// a rate send in bursts.
const WAITED_FOR_UPSTREAM: Duration = Duration::from_millis(50);
/// A connection faster than this, in bytes a second, is left alone.
const FAST_ENOUGH: u64 = 40 << 20;
/// Segments between two looks at whether one more lane made it faster.
const SEGMENTS_PER_LOOK: u32 = 4;

/// What all fills share.
pub(super) struct Pool {
    places: Arc<Semaphore>,
    /// Blobs shorter than this always come over one connection; 0: all of them do.
    parallel_above: AtomicU64,
}

impl Pool {
    pub(super) fn new(parallel_above: u64) -> Self {
        Pool {
            places: Arc::new(Semaphore::new(SEGMENTS_MAX)),
            parallel_above: AtomicU64::new(parallel_above),
        }
    }

    /// For transfers that begin from now on.
    pub(super) fn set_parallel_above(&self, bytes: u64) {
        self.parallel_above.store(bytes, Ordering::Relaxed);
    }
}

/// A transfer that hands out a blob's bytes in order, over one connection or several.
pub(super) struct Transfer<'a> {
    pool: &'a Pool,
    remote: Remote,
    digest: Digest,
    length: Option<u64>,
    /// Where the next chunk stands.
    at: u64,
    from: From,
    begun: Instant,
    begun_at: u64,
    /// Time spent waiting for the upstream: where the disk or a processor is what is waited for, more
    /// connections would only make it worse.
    waited: Duration,
    /// Bytes that are there already.
    skip: u64,
}

enum From {
    Measured(Download),
    /// One connection, for good.
    Single(Download),
    /// One connection up to `until`, then the lanes.
    Leaving {
        download: Download,
        until: u64,
        lanes: Box<Lanes>,
    },
    Lanes(Box<Lanes>),
}

impl<'a> Transfer<'a> {
    pub(super) fn new(pool: &'a Pool, remote: Remote, digest: Digest, download: Download) -> Self {
        let (length, at) = (download.length(), download.offset());
        let parallel_above = pool.parallel_above.load(Ordering::Relaxed);
        let is_long = length.is_some_and(|length| {
            parallel_above > 0 && length.saturating_sub(at) >= parallel_above
        });
        let from = if is_long {
            From::Measured(download)
        } else {
            From::Single(download)
        };
        Transfer {
            pool,
            remote,
            digest,
            length,
            at,
            from,
            begun: Instant::now(),
            begun_at: at,
            waited: Duration::ZERO,
            skip: 0,
        }
    }

    /// Goes on behind `at`, with a download that may have begun before.
    pub(super) fn behind(mut self, at: u64) -> Self {
        self.skip = at.saturating_sub(self.at);
        self
    }

    /// The next bytes; `None` when all of them are there. Cancel safe as far as [`Download`] is.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(mut chunk) = self.any_chunk().await? else {
                return Ok(None);
            };
            let skipped = chunk
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let chunk = chunk.split_off(skipped);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    async fn any_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match &mut self.from {
            From::Single(download) => download.chunk().await?,
            From::Measured(download) => {
                let asked = Instant::now();
                let chunk = download.chunk().await?;
                let waited = asked.elapsed();
                if waited >= WAITED_FOR_UPSTREAM
                    || chunk
                        .as_ref()
                        .is_none_or(|chunk| chunk.len() < WAITED_FOR_US_BYTES)
                {
                    self.waited += waited;
                }
                chunk
            }
            From::Leaving {
                download, until, ..
            } => {
                let left = usize::try_from(*until - self.at).unwrap_or(usize::MAX);
                download.chunk().await?.map(|mut chunk| {
                    chunk.truncate(left);
                    chunk
                })
            }
            From::Lanes(lanes) => match lanes.chunk().await {
                Ok(chunk) => chunk,
                Err(error) => {
                    debug!(digest = %self.digest, %error, "back to one connection");
                    let download = self.remote.blob(&self.digest, self.at).await?;
                    skip(download, self.at, &mut self.from).await?
                }
            },
        };
        if let Some(chunk) = &chunk {
            self.at += chunk.len() as u64;
            self.reconsider();
        }
        Ok(chunk)
    }

    /// Moves from one connection to several where that is due.
    fn reconsider(&mut self) {
        match &self.from {
            From::Measured(_) if self.begun.elapsed() >= MEASURE_FOR => {}
            From::Leaving { until, .. } if self.at >= *until => {}
            From::Measured(_) | From::Single(_) | From::Leaving { .. } | From::Lanes(_) => return,
        }
        let from = std::mem::replace(
            &mut self.from,
            From::Lanes(Box::new(Lanes::none(self.digest))),
        );
        self.from = match from {
            From::Leaving { lanes, .. } => From::Lanes(lanes),
            From::Measured(download) => self.leave(download),
            other @ (From::Single(_) | From::Lanes(_)) => other,
        };
    }

    fn leave(&self, download: Download) -> From {
        let waited = self.waited.as_secs_f64().max(1e-9);
        let rate = ((self.at - self.begun_at) as f64 / waited) as u64;
        let Some(length) = self.length else {
            return From::Single(download);
        };
        // What this connection has under way by now would be thrown away otherwise.
        let until = self.at + SEGMENT_BYTES.max(rate / 4);
        if rate >= FAST_ENOUGH || length.saturating_sub(until) < 2 * SEGMENT_BYTES {
            return From::Single(download);
        }
        debug!(digest = %self.digest, bytes_per_second = rate, "several connections from here on");
        let places = Arc::clone(&self.pool.places);
        let lanes = Lanes::begin(&self.remote, self.digest, until..length, places);
        From::Leaving {
            download,
            until,
            lanes: Box::new(lanes),
        }
    }
}

/// Brings a download that may have begun anew to `at`, and makes it the only source.
async fn skip(mut download: Download, at: u64, from: &mut From) -> Result<Option<Bytes>, Error> {
    let mut to_skip = at - download.offset().min(at);
    loop {
        let Some(mut chunk) = download.chunk().await? else {
            return Ok(None);
        };
        let skipped = chunk
            .len()
            .min(usize::try_from(to_skip).unwrap_or(usize::MAX));
        let chunk = chunk.split_off(skipped);
        to_skip -= skipped as u64;
        if !chunk.is_empty() {
            *from = From::Single(download);
            return Ok(Some(chunk));
        }
    }
}

/// Segments under way, in the order of the blob.
struct Lanes {
    remote: Option<Remote>,
    digest: Digest,
    next: u64,
    end: u64,
    places: Option<Arc<Semaphore>>,
    width: Width,
    under_way: VecDeque<Segment>,
    ready: VecDeque<Bytes>,
    /// Of the segment that `ready` is from.
    place: Option<OwnedSemaphorePermit>,
}

type Segment = AbortOnDropHandle<Result<(Vec<Bytes>, OwnedSemaphorePermit), Error>>;

impl Lanes {
    fn begin(
        remote: &Remote,
        digest: Digest,
        range: std::ops::Range<u64>,
        places: Arc<Semaphore>,
    ) -> Self {
        let mut lanes = Lanes {
            remote: Some(remote.clone()),
            next: range.start,
            end: range.end,
            places: Some(places),
            ..Lanes::none(digest)
        };
        lanes.widen();
        lanes
    }

    fn none(digest: Digest) -> Self {
        Lanes {
            remote: None,
            digest,
            next: 0,
            end: 0,
            places: None,
            width: Width::new(Instant::now()),
            under_way: VecDeque::new(),
            ready: VecDeque::new(),
            place: None,
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            self.place = None;
            self.widen();
            let Some(segment) = self.under_way.front_mut() else {
                return Ok(None);
            };
            let fetched = segment.await;
            self.under_way.pop_front();
            let (chunks, place) = match fetched {
                Ok(fetched) => fetched?,
                // Only a panic ends it otherwise, and that is for the fill's owner to see.
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            };
            self.ready = chunks.into();
            self.place = Some(place);
            self.width.landed(Instant::now());
        }
    }

    /// Sets further segments under way, as many as the width and the pool allow, but at least one.
    fn widen(&mut self) {
        let (Some(remote), Some(places)) = (&self.remote, &self.places) else {
            return;
        };
        while self.next < self.end && self.under_way.len() < self.width.lanes {
            let place = match Arc::clone(places).try_acquire_owned() {
                Ok(place) => Place::Taken(place),
                Err(_) if self.under_way.is_empty() => Place::WaitFor(Arc::clone(places)),
                Err(_) => return,
            };
            let last = (self.next + SEGMENT_BYTES).min(self.end) - 1;
            let fetching = fetch(remote.clone(), self.digest, self.next, last, place);
            self.under_way
                .push_back(AbortOnDropHandle::new(spawn(fetching)));
            self.next = last + 1;
        }
    }
}

enum Place {
    Taken(OwnedSemaphorePermit),
    WaitFor(Arc<Semaphore>),
}

/// The segment's task is owned by its place in [`Lanes`], which ends it when it goes.
fn spawn<F>(fetching: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(fetching)
}

fn wrong_range(registry: RegistryName, download: &Download, asked: u64) -> Error {
    Error {
        registry,
        endpoint: Some(Arc::clone(&download.source().endpoint)),
        kind: ErrorKind::Wrong(Wrong::Range {
            asked,
            found: download.offset(),
        }),
    }
}

async fn fetch(
    remote: Remote,
    digest: Digest,
    first: u64,
    last: u64,
    place: Place,
) -> Result<(Vec<Bytes>, OwnedSemaphorePermit), Error> {
    let place = match place {
        Place::Taken(place) => place,
        Place::WaitFor(places) => places
            .acquire_owned()
            .await
            .expect("the pool of segments is never closed"),
    };
    let mut download = remote.blob_range(&digest, first, last).await?;
    if download.offset() != first {
        // The upstream knows no ranges; there is nothing to be won here.
        return Err(wrong_range(
            remote.target().registry.clone(),
            &download,
            first,
        ));
    }
    let mut chunks = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        chunks.push(chunk);
    }
    Ok((chunks, place))
}

/// How many lanes are worth it: one more as long as the last one made it clearly faster.
struct Width {
    lanes: usize,
    /// Segments a second before the last lane was added.
    before: f64,
    landed: u32,
    since: Instant,
    settled: bool,
}

impl Width {
    fn new(now: Instant) -> Self {
        Width {
            lanes: 2,
            before: 0.0,
            landed: 0,
            since: now,
            settled: false,
        }
    }

    fn landed(&mut self, now: Instant) {
        self.landed += 1;
        if self.landed < SEGMENTS_PER_LOOK || self.settled {
            return;
        }
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        let rate = f64::from(self.landed) / elapsed.max(1e-9);
        if rate > self.before * 1.2 && self.lanes < LANES_MAX {
            self.lanes += 1;
        } else {
            self.settled = true;
        }
        self.before = rate;
        self.landed = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_added_while_they_help() {
        let start = Instant::now();
        let mut width = Width::new(start);
        // Four segments in two seconds, then in one: the third lane helped.
        for tick in 1..=4 {
            width.landed(start + Duration::from_millis(500 * tick));
        }
        assert_eq!(width.lanes, 3);
        for tick in 1..=4 {
            width.landed(start + Duration::from_millis(2000 + 250 * tick));
        }
        assert_eq!(width.lanes, 4);
        // No faster any more: it stays as it is.
        for tick in 1..=100 {
            width.landed(start + Duration::from_millis(3000 + 250 * tick));
        }
        assert_eq!(width.lanes, LANES_MAX);
    }

    #[test]
    fn a_lane_that_does_not_help_is_the_last() {
        let start = Instant::now();
        let mut width = Width::new(start);
        for tick in 1..=40 {
            width.landed(start + Duration::from_millis(500 * tick));
        }
        assert_eq!(width.lanes, 3);
    }
}
