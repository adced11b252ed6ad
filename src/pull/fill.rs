//! The leader of a flight: upstream to staged file, from the first byte to the rename.
//!
//! Nothing here waits for a client. The fill goes on when all of them have left, and what it has
//! when weir stops is parked for the next process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::flight::{End, Lead, Opened};
use super::segments::Transfer;
use super::{Ask, Error, Pull};
use crate::oci::{Digest, Target};
use crate::store::{self, PublishError, Staged};
use crate::upstream::{self, Download, Remote, Source};

/// How long a blob is tried for: a little less than a client waits, so that it hears why it is not
/// to be had.
const OPEN_PATIENCE: Duration = Duration::from_millis(14_500);
/// Pause before the second try; doubled for each further one, up to the last.
const OPEN_PAUSE_FIRST: Duration = Duration::from_millis(100);
const OPEN_PAUSE_LAST: Duration = Duration::from_secs(2);

impl Pull {
    /// Gives the flight its leader.
    pub(super) fn lead(self: &Arc<Self>, ask: &Ask, lead: Lead) -> Result<(), Error> {
        let remote = self.remote(ask)?;
        let pull = Arc::clone(self);
        let target = ask.target.clone();
        self.metrics.flights.inc();
        self.tasks.spawn(async move {
            let digest = *lead.digest();
            let end = pull.fill(&lead, &remote).await;
            match &end {
                End::Landed => {
                    pull.metrics.landed.inc();
                    debug!(%target, %digest, "blob stored");
                }
                End::Uncached(error) => warn!(%target, %digest, %error, "streamed past the cache"),
                End::Failed(error) => {
                    pull.metrics.failed.inc();
                    warn!(%target, %digest, %error, "blob not stored");
                }
            }
            pull.metrics.flights.dec();
            lead.end(end);
        });
        Ok(())
    }

    async fn fill(&self, lead: &Lead, remote: &Remote) -> End {
        match self.begin(lead, remote).await {
            Ok((download, staged)) => self.land(lead, remote, download, staged).await,
            Err(end) => end,
        }
    }

    /// Opens the transfer and the staged file, both at the same offset.
    async fn begin(&self, lead: &Lead, remote: &Remote) -> Result<(Download, Staged), End> {
        let digest = lead.digest();
        let mut offset = self.store.partial(digest);
        loop {
            let download = tokio::select! {
                () = self.stop.cancelled() => return Err(End::Failed(Error::Stopping)),
                opened = open(digest, remote, offset) => opened.map_err(End::Failed)?,
            };
            let staged = self.store.stage(digest, download.length()).await;
            let mut staged = staged.map_err(uncached)?;
            if staged.written() == download.offset() {
                return Ok((download, staged));
            }
            // What was left behind does not fit this blob, or the upstream begins at the front.
            staged.restart().await.map_err(uncached)?;
            if download.offset() == 0 {
                return Ok((download, staged));
            }
            offset = 0;
        }
    }

    async fn land(
        &self,
        lead: &Lead,
        remote: &Remote,
        download: Download,
        mut staged: Staged,
    ) -> End {
        let source = download.source().clone();
        let (file, length) = (staged.file(), download.length());
        lead.opened(
            Opened {
                file,
                length,
                source: source.clone(),
            },
            staged.written(),
        );
        let begun_at = staged.written();
        let mut transfer = Transfer::new(&self.segments, remote.clone(), *lead.digest(), download);
        while let Err(error) = self.transfer(lead, transfer, &mut staged).await {
            match self.hand_over(lead, &mut staged, length, &error).await {
                Some(other) => transfer = other,
                None => return self.give_up(lead, staged, error),
            }
        }
        match staged.verify().await {
            Ok(()) => lead.verified(staged.written()),
            Err(error) => {
                // What an earlier process left may be what is wrong.
                let source = (begun_at == 0).then_some(&source);
                return End::Failed(unpublished(error, remote, source));
            }
        }
        match staged.publish().await {
            Ok(_) => End::Landed,
            Err(error) => End::Failed(unpublished(error, remote, Some(&source))),
        }
    }

