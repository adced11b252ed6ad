//! The only door to the outside: endpoints, attempts, tokens, credentials, quota, transport.
//!
//! Everything that weir asks of a registry goes through a [`Remote`]: one repository as one
//! identity. What must not be here: the cache. No secret leaves this room but to the registry it is
//! for and to the token service that belongs to it (SPEC 4.4, promise 7).

mod address;
mod breaker;
mod challenge;
mod content;
mod credentials;
mod download;
mod endpoint;
mod error;
mod exchange;
mod fault;
mod granted;
mod listing;
mod metrics;
mod proof;
mod query;
mod quota;
mod rate_headers;
mod realm;
mod redirects;
mod registry;
mod remote;
mod said;
#[cfg(test)]
mod tests;
mod token_service;
mod tokens;
mod told;
mod trace;
mod transport;
mod trip;
mod walk;
mod ways;
mod wording;

use std::collections::HashMap;
use std::hash::{Hash, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::breaker::State;
use self::credentials::{Credentials, Place};
use self::registry::{Registry, Shared};
use self::transport::{Proxies, Roots};
use crate::clock::Clock;
use crate::config::Config;
use crate::oci::{Digest, Manifest, MediaType, RegistryName, Target};

#[cfg(any(test, fuzzing))]
pub(crate) use self::challenge::holds as challenge_holds;
#[cfg(any(test, fuzzing))]
pub(crate) use self::download::range_holds as content_range_holds;

pub use self::credentials::{CredentialOutcome, CredentialStep, CredentialTrace};
pub use self::download::Download;
pub use self::error::{Away, Error, ErrorKind, Limit, Phase, Tls, Wrong};
pub use self::metrics::Metrics;
pub use self::quota::QuotaState;
pub use self::remote::Remote;
pub use self::trace::TraceParent;

/// How logs, labels and errors call the credential that is none.
pub const ANONYMOUS: &str = "anonymous";

/// Every configured registry. Used as `Arc<Upstream>`.
#[derive(Debug)]
pub struct Upstream {
    registries: ArcSwap<HashMap<RegistryName, Arc<Registry>>>,
    roots: Arc<Roots>,
    /// Of credentials; kept, so that a credential that did not change keeps its tokens.
    fingerprints: RandomState,
    metrics: Metrics,
    clock: Clock,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why the upstream side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the TLS file {} of {registry} cannot be used: {why}", file.display())]
    Tls {
        registry: RegistryName,
        file: PathBuf,
        why: String,
    },
}

/// How one endpoint fares.
#[derive(Debug, Clone)]
pub struct EndpointState {
    pub registry: RegistryName,
    pub endpoint: Arc<str>,
    pub health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Asked as it comes.
    Well,
    /// One request at a time finds out whether it is well again.
    Probing,
    /// Not asked, after failures in a row.
    Shut,
}

/// What is known of one account's pulls at one registry.
#[derive(Debug, Clone)]
pub struct AccountQuota {
    pub registry: RegistryName,
    pub account: Arc<str>,
    pub state: QuotaState,
}

impl Upstream {
    /// Prepares what is configured. Connects to nobody.
    pub fn new(config: &Config, clock: Clock, metrics: Metrics) -> Result<Upstream, StartError> {
        let upstream = Upstream {
            registries: ArcSwap::default(),
            roots: Arc::default(),
            fingerprints: RandomState::new(),
            metrics,
            clock,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        upstream.reload(config)?;
        Ok(upstream)
    }

    /// Takes up a changed configuration, whole or not at all. What did not change keeps its tokens,
    /// health and quotas; questions under way end as they began.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let shared = Shared {
            limits: config.upstream.clone(),
            credentials: Arc::new(Credentials::new(config, self.fingerprints.clone())),
            roots: Arc::clone(&self.roots),
            proxies: Arc::new(Proxies::new(&config.upstream)),
            metrics: self.metrics.clone(),
            clock: self.clock,
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        let before = self.registries.load();
        let mut registries = HashMap::new();
        for (number, said) in (1..).zip(&config.registries) {
            let seed = self.clock.now().0.wrapping_mul(number);
            let before = before.get(&said.name).map(|registry| &**registry);
            let registry = Registry::new(said, &shared, before, seed)?;
            registries.insert(said.name.clone(), Arc::new(registry));
        }
        self.registries.store(Arc::new(registries));
        Ok(())
    }

    /// `None`: the registry is not configured.
    pub fn remote(&self, target: &Target, identity: Identity) -> Option<Remote> {
        let registry = self.registries.load().get(&target.registry).cloned()?;
        Some(Remote {
            registry,
            target: target.clone(),
            identity: Arc::new(identity),
            trace: None,
            until: None,
        })
    }

    /// How the credential for each endpoint of the target's registry is found. Sends nothing, runs
    /// no helper. Empty: the registry is not configured.
    pub fn explain(&self, target: &Target) -> Vec<CredentialTrace> {
        let registries = self.registries.load();
        let Some(registry) = registries.get(&target.registry) else {
            return Vec::new();
        };
        let trace = |endpoint: &Arc<endpoint::Endpoint>| {
            let place = Place {
                target,
                endpoint: &endpoint.uri,
                alone: registry.is_alone(),
            };
            CredentialTrace {
                endpoint: Arc::clone(&endpoint.origin),
                steps: registry.credentials.explain(&registry.config, place),
            }
        };
        registry.endpoints.iter().map(trace).collect()
    }

    /// What is known of the quotas, by registry and account.
    pub fn quota(&self) -> Vec<AccountQuota> {
        let registries = self.registries.load();
        let of_registry = |registry: &Arc<Registry>| {
            let name = registry.name().clone();
            let known = registry.quota().into_iter();
            known.map(move |(account, state)| AccountQuota {
                registry: name.clone(),
                account,
                state,
            })
        };
        registries.values().flat_map(of_registry).collect()
    }

    /// How every endpoint fares.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let registries = self.registries.load();
        let all = registries.values().flat_map(|registry| {
            let name = registry.name();
            registry.endpoints.iter().map(|endpoint| EndpointState {
                registry: name.clone(),
                endpoint: Arc::clone(&endpoint.origin),
                health: match endpoint.state() {
                    State::Closed => Health::Well,
                    State::Probing => Health::Probing,
                    State::Open => Health::Shut,
                },
            })
        });
        all.collect()
    }

    /// Ends the work in the background and waits for its end.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")))
}

