//! Which hosts and addresses are special: loopback, link-local, cloud metadata.
//!
//! Link-local addresses are never asked: machines keep their metadata services there, with
//! credentials for whoever asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Metadata services outside the link-local networks: Alibaba Cloud, Oracle Cloud, Azure's wire
/// server.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// Amazon's over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Google's by its name, which only resolves inside its cloud.
const METADATA_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];

/// An IPv6 address in a URL stands in brackets.
pub(super) fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// The address, where the host is written as one.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    without_brackets(host).parse().ok()
}

/// The address of a host that has one without asking anybody: a literal, or `localhost`.
pub(super) fn of_host(host: &str) -> Option<IpAddr> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match literal(host).map(unmapped) {
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) => Some(loopback),
        None if host.eq_ignore_ascii_case("localhost") => Some(loopback),
        other => other,
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    match literal(host) {
        Some(address) => unmapped(address).is_loopback(),
        None => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// Whether an address is never asked, whoever names it.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match unmapped(address) {
        IpAddr::V4(address) => {
            address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || METADATA_V4.contains(&address)
        }
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address == METADATA_V6
        }
    }
}

/// Whether a host is never asked, as far as it can be told without resolving it.
pub(super) fn is_forbidden_host(host: &str) -> bool {
    match literal(host) {
        Some(address) => is_forbidden(address),
        None => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            METADATA_NAMES.contains(&&*host) || looks_numeric(&host)
        }
    }
}

/// `2852039166`, `0xa9fe.43518`: resolvers take such for addresses.
fn looks_numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|rest| rest.bytes().all(|digit| digit.is_ascii_hexdigit()));
    hexadecimal || (!last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit()))
}

/// An IPv4 address that is dressed as IPv6 is the IPv4 address.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Scheme, host and port of a URL, the port only where it is not the scheme's own.
pub(super) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match uri.port_u16() {
        Some(port) if Some(port) != default_port(scheme) => format!("{scheme}://{host}:{port}"),
        Some(_) | None => format!("{scheme}://{host}"),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_forbidden_in_every_dress() {
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
            "100.100.100.200",
            "metadata.google.internal",
            "Metadata.Google.Internal.",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(is_forbidden_host(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "10.0.0.1",
            "[::1]",
            "auth.docker.io",
            "a1",
            "1a.io",
        ] {
            assert!(!is_forbidden_host(host), "{host}");
        }
    }

    #[test]
    fn loopback_has_several_names() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.8.8.8",
            "[::1]",
            "x.localhost",
            "LOCALHOST.",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "mylocalhost"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn an_origin_leaves_out_the_schemes_own_port() {
        let origin_of = |text: &'static str| origin(&Uri::from_static(text));
        assert_eq!(origin_of("https://A.example:443/v2/"), "https://a.example");
        assert_eq!(origin_of("http://a.example:443/"), "http://a.example:443");
        assert_eq!(origin_of("http://[::1]:80/x"), "http://[::1]");
    }
}
