//! From the errors of sockets, TLS and HTTP to what an operator can do something about.
//!
//! The libraries wrap their errors in each other; what counts is found by walking down the sources.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{CertificateError, Error as TlsError};

use crate::upstream::error::{Away, Phase, Tls};

/// Why no connection came about, as hyper's client carries it.
#[derive(Debug, Clone)]
pub(super) struct ConnectFault(pub(super) Away);

impl ConnectFault {
    pub(super) fn protocol(why: String) -> Self {
        ConnectFault(Away::Protocol { why })
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for ConnectFault {}

/// What went wrong between sending a request and the head of its answer.
pub(super) fn request_fault(error: &(dyn StdError + 'static)) -> Away {
    during(error, Phase::Headers)
}

/// What went wrong in the middle of a body.
pub(in crate::upstream) fn body_fault(error: &(dyn StdError + 'static)) -> Away {
    during(error, Phase::Body)
}

fn during(error: &(dyn StdError + 'static), phase: Phase) -> Away {
    if let Some(ConnectFault(away)) = find(error) {
        return away;
    }
    if let Some(tls) = find_ref::<TlsError>(error) {
        return Away::Tls(from_rustls(tls));
    }
    if let Some(io) = find_ref::<io::Error>(error)
        && let Some(away) = from_io(io, phase)
    {
        return away;
    }
    match find_ref::<hyper::Error>(error) {
        Some(error) if error.is_parse() => Away::Protocol {
            why: error.to_string(),
        },
        Some(_) => Away::Reset { during: phase },
        None => Away::Protocol {
            why: deepest(error).to_string(),
        },
    }
}

/// What went wrong between a name and an open socket.
pub(super) fn tcp_fault(error: &(dyn StdError + 'static), within: Duration) -> ConnectFault {
    if let Some(fault) = find(error) {
        return fault;
    }
    let away = match find_ref::<io::Error>(error) {
        Some(io) if io.kind() == io::ErrorKind::TimedOut => Some(Away::Timeout {
            during: Phase::Connect,
            after: within,
        }),
        Some(io) => from_io(io, Phase::Connect),
        None => None,
    };
    ConnectFault(away.unwrap_or_else(|| Away::Unreachable {
        why: deepest(error).to_string(),
    }))
}

/// What went wrong between us and a host behind a proxy.
pub(super) fn proxy_fault(error: &(dyn StdError + 'static)) -> ConnectFault {
    find(error).unwrap_or_else(|| {
        ConnectFault(Away::Proxy {
            why: error.to_string(),
        })
    })
}

/// What went wrong in a TLS handshake.
pub(super) fn tls_fault(error: &io::Error) -> ConnectFault {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
    let away = match inner {
        Some(tls) => Away::Tls(from_rustls(tls)),
        None => from_io(error, Phase::TlsHandshake).unwrap_or_else(|| {
            Away::Tls(Tls::Other {
                why: error.to_string(),
            })
        }),
    };
    ConnectFault(away)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors in minor versions, and what is not told apart is told in full"
)]
fn from_rustls(error: &TlsError) -> Tls {
    let other = |why: String| Tls::Other { why };
    match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Tls::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Tls::NotYetValid
            }
            CertificateError::NotValidForName => Tls::WrongName {
                why: "it does not say for which".to_owned(),
            },
            CertificateError::NotValidForNameContext { .. } => Tls::WrongName {
                why: certificate.to_string(),
            },
            CertificateError::UnknownIssuer => Tls::UnknownCa,
            CertificateError::Other(inner) if inner.to_string().contains("CaUsedAsEndEntity") => {
                other("the server's certificate is a CA's own; list it in ca_file".to_owned())
            }
            _ => other(error.to_string()),
        },
        TlsError::InvalidMessage(_) => {
            other("what answers there does not speak TLS; perhaps the endpoint is http://".into())
        }
        _ => other(error.to_string()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the standard library's list is open; what is not named is told by its text"
)]
fn from_io(error: &io::Error, during: Phase) -> Option<Away> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Away::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Away::Reset { during }),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Some(Away::Unreachable {
            why: error.to_string(),
        }),
        io::ErrorKind::TimedOut => Some(Away::Reset { during }),
        _ => None,
    }
}

fn find(error: &(dyn StdError + 'static)) -> Option<ConnectFault> {
    find_ref::<ConnectFault>(error).cloned()
}

fn find_ref<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source`.
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            && let Some(found) = inner.downcast_ref::<E>()
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn deepest<'e>(error: &'e (dyn StdError + 'static)) -> &'e (dyn StdError + 'static) {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_beneath_wrappers() {
        let tls = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::other(tls));
        assert!(matches!(
            request_fault(&wrapped),
            Away::Tls(Tls::UnknownCa) | Away::Protocol { .. }
        ));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(request_fault(&refused), Away::Refused));
        let fault = ConnectFault(Away::Refused);
        assert!(matches!(
            request_fault(&io::Error::other(fault)),
            Away::Refused
        ));
    }

    #[test]
    fn certificate_troubles_are_told_apart() {
        let away = |error| tls_fault(&io::Error::other(TlsError::InvalidCertificate(error))).0;
        assert!(matches!(
            away(CertificateError::Expired),
            Away::Tls(Tls::Expired)
        ));
        assert!(matches!(
            away(CertificateError::NotValidForName),
            Away::Tls(Tls::WrongName { .. })
        ));
        assert!(matches!(
            away(CertificateError::UnknownIssuer),
            Away::Tls(Tls::UnknownCa)
        ));
        assert!(matches!(
            away(CertificateError::Revoked),
            Away::Tls(Tls::Other { .. })
        ));
    }
}
