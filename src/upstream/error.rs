//! What can go wrong at an upstream, and what follows from it.
//!
//! No error holds a secret: what an upstream said has been through [`super::said`]. How errors are
//! put into words stands in [`super::wording`].

use std::sync::Arc;
use std::time::Duration;

use super::ANONYMOUS;
use crate::oci::{Digest, RegistryName};

/// Why an upstream gave no answer that can be used.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    pub registry: RegistryName,
    /// Scheme, host and port of what failed: an endpoint, its token service, or the host that a
    /// redirect named.
    pub endpoint: Option<Arc<str>>,
    pub kind: ErrorKind,
}

#[derive(Debug, Clone)]
pub enum ErrorKind {
    /// The registry says that there is no such thing.
    NotFound,
    /// The credential, or going without one, did not suffice at the registry or its token service.
    Refused {
        credential: Arc<str>,
        status: u16,
        said: String,
    },
    RateLimited {
        limit: Limit,
        retry_after: Option<Duration>,
        said: String,
    },
    /// No answer to be had.
    Away(Away),
    /// An answer that must not be used.
    Wrong(Wrong),
}

/// What a 429 was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The pulls of this account, or address, are used up.
    Quota,
    /// Too many requests in too short a time.
    Abuse,
}

#[derive(Debug, Clone)]
pub enum Away {
    Dns {
        host: String,
        why: String,
    },
    /// Nobody listens there.
    Refused,
    Unreachable {
        why: String,
    },
    /// The connection broke while something was under way.
    Reset {
        during: Phase,
    },
    Timeout {
        during: Phase,
        after: Duration,
    },
    Tls(Tls),
    Proxy {
        why: String,
    },
    /// What came was no HTTP, or no redirect that may be followed.
    Protocol {
        why: String,
    },
    /// A status that stands for trouble at the other side.
    Status {
        status: u16,
        said: String,
    },
    /// Too many failures lately; nobody was asked.
    BreakerOpen {
        retry_in: Duration,
        because: Arc<str>,
    },
    /// A credential is configured and could not be had.
    Credential {
        credential: Arc<str>,
        why: String,
    },
    /// The registry names a token service that must not see the credential.
    TokenService {
        realm: String,
        why: &'static str,
    },
}

/// Why no TLS connection came about.
#[derive(Debug, Clone)]
pub enum Tls {
    Expired,
    NotYetValid,
    WrongName { why: String },
    UnknownCa,
    Other { why: String },
}

/// What was going on when time ran out or the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    TlsHandshake,
    /// Until the answer's headers are there.
    Headers,
    Body,
}

#[derive(Debug, Clone)]
pub enum Wrong {
    /// Boxed, as digests would make every error large.
    Digest {
        expected: Box<Digest>,
        found: Box<Digest>,
    },
    TooLong {
        max: u64,
    },
    TooShort {
        expected: u64,
        found: u64,
    },
    /// Two answers about the same content state different lengths.
    Length {
        expected: u64,
        found: u64,
    },
    NotManifest {
        why: String,
    },
    /// A content coding that nobody asked for.
    Encoded {
        coding: String,
    },
    /// Another part than the one asked for.
    Range {
        asked: u64,
        found: u64,
    },
    /// No media type that could be passed on.
    MediaType,
}

impl Wrong {
    /// Content that is something else than what it was asked for as.
    pub fn digest(expected: Digest, found: Digest) -> Self {
        Wrong::Digest {
            expected: Box::new(expected),
            found: Box::new(found),
        }
    }
}

impl ErrorKind {
    /// Whether another endpoint may answer better. A mirror that has not got an image, or gives it
    /// to nobody without a login, says nothing about the next; a credential that was refused is not
    /// carried around.
    pub(super) fn moves_on(&self) -> bool {
        match self {
            ErrorKind::Refused { credential, .. } => &**credential == ANONYMOUS,
            ErrorKind::NotFound
            | ErrorKind::RateLimited { .. }
            | ErrorKind::Away(_)
            | ErrorKind::Wrong(_) => true,
        }
    }

    /// Whether it is an honest answer of an endpoint that is well.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            ErrorKind::NotFound | ErrorKind::Refused { .. } => true,
            ErrorKind::Away(Away::Status { status, .. }) => *status < 500,
            ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_) => false,
        }
    }

    /// Whether this speaks against the endpoint's health.
    pub(super) fn is_illness(&self) -> bool {
        match self {
            ErrorKind::NotFound | ErrorKind::Refused { .. } | ErrorKind::RateLimited { .. } => {
                false
            }
            ErrorKind::Wrong(_) => true,
            ErrorKind::Away(away) => match away {
                Away::Status { status, .. } => *status >= 500,
                Away::BreakerOpen { .. } | Away::Credential { .. } | Away::TokenService { .. } => {
                    false
                }
                Away::Dns { .. }
                | Away::Refused
                | Away::Unreachable { .. }
                | Away::Reset { .. }
                | Away::Timeout { .. }
                | Away::Tls(_)
                | Away::Proxy { .. }
                | Away::Protocol { .. } => true,
            },
        }
    }

    /// Whether the same request may do better a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            ErrorKind::NotFound | ErrorKind::Refused { .. } | ErrorKind::Wrong(_) => false,
            ErrorKind::RateLimited { limit, .. } => *limit == Limit::Abuse,
            ErrorKind::Away(away) => match away {
                // 401 and 403 come from behind a redirect, whose signed URL another try renews.
                Away::Status { status, .. } => *status >= 500 || matches!(status, 401 | 403 | 408),
                Away::Dns { .. }
                | Away::Refused
                | Away::Unreachable { .. }
                | Away::Reset { .. }
                | Away::Timeout { .. }
                | Away::Proxy { .. } => true,
                Away::Tls(_)
                | Away::Protocol { .. }
                | Away::BreakerOpen { .. }
                | Away::Credential { .. }
                | Away::TokenService { .. } => false,
            },
        }
    }

    /// Of several failures the one with the highest number is told. A denial comes last: as long as
    /// somebody could not be asked, nobody knows that there is no such thing.
    pub(super) fn telling(&self) -> u8 {
        match self {
            ErrorKind::NotFound => 0,
            ErrorKind::Refused { credential, .. } if &**credential == ANONYMOUS => 0,
            ErrorKind::Away(Away::BreakerOpen { .. }) => 1,
            ErrorKind::Away(_) => 2,
            ErrorKind::Wrong(_) => 3,
            ErrorKind::RateLimited { .. } => 4,
            ErrorKind::Refused { .. } => 5,
        }
    }
}
