//! Who may come in, and what they may have.
//!
//! A [`Client`] exists only through [`Access::identify`]; whatever is answered to it, cached or
//! not, has passed [`Access::permits`] first. Nothing here knows HTTP answers. Source: SPEC 4.5.

mod address;
mod authorization;
mod passwords;
mod subject;
mod tokens;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use globset::GlobMatcher;
use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::config::{AccessRule, Config, RegistryAuth};
use crate::oci::{RegistryName, Target};
use authorization::Authorization;
use passwords::{Crowded, Passwords};
use tokens::Bearer;

pub use authorization::Login;
pub use passwords::InvalidPasswords;
pub use subject::Subject;
pub use tokens::{BoundLogin, Grant, Keys};

/// The rules of the house, as configured. A reload makes a new one with the same [`Keys`].
#[derive(Debug)]
pub struct Access {
    anonymous: bool,
    rules: Vec<AccessRule>,
    passwords: Option<Passwords>,
    trusted_proxies: Vec<IpNet>,
    registries: HashMap<RegistryName, Patterns>,
    /// Registries that decide themselves, by the client's own login (`auth = "client"`).
    by_login: HashSet<RegistryName>,
    keys: Keys,
}

/// Which repositories of a registry are served at all.
#[derive(Debug)]
struct Patterns {
    allow: Vec<GlobMatcher>,
    deny: Vec<GlobMatcher>,
}

/// What a request brings along that may tell who is asking.
#[derive(Debug, Clone, Default)]
pub struct Arrival<'a> {
    /// Who the connection comes from; `None`: over a unix socket.
    pub peer: Option<IpAddr>,
    /// Every `X-Forwarded-For`, in order; believed only from a trusted proxy.
    pub forwarded_for: Vec<&'a str>,
    /// Of a certificate that the client has shown and that was verified.
    pub certificate: Option<&'a Arc<Subject>>,
    pub authorization: Option<&'a str>,
}

/// Somebody who asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// Behind trusted proxies, the one that they name; over a unix socket, loopback.
    pub address: IpAddr,
    /// A user whose password weir has checked.
    pub user: Option<Arc<str>>,
    pub certificate: Option<Arc<Subject>>,
    login: Option<Carried>,
    /// Whether it brought one of weir's tokens, also one for nobody in particular.
    introduced: bool,
    /// Whether that token was given for a login that weir does not know, and that is not in it.
    unjudged: bool,
}

/// What a client said who it is, for an upstream to judge.
#[derive(Debug, Clone)]
enum Carried {
    /// Said with the request, so for whatever the request asks.
    Here(Login),
    /// Said at the token endpoint, for one registry.
    Bound(BoundLogin),
}

/// What is shown to the upstream of a repository, so that it gives it to this client.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// What is stored with weir: weir itself has decided.
    Stored,
    /// The client's own login, which the upstream judges.
    Login(&'a Login),
    /// Nothing: the client has said that it has no login, and the upstream decides what is public.
    Nothing,
}

/// Why it is not clear who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    #[error("the user name or the password is wrong")]
    WrongLogin,
    #[error("the token has expired or is none of weir's")]
    WrongToken,
    #[error("a user name and a password are needed")]
    NoLogin,
    #[error("too many passwords are being checked, try again in a moment")]
    Crowded,
}

/// Why a client does not get what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this weir does not serve this repository: `allow` and `deny` of its registry say so")]
    NotServed,
    #[error("no access rule of this weir allows it")]
    NoRule,
    #[error("log in to this weir first")]
    NeedsUser,
    #[error("log in with your account at this registry: it decides itself who may pull")]
    NeedsLogin,
}

impl From<Crowded> for Unidentified {
    fn from(Crowded: Crowded) -> Self {
        Unidentified::Crowded
    }
}

