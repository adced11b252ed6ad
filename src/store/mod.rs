//! The cellar: bytes by digest on disk, and the index of facts about them.
//!
//! A file under `blobs/` is verified content: it was hashed while it came, and got its name by a
//! rename after the digest was right. The files are the truth; the index may be lost at any time.
//! Nothing here knows of requests or upstreams.

mod blob;
mod error;
mod index;
mod layout;
mod metrics;
mod space;
mod staged;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::config;
use crate::oci::{Algorithm, Digest};

pub use blob::Blob;
pub use error::{Doing, Error, NoRoom, OpenError, PublishError};
pub use index::{Index, TagRecord};
pub use metrics::Metrics;
pub use staged::Staged;

use blob::Leases;
use layout::Layout;
use metrics::FoundBad;
use space::Space;
use staged::{Claims, blocking};

/// One cache directory.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the store and the content that is on its way in both need.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    space: Space,
    index: Index,
    leases: Arc<Leases>,
    claims: Arc<Claims>,
    clock: Clock,
    metrics: Metrics,
    max_size: u64,
    min_free: u64,
}

impl Store {
    /// Creates the directory and its layout, takes the lock, opens the index. Blocking, and quick
    /// whatever the size of the cache: nothing is listed.
    pub fn open(config: &config::Cache, clock: Clock, metrics: Metrics) -> Result<Self, OpenError> {
        let layout = Layout::prepare(&config.directory)?;
        let index = Index::open(&layout, clock, metrics.clone());
        let shared = Shared {
            space: Space::new(&config.directory, clock),
            layout,
            index,
            leases: Arc::default(),
            claims: Arc::default(),
            clock,
            metrics,
            max_size: config.max_size,
            min_free: config.min_free,
        };
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
        blocking(move || shared.index.flush()).await;
    }
}

impl Shared {
    fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let path = self.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(Doing::Open, &path, digest, error)),
        };
        let length = match file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(Error::io(Doing::Open, &path, digest, error)),
        };
        Ok(Some(Blob::new(
            *digest,
            length,
            Arc::new(file),
            &self.leases,
        )))
    }

    fn read(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>, Error> {
        use std::os::unix::fs::FileExt;

        let Some(blob) = self.blob(digest)? else {
            return Ok(None);
        };
        if blob.length > limit as u64 {
            return Err(Error::TooLarge {
                digest: *digest,
                length: blob.length,
                limit,
            });
        }
        let mut content = vec![0; blob.length as usize];
        let read = blob.file.read_exact_at(&mut content, 0);
        read.map_err(|error| Error::io(Doing::Read, &self.layout.blob(digest), digest, error))?;
        if Digest::of(digest.algorithm(), &content) != *digest {
            self.put_aside(digest, FoundBad::Read);
            return Ok(None);
        }
        Ok(Some(content.into()))
    }

    /// Moves a file that is not what its name says out of the way, so that it is fetched again.
    fn put_aside(&self, digest: &Digest, found: FoundBad) {
        self.metrics.found_bad(found).inc();
        let from = self.layout.blob(digest);
        let to = self.layout.quarantined(digest, self.clock.now());
        let moved = std::fs::rename(&from, &to);
        tracing::error!(
            %digest, found_by = found.as_str(), aside = %to.display(), error = moved.err().map(tracing::field::display),
            "stored content does not match its digest any more; it is moved aside and fetched again"
        );
    }

    /// Whether `bytes` more may be written.
    fn make_room(&self, digest: &Digest, bytes: u64) -> Result<(), Error> {
        let refuse = |why| {
            self.metrics.no_room.inc();
            Err(Error::NoRoom {
                digest: *digest,
                why,
            })
        };
        if bytes > self.max_size {
            return refuse(NoRoom::MaxSize {
                max_size: self.max_size,
            });
        }
        // A file system that does not tell is taken to have room; a write will show.
        let free = self.space.free().unwrap_or(u64::MAX);
        if free.saturating_sub(bytes) < self.min_free {
            return refuse(NoRoom::MinFree {
                min_free: self.min_free,
            });
        }
        Ok(())
    }

    fn published(&self, digest: Digest, length: u64, file: Arc<File>) -> Blob {
        Blob::new(digest, length, file, &self.leases)
    }
}
