//! What stands in while an upstream cannot say: the cached answer, for those who may have it.
//!
//! An upstream that refuses, or says that there is no such thing, has said something.

use tokio::time::Instant;

use super::standing::Standing;
use super::{Error, Pull};
use crate::upstream::{Away, ErrorKind};

impl Pull {
    /// Whether what is cached may be served although asking failed: not when the upstream says that
    /// it is gone, and not to a client whose own right (`standing`) is not held.
    pub(super) fn may_stand_in(&self, standing: Option<&Standing>, error: &Error) -> bool {
        if let Some(standing) = standing {
            return is_silence(error) && self.rights.is_held(standing, Instant::now());
        }
        match error {
            Error::Upstream(error) => match &error.kind {
                ErrorKind::NotFound => false,
                ErrorKind::Refused { .. }
                | ErrorKind::RateLimited { .. }
                | ErrorKind::Away(_)
                | ErrorKind::Wrong(_) => true,
            },
            Error::QuotaReserved { .. }
            | Error::Stopping
            | Error::Busy { .. }
            | Error::Crowded { .. }
            | Error::Store(_) => true,
            Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_) => false,
        }
    }
}

/// Whether nobody could say, rather than that somebody said no.
pub(super) fn is_silence(error: &Error) -> bool {
    match error {
        Error::Upstream(error) => match &error.kind {
            ErrorKind::NotFound | ErrorKind::Refused { .. } => false,
            // Whatever it means, it was said by somebody who is there.
            ErrorKind::Away(Away::Status { status, .. }) => *status >= 500,
            ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_) => true,
        },
        Error::QuotaReserved { .. }
        | Error::Stopping
        | Error::Busy { .. }
        | Error::Crowded { .. }
        | Error::Store(_) => true,
        Error::RememberedMissing { .. } | Error::NotNamed { .. } | Error::UnknownRegistry(_) => {
            false
        }
    }
}
