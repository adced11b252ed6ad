//! Reading a blob, stored or still growing, in pieces that can be sent as they are.
//!
//! A reader of a growing file goes at its own pace and never past the flight's frontier. An error
//! means that the body cannot be completed: the connection has to be cut, never ended cleanly.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::Error;
use super::ahead::{self, Scout, Scouted};
use super::flight::{End, Progress};
use super::through::Through;
use crate::store;
use crate::upstream::Download;

/// Bytes that can be sent now.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A part of a file. It stays readable for as long as the reader lives.
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
        /// More of it is being written.
        growing: bool,
    },
    Bytes(Bytes),
}

/// Hands out one range of a blob, piece by piece.
pub struct Reader {
    from: From,
}

enum From {
    Stored {
        blob: store::Blob,
        at: u64,
        end: u64,
    },
    Growing(Growing),
    Through(Box<Through>),
}

impl Reader {
    pub(super) fn stored(blob: store::Blob, at: u64, end: u64) -> Self {
        Reader {
            from: From::Stored { blob, at, end },
        }
    }

    pub(super) fn growing(growing: Growing) -> Self {
        Reader {
            from: From::Growing(growing),
        }
    }

    pub(super) fn through(through: Box<Through>) -> Self {
        Reader {
            from: From::Through(through),
        }
    }

    /// The next piece; `None` when the range is complete. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        match &mut self.from {
            From::Stored { at, end, .. } if *at >= *end => Ok(None),
            From::Stored { blob, at, end } => {
                let (offset, length) = (*at, *end - *at);
                *at = *end;
                Ok(Some(Piece::File {
                    file: Arc::clone(&blob.file),
                    offset,
                    length,
                    growing: false,
                }))
            }
            From::Growing(growing) => growing.next().await,
            From::Through(through) => Ok(through.next().await?.map(Piece::Bytes)),
        }
    }
}

/// A place in a growing file.
pub(super) struct Growing {
    file: Arc<File>,
    at: u64,
    /// `None`: to the end, wherever that turns out to be.
    end: Option<u64>,
    progress: watch::Receiver<Progress>,
    /// For ranges far ahead; gone once it is decided whether this one has a request of its own.
    scout: Option<Scout>,
    /// The upstream request of this range's own, until the fill has caught up.
    ahead: Option<Box<Download>>,
    _follower: Follower,
}

impl Growing {
    pub(super) fn new(
        file: Arc<File>,
        range: (u64, Option<u64>),
        progress: watch::Receiver<Progress>,
        scout: Option<Scout>,
        followers: &IntGauge,
    ) -> Self {
        let (at, end) = range;
        let _follower = Follower::new(followers);
        Growing {
            file,
            at,
            end,
            progress,
            scout,
            ahead: None,
            _follower,
        }
    }

    async fn next(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            match self.look()? {
                Look::Piece(piece) => return Ok(Some(piece)),
                Look::Complete => return Ok(None),
                Look::Wait => {}
            }
            if let Some(bytes) = self.next_ahead().await? {
                return Ok(Some(Piece::Bytes(bytes)));
            }
            self.wait().await?;
        }
    }

    /// Until the fill has moved, or it is time to think again about a request of its own.
    async fn wait(&mut self) -> Result<(), Error> {
        let changed = self.progress.changed();
        let changed = if self.scout.is_some() {
            tokio::select! {
                changed = changed => changed,
                () = tokio::time::sleep(ahead::LOOK_AGAIN_AFTER) => return Ok(()),
            }
        } else {
            changed.await
        };
        changed.map_err(|_| Error::Stopping)
    }

    /// What the file has for this reader now.
    fn look(&mut self) -> Result<Look, Error> {
        let progress = self.progress.borrow_and_update();
        let until = progress.frontier().min(self.end.unwrap_or(u64::MAX));
        if until > self.at {
            let (file, offset) = (Arc::clone(&self.file), self.at);
            self.at = until;
            self.ahead = None;
            return Ok(Look::Piece(Piece::File {
                file,
                offset,
                length: until - offset,
                growing: true,
            }));
        }
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(Look::Complete);
        }
        match &progress.end {
            _ if progress.verified => Ok(Look::Complete),
            Some(End::Landed) => Ok(Look::Complete),
            Some(End::Failed(error) | End::Uncached(error)) => Err(error.clone()),
            None => Ok(Look::Wait),
        }
    }

    /// Bytes from a request of this range's own, where it has one or deserves one.
    async fn next_ahead(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(end) = self.end else { return Ok(None) };
        if self.ahead.is_none()
            && let Some(scout) = &self.scout
        {
            let written = self.progress.borrow().written;
            match scout.fetch(self.at, end, written).await {
                Scouted::NotYet => {}
                Scouted::Never => self.scout = None,
                Scouted::Found(download) => {
                    self.ahead = Some(download);
                    self.scout = None;
                }
            }
        }
        let Some(download) = &mut self.ahead else {
            return Ok(None);
        };
        match ahead::chunk(download, self.at, end).await {
            Ok(bytes) if !bytes.is_empty() => {
                self.at += bytes.len() as u64;
                Ok(Some(bytes))
            }
            // It was a short cut only: the fill gets there in the end.
            Ok(_) | Err(_) => {
                self.ahead = None;
                Ok(None)
            }
        }
    }
}

enum Look {
    Piece(Piece),
    Complete,
    Wait,
}

/// Counts itself for as long as it lives.
struct Follower(IntGauge);

impl Follower {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Follower(gauge.clone())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.dec();
    }
}
