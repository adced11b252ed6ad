//! What the store and the content that is on its way in both need: files, order and index in step.
//!
//! The order is only ever ahead of the files by one rename or removal; whoever finds it wrong puts
//! it right.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::oci::Digest;
use bytes::Bytes;

use super::blob::Leases;
use super::care::{Chore, Chores};
use super::layout::Layout;
use super::metrics::{FoundBad, Reason};
use super::order::{Order, Totals};
use super::space::Space;
use super::staged::Claims;
use super::{Blob, Doing, Error, Index, Metrics, NoRoom};

/// Entries that the index is told of between two looks at the lock.
const CHANGES_AT_ONCE: usize = 1024;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) layout: Layout,
    pub(super) space: Space,
    pub(super) index: Index,
    order: Mutex<Order>,
    /// The order has what the index kept of it. Before that nothing is evicted.
    pub(super) loaded: AtomicBool,
    pub(super) leases: Arc<Leases>,
    pub(super) claims: Arc<Claims>,
    /// Bytes of partial files that nobody writes now, as of the last sweep and what happened since.
    pub(super) left_bytes: AtomicU64,
    limits: RwLock<Limits>,
    pub(super) chores: Chores,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

/// How much the cache may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_size: u64,
    pub(super) min_free: u64,
}

impl Limits {
    /// Above this many bytes the upkeep makes room, so that a fill seldom has to.
    pub(super) fn high_water(self) -> u64 {
        self.max_size - self.max_size / 50
    }

    /// Down to this many.
    pub(super) fn low_water(self) -> u64 {
        self.max_size - self.max_size / 20
    }
}

impl From<&config::Cache> for Limits {
    fn from(config: &config::Cache) -> Self {
        Limits {
            max_size: config.max_size,
            min_free: config.min_free,
        }
    }
}

impl Shared {
    pub(super) fn new(
        config: &config::Cache,
        layout: Layout,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let index = Index::new(&layout, clock, metrics.clone());
        let shared = Shared {
            space: Space::new(&config.directory, clock),
            order: Mutex::new(Order::new()),
            loaded: AtomicBool::new(false),
            layout,
            index,
            leases: Arc::default(),
            claims: Arc::default(),
            left_bytes: AtomicU64::new(0),
            limits: RwLock::new(config.into()),
            chores: Chores::default(),
            clock,
            metrics,
        };
        shared.set_limits(config.into());
        shared
    }

    pub(super) fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        self.metrics.max_bytes.set(as_gauge(limits.max_size));
        self.chores.of(Chore::Room).notify_one();
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn totals(&self) -> Totals {
        self.order().totals()
    }

    /// Bytes that count against `max_size`: what is stored, what is on its way, what was left.
    pub(super) fn taken(&self) -> u64 {
        let left = self.left_bytes.load(Ordering::Relaxed);
        self.totals().bytes + self.claims.bytes() + left
    }

    /// A partial file of so many bytes is being written again.
    pub(super) fn take_up_left(&self, bytes: u64) {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let _ = self
            .left_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let Some((file, length)) = self.open(digest)? else {
            self.forget(digest);
            return Ok(None);
        };
        // Leased first, so that an eviction that is choosing now passes by.
        let blob = Blob::new(*digest, length, Arc::new(file), &self.leases);
        let known = self.order().size(digest);
        if known.is_some_and(|known| known != length) {
            self.put_aside(digest, FoundBad::Read);
            return Ok(None);
        }
        let now = seconds(self.clock.now());
        let touched = self.order().touch(digest, now);
        if !touched {
            self.account(digest, length, now);
        }
        Ok(Some(blob))
    }

