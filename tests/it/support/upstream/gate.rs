//! A gate in front of bytes: the test, not the clock, says how many go through.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Cheap to clone; all clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    bytes: Arc<Semaphore>,
}

impl Gate {
    /// Nothing goes through until the test says so.
    pub fn shut() -> Self {
        Gate::ajar(0)
    }

    /// The first `bytes` go through, then nothing until the test says so.
    pub fn ajar(bytes: usize) -> Self {
        Gate {
            bytes: Arc::new(Semaphore::new(bytes)),
        }
    }

    pub fn let_through(&self, bytes: usize) {
        self.bytes.add_permits(bytes);
    }

    /// From now on everything goes through.
    pub fn open(&self) {
        self.bytes.close();
    }

    /// How many of at most `wanted` bytes may go now; waits for the first.
    pub(super) async fn pass(&self, wanted: usize) -> usize {
        match self.bytes.acquire().await {
            Ok(first) => first.forget(),
            Err(_) => return wanted,
        }
        let more = self.bytes.available_permits().min(wanted - 1);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match self.bytes.try_acquire_many(more) {
            Ok(permits) => {
                permits.forget();
                1 + more as usize
            }
            Err(_) => 1,
        }
    }
}
