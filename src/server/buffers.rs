//! The memory that bodies pass through on their way from files to sockets.
//!
//! However many clients read and however slowly, all buffers together stay near [`BUDGET_BYTES`]:
//! the first clients get big ones, and when the budget is used, every further one makes do with a
//! small one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Measured as the size from which bigger ones gain nothing.
const BIG_BYTES: usize = 256 << 10;
const SMALL_BYTES: usize = 16 << 10;
const BUDGET_BYTES: usize = 24 << 20;
/// Big buffers that are kept when nobody uses them.
const SPARE_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    in_use_bytes: AtomicUsize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer for `wanted` bytes or fewer, never empty. What is in it is somebody's earlier body.
    pub(super) fn take(self: &Arc<Self>, wanted: u64) -> Buffer {
        let fits_small = wanted <= SMALL_BYTES as u64;
        let bytes = if fits_small || !self.has_big() {
            vec![0; SMALL_BYTES].into()
        } else {
            let spare = self.lock().pop();
            spare.unwrap_or_else(|| vec![0; BIG_BYTES].into())
        };
        let buffer = Buffer {
            bytes,
            filled: 0,
            home: self.clone(),
        };
        self.in_use_bytes
            .fetch_add(buffer.bytes.len(), Ordering::Relaxed);
        buffer
    }

    /// Whether the next one would be big.
    pub(super) fn has_big(&self) -> bool {
        self.in_use_bytes.load(Ordering::Relaxed) + BIG_BYTES <= BUDGET_BYTES
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        self.in_use_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        let mut spare = self.lock();
        if bytes.len() == BIG_BYTES && spare.len() < SPARE_MAX {
            spare.push(bytes);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
        self.spare
            .lock()
            .expect("nothing panics while it holds the spare buffers")
    }
}

/// A buffer on loan; as bytes, the part that was filled.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    /// The first `limit` bytes, to be written into.
    pub(super) fn space(&mut self, limit: u64) -> &mut [u8] {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let limit = limit.min(self.bytes.len());
        &mut self.bytes[..limit]
    }

    pub(super) fn set_filled(&mut self, filled: usize) {
        self.filled = filled.min(self.bytes.len());
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_slow_clients_stay_near_the_budget() {
        let buffers = Arc::new(Buffers::default());
        let held: Vec<_> = (0..1000).map(|_| buffers.take(u64::MAX)).collect();
        let in_use = buffers.in_use_bytes.load(Ordering::Relaxed);
        assert!(in_use <= BUDGET_BYTES + 1000 * SMALL_BYTES, "{in_use}");
        drop(held);
        assert_eq!(buffers.in_use_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(buffers.lock().len(), SPARE_MAX);
    }

    #[test]
    fn only_the_filled_part_is_seen() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(u64::MAX);
        assert!(buffer.as_ref().is_empty());
        buffer.space(3).copy_from_slice(b"abc");
        buffer.set_filled(2);
        assert_eq!(buffer.as_ref(), b"ab");
        drop(buffer);
        assert!(buffers.take(u64::MAX).as_ref().is_empty());
    }
}
