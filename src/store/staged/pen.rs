//! Writing and hashing a growing file, off the async workers.
//!
//! Pieces are copied together while a blocking task writes and hashes what came before, so network and
//! disk work side by side, small pieces become large writes, and an idle task takes a piece at once.
//! The copy is cheap: it lets the upstream connection read into the same memory again and again, where
//! new memory for each piece costs more than all that is done with it. The frontier moves over bytes
//! that are in the file, whether they are hashed yet or not: the digest is a matter of the end.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;
use tokio::sync::{Notify, watch};

use crate::oci::{Algorithm, Digest, Hasher};

use super::Claim;

/// Bytes that wait for the task at most; whoever brings more waits too. The batch that it works on
/// comes on top.
const QUEUE_BYTES_MAX: usize = 512 << 10;
/// Written, told to the readers, and then hashed while it is still near the processor.
const PART_BYTES: usize = 256 << 10;
/// Written by one call. The page cache keeps what it gets in pieces as large, and large ones are dear
/// where memory is in many hands, most of all where a host has to give them back: 512 MiB, cold, took
/// 1.01 s with 1 MiB, 0.96 with 64 KiB and 0.80 with 32 KiB on such a machine.
const WRITE_BYTES: usize = 64 << 10;
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
    /// The task took what was queued, lay down or failed. One waits for it at most: the [`Staged`].
    ///
    /// [`Staged`]: super::Staged
    moved: Notify,
    /// The file is nobody else's while a blocking task may still write to it.
    _claim: Arc<Claim>,
}

#[derive(Debug)]
struct Work {
    /// What waits for the task.
    queue: Vec<u8>,
    /// With the task while it works.
    ink: Option<Ink>,
    failed: Option<Arc<io::Error>>,
    /// The ink is lost.
    panicked: bool,
}

/// How far the writing has come.
#[derive(Debug, Clone)]
struct Ink {
    hasher: Hasher,
    written: u64,
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
                queue: Vec::new(),
                ink: Some(Ink { hasher, written }),
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
    pub(super) fn append(self: &Arc<Self>, piece: &[u8]) {
        let idle = {
            let mut work = self.work();
            if work.failed.is_some() {
                return;
            }
            work.queue.extend_from_slice(piece);
            work.ink.take()
        };
        if let Some(ink) = idle {
            let pen = Arc::clone(self);
            tokio::task::spawn_blocking(move || pen.write(ink));
        }
    }

    /// Waits while too much is queued.
    pub(super) async fn catch_up(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(|work| work.queue.len() < QUEUE_BYTES_MAX)
            .await
    }

    /// Waits until everything is written and hashed.
    pub(super) async fn flush(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(|work| work.ink.is_some()).await
    }

    /// What has been written, and its digest. Call it after [`Pen::flush`].
    pub(super) fn finish(&self) -> Option<(Digest, u64)> {
        let ink = self.work().ink.clone()?;
        Some((ink.hasher.finish(), ink.written))
    }

    /// Empties the file. What was queued is not written any more.
    pub(super) async fn restart(&self) -> Result<(), Arc<io::Error>> {
        self.work().queue.clear();
        // A failure is part of what is thrown away, but nobody may write any more.
        self.wait(|work| match work.panicked {
            true => Some(Err(Arc::new(panicked()))),
            false => work.ink.is_some().then_some(Ok(())),
        })
        .await?;
        self.file.set_len(0).map_err(Arc::new)?;
        {
            let mut work = self.work();
            work.failed = None;
            work.ink = Some(Ink {
                hasher: Hasher::new(self.algorithm),
                written: 0,
            });
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

    /// The task: takes what is queued until nothing is, then lies down.
    fn write(&self, mut ink: Ink) {
        let fallen = Fallen { pen: self };
        let mut batch = Vec::new();
        loop {
            batch.clear();
            {
                let mut work = self.work();
                if work.queue.is_empty() {
                    // Nothing stays with a transfer that has come to a halt.
                    work.queue = Vec::new();
                    work.ink = Some(ink);
                    break;
                }
                mem::swap(&mut work.queue, &mut batch);
            }
            // There is room for the next pieces while these are worked on.
            self.moved.notify_one();
            if let Err(error) = self.write_batch(&mut ink, &batch) {
                let mut work = self.work();
                work.failed = Some(Arc::new(error));
                work.queue.clear();
                work.ink = Some(ink);
                break;
            }
        }
        mem::forget(fallen);
        self.moved.notify_one();
    }

    fn write_batch(&self, ink: &mut Ink, batch: &[u8]) -> io::Result<()> {
        for part in batch.chunks(PART_BYTES) {
            for piece in part.chunks(WRITE_BYTES) {
                self.file.write_all_at(piece, ink.written)?;
                ink.written += piece.len() as u64;
            }
            self.frontier.send_replace(ink.written);
            ink.hasher.update(part);
        }
        Ok(())
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
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
