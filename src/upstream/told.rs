//! Errors in the words that clients get: what happened, at which host, and what to do about it.
//!
//! The registry, the host of it that failed, and a status are told. What lies behind them, such as
//! addresses, the texts of other programs and the names of files, is for the log.

use super::ANONYMOUS;
use super::error::{Away, Error, ErrorKind, Tls, Wrong};

impl Error {
    /// `docker.io at https://registry-1.docker.io`: never more of a URL than scheme, host and port.
    pub fn place(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", self.registry),
            None => self.registry.to_string(),
        }
    }

    /// What a client may be told.
    pub fn for_clients(&self) -> String {
        let place = self.place();
        match &self.kind {
            ErrorKind::NotFound => {
                format!("{place} has no such repository, tag or digest; check the spelling")
            }
            ErrorKind::Refused {
                credential, status, ..
            } if &**credential == ANONYMOUS => {
                format!(
                    "{place} refuses anonymous clients (status {status}): the repository does not \
                     exist or is private; configure a credential for it in weir"
                )
            }
            ErrorKind::Refused {
                credential, status, ..
            } => format!(
                "{place} refuses weir's credential {credential} (status {status}); renew it, or \
                 give it the right to pull this repository"
            ),
            // What a registry says about its quota is meant for whoever pulls.
            ErrorKind::RateLimited { .. } => self.to_string(),
            ErrorKind::Away(away) => {
                let (what, cure) = trouble(away);
                format!("{place} gives no usable answer: {what}; {cure}")
            }
            ErrorKind::Wrong(wrong) => format!(
                "{place} sent what weir must not pass on: {}; try again, and if that repeats, look \
                 for what changes content between weir and the registry",
                fault(wrong)
            ),
        }
    }
}

const LATER: &str = "try again later, or look whether the registry is well";

/// What is wrong, and what to do.
fn trouble(away: &Away) -> (String, &'static str) {
    let (what, cure) = match away {
        Away::Status { status, .. } => return (format!("it reports status {status}"), LATER),
        Away::Timeout { during, .. } => return (format!("it takes too long {during}"), LATER),
        Away::BreakerOpen { retry_in, .. } => {
            let seconds = retry_in.as_secs().max(1);
            let what = format!("it failed repeatedly, and is not asked for another {seconds} s");
            return (what, "weir's log says how it failed");
        }
        Away::Credential { credential, .. } => {
            let what = format!("weir's credential {credential} for it cannot be had");
            return (what, "weir's log says why");
        }
        Away::Dns { .. } => (
            "its name does not resolve",
            "check the endpoint's spelling, and the DNS of weir's machine",
        ),
        Away::Refused => (
            "the connection is refused",
            "check that the registry runs, and the endpoint's port",
        ),
        Away::Unreachable { .. } => (
            "it cannot be reached",
            "check routes and firewalls between weir and the registry",
        ),
        Away::Reset { .. } => ("the connection breaks", LATER),
        Away::Tls(tls) => return (certificate(tls).to_owned(), "weir's log says more"),
        Away::Proxy { .. } => (
            "the proxy in between does not let weir through",
            "check upstream.proxy of weir and the proxy itself",
        ),
        Away::Protocol { .. } => (
            "what it says is no HTTP of a registry",
            "check the endpoint's scheme and port",
        ),
        Away::TokenService { .. } => (
            "it names a token service that weir must not trust",
            "if it is the right one, list it in token_services of this registry",
        ),
    };
    (what.to_owned(), cure)
}

fn certificate(tls: &Tls) -> &'static str {
    match tls {
        Tls::Expired => "its TLS certificate has expired",
        Tls::NotYetValid => "its TLS certificate is not valid yet",
        Tls::WrongName { .. } => "its TLS certificate is for another name",
        Tls::UnknownCa => "its TLS certificate is from an unknown authority",
        Tls::Other { .. } => "no TLS connection comes about",
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::{Limit, Phase};

    fn told(kind: ErrorKind) -> String {
        let error = Error {
            registry: "docker.io".parse().unwrap(),
            endpoint: Some("https://registry-1.docker.io".into()),
            kind,
        };
        error.for_clients()
    }

    /// Words of others, which only the log may repeat.
    const INNER: &str = "inner-10.1.2.3";

    fn every_kind() -> Vec<(ErrorKind, &'static str)> {
        let inner = || INNER.to_owned();
        let away = ErrorKind::Away;
        let wrong = |wrong, words| (ErrorKind::Wrong(wrong), words);
        vec![
            (ErrorKind::NotFound, "no such repository"),
            (
                ErrorKind::Refused {
                    credential: "config:bot".into(),
                    status: 401,
                    said: inner(),
                },
                "config:bot (status 401)",
            ),
            (
                ErrorKind::Refused {
                    credential: ANONYMOUS.into(),
                    status: 403,
                    said: inner(),
                },
                "anonymous clients (status 403)",
            ),
            (
                away(Away::Dns {
                    host: inner(),
                    why: inner(),
                }),
                "does not resolve",
            ),
            (away(Away::Refused), "refused"),
            (away(Away::Unreachable { why: inner() }), "firewalls"),
            (
                away(Away::Reset {
                    during: Phase::Body,
                }),
                "breaks",
            ),
            (
                away(Away::Timeout {
                    during: Phase::Headers,
                    after: Duration::from_secs(5),
                }),
                "takes too long while waiting for the answer",
            ),
            (away(Away::Tls(Tls::Expired)), "expired"),
            (
                away(Away::Tls(Tls::WrongName { why: inner() })),
                "another name",
            ),
            (away(Away::Tls(Tls::Other { why: inner() })), "TLS"),
            (away(Away::Proxy { why: inner() }), "upstream.proxy"),
            (away(Away::Protocol { why: inner() }), "no HTTP"),
            (
                away(Away::Status {
                    status: 503,
                    said: inner(),
                }),
                "status 503",
            ),
            (
                away(Away::BreakerOpen {
                    retry_in: Duration::from_secs(7),
                    because: INNER.into(),
                }),
                "another 7 s",
            ),
            (
                away(Away::Credential {
                    credential: "helper:ecr-login".into(),
                    why: inner(),
                }),
                "helper:ecr-login",
            ),
            (
                away(Away::TokenService {
                    realm: inner(),
                    why: "",
                }),
                "token_services",
            ),
            wrong(Wrong::TooLong { max: 4 }, "more bytes"),
            wrong(Wrong::NotManifest { why: inner() }, "no manifest"),
            wrong(Wrong::Encoded { coding: inner() }, "coding"),
        ]
    }

    #[test]
    fn every_failure_is_told_with_its_place_and_what_to_do_and_no_inner_detail() {
        for (kind, words) in every_kind() {
            let message = told(kind.clone());
            assert!(
                message.starts_with("docker.io at https://registry-1.docker.io "),
                "{message}"
            );
            assert!(message.contains(words), "{message}");
            assert!(message.contains("; "), "what to do: {message}");
            assert!(!message.contains(INNER), "{message}");
        }
    }

    #[test]
    fn a_used_up_quota_is_told_in_the_registrys_own_words() {
        let message = told(ErrorKind::RateLimited {
            limit: Limit::Quota,
            retry_after: Some(Duration::from_secs(60)),
            said: "You have reached your pull rate limit".to_owned(),
        });
        for words in [
            "docker.io at https://registry-1.docker.io",
            "status 429",
            "reached your pull rate limit",
            "60 s",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
}
