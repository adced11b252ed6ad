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
use crate::oci::{ErrorCode, InvalidRequest, Reference, RegistryName, Target};
use crate::pull;
use crate::route::Unrouted;
use crate::upstream::{self, Away, ErrorKind, Tls, Wrong};

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

/// What happened at which upstream. The log has the rest.
fn story(error: &upstream::Error, asked: &Asked<'_>) -> String {
    match &error.kind {
        ErrorKind::NotFound => missing(asked),
        ErrorKind::Refused {
            credential, status, ..
        } => refused(&error.registry, credential, *status, asked.target),
        // What a registry says about its quota is meant for whoever pulls.
        ErrorKind::RateLimited { .. } => error.to_string(),
        ErrorKind::Away(away) => format!("{} gives no answer: {}", place(error), trouble(away)),
        ErrorKind::Wrong(wrong) => format!(
            "{} sent what weir must not pass on: {}",
            place(error),
            fault(wrong)
        ),
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

/// `docker.io has no library/alpine:3.99`
fn missing(asked: &Asked<'_>) -> String {
    let Target {
        registry,
        repository,
    } = asked.target;
    match asked.reference {
        Some(Reference::Tag(tag)) => format!("{registry} has no {repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{registry} has no {repository}@{digest}"),
        None => format!("{registry} has no {repository}"),
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

fn refused(registry: &RegistryName, credential: &str, status: u16, target: &Target) -> String {
    let repository = &target.repository;
    if credential == upstream::ANONYMOUS {
        format!(
            "{registry} refuses {repository} to anonymous clients (status {status}): it does not exist \
             or is private; configure a credential for it in weir"
        )
    } else {
        format!(
            "{registry} refuses {repository} to weir's credential {credential} (status {status}): \
             renew it, or give it the right to pull this repository"
        )
    }
}

/// `docker.io at https://registry-1.docker.io`
fn place(error: &upstream::Error) -> String {
    match &error.endpoint {
        Some(endpoint) => format!("{} at {endpoint}", error.registry),
        None => error.registry.to_string(),
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

/// The kind of trouble, without addresses or other people's words.
fn trouble(away: &Away) -> &'static str {
    match away {
        Away::Dns { .. } => "its name does not resolve",
        Away::Refused => "the connection is refused",
        Away::Unreachable { .. } => "it cannot be reached",
        Away::Reset { .. } => "the connection breaks",
        Away::Timeout { .. } => "it takes too long",
        Away::Tls(Tls::Expired) => "its TLS certificate has expired",
        Away::Tls(Tls::NotYetValid) => "its TLS certificate is not valid yet",
        Away::Tls(Tls::WrongName { .. }) => "its TLS certificate is for another name",
        Away::Tls(Tls::UnknownCa) => "its TLS certificate is from an unknown authority",
        Away::Tls(Tls::Other { .. }) => "no TLS connection comes about",
        Away::Proxy { .. } => "the proxy in between does not let weir through",
        Away::Protocol { .. } => "what it says is no HTTP of a registry",
        Away::Status { .. } => "it reports an error of its own",
        Away::BreakerOpen { .. } => "it failed repeatedly, and its breaker is open for a moment",
        Away::Credential { .. } => "weir's credential for it cannot be had",
        Away::TokenService { .. } => "it names a token service that weir must not trust",
    }
}

fn fault(wrong: &Wrong) -> &'static str {
    match wrong {
        Wrong::Digest { .. } => "content that does not match its digest",
        Wrong::TooLong { .. } => "more bytes than there may be",
        Wrong::TooShort { .. } => "fewer bytes than it said",
        Wrong::Length { .. } => "two different lengths of one content",
        Wrong::NotManifest { .. } => "something that is no manifest",
        Wrong::Encoded { .. } => "content in a coding that nobody asked for",
        Wrong::Range { .. } => "another part than the one asked for",
        Wrong::MediaType => "a manifest without a media type",
    }
}

#[cfg(test)]
mod tests;
