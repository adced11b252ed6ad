//! Stored content that is being read.
//!
//! A [`Blob`] exists only for a file under its digest, so its bytes are verified. While one is held,
//! the content is leased: eviction passes it by.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oci::Digest;

/// Verified content with its file open. Read it at offsets: the file's own position is shared.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub length: u64,
    pub file: Arc<File>,
    _lease: Arc<Lease>,
}

impl Blob {
    pub(super) fn new(digest: Digest, length: u64, file: Arc<File>, leases: &Arc<Leases>) -> Self {
        Blob {
            digest,
            length,
            file,
            _lease: leases.take(digest),
        }
    }
}

/// Which content is being read, and by how many.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<Digest, u32>>,
}

impl Leases {
    fn take(self: &Arc<Self>, digest: Digest) -> Arc<Lease> {
        *self.held().entry(digest).or_insert(0) += 1;
        Arc::new(Lease {
            digest,
            leases: Arc::clone(self),
        })
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.held().contains_key(digest)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
struct Lease {
    digest: Digest,
    leases: Arc<Leases>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.leases.held().entry(self.digest) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn content_is_leased_until_the_last_reader_leaves() {
        let digest = Digest::of(Algorithm::Sha256, b"layer");
        let file = Arc::new(tempfile::tempfile().unwrap());
        let leases = Arc::new(Leases::default());
        let first = Blob::new(digest, 5, Arc::clone(&file), &leases);
        let copy = first.clone();
        let second = Blob::new(digest, 5, file, &leases);
        drop(first);
        drop(second);
        assert!(leases.contains(&digest));
        drop(copy);
        assert!(!leases.contains(&digest));
    }
}
