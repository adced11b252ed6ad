//! Facts about content: what a tag named, which repository names which digest, media types.
//!
//! sled lies behind it. Nothing here is a truth that cannot be had again, so a failure is logged,
//! counted and answered as if the index were empty; it never fails a pull.

mod database;
mod kept;
mod links;
mod prints;
mod record;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, RwLock};

use crate::clock::Clock;
use crate::oci::{Digest, MediaType, Tag, Target};

use super::layout::Layout;
use super::metrics::{IndexOperation, Metrics};
use super::shared::seconds;

use database::{Fault, Trees};
use links::{LINKS_MAX, Links};
pub use record::TagRecord;

/// The index of one cache directory. Every method is quick.
#[derive(Debug)]
pub struct Index {
    /// Opened by whoever needs it first, so that a large one holds up no start. `None` within while
    /// there is none to be had, on a full disk for example.
    trees: OnceLock<RwLock<Option<Trees>>>,
    links: Links,
    path: PathBuf,
    clock: Clock,
    metrics: Metrics,
    /// Whether the last call failed: a run of failures is logged once.
    failing: AtomicBool,
    /// Something was not written: the index lacks what memory has.
    behind: AtomicBool,
    /// It opened, but reads as damaged.
    damaged: AtomicBool,
    /// Something was written that is not on the disk yet.
    unflushed: AtomicBool,
}

impl Index {
    /// The index beside the blobs of this directory; it is opened when it is first asked.
    pub(super) fn new(layout: &Layout, clock: Clock, metrics: Metrics) -> Self {
        Index {
            trees: OnceLock::new(),
            links: Links::new(LINKS_MAX),
            path: layout.index(),
            clock,
            metrics,
            failing: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            unflushed: AtomicBool::new(false),
        }
    }

    fn trees(&self) -> &RwLock<Option<Trees>> {
        self.trees.get_or_init(|| RwLock::new(self.open_or_begin()))
    }

    /// Opens what is there; what is damaged is put aside and an empty one begun.
    fn open_or_begin(&self) -> Option<Trees> {
        let opened = database::open(&self.path).or_else(|fault| {
            self.note(IndexOperation::Open, &fault);
            if fault.is_passing() {
                return Err(fault);
            }
            self.put_aside()?;
            database::open(&self.path)
        });
        match opened {
            Ok(trees) => {
                for flag in [&self.failing, &self.behind, &self.damaged] {
                    flag.store(false, Ordering::Relaxed);
                }
                Some(trees)
            }
            Err(fault) => {
                self.note(IndexOperation::Open, &fault);
                None
            }
        }
    }

    fn put_aside(&self) -> Result<(), Fault> {
        let aside = Layout::bad_index(&self.path, self.clock.now());
        tracing::warn!(aside = %aside.display(), "the index is put aside and an empty one begun");
        fs::rename(&self.path, aside)?;
        Ok(())
    }

    pub fn tag(&self, target: &Target, tag: &Tag) -> Option<TagRecord> {
        let key = record::tag_key(target, tag);
        let value = self.ask(IndexOperation::Read, |trees| trees.tags.get(&key))??;
        TagRecord::decode(&value)
    }

    pub fn set_tag(&self, target: &Target, tag: &Tag, record: &TagRecord) {
        let key = record::tag_key(target, tag);
        self.ask(IndexOperation::Write, |trees| {
            trees.tags.insert(key, record.encode())
        });
    }

    pub fn remove_tag(&self, target: &Target, tag: &Tag) {
        let key = record::tag_key(target, tag);
        self.ask(IndexOperation::Write, |trees| trees.tags.remove(key));
    }

    /// The tags of a repository that are known, in order.
    pub fn tags_of(&self, target: &Target) -> Vec<Tag> {
        let prefix = record::target_key(target);
        let keys = self.ask(IndexOperation::Read, |trees| {
            trees
                .tags
                .scan_prefix(&prefix)
                .keys()
                .collect::<sled::Result<Vec<_>>>()
        });
        let keys = keys.unwrap_or_default();
        keys.iter()
            .filter_map(|key| record::read_tag(key))
            .collect()
    }

    /// The repositories with a known tag, in order. Steps from one to the next without reading the
    /// tags between.
    pub fn targets(&self) -> Vec<Target> {
        let targets = self.ask(IndexOperation::Read, |trees| {
            let mut targets = Vec::new();
            let mut from = Vec::new();
            while let Some((key, _)) = trees.tags.range(from..).next().transpose()? {
                targets.extend(record::read_target(&key));
                match record::behind_target(&key) {
                    Some(behind) => from = behind,
                    None => break,
                }
            }
            Ok(targets)
        });
        targets.unwrap_or_default()
    }

    /// Notes that manifests of this repository name these digests.
    pub fn link(&self, target: &Target, digests: &mut dyn Iterator<Item = Digest>) {
        let now = record::encode_seconds(seconds(self.clock.now()));
        for digest in digests {
            let key = record::link_key(target, &digest);
            // One by one: who held this for all of them would hold up everybody else.
            let mut links = self.links.change();
            let noted = self.ask(IndexOperation::Write, |trees| {
                trees.links.insert(&key, &now)
            });
            if noted.is_none() {
                return;
            }
            links.put(&key);
        }
    }

    pub fn is_linked(&self, target: &Target, digest: &Digest) -> bool {
        let key = record::link_key(target, digest);
        let known = self.links.contains(&key);
        known.unwrap_or_else(|| self.has_link(&key))
    }

    /// What sled says.
    fn has_link(&self, key: &[u8]) -> bool {
        self.ask(IndexOperation::Read, |trees| trees.links.contains_key(key))
            .unwrap_or(false)
    }

    /// The media type that a manifest came with.
    pub fn media_type(&self, digest: &Digest) -> Option<MediaType> {
        let key = record::digest_key(digest);
        let value = self.ask(IndexOperation::Read, |trees| trees.media_types.get(key))??;
        MediaType::new(str::from_utf8(&value).ok()?)
    }

    pub fn set_media_type(&self, digest: &Digest, media_type: &MediaType) {
        let key = record::digest_key(digest);
        self.ask(IndexOperation::Write, |trees| {
            trees.media_types.insert(key, media_type.as_str())
        });
    }

    fn ask<T>(
        &self,
        operation: IndexOperation,
        question: impl FnOnce(&Trees) -> sled::Result<T>,
    ) -> Option<T> {
        // While it is being opened again it is as if empty.
        let trees = self.trees().try_read().ok()?;
        let trees = trees.as_ref()?;
        match database::guarded(|| question(trees)) {
            Ok(answer) => {
                self.failing.store(false, Ordering::Relaxed);
                if operation == IndexOperation::Write {
                    self.unflushed.store(true, Ordering::Relaxed);
                }
                Some(answer)
            }
            Err(fault) => {
                self.note(operation, &fault);
                None
            }
        }
    }

    fn note(&self, operation: IndexOperation, fault: &Fault) {
        self.metrics.index_error(operation).inc();
        self.behind.store(true, Ordering::Relaxed);
        self.damaged.fetch_or(fault.is_damage(), Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                operation = operation.as_str(), %fault,
                "the index fails; the cache goes on as if it were empty"
            );
        }
    }
}
