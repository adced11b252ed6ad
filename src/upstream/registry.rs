//! One configured registry: its endpoints, its connections, its tokens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::retry::budget::TpsBudget;

use super::StartError;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::granted::LIFETIME_MAX;
use super::metrics::{Metrics, RegistryMetrics};
use super::quota::QuotaState;
use super::token_service::TokenService;
use super::tokens::Tokens;
use super::transport::{Proxies, Roots, Tls, Transport};
use super::ways::Ways;
use crate::clock::Clock;
use crate::config;
use crate::oci::{Digest, RegistryName};

/// Retries that are always allowed, per second; and a share of the requests beyond that, so that a
/// registry in trouble is not asked twice as much.
const RETRIES_PER_SECOND_MIN: u32 = 10;
const RETRIES_SHARE: f32 = 0.2;
const RETRIES_COUNTED_FOR: Duration = Duration::from_secs(10);
/// Content that came wrong from an endpoint is asked for elsewhere first, for this long.
const SHUNNED_FOR: Duration = Duration::from_secs(300);
const SHUNNED_MAX: u64 = 1024;

/// One configured registry.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) config: Arc<config::Registry>,
    pub(super) limits: config::Upstream,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) transport: Transport,
    pub(super) credentials: Arc<Credentials>,
    pub(super) tokens: Tokens,
    pub(super) ways: Arc<Ways>,
    pub(super) budget: TpsBudget,
    pub(super) metrics: RegistryMetrics,
    pub(super) clock: Clock,
    shunned: moka::sync::Cache<(Arc<str>, Digest), ()>,
    chance: Mutex<fastrand::Rng>,
}

/// What all registries share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) limits: config::Upstream,
    pub(super) credentials: Arc<Credentials>,
    pub(super) roots: Arc<Roots>,
    pub(super) proxies: Arc<Proxies>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Registry {
    /// `before`: the same registry as it was configured until now; health, quotas, tokens and
    /// challenges are taken over from it.
    pub(super) fn new(
        config: &Arc<config::Registry>,
        shared: &Shared,
        before: Option<&Registry>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let metrics = shared.metrics.of(&config.name);
        let tls =
            Tls::new(Arc::clone(&shared.roots), &config.tls).map_err(|bad| StartError::Tls {
                registry: config.name.clone(),
                file: bad.file,
                why: bad.why,
            })?;
        if config.tls.insecure_skip_verify {
            tracing::warn!(
                registry = %config.name,
                "insecure_skip_verify: whoever is in between can read the credentials of this \
                 registry and change what it sends"
            );
        }
        let endpoints = config.endpoints.iter();
        let origins = endpoints.map(|endpoint| super::address::origin(&endpoint.uri));
        let tls = tls.noting(metrics.certificates(origins.collect()));
        let proxies = Arc::clone(&shared.proxies);
        let transport = Transport::new(Arc::new(tls), proxies, &shared.limits);
        let service = TokenService {
            transport: transport.clone(),
            metrics: metrics.clone(),
            listed: config.token_services.iter().cloned().collect(),
            connect_timeout: shared.limits.connect_timeout,
            header_timeout: shared.limits.header_timeout,
            clock: shared.clock,
            lifetime_max: token_lifetime_max(config),
        };
        let endpoint = |said: &config::Endpoint| {
            let mut kept = before.iter().flat_map(|before| &before.endpoints);
            match kept.find(|endpoint| endpoint.uri == said.uri) {
                Some(endpoint) => Arc::clone(endpoint),
                None => Arc::new(Endpoint::new(&said.uri, &metrics)),
            }
        };
        // Tokens of a service that is no longer allowed are worth nothing.
        let same_services = before.filter(|before| {
            before.config.token_services == config.token_services
                && before.config.auth == config.auth
        });
        let tokens = Tokens::new(
            service,
            same_services.map(|before| &before.tokens),
            shared.tasks.clone(),
            shared.stop.clone(),
        );
        let ways = before.map_or_else(|| Arc::new(Ways::new()), |before| Arc::clone(&before.ways));
        Ok(Registry {
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            tokens,
            config: Arc::clone(config),
            limits: shared.limits.clone(),
            transport,
            credentials: Arc::clone(&shared.credentials),
            ways,
            budget: TpsBudget::new(RETRIES_COUNTED_FOR, RETRIES_PER_SECOND_MIN, RETRIES_SHARE),
            metrics,
            clock: shared.clock,
            shunned: moka::sync::Cache::builder()
                .max_capacity(SHUNNED_MAX)
                .time_to_live(SHUNNED_FOR)
                .build(),
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
        })
    }

    pub(super) fn name(&self) -> &RegistryName {
        &self.config.name
    }

    /// Whether there is no endpoint but this one.
    pub(super) fn is_alone(&self) -> bool {
        self.endpoints.len() == 1
    }

    /// The endpoints in the order in which they are asked for this content.
    pub(super) fn order(&self, digest: Option<&Digest>) -> Vec<Arc<Endpoint>> {
        let mut order = self.endpoints.clone();
        if let Some(digest) = digest {
            order.sort_by_key(|endpoint| {
                let key = (Arc::clone(&endpoint.origin), *digest);
                self.shunned.contains_key(&key)
            });
        }
        order
    }

    /// What came from `origin` under this digest was wrong.
    pub(super) fn shun(&self, origin: &Arc<str>, digest: &Digest) {
        self.shunned.insert((Arc::clone(origin), *digest), ());
        if let Some(endpoint) = self.endpoints.iter().find(|e| e.origin == *origin) {
            endpoint.ill("it sent content that does not match its digest");
        }
    }

    /// Between half and all of the pause, so that those who failed together do not come together.
    pub(super) fn jittered(&self, pause: Duration) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        pause.mul_f64(0.5 + chance.f64() / 2.0)
    }

    pub(super) fn quota(&self) -> Vec<(Arc<str>, QuotaState)> {
        let now = self.clock.now();
        let known = self.endpoints.iter().map(|e| e.quota.snapshot(now));
        known.flatten().collect()
    }

    /// Whether the URL is at one of the endpoints that the config names.
    pub(super) fn is_own(&self, uri: &Uri, endpoint: &Endpoint) -> bool {
        super::address::origin(uri) == *endpoint.origin
    }
}

/// How long a token is used at most. With the clients' own logins no longer than a right is taken as
/// known: a token outlives the withdrawal of what it was granted for, and the password.
fn token_lifetime_max(config: &config::Registry) -> Duration {
    match config.auth {
        config::RegistryAuth::Stored => LIFETIME_MAX,
        config::RegistryAuth::Client => config.right_for.min(LIFETIME_MAX),
    }
}
