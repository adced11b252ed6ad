//! Errors in words, for the person who has to mend what is wrong.
//!
//! Each says what happened, where, and what to do about it.

use std::fmt;
use std::time::Duration;

use super::error::{Away, Error, ErrorKind, Limit, Phase, Tls, Wrong};

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
            "anonymous pulls are refused (status {status}{}); the repository does not exist or is \
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
            "the pull quota is used up (status 429{}); wait, or configure an account with a higher one",
            Said(said)
        )?,
        Limit::Abuse => write!(
            f,
            "too many requests in a short time (status 429{}); wait",
            Said(said)
        )?,
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
                "timed out {during}, after {:.1} s; the registry is overloaded, or a firewall drops \
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
