//! Every way of getting nothing, and the status, code and message that say so.
//!
//! The one place that knows which error is which answer; each match names every case. A message
//! says what happened, where, and what to do; from 500 on it keeps to itself what only the operator
//! should see. Source: SPEC 4.3; OCI Distribution Specification 1.1, "Error codes".

use std::time::Duration;

use http::StatusCode;

use super::family::Family;
use super::refusal::Refusal;
use crate::access::{Denied, Unidentified};
use crate::metrics::Kind;
use crate::oci::{ErrorCode, InvalidRequest, Reference, Target};
use crate::pull;
use crate::route::Unrouted;
use crate::upstream::{self, Away, ErrorKind};

/// What an upstream's 429 without `Retry-After` is taken for.
const RATE_LIMIT_RETRY: Duration = Duration::from_secs(60);
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What was asked of a repository, for the message when it is not to be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) kind: Kind,
    pub(super) target: &'a Target,
    pub(super) reference: Option<&'a Reference>,
    pub(super) family: Family,
    pub(super) shown: Shown<'a>,
}

/// Whose credentials the upstream saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// weir's.
    Stored,
    /// The login of the client, by its user name.
    Login(&'a str),
    /// None, since the client has none.
    Nothing,
}

pub(super) fn invalid_request(error: &InvalidRequest) -> Refusal {
    let (status, code) = match error {
        InvalidRequest::NotFound => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
        InvalidRequest::TooLong => (StatusCode::URI_TOO_LONG, ErrorCode::NameInvalid),
        InvalidRequest::Encoding | InvalidRequest::Name(_) => {
            (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid)
        }
        // No registry has such a tag: the specification's tests ask for one and expect a 404.
        InvalidRequest::Tag(_) => (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
        InvalidRequest::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
    };
    Refusal::new(status, code, error.to_string())
}

pub(super) fn unrouted(error: &Unrouted) -> Refusal {
    let (status, code) = match error {
        Unrouted::UnknownRegistry { .. } | Unrouted::NoDefault { .. } => {
            (StatusCode::NOT_FOUND, ErrorCode::NameUnknown)
        }
        Unrouted::Name(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
    };
    Refusal::new(status, code, error.to_string())
}

pub(super) fn unidentified(error: Unidentified) -> Refusal {
    let (status, code) = match error {
        Unidentified::WrongLogin | Unidentified::WrongToken | Unidentified::NoLogin => {
            (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized)
        }
        Unidentified::Crowded => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable),
    };
    let refusal = Refusal::new(status, code, error.to_string());
    match error {
        Unidentified::Crowded => refusal.retry_after(BUSY_RETRY),
        Unidentified::WrongLogin | Unidentified::WrongToken | Unidentified::NoLogin => refusal,
    }
}

pub(super) fn denied(error: Denied, target: &Target) -> Refusal {
    let (status, code) = match error {
        Denied::NotServed | Denied::NoRule => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        Denied::NeedsUser | Denied::NeedsLogin => {
            (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized)
        }
    };
    Refusal::new(status, code, format!("{target}: {error}"))
}

pub(super) fn pull_failed(error: &pull::Error, asked: &Asked<'_>) -> Refusal {
    match error {
        pull::Error::Upstream(error) => upstream_failed(error, asked),
        pull::Error::RememberedMissing { .. } => {
            let message = format!("{error}; it is asked again soon");
            Refusal::new(StatusCode::NOT_FOUND, unknown(asked.kind), message)
        }
        pull::Error::NotNamed { .. } => Refusal::new(
            StatusCode::NOT_FOUND,
            unknown(asked.kind),
            error.to_string(),
        ),
        pull::Error::UnknownRegistry(_) => Refusal::new(
            StatusCode::NOT_FOUND,
            ErrorCode::NameUnknown,
            error.to_string(),
        ),
        pull::Error::QuotaReserved { .. } => {
            rate_limited(error.to_string(), RATE_LIMIT_RETRY, asked)
        }
        pull::Error::Busy { .. } | pull::Error::Crowded { .. } => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            error.to_string(),
        )
        .retry_after(BUSY_RETRY),
        pull::Error::Store(_) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            "weir's cache could not be used; its log says why",
        ),
        pull::Error::Stopping => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            "weir is stopping",
        )
        .retry_after(BUSY_RETRY),
    }
}

pub(super) fn panicked() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unknown,
        "this request met a bug in weir; its log says where",
    )
}

fn upstream_failed(error: &upstream::Error, asked: &Asked<'_>) -> Refusal {
    if let ErrorKind::Refused { status, .. } = &error.kind
        && let Some(refusal) = refused_to_client(asked, *status)
    {
        return refusal;
    }
    let message = story(error, asked);
    if asked.kind == Kind::Blob {
        return blob_failed(error, asked, message);
    }
    match &error.kind {
        ErrorKind::NotFound => {
            let message = format!("{message}{}", hint(asked));
            Refusal::new(StatusCode::NOT_FOUND, unknown(asked.kind), message)
        }
        ErrorKind::Refused { .. } => {
            Refusal::new(StatusCode::BAD_GATEWAY, ErrorCode::Unauthorized, message)
        }
        ErrorKind::RateLimited { retry_after, .. } => {
            let after = retry_after.unwrap_or(RATE_LIMIT_RETRY);
            rate_limited(message, after, asked)
        }
        ErrorKind::Away(away) => Refusal::new(away_status(away), ErrorCode::Unavailable, message),
        ErrorKind::Wrong(_) => {
            Refusal::new(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable, message)
        }
    }
}

