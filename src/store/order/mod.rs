//! What is stored, in the order in which it goes when room is needed. Pure: no files, no clock.
//!
//! The policy is S3-FIFO, weighted by size: content enters a small queue, a tenth of the bytes, and
//! most of it leaves from there; what is used meanwhile moves to the main queue, where a use buys
//! another round; what comes back soon after it went enters the main queue at once. So a scan of
//! cold images passes through the small queue and flushes nothing else.
//! Source: Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023.
//!
//! Every call takes the same time whatever is stored, except where it says so.

mod ghosts;
mod kept;
mod queue;
#[cfg(test)]
mod replay;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::mem;

use crate::oci::Digest;

use ghosts::Ghosts;
pub(super) use kept::{Changes, Record};
use queue::Queue;
use slots::{Place, Slot, Slots};

/// One in so many bytes belongs to the small queue.
const SMALL_SHARE: u64 = 10;
/// Uses that are remembered of one piece of content.
const USES_MAX: u8 = 3;
/// Uses that move content from the small queue to the main one.
const USES_TO_STAY: u8 = 1;
/// Uses between which less than one in so many bytes was inserted are one: the ranges of one pull,
/// or a whole cluster that starts the same image.
const ONE_USE_SHARE: u64 = 100;
/// Content up to this size enters the main queue at once: manifests and configurations weigh
/// nothing, and a manifest that has to be fetched again counts against a quota.
const LIGHT_BYTES_MAX: u64 = 64 << 10;
/// Second chances that are given before one victim is found, so that finding it takes no longer
/// when everything is in use.
const CHANCES_MAX: u32 = 1000;
/// The index is told of a use when the last one was in another period of so many seconds.
const LAST_USE_SECONDS: u32 = 600;

/// Everything that is stored.
#[derive(Debug)]
pub(super) struct Order {
    slots: Slots,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    /// What must never go; not all of it needs to be stored.
    pins: HashSet<Digest>,
    pinned_bytes: u64,
    next_number: u64,
    /// Numbers are as the index takes them.
    numbered: bool,
    /// Bytes that were inserted since the start.
    inserted: u64,
    /// Entries that the index does not have as they are, or did not have a while ago.
    changed: Vec<u32>,
    /// Numbers that the index may still have.
    gone: Vec<u64>,
    /// The walk over the files that is under way, or was last.
    walk: u8,
}

/// Sums over everything that is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) bytes: u64,
    pub(super) objects: usize,
    pub(super) pinned_bytes: u64,
}

