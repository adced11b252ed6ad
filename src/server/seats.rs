//! Who is connected: a seat for each client, and whose is given up when all are taken.
//!
//! A connection on which nothing is asked costs a place that somebody else may need. When the last
//! one is taken, those leave that have been quiet for longest; a client in the middle of a request or
//! of its answer never does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Who was quiet for less has come for something, or is about to ask again.
const QUIET_MIN: Duration = Duration::from_secs(1);
/// Of this many seats one is freed at once, so that looking for it is rare.
const FREED_TOGETHER: usize = 100;
/// Of the files that the process may open, one of so many is kept for blobs, upstreams and the index.
const FILES_KEPT: u64 = 4;

pub(super) struct Seats {
    max: usize,
    taken: Mutex<HashMap<u64, Arc<Chair>>>,
    next: AtomicU64,
    opened: Instant,
}

/// A place for one connection, free again when this is dropped.
pub(super) struct Seat {
    number: u64,
    chair: Arc<Chair>,
    seats: Arc<Seats>,
}

/// How the one who sits here behaves.
#[derive(Debug, Default)]
pub(super) struct Chair {
    under_way: AtomicU32,
    /// The client does not take what was written.
    unsent: AtomicBool,
    /// Milliseconds since the seats were opened.
    quiet_since: AtomicU64,
    leave: CancellationToken,
}

/// A request that is being answered, until the end of its body.
pub(super) struct UnderWay {
    chair: Arc<Chair>,
    seats: Arc<Seats>,
}

impl Seats {
    /// As many as are configured, or as the process may open files for.
    pub(super) fn new(connections_max: usize) -> Arc<Seats> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let affordable = usize::try_from(files - files / FILES_KEPT).unwrap_or(usize::MAX);
        if affordable < connections_max {
            tracing::warn!(
                "at most {affordable} connections instead of server.connections_max = {connections_max}: \
                 this process may open {files} files (ulimit -n, LimitNOFILE)"
            );
        }
        Seats::with(connections_max.min(affordable).max(1))
    }

    fn with(max: usize) -> Arc<Seats> {
        Arc::new(Seats {
            max,
            taken: Mutex::default(),
            next: AtomicU64::new(0),
            opened: Instant::now(),
        })
    }

    /// A seat, and how many others lost theirs for it; `None`: all are taken by clients that are
    /// being served.
    pub(super) fn take(self: &Arc<Self>) -> Option<(Seat, usize)> {
        let mut taken = self.lock();
        let mut left = 0;
        if taken.len() >= self.max {
            left = self.free_quiet(&mut taken);
            if left == 0 {
                return None;
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let chair = Arc::new(Chair::default());
        chair.quiet_since.store(self.now(), Ordering::Relaxed);
        taken.insert(number, Arc::clone(&chair));
        let seat = Seat {
            number,
            chair,
            seats: Arc::clone(self),
        };
        Some((seat, left))
    }

    /// Sends away those who have been quiet for longest, and gives their number.
    fn free_quiet(&self, taken: &mut HashMap<u64, Arc<Chair>>) -> usize {
        let quiet_min = u64::try_from(QUIET_MIN.as_millis()).unwrap_or(u64::MAX);
        let Some(latest) = self.now().checked_sub(quiet_min) else {
            return 0;
        };
        let quiet = taken.iter().filter_map(|(number, chair)| {
            let since = chair.quiet_since()?;
            (since <= latest).then_some((since, *number))
        });
        let mut quiet: Vec<_> = quiet.collect();
        let leaving = (self.max / FREED_TOGETHER).max(1).min(quiet.len());
        if leaving == 0 {
            return 0;
        }
        quiet.select_nth_unstable(leaving - 1);
        for (_, number) in &quiet[..leaving] {
            if let Some(chair) = taken.remove(number) {
                chair.leave.cancel();
            }
        }
        leaving
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Chair>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(super) fn chair(&self) -> &Arc<Chair> {
        &self.chair
    }

    /// A request has come in.
    pub(super) fn under_way(&self) -> UnderWay {
        self.chair.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            chair: Arc::clone(&self.chair),
            seats: Arc::clone(&self.seats),
        }
    }

    /// Returns when somebody else needs the seat.
    pub(super) async fn wanted(&self) {
        self.chair.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().remove(&self.number);
    }
}

impl Chair {
    pub(super) fn set_unsent(&self, unsent: bool) {
        self.unsent.store(unsent, Ordering::Relaxed);
    }

    /// `None`: something is under way.
    fn quiet_since(&self) -> Option<u64> {
        let is_served =
            self.under_way.load(Ordering::Relaxed) > 0 || self.unsent.load(Ordering::Relaxed);
        (!is_served).then(|| self.quiet_since.load(Ordering::Relaxed))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.chair
            .quiet_since
            .store(self.seats.now(), Ordering::Relaxed);
        self.chair.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn is_wanted(seat: &Seat) -> bool {
        seat.chair.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_quiet_for_longest_gives_up_the_seat() {
        let seats = Seats::with(3);
        let (first, _) = seats.take().unwrap();
        advance(Duration::from_secs(2)).await;
        let (second, _) = seats.take().unwrap();
        advance(Duration::from_secs(2)).await;
        let (third, left) = seats.take().unwrap();
        assert_eq!(left, 0);
        // It has asked for something since.
        drop(first.under_way());
        let (_fourth, left) = seats.take().unwrap();
        assert_eq!(left, 1);
        let wanted = [&first, &second, &third].map(is_wanted);
        assert_eq!(wanted, [false, true, false]);
        second.wanted().await;
        assert!(seats.take().is_none(), "the others came or asked just now");
        drop(second);
        assert!(seats.take().is_none(), "its seat is taken already");
        drop(third);
        assert!(seats.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_served_stays() {
        let seats = Seats::with(2);
        let (asking, _) = seats.take().unwrap();
        let (reading, _) = seats.take().unwrap();
        let under_way = asking.under_way();
        reading.chair().set_unsent(true);
        advance(Duration::from_secs(60)).await;
        assert!(seats.take().is_none());
        drop(under_way);
        advance(Duration::from_secs(60)).await;
        assert!(seats.take().is_some());
        assert!(is_wanted(&asking) && !is_wanted(&reading));
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_freed_together() {
        let seats = Seats::with(1000);
        let all: Vec<_> = (0..1000).map(|_| seats.take().unwrap().0).collect();
        advance(Duration::from_secs(2)).await;
        let (_one, left) = seats.take().unwrap();
        assert_eq!(left, 10);
        let wanted = all.iter().filter(|seat| is_wanted(seat)).count();
        assert_eq!(wanted, 10);
        assert_eq!(seats.take().unwrap().1, 0);
    }
}
