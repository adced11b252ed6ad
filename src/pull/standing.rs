//! What is remembered of rights: whom an upstream let in where, and what it was seen to have there.
//!
//! Only in memory, bounded in entries and in time. A login is known here by a hash with a key of this
//! process, never by itself. Time is tokio's: a wall clock that steps back makes no right longer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::ops::compute::Op;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::config::{self, Config, RIGHT_HELD_MAX, RegistryAuth};
use crate::oci::{Digest, RegistryName, Target};
use crate::upstream::{self, Identity};

/// A refusal is given again for as long as one pull repeats itself: containerd asks for each object
/// up to five times within a second, and no registry should be asked as often for a wrong password.
/// Longer, and whoever corrects a right or a password would wait for weir.
const REFUSED_FOR: Duration = Duration::from_secs(3);
/// Logins, each with a repository. The one used longest ago is asked for anew.
const STANDINGS_MAX: u64 = 100_000;
/// Digests, each with a repository; one is asked for anew for each that is forgotten.
const PLACES_MAX: u64 = 200_000;

/// As whom something is asked for, without a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// weir itself.
    Stored,
    Nobody,
    Login([u8; 32]),
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Who::Stored => "Stored",
            Who::Nobody => "Nobody",
            Who::Login(_) => "Login",
        })
    }
}

/// One client before one repository, for one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    who: Who,
    target: Target,
    to: To,
    /// Of the registry's configuration: what another one granted is worth nothing.
    era: u64,
}

/// Registries may let in for one of these and not for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum To {
    Content,
    Lists,
}

#[derive(Debug, Clone)]
pub(super) enum Known {
    Granted,
    Refused(upstream::Error),
    Unknown,
}

#[derive(Debug, Clone, Default)]
struct Memory {
    /// When the request was sent that proved it.
    granted_at: Option<Instant>,
    refused: Option<(Instant, upstream::Error)>,
}

/// How long rights hold at one registry that decides itself.
#[derive(Debug, Clone)]
struct Rule {
    config: Arc<config::Registry>,
    era: u64,
}

impl Rule {
    /// Whether what was heard under `before` is what would be heard now.
    fn goes_on_from(&self, before: &Rule) -> bool {
        let (now, before) = (&self.config, &before.config);
        now.endpoints == before.endpoints
            && now.token_services == before.token_services
            && now.tls == before.tls
    }
}

/// The registries that decide themselves.
#[derive(Debug, Default)]
struct Rules {
    by_name: HashMap<RegistryName, Rule>,
    /// No era comes twice.
    newest: u64,
}

/// Everything that is known of rights.
pub(super) struct Rights {
    key: [u8; 32],
    rules: ArcSwap<Rules>,
    memory: moka::sync::Cache<Standing, Memory>,
    places: moka::sync::Cache<(Target, u64, Digest), ()>,
}

