//! Where a request is meant to go: `ns`, host, first path component or default → [`Target`].
//!
//! Pure, and a closed world: what a client names is looked up among the configured registries and
//! is never an address to dial. Source: SPEC 4.1.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::config::{Config, Registry};
use crate::oci::{ImageName, InvalidName, Name, RegistryName, Target};

/// The registries that there are, by everything that can mean them.
#[derive(Debug)]
pub struct Routes {
    registries: HashSet<RegistryName>,
    hosts: HashMap<String, RegistryName>,
    default: Option<RegistryName>,
    /// All names, for messages.
    configured: Arc<str>,
}

/// A target, and what led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub target: Target,
    pub by: By,
}

/// What named the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The query parameter `ns`.
    Namespace,
    /// The host that the client speaks to.
    Host,
    /// The first component of the name.
    Prefix,
    /// Nothing: the default registry answers.
    Default,
}

impl Routes {
    pub fn new(config: &Config) -> Routes {
        Routes::among(&config.registries)
    }

    fn among(registries: &[Arc<Registry>]) -> Routes {
        let names: Vec<_> = registries.iter().map(|r| r.name.as_str()).collect();
        let hosts = registries.iter().flat_map(|registry| {
            let hosts = registry.hosts.iter();
            hosts.map(|host| (host.to_ascii_lowercase(), registry.name.clone()))
        });
        Routes {
            registries: registries.iter().map(|r| r.name.clone()).collect(),
            hosts: hosts.collect(),
            default: registries
                .iter()
                .find(|registry| registry.default)
                .map(|registry| registry.name.clone()),
            configured: names.join(", ").into(),
        }
    }

    /// `ns` and `host` as the client sent them, the host with or without a port.
    pub fn target(
        &self,
        ns: Option<&str>,
        host: Option<&str>,
        name: &Name,
    ) -> Result<Routed, Unrouted> {
        let whole = |registry: &RegistryName, by| {
            let target = Target::from_name(registry.clone(), name)?;
            Ok(Routed { target, by })
        };
        if let Some(ns) = ns {
            return whole(self.registry(ns)?, By::Namespace);
        }
        if let Some(registry) = host.and_then(|host| self.virtual_host(host)) {
            return whole(registry, By::Host);
        }
        if let Some(target) = self.prefixed(name)? {
            let by = By::Prefix;
            return Ok(Routed { target, by });
        }
        let default = self.default.as_ref().ok_or_else(|| Unrouted::NoDefault {
            name: name.to_string(),
            configured: self.configured.clone(),
        })?;
        self.refuse_foreign_prefix(default, name)?;
        whole(default, By::Default)
    }

    /// What an image on a command line means: where it names no registry, the default one.
    pub fn image(&self, image: &ImageName) -> Result<Routed, Unrouted> {
        let (registry, by) = match (&image.registry, &self.default) {
            (Some(named), _) => (self.registry(named.as_str())?, By::Prefix),
            (None, Some(default)) => (default, By::Default),
            (None, None) => {
                return Err(Unrouted::NoDefault {
                    name: shown(&image.to_string()),
                    configured: self.configured.clone(),
                });
            }
        };
        let target = Target::new(registry.clone(), image.repository.clone());
        Ok(Routed { target, by })
    }

    /// The configured registry that `ns` names, in any of its spellings.
    pub fn registry(&self, ns: &str) -> Result<&RegistryName, Unrouted> {
        let known = ns
            .parse()
            .ok()
            .and_then(|registry: RegistryName| self.registries.get(&registry));
        known.ok_or_else(|| self.unknown(ns))
    }

    fn virtual_host(&self, host: &str) -> Option<&RegistryName> {
        if self.hosts.is_empty() {
            return None;
        }
        let host = without_port(host).trim_end_matches('.');
        self.hosts.get(&host.to_ascii_lowercase())
    }

    fn prefixed(&self, name: &Name) -> Result<Option<Target>, Unrouted> {
        let Some((first, rest)) = name.split_first() else {
            return Ok(None);
        };
        let registry = first.parse().ok();
        let known = registry.and_then(|registry: RegistryName| self.registries.get(&registry));
        let Some(registry) = known else {
            return Ok(None);
        };
        Ok(Some(Target::new(registry.clone(), rest.parse()?)))
    }

    /// A name such as `registry.example.com/app` means that registry to every client. Docker Hub
    /// has no such namespace, and a port stands in no repository, so nothing is lost by saying
    /// so here instead of asking the default registry for it.
    fn refuse_foreign_prefix(&self, default: &RegistryName, name: &Name) -> Result<(), Unrouted> {
        match name.split_first() {
            Some((first, _))
                if RegistryName::looks_like_one(first)
                    && (default.is_docker_hub() || first.contains(':')) =>
            {
                Err(self.unknown(first))
            }
            _ => Ok(()),
        }
    }

    fn unknown(&self, asked: &str) -> Unrouted {
        Unrouted::UnknownRegistry {
            asked: shown(asked),
            configured: self.configured.clone(),
        }
    }
}

/// `[::1]:5000` → `[::1]`, `hub.internal:443` → `hub.internal`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') || name.ends_with(']') => name,
        _ => host,
    }
}

/// What a client wrote, short and printable enough for a message.
fn shown(asked: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    asked
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS)
        .collect()
}

/// Why a request leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrouted {
    #[error("this weir does not serve the registry {asked:?}; configured: {}", List(.configured))]
    UnknownRegistry { asked: String, configured: Arc<str> },
    #[error(
        "{name} names no registry, and there is no default one; put one of these in front: {}",
        List(.configured)
    )]
    NoDefault { name: String, configured: Arc<str> },
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// The configured registries in a message, also when there are none.
struct List<'a>(&'a str);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { self.0 })
    }
}

#[cfg(test)]
mod tests;
