//! Keeps requests away from an endpoint that has failed again and again.
//!
//! Closed, open, or trying with one probe. The crate that was considered for it
//! (tower-resilience-circuitbreaker) reads the standard library's clock, so that neither a paused
//! runtime nor a test could move it, and wraps a service where a verdict here falls only after the
//! body has been checked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time, doubled each time a probe fails.
const OPEN_FOR_MIN: Duration = Duration::from_secs(2);
const OPEN_FOR_MAX: Duration = Duration::from_secs(30);
/// A probe whose verdict never came (its client left) no longer holds the place after this.
const PROBE_HELD_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    Probing,
    Open,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    open_for: Duration,
    probe_since: Option<Instant>,
    because: Arc<str>,
}

/// Why a request may not go out.
#[derive(Debug, Clone)]
pub(super) struct Shut {
    pub(super) retry_in: Duration,
    pub(super) because: Arc<str>,
}

impl Breaker {
    /// Leave to ask. Whoever gets it says afterwards how it went.
    pub(super) fn enter(&self) -> Result<(), Shut> {
        let now = Instant::now();
        let mut inner = self.lock();
        let Some(open) = &mut inner.open else {
            return Ok(());
        };
        let probe_held = open
            .probe_since
            .is_some_and(|since| now < since + PROBE_HELD_MAX);
        if now < open.until || probe_held {
            return Err(Shut {
                retry_in: open.until.saturating_duration_since(now),
                because: Arc::clone(&open.because),
            });
        }
        open.probe_since = Some(now);
        Ok(())
    }

    /// It answered, whatever the answer was.
    pub(super) fn well(&self) {
        *self.lock() = Inner::default();
    }

    /// It failed; `because` is told to those who are turned away.
    pub(super) fn ill(&self, because: &str) {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        let now = Instant::now();
        let opens = inner.failures >= FAILURES_MAX;
        if let Some(open) = &mut inner.open {
            // Without a probe it is a request from before it opened.
            if open.probe_since.take().is_some() {
                open.open_for = (2 * open.open_for).min(OPEN_FOR_MAX);
                open.until = now + open.open_for;
                open.because = because.into();
            }
        } else if opens {
            inner.open = Some(Open {
                until: now + OPEN_FOR_MIN,
                open_for: OPEN_FOR_MIN,
                probe_since: None,
                because: because.into(),
            });
        }
    }

    /// There will be no verdict: the one who asked left, or the answer says nothing about health.
    pub(super) fn leave(&self) {
        if let Some(open) = &mut self.lock().open {
            open.probe_since = None;
        }
    }

    pub(super) fn state(&self) -> State {
        match &self.lock().open {
            None => State::Closed,
            Some(open) if open.probe_since.is_some() => State::Probing,
            Some(_) => State::Open,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            breaker.enter().unwrap();
            breaker.ill("refused");
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_success_starts_the_count_anew() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            for _ in 1..FAILURES_MAX {
                breaker.ill("x");
            }
            breaker.well();
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(opened().state(), State::Open);
        assert_eq!(&*opened().enter().unwrap_err().because, "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_goes_through_and_closes_it() {
        let breaker = opened();
        tokio::time::advance(OPEN_FOR_MIN).await;
        assert!(breaker.enter().is_ok());
        assert_eq!(breaker.state(), State::Probing);
        assert!(breaker.enter().is_err());
        breaker.well();
        assert!(breaker.enter().is_ok());
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_keeps_it_shut_for_longer() {
        let breaker = opened();
        for expected in [4, 8, 16, 30, 30] {
            tokio::time::advance(OPEN_FOR_MAX).await;
            breaker.enter().unwrap();
            breaker.ill("still away");
            let shut = breaker.enter().unwrap_err();
            assert_eq!(shut.retry_in, Duration::from_secs(expected));
            assert_eq!(&*shut.because, "still away");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_client_left_gives_its_place_up() {
        let breaker = opened();
        tokio::time::advance(OPEN_FOR_MIN).await;
        breaker.enter().unwrap();
        breaker.leave();
        assert!(breaker.enter().is_ok());
        tokio::time::advance(PROBE_HELD_MAX).await;
        assert!(breaker.enter().is_ok());
    }
}
