//! Blobs: the stored file, the flight that fills it, or, without room for either, a stream.
//!
//! Bytes go only to a client whose repository names the digest, or whose registry confirms that it
//! has it there: that the bytes are here proves nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::ahead::Scout;
use super::flight::{End, Flight, Opened, Progress};
use super::reader::{Growing, Reader};
use super::rights::Evidence;
use super::through::Through;
use super::{Answer, Ask, Error, Outcome, Pull};
use crate::oci::Digest;
use crate::upstream::Identity;
use crate::{store, upstream};

/// SPEC 4.3: how long a client waits before it is told that a blob is not to be had. podman, CRI-O,
/// skopeo and buildah have no way back once they hold the manifest.
const PATIENCE: Duration = Duration::from_millis(14_750);

/// How often a request begins anew because somebody else's flight failed for reasons of theirs.
const FLIGHTS_PER_REQUEST: usize = 4;

/// A blob that can be read now.
pub struct Blob {
    digest: Digest,
    from: From,
}

enum From {
    Stored(store::Blob),
    Growing(Box<Follow>),
    /// Can be read once, from the beginning.
    Through {
        length: Option<u64>,
        stream: Box<Through>,
    },
}

/// What it takes to read along with a flight.
struct Follow {
    opened: Opened,
    progress: watch::Receiver<Progress>,
    scout: Option<Scout>,
    followers: IntGauge,
}

impl Follow {
    fn reader(&self, at: u64, end: Option<u64>) -> Reader {
        // The end of the whole blob may not go out unverified, so only a part is fetched ahead.
        let scout = self.scout.clone().filter(|_| at > 0);
        Reader::growing(Growing::new(
            Arc::clone(&self.opened.file),
            (at, end),
            self.progress.clone(),
            scout,
            &self.followers,
        ))
    }
}

impl Blob {
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// In bytes; `None` where the upstream does not say how long the blob will be.
    pub fn length(&self) -> Option<u64> {
        match &self.from {
            From::Stored(blob) => Some(blob.length),
            From::Growing(follow) => follow.opened.length,
            From::Through { length, .. } => *length,
        }
    }

    /// Whether parts can be read in any order. Without, only [`Blob::into_reader`] works.
    pub fn has_ranges(&self) -> bool {
        match &self.from {
            From::Stored(_) => true,
            From::Growing(follow) => follow.opened.length.is_some(),
            From::Through { .. } => false,
        }
    }

    /// Reads `range`, which lies within the length. `None` where there are no ranges.
    pub fn reader(&self, range: Range<u64>) -> Option<Reader> {
        match &self.from {
            From::Stored(blob) => Some(Reader::stored(blob.clone(), range.start, range.end)),
            From::Growing(follow) => Some(follow.reader(range.start, Some(range.end))),
            From::Through { .. } => None,
        }
    }

    /// Reads all of it.
    pub fn into_reader(self) -> Reader {
        match self.from {
            From::Stored(blob) => {
                let length = blob.length;
                Reader::stored(blob, 0, length)
            }
            From::Growing(follow) => follow.reader(0, follow.opened.length),
            From::Through { stream, .. } => Reader::through(stream),
        }
    }
}

impl Pull {
    /// The blob, from the cache or while it comes in. Waits until the upstream has answered, with
    /// patience for all tries together.
    pub async fn blob(self: &Arc<Self>, ask: &Ask, digest: &Digest) -> Result<Answer<Blob>, Error> {
        if ask.identity == Identity::Stored
            && let Some(blob) = self.stored_blob(digest)
            && self.store.index().is_linked(&ask.target, digest)
        {
            return Ok(hit(digest, blob));
        }
        let mut failed = None;
        let trying = Box::pin(self.try_for_blob(ask, digest, &mut failed));
        match tokio::time::timeout(PATIENCE, trying).await {
            Ok(found) => found,
            Err(_elapsed) => Err(failed.unwrap_or_else(|| out_of_patience(ask))),
        }
    }