impl Order {
    /// Nothing stored yet.
    pub(super) fn new() -> Self {
        Order {
            slots: Slots::default(),
            small: Queue::new(Place::Small),
            main: Queue::new(Place::Main),
            ghosts: Ghosts::new(),
            pins: HashSet::new(),
            pinned_bytes: 0,
            next_number: 0,
            numbered: false,
            inserted: 0,
            changed: Vec::new(),
            gone: Vec::new(),
            walk: 0,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            bytes: self.small.bytes + self.main.bytes + self.pinned_bytes,
            objects: self.slots.len(),
            pinned_bytes: self.pinned_bytes,
        }
    }

    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        let at = self.slots.find(digest)?;
        Some(self.slots.get(at).size)
    }

    /// Notes content that was stored now. `now` is in seconds since the Unix epoch.
    pub(super) fn insert(&mut self, digest: &Digest, size: u64, now: u32) {
        if self.slots.find(digest).is_some() {
            self.remove(digest);
        }
        self.inserted += size;
        let number = self.take_number();
        let mut slot = Slot::new(digest, size, number, now);
        slot.counted_at = self.inserted_clock();
        slot.seen = self.walk;
        let at = self.slots.insert(digest, slot);
        let wanted = self.ghosts.take(Slots::ghost_name(digest), self.main.bytes);
        let place = match () {
            () if self.pins.contains(digest) => Place::Pinned,
            () if wanted || size <= LIGHT_BYTES_MAX => Place::Main,
            () => Place::Small,
        };
        self.chain(at, place);
        self.note_change(at);
    }

    /// Notes a use; `false` when this content is not known.
    pub(super) fn touch(&mut self, digest: &Digest, now: u32) -> bool {
        let Some(at) = self.slots.find(digest) else {
            return false;
        };
        let clock = self.inserted_clock();
        let one_use = clock_of(self.totals().bytes / ONE_USE_SHARE);
        let slot = self.slots.get_mut(at);
        let mut tell = slot.last_use / LAST_USE_SECONDS != now / LAST_USE_SECONDS;
        slot.last_use = now;
        if clock.wrapping_sub(slot.counted_at) >= one_use && slot.uses < USES_MAX {
            slot.uses += 1;
            slot.counted_at = clock;
            tell = true;
        }
        if tell {
            self.note_change(at);
        }
        true
    }

    /// Forgets content; its size, where it was known.
    pub(super) fn remove(&mut self, digest: &Digest) -> Option<u64> {
        let at = self.slots.find(digest)?;
        let Slot { size, number, .. } = *self.slots.get(at);
        self.unchain(at);
        self.slots.remove(at);
        self.gone.push(number);
        Some(size)
    }

    /// Takes out what is to go next, passing by what is `busy`. `None` when nothing may go.
    pub(super) fn victim(&mut self, busy: impl Fn(&Digest) -> bool) -> Option<(Digest, u64)> {
        let (mut chances, mut passed) = (0, 0);
        let all = self.small.len + self.main.len;
        while passed <= all {
            let small_is_full =
                self.small.bytes > (self.small.bytes + self.main.bytes) / SMALL_SHARE;
            let from_small = self.main.len == 0 || small_is_full || passed > self.main.len;
            let first = if from_small {
                self.small.first()
            } else {
                self.main.first()
            };
            let at = first.or(self.main.first())?;
            let digest = self.slots.digest(at);
            let slot = self.slots.get(at);
            let (place, uses) = (slot.place, slot.uses);
            if busy(&digest) {
                passed += 1;
                self.requeue(at, uses);
            } else if chances < CHANCES_MAX && place == Place::Small && uses >= USES_TO_STAY {
                chances += 1;
                self.requeue(at, 0);
            } else if chances < CHANCES_MAX && place == Place::Main && uses > 0 {
                chances += 1;
                self.requeue(at, uses - 1);
            } else {
                if place == Place::Small {
                    let others = self.slots.len();
                    let name = Slots::ghost_name(&digest);
                    self.ghosts.add(name, self.slots.get(at).size, others);
                }
                return Some((digest, self.remove(&digest)?));
            }
        }
        None
    }

    /// From now on this content never goes, whether it is here already or comes later.
    pub(super) fn pin(&mut self, digest: &Digest) {
        self.pins.insert(*digest);
        if let Some(at) = self.slots.find(digest) {
            self.unchain(at);
            self.chain(at, Place::Pinned);
        }
    }

    /// Pinned content goes to the end of the main queue. `false` when it was not pinned.
    pub(super) fn unpin(&mut self, digest: &Digest) -> bool {
        let was = self.pins.remove(digest);
        if was && let Some(at) = self.slots.find(digest) {
            self.requeue(at, 0);
        }
        was
    }

    pub(super) fn is_pinned(&self, digest: &Digest) -> bool {
        self.pins.contains(digest)
    }

    /// Everything that is pinned, stored or not. Takes as long as there are pins.
    pub(super) fn pins(&self) -> Vec<Digest> {
        self.pins.iter().copied().collect()
    }

    /// A page of entries, in no particular order, and where the next one begins. What comes and goes
    /// meanwhile may be missed.
    pub(super) fn page(&self, from: u32, max: u32) -> (Vec<Record>, Option<u32>) {
        let end = self.slots.end().min(from.saturating_add(max));
        let entries = (from..end).filter(|at| self.slots.get(*at).place != Place::Free);
        let records = entries.map(|at| self.record(at)).collect();
        (records, (end < self.slots.end()).then_some(end))
    }

    /// A walk over the files begins: no entry has been seen.
    pub(super) fn begin_walk(&mut self) {
        self.walk = self.walk.wrapping_add(1);
    }

    /// The walk met this file; the size that is known of it.
    pub(super) fn see(&mut self, digest: &Digest) -> Option<u64> {
        let at = self.slots.find(digest)?;
        let slot = self.slots.get_mut(at);
        slot.seen = self.walk;
        Some(slot.size)
    }

    pub(super) fn is_seen(&self, digest: &Digest) -> bool {
        let seen = |at| self.slots.get(at).seen == self.walk;
        self.slots.find(digest).is_none_or(seen)
    }

    /// To the end of the main queue, under a new number.
    fn requeue(&mut self, at: u32, uses: u8) {
        self.unchain(at);
        let number = self.take_number();
        let slot = self.slots.get_mut(at);
        slot.uses = uses;
        let old = mem::replace(&mut slot.number, number);
        self.gone.push(old);
        self.chain(at, Place::Main);
        self.note_change(at);
    }

    fn chain(&mut self, at: u32, place: Place) {
        match place {
            Place::Small => self.small.push(&mut self.slots, at),
            Place::Main => self.main.push(&mut self.slots, at),
            Place::Pinned => {
                let slot = self.slots.get_mut(at);
                slot.place = Place::Pinned;
                self.pinned_bytes += slot.size;
            }
            Place::Free => {}
        }
    }

    fn unchain(&mut self, at: u32) {
        let slot = self.slots.get(at);
        match slot.place {
            Place::Small => self.small.unlink(&mut self.slots, at),
            Place::Main => self.main.unlink(&mut self.slots, at),
            Place::Pinned => self.pinned_bytes -= slot.size,
            Place::Free => {}
        }
    }

    fn note_change(&mut self, at: u32) {
        if !mem::replace(&mut self.slots.get_mut(at).changed, true) {
            self.changed.push(at);
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn inserted_clock(&self) -> u32 {
        clock_of(self.inserted)
    }
}

/// Inserted bytes as a clock that fits an entry; it wraps.
fn clock_of(bytes: u64) -> u32 {
    (bytes >> 16) as u32
}
