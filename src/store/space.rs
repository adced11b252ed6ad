//! How much room the file system has left.
//!
//! Asking a network file system may take a while, so an answer is used for a moment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock, Timestamp};

/// How long an answer is used, in milliseconds.
const FRESH_MILLIS: u64 = 500;

#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    clock: Clock,
    last: Mutex<Option<(Timestamp, u64)>>,
}

impl Space {
    pub(super) fn new(directory: &Path, clock: Clock) -> Self {
        Space {
            directory: directory.to_owned(),
            clock,
            last: Mutex::new(None),
        }
    }

    /// Bytes that an ordinary process may still write; what was answered a moment ago will do.
    pub(super) fn free(&self) -> io::Result<u64> {
        let now = self.clock.now();
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Some((at, free)) if now.0.abs_diff(at.0) < FRESH_MILLIS => Ok(free),
            Some(_) | None => self.free_now(),
        }
    }

    pub(super) fn free_now(&self) -> io::Result<u64> {
        let told = rustix::fs::statvfs(&self.directory)?;
        let free = told.f_bavail.saturating_mul(told.f_frsize);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.clock.now(), free));
        Ok(free)
    }
}
