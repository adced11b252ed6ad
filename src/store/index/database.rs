//! Opening sled, and keeping its accidents in here.
//!
//! sled 0.34 reports most damage as an error and some as a panic; both become a [`Fault`].

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sled::Mode;

use crate::store::error::is_full;

/// sled's page cache. It takes about twice of this; the index is read far less than the files.
const CACHE_BYTES: u64 = 4 << 20;
/// Told apart from an index of another make, which is put aside.
const SCHEMA: &[u8] = b"weir index 2";
/// Tries to open a database that was closed a moment ago, and the pause between two.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// One tree for each kind of fact.
#[derive(Debug, Clone)]
pub(super) struct Trees {
    database: sled::Db,
    pub(super) tags: sled::Tree,
    pub(super) links: sled::Tree,
    pub(super) media_types: sled::Tree,
    /// What is stored, in the order in which it goes.
    pub(super) order: sled::Tree,
    pub(super) pins: sled::Tree,
}

impl Trees {
    pub(super) fn flush(&self) -> sled::Result<()> {
        self.database.flush().map(drop)
    }
}

/// Opens the database at `path`, or begins it. Blocking.
pub(super) fn open(path: &Path) -> Result<Trees, Fault> {
    let config = sled::Config::default()
        .path(path)
        .mode(Mode::HighThroughput)
        .cache_capacity(CACHE_BYTES)
        // The upkeep flushes; until then the files are the truth.
        .flush_every_ms(None);
    open_unlocked(&config)
        .and_then(check_schema)
        .and_then(|database| guarded(|| open_trees(database)))
}

/// Waits while the threads of a database that was closed are at the end of their work: until then they
/// keep its lock.
fn open_unlocked(config: &sled::Config) -> Result<sled::Db, Fault> {
    let is_locked = |fault: &Fault| matches!(fault, Fault::Sled(sled::Error::Io(error)) if error.to_string().contains("lock"));
    for _ in 1..TRIES {
        match guarded(|| config.open()) {
            Err(fault) if is_locked(&fault) => thread::sleep(PAUSE),
            opened => return opened,
        }
    }
    guarded(|| config.open())
}

fn check_schema(database: sled::Db) -> Result<sled::Db, Fault> {
    match guarded(|| database.get("schema"))? {
        Some(found) if found == SCHEMA => {}
        Some(_) => return Err(Fault::Schema),
        None => {
            guarded(|| database.insert("schema", SCHEMA))?;
        }
    }
    Ok(database)
}

fn open_trees(database: sled::Db) -> sled::Result<Trees> {
    Ok(Trees {
        tags: database.open_tree("tags")?,
        links: database.open_tree("links")?,
        media_types: database.open_tree("media types")?,
        order: database.open_tree("order")?,
        pins: database.open_tree("pins")?,
        database,
    })
}

/// Runs something of sled's; a panic is a fault like any other.
pub(super) fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => answer.map_err(Fault::Sled),
        Err(panic) => Err(Fault::Panic(panic_text(&*panic))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_default()
}

/// What went wrong in sled.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Sled(#[source] sled::Error),
    #[error("sled panicked: {0}")]
    Panic(String),
    #[error("it was written by another version of weir")]
    Schema,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Fault {
    /// Whether there is only no room, or no right to write: then the index itself may be whole.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Fault::Sled(sled::Error::Io(error)) | Fault::Io(error) => {
                is_full(error) || error.kind() == io::ErrorKind::PermissionDenied
            }
            Fault::Sled(_) | Fault::Panic(_) | Fault::Schema => false,
        }
    }

    /// Whether the index has shown that it is not to be trusted any more.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Fault::Sled(sled::Error::Io(_)) | Fault::Io(_) => false,
            Fault::Sled(_) | Fault::Panic(_) | Fault::Schema => true,
        }
    }
}