    /// Goes on from another repository or registry that a follower came for.
    async fn hand_over(
        &self,
        lead: &Lead,
        staged: &mut Staged,
        length: Option<u64>,
        error: &Error,
    ) -> Option<Transfer<'_>> {
        let Error::Upstream(error) = error else {
            return None;
        };
        staged.flush().await.ok()?;
        let written = staged.written();
        while let Some(other) = lead.other() {
            let download = tokio::select! {
                () = self.stop.cancelled() => return None,
                download = other.blob(lead.digest(), written) => download,
            };
            match download {
                Ok(download) if download.length() == length && download.offset() <= written => {
                    info!(
                        digest = %lead.digest(), bytes = written, %error,
                        endpoint = %download.source().endpoint, "blob taken up elsewhere"
                    );
                    let transfer = Transfer::new(&self.segments, other, *lead.digest(), download);
                    return Some(transfer.behind(written));
                }
                Ok(_) => {}
                Err(error) => debug!(digest = %lead.digest(), %error, "nor is it to be had there"),
            }
        }
        None
    }

    fn give_up(&self, lead: &Lead, staged: Staged, error: Error) -> End {
        if error.is_worth_resuming() && staged.written() > 0 {
            info!(digest = %lead.digest(), bytes = staged.written(), "partial blob kept");
            self.metrics.parked.inc();
            staged.park();
        }
        End::Failed(error)
    }

    async fn transfer(
        &self,
        lead: &Lead,
        mut transfer: Transfer<'_>,
        staged: &mut Staged,
    ) -> Result<(), Error> {
        let mut frontier = staged.frontier();
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Stopping),
                chunk = chunk(&mut transfer, &mut frontier, lead) => chunk?,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            staged.append(chunk).await?;
            lead.advance(staged.written());
        }
    }
}

/// The next chunk; what the disk has taken meanwhile is told to the readers.
async fn chunk(
    transfer: &mut Transfer<'_>,
    frontier: &mut watch::Receiver<u64>,
    lead: &Lead,
) -> Result<Option<Bytes>, upstream::Error> {
    let mut chunk = pin!(transfer.chunk());
    loop {
        tokio::select! {
            biased;
            chunk = &mut chunk => return chunk,
            Ok(()) = frontier.changed() => lead.advance(*frontier.borrow_and_update()),
        }
    }
}

/// Opens the transfer, trying on while there is hope and nothing has been sent.
async fn open(digest: &Digest, remote: &Remote, offset: u64) -> Result<Download, Error> {
    let deadline = Instant::now() + OPEN_PATIENCE;
    let mut pause = OPEN_PAUSE_FIRST;
    let mut last: Option<upstream::Error> = None;
    loop {
        let error = match tokio::time::timeout_at(deadline, remote.blob(digest, offset)).await {
            Ok(Ok(download)) => return Ok(download),
            Ok(Err(error)) => error,
            // What an attempt has heard says more than that the patience is at its end.
            Err(_) => {
                let error = last.unwrap_or_else(|| timed_out(remote.target()));
                return Err(error.into());
            }
        };
        let hopeless = match &error.kind {
            upstream::ErrorKind::NotFound | upstream::ErrorKind::Refused { .. } => true,
            upstream::ErrorKind::RateLimited { .. }
            | upstream::ErrorKind::Away(_)
            | upstream::ErrorKind::Wrong(_) => false,
        };
        if hopeless || Instant::now() + pause >= deadline {
            return Err(error.into());
        }
        debug!(%digest, %error, "blob not to be had yet");
        last = Some(error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(OPEN_PAUSE_LAST);
    }
}

fn timed_out(target: &Target) -> upstream::Error {
    let timeout = upstream::Away::Timeout {
        during: upstream::Phase::Headers,
        after: OPEN_PATIENCE,
    };
    upstream::Error {
        registry: target.registry.clone(),
        endpoint: None,
        kind: upstream::ErrorKind::Away(timeout),
    }
}

fn unpublished(error: PublishError, remote: &Remote, source: Option<&Source>) -> Error {
    match error {
        PublishError::WrongDigest {
            expected, found, ..
        } => {
            if let Some(source) = source {
                remote.mark_wrong(&expected, source);
            }
            wrong_content(remote, source, upstream::Wrong::digest(expected, *found))
        }
        PublishError::WrongLength {
            expected, found, ..
        } => wrong_content(remote, source, upstream::Wrong::Length { expected, found }),
        PublishError::Io(error) => error.into(),
    }
}

pub(super) fn wrong_content(
    remote: &Remote,
    source: Option<&Source>,
    wrong: upstream::Wrong,
) -> Error {
    Error::Upstream(upstream::Error {
        registry: remote.target().registry.clone(),
        endpoint: source.map(|source| Arc::clone(&source.endpoint)),
        kind: upstream::ErrorKind::Wrong(wrong),
    })
}

/// Clients can still be served, each by a stream of its own.
fn uncached(error: store::Error) -> End {
    End::Uncached(error.into())
}