/// As whom a repository is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// With what is stored with weir for this registry.
    Stored,
    /// With the client's own login (SPEC 4.5).
    Client(ClientLogin),
    /// With nothing: for a client that has no login, where clients' own logins count.
    Nobody,
}

/// What a client said who it is.
#[derive(Debug, Clone)]
pub struct ClientLogin {
    pub username: String,
    pub secret: SecretString,
}

impl PartialEq for ClientLogin {
    /// Takes the same time wherever the secrets differ.
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.secret.expose_secret(), other.secret.expose_secret());
        self.username == other.username && mine.as_bytes().ct_eq(theirs.as_bytes()).into()
    }
}

impl Eq for ClientLogin {}

impl Hash for ClientLogin {
    /// The secret stays out of it: logins of one user are few.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.username.hash(state);
    }
}

/// Where an answer came from, for logs. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Scheme, host and port: `https://registry-1.docker.io`.
    pub endpoint: Arc<str>,
    /// Source and user, `config:bot`, or [`ANONYMOUS`].
    pub credential: Arc<str>,
}

/// What a HEAD of a manifest told. A registry may leave out any of it.
#[derive(Debug, Clone)]
pub struct Head {
    /// Whether the registry gave an answer: one that serves no HEAD tells nothing, not even that
    /// whoever asks may ask.
    pub answered: bool,
    pub digest: Option<Digest>,
    pub media_type: Option<MediaType>,
    pub length: Option<u64>,
    pub source: Source,
}

/// A manifest whose bytes match its digest.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub manifest: Manifest,
    pub source: Source,
}

/// A page of tags, or the referrers of a digest, as the upstream wrote it.
#[derive(Debug, Clone)]
pub struct Listing {
    pub body: Bytes,
    pub media_type: Option<MediaType>,
    /// What to ask for to get the next page, where there is one.
    pub link_next: Option<TagsQuery>,
    /// Of referrers: the filter on the artifact type is already applied.
    pub filtered: bool,
    pub source: Source,
}

/// Which page of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TagsQuery {
    pub n: Option<u32>,
    pub last: Option<String>,
    /// The cursor of registries that do not page by `last`.
    pub next_page: Option<String>,
}
