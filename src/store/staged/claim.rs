//! Who is writing which staged file: one at a time for each digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::oci::Digest;

/// How long a new claim waits for the last blocking write of the one before it.
const WAIT: Duration = Duration::from_secs(5);

/// The claims of one store.
#[derive(Debug, Default)]
pub(in super::super) struct Claims {
    /// Digest, and the bytes that its content will take.
    held: Mutex<HashMap<Digest, u64>>,
    freed: Notify,
}

impl Claims {
    /// `None` when somebody else keeps the file.
    pub(super) async fn take(self: &Arc<Self>, digest: Digest) -> Option<Arc<Claim>> {
        tokio::time::timeout(WAIT, async {
            loop {
                let freed = self.freed.notified();
                if let Some(claim) = self.try_take(digest) {
                    return claim;
                }
                freed.await;
            }
        })
        .await
        .ok()
    }

    fn try_take(self: &Arc<Self>, digest: Digest) -> Option<Arc<Claim>> {
        let mut held = self.held();
        if held.contains_key(&digest) {
            return None;
        }
        held.insert(digest, 0);
        Some(Arc::new(Claim {
            digest,
            claims: Arc::clone(self),
        }))
    }

    pub(in super::super) fn contains(&self, digest: &Digest) -> bool {
        self.held().contains_key(digest)
    }

    /// What all the files that are being written will take, in bytes.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.held().values().sum()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write the staged file of one digest. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    digest: Digest,
    claims: Arc<Claims>,
}

impl Claim {
    /// Tells how many bytes the content will take, as far as that is known.
    pub(super) fn expect(&self, bytes: u64) {
        self.claims.held().insert(self.digest, bytes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.held().remove(&self.digest);
        self.claims.freed.notify_waiters();
    }
}
