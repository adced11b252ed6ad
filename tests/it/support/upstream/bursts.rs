//! Bodies that come in bursts, each at a rate of its own: how servers hold connections to a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Bursts {
    bytes: usize,
    every: Duration,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// One body.
pub(super) struct Bursting {
    bursts: Bursts,
    left: usize,
}

impl Bursts {
    /// So many bytes at once on each connection, then nothing for so long.
    pub fn new(bytes: usize, every: Duration) -> Self {
        Bursts {
            bytes,
            every,
            counts: Arc::default(),
        }
    }

    /// How many bodies were under way at the same time.
    pub fn most_at_once(&self) -> usize {
        self.counts.most_at_once.load(Ordering::SeqCst)
    }

    pub(super) fn begin(&self) -> Bursting {
        let under_way = self.counts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.counts
            .most_at_once
            .fetch_max(under_way, Ordering::SeqCst);
        Bursting {
            bursts: self.clone(),
            left: self.bytes,
        }
    }
}

impl Bursting {
    /// How many of at most `wanted` bytes may go now; waits for the next burst.
    pub(super) async fn pass(&mut self, wanted: usize) -> usize {
        if self.left == 0 {
            tokio::time::sleep(self.bursts.every).await;
            self.left = self.bursts.bytes;
        }
        let passed = wanted.min(self.left);
        self.left -= passed;
        passed
    }
}

impl Drop for Bursting {
    fn drop(&mut self) {
        self.bursts.counts.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
