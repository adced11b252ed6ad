//! The walk over the files: what the order thinks is there is compared with what is there.
//!
//! It finds content that the index lost or never knew, forgets content whose file is gone, and moves
//! aside what cannot be what its name says. Files that weir did not make and that are in nobody's way
//! are left alone. It runs in steps, beside everything else.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::oci::{Algorithm, Digest};

use super::Store;
use super::layout::Layout;
use super::metrics::FoundBad;
use super::shared::Shared;

/// Entries of the order that are looked up in one step.
const PAGE: u32 = 1024;

/// A walk under way.
#[derive(Debug)]
pub struct Walk {
    shared: Arc<Shared>,
    /// Folders of blobs that are still to be read, the last one being read.
    folders: Vec<(Algorithm, ReadDir)>,
    /// Where to go on in the order, once all folders are read.
    unseen_from: Option<u32>,
    walked: Walked,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Walked {
    /// Files of blobs.
    pub files: usize,
    /// Of these, files that were not known.
    pub found: usize,
    /// Known content without a file.
    pub lost: usize,
    /// Files that were moved to `quarantine/`.
    pub aside: usize,
    /// Entries that are not weir's.
    pub foreign: usize,
}

impl Store {
    /// Begins a walk. Blocking. One at a time.
    pub fn walk(&self) -> io::Result<Walk> {
        let shared = Arc::clone(&self.shared);
        let mut walked = Walked::default();
        for entry in fs::read_dir(shared.layout.directory())? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(Layout::is_own) {
                walked.foreign(&entry);
            }
        }
        let mut folders = Vec::new();
        for algorithm in Algorithm::ALL {
            folders.push((algorithm, fs::read_dir(shared.layout.blobs(algorithm))?));
        }
        shared.order().begin_walk();
        Ok(Walk {
            shared,
            folders,
            unseen_from: Some(0),
            walked,
        })
    }
}

impl Walk {
    /// Goes on by about `files` files. What was found, at the end. Blocking.
    pub fn step(&mut self, files: usize) -> io::Result<Option<Walked>> {
        for _ in 0..files {
            let Some((algorithm, folder)) = self.folders.last_mut() else {
                return Ok(self.look_for_unseen());
            };
            let algorithm = *algorithm;
            match folder.next() {
                Some(entry) => self.meet(algorithm, &entry?)?,
                None => drop(self.folders.pop()),
            }
        }
        Ok(None)
    }

    fn meet(&mut self, algorithm: Algorithm, entry: &DirEntry) -> io::Result<()> {
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It was evicted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            self.walked.foreign(entry);
            return Ok(());
        }
        let name = entry.file_name();
        let digest = name.to_str().map(|name| Digest::from_hex(algorithm, name));
        let Some(Ok(digest)) = digest else {
            return self.put_stranger_aside(entry);
        };
        self.walked.files += 1;
        let size = metadata.len();
        let known = self.shared.order().see(&digest);
        match known {
            Some(known) if known == size => {}
            None if size > 0 || digest == Digest::of(algorithm, b"") => {
                let last_use = metadata.atime().max(metadata.mtime());
                let last_use = u32::try_from(last_use).unwrap_or(0);
                self.shared.account(&digest, size, last_use);
                self.walked.found += 1;
            }
            Some(_) | None => {
                self.shared.put_aside(&digest, FoundBad::Walk);
                self.walked.aside += 1;
            }
        }
        Ok(())
    }

    /// A file among the blobs whose name is no digest would be taken for content by other tools.
    fn put_stranger_aside(&mut self, entry: &DirEntry) -> io::Result<()> {
        let mut name = entry.file_name();
        name.push(format!("-{}", self.shared.clock.now().0));
        let to = self.shared.layout.quarantine().join(name);
        tracing::warn!(path = %entry.path().display(), aside = %to.display(),
            "a file among the blobs has no digest for a name; it is moved aside");
        fs::rename(entry.path(), to)?;
        self.walked.aside += 1;
        Ok(())
    }

    fn look_for_unseen(&mut self) -> Option<Walked> {
        let from = self.unseen_from?;
        let (records, next) = self.shared.order().page(from, PAGE);
        for record in records {
            let digest = record.digest;
            let seen = self.shared.order().is_seen(&digest);
            if !seen && !self.shared.layout.blob(&digest).exists() {
                self.shared.forget(&digest);
                self.shared.index.forget(&digest);
                self.walked.lost += 1;
            }
        }
        self.unseen_from = next;
        next.is_none().then_some(self.walked)
    }
}

impl Walked {
    fn foreign(&mut self, entry: &DirEntry) {
        self.foreign += 1;
        tracing::info!(path = %entry.path().display(),
            "not weir's; it is left alone and counts for nothing");
    }
}