impl Access {
    pub fn new(config: &Config, keys: Keys) -> Result<Access, InvalidPasswords> {
        let patterns = config.registries.iter().map(|registry| {
            let patterns = Patterns {
                allow: registry.allow.clone(),
                deny: registry.deny.clone(),
            };
            (registry.name.clone(), patterns)
        });
        let by_login = config
            .registries
            .iter()
            .filter(|registry| registry.auth == RegistryAuth::Client)
            .map(|registry| registry.name.clone());
        let htpasswd = config.access.htpasswd.as_deref();
        Ok(Access {
            anonymous: config.access.anonymous,
            rules: config.access.rules.clone(),
            passwords: htpasswd
                .map(|file| Passwords::read(file, keys.salt))
                .transpose()?,
            trusted_proxies: config.server.trusted_proxies.clone(),
            registries: patterns.collect(),
            by_login: by_login.collect(),
            keys,
        })
    }

    /// Who is asking. A login or token that is wrong is an error only where logins mean something.
    pub async fn identify(
        &self,
        arrival: &Arrival<'_>,
        now: Timestamp,
    ) -> Result<Client, Unidentified> {
        let mut client = self.stranger(arrival);
        if !self.knows_logins() {
            return Ok(client);
        }
        match Authorization::read(arrival.authorization) {
            Authorization::Nothing => {}
            Authorization::Malformed => return Err(Unidentified::WrongLogin),
            Authorization::Basic(login) => {
                client.user = self.check(&login).await?;
                client.login = Some(Carried::Here(login));
            }
            Authorization::Bearer(token) => {
                let bearer = self.keys.read(token, now);
                let bearer = bearer.ok_or(Unidentified::WrongToken)?;
                client.user = bearer.user;
                client.login = bearer.login.map(Carried::Bound);
                client.introduced = true;
                client.unjudged = bearer.unjudged;
            }
        }
        Ok(client)
    }

    /// A token for who asks for it; `registry` is where it is going to be used, as far as that is
    /// known. Nobody in particular gets one too, where nobody in particular may pull.
    pub async fn grant(
        &self,
        login: Option<Login>,
        registry: Option<RegistryName>,
        now: Timestamp,
    ) -> Result<Grant, Unidentified> {
        let mut bearer = Bearer {
            user: None,
            login: None,
            unjudged: false,
        };
        match login {
            None if !self.anonymous => return Err(Unidentified::NoLogin),
            None => {}
            Some(login) => match self.check(&login).await {
                Ok(user) => {
                    let by_login = registry.filter(|registry| self.by_login.contains(registry));
                    bearer.login = by_login.map(|registry| BoundLogin { registry, login });
                    bearer.unjudged = user.is_none() && bearer.login.is_none();
                    bearer.user = user;
                }
                // docker sends its Docker Hub login to a mirror that challenges. It is wrong here,
                // but nobody in particular may pull, too.
                Err(Unidentified::WrongLogin) if self.anonymous && registry.is_some() => {}
                Err(error) => return Err(error),
            },
        }
        Ok(self.keys.issue(bearer, now))
    }

    /// Whether the client must say who it is before it asks for anything. Docker learns only from
    /// this how to log in, so it is asked wherever a login makes a difference.
    pub fn wants_login(&self, client: &Client) -> bool {
        // `docker login` shows its login for no registry in particular. That it is wrong the first
        // pull will tell; that it was shown is all that this question is about.
        let known = client.is_known() || client.login.is_some() || client.unjudged;
        let rules_name_users = self.rules.iter().any(|rule| !rule.users.is_empty());
        let matters = !self.anonymous || rules_name_users || !self.by_login.is_empty();
        matters && !known && !(client.introduced && self.anonymous)
    }

