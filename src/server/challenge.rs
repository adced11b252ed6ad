//! The `WWW-Authenticate` header: where a client says who it is.
//!
//! It sends clients to weir's own token endpoint, at the very host they asked; no other address is
//! ever named. Source: RFC 6750, section 3; the distribution project's token specification.

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Authority;

use super::corridor::host;
use super::query::{encode, parameter};
use crate::oci::Request;

/// Where tokens are given.
pub(super) const TOKEN_PATH: &str = "/token";
pub(super) const SERVICE: &str = "weir";

/// `secure`: whether the client speaks TLS to weir, or to the proxy in front of it.
pub(super) fn challenge(parts: &Parts, secure: bool) -> HeaderValue {
    let host = host(parts).and_then(|host| host.parse::<Authority>().ok());
    let basic = HeaderValue::from_static("Basic realm=\"weir\"");
    let Some(host) = host.filter(|host| !host.as_str().contains('@')) else {
        return basic;
    };
    if parts.uri.path() == TOKEN_PATH {
        return basic;
    }
    let scheme = if secure { "https" } else { "http" };
    let mut value = format!("Bearer realm=\"{scheme}://{host}{TOKEN_PATH}");
    if let Some(ns) = parameter(parts.uri.query(), "ns") {
        value.push_str("?ns=");
        encode(&mut value, &ns);
    }
    value.push_str(&format!("\",service=\"{SERVICE}\""));
    if let Some(scope) = scope(parts.uri.path()) {
        value.push_str(&format!(",scope=\"{scope}\""));
    }
    HeaderValue::from_str(&value).unwrap_or(basic)
}

fn scope(path: &str) -> Option<String> {
    match Request::parse(path).ok()? {
        Request::Ping => None,
        Request::Catalog => Some("registry:catalog:*".to_owned()),
        Request::Manifest { name, .. }
        | Request::Blob { name, .. }
        | Request::Tags { name }
        | Request::Referrers { name, .. } => Some(format!("repository:{name}:pull")),
    }
}

/// The name of the repository that a scope is about.
pub(super) fn repository_of(scope: &str) -> Option<&str> {
    let rest = scope
        .split(' ')
        .find_map(|one| one.strip_prefix("repository:"))?;
    Some(rest.rsplit_once(':')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenged(uri: &str, host: &str, secure: bool) -> String {
        let request = http::Request::get(uri)
            .header("host", host)
            .body(())
            .unwrap();
        let value = challenge(&request.into_parts().0, secure);
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn clients_are_sent_to_the_host_they_asked() {
        for (uri, host, secure, expected) in [
            (
                "/v2/",
                "weir:5000",
                false,
                "Bearer realm=\"http://weir:5000/token\",service=\"weir\"",
            ),
            (
                "/v2/ghcr.io/a/b/manifests/x",
                "[::1]:5000",
                true,
                "Bearer realm=\"https://[::1]:5000/token\",service=\"weir\",\
                 scope=\"repository:ghcr.io/a/b:pull\"",
            ),
            (
                "/v2/a/tags/list?ns=localhost%3A5000",
                "weir",
                false,
                "Bearer realm=\"http://weir/token?ns=localhost%3A5000\",service=\"weir\",\
                 scope=\"repository:a:pull\"",
            ),
            ("/v2/", "a\"b", false, "Basic realm=\"weir\""),
            ("/v2/", "user@weir", false, "Basic realm=\"weir\""),
            ("/token", "weir", false, "Basic realm=\"weir\""),
        ] {
            assert_eq!(challenged(uri, host, secure), expected);
        }
    }

    #[test]
    fn a_scope_names_a_repository() {
        for (scope, name) in [
            ("repository:a/b:pull", Some("a/b")),
            (
                "repository:localhost:5000/a:pull,push",
                Some("localhost:5000/a"),
            ),
            ("registry:catalog:* repository:a:pull", Some("a")),
            ("registry:catalog:*", None),
            ("repository:a", None),
            ("", None),
        ] {
            assert_eq!(repository_of(scope), name, "{scope}");
        }
    }
}
