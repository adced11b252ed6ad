//! One compact entry for each stored blob, found by its digest, chained into queues.
//!
//! An entry takes some 80 bytes and its place in the table 5 more, so a million blobs fit beside
//! everything else. Entries keep their place in the vector while they live.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::oci::{Algorithm, Digest};

/// The end of a chain.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of a hash that lie in the entry itself.
const HEAD_BYTES: usize = 32;

/// Where an entry is chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the slot is unused.
    Free,
    Small,
    Main,
    /// In no queue: pinned content never goes.
    Pinned,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The hash, or its first half where it is longer.
    head: [u8; HEAD_BYTES],
    pub(super) size: u64,
    /// Its place in the order of all content, on disk as in the queue. Never used twice.
    pub(super) number: u64,
    /// Seconds since the Unix epoch.
    pub(super) last_use: u32,
    /// When a use was last counted, by the clock of inserted bytes.
    pub(super) counted_at: u32,
    pub(super) previous: u32,
    pub(super) next: u32,
    pub(super) uses: u8,
    pub(super) place: Place,
    /// Differs from what the index has.
    pub(super) changed: bool,
    /// The last walk that met its file.
    pub(super) seen: u8,
    wide: bool,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
    /// The second halves of long hashes.
    tails: HashMap<u32, [u8; HEAD_BYTES]>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Slots that were ever used: the end of a run over all of them.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<u32> {
        let hash = self.hash(head(digest));
        self.table.find(hash, |at| self.is(*at, digest)).copied()
    }

    /// Puts in an entry that is not there yet.
    pub(super) fn insert(&mut self, digest: &Digest, slot: Slot) -> u32 {
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(tail) = digest.hash().get(HEAD_BYTES..)
            && let Ok(tail) = tail.try_into()
        {
            self.tails.insert(at, tail);
        }
        let Slots {
            slots,
            table,
            hasher,
            ..
        } = self;
        let rehash = |at: &u32| hasher.hash_one(slots[*at as usize].head);
        table.insert_unique(hasher.hash_one(head(digest)), at, rehash);
        at
    }

    /// Frees an entry that is in no chain any more.
    pub(super) fn remove(&mut self, at: u32) {
        let hash = self.hash(&self.slots[at as usize].head);
        let slots = &self.slots;
        let rehash = |at: &u32| self.hasher.hash_one(slots[*at as usize].head);
        match self.table.entry(hash, |other| *other == at, rehash) {
            Entry::Occupied(entry) => drop(entry.remove()),
            Entry::Vacant(_) => {}
        }
        self.tails.remove(&at);
        self.slots[at as usize].place = Place::Free;
        self.slots[at as usize].changed = false;
        self.free.push(at);
    }

    pub(super) fn digest(&self, at: u32) -> Digest {
        let slot = &self.slots[at as usize];
        let told = if slot.wide {
            let mut hash = [0; 2 * HEAD_BYTES];
            hash[..HEAD_BYTES].copy_from_slice(&slot.head);
            if let Some(tail) = self.tails.get(&at) {
                hash[HEAD_BYTES..].copy_from_slice(tail);
            }
            Digest::from_hash(Algorithm::Sha512, &hash)
        } else {
            Digest::from_hash(Algorithm::Sha256, &slot.head)
        };
        told.expect("the lengths are those of the algorithms")
    }

    pub(super) fn get(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }

    /// A name for an entry's ghost.
    pub(super) fn ghost_name(digest: &Digest) -> u64 {
        let mut name = [0; 8];
        name.copy_from_slice(&digest.hash()[..8]);
        u64::from_be_bytes(name)
    }

    fn is(&self, at: u32, digest: &Digest) -> bool {
        let slot = &self.slots[at as usize];
        slot.head == *head(digest)
            && match digest.hash().get(HEAD_BYTES..) {
                Some(tail) if slot.wide => self.tails.get(&at).is_some_and(|own| own == tail),
                Some(tail) => tail.is_empty(),
                None => !slot.wide,
            }
    }

    fn hash(&self, head: &[u8; HEAD_BYTES]) -> u64 {
        self.hasher.hash_one(head)
    }
}

impl Slot {
    /// A fresh entry, in no chain.
    pub(super) fn new(digest: &Digest, size: u64, number: u64, last_use: u32) -> Self {
        Slot {
            head: *head(digest),
            size,
            number,
            last_use,
            counted_at: 0,
            previous: NONE,
            next: NONE,
            uses: 0,
            place: Place::Free,
            changed: false,
            seen: 0,
            wide: digest.algorithm() == Algorithm::Sha512,
        }
    }
}

fn head(digest: &Digest) -> &[u8; HEAD_BYTES] {
    digest
        .hash()
        .first_chunk()
        .expect("every hash has at least this length")
}
