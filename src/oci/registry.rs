//! The name of a registry, in one spelling.
//!
//! Docker Hub goes by six names in the wild; here it is `docker.io`, whatever was written. Every
//! comparison of registries anywhere in weir is a comparison of two [`RegistryName`]s.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const DOCKER_HUB: &str = "docker.io";
/// Hosts that all mean Docker Hub (docker's own code, its credential files, its web site).
const DOCKER_HUB_SPELLINGS: [&str; 5] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
    "hub.docker.com",
];
/// Longest DNS name with a port.
const NAME_BYTES_MAX: usize = 253 + 6;

/// `host` or `host:port` in lower case, with every spelling of Docker Hub folded into `docker.io`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Arc<str>);

impl RegistryName {
    pub fn docker_hub() -> Self {
        RegistryName(DOCKER_HUB.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Docker Hub has rules of its own: `library/`, the quota.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// The host without the port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(&self.0).0
    }

    /// Whether the first component of an image name is a registry rather than a namespace: docker's
    /// rule, a dot, a port or `localhost`.
    pub fn looks_like_one(component: &str) -> bool {
        component.contains(['.', ':']) || component == "localhost"
    }
}

impl FromStr for RegistryName {
    type Err = InvalidRegistry;

    /// Takes a host, `host:port`, and the URLs that stand in credential files, such as
    /// `https://index.docker.io/v1/`.
    fn from_str(text: &str) -> Result<Self, InvalidRegistry> {
        let lower = text.to_ascii_lowercase();
        let rest = lower
            .strip_prefix("https://")
            .or_else(|| lower.strip_prefix("http://"))
            .unwrap_or(&lower);
        let rest = rest.trim_end_matches('/');
        let host = rest
            .strip_suffix("/v1")
            .or_else(|| rest.strip_suffix("/v2"))
            .unwrap_or(rest);
        check(host)?;
        let without_https_port = host.strip_suffix(":443").unwrap_or(host);
        if DOCKER_HUB_SPELLINGS.contains(&without_https_port) {
            return Ok(RegistryName::docker_hub());
        }
        Ok(RegistryName(host.into()))
    }
}

fn check(name: &str) -> Result<(), InvalidRegistry> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(InvalidRegistry::Length);
    }
    let (host, port) = split_port(name);
    if let Some(port) = port
        && !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return Err(InvalidRegistry::Port);
    }
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidRegistry::Host),
        };
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.split('.').all(label_fits) {
        Ok(())
    } else {
        Err(InvalidRegistry::Host)
    }
}

fn split_port(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (name, None),
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegistry {
    #[error("a registry is called by its host, such as docker.io or registry.example.com:5000")]
    Length,
    #[error("the port of a registry is a number from 1 to 65535")]
    Port,
    #[error("a registry's host is a DNS name or an IP address, without a path")]
    Host,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_spellings_of_docker_hub_are_one_registry() {
        for spelling in [
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
            "https://index.docker.io/v1",
            "registry-1.docker.io",
            "https://registry-1.docker.io/v2/",
            "registry.hub.docker.com",
            "hub.docker.com",
            "Docker.IO",
            "docker.io:443",
        ] {
            assert_eq!(
                spelling.parse(),
                Ok(RegistryName::docker_hub()),
                "{spelling}"
            );
        }
        for other in [
            "docker.io.example.com",
            "ghcr.io",
            "docker.io:5000",
            "mydocker.io",
        ] {
            assert_ne!(other.parse(), Ok(RegistryName::docker_hub()), "{other}");
        }
    }

    #[test]
    fn hosts_with_ports_and_addresses_are_names() {
        for (text, host) in [
            ("localhost:5000", "localhost"),
            ("10.0.0.1:5000", "10.0.0.1"),
            ("[::1]:5000", "[::1]"),
            ("[::1]", "[::1]"),
            ("http://Registry.Example.com:80/", "registry.example.com"),
        ] {
            assert_eq!(text.parse::<RegistryName>().unwrap().host(), host);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in [
            "",
            "a b",
            "a/b",
            "..",
            "a..b",
            "-a",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "::1",
            "[x]",
            "a@b",
            "https://",
            "a\n",
            "user:pw@host",
        ] {
            assert!(wrong.parse::<RegistryName>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_its_own_spelling(text: String) {
            if let Ok(name) = text.parse::<RegistryName>() {
                prop_assert_eq!(name.as_str().parse::<RegistryName>(), Ok(name));
            }
        }
    }
}
