//! A failure on the way, before it is known whether it is the last word.

use std::sync::Arc;

use super::address;
use super::error::{Away, Error, ErrorKind};
use crate::oci::RegistryName;

/// What went wrong at one host.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// Scheme, host and port of the host that failed; `None`: none was asked.
    pub(super) at: Option<Arc<str>>,
    pub(super) kind: ErrorKind,
}

impl Fault {
    pub(super) fn at(uri: &http::Uri, kind: ErrorKind) -> Self {
        Fault {
            at: Some(address::origin(uri).into()),
            kind,
        }
    }

    pub(super) fn away(uri: &http::Uri, away: Away) -> Self {
        Fault::at(uri, ErrorKind::Away(away))
    }

    pub(super) fn into_error(self, registry: &RegistryName) -> Error {
        Error {
            registry: registry.clone(),
            endpoint: self.at,
            kind: self.kind,
        }
    }
}
