//! From the pieces of a blob to the bytes of a body.
//!
//! A body ends either with every byte that its headers promise or with an error, which cuts the
//! connection: a client never takes a part for the whole.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};

use super::outlet::Outlet;
use crate::pull::{self, Blob, Piece, Reader};

/// One stretch of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stretch {
    Part(Range<u64>),
    /// What stands between the parts of a multipart body.
    Text(Bytes),
}

/// Why a body was cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error(transparent)]
    Pull(Box<pull::Error>),
    #[error("a cached file could not be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("the content ended before its length")]
    Short,
}

/// All of a blob, whose length need not be known.
pub(super) fn whole(
    blob: Blob,
    outlet: Outlet,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send + 'static {
    let owed = blob.length().unwrap_or(0);
    let reader = Some(blob.into_reader());
    stream(Sending::new(None, reader, owed, Vec::new(), outlet))
}

/// The bytes of `stretches`, one after the other, of a blob that has ranges.
pub(super) fn stretches(
    blob: Blob,
    stretches: Vec<Stretch>,
    outlet: Outlet,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send + 'static {
    stream(Sending::new(Some(blob), None, 0, stretches, outlet))
}

fn stream(sending: Sending) -> impl Stream<Item = Result<Bytes, Cut>> + Send + 'static {
    stream::try_unfold(sending, |mut sending| async {
        let bytes = sending.next().await?;
        Ok(bytes.map(|bytes| (bytes, sending)))
    })
}

struct Sending {
    /// Gives the readers of the stretches.
    blob: Option<Blob>,
    stretches: std::vec::IntoIter<Stretch>,
    reader: Option<Reader>,
    /// Bytes of the current stretch that are still to come, where that is known.
    owed: u64,
    window: Option<Window>,
    outlet: Outlet,
}

/// The part of a file that can be read now.
struct Window {
    file: Arc<std::fs::File>,
    offset: u64,
    length: u64,
}

impl Sending {
    fn new(
        blob: Option<Blob>,
        reader: Option<Reader>,
        owed: u64,
        stretches: Vec<Stretch>,
        outlet: Outlet,
    ) -> Sending {
        Sending {
            blob,
            stretches: stretches.into_iter(),
            reader,
            owed,
            window: None,
            outlet,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let bytes = match self.window.take().filter(|window| window.length > 0) {
                Some(window) => self.read(window).await?,
                None => match self.next_piece().await? {
                    Some(Piece::Bytes(bytes)) => bytes,
                    Some(Piece::File {
                        file,
                        offset,
                        length,
                        growing,
                    }) => {
                        self.outlet.set_growing(growing);
                        self.window = Some(Window {
                            file,
                            offset,
                            length,
                        });
                        continue;
                    }
                    None if self.owed > 0 => return Err(Cut::Short),
                    None => match self.stretches.next() {
                        Some(Stretch::Text(text)) => return Ok(Some(text)),
                        Some(Stretch::Part(range)) => {
                            self.begin(range)?;
                            continue;
                        }
                        None => return Ok(None),
                    },
                },
            };
            self.owed = self.owed.saturating_sub(bytes.len() as u64);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Piece>, Cut> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let piece = reader.next().await.map_err(Box::new).map_err(Cut::Pull)?;
        if piece.is_none() {
            self.reader = None;
        }
        Ok(piece)
    }

    fn begin(&mut self, range: Range<u64>) -> Result<(), Cut> {
        self.owed = range.end - range.start;
        let reader = self.blob.as_ref().and_then(|blob| blob.reader(range));
        self.reader = Some(reader.ok_or(Cut::Short)?);
        Ok(())
    }

    /// Reads the beginning of `window` and leaves the rest of it for the next time.
    async fn read(&mut self, window: Window) -> Result<Bytes, Cut> {
        let Window {
            file,
            offset,
            length,
        } = window;
        let taken = self.outlet.take(&file, offset, length).await;
        let bytes = taken.map_err(Cut::Read)?;
        if bytes.is_empty() {
            return Err(Cut::Short);
        }
        self.window = Some(Window {
            file,
            offset: offset + bytes.len() as u64,
            length: length - bytes.len() as u64,
        });
        Ok(bytes)
    }
}
