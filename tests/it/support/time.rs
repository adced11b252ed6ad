//! Time in the test's hand: tokio's clock stands still until the test moves it.
//!
//! A paused runtime would move its clock by itself whenever nothing is ready, also while bytes are
//! on their way through a socket, and every timeout would fire at once. It does not while blocking
//! work runs, so that is what is kept running here.

use std::pin::pin;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use weir::clock::Clock;

use super::wait::real_sleep;

const STEP: Duration = Duration::from_millis(250);
/// Real time that is given to sockets and disks before the clock moves.
const BEFORE_A_STEP: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(600);

/// Time stands still while this lives. For runtimes of one thread.
pub struct HeldTime {
    release: Option<mpsc::Sender<()>>,
    _holding: JoinHandle<()>,
}

impl HeldTime {
    pub fn hold() -> Self {
        let (release, held) = mpsc::channel::<()>();
        let holding = tokio::task::spawn_blocking(move || {
            // Ends when the other side goes.
            let _ = held.recv();
        });
        tokio::time::pause();
        HeldTime {
            release: Some(release),
            _holding: holding,
        }
    }

    /// A wall clock that stands still too.
    pub fn clock(&self) -> Clock {
        Clock::following(SystemTime::now())
    }

    /// Everything that was to happen within this time happens now.
    pub async fn pass(&self, duration: Duration) {
        tokio::time::advance(duration).await;
    }

    /// Lets time pass in small steps until the future is done; gives also how much it was. What
    /// needs no time gets all it needs before each step.
    pub async fn pass_during<F: Future>(&self, future: F) -> (F::Output, Duration) {
        self.pass_in_steps(STEP, BEFORE_A_STEP, future).await
    }

    /// The same with other steps, and other real time before each of them.
    pub async fn pass_in_steps<F: Future>(
        &self,
        step: Duration,
        before_a_step: Duration,
        future: F,
    ) -> (F::Output, Duration) {
        let mut future = pin!(future);
        let mut passed = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                output = &mut future => return (output, passed),
                () = real_sleep(before_a_step) => {
                    assert!(passed < LONGEST, "nothing happened within {passed:?}");
                    self.pass(step).await;
                    passed += step;
                }
            }
        }
    }
}

impl Drop for HeldTime {
    fn drop(&mut self) {
        drop(self.release.take());
        tokio::time::resume();
    }
}
