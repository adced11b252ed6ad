//! The background check: everything stored is read again, slowly, and compared with its digest.
//!
//! Each process begins somewhere else, so that content is checked alike however often weir restarts.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::oci::Digest;
use crate::store::{Chore, Progress};

use super::metrics::Task;
use super::{Settings, Upkeep, pause};

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
        let mut settings = self.dials.0.subscribe();
        let mut rate = settings.borrow_and_update().scrub_rate;
        let mut asked = false;
        while !cancel.is_cancelled() {
            if asked || rate > 0 {
                let pace = Pace::new(settings.clone(), asked);
                self.scrub_round(start, pace, cancel).await;
                start = 0;
            }
            asked = loop {
                let before = settings.borrow_and_update().scrub_rate;
                tokio::select! {
                    () = self.store.asked_for(Chore::Scrub) => break true,
                    () = sleep(ROUND_EVERY) => break false,
                    // The sender is `self`'s own and outlives this.
                    _ = settings.changed() => {
                        // Switched on: not only tomorrow.
                        if before == 0 && settings.borrow().scrub_rate > 0 {
                            break false;
                        }
                    }
                    () = cancel.cancelled() => return,
                }
            };
            rate = settings.borrow().scrub_rate;
        }
    }

    /// Checks everything from one place in the list round to the same.
    async fn scrub_round(&self, start: u32, mut pace: Pace, cancel: &CancellationToken) {
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

    /// `false` when it is time to stop, or checks were switched off.
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
                Progress::Read(bytes) => {
                    let goes_on = tokio::select! {
                        goes_on = pace.keep(bytes) => goes_on,
                        () = cancel.cancelled() => false,
                    };
                    if !goes_on {
                        return false;
                    }
                }
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
    settings: watch::Receiver<Settings>,
    /// Somebody wants this round, whether or not there is one by itself.
    asked: bool,
    bytes: u64,
    bad: u64,
}

impl Pace {
    fn new(settings: watch::Receiver<Settings>, asked: bool) -> Self {
        Pace {
            due: Instant::now(),
            settings,
            asked,
            bytes: 0,
            bad: 0,
        }
    }

    /// Notes what was read; waits until more may be. `false`: no more is wanted.
    async fn keep(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let from = self.due.max(Instant::now());
        loop {
            let rate = match (self.settings.borrow_and_update().scrub_rate, self.asked) {
                (0, false) => return false,
                (0, true) => ASKED_RATE,
                (rate, _) => rate,
            };
            self.due = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
            tokio::select! {
                () = sleep_until(self.due) => return true,
                // At another rate there may be less to wait for.
                changed = self.settings.changed() => if changed.is_err() {
                    return false;
                },
            }
        }
    }
}
