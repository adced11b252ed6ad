//! Why a pull did not get what it asked for, in the words of this room.

use std::sync::Arc;

use crate::oci::{Digest, Reference, RegistryName, Target};
use crate::{store, upstream};

/// One outcome may go to many clients, so an error is cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    #[error("{target} had no {reference} when its registry was asked a moment ago")]
    RememberedMissing {
        target: Target,
        reference: Reference,
    },
    #[error(
        "{target} does not name {digest}: no manifest of that repository that was pulled through here refers to it, and its registry does not have it there"
    )]
    NotNamed { target: Target, digest: Digest },
    #[error("the registry {0} is not configured")]
    UnknownRegistry(RegistryName),
    #[error(
        "{target} has a new manifest upstream, but only the reserve of pulls is left there (quota_reserve)"
    )]
    QuotaReserved { target: Target },
    #[error(
        "{limit} transfers from upstreams are under way, as many as are allowed; try again in a moment"
    )]
    Busy { limit: usize },
    #[error("{limit} clients read along with one transfer, as many as may; try again in a moment")]
    Crowded { limit: usize },
    #[error("the cache could not be used: {0}")]
    Store(Arc<store::Error>),
    #[error("the transfer was ended because weir is stopping")]
    Stopping,
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Error::Store(Arc::new(error))
    }
}

impl Error {
    /// What the upstream said, or why it could not; `None`: weir itself is what failed.
    pub(super) fn of_upstream(&self) -> Option<&upstream::Error> {
        match self {
            Error::Upstream(error) => Some(error),
            Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_)
            | Error::QuotaReserved { .. }
            | Error::Busy { .. }
            | Error::Crowded { .. }
            | Error::Store(_)
            | Error::Stopping => None,
        }
    }

    /// What a client may be told: see [`upstream::Error::for_clients`].
    pub(super) fn for_clients(&self) -> String {
        match self {
            Error::Upstream(error) => error.for_clients(),
            Error::Store(_) => "the cache could not be used".to_owned(),
            Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_)
            | Error::QuotaReserved { .. }
            | Error::Busy { .. }
            | Error::Crowded { .. }
            | Error::Stopping => self.to_string(),
        }
    }

    /// Whether another repository's request for the same bytes might fare better.
    pub(super) fn is_about_the_repository(&self) -> bool {
        match self {
            Error::Upstream(error) => match &error.kind {
                upstream::ErrorKind::NotFound
                | upstream::ErrorKind::Refused { .. }
                | upstream::ErrorKind::RateLimited { .. } => true,
                upstream::ErrorKind::Away(_) | upstream::ErrorKind::Wrong(_) => false,
            },
            Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_) => true,
            Error::QuotaReserved { .. }
            | Error::Busy { .. }
            | Error::Crowded { .. }
            | Error::Store(_)
            | Error::Stopping => false,
        }
    }

    /// Whether what came was wrong, so that it is asked for elsewhere the next time.
    pub(super) fn is_about_the_content(&self) -> bool {
        self.of_upstream().is_some_and(|error| match &error.kind {
            upstream::ErrorKind::Wrong(_) => true,
            upstream::ErrorKind::NotFound
            | upstream::ErrorKind::Refused { .. }
            | upstream::ErrorKind::RateLimited { .. }
            | upstream::ErrorKind::Away(_) => false,
        })
    }

    /// Whether the bytes that came before it are good for a later transfer.
    pub(super) fn is_worth_resuming(&self) -> bool {
        match self {
            Error::Stopping | Error::Busy { .. } | Error::Crowded { .. } => true,
            Error::Upstream(error) => match &error.kind {
                upstream::ErrorKind::Away(_) | upstream::ErrorKind::RateLimited { .. } => true,
                upstream::ErrorKind::NotFound
                | upstream::ErrorKind::Refused { .. }
                | upstream::ErrorKind::Wrong(_) => false,
            },
            Error::Store(_)
            | Error::QuotaReserved { .. }
            | Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_) => false,
        }
    }
}
