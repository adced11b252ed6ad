//! Writing and hashing a growing file, off the async workers and side by side.
//!
//! Pieces queue up for two blocking tasks: one writes, one hashes, each takes what has come since it
//! last looked. So network, disk and hash work at the same time, small pieces become large writes, and
//! an idle task takes a piece at once. The frontier moves over bytes that are in the file, whether
//! they are hashed yet or not: the digest is a matter of the end.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use tokio::sync::{Notify, watch};

use crate::oci::{Algorithm, Digest, Hasher};

use super::Claim;

/// Bytes that wait for one task at most; whoever brings more waits too. The batch that it works on
/// comes on top.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Pieces of one write call; Linux takes 1024.
const SLICES_MAX: usize = 256;
/// Read at a time when a partial file is hashed again.
const REHASH_BYTES: usize = 1 << 20;

/// Writes one file from the front to the end.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) file: Arc<File>,
    algorithm: Algorithm,
    /// Bytes that are in the file.
    frontier: watch::Sender<u64>,
    work: Mutex<Work>,
    /// A task took what was queued, lay down or failed. One waits for it at most: the [`Staged`].
    ///
    /// [`Staged`]: super::Staged
    moved: Notify,
    /// The file is nobody else's while a blocking task may still write to it.
    _claim: Arc<Claim>,
}

#[derive(Debug)]
struct Work {
    /// How far the file is written.
    writing: Queue<u64>,
    hashing: Queue<Hasher>,
    failed: Option<Arc<io::Error>>,
    /// One of the tools is lost.
    panicked: bool,
}

/// What waits for one task.
#[derive(Debug)]
struct Queue<T> {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// With the task while it works.
    tool: Option<T>,
}

impl<T> Queue<T> {
    fn new(tool: T) -> Self {
        Queue {
            pieces: Vec::new(),
            bytes: 0,
            tool: Some(tool),
        }
    }

    /// The tool, where the task has lain down.
    fn push(&mut self, piece: Bytes) -> Option<T> {
        self.bytes += piece.len();
        self.pieces.push(piece);
        self.tool.take()
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.pieces.clear();
    }
}

