//! Content on its way in: `staging/<digest>`, hashed while it is written.
//!
//! Bytes get their name under `blobs/` only by [`Staged::publish`], after length and digest are right
//! and the file is on the disk. A [`Staged`] that is dropped leaves nothing behind, unless it was
//! parked for the next process.

mod claim;
mod pen;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::watch;

use crate::oci::Digest;

use super::error::Doing;
use super::metrics::FoundBad;
use super::{Blob, Error, PublishError, Shared};

use claim::Claim;
pub(super) use claim::Claims;
use pen::Pen;

/// Content of unknown length is checked against the free space each time it has grown by this much.
const CHECK_EVERY_BYTES: u64 = 16 << 20;

/// A growing file that is to become the blob of one digest.
#[derive(Debug)]
pub struct Staged {
    digest: Digest,
    /// Of the whole content, where it is known.
    length: Option<u64>,
    /// Bytes that were taken in, written or not.
    appended: u64,
    /// Room is checked again when `appended` passes this.
    checked_to: u64,
    path: PathBuf,
    pen: Arc<Pen>,
    claim: Arc<Claim>,
    shared: Arc<Shared>,
    /// The file is not ours to remove any more: parked or published.
    keep: bool,
}

impl Staged {
    pub(super) async fn open(
        shared: Arc<Shared>,
        digest: Digest,
        length: Option<u64>,
    ) -> Result<Self, Error> {
        let claim = shared.claims.take(digest).await;
        let claim = claim.ok_or(Error::Claimed { digest })?;
        claim.expect(length.unwrap_or(0));
        let path = shared.layout.staged(&digest);
        blocking(move || {
            let fail = |doing, error| Error::io(doing, &path, &digest, error);
            let file = open_partial(&path, length).map_err(|error| fail(Doing::Create, error))?;
            let pen = Pen::take_up(file, digest.algorithm(), Arc::clone(&claim))
                .map_err(|error| fail(Doing::Read, error))?;
            let appended = *pen.frontier().borrow();
            shared.take_up_left(appended);
            let staged = Staged {
                digest,
                length,
                appended,
                checked_to: appended,
                path: path.clone(),
                pen: Arc::new(pen),
                claim,
                shared,
                keep: false,
            };
            staged
                .shared
                .make_room(&digest, length.unwrap_or(0).saturating_sub(appended))?;
            if let Some(length) = length {
                let allocated = staged.pen.allocate(length);
                allocated.map_err(|error| fail(Doing::Create, error))?;
            }
            Ok(staged)
        })
        .await
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// For readers of the growing file; they read no further than [`Staged::written`].
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.pen.file)
    }

    /// Bytes that are in the file.
    pub fn written(&self) -> u64 {
        *self.pen.frontier().borrow()
    }

    /// [`Staged::written`] as it moves, also between two calls of [`Staged::append`]. Goes back to 0
    /// on [`Staged::restart`].
    pub fn frontier(&self) -> watch::Receiver<u64> {
        self.pen.frontier().subscribe()
    }

    /// Takes the next piece. It is hashed and written without further calls, soon after; this waits
    /// only while the disk is behind. An earlier piece's failure is told here. May be cancelled; the
    /// piece is taken all the same.
    pub async fn append(&mut self, piece: Bytes) -> Result<(), Error> {
        let digest = self.digest;
        let appended = self.appended + piece.len() as u64;
        if let Some(length) = self.length
            && appended > length
        {
            return Err(Error::TooLong { digest, length });
        }
        if !piece.is_empty() {
            self.pen.append(&piece);
            self.appended = appended;
        }
        if self.length.is_none() && appended > self.checked_to {
            self.checked_to = appended + CHECK_EVERY_BYTES;
            self.claim.expect(self.checked_to);
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.make_room(&digest, CHECK_EVERY_BYTES)).await?;
        }
        let wrote = self.pen.catch_up().await;
        wrote.map_err(|error| self.failed(&error))
    }

    /// Waits until everything that was appended is readable.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let wrote = self.pen.flush().await;
        wrote.map_err(|error| self.failed(&error))
    }

    /// Forgets all content and begins at the front, in the same file.
    pub async fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.pen.restart().await;
        emptied.map_err(|error| self.failed(&error))?;
        self.appended = 0;
        self.checked_to = 0;
        let Some(length) = self.length else {
            return Ok(());
        };
        let pen = Arc::clone(&self.pen);
        let allocated = blocking(move || pen.allocate(length)).await;
        allocated.map_err(|error| self.failed(&Arc::new(error)))
    }

    /// Whether everything is there and is what the digest says. Once this says yes the bytes are
    /// right, though not yet safe from a power loss: that, and the name, come with
    /// [`Staged::publish`].
    pub async fn verify(&mut self) -> Result<(), PublishError> {
        self.flush().await?;
        let (found, length) = self.pen.finish().ok_or_else(|| {
            self.failed(&Arc::new(io::Error::other("the writer is still at work")))
        })?;
        let digest = self.digest;
        if found != digest {
            self.shared.metrics.found_bad(FoundBad::Publish).inc();
            return Err(PublishError::WrongDigest {
                expected: digest,
                found: Box::new(found),
                length,
            });
        }
        match self.length {
            Some(expected) if expected != length => Err(PublishError::WrongLength {
                digest,
                expected,
                found: length,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Gives the content its name, after [`Staged::verify`] and once it is safe on the disk. On an
    /// error nothing is left of it.
    pub async fn publish(mut self) -> Result<Blob, PublishError> {
        self.verify().await?;
        let published = blocking(move || {
            let to = self.shared.layout.blob(&self.digest);
            let named = self
                .pen
                .file
                .sync_data()
                .and_then(|()| fs::rename(&self.path, &to));
            named.map_err(|error| Error::io(Doing::Publish, &to, &self.digest, error))?;
            self.keep = true;
            // A rename that a power loss undoes costs another transfer, no more.
            if let Err(error) = self.shared.layout.sync_blobs(self.digest.algorithm()) {
                tracing::warn!(path = %to.display(), %error, "the name of a new blob is not synced");
            }
            Ok::<_, Error>(
                self.shared
                    .published(self.digest, self.appended, self.file()),
            )
        });
        Ok(published.await?)
    }

    /// Keeps the partial file for the next process, which takes it up by [`super::Store::stage`].
    pub fn park(mut self) {
        self.keep = true;
        let left = &self.shared.left_bytes;
        left.fetch_add(self.appended, Ordering::Relaxed);
    }

    fn failed(&self, error: &Arc<io::Error>) -> Error {
        let error = Error::shared(Doing::Write, &self.path, &self.digest, error);
        if let Error::NoRoom { .. } = error {
            self.shared.metrics.no_room.inc();
        }
        error
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a staged file stays behind");
        }
        // Giving a large file's blocks back takes a while; whoever closes it last does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let pen = Arc::clone(&self.pen);
            runtime.spawn_blocking(move || drop(pen));
        }
    }
}

/// The staged file, with what an earlier process left in it, unless that is too much.
fn open_partial(path: &std::path::Path, length: Option<u64>) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let left = file.metadata()?.len();
    if length.is_some_and(|length| left > length) {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Runs what may wait for the disk away from the async workers.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels blocking work.
            Err(_) => std::future::pending().await,
        },
    }
}
