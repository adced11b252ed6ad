//! The cellar: bytes by digest on disk, and the index of facts about them.
//!
//! A file under `blobs/` is verified content: it was hashed while it came, and got its name by a
//! rename after the digest was right. The files are the truth; the index may be lost at any time.
//! Nothing here knows of requests or upstreams.

mod blob;
mod care;
mod desk;
mod error;
mod index;
mod layout;
mod metrics;
mod order;
mod scrub;
mod shared;
mod space;
mod staged;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::config;
use crate::oci::Digest;

pub use blob::Blob;
pub use care::{Chore, Swept};
pub use desk::{Entry, Page, Removed, Stats};
pub use error::{Doing, Error, NoRoom, OpenError, PublishError};
pub use index::{Index, TagRecord};
pub use metrics::Metrics;
pub use scrub::{Check, Progress};
pub use staged::Staged;
pub use walk::{Walk, Walked};

use layout::Layout;
use shared::Shared;
use staged::blocking;

/// One cache directory.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Creates the directory and its layout, takes the lock, opens the index. Blocking, and quick
    /// whatever the size of the cache: nothing is listed.
    pub fn open(config: &config::Cache, clock: Clock, metrics: Metrics) -> Result<Self, OpenError> {
        let layout = Layout::prepare(&config.directory)?;
        let shared = Shared::new(config, layout, clock, metrics);
        Ok(Store {
            shared: Arc::new(shared),
        })
    }

    /// The content of `digest`, where it is stored; its file is open and its use is noted. Cheap
    /// enough for an async worker.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.shared.blob(digest)
    }

    /// Small content whole, checked once more against its digest; content that is not right any
    /// more is moved aside, and absent.
    pub async fn read(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>, Error> {
        let (shared, digest) = (Arc::clone(&self.shared), *digest);
        blocking(move || shared.read(&digest, limit)).await
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.shared.layout.blob(digest).exists()
    }

    /// How much of `digest` an earlier transfer left behind: where a next one may go on.
    pub fn partial(&self, digest: &Digest) -> u64 {
        let left = self.shared.layout.staged(digest).metadata();
        left.map_or(0, |metadata| metadata.len())
    }

    /// Begins the staged file of `digest`, or takes it up again where an earlier process left one:
    /// then [`Staged::written`] is where to go on. There is one at a time for each digest.
    /// `length` is that of the whole content, where it is known.
    pub async fn stage(&self, digest: &Digest, length: Option<u64>) -> Result<Staged, Error> {
        Staged::open(Arc::clone(&self.shared), *digest, length).await
    }

    /// Stores small content that is whole already.
    pub async fn put(&self, digest: &Digest, content: Bytes) -> Result<Blob, Error> {
        if let Some(blob) = self.blob(digest)? {
            return Ok(blob);
        }
        let mut staged = self.stage(digest, Some(content.len() as u64)).await?;
        if staged.written() > 0 {
            staged.restart().await?;
        }
        staged.append(content).await?;
        staged.publish().await.map_err(|error| match error {
            PublishError::Io(error) => error,
            PublishError::WrongDigest { found, .. } => Error::WrongContent {
                digest: *digest,
                found,
            },
            PublishError::WrongLength {
                expected: length, ..
            } => Error::TooLong {
                digest: *digest,
                length,
            },
        })
    }

    pub fn index(&self) -> &Index {
        &self.shared.index
    }

    /// Brings what is only in memory to the disk.
    pub async fn flush(&self) {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.tell_index()).await;
    }
}