    pub fn permits(&self, client: &Client, target: &Target) -> Result<(), Denied> {
        if !self.is_served(target) {
            return Err(Denied::NotServed);
        }
        if self.by_login.contains(&target.registry) {
            self.shown_by(client, target).ok_or(Denied::NeedsLogin)?;
        } else if !self.anonymous && !client.is_known() {
            return Err(Denied::NeedsUser);
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let shown = target.to_string();
        let lets_through = |rule: &&AccessRule| matches_any(&rule.allow, &shown);
        let mut rules = self.rules.iter().filter(lets_through);
        if rules.clone().any(|rule| fits(rule, client)) {
            Ok(())
        } else if !client.is_known() && rules.any(|rule| !rule.users.is_empty()) {
            Err(Denied::NeedsUser)
        } else {
            Err(Denied::NoRule)
        }
    }

    /// As whom the upstream is asked. `None`: it decides itself, and the client has not said yet
    /// who it is.
    ///
    /// Every registry asks strangers who they are first, and clients are made for that: docker,
    /// containerd and podman come back with a token, for their login or for nobody. So whoever has a
    /// login is judged by it, and whoever has none still gets what is public.
    pub fn shown_by<'a>(&self, client: &'a Client, target: &Target) -> Option<Shown<'a>> {
        if !self.by_login.contains(&target.registry) {
            return Some(Shown::Stored);
        }
        let is_bare = client.login.is_none() && !client.unjudged;
        let has_none = client.introduced && is_bare && self.anonymous;
        match client.login_for(&target.registry) {
            Some(login) => Some(Shown::Login(login)),
            None => has_none.then_some(Shown::Nothing),
        }
    }

    /// Whether what a proxy in front of weir says about this connection is believed.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| {
            let peer = peer.to_canonical();
            self.trusted_proxies
                .iter()
                .any(|network| network.contains(&peer))
        })
    }

    fn stranger(&self, arrival: &Arrival<'_>) -> Client {
        let peer = arrival.peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Client {
            address: address::of_client(peer, &arrival.forwarded_for, &self.trusted_proxies),
            user: None,
            certificate: arrival.certificate.cloned(),
            login: None,
            introduced: false,
            unjudged: false,
        }
    }

    fn knows_logins(&self) -> bool {
        !self.anonymous || self.passwords.is_some() || !self.by_login.is_empty()
    }

    /// The user whose password this is. Where an upstream may know the login better, a login that
    /// weir does not know is nobody's, else it is wrong.
    async fn check(&self, login: &Login) -> Result<Option<Arc<str>>, Unidentified> {
        let known = match &self.passwords {
            Some(passwords) => passwords.verify(login).await?,
            None => false,
        };
        if known {
            Ok(Some(login.username.as_str().into()))
        } else if self.by_login.is_empty() {
            Err(Unidentified::WrongLogin)
        } else {
            Ok(None)
        }
    }

    fn is_served(&self, target: &Target) -> bool {
        let Some(Patterns { allow, deny }) = self.registries.get(&target.registry) else {
            return false;
        };
        let repository = target.repository.as_str();
        (allow.is_empty() || matches_any(allow, repository)) && !matches_any(deny, repository)
    }
}

impl Client {
    /// Whether weir itself knows who this is.
    fn is_known(&self) -> bool {
        self.user.is_some() || self.certificate.is_some()
    }

    fn login_for(&self, registry: &RegistryName) -> Option<&Login> {
        match self.login.as_ref()? {
            Carried::Here(login) => Some(login),
            Carried::Bound(bound) => (bound.registry == *registry).then_some(&bound.login),
        }
    }
}

/// Whether a rule speaks of this client: one of its users, one of its certificates, or anybody where
/// it says `anonymous` or names nobody; and from one of its networks, where it names some.
fn fits(rule: &AccessRule, client: &Client) -> bool {
    let near = rule.networks.is_empty()
        || rule
            .networks
            .iter()
            .any(|network| network.contains(&client.address));
    let anybody = rule.anonymous || (rule.users.is_empty() && rule.certificates.is_empty());
    let by_name = || {
        let user = client.user.as_deref();
        rule.users
            .iter()
            .any(|allowed| Some(allowed.as_str()) == user)
    };
    let by_certificate = || {
        let subject = client.certificate.as_deref();
        subject.is_some_and(|subject| rule.certificates.iter().any(|glob| subject.fits(glob)))
    };
    near && (anybody || by_name() || by_certificate())
}

fn matches_any(patterns: &[GlobMatcher], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests;
