//! What can go wrong with bytes on disk, in the store's own words.
//!
//! Every error is cheap to clone: one outcome of a fill goes to everybody who waits for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::Digest;

/// Why the store cannot start. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the cache directory {} is in use by another weir{}; give each its own directory",
        .directory.display(), holder_text(*.holder)
    )]
    InUse {
        directory: PathBuf,
        /// The process that holds the lock, where it left its number.
        holder: Option<u32>,
    },
    #[error("cannot write to the cache directory: {}: {source}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the file system of the cache directory has no file locks: {}: {source}", .path.display())]
    NoLocks { path: PathBuf, source: io::Error },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Why content could not be read or stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk is full, or would leave less than `min_free`, or the content is larger than the
    /// whole cache may be. A pull goes on without storing.
    #[error("no room in the cache for {digest}: {why}")]
    NoRoom { digest: Digest, why: NoRoom },
    /// More bytes came than the content was said to have.
    #[error("{digest} was to have {length} bytes, and more came")]
    TooLong { digest: Digest, length: u64 },
    /// Asked to read content whole that is larger than the caller takes.
    #[error("{digest} has {length} bytes, more than the {limit} that are read at once")]
    TooLarge {
        digest: Digest,
        length: u64,
        limit: usize,
    },
    /// Whole content that was handed over is not what it was called.
    #[error("content handed over as {digest} is {found}")]
    WrongContent { digest: Digest, found: Box<Digest> },
    /// Somebody else is writing the staged file of this digest.
    #[error("{digest} is being stored already")]
    Claimed { digest: Digest },
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        doing: Doing,
        path: PathBuf,
        source: Arc<io::Error>,
    },
}

impl Error {
    /// The error for a failed call; a full disk becomes [`Error::NoRoom`].
    pub(super) fn io(doing: Doing, path: &Path, digest: &Digest, source: io::Error) -> Self {
        Error::shared(doing, path, digest, &Arc::new(source))
    }

    /// The same for a failure that others are told of, too.
    pub(super) fn shared(
        doing: Doing,
        path: &Path,
        digest: &Digest,
        source: &Arc<io::Error>,
    ) -> Self {
        if is_full(source) {
            return Error::NoRoom {
                digest: *digest,
                why: NoRoom::DiskFull,
            };
        }
        Error::Io {
            doing,
            path: path.to_owned(),
            source: Arc::clone(source),
        }
    }
}

/// Whether the file system, or a quota on it, has nothing left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What there is no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("the file system is full")]
    DiskFull,
    #[error("the file system would be left with less than min_free ({min_free} bytes)")]
    MinFree { min_free: u64 },
    #[error("it is larger than max_size ({max_size} bytes)")]
    MaxSize { max_size: u64 },
    #[error("max_size ({max_size} bytes) is taken by content that is pinned or being read")]
    Taken { max_size: u64 },
}

/// What was tried with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doing {
    #[error("open")]
    Open,
    #[error("create")]
    Create,
    #[error("read")]
    Read,
    #[error("write")]
    Write,
    #[error("publish")]
    Publish,
    #[error("remove")]
    Remove,
    #[error("move")]
    Move,
}

/// Why staged content did not become a blob.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    #[error("content of {length} bytes came as {expected} but is {found}")]
    WrongDigest {
        expected: Digest,
        found: Box<Digest>,
        length: u64,
    },
    #[error("{digest} was to have {expected} bytes and has {found}")]
    WrongLength {
        digest: Digest,
        expected: u64,
        found: u64,
    },
    #[error(transparent)]
    Io(#[from] Error),
}
