//! How long content is by the manifests that name it: what bounds a transfer that does not say itself
//! how long it will be.

use crate::oci::{Children, Digest};

/// Of the digests that were named lately.
const REMEMBERED_MAX: u64 = 10_000;

pub(super) struct Sizes {
    by_digest: moka::sync::Cache<Digest, u64>,
}

impl Sizes {
    pub(super) fn new() -> Sizes {
        Sizes {
            by_digest: moka::sync::Cache::new(REMEMBERED_MAX),
        }
    }

    /// Where manifests differ the largest counts: one that lies cuts nobody else's transfer short.
    pub(super) fn note(&self, children: &Children) {
        for child in children.iter() {
            // Manifests of schema 1 name no sizes.
            if child.size > self.of(&child.digest).unwrap_or(0) {
                self.by_digest.insert(child.digest, child.size);
            }
        }
    }

    /// In bytes; `None` where no manifest was seen that says it.
    pub(super) fn of(&self, digest: &Digest) -> Option<u64> {
        self.by_digest.get(digest)
    }
}