    async fn try_for_blob(
        self: &Arc<Self>,
        ask: &Ask,
        digest: &Digest,
        failed: &mut Option<Error>,
    ) -> Result<Answer<Blob>, Error> {
        // Before all else: nobody who may not have it begins or joins a transfer.
        let right = self.prove_right(ask, Evidence::Blob(*digest)).await?;
        for _ in 0..FLIGHTS_PER_REQUEST {
            if let Some(blob) = self.stored_blob(digest) {
                self.confirm_blob(ask, digest).await?;
                return Ok(hit(digest, blob).by(right));
            }
            let (flight, lead) = self.flights.board(digest, ask).inspect_err(|_| {
                self.metrics.refused_busy.inc();
            })?;
            let mut progress = flight.follow().inspect_err(|_| {
                self.metrics.refused_busy.inc();
            })?;
            let outcome = match lead {
                Some(lead) => {
                    self.lead(ask, lead)?;
                    Outcome::Miss
                }
                None => {
                    // The upstream's answer to this very question is on its way.
                    if !flight.is_for(ask) {
                        // Where it is the same repository, its answer says that the blob is there.
                        if ask.identity == Identity::Stored || flight.target() != &ask.target {
                            self.confirm_blob(ask, digest).await?;
                        }
                        flight.offer(ask, self.remote(ask)?);
                    }
                    Outcome::Joined
                }
            };
            match opened(&mut progress).await {
                Ok(opened) => {
                    self.store
                        .index()
                        .link(&ask.target, &mut std::iter::once(*digest));
                    if flight.target() == &ask.target {
                        self.rights.place(&ask.target, digest);
                    }
                    let source = Some(opened.source.clone());
                    let follow = Follow {
                        scout: self.scout(ask, digest, &flight, &opened)?,
                        opened,
                        progress,
                        followers: self.metrics.followers.clone(),
                    };
                    let from = From::Growing(Box::new(follow));
                    let content = Blob {
                        digest: *digest,
                        from,
                    };
                    return Ok(Answer {
                        source,
                        ..Answer::new(content, outcome).by(right)
                    });
                }
                Err(Unopened::Uncached) => {
                    let answer = self.stream_through(ask, digest).await?;
                    return Ok(answer.by(right));
                }
                Err(Unopened::Failed(error))
                    if outcome == Outcome::Joined
                        && (error.is_about_the_content()
                            || !flight.is_for(ask) && error.is_about_the_repository()) =>
                {
                    debug!(%digest, %error, "the flight failed; another may fare better");
                    *failed = Some(error);
                }
                Err(Unopened::Failed(error)) => return Err(error),
                // It landed between two looks: the file is there.
                Err(Unopened::Landed) => {}
            }
        }
        Err(failed.take().unwrap_or(Error::Stopping))
    }

    fn stored_blob(&self, digest: &Digest) -> Option<store::Blob> {
        self.store.blob(digest).unwrap_or_else(|error| {
            warn!(%digest, %error, "stored blob unreadable; it will be fetched again");
            None
        })
    }

    /// That the bytes are here does not make them this repository's.
    async fn confirm_blob(self: &Arc<Self>, ask: &Ask, digest: &Digest) -> Result<(), Error> {
        if ask.identity != Identity::Stored {
            let evidence = Evidence::Blob(*digest);
            return self.prove_place(ask, evidence, digest).await;
        }
        let index = self.store.index();
        if index.is_linked(&ask.target, digest) {
            return Ok(());
        }
        let remote = self.remote(ask)?;
        if Box::pin(remote.blob_exists(digest)).await? {
            index.link(&ask.target, &mut std::iter::once(*digest));
            return Ok(());
        }
        Err(Error::NotNamed {
            target: ask.target.clone(),
            digest: *digest,
        })
    }

    fn scout(
        &self,
        ask: &Ask,
        digest: &Digest,
        flight: &Flight,
        opened: &Opened,
    ) -> Result<Option<Scout>, Error> {
        let Some(length) = opened.length else {
            return Ok(None);
        };
        let (remote, ahead) = (self.remote(ask)?, Arc::clone(&flight.ahead));
        Ok(Some(Scout {
            remote,
            digest: *digest,
            length,
            ahead,
        }))
    }

    async fn stream_through(&self, ask: &Ask, digest: &Digest) -> Result<Answer<Blob>, Error> {
        self.metrics.uncached.inc();
        let remote = self.remote(ask)?;
        let download = Box::pin(remote.blob(digest, 0)).await?;
        let (length, source) = (download.length(), download.source().clone());
        let bytes_max = length.or_else(|| self.sizes.of(digest));
        let stream = Box::new(Through::new(remote, download, *digest, bytes_max));
        let content = Blob {
            digest: *digest,
            from: From::Through { length, stream },
        };
        Ok(Answer {
            source: Some(source),
            ..Answer::new(content, Outcome::Miss)
        })
    }
}

fn hit(digest: &Digest, blob: store::Blob) -> Answer<Blob> {
    let blob = Blob {
        digest: *digest,
        from: From::Stored(blob),
    };
    Answer::new(blob, Outcome::Hit)
}

fn out_of_patience(ask: &Ask) -> Error {
    let timeout = upstream::Away::Timeout {
        during: upstream::Phase::Headers,
        after: PATIENCE,
    };
    Error::Upstream(upstream::Error {
        registry: ask.target.registry.clone(),
        endpoint: None,
        kind: upstream::ErrorKind::Away(timeout),
    })
}

/// Why a flight has no file to read.
enum Unopened {
    Uncached,
    Landed,
    Failed(Error),
}

/// Waits until there is something to read.
async fn opened(progress: &mut watch::Receiver<Progress>) -> Result<Opened, Unopened> {
    let told = progress
        .wait_for(|progress| progress.opened.is_some() || progress.end.is_some())
        .await
        .map_err(|_| Unopened::Failed(Error::Stopping))?;
    match (&told.opened, &told.end) {
        (_, Some(End::Failed(error))) | (Some(_), Some(End::Uncached(error))) => {
            Err(Unopened::Failed(error.clone()))
        }
        (None, Some(End::Uncached(_))) => Err(Unopened::Uncached),
        (Some(opened), _) => Ok(opened.clone()),
        (None, _) => Err(Unopened::Landed),
    }
}
