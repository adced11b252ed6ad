//! Addresses, URLs, patterns and the like, as they are written in the configuration.
//!
//! Each function takes a text to a checked value or says what is wrong with it, and never repeats
//! a password that stood in a URL.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use globset::{GlobBuilder, GlobMatcher};
use http::Uri;
use ipnet::IpNet;

use super::checked::{Endpoint, Listen};
use super::problem::Wrong;
use crate::oci::RegistryName;

/// Docker Hub's web sites: a common mistake for its registry.
const DOCKER_HUB_SITES: [&str; 3] = ["docker.io", "www.docker.com", "hub.docker.com"];

pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    let wrong = || Wrong::Listen { text: text.into() };
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') && !path.ends_with('/') {
            Ok(Listen::Unix(path.into()))
        } else {
            Err(wrong())
        };
    }
    let (kind, address): (fn(_) -> _, _) = match text.strip_prefix("http://") {
        Some(address) => (Listen::Plain, address),
        None => (Listen::Tcp, text),
    };
    let address = match address.strip_prefix("localhost:") {
        Some(port) => port
            .parse()
            .map(|port| (Ipv4Addr::LOCALHOST, port).into())
            .ok(),
        None => address.parse::<SocketAddr>().ok(),
    };
    address.map(kind).ok_or_else(wrong)
}

/// Whether only this machine reaches the address.
pub(super) fn is_local(listen: &Listen) -> bool {
    match listen {
        Listen::Tcp(address) | Listen::Plain(address) => address.ip().to_canonical().is_loopback(),
        Listen::Unix(_) => true,
    }
}

/// A base address of a registry.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    let uri = url(text)?;
    let wrong = |why| Wrong::Url {
        text: without_login(text),
        why,
    };
    if DOCKER_HUB_SITES.contains(&uri.host().unwrap_or_default()) {
        return Err(wrong(
            "that host serves no images, Docker Hub's registry is https://registry-1.docker.io",
        ));
    }
    if matches!(uri.path(), "/v1" | "/v2") {
        return Err(wrong("the /v2 of the API is not part of it"));
    }
    Ok(Endpoint { uri })
}

