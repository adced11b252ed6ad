//! A small file that is read again when it changes.
//!
//! Looked at once a second at most, so that a changed secret is used within two seconds and a busy
//! weir does not ask the file system on every request. A symbolic link that is pointed elsewhere, as
//! Kubernetes swaps secrets, is a change.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file and what was made of it.
#[derive(Debug)]
pub(super) struct WatchedFile<T> {
    path: PathBuf,
    bytes_max: u64,
    parse: fn(&[u8]) -> Result<T, String>,
    known: Mutex<Option<Known<T>>>,
}

#[derive(Debug)]
struct Known<T> {
    looked_at: Instant,
    stamp: Option<Stamp>,
    content: Result<Arc<T>, String>,
}

/// Enough to tell that it is another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl<T> WatchedFile<T> {
    pub(super) fn new(
        path: PathBuf,
        bytes_max: u64,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Self {
        WatchedFile {
            path,
            bytes_max,
            parse,
            known: Mutex::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says now. The error is a text that names the file.
    pub(super) fn read(&self) -> Result<Arc<T>, String> {
        let now = Instant::now();
        let mut known = self.lock();
        if let Some(known) = &*known
            && now < known.looked_at + LOOK_INTERVAL
        {
            return known.content.clone();
        }
        let stamp = stamp(&self.path).ok();
        if let Some(known) = &mut *known
            && stamp.is_some()
            && known.stamp == stamp
            && known.content.is_ok()
        {
            known.looked_at = now;
            return known.content.clone();
        }
        let content = self
            .load()
            .map(Arc::new)
            .map_err(|why| format!("{}: {why}", self.path.display()));
        *known = Some(Known {
            looked_at: now,
            stamp,
            content: content.clone(),
        });
        content
    }

    /// The next read looks at the file, however recent the last look was.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn load(&self) -> Result<T, String> {
        let mut content = Vec::new();
        let file = File::open(&self.path).map_err(|error| plain(&error))?;
        file.take(self.bytes_max + 1)
            .read_to_end(&mut content)
            .map_err(|error| plain(&error))?;
        if content.len() as u64 > self.bytes_max {
            return Err(format!("it is larger than {} bytes", self.bytes_max));
        }
        (self.parse)(&content)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known<T>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = std::fs::metadata(path)?;
    Ok(Stamp {
        device: found.dev(),
        inode: found.ino(),
        length: found.len(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// Without the number of the error.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &[u8]) -> Result<String, String> {
        Ok(String::from_utf8_lossy(content).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = WatchedFile::new(path.clone(), 100, text);
        assert!(file.read().unwrap_err().contains("No such file"));
        std::fs::write(&path, "one").unwrap();
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(*file.read().unwrap(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(*file.read().unwrap(), "one");
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(*file.read().unwrap(), "two");
        std::fs::write(&path, "six").unwrap();
        file.forget();
        assert_eq!(*file.read().unwrap(), "six");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_points_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("v1"), "one").unwrap();
        std::fs::write(at("v2"), "two").unwrap();
        std::os::unix::fs::symlink(at("v1"), at("data")).unwrap();
        let file = WatchedFile::new(at("data"), 100, text);
        assert_eq!(*file.read().unwrap(), "one");
        std::os::unix::fs::symlink(at("v2"), at("data.new")).unwrap();
        std::fs::rename(at("data.new"), at("data")).unwrap();
        tokio::time::advance(LOOK_INTERVAL).await;
        assert_eq!(*file.read().unwrap(), "two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_file_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "x".repeat(101)).unwrap();
        let file = WatchedFile::new(path, 100, text);
        assert!(file.read().unwrap_err().contains("larger than 100 bytes"));
    }
}
