//! What time it is, as a value that is handed in.
//!
//! Facts that outlive the process (when a tag was last checked) are kept in wall-clock time. Tests
//! hand in a clock that follows tokio's, so that a paused runtime moves both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Zero where `earlier` is later: clocks do step back.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn plus(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Tells the time. Cheap to clone.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A wall clock that follows tokio's time from where it was set.
    Following { set_to: Timestamp, at: Instant },
}

impl Clock {
    /// A clock that shows `now` and goes on with tokio's time, paused or not.
    pub fn following(now: SystemTime) -> Self {
        Clock::Following {
            set_to: now.into(),
            at: Instant::now(),
        }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => SystemTime::now().into(),
            Clock::Following { set_to, at } => set_to.plus(at.elapsed()),
        }
    }
}
