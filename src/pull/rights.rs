//! Who may pull what, where the upstream decides it: registries with `auth = "client"`.
//!
//! Each client's own login is shown to the registry, and whatever is cached of a repository is given
//! only to those who were let in there. What is remembered stands in `standing.rs`.
//!
//! # What is promised
//!
//! Before anything of such a repository is answered (a manifest by tag or digest, a blob or a part
//! of one, stored or on its way, a list, a remembered 404) it is known that the registry lets this
//! login, or a client without one, pull there. It is known for `right_for` from the moment of the
//! request that proved it. Proof is
//!
//! - a 200 to a `HEAD` of a manifest or blob of this repository with this login (of a blob, where
//!   `HEAD` is not served or a cache denies it, to a `GET` of one byte; of a manifest, where `HEAD`
//!   is not served at all, to a `GET`);
//! - a 200 to a `GET` that this client's request caused anyway, so that a cold pull costs nothing
//!   more; for lists only that: who may pull may not always list.
//!
//! A 404 is no proof: registries say it of what one may not see. Nor is a list, a token, or anything
//! that another login was told. A refusal ends what was known at once; a 404 to the question for a
//! right that had lapsed ends that it is held. When no answer comes (not: a refusal), a right that
//! was proved holds for `right_held_for` since then; after that the client gets the error.
//!
//! # Who might want more
//!
//! The assets are private images and the clients' passwords. Against these it holds:
//!
//! - *Somebody without the right asks for what is cached, or joins a transfer*: the registry is
//!   asked with that login first, and what it says is the answer. Cached or not makes no difference
//!   to the answer, and to the time it takes hardly more than a look at the disk.
//! - *Somebody knows a digest*: content goes out in a repository only when the registry itself was
//!   seen to have it there; that a manifest names it is not enough, for anybody who may push one to a
//!   repository of their own can name what they please. It is asked once in the life of the process.
//! - *Somebody asks for made-up names* to make weir forget: a 404 is remembered only for the login
//!   that got it, and takes a cached tag away only if that login may pull there.
//! - *One client's login used for another*: questions are shared only between requests of the same
//!   login; a transfer goes on by the login of a client that asked for just that blob.
//! - *Passwords*: they go to this registry's endpoints and to the token service that belongs to it,
//!   to no other registry and no host of a redirect. They are kept in memory only: by requests and
//!   transfers under way, and for the five minutes that a token of weir lives. What is remembered
//!   longer is found by a hash with a key of this process, which tells nothing of them.
//!
//! Against these it does not:
//!
//! - A right that is withdrawn, or a password that is changed, ends up to `right_for` later; while the
//!   registry is away, up to `right_held_for`. Tokens are used no longer than `right_for` either. A
//!   transfer that has begun is finished.
//! - Who may pull from a repository can tell by the time it takes, and by `Age`, that something of it
//!   is cached here.
//! - Every endpoint of the registry is believed, and is shown the logins. One that gives to
//!   everybody makes public what it has.
//! - Passwords are tried at the registry, which sees weir's address: its lockouts may hit all of
//!   weir's clients. A wrong one is asked about again after a few seconds.
//! - Who rules weir's machine can read the cache and the logins that pass through; who may use the
//!   admin address sees the names of what is cached.
//! - A client has one login for one host name. Where two such registries stand behind one name of
//!   weir, it is shown to the one that is asked for; `hosts` gives each a name of its own.

use std::sync::Arc;

use tokio::time::Instant;

use super::joint::Part;
use super::silence::is_silence;
use super::standing::{Known, Standing};
use super::{Ask, Error, Pull};
use crate::oci::{Digest, Reference, Target};
use crate::upstream::{self, ErrorKind, Identity, Remote};

/// How it was known that a client may have what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// The upstream said so a moment ago.
    Known,
    /// It was asked now.
    Asked,
    /// It could not be asked, and said so not long ago.
    Held,
}

impl Right {
    pub fn as_str(self) -> &'static str {
        match self {
            Right::Known => "known",
            Right::Asked => "asked",
            Right::Held => "held while away",
        }
    }
}

/// What an upstream is asked about to learn whether a client may pull from a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Evidence {
    Manifest(Reference),
    Blob(Digest),
}

/// A question about a right. Without evidence: whatever the first one came with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    standing: Standing,
    evidence: Option<Evidence>,
}

pub(super) type Told = Result<(), Error>;

impl Pull {
    /// Whether it is known by now that this client may pull from the repository.
    pub fn knows_right(&self, target: &Target, identity: &Identity) -> bool {
        self.is_known(self.rights.to_content(target, identity).as_ref())
    }

    /// `None`: weir decides itself, and has.
    pub(super) fn is_known(&self, standing: Option<&Standing>) -> bool {
        let known = standing.map(|standing| self.rights.known(standing, Instant::now()));
        matches!(known, None | Some(Known::Granted))
    }

    /// The refusal that this client got a moment ago, where it did.
    pub(super) fn check_not_refused(&self, ask: &Ask) -> Result<(), Error> {
        let standing = self.rights.to_content(&ask.target, &ask.identity);
        match standing.map(|standing| self.rights.known(&standing, Instant::now())) {
            Some(Known::Refused(error)) => {
                self.metrics.rights.refused.inc();
                Err(error.into())
            }
            Some(Known::Granted | Known::Unknown) | None => Ok(()),
        }
    }

