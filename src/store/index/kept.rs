//! What the index keeps for the store itself: the order of everything stored, and the pins.
//!
//! Memory is ahead of this by a few seconds. Entries lie in rows by their places in the order, so they
//! come at the end and go mostly at the front, and neither costs more with a million of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use sled::IVec;

use crate::clock::Timestamp;
use crate::oci::Digest;
use crate::store::metrics::IndexOperation;
use crate::store::order::{Changes, Record};
use crate::store::shared::seconds;

use super::database::{self, Trees};
use super::record::ENTRIES_A_ROW;
use super::{Index, TagRecord, record};

/// Rows that are looked at between two questions whether to go on.
const ROWS_AT_ONCE: usize = 1000;
/// Links that are taken into memory while whoever notes one waits.
const LINKS_AT_ONCE: usize = 128;

impl Index {
    /// A number above all that were given out.
    pub(in crate::store) fn next_number(&self) -> u64 {
        let last = self.ask(IndexOperation::Read, |trees| trees.order.last());
        let row = last
            .flatten()
            .and_then(|(key, _)| record::read_row_key(&key));
        row.map_or(0, |row| (row + 1) * ENTRIES_A_ROW)
    }

    /// The entries of up to `max` rows below row `before`, the highest number first, and the row below
    /// which to go on.
    pub(in crate::store) fn entries(&self, before: u64, max: usize) -> (Vec<Record>, Option<u64>) {
        let rows = self.ask(IndexOperation::Read, |trees| {
            let rows = trees.order.range(..record::row_key(before)).rev();
            rows.take(max).collect::<sled::Result<Vec<_>>>()
        });
        let rows = rows.unwrap_or_default();
        let next = rows.last().and_then(|(key, _)| record::read_row_key(key));
        let entries = rows
            .iter()
            .flat_map(|(key, value)| record::decode_row(key, value).into_iter().rev());
        (entries.collect(), next)
    }

    /// Writes what has changed. Later places first: an entry that is there twice is noticed, one that
    /// is missing has to be found by the walk.
    pub(in crate::store) fn write(&self, changes: &Changes) {
        let mut rows: BTreeMap<u64, BTreeMap<u64, Option<&Record>>> = BTreeMap::new();
        let gone = changes.gone.iter().map(|number| (*number, None));
        let put = changes.put.iter().map(|entry| (entry.number, Some(entry)));
        for (number, change) in gone.chain(put) {
            let row = rows.entry(number / ENTRIES_A_ROW).or_default();
            row.insert(number, change);
        }
        let wrote = self.ask(IndexOperation::Write, |trees| {
            for (row, changes) in rows.iter().rev() {
                write_row(&trees.order, *row, changes)?;
            }
            Ok(())
        });
        if wrote.is_none() {
            self.behind.store(true, Ordering::Relaxed);
        }
    }

    pub(in crate::store) fn pins(&self) -> Vec<Digest> {
        let keys = self.ask(IndexOperation::Read, |trees| {
            trees.pins.iter().keys().collect::<sled::Result<Vec<_>>>()
        });
        let keys = keys.unwrap_or_default();
        let read = |key| Some(record::split_digest(key)?.0);
        keys.iter().filter_map(|key| read(key)).collect()
    }

    pub(in crate::store) fn set_pin(&self, digest: &Digest, pinned: bool) {
        let key = record::digest_key(digest);
        self.ask(IndexOperation::Write, |trees| {
            if pinned {
                trees.pins.insert(key, &[])
            } else {
                trees.pins.remove(key)
            }
        });
    }

    /// Content is gone: so is what was known of it alone. What tags and repositories name stays true.
    pub(in crate::store) fn forget(&self, digest: &Digest) {
        let key = record::digest_key(digest);
        self.ask(IndexOperation::Write, |trees| trees.media_types.remove(key));
    }

    /// Removes what was noted before `oldest` about content that is not stored: links and tags that
    /// nobody asked for again, and media types of manifests that are gone. Takes as long as there are
    /// facts; `go_on` is asked now and then.
    pub(in crate::store) fn prune(
        &self,
        oldest: Timestamp,
        is_stored: &dyn Fn(&Digest) -> bool,
        go_on: &dyn Fn() -> bool,
    ) {
        let oldest_seconds = seconds(oldest);
        self.each_row(
            go_on,
            |trees| &trees.links,
            |key, value| {
                let linked_at = record::decode_seconds(value);
                let digest = record::read_link(key);
                let stays = linked_at.is_some_and(|at| at >= oldest_seconds)
                    || digest.is_some_and(|digest| is_stored(&digest));
                if !stays {
                    let mut links = self.links.change();
                    if self.remove_unchanged(|trees| &trees.links, key, value) {
                        links.remove(key);
                    }
                }
            },
        );
        self.links.change().reconsider();
        self.each_row(
            go_on,
            |trees| &trees.tags,
            |key, value| {
                let stays = TagRecord::decode(value)
                    .is_some_and(|record| record.checked_at >= oldest || is_stored(&record.digest));
                if !stays {
                    self.remove_unchanged(|trees| &trees.tags, key, value);
                }
            },
        );
        self.each_row(
            go_on,
            |trees| &trees.media_types,
            |key, value| {
                let digest = record::split_digest(key);
                if !digest.is_some_and(|(digest, _)| is_stored(&digest)) {
                    self.remove_unchanged(|trees| &trees.media_types, key, value);
                }
            },
        );
    }

