//! Streaming past the cache, for when there is no room in it: one client, one transfer.
//!
//! The promise about digests holds here as well: the last chunk stays back until the hash is right.

use bytes::Bytes;

use super::Error;
use super::fill::wrong_content;
use crate::oci::{Digest, Hasher};
use crate::upstream::{Download, Remote, Wrong};

pub(super) struct Through {
    remote: Remote,
    download: Download,
    digest: Digest,
    /// `None` once the end was checked.
    hasher: Option<Hasher>,
    held_back: Option<Bytes>,
    /// What may still come, where somebody said how much there is.
    left: Option<u64>,
    bytes_max: Option<u64>,
}

impl Through {
    pub(super) fn new(
        remote: Remote,
        download: Download,
        digest: Digest,
        bytes_max: Option<u64>,
    ) -> Self {
        let hasher = Some(Hasher::new(digest.algorithm()));
        Through {
            remote,
            download,
            digest,
            hasher,
            held_back: None,
            left: bytes_max,
            bytes_max,
        }
    }

    /// The next bytes; `None` when all of them are out and right.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(hasher) = &mut self.hasher {
            match self.download.chunk().await? {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => {
                    if let Some(left) = &mut self.left {
                        match left.checked_sub(chunk.len() as u64) {
                            Some(less) => *left = less,
                            None => return Err(self.too_long()),
                        }
                    }
                    hasher.update(&chunk);
                    if let Some(earlier) = self.held_back.replace(chunk) {
                        return Ok(Some(earlier));
                    }
                }
                None => self.check()?,
            }
        }
        Ok(self.held_back.take())
    }

    fn too_long(&self) -> Error {
        let source = self.download.source();
        self.remote.mark_wrong(&self.digest, source);
        let max = self.bytes_max.unwrap_or_default();
        wrong_content(&self.remote, Some(source), Wrong::TooLong { max })
    }

    fn check(&mut self) -> Result<(), Error> {
        let expected = self.digest;
        match self.hasher.take().map(Hasher::finish) {
            Some(found) if found != expected => {
                let source = self.download.source();
                self.remote.mark_wrong(&expected, source);
                let wrong = Wrong::digest(expected, found);
                Err(wrong_content(&self.remote, Some(source), wrong))
            }
            Some(_) | None => Ok(()),
        }
    }
}
