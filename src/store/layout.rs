//! Where things lie in the cache directory, and who may use it.
//!
//! The directory is an OCI image layout as far as blobs are concerned (`oci-layout`,
//! `blobs/<algorithm>/<hex>`); beside it `staging/`, `index/` and `quarantine/`. One process has it
//! at a time, by a lock on the file `lock`. Every path under it is made here.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::clock::Timestamp;
use crate::oci::{Algorithm, Digest};

use super::OpenError;

/// Source: OCI Image Layout Specification 1.1, "oci-layout file".
const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
/// The layout wants one; weir's tags are in the index, so it names nothing.
const INDEX_JSON: &str = "{\"schemaVersion\":2,\"manifests\":[]}\n";

const BAD_INDEX: &str = "index.bad-";

/// The cache directory, locked.
#[derive(Debug)]
pub(super) struct Layout {
    directory: PathBuf,
    _lock: Lock,
}

/// The file `lock`, locked. The lock also ends when the process dies.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a program that is being started (a credential helper) holds
    /// a copy of it until its `exec`, and the lock with it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            warn!(%error, "the lock of the cache directory ends with this process only");
        }
    }
}

impl Layout {
    /// Creates what is missing and takes the lock.
    pub(super) fn prepare(directory: &Path) -> Result<Self, OpenError> {
        create_dir(directory)?;
        let lock = take_lock(directory)?;
        for folder in ["staging", "quarantine"] {
            create_dir(&directory.join(folder))?;
        }
        for algorithm in Algorithm::ALL {
            create_dir(&directory.join("blobs").join(algorithm.as_str()))?;
        }
        write_if_missing(&directory.join("oci-layout"), OCI_LAYOUT)?;
        write_if_missing(&directory.join("index.json"), INDEX_JSON)?;
        Ok(Layout {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.directory.join("blobs").join(algorithm.as_str())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.directory.join("staging")
    }

    pub(super) fn staged(&self, digest: &Digest) -> PathBuf {
        self.staging().join(file_name(digest))
    }

    /// The digest whose staged file is called `name`.
    pub(super) fn staged_digest(name: &str) -> Option<Digest> {
        let (algorithm, hex) = name.split_once('-')?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|known| known.as_str() == algorithm)?;
        Digest::from_hex(algorithm, hex).ok()
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.directory.join("quarantine")
    }

    pub(super) fn quarantined(&self, digest: &Digest, at: Timestamp) -> PathBuf {
        self.quarantine()
            .join(format!("{}-{}", file_name(digest), at.0))
    }

    pub(super) fn index(&self) -> PathBuf {
        self.directory.join("index")
    }

    /// Room that is given up when the disk is full, so that the index can go on.
    pub(super) fn reserve(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Makes a rename into the folder of `algorithm` durable.
    pub(super) fn sync_blobs(&self, algorithm: Algorithm) -> io::Result<()> {
        File::open(self.blobs(algorithm))?.sync_all()
    }

    /// A name for an index that is put aside.
    pub(super) fn bad_index(index: &Path, at: Timestamp) -> PathBuf {
        index.with_file_name(format!("{BAD_INDEX}{}", at.0))
    }

    pub(super) fn is_bad_index(path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(BAD_INDEX)) && path.is_dir()
    }

    /// Whether weir itself puts an entry of this name into the cache directory.
    pub(super) fn is_own(name: &str) -> bool {
        matches!(
            name,
            "blobs"
                | "staging"
                | "quarantine"
                | "index"
                | "oci-layout"
                | "index.json"
                | "lock"
                | "reserve"
        ) || name.starts_with(BAD_INDEX)
    }
}

/// A digest as a file name of its own, outside of the folder of its algorithm.
fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

fn create_dir(path: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(path).map_err(|source| unwritable(path, source))
}

fn write_if_missing(path: &Path, content: &str) -> Result<(), OpenError> {
    if path.exists() {
        return Ok(());
    }
    fs::write(path, content).map_err(|source| unwritable(path, source))
}

fn unwritable(path: &Path, source: io::Error) -> OpenError {
    OpenError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

fn take_lock(directory: &Path) -> Result<Lock, OpenError> {
    let path = directory.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| unwritable(&path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file
                .read_to_string(&mut text)
                .ok()
                .and(text.trim().parse().ok());
            return Err(OpenError::InUse {
                directory: directory.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::NoLocks { path, source }),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|source| unwritable(&path, source))?;
    Ok(Lock(file))
}
