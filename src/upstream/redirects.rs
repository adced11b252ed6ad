//! Where a redirect leads, and whether it is followed.
//!
//! The credential never goes along to another origin (scheme, host and port): signed URLs of object
//! stores fail when it does, and other hosts have no business with it.
//! Source: RFC 9110, 15.4; SPEC 4.4, promise 7.

use http::header::{HeaderMap, LOCATION};
use http::{StatusCode, Uri};

use super::address;

/// Registries need one or two.
pub(super) const REDIRECTS_MAX: usize = 5;

/// A redirect that is followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) to: Uri,
    /// Another origin than before: nothing of ours goes along.
    pub(super) crosses: bool,
}

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The next step from `from`, or why there is none.
pub(super) fn next(from: &Uri, headers: &HeaderMap) -> Result<Step, String> {
    let location = headers
        .get(LOCATION)
        .ok_or("a redirect without a Location")?;
    let location = std::str::from_utf8(location.as_bytes())
        .map_err(|_| "a redirect to what is no URL".to_owned())?;
    let to = resolve(from, location).ok_or("a redirect to what is no URL")?;
    let host = to.host().unwrap_or_default();
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => {}
        (_, Some("http")) if address::is_loopback(host) => {}
        (_, Some("http")) => return Err(format!("a redirect from https to plain http, {host}")),
        (_, _) => return Err("a redirect to another scheme than http and https".to_owned()),
    }
    if address::is_forbidden_host(host) {
        return Err(format!(
            "a redirect to an address that is never asked, {host}"
        ));
    }
    let crosses = address::origin(from) != address::origin(&to);
    Ok(Step { to, crosses })
}

/// A Location may leave out scheme, host, or the start of the path (RFC 3986, 5.2).
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.trim();
    let location = location.split('#').next().unwrap_or_default();
    let has_scheme = location.starts_with("http://")
        || location.starts_with("https://")
        || location.split(['/', '?']).next()?.contains(':');
    if has_scheme {
        return location
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.host().is_some());
    }
    let scheme = from.scheme_str()?;
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    let authority = from.authority()?;
    let path = if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", from.path())
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        normal(&format!("{folder}/{location}"))
    };
    format!("{scheme}://{authority}{path}").parse().ok()
}

/// The path without `.` and `..` in it; the query stays.
fn normal(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const FROM: &str = "https://eu-docker.pkg.dev/v2/p/r/blobs/sha256:1?x=y";

    fn step(from: &str, location: &str) -> Result<(String, bool), String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            LOCATION,
            HeaderValue::from_bytes(location.as_bytes()).unwrap(),
        );
        let step = next(&from.parse().unwrap(), &headers)?;
        Ok((step.to.to_string(), step.crosses))
    }

    #[test]
    fn relative_locations_stay_at_the_origin() {
        for (location, expected) in [
            (
                "/artifacts/x?sig=1",
                "https://eu-docker.pkg.dev/artifacts/x?sig=1",
            ),
            ("//eu-docker.pkg.dev/x", "https://eu-docker.pkg.dev/x"),
            ("other", "https://eu-docker.pkg.dev/v2/p/r/blobs/other"),
            (
                "../x?a=b/../c",
                "https://eu-docker.pkg.dev/v2/p/r/x?a=b/../c",
            ),
            (
                "?sig=2",
                "https://eu-docker.pkg.dev/v2/p/r/blobs/sha256:1?sig=2",
            ),
            (
                "https://eu-docker.pkg.dev:443/x",
                "https://eu-docker.pkg.dev:443/x",
            ),
        ] {
            assert_eq!(
                step(FROM, location),
                Ok((expected.to_owned(), false)),
                "{location}"
            );
        }
    }

    #[test]
    fn another_host_port_or_scheme_is_another_origin() {
        for (from, location) in [
            (FROM, "https://s3.amazonaws.com/x?X-Amz-Signature=1"),
            (FROM, "//cdn.example/x"),
            (FROM, "https://eu-docker.pkg.dev:8443/x"),
            (FROM, "http://127.0.0.1:5000/x"),
            ("http://r.example/v2/", "https://r.example/x"),
        ] {
            assert_eq!(
                step(from, location).map(|(_, crosses)| crosses),
                Ok(true),
                "{location}"
            );
        }
    }

    #[test]
    fn some_redirects_are_not_followed() {
        for location in [
            "http://cdn.example/x",
            "http://eu-docker.pkg.dev/x",
            "https://169.254.169.254/latest/meta-data/",
            "ftp://cdn.example/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://",
        ] {
            assert!(step(FROM, location).is_err(), "{location}");
        }
        let none = next(&FROM.parse().unwrap(), &HeaderMap::new());
        assert!(none.is_err());
    }

    proptest! {
        #[test]
        fn no_location_makes_it_panic(location in "[!-~]{0,100}") {
            let _ = step(FROM, &location);
        }
    }
}
