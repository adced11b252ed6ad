//! The order as the index keeps it: taken in at the start, told of changes from then on.
//!
//! The index is always a little behind, and may lose everything; the order goes on all the same.

use std::mem;

use crate::oci::Digest;

use super::slots::{Place, Slot};
use super::{Order, USES_MAX};

/// One entry, as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Record {
    pub(in crate::store) digest: Digest,
    pub(in crate::store) size: u64,
    /// Lower goes earlier.
    pub(in crate::store) number: u64,
    /// Seconds since the Unix epoch.
    pub(in crate::store) last_use: u32,
    pub(in crate::store) uses: u8,
    /// In the main queue rather than the small one.
    pub(in crate::store) main: bool,
}

/// What the index is to be told.
#[derive(Debug, Default)]
pub(in crate::store) struct Changes {
    pub(in crate::store) put: Vec<Record>,
    pub(in crate::store) gone: Vec<u64>,
}

impl Order {
    pub(in crate::store) fn is_numbered(&self) -> bool {
        self.numbered
    }

    /// Lifts all numbers by `first`, above all that the index has; only the first call does. Before
    /// it, nothing is restored and no changes are taken. Takes as long as there are entries.
    pub(in crate::store) fn number_from(&mut self, first: u64) {
        if mem::replace(&mut self.numbered, true) {
            return;
        }
        for at in 0..self.slots.end() {
            self.slots.get_mut(at).number += first;
        }
        self.next_number += first;
        // The index has none of these.
        self.gone.clear();
    }

    /// Takes in what the index has from earlier, the highest number first. Content that was inserted
    /// meanwhile keeps its later place.
    pub(in crate::store) fn restore(&mut self, record: &Record) {
        if let Some(at) = self.slots.find(&record.digest) {
            self.merge(at, record);
            return;
        }
        let mut slot = Slot::new(&record.digest, record.size, record.number, record.last_use);
        slot.uses = record.uses.min(USES_MAX);
        // The first use from now on counts.
        slot.counted_at = self.inserted_clock().wrapping_sub(u32::MAX / 2);
        slot.seen = self.walk.wrapping_sub(1);
        let at = self.slots.insert(&record.digest, slot);
        if self.pins.contains(&record.digest) {
            self.chain(at, Place::Pinned);
        } else if record.main {
            self.main.push_front(&mut self.slots, at);
        } else {
            self.small.push_front(&mut self.slots, at);
        }
    }

    /// Joins what the index has of an entry with what memory has, which is later.
    fn merge(&mut self, at: u32, record: &Record) {
        let slot = self.slots.get_mut(at);
        if slot.number == record.number {
            return;
        }
        slot.uses = slot.uses.saturating_add(record.uses).min(USES_MAX);
        if record.main && slot.place == Place::Small {
            self.unchain(at);
            self.chain(at, Place::Main);
        }
        self.gone.push(record.number);
        self.note_change(at);
    }

    pub(in crate::store) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }

    /// What the index does not know yet, up to about `max` entries.
    pub(in crate::store) fn take_changes(&mut self, max: usize) -> Changes {
        let mut changes = Changes::default();
        while changes.put.len() < max
            && let Some(at) = self.changed.pop()
        {
            let slot = self.slots.get_mut(at);
            if mem::take(&mut slot.changed) {
                changes.put.push(self.record(at));
            }
        }
        let kept = self.gone.len().saturating_sub(max);
        changes.gone = self.gone.split_off(kept);
        changes
    }

    /// The index has lost everything. Takes as long as there are entries.
    pub(in crate::store) fn change_all(&mut self) {
        self.gone.clear();
        for at in 0..self.slots.end() {
            if self.slots.get(at).place != Place::Free {
                self.note_change(at);
            }
        }
    }

    pub(super) fn record(&self, at: u32) -> Record {
        let slot = self.slots.get(at);
        Record {
            digest: self.slots.digest(at),
            size: slot.size,
            number: slot.number,
            last_use: slot.last_use,
            uses: slot.uses,
            main: slot.place != Place::Small,
        }
    }
}
