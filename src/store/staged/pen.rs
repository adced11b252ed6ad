//! Hashing and writing a growing file, off the async workers.
//!
//! Pieces queue up while a blocking task writes what came before, so network and disk work side by
//! side, small pieces become large writes, and an idle writer takes a piece at once. The frontier
//! moves only over bytes that are in the file and hashed.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use tokio::sync::watch;

use crate::oci::{Algorithm, Digest, Hasher};

use super::Claim;

/// Bytes that wait for the writer at most; whoever brings more waits too. The batch that is being
/// written comes on top.
const QUEUE_BYTES_MAX: usize = 512 << 10;
/// Pieces of one write call; Linux takes 1024.
const SLICES_MAX: usize = 256;
/// Read at a time when a partial file is hashed again.
const REHASH_BYTES: usize = 1 << 20;

/// Writes one file from the front to the end.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) file: Arc<File>,
    algorithm: Algorithm,
    /// Bytes that are in the file and hashed. Also wakes those who wait for the writer.
    frontier: watch::Sender<u64>,
    queue: Mutex<Queue>,
    /// The file is nobody else's while a blocking task may still write to it.
    _claim: Arc<Claim>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// With the writer while it works.
    ink: Option<Ink>,
    failed: Option<Arc<io::Error>>,
}

/// How far the writing has come.
#[derive(Clone)]
struct Ink {
    hasher: Hasher,
    written: u64,
}

impl std::fmt::Debug for Ink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ink")
            .field("written", &self.written)
            .finish_non_exhaustive()
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
            queue: Mutex::new(Queue {
                ink: Some(Ink { hasher, written }),
                ..Queue::default()
            }),
            _claim: claim,
        })
    }

    pub(super) fn frontier(&self) -> &watch::Sender<u64> {
        &self.frontier
    }

    /// Queues a piece and sees to it that it gets written.
    pub(super) fn append(self: &Arc<Self>, piece: Bytes) {
        let idle = {
            let mut queue = self.queue();
            if queue.failed.is_some() {
                return;
            }
            queue.bytes += piece.len();
            queue.pieces.push(piece);
            queue.ink.take()
        };
        if let Some(ink) = idle {
            let pen = Arc::clone(self);
            tokio::task::spawn_blocking(move || pen.write_queue(ink));
        }
    }

    /// Waits while too much is queued.
    pub(super) async fn catch_up(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(|queue| queue.bytes < QUEUE_BYTES_MAX).await
    }

    /// Waits until everything is written.
    pub(super) async fn flush(&self) -> Result<(), Arc<io::Error>> {
        self.wait_until(|queue| queue.ink.is_some()).await
    }

    /// What has been written, and its digest. Call it after [`Pen::flush`].
    pub(super) fn finish(&self) -> Option<(Digest, u64)> {
        let ink = self.queue().ink.clone()?;
        Some((ink.hasher.finish(), ink.written))
    }

    /// Empties the file. What was queued is not written any more.
    pub(super) async fn restart(&self) -> Result<(), Arc<io::Error>> {
        {
            let mut queue = self.queue();
            queue.pieces.clear();
            queue.bytes = 0;
        }
        // A failure is part of what is thrown away.
        let _ = self.wait_until(|queue| queue.ink.is_some()).await;
        self.file.set_len(0).map_err(Arc::new)?;
        {
            let mut queue = self.queue();
            queue.failed = None;
            queue.ink = Some(Ink {
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

    async fn wait_until(&self, done: impl Fn(&Queue) -> bool) -> Result<(), Arc<io::Error>> {
        let mut moved = self.frontier.subscribe();
        loop {
            moved.borrow_and_update();
            {
                let queue = self.queue();
                if let Some(error) = &queue.failed {
                    return Err(Arc::clone(error));
                }
                if done(&queue) {
                    return Ok(());
                }
            }
            if moved.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// The writer: takes what is queued until nothing is, then lies down.
    fn write_queue(&self, mut ink: Ink) {
        let fallen = Fallen { pen: self };
        loop {
            let batch = {
                let mut queue = self.queue();
                if queue.pieces.is_empty() {
                    queue.ink = Some(ink);
                    break;
                }
                queue.bytes = 0;
                mem::take(&mut queue.pieces)
            };
            if let Err(error) = ink.write(&self.file, &batch) {
                let mut queue = self.queue();
                queue.failed = Some(Arc::new(error));
                queue.pieces.clear();
                queue.ink = Some(ink);
                break;
            }
            self.frontier.send_replace(ink.written);
        }
        mem::forget(fallen);
        self.frontier.send_modify(|_| {});
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who wait when the writer panics.
struct Fallen<'a> {
    pen: &'a Pen,
}

impl Drop for Fallen<'_> {
    fn drop(&mut self) {
        self.pen.queue().failed = Some(Arc::new(io::Error::other("the writer panicked")));
        self.pen.frontier.send_modify(|_| {});
    }
}

impl Ink {
    fn write(&mut self, file: &File, batch: &[Bytes]) -> io::Result<()> {
        for pieces in batch.chunks(SLICES_MAX) {
            let mut at = self.written;
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let wrote = match rustix::io::pwritev(file, rest, at) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(wrote) => wrote,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                at += wrote as u64;
                IoSlice::advance_slices(&mut rest, wrote);
            }
            for piece in pieces {
                self.hasher.update(piece);
            }
            self.written = at;
        }
        Ok(())
    }
}
