//! What can go wrong at an upstream, in the words of the person who has to mend it.
//!
//! Every error says what happened, where, and what to do about it. No error holds a secret: what an
//! upstream said has been through [`super::said`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    Dns,
    Connect,
    TlsHandshake,
    /// Until the answer's headers are there.
    Headers,
    Body,
}

#[derive(Debug, Clone)]
pub enum Wrong {
    Digest {
        expected: Digest,
        found: Digest,
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

impl ErrorKind {
    /// Whether another endpoint may answer better.
    pub(super) fn moves_on(&self) -> bool {
        match self {
            ErrorKind::NotFound | ErrorKind::Refused { .. } => false,
            ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_) => true,
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

    /// Of several failures the one with the highest number tells most about what to do.
    pub(super) fn telling(&self) -> u8 {
        match self {
            ErrorKind::Away(Away::BreakerOpen { .. }) => 0,
            ErrorKind::Away(_) => 1,
            ErrorKind::Wrong(_) => 2,
            ErrorKind::RateLimited { .. } => 3,
            ErrorKind::NotFound => 4,
            ErrorKind::Refused { .. } => 5,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.registry)?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, " at {endpoint}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::NotFound => f.write_str(
                "there is no such repository, tag or digest; check the spelling, and that a digest \
                 is a manifest's and not an image id",
            ),
            ErrorKind::Refused {
                credential,
                status,
                said,
            } => write_refused(f, credential, *status, said),
            ErrorKind::RateLimited {
                limit,
                retry_after,
                said,
            } => write_limited(f, *limit, *retry_after, said),
            ErrorKind::Away(away) => away.fmt(f),
            ErrorKind::Wrong(wrong) => write!(
                f,
                "{wrong}; nothing of it is kept. Something between weir and the registry changes \
                 the content, or the registry is damaged"
            ),
        }
    }
}

fn write_refused(
    f: &mut fmt::Formatter<'_>,
    credential: &str,
    status: u16,
    said: &str,
) -> fmt::Result {
    if credential == super::ANONYMOUS {
        write!(
            f,
            "refused without a credential (status {status}{}); the repository does not exist or is \
             private: configure a credential for it",
            Said(said)
        )
    } else {
        write!(
            f,
            "refused the credential {credential} (status {status}{}); renew it, or give it the \
             right to pull this repository",
            Said(said)
        )
    }
}

fn write_limited(
    f: &mut fmt::Formatter<'_>,
    limit: Limit,
    retry_after: Option<Duration>,
    said: &str,
) -> fmt::Result {
    match limit {
        Limit::Quota => write!(
            f,
            "the pull quota is used up{}; wait, or configure an account with a higher one",
            Said(said)
        )?,
        Limit::Abuse => write!(f, "too many requests in a short time{}; wait", Said(said))?,
    }
    match retry_after {
        Some(after) => write!(f, " (try again in {} s)", after.as_secs().max(1)),
        None => Ok(()),
    }
}

/// What an upstream said, where it said something.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ", it said {:?}", self.0)
        }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Away::Dns { host, why } => write!(
                f,
                "the name {host} does not resolve ({why}); check the spelling, and the DNS server \
                 of the machine weir runs on"
            ),
            Away::Refused => f.write_str(
                "the connection was refused: nobody listens there; check address and port, and \
                 that the registry runs",
            ),
            Away::Unreachable { why } => write!(
                f,
                "the host cannot be reached ({why}); check routes, firewall and proxy settings"
            ),
            Away::Reset { during } => write!(
                f,
                "the connection broke {during}; if that repeats, look for a firewall or proxy in \
                 between"
            ),
            Away::Timeout { during, after } => write!(
                f,
                "no answer {during} within {:.1} s; the registry is overloaded, or a firewall drops \
                 packets",
                after.as_secs_f64()
            ),
            Away::Tls(tls) => tls.fmt(f),
            Away::Proxy { why } => write!(
                f,
                "the proxy does not let the connection through ({why}); check upstream.proxy, \
                 HTTPS_PROXY and NO_PROXY"
            ),
            Away::Protocol { why } => write!(
                f,
                "the answer could not be understood ({why}); check that a registry listens there, \
                 and the scheme of the endpoint"
            ),
            Away::Status { status, said } => write!(
                f,
                "it answers {status}{}; the trouble is at the registry",
                Said(said)
            ),
            Away::BreakerOpen { retry_in, because } => write!(
                f,
                "not asked after repeated failures, the last: {because}; tried again in {} s",
                retry_in.as_secs().max(1)
            ),
            Away::Credential { credential, why } => write!(
                f,
                "the configured credential {credential} cannot be had: {why}; the pull does not go \
                 out without it"
            ),
            Away::TokenService { realm, why } => write!(
                f,
                "the registry names the token service {realm:?}, which must not get the credential: \
                 {why}; if it is right, list it in token_services of this registry"
            ),
        }
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tls::Expired => f.write_str(
                "its TLS certificate has expired; it must be renewed (or this machine's clock is \
                 wrong)",
            ),
            Tls::NotYetValid => {
                f.write_str("its TLS certificate is not valid yet; check this machine's clock")
            }
            Tls::WrongName { why } => write!(
                f,
                "its TLS certificate is for another name ({why}); check the endpoint's host"
            ),
            Tls::UnknownCa => f.write_str(
                "its TLS certificate comes from an authority that is not known here; set ca_file \
                 of this registry to that authority's certificate",
            ),
            Tls::Other { why } => write!(f, "no TLS connection came about ({why})"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Dns => "to the DNS query",
            Phase::Connect => "while connecting",
            Phase::TlsHandshake => "in the TLS handshake",
            Phase::Headers => "while waiting for the answer",
            Phase::Body => "in the middle of the content",
        })
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Digest { expected, found } => {
                write!(
                    f,
                    "it sent content with the digest {found} instead of {expected}"
                )
            }
            Wrong::TooLong { max } => write!(f, "it sent more than {max} bytes"),
            Wrong::TooShort { expected, found } => {
                write!(
                    f,
                    "it sent {found} of {expected} bytes, and no more after several tries"
                )
            }
            Wrong::Length { expected, found } => write!(
                f,
                "it first said that the content has {expected} bytes, then {found}"
            ),
            Wrong::NotManifest { why } => write!(f, "what it sent is no manifest: {why}"),
            Wrong::Encoded { coding } => {
                write!(
                    f,
                    "it sent the content encoded as {coding:?}, which nobody asked for"
                )
            }
            Wrong::Range { asked, found } => {
                write!(
                    f,
                    "asked to go on at byte {asked}, it sent from byte {found} on"
                )
            }
            Wrong::MediaType => f.write_str("it sent a manifest without a usable Content-Type"),
        }
    }
}