impl Pen {
    /// A pen at the end of what `file` holds; that is hashed first. Blocking.
    pub(super) fn take_up(file: File, algorithm: Algorithm, claim: Arc<Claim>) -> io::Result<Self> {
        let mut hasher = Hasher::new(algorithm);
        let mut written = 0;
        let left = file.metadata()?.len();
        let mut buffer = vec![0; if left > 0 { REHASH_BYTES } else { 0 }];
        while written < left {
            match file.read_at(&mut buffer, written)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    written += read as u64;
                }
            }
        }
        Ok(Pen {
            file: Arc::new(file),
            algorithm,
            frontier: watch::Sender::new(written),
            work: Mutex::new(Work {
                writing: Queue::new(written),
                hashing: Queue::new(hasher),
                failed: None,
                panicked: false,
            }),
            moved: Notify::new(),
            _claim: claim,
        })
    }

    pub(super) fn frontier(&self) -> &watch::Sender<u64> {
        &self.frontier
    }

    /// Queues a piece and sees to it that it gets written and hashed.
    pub(super) fn append(self: &Arc<Self>, piece: Bytes) {
        let (written, hasher) = {
            let mut work = self.work();
            if work.failed.is_some() {
                return;
            }
            let written = work.writing.push(piece.clone());
            (written, work.hashing.push(piece))
        };
        if let Some(written) = written {
            let pen = Arc::clone(self);
            tokio::task::spawn_blocking(move || pen.write(written));
        }
        if let Some(hasher) = hasher {
            let pen = Arc::clone(self);
            tokio::task::spawn_blocking(move || pen.hash(hasher));
        }
    }

    /// Waits while too much is queued.
    pub(super) async fn catch_up(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(|work| work.writing.bytes.max(work.hashing.bytes) < QUEUE_BYTES_MAX)
            .await
    }

    /// Waits until everything is written and hashed.
    pub(super) async fn flush(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(Work::is_at_rest).await
    }

    /// What has been written, and its digest. Call it after [`Pen::flush`].
    pub(super) fn finish(&self) -> Option<(Digest, u64)> {
        let work = self.work();
        let hasher = work.hashing.tool.clone()?;
        Some((hasher.finish(), work.writing.tool?))
    }

    /// Empties the file. What was queued is not written any more.
    pub(super) async fn restart(&self) -> Result<(), Arc<io::Error>> {
        {
            let mut work = self.work();
            work.writing.clear();
            work.hashing.clear();
        }
        // A failure is part of what is thrown away, but nobody may write any more.
        self.wait(|work| match work.panicked {
            true => Some(Err(Arc::new(panicked()))),
            false => work.is_at_rest().then_some(Ok(())),
        })
        .await?;
        self.file.set_len(0).map_err(Arc::new)?;
        {
            let mut work = self.work();
            work.failed = None;
            work.writing.tool = Some(0);
            work.hashing.tool = Some(Hasher::new(self.algorithm));
        }
        self.frontier.send_replace(0);
        Ok(())
    }

    /// Sets blocks aside for the whole file without changing its length. A file system that cannot
    /// do it is as good; one that is full is not.
    pub(super) fn allocate(&self, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let told = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, length);
        match told.map_err(io::Error::from) {
            Err(error) if super::super::error::is_full(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn wait_until(&self, done: impl Fn(&Work) -> bool) -> Result<(), Arc<io::Error>> {
        self.wait(|work| match &work.failed {
            Some(error) => Some(Err(Arc::clone(error))),
            None => done(work).then_some(Ok(())),
        })
        .await
    }

    async fn wait<T>(&self, until: impl Fn(&Work) -> Option<T>) -> T {
        loop {
            if let Some(found) = until(&self.work()) {
                return found;
            }
            self.moved.notified().await;
        }
    }

    fn write(&self, written: u64) {
        self.work_off(
            |work| &mut work.writing,
            written,
            |written, batch| {
                write(&self.file, written, batch)?;
                self.frontier.send_replace(*written);
                Ok(())
            },
        );
    }

    fn hash(&self, hasher: Hasher) {
        self.work_off(
            |work| &mut work.hashing,
            hasher,
            |hasher, batch| {
                batch.iter().for_each(|piece| hasher.update(piece));
                Ok(())
            },
        );
    }

    /// A task: takes what is queued until nothing is, then lies down.
    fn work_off<T>(
        &self,
        queue_of: fn(&mut Work) -> &mut Queue<T>,
        mut tool: T,
        work_on: impl Fn(&mut T, &[Bytes]) -> io::Result<()>,
    ) {
        let fallen = Fallen { pen: self };
        loop {
            let batch = {
                let mut work = self.work();
                let queue = queue_of(&mut work);
                if queue.pieces.is_empty() {
                    queue.tool = Some(tool);
                    break;
                }
                queue.bytes = 0;
                mem::take(&mut queue.pieces)
            };
            // There is room for the next pieces while these are worked on.
            self.moved.notify_one();
            if let Err(error) = work_on(&mut tool, &batch) {
                let mut work = self.work();
                work.failed = Some(Arc::new(error));
                work.writing.clear();
                work.hashing.clear();
                queue_of(&mut work).tool = Some(tool);
                break;
            }
        }
        mem::forget(fallen);
        self.moved.notify_one();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn is_at_rest(&self) -> bool {
        self.writing.tool.is_some() && self.hashing.tool.is_some()
    }
}

/// Tells whoever waits when a task panics.
struct Fallen<'a> {
    pen: &'a Pen,
}

impl Drop for Fallen<'_> {
    fn drop(&mut self) {
        {
            let mut work = self.pen.work();
            work.failed = Some(Arc::new(panicked()));
            work.panicked = true;
        }
        self.pen.moved.notify_one();
    }
}

fn panicked() -> io::Error {
    io::Error::other("writing or hashing panicked")
}

/// Writes the batch at `written`, which moves on.
fn write(file: &File, written: &mut u64, batch: &[Bytes]) -> io::Result<()> {
    for pieces in batch.chunks(SLICES_MAX) {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let wrote = match rustix::io::pwritev(file, rest, *written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => wrote,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            *written += wrote as u64;
            IoSlice::advance_slices(&mut rest, wrote);
        }
    }
    Ok(())
}
