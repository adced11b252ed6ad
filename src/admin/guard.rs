//! Who may change something: whoever is on this machine, and whoever shows the token. Never a page
//! of another site that a browser on this machine happens to show.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;
use tokio::task::spawn_blocking;

use super::Admin;
use super::answer::Trouble;

/// A token is a line that somebody made, not a file that somebody mixed up.
const TOKEN_BYTES_MAX: u64 = 4096;
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What proxies add: the caller is not who is connected.
const FORWARDED: [HeaderName; 2] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
];

/// Who is connected.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// `None`: through a unix socket, which only this machine has.
    address: Option<IpAddr>,
}

impl From<SocketAddr> for Caller {
    fn from(address: SocketAddr) -> Self {
        let address = Some(address.ip().to_canonical());
        Caller { address }
    }
}

impl From<tokio::net::unix::SocketAddr> for Caller {
    fn from(_: tokio::net::unix::SocketAddr) -> Self {
        Caller { address: None }
    }
}

impl Caller {
    fn is_here(self) -> bool {
        self.address.is_none_or(|address| address.is_loopback())
    }
}

/// In front of every call that changes something.
pub(super) async fn check(
    State(admin): State<Admin>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Trouble> {
    let headers = request.headers();
    refuse_other_sites(headers)?;
    if !is_json(headers) {
        return Err(Trouble::NotJson);
    }
    let shown = bearer(headers).map(str::to_owned);
    let token_file = admin.0.config.load().admin.token_file.clone();
    // A token that is shown has to be right, wherever it comes from.
    if shown.is_some() || !(caller.is_here() && is_direct(headers)) {
        let file = token_file.ok_or(Trouble::Forbidden(
            "it changes something, comes from another machine, and admin.token_file is not set",
        ))?;
        let shown = shown.ok_or(Trouble::NoToken)?;
        // Read each time, so that a changed token counts at once.
        let token = spawn_blocking(move || read_token(&file)).await?;
        let token = token.ok_or(Trouble::Forbidden("the token file cannot be used"))?;
        if !bool::from(token.as_bytes().ct_eq(shown.as_bytes())) {
            return Err(Trouble::NoToken);
        }
    }
    Ok(next.run(request).await)
}

/// Browsers say for whom they ask. A JSON body alone keeps other sites out, as nobody allows them
/// one here; this is the second bolt.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Trouble> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    let is_same = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority == Some(host)
    };
    if text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || text(header::ORIGIN).is_some_and(|origin| !is_same(origin))
    {
        return Err(Trouble::Forbidden("it comes from a page of another site"));
    }
    Ok(())
}

/// A name that was pointed at this machine to fool a browser is no address, and a proxy in front is
/// not the caller.
fn is_direct(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str());
    let names_this_machine = match host {
        None => true,
        Some(Err(_)) => false,
        Some(Ok(host)) => {
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                Some(_) | None => host,
            };
            let address = name.trim_start_matches('[').trim_end_matches(']');
            name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
        }
    };
    names_this_machine && !FORWARDED.iter().any(|name| headers.contains_key(name))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// `None`: there is none that could be compared with.
fn read_token(file: &Path) -> Option<String> {
    let mut text = String::new();
    let read =
        File::open(file).and_then(|opened| opened.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        tracing::error!(file = %file.display(), %error, "admin.token_file cannot be read");
        return None;
    }
    let token = text.trim();
    if token.is_empty() {
        tracing::error!(file = %file.display(), "admin.token_file is empty");
        return None;
    }
    Some(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_pages_of_weir_itself_may_ask() {
        let host = ("host", "127.0.0.1:5001");
        for (pairs, may) in [
            (vec![host], true),
            (vec![host, ("sec-fetch-site", "none")], true),
            (vec![host, ("origin", "http://127.0.0.1:5001")], true),
            (vec![host, ("origin", "http://127.0.0.1:8080")], false),
            (vec![host, ("origin", "https://evil.example")], false),
            (vec![host, ("origin", "null")], false),
            (vec![host, ("sec-fetch-site", "cross-site")], false),
            (vec![host, ("sec-fetch-site", "same-site")], false),
        ] {
            let refused = refuse_other_sites(&headers(&pairs));
            assert_eq!(refused.is_ok(), may, "{pairs:?}");
        }
    }

    #[test]
    fn a_name_that_was_pointed_here_is_not_this_machine() {
        for (pairs, is) in [
            (vec![("host", "127.0.0.1:5001")], true),
            (vec![("host", "[::1]:5001")], true),
            (vec![("host", "localhost:5001")], true),
            (vec![("host", "evil.example:5001")], false),
            (
                vec![("host", "127.0.0.1"), ("x-forwarded-for", "10.0.0.1")],
                false,
            ),
        ] {
            assert_eq!(is_direct(&headers(&pairs)), is, "{pairs:?}");
        }
    }

    #[test]
    fn a_token_is_a_bearer_token() {
        let token = |value| bearer(&headers(&[("authorization", value)])).map(str::to_owned);
        assert_eq!(token("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(token("bearer  abc "), Some("abc".to_owned()));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bearer "), None);
    }
}
