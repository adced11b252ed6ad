//! Who may come in, and what they may have.
//!
//! A [`Client`] exists only through [`Access::identify`]; whatever is answered to it, cached or
//! not, has passed [`Access::permits`] first. Nothing here knows HTTP answers. Source: SPEC 4.5.

mod address;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use globset::GlobMatcher;
use ipnet::IpNet;

use crate::config::{AccessRule, Config};
use crate::oci::{RegistryName, Target};

/// The rules of the house, as configured. Without state: a reload makes a new one.
#[derive(Debug)]
pub struct Access {
    rules: Vec<AccessRule>,
    trusted_proxies: Vec<IpNet>,
    registries: HashMap<RegistryName, Patterns>,
}

/// Which repositories of a registry are served at all.
#[derive(Debug)]
struct Patterns {
    allow: Vec<GlobMatcher>,
    deny: Vec<GlobMatcher>,
}

/// What a request brings along that may tell who is asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival<'a> {
    /// Who the connection comes from; `None`: over a unix socket.
    pub peer: Option<IpAddr>,
    /// `X-Forwarded-For`, believed only from a trusted proxy.
    pub forwarded_for: Option<&'a str>,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Behind trusted proxies, the one that they name; over a unix socket, loopback.
    pub address: IpAddr,
    /// `None`: nobody in particular.
    pub user: Option<Arc<str>>,
}

impl Access {
    pub fn new(config: &Config) -> Access {
        let patterns = config.registries.iter().map(|registry| {
            let patterns = Patterns {
                allow: registry.allow.clone(),
                deny: registry.deny.clone(),
            };
            (registry.name.clone(), patterns)
        });
        Access {
            rules: config.access.rules.clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            registries: patterns.collect(),
        }
    }

    pub fn identify(&self, arrival: &Arrival<'_>) -> Client {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = arrival.peer.unwrap_or(local);
        Client {
            address: address::of_client(peer, arrival.forwarded_for, &self.trusted_proxies),
            user: None,
        }
    }

    pub fn permits(&self, client: &Client, target: &Target) -> Result<(), Denied> {
        if !self.is_served(target) {
            return Err(Denied::NotServed);
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let shown = target.to_string();
        let allowed = self
            .rules
            .iter()
            .any(|rule| fits(rule, client) && matches_any(&rule.allow, &shown));
        if allowed { Ok(()) } else { Err(Denied::NoRule) }
    }

    fn is_served(&self, target: &Target) -> bool {
        let Some(Patterns { allow, deny }) = self.registries.get(&target.registry) else {
            return false;
        };
        let repository = target.repository.as_str();
        (allow.is_empty() || matches_any(allow, repository)) && !matches_any(deny, repository)
    }
}

/// Whether a rule speaks of this client. Networks narrow it; users, certificates and `anonymous`
/// are alternatives, and a rule with none of them speaks of everybody.
fn fits(rule: &AccessRule, client: &Client) -> bool {
    let near = rule.networks.is_empty()
        || rule
            .networks
            .iter()
            .any(|network| network.contains(&client.address));
    let anybody = rule.users.is_empty() && rule.certificates.is_empty() && !rule.anonymous;
    let known = match &client.user {
        Some(user) => rule.users.iter().any(|allowed| **allowed == **user),
        None => rule.anonymous,
    };
    near && (anybody || known)
}

fn matches_any(patterns: &[GlobMatcher], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

/// Why a client does not get what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this weir does not serve this repository: `allow` and `deny` of its registry say so")]
    NotServed,
    #[error("no access rule of this weir allows it")]
    NoRule,
}
