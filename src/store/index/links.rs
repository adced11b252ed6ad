//! Which repository names which digest, once more in memory: a look among a million links waits for
//! memory once, where sled would read and unpack pages.
//!
//! sled keeps the links; this is a set of their fingerprints. It answers only while it holds all of
//! them, and then exactly as sled would: whoever changes sled's links changes both under one lock.
//! Until it is filled, and when there are more links than it takes, sled is asked.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use rustls::crypto::aws_lc_rs;
use sha2::{Digest as _, Sha256};

use super::prints::{Print, Prints};

/// A million takes up to 25 MB, and so many up to 100.
pub(super) const LINKS_MAX: usize = 4_000_000;
/// Tables that grow one by one, so that nobody waits while a large one does.
const TABLES: usize = 64;
/// What SHA-256 takes in at once.
const SECRET_BYTES: usize = 64;

pub(super) struct Links {
    /// Has taken in the secret.
    seeded: Sha256,
    tables: [RwLock<Prints>; TABLES],
    /// Everything that sled has is in the tables.
    filled: AtomicBool,
    state: Mutex<State>,
}

/// For whoever changes what is linked.
#[derive(Debug)]
struct State {
    count: usize,
    max: usize,
    /// There were more than `max`.
    given_up: bool,
    /// How often sled was opened again.
    era: u64,
    /// How often a link went.
    removals: u64,
}

/// Nobody else changes a link, here or in sled, while this lives.
pub(super) struct Changes<'a> {
    links: &'a Links,
    state: MutexGuard<'a, State>,
}

impl Links {
    pub(super) fn new(max: usize) -> Self {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut secret)
            .expect("the operating system has randomness");
        Links {
            seeded: Sha256::new_with_prefix(secret),
            tables: std::array::from_fn(|_| RwLock::default()),
            filled: AtomicBool::new(false),
            state: Mutex::new(State {
                count: 0,
                max,
                given_up: false,
                era: 0,
                removals: 0,
            }),
        }
    }

    /// Whether there is a link with this key. `None`: sled has to be asked.
    pub(super) fn contains(&self, key: &[u8]) -> Option<bool> {
        if !self.filled.load(Ordering::Acquire) {
            return None;
        }
        let print = self.print(key);
        let table = self.table(&print).read();
        let found = table
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&print);
        // It may have been emptied meanwhile, and says so before it is.
        (found || self.filled.load(Ordering::Acquire)).then_some(found)
    }

    pub(super) fn change(&self) -> Changes<'_> {
        Changes {
            links: self,
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The era in which it is to be filled, where that is due.
    pub(super) fn wanted_in(&self) -> Option<u64> {
        let state = self.change().state;
        let wanted = !state.given_up && !self.filled.load(Ordering::Acquire);
        wanted.then_some(state.era)
    }

    /// 127 bits of a SHA-256 over a secret of this process and the link's key.
    ///
    /// The answer decides who gets a blob, so no link may be taken for another. A link that somebody
    /// makes up has the print of one of four million others once in 2^105 tries; and without the secret
    /// it can be tried nowhere but by asking here.
    fn print(&self, key: &[u8]) -> Print {
        let hash = self.seeded.clone().chain_update(key).finalize();
        let half = |at: usize| {
            let mut half = [0; 8];
            half.copy_from_slice(&hash[at..at + 8]);
            u64::from_le_bytes(half)
        };
        // Zero is no print.
        [half(0), half(8) | 1]
    }

    fn table(&self, print: &Print) -> &RwLock<Prints> {
        // The first half says where in the table.
        &self.tables[(print[1] >> 32) as usize % TABLES]
    }
}

impl Changes<'_> {
    /// sled has this link now.
    pub(super) fn put(&mut self, key: &[u8]) {
        if self.state.given_up {
            return;
        }
        let print = self.links.print(key);
        let table = self.links.table(&print);
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        if !table.insert(print) {
            return;
        }
        drop(table);
        self.state.count += 1;
        if self.state.count > self.state.max {
            tracing::info!(max = self.state.max, "more links than are kept in memory");
            self.empty();
            self.state.given_up = true;
        }
    }

    /// sled has this link no longer.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.state.removals += 1;
        let print = self.links.print(key);
        let table = self.links.table(&print);
        let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
        if table.remove(&print) {
            self.state.count -= 1;
        }
    }

    pub(super) fn era(&self) -> u64 {
        self.state.era
    }

    /// As long as this is the same, what was read of sled's links is still there.
    pub(super) fn removals(&self) -> u64 {
        self.state.removals
    }

    /// Everything that sled has was put in.
    pub(super) fn fill(&mut self) {
        let filled = !self.state.given_up;
        self.links.filled.store(filled, Ordering::Release);
    }

    /// sled was opened again and may have lost something.
    pub(super) fn begin_era(&mut self) {
        self.empty();
        self.state.given_up = false;
        self.state.era += 1;
    }

    /// Where there were too many, there may be fewer now.
    pub(super) fn reconsider(&mut self) {
        self.state.given_up = false;
    }

    fn empty(&mut self) {
        self.links.filled.store(false, Ordering::Release);
        for table in &self.links.tables {
            let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
            *table = Prints::default();
        }
        self.state.count = 0;
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Links { state, filled, .. } = self;
        f.debug_struct("Links")
            .field("state", state)
            .field("filled", filled)
            .finish_non_exhaustive()
    }
}