    fn each_row(
        &self,
        go_on: &dyn Fn() -> bool,
        tree: impl Fn(&Trees) -> &sled::Tree,
        visit: impl Fn(&IVec, &IVec),
    ) {
        let mut from = Bound::Unbounded;
        while go_on() {
            let rows = self.ask(IndexOperation::Read, |trees| {
                let rows = tree(trees).range::<IVec, _>((from.clone(), Bound::Unbounded));
                rows.take(ROWS_AT_ONCE).collect::<sled::Result<Vec<_>>>()
            });
            let rows = rows.unwrap_or_default();
            let Some((last, _)) = rows.last() else {
                return;
            };
            from = Bound::Excluded(last.clone());
            for (key, value) in &rows {
                visit(key, value);
            }
        }
    }

    /// Removes a row; not when it was noted anew meanwhile.
    fn remove_unchanged(
        &self,
        tree: impl Fn(&Trees) -> &sled::Tree,
        key: &IVec,
        value: &IVec,
    ) -> bool {
        let removed = self.ask(IndexOperation::Write, |trees| {
            tree(trees).compare_and_swap(key, Some(value), None::<IVec>)
        });
        matches!(removed, Some(Ok(())))
    }

    /// Takes all links into memory, where they are not there yet. Takes as long as there are links;
    /// `go_on` is asked now and then.
    pub(in crate::store) fn load_links(&self, go_on: &dyn Fn() -> bool) {
        let Some(era) = self.links.wanted_in() else {
            return;
        };
        let mut from = Bound::Unbounded;
        while go_on() {
            // Read without the lock, which whoever notes a link waits for.
            let removals = self.links.change().removals();
            let rows = self.ask(IndexOperation::Read, |trees| {
                let rows = trees
                    .links
                    .range::<IVec, _>((from.clone(), Bound::Unbounded));
                let keys = rows.keys().take(LINKS_AT_ONCE);
                keys.collect::<sled::Result<Vec<_>>>()
            });
            let mut links = self.links.change();
            // What was read before another was opened says nothing of that one.
            let Some(rows) = rows.filter(|_| links.era() == era) else {
                return;
            };
            if links.removals() != removals {
                continue;
            }
            let Some(last) = rows.last() else {
                links.fill();
                return;
            };
            for key in &rows {
                links.put(key);
            }
            from = Bound::Excluded(last.clone());
        }
    }

    /// Brings everything to the disk. Blocking.
    pub(in crate::store) fn flush(&self) {
        self.unflushed.store(false, Ordering::Relaxed);
        self.ask(IndexOperation::Flush, |trees| trees.flush());
    }

    /// Whether [`Index::flush`] has something to do.
    pub(in crate::store) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Relaxed)
    }

    /// Whether something was not written since the last [`Index::reopen`].
    pub(in crate::store) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Closes what there is and opens it again: after an error sled takes nothing more. What showed
    /// itself damaged is put aside. What was not written is to be written anew. Blocking.
    pub(in crate::store) fn reopen(&self) {
        let mut trees = self.trees().write().unwrap_or_else(PoisonError::into_inner);
        // Closing writes once more, and may fail once more.
        let closed = database::guarded(|| {
            drop(trees.take());
            Ok(())
        });
        if let Err(fault) = closed {
            self.note(IndexOperation::Flush, &fault);
        }
        if self.damaged.swap(false, Ordering::Relaxed)
            && let Err(fault) = self.put_aside()
        {
            self.note(IndexOperation::Open, &fault);
        }
        *trees = self.open_or_begin();
        // Nobody who holds this waits for the trees.
        self.links.change().begin_era();
    }
}

/// Writes the entries that came into one row or changed, and leaves out those that went.
fn write_row(
    order: &sled::Tree,
    row: u64,
    changes: &BTreeMap<u64, Option<&Record>>,
) -> sled::Result<()> {
    let key = record::row_key(row);
    let kept = order.get(key)?;
    let mut entries = kept.map_or_else(Vec::new, |value| record::decode_row(&key, &value));
    entries.retain(|entry| !changes.contains_key(&entry.number));
    entries.extend(changes.values().copied().flatten().cloned());
    entries.sort_by_key(|entry| entry.number);
    if entries.is_empty() {
        order.remove(key)?;
    } else {
        order.insert(key, record::encode_row(&entries))?;
    }
    Ok(())
}