/// An `http` or `https` URL that is an address and nothing more; without the last slash.
pub(super) fn url(text: &str) -> Result<Uri, Wrong> {
    let wrong = |why| Wrong::Url {
        text: without_login(text),
        why,
    };
    if !text.contains("://") {
        return Err(wrong("it has no scheme, http:// or https://"));
    }
    if text.contains('#') {
        return Err(wrong("it has a fragment"));
    }
    let uri: Uri = text
        .trim_end_matches('/')
        .parse()
        .map_err(|_| wrong("it cannot be read"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("its scheme is neither http nor https"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("user and password belong into a credentials entry"));
    }
    if authority
        .as_str()
        .to_ascii_lowercase()
        .parse::<RegistryName>()
        .is_err()
    {
        return Err(wrong("its host or port cannot be right"));
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    if uri.path().split('/').any(|part| matches!(part, "." | "..")) || uri.path().contains("//") {
        return Err(wrong("its path has empty or dotted parts"));
    }
    Ok(uri)
}

/// A proxy; its URL may hold a login.
pub(super) fn proxy(text: &str) -> Result<String, Wrong> {
    let wrong = |why| Wrong::Url {
        text: without_login(text),
        why,
    };
    let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
    if !matches!(
        uri.scheme_str(),
        Some("http" | "https" | "socks5" | "socks5h")
    ) {
        return Err(wrong("a proxy begins with http://, https:// or socks5://"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    Ok(text.to_owned())
}

/// A URL without user and password, for messages.
pub(crate) fn without_login(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match rest.rsplit_once('@') {
        None => text.to_owned(),
        Some((_, address)) if scheme.is_empty() => format!("…@{address}"),
        Some((_, address)) => format!("{scheme}://…@{address}"),
    }
}

/// Whether what goes to this endpoint stays on this machine.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// A pattern over the repositories of one registry. A lone `*` means all of them, and one part alone
/// is an official image at Docker Hub.
pub(super) fn repositories(registry: &RegistryName, text: &str) -> Result<GlobMatcher, Wrong> {
    glob(text, &repository_pattern(registry.is_docker_hub(), text))
}

fn repository_pattern(docker_hub: bool, text: &str) -> String {
    match text {
        "*" => "**".into(),
        _ if docker_hub && !text.contains('/') && text != "**" => format!("library/{text}"),
        _ => text.into(),
    }
}

/// A pattern over `registry/repository`.
pub(super) fn targets(text: &str) -> Result<GlobMatcher, Wrong> {
    if matches!(text, "*" | "**") {
        return glob(text, "**");
    }
    let (first, rest) = text.split_once('/').ok_or_else(|| Wrong::Pattern {
        text: text.into(),
        why: format!("it names no repository; all of one registry are \"{text}/**\""),
    })?;
    let pattern = match first.parse::<RegistryName>() {
        Ok(registry) => {
            let rest = repository_pattern(registry.is_docker_hub(), rest);
            format!("{registry}/{rest}")
        }
        // The registry is a pattern itself, such as `*`.
        Err(_) => format!("{first}/{}", repository_pattern(false, rest)),
    };
    glob(text, &pattern)
}

/// A pattern over `repository:tag`, in which `*` takes slashes too.
pub(super) fn tags(text: &str) -> Result<GlobMatcher, Wrong> {
    if !text.contains(':') {
        return Err(Wrong::Pattern {
            text: text.into(),
            why: format!("it has no tag; a tag of every repository is \"*:{text}\""),
        });
    }
    loose(text)
}

/// A pattern in which `*` takes slashes too.
pub(super) fn loose(text: &str) -> Result<GlobMatcher, Wrong> {
    compile(text, text, false)
}

fn glob(text: &str, pattern: &str) -> Result<GlobMatcher, Wrong> {
    compile(text, pattern, true)
}

fn compile(text: &str, pattern: &str, slash_is_literal: bool) -> Result<GlobMatcher, Wrong> {
    let wrong = |why: String| Wrong::Pattern {
        text: text.into(),
        why,
    };
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
        return Err(wrong("it is empty, or begins or ends with a slash".into()));
    }
    let glob = GlobBuilder::new(pattern)
        .literal_separator(slash_is_literal)
        .build()
        .map_err(|error| wrong(error.kind().to_string()))?;
    Ok(glob.compile_matcher())
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
    network.map_err(|_: std::net::AddrParseError| Wrong::Network { text: text.into() })
}

/// A virtual host: lower case, without a port.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    let lower = text.to_ascii_lowercase();
    let wrong = || Wrong::Host { text: text.into() };
    let name: RegistryName = lower.parse().map_err(|_| wrong())?;
    // A name is also read from a URL, and Docker Hub's are folded: only what is a host stays itself.
    if lower.contains('/') || name.host() != name.as_str() {
        return Err(wrong());
    }
    Ok(lower)
}

/// The beginning of a repository; with the registry in front too, as people write it.
pub(super) fn prefix(registry: &RegistryName, text: &str) -> Result<String, Wrong> {
    let wrong = |why| Wrong::Prefix {
        text: text.into(),
        why,
    };
    let rest = match text.split_once('/') {
        Some((first, rest)) if RegistryName::looks_like_one(first) => {
            if first.parse::<RegistryName>().as_ref() != Ok(registry) {
                return Err(wrong("it begins with another registry"));
            }
            rest
        }
        _ => text,
    };
    if rest.contains(['*', '?', '[', '{']) {
        return Err(wrong(
            "it is the plain beginning of a repository, no pattern",
        ));
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
    if rest.starts_with('/') || rest.contains("//") || !rest.chars().all(fits) {
        return Err(wrong("no repository begins like that"));
    }
    Ok(rest.to_owned())
}

/// What follows `docker-credential-` in the name of a program.
pub(super) fn helper(text: &str) -> Result<String, Wrong> {
    let wrong = |why| Wrong::Helper {
        text: text.into(),
        why,
    };
    if text.starts_with("docker-credential-") {
        return Err(wrong("docker-credential- is put in front by weir"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !text.chars().all(fits) {
        return Err(wrong("a name has letters, digits, and . _ -"));
    }
    Ok(text.to_owned())
}
