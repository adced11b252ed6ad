//! Reading stored content again, to see whether the disk still has what was written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::Advice;

use crate::oci::{Digest, Hasher};

use super::metrics::FoundBad;
use super::shared::Shared;
use super::{Blob, Store};

/// Read and hashed in one step.
const STEP_BYTES: usize = 256 << 10;

/// Content that is being read again.
#[derive(Debug)]
pub struct Check {
    shared: Arc<Shared>,
    /// Holds the lease, and the file open.
    blob: Blob,
    hasher: HasherBox,
    at: u64,
    buffer: Vec<u8>,
}

/// How a check goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more were read.
    Read(u64),
    /// It is what its digest says.
    Good,
    /// It was not, or could not be read, and has been moved aside.
    Bad,
}

impl Store {
    /// Begins to check stored content; `None` when it is not there any more. It counts as no use.
    pub fn check(&self, digest: &Digest) -> Option<Check> {
        let (file, length) = self.shared.open(digest).ok()??;
        // What is only checked should not push out of memory what is read. A file system that does
        // not listen is as good.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::NoReuse);
        let file: Arc<File> = Arc::new(file);
        Some(Check {
            blob: Blob::new(*digest, length, file, &self.shared.leases),
            shared: Arc::clone(&self.shared),
            hasher: HasherBox(Some(Hasher::new(digest.algorithm()))),
            at: 0,
            buffer: vec![0; STEP_BYTES],
        })
    }
}

impl Check {
    /// Reads on. Blocking. After [`Progress::Good`] or [`Progress::Bad`] there is no more to do.
    pub fn step(&mut self) -> Progress {
        match self.read() {
            Ok(0) => match self.hasher.0.take().map(Hasher::finish) {
                Some(found) if found != self.blob.digest => self.bad(),
                Some(_) | None => Progress::Good,
            },
            Ok(read) => {
                self.at += read;
                self.shared.metrics.scrubbed_bytes.inc_by(read);
                Progress::Read(read)
            }
            Err(error) => {
                tracing::error!(digest = %self.blob.digest, at = self.at, %error,
                    "stored content cannot be read");
                self.bad()
            }
        }
    }

    fn read(&mut self) -> io::Result<u64> {
        let read = self.blob.file.read_at(&mut self.buffer, self.at)?;
        if let Some(hasher) = &mut self.hasher.0 {
            hasher.update(&self.buffer[..read]);
        }
        Ok(read as u64)
    }

    fn bad(&self) -> Progress {
        self.shared.put_aside(&self.blob.digest, FoundBad::Scrub);
        Progress::Bad
    }
}

/// A hasher shows nothing of itself.
struct HasherBox(Option<Hasher>);

impl std::fmt::Debug for HasherBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}