/// The upstream decides itself, and has decided; `None`: it was weir that it refused. Who has shown no
/// login is asked for one, as the registry itself would do.
fn refused_to_client(asked: &Asked<'_>, status: u16) -> Option<Refusal> {
    let Target {
        registry,
        repository,
    } = asked.target;
    match asked.shown {
        Shown::Stored => None,
        Shown::Login(user) => {
            let message = format!(
                "{registry} refuses {repository} to your login {user:?} (status {status}): check \
                 the password, and whether this account may pull it"
            );
            let denied = Refusal::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message);
            Some(denied)
        }
        Shown::Nothing => {
            let message = format!(
                "{registry} refuses {repository} to whoever is not logged in (status {status}): log \
                 in to this weir with your account at {registry}"
            );
            let unknown = Refusal::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
            Some(unknown)
        }
    }
}

/// Whatever the reason, a blob that can't be had is a 404. The retries were made inside; docker
/// would repeat a 5xx for a minute, and goes elsewhere at once on a 404.
fn blob_failed(error: &upstream::Error, asked: &Asked<'_>, message: String) -> Refusal {
    if asked.shown != Shown::Stored {
        // It may be there; whether this client may have it could not be asked.
        return Refusal::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message);
    }
    let message = match &error.kind {
        ErrorKind::NotFound => message,
        ErrorKind::Refused { .. }
        | ErrorKind::RateLimited { .. }
        | ErrorKind::Away(_)
        | ErrorKind::Wrong(_) => format!("the blob is not in the cache, and {message}"),
    };
    Refusal::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message)
}

/// What happened at which upstream, and what to do. The log has the rest.
fn story(error: &upstream::Error, asked: &Asked<'_>) -> String {
    match &error.kind {
        ErrorKind::NotFound => missing(error, asked),
        ErrorKind::Refused {
            credential, status, ..
        } => refused(error, credential, *status, asked.target),
        ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_) => {
            error.for_clients()
        }
    }
}

/// SPEC 4.3: some clients sit half a minute on a 429 and turn elsewhere at once on a 503.
fn rate_limited(message: String, retry_after: Duration, asked: &Asked<'_>) -> Refusal {
    let status = match asked.family {
        Family::ContainersImage => StatusCode::SERVICE_UNAVAILABLE,
        Family::Other => StatusCode::TOO_MANY_REQUESTS,
    };
    Refusal::new(status, ErrorCode::TooManyRequests, message).retry_after(retry_after)
}

fn unknown(kind: Kind) -> ErrorCode {
    match kind {
        Kind::Manifest | Kind::Referrers => ErrorCode::ManifestUnknown,
        Kind::Blob => ErrorCode::BlobUnknown,
        Kind::Tags | Kind::Ping => ErrorCode::NameUnknown,
    }
}

/// `docker.io at https://registry-1.docker.io has no library/alpine:3.99`. Where clients have rights of
/// their own, no endpoint is named: it would tell what was asked anew, and so what is cached.
fn missing(error: &upstream::Error, asked: &Asked<'_>) -> String {
    let place = match asked.shown {
        Shown::Stored => error.place(),
        Shown::Login(_) | Shown::Nothing => error.registry.to_string(),
    };
    let repository = &asked.target.repository;
    match asked.reference {
        Some(Reference::Tag(tag)) => format!("{place} has no {repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{place} has no {repository}@{digest}"),
        None => format!("{place} has no {repository}"),
    }
}

/// People take the digest of a config (what `docker images` shows) for that of a manifest.
fn hint(asked: &Asked<'_>) -> &'static str {
    match asked.reference {
        Some(Reference::Digest(_)) => {
            "; check that this is the digest of a manifest or index, not an image id or a layer's"
        }
        Some(Reference::Tag(_)) | None => "; check the spelling",
    }
}

fn refused(error: &upstream::Error, credential: &str, status: u16, target: &Target) -> String {
    let (place, repository) = (error.place(), &target.repository);
    if credential == upstream::ANONYMOUS {
        format!(
            "{place} refuses {repository} to anonymous clients (status {status}): it does not exist \
             or is private; configure a credential for it in weir"
        )
    } else {
        format!(
            "{place} refuses {repository} to weir's credential {credential} (status {status}); \
             renew it, or give it the right to pull this repository"
        )
    }
}

fn away_status(away: &Away) -> StatusCode {
    match away {
        Away::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        Away::Dns { .. }
        | Away::Refused
        | Away::Unreachable { .. }
        | Away::Reset { .. }
        | Away::Tls(_)
        | Away::Proxy { .. }
        | Away::Protocol { .. }
        | Away::Status { .. }
        | Away::BreakerOpen { .. }
        | Away::Credential { .. }
        | Away::TokenService { .. } => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
mod tests;
