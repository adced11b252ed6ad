//! The background check: everything stored is read again, slowly, and compared with its digest.
//!
//! Each process begins somewhere else, so that content is checked alike however often weir restarts.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::oci::Digest;
use crate::store::{Chore, Progress};

use super::metrics::Task;
use super::{Upkeep, pause};

/// Everything is checked at most this often, whatever the rate would allow.
const ROUND_EVERY: Duration = Duration::from_secs(24 * 3600);
/// The rate when the operator asks for a check although there is none by itself.
const ASKED_RATE: u64 = 64 << 20;
/// The pages of the store's list begin at multiples of this.
const START_STEP: u32 = 4096;

impl Upkeep {
    pub(super) async fn scrub(&self, cancel: &CancellationToken) {
        let pages = u32::try_from(self.store.stats().objects).unwrap_or(u32::MAX) / START_STEP;
        let mut start = fastrand::u32(..=pages) * START_STEP;
        let mut due = self.scrub_rate > 0;
        while !cancel.is_cancelled() {
            if due {
                let rate = match self.scrub_rate {
                    0 => ASKED_RATE,
                    rate => rate,
                };
                self.scrub_round(start, rate, cancel).await;
                start = 0;
            }
            due = tokio::select! {
                () = self.store.asked_for(Chore::Scrub) => true,
                () = sleep(ROUND_EVERY) => self.scrub_rate > 0,
                () = cancel.cancelled() => return,
            };
        }
    }

    /// Checks everything from one place in the list round to the same.
    async fn scrub_round(&self, start: u32, rate: u64, cancel: &CancellationToken) {
        let mut pace = Pace::new(rate);
        for range in [start..u32::MAX, 0..start] {
            let mut next = Some(range.start);
            while let Some(from) = next
                && range.contains(&from)
            {
                let page = self.store.list(from);
                for entry in page.entries {
                    if !self.scrub_one(&entry.digest, &mut pace, cancel).await {
                        return;
                    }
                }
                next = page.next;
            }
        }
        tracing::info!(
            bytes = pace.bytes,
            bad = pace.bad,
            "everything stored has been checked"
        );
    }

    /// `false` when it is time to stop.
    async fn scrub_one(
        &self,
        digest: &Digest,
        pace: &mut Pace,
        cancel: &CancellationToken,
    ) -> bool {
        let digest = *digest;
        let Some(check) = self
            .blocking(Task::Scrub, move |store| store.check(&digest))
            .await
        else {
            return pause(Duration::ZERO, cancel).await;
        };
        let Some(mut check) = check else {
            return !cancel.is_cancelled();
        };
        loop {
            let step = move |_: &_| {
                let progress = check.step();
                (check, progress)
            };
            let Some((going_on, progress)) = self.blocking(Task::Scrub, step).await else {
                return !cancel.is_cancelled();
            };
            check = going_on;
            match progress {
                Progress::Read(bytes) => tokio::select! {
                    () = pace.keep(bytes) => {}
                    () = cancel.cancelled() => return false,
                },
                Progress::Good => return !cancel.is_cancelled(),
                Progress::Bad => {
                    pace.bad += 1;
                    return !cancel.is_cancelled();
                }
            }
        }
    }
}

/// Keeps a round at its rate, without making up for time that was lost.
struct Pace {
    due: Instant,
    rate: u64,
    bytes: u64,
    bad: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Pace {
            due: Instant::now(),
            rate,
            bytes: 0,
            bad: 0,
        }
    }

    /// Notes what was read; waits until more may be.
    async fn keep(&mut self, bytes: u64) {
        self.bytes += bytes;
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.due = self.due.max(Instant::now()) + cost;
        sleep_until(self.due).await;
    }
}
