//! What the upkeep does with the store: loading, making room, sweeping, mending the index.
//!
//! Everything here may wait for the disk; it is for blocking threads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::oci::Digest;

use super::Store;
use super::layout::Layout;
use super::metrics::Reason;
use super::order::Record;
use super::shared::seconds;

/// Rows of the index, of 64 entries at most, that are loaded between two looks at the lock.
const LOAD_AT_ONCE: usize = 16;
/// Entries of one page of a run over everything.
const PAGE: u32 = 4096;
/// Given up when the disk is full, so that the index can be opened again.
const RESERVE_BYTES: u64 = 4 << 20;
/// What is kept of files that were moved aside; the oldest go.
const ASIDE_FILES_MAX: usize = 32;
const ASIDE_BYTES_MAX: u64 = 1 << 30;

/// What somebody may ask the upkeep for, out of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Evict down to the limits.
    Room,
    /// Compare the files with what is known of them, and sweep.
    Walk,
    /// Read everything again and check it.
    Scrub,
}

/// Who was asked for what.
#[derive(Debug, Default)]
pub(super) struct Chores {
    room: Notify,
    walk: Notify,
    scrub: Notify,
}

impl Chores {
    pub(super) fn of(&self, chore: Chore) -> &Notify {
        match chore {
            Chore::Room => &self.room,
            Chore::Walk => &self.walk,
            Chore::Scrub => &self.scrub,
        }
    }
}

/// What a sweep found in `staging/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub files: usize,
    pub bytes: u64,
    pub removed: usize,
}

impl Store {
    /// Takes in what the index kept: pins, and the order in which content goes. Until then nothing is
    /// evicted. `go_on` is asked now and then.
    pub fn load(&self, go_on: &dyn Fn() -> bool) {
        let shared = &self.shared;
        shared.number();
        for digest in shared.index.pins() {
            shared.order().pin(&digest);
        }
        let mut before = Some(u64::MAX);
        while let Some(row) = before {
            if !go_on() {
                return;
            }
            let (entries, next) = shared.index.entries(row, LOAD_AT_ONCE);
            let mut order = shared.order();
            for entry in &entries {
                order.restore(entry);
            }
            shared.show(order.totals());
            before = next;
        }
        shared.loaded.store(true, Ordering::Release);
        self.keep_reserve();
        self.load_links(go_on);
    }

    /// Takes into memory which repository names what, where it is not there: at the start, and after
    /// the index was opened again. Until then the index is asked, which takes longer.
    pub fn load_links(&self, go_on: &dyn Fn() -> bool) {
        self.shared.index.load_links(go_on);
    }

    /// Asks the upkeep for something; soon done, not yet when this returns. The store itself asks for
    /// room when it comes near to a limit.
    pub fn ask_for(&self, chore: Chore) {
        self.shared.chores.of(chore).notify_one();
    }

    /// Waits until somebody asks; for the upkeep alone.
    pub async fn asked_for(&self, chore: Chore) {
        self.shared.chores.of(chore).notified().await;
    }

    /// Removes content until the limits hold again with some margin, or `go_on` says no.
    pub fn make_room(&self, go_on: &dyn Fn() -> bool) {
        let shared = &self.shared;
        let limits = shared.limits();
        let bytes = shared.taken();
        if bytes > limits.high_water() {
            shared.evict(bytes - limits.low_water(), Reason::Size, go_on);
        }
        let Ok(free) = shared.space.free_now() else {
            return;
        };
        shared
            .metrics
            .free
            .set(i64::try_from(free).unwrap_or(i64::MAX));
        if free < limits.min_free {
            if let Err(error) = self.sweep_aside(0, 0) {
                tracing::warn!(%error, "the quarantine stays");
            }
            let margin = limits.max_size - limits.high_water();
            let wanted = limits.min_free - free + margin.min(limits.min_free);
            shared.evict(wanted, Reason::Free, go_on);
        }
    }

    /// Removes content that nobody asked for within `max_age`.
    pub fn expire(&self, max_age: Duration, go_on: &dyn Fn() -> bool) {
        let shared = &self.shared;
        let oldest = shared
            .clock
            .now()
            .0
            .saturating_sub(max_age.as_millis() as u64);
        let oldest = seconds(Timestamp(oldest));
        let stays =
            |record: &Record| record.last_use >= oldest || shared.leases.contains(&record.digest);
        let mut from = Some(0);
        while let Some(at) = from
            && go_on()
        {
            let (mut records, next) = shared.order().page(at, PAGE);
            records.retain(|record| !stays(record));
            for record in records {
                if !shared.order().is_pinned(&record.digest) {
                    self.discard(&record.digest, Reason::Age);
                }
            }
            from = next;
        }
    }