    /// That the client may pull from the repository, before something cached is answered. `None`:
    /// weir decides that itself, and has.
    pub(super) async fn prove_right(
        self: &Arc<Self>,
        ask: &Ask,
        evidence: Evidence,
    ) -> Result<Option<Right>, Error> {
        let Some(standing) = self.rights.to_content(&ask.target, &ask.identity) else {
            return Ok(None);
        };
        let counted = &self.metrics.rights;
        match self.rights.known(&standing, Instant::now()) {
            Known::Granted => {
                counted.known.inc();
                return Ok(Some(Right::Known));
            }
            Known::Refused(error) => {
                counted.refused.inc();
                return Err(error.into());
            }
            Known::Unknown => {}
        }
        // Boxed, as everywhere on the way of a hit: what is rare must not make every request's future
        // large.
        match Box::pin(self.ask_right(ask, &standing, evidence)).await {
            Ok(()) => {
                counted.granted.inc();
                Ok(Some(Right::Asked))
            }
            Err(error) if is_silence(&error) && self.rights.is_held(&standing, Instant::now()) => {
                counted.held.inc();
                tracing::warn!(target = %ask.target, %error, "right held: the upstream could not say");
                Ok(Some(Right::Held))
            }
            Err(error) => {
                counted.failed(&error);
                Err(error)
            }
        }
    }

    /// That the upstream has this content in this repository, whatever names it there.
    pub(super) async fn prove_place(
        self: &Arc<Self>,
        ask: &Ask,
        evidence: Evidence,
        digest: &Digest,
    ) -> Result<(), Error> {
        let Some(standing) = self.rights.to_content(&ask.target, &ask.identity) else {
            return Ok(());
        };
        if self.rights.is_placed(&ask.target, digest) {
            return Ok(());
        }
        // What is said when it is not there is what would be said if it were not cached: who has it
        // elsewhere is nobody's business here.
        Box::pin(self.join_asking(ask, &standing, evidence, true))
            .await
            .0
    }

    /// Asks once for all who wait for the same right.
    async fn ask_right(
        self: &Arc<Self>,
        ask: &Ask,
        standing: &Standing,
        evidence: Evidence,
    ) -> Result<(), Error> {
        let asked = self.join_asking(ask, standing, evidence.clone(), false);
        match asked.await {
            // Whoever began it asked about something else, which is not there. That says nothing
            // about this.
            (Err(Error::Upstream(error)), Part::Joined)
                if matches!(error.kind, ErrorKind::NotFound) =>
            {
                self.join_asking(ask, standing, evidence, true).await.0
            }
            (told, _) => told,
        }
    }

    /// `about_it`: it has to be this evidence and no other.
    async fn join_asking(
        self: &Arc<Self>,
        ask: &Ask,
        standing: &Standing,
        evidence: Evidence,
        about_it: bool,
    ) -> (Told, Part) {
        let remote = match self.remote(ask) {
            Ok(remote) => remote,
            Err(error) => return (Err(error), Part::Began),
        };
        let asked = Asked {
            standing: standing.clone(),
            evidence: about_it.then(|| evidence.clone()),
        };
        let work = || {
            let (pull, standing) = (Arc::clone(self), standing.clone());
            async move { pull.hear_right(&standing, &remote, &evidence).await }
        };
        let told = self.right_asks.run(&self.tasks, asked, work).await;
        told.unwrap_or((Err(Error::Stopping), Part::Began))
    }

    async fn hear_right(&self, standing: &Standing, remote: &Remote, evidence: &Evidence) -> Told {
        let asked_at = Instant::now();
        let heard = tokio::select! {
            () = self.stop.cancelled() => Err(Error::Stopping),
            heard = evidence.ask(remote) => heard.map_err(Error::from),
        };
        self.note_right(standing, asked_at, heard.as_ref().map(|_| ()));
        if let Some(digest) = heard? {
            self.rights.place(remote.target(), &digest);
        }
        Ok(())
    }

    /// Takes in what the upstream said to a request with this client's login.
    pub(super) fn note_right(
        &self,
        standing: &Standing,
        asked_at: Instant,
        said: Result<(), &Error>,
    ) {
        let error = match said {
            Ok(()) => return self.rights.grant(standing, asked_at),
            Err(error) => error,
        };
        let Some(error) = error.of_upstream() else {
            return;
        };
        match &error.kind {
            ErrorKind::Refused { .. } => self.rights.refuse(standing, error),
            ErrorKind::NotFound => self.rights.hold_no_longer(standing),
            ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_) => {}
        }
    }
}

impl Evidence {
    /// Asks with the client's own login. Gives what the upstream has in this repository, where that
    /// is told. Never costs a pull where the registry serves `HEAD`.
    async fn ask(&self, remote: &Remote) -> Result<Option<Digest>, upstream::Error> {
        match self {
            Evidence::Manifest(reference) => {
                let head = remote.head(reference).await?;
                if head.answered {
                    return Ok(head.digest);
                }
                let fetched = remote.manifest(reference).await?;
                Ok(Some(fetched.manifest.digest))
            }
            Evidence::Blob(digest) => {
                remote.blob_found(digest).await?;
                Ok(Some(*digest))
            }
        }
    }
}