    /// The file of `digest`, open, and its length; no use is noted.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let path = self.layout.blob(digest);
        let opened = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(Doing::Open, &path, digest, error)),
        }
    }

    pub(super) fn read(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>, Error> {
        let Some(blob) = self.blob(digest)? else {
            return Ok(None);
        };
        let length = match usize::try_from(blob.length) {
            Ok(length) if length <= limit => length,
            Ok(_) | Err(_) => {
                return Err(Error::TooLarge {
                    digest: *digest,
                    length: blob.length,
                    limit,
                });
            }
        };
        let mut content = vec![0; length];
        let read = blob.file.read_exact_at(&mut content, 0);
        read.map_err(|error| Error::io(Doing::Read, &self.layout.blob(digest), digest, error))?;
        if Digest::of(digest.algorithm(), &content) != *digest {
            self.put_aside(digest, FoundBad::Read);
            return Ok(None);
        }
        Ok(Some(content.into()))
    }

    /// Notes content that is stored now.
    pub(super) fn account(&self, digest: &Digest, size: u64, now: u32) {
        let mut order = self.order();
        order.insert(digest, size, now);
        self.show(order.totals());
    }

    /// Notes that there is no such file. The size, where there was thought to be one.
    pub(super) fn forget(&self, digest: &Digest) -> Option<u64> {
        let mut order = self.order();
        let size = order.remove(digest)?;
        self.show(order.totals());
        Some(size)
    }

    pub(super) fn show(&self, totals: Totals) {
        self.metrics.bytes.set(as_gauge(totals.bytes));
        self.metrics.objects.set(as_gauge(totals.objects as u64));
        self.metrics.pinned_bytes.set(as_gauge(totals.pinned_bytes));
    }

    pub(super) fn published(&self, digest: Digest, length: u64, file: Arc<File>) -> Blob {
        let blob = Blob::new(digest, length, file, &self.leases);
        self.account(&digest, length, seconds(self.clock.now()));
        blob
    }

    /// Sees to it that `bytes` more may be written; evicts where that helps. Blocking.
    pub(super) fn make_room(&self, digest: &Digest, bytes: u64) -> Result<(), Error> {
        let found = self.find_room(bytes);
        let limits = self.limits();
        if self.taken() > limits.high_water() || found.is_err() {
            self.chores.of(Chore::Room).notify_one();
        }
        found.map_err(|why| {
            self.metrics.no_room.inc();
            Error::NoRoom {
                digest: *digest,
                why,
            }
        })
    }

    fn find_room(&self, bytes: u64) -> Result<(), NoRoom> {
        let Limits { max_size, min_free } = self.limits();
        if bytes > max_size {
            return Err(NoRoom::MaxSize { max_size });
        }
        let over = self.taken().saturating_sub(max_size);
        self.evict(over, Reason::Size, &|| true);
        if self.totals().bytes > max_size {
            return Err(NoRoom::Taken { max_size });
        }
        let missing = |free: io::Result<u64>| {
            // A file system that does not tell is taken to have room; a write will show.
            let free = free.unwrap_or(u64::MAX);
            min_free.saturating_add(bytes).saturating_sub(free)
        };
        let short_of = missing(self.space.free());
        if short_of == 0 {
            return Ok(());
        }
        // Nothing is thrown away for nothing.
        if short_of <= self.totals().bytes {
            self.evict(short_of, Reason::Free, &|| true);
        }
        match missing(self.space.free_now()) {
            0 => Ok(()),
            _ => Err(NoRoom::MinFree { min_free }),
        }
    }

    /// Removes content until `wanted` bytes went, nothing is left that may go, or `go_on` says no.
    /// The bytes that went. Blocking.
    pub(super) fn evict(&self, wanted: u64, reason: Reason, go_on: &dyn Fn() -> bool) -> u64 {
        let mut freed = 0;
        if !self.loaded.load(Ordering::Acquire) {
            return freed;
        }
        while freed < wanted && go_on() {
            let busy = |digest: &Digest| self.leases.contains(digest);
            let Some((digest, size)) = self.order().victim(busy) else {
                break;
            };
            if let Err(error) = self.discard(&digest, size, reason) {
                tracing::error!(%error, "content that was to go stays");
                self.account(&digest, size, seconds(self.clock.now()));
                break;
            }
            freed += size;
        }
        freed
    }

    /// Removes the file of content that the order does not have any more.
    pub(super) fn discard(&self, digest: &Digest, size: u64, reason: Reason) -> Result<(), Error> {
        let path = self.layout.blob(digest);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(Doing::Remove, &path, digest, error)),
        }
        self.index.forget(digest);
        self.metrics.evicted(reason, 1, size);
        tracing::debug!(%digest, size, reason = reason.as_str(), "removed from the cache");
        let mut order = self.order();
        // Somebody who opened the file just before noted it again.
        if order.size(digest).is_some() && !path.exists() {
            order.remove(digest);
        }
        self.show(order.totals());
        Ok(())
    }

    /// Moves a file that is not what its name says out of the way, so that it is fetched again.
    pub(super) fn put_aside(&self, digest: &Digest, found: FoundBad) {
        self.metrics.found_bad(found).inc();
        self.forget(digest);
        let from = self.layout.blob(digest);
        let to = self.layout.quarantined(digest, self.clock.now());
        let error = fs::rename(&from, &to).err().map(tracing::field::display);
        tracing::error!(
            %digest, found_by = found.as_str(), aside = %to.display(), error,
            "stored content is not what its digest says; it is moved aside and fetched again"
        );
    }

    /// Sees to it that numbers in the order lie above all that the index has. Blocking.
    pub(super) fn number(&self) {
        if !self.order().is_numbered() {
            let from = self.index.next_number();
            self.order().number_from(from);
        }
    }

    /// Writes to the index what only memory knows, and brings it to the disk. Blocking.
    pub(super) fn tell_index(&self) {
        self.number();
        loop {
            let changes = self.order().take_changes(CHANGES_AT_ONCE);
            if changes.put.is_empty() && changes.gone.is_empty() {
                break;
            }
            self.index.write(&changes);
        }
        self.index.flush();
    }
}

/// Wall-clock seconds, as the order keeps them.
pub(super) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.0 / 1000).unwrap_or(u32::MAX)
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