impl Rights {
    pub(super) fn new(config: &Config) -> Rights {
        let mut key = [0; 32];
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut key)
            .expect("the operating system has randomness");
        let rights = Rights {
            key,
            rules: ArcSwap::default(),
            memory: moka::sync::Cache::builder()
                .max_capacity(STANDINGS_MAX)
                .time_to_live(RIGHT_HELD_MAX)
                .build(),
            places: moka::sync::Cache::new(PLACES_MAX),
        };
        rights.reload(config);
        rights
    }

    /// Takes up a changed configuration. Rights at a registry that is still the same one stay.
    pub(super) fn reload(&self, config: &Config) {
        let before = self.rules.load();
        let by_login = config
            .registries
            .iter()
            .filter(|registry| registry.auth == RegistryAuth::Client);
        let newest = before.newest + 1;
        let by_name = by_login.map(|registry| {
            let mut rule = Rule {
                config: Arc::clone(registry),
                era: newest,
            };
            if let Some(before) = before.by_name.get(&registry.name)
                && rule.goes_on_from(before)
            {
                rule.era = before.era;
            }
            (registry.name.clone(), rule)
        });
        let by_name = by_name.collect();
        self.rules.store(Arc::new(Rules { by_name, newest }));
    }

    pub(super) fn who(&self, identity: &Identity) -> Who {
        match identity {
            Identity::Stored => Who::Stored,
            Identity::Nobody => Who::Nobody,
            Identity::Client(login) => {
                let name = login.username.as_bytes();
                // The key and both lengths come first, so no two logins are hashed alike.
                let hash = Sha256::new()
                    .chain_update(self.key)
                    .chain_update((name.len() as u64).to_be_bytes())
                    .chain_update(name)
                    .chain_update(login.secret.expose_secret().as_bytes());
                Who::Login(hash.finalize().into())
            }
        }
    }

    /// The right to manifests and blobs. `None`: weir decides that itself.
    pub(super) fn to_content(&self, target: &Target, identity: &Identity) -> Option<Standing> {
        self.standing(target, identity, To::Content)
    }

    /// The right to the lists of tags and referrers.
    pub(super) fn to_lists(&self, target: &Target, identity: &Identity) -> Option<Standing> {
        self.standing(target, identity, To::Lists)
    }

    fn standing(&self, target: &Target, identity: &Identity, to: To) -> Option<Standing> {
        let who = match identity {
            Identity::Stored => return None,
            Identity::Nobody | Identity::Client(_) => self.who(identity),
        };
        let era = self.era(target);
        let target = target.clone();
        Some(Standing {
            who,
            target,
            to,
            era,
        })
    }

    /// 0 where logins no longer decide: then nothing is known.
    fn era(&self, target: &Target) -> u64 {
        let rules = self.rules.load();
        let rule = rules.by_name.get(&target.registry);
        rule.map_or(0, |rule| rule.era)
    }

    pub(super) fn known(&self, standing: &Standing, now: Instant) -> Known {
        let Some(memory) = self.memory.get(standing) else {
            return Known::Unknown;
        };
        if let Some((refused_at, error)) = memory.refused
            && now.duration_since(refused_at) < REFUSED_FOR
        {
            return Known::Refused(error);
        }
        let right_for = self.span(standing, |registry| registry.right_for);
        match memory.granted_at {
            Some(granted_at) if now.duration_since(granted_at) < right_for => Known::Granted,
            Some(_) | None => Known::Unknown,
        }
    }

    /// Whether a right that was proved still holds although it cannot be asked for.
    pub(super) fn is_held(&self, standing: &Standing, now: Instant) -> bool {
        let held_for = self.span(standing, |registry| {
            registry.right_held_for.max(registry.right_for)
        });
        let granted_at = self.memory.get(standing).and_then(|m| m.granted_at);
        granted_at.is_some_and(|granted_at| now.duration_since(granted_at) < held_for)
    }

    fn span(
        &self,
        standing: &Standing,
        of: impl FnOnce(&config::Registry) -> Duration,
    ) -> Duration {
        let rules = self.rules.load();
        let rule = rules.by_name.get(&standing.target.registry);
        let rule = rule.filter(|rule| rule.era == standing.era);
        rule.map_or(Duration::ZERO, |rule| of(&rule.config))
    }

    /// A request that was sent at `asked_at` was answered. One that was sent before the last refusal
    /// came proves nothing any more.
    pub(super) fn grant(&self, standing: &Standing, asked_at: Instant) {
        self.change(standing, |memory| {
            let mut memory = memory.unwrap_or_default();
            let outdated = |(refused_at, _): &(Instant, _)| asked_at <= *refused_at;
            if !memory.refused.as_ref().is_some_and(outdated) {
                memory.refused = None;
                memory.granted_at = memory.granted_at.max(Some(asked_at));
            }
            Op::Put(memory)
        });
    }

    pub(super) fn refuse(&self, standing: &Standing, error: &upstream::Error) {
        let refused = Memory {
            granted_at: None,
            refused: Some((Instant::now(), error.clone())),
        };
        self.memory.insert(standing.clone(), refused);
        let other = match standing.to {
            To::Content => To::Lists,
            To::Lists => To::Content,
        };
        // Who is refused the one may still have the other, but that has to be asked for.
        self.memory.invalidate(&Standing {
            to: other,
            ..standing.clone()
        });
    }

    /// A 404 came. Of a right that is known it says nothing; one that lapsed may have been withdrawn.
    pub(super) fn hold_no_longer(&self, standing: &Standing) {
        let right_for = self.span(standing, |registry| registry.right_for);
        let now = Instant::now();
        self.change(standing, |memory| match memory {
            Some(memory) if memory.refused.is_none() => match memory.granted_at {
                Some(granted_at) if now.duration_since(granted_at) < right_for => Op::Nop,
                Some(_) | None => Op::Remove,
            },
            Some(_) | None => Op::Nop,
        });
    }

    fn change(&self, standing: &Standing, to: impl FnOnce(Option<Memory>) -> Op<Memory>) {
        let entry = self.memory.entry(standing.clone());
        entry.and_compute_with(|before| to(before.map(moka::Entry::into_value)));
    }

    /// The upstream was seen to have this content in this repository. Whoever asked, that is so.
    pub(super) fn place(&self, target: &Target, digest: &Digest) {
        let era = self.era(target);
        if era > 0 {
            self.places.insert((target.clone(), era, *digest), ());
        }
    }

    pub(super) fn is_placed(&self, target: &Target, digest: &Digest) -> bool {
        let key = (target.clone(), self.era(target), *digest);
        self.places.contains_key(&key)
    }
}
