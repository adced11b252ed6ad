//! What the operator may ask of the store: how full it is, what is in it, pins and removal.

use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::config;
use crate::oci::Digest;

use super::metrics::Reason;
use super::shared::Limits;
use super::{Error, Store};

/// Entries of one page.
const PAGE: u32 = 4096;

/// How full the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Everything stored is counted; before that, what was met since the start.
    pub complete: bool,
    pub bytes: u64,
    pub objects: usize,
    pub pinned_bytes: u64,
    /// What the content that is being fetched will take.
    pub claimed_bytes: u64,
    pub max_size: u64,
    pub min_free: u64,
    /// Of the file system, where it tells.
    pub free: Option<u64>,
}

/// Stored content in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Exact to a second.
    pub last_use: Timestamp,
    pub pinned: bool,
}

/// A part of the list of everything, in no particular order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Where the next page begins.
    pub next: Option<u32>,
}

/// What became of content that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// So many bytes went.
    Gone(u64),
    Absent,
    /// Pinned content stays until it is unpinned.
    Pinned,
}

impl Store {
    /// From now on this content is never evicted, whether it is stored already or comes later.
    pub fn pin(&self, digest: &Digest) {
        self.shared.order().pin(digest);
        self.shared.index.set_pin(digest, true);
    }

    /// `false` when it was not pinned.
    pub fn unpin(&self, digest: &Digest) -> bool {
        let was = self.shared.order().unpin(digest);
        self.shared.index.set_pin(digest, false);
        was
    }

    /// Quick enough for an async worker.
    pub fn stats(&self) -> Stats {
        let totals = self.shared.totals();
        let limits = self.shared.limits();
        Stats {
            complete: self.shared.loaded.load(Ordering::Acquire),
            bytes: totals.bytes,
            objects: totals.objects,
            pinned_bytes: totals.pinned_bytes,
            claimed_bytes: self.shared.claims.bytes(),
            max_size: limits.max_size,
            min_free: limits.min_free,
            free: self.shared.space.free().ok(),
        }
    }

    /// A page of everything that is stored; begin at 0. Quick enough for an async worker.
    pub fn list(&self, from: u32) -> Page {
        let order = self.shared.order();
        let (records, next) = order.page(from, PAGE);
        let entries = records.into_iter().map(|record| Entry {
            digest: record.digest,
            size: record.size,
            last_use: Timestamp(u64::from(record.last_use) * 1000),
            pinned: order.is_pinned(&record.digest),
        });
        Page {
            entries: entries.collect(),
            next,
        }
    }

    /// Removes content, also while it is read: who reads it reads on. Its tags stay; a pull fetches
    /// it again. Blocking.
    pub fn remove(&self, digest: &Digest) -> Result<Removed, Error> {
        if self.shared.order().is_pinned(digest) {
            return Ok(Removed::Pinned);
        }
        let Some((_, length)) = self.shared.open(digest)? else {
            self.shared.forget(digest);
            return Ok(Removed::Absent);
        };
        self.shared.forget(digest);
        self.shared.discard(digest, length, Reason::Asked)?;
        Ok(Removed::Gone(length))
    }

    /// Takes other limits. The directory stays as it is.
    pub fn set_limits(&self, config: &config::Cache) {
        self.shared.set_limits(Limits::from(config));
    }
}