    fn discard(&self, digest: &Digest, reason: Reason) {
        let Some(size) = self.shared.forget(digest) else {
            return;
        };
        if let Err(error) = self.shared.discard(digest, size, reason) {
            tracing::error!(%error, "content that was to go stays");
        }
    }

    /// Opens the index again where it has failed, and writes to it all that memory knows.
    pub fn mend_index(&self) {
        let shared = &self.shared;
        if !shared.index.is_behind() {
            return;
        }
        if shared
            .space
            .free_now()
            .is_ok_and(|free| free < RESERVE_BYTES)
        {
            // The index needs room to be opened.
            let _ = fs::remove_file(shared.layout.reserve());
        }
        shared.index.reopen();
        if shared.index.is_behind() {
            return;
        }
        shared.order().change_all();
        let pins = shared.order().pins();
        for digest in pins {
            shared.index.set_pin(&digest, true);
        }
        shared.tell_index();
        if !shared.index.is_behind() {
            tracing::info!("the index is open again and complete");
            self.keep_reserve();
        }
    }

    /// Sets room aside that can be given up on a full disk.
    fn keep_reserve(&self) {
        let path = self.shared.layout.reserve();
        let has_room = |free| {
            free > self
                .shared
                .limits()
                .min_free
                .saturating_add(2 * RESERVE_BYTES)
        };
        if path.exists() || !self.shared.space.free_now().is_ok_and(has_room) {
            return;
        }
        let kept = fs::File::create(&path).and_then(|file| {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            Ok(())
        });
        if let Err(error) = kept {
            tracing::debug!(path = %path.display(), %error, "no reserve on this file system");
            let _ = fs::remove_file(path);
        }
    }

    /// Forgets facts about content that is not stored, when they are older than `keep_for`.
    pub fn prune_index(&self, keep_for: Duration, go_on: &dyn Fn() -> bool) {
        let shared = &self.shared;
        let oldest = shared
            .clock
            .now()
            .0
            .saturating_sub(keep_for.as_millis() as u64);
        let is_stored = |digest: &Digest| shared.order().size(digest).is_some();
        shared.index.prune(Timestamp(oldest), &is_stored, go_on);
    }

    /// Whether [`Store::tell_index`] has something to do. Quick.
    pub fn has_news(&self) -> bool {
        self.shared.order().has_changes() || self.shared.index.is_unflushed()
    }

    /// Writes to the index what only memory knows.
    pub fn tell_index(&self) {
        self.shared.tell_index();
    }

    /// Removes staged files that an earlier process left and nobody took up again within `keep_for`,
    /// and all but the latest of what was moved aside.
    pub fn sweep(&self, keep_for: Duration) -> io::Result<Swept> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let (mut swept, mut left_bytes) = (Swept::default(), 0);
        for entry in fs::read_dir(shared.layout.staging())? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(Layout::staged_digest) else {
                continue;
            };
            // It may have been published meanwhile.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let age = now.since(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).into());
            let left = !shared.claims.contains(&digest);
            if left && age > keep_for && fs::remove_file(entry.path()).is_ok() {
                tracing::info!(path = %entry.path().display(), "a stale staged file is removed");
                swept.removed += 1;
                continue;
            }
            swept.files += 1;
            swept.bytes += metadata.len();
            if left {
                left_bytes += metadata.len();
            }
        }
        shared.left_bytes.store(left_bytes, Ordering::Relaxed);
        let gauge = &shared.metrics.staged_bytes;
        gauge.set(i64::try_from(swept.bytes).unwrap_or(i64::MAX));
        self.sweep_aside(ASIDE_FILES_MAX, ASIDE_BYTES_MAX)?;
        Ok(swept)
    }

    /// Removes the oldest files in quarantine beyond these limits, and all but the last bad index.
    fn sweep_aside(&self, files_max: usize, bytes_max: u64) -> io::Result<()> {
        let (mut files, mut bytes) = (0, 0);
        for (path, length) in latest_first(&self.shared.layout.quarantine())? {
            files += 1;
            bytes += length;
            if files > files_max || bytes > bytes_max {
                fs::remove_file(path)?;
            }
        }
        let beside = latest_first(self.shared.layout.directory())?.into_iter();
        let bad = beside.filter(|(path, _)| Layout::is_bad_index(path));
        for (path, _) in bad.skip(1) {
            fs::remove_dir_all(path)?;
        }
        Ok(())
    }
}

/// What is in a folder, with lengths.
fn latest_first(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        entries.push((metadata.modified()?, entry.path(), metadata.len()));
    }
    entries.sort();
    let latest_first = entries.into_iter().rev();
    Ok(latest_first
        .map(|(_, path, length)| (path, length))
        .collect())
}
