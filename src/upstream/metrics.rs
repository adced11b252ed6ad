//! What this room counts.
//!
//! Labels come from closed sets: configured registries and endpoints, accounts by the name of their
//! credential. Everything of a registry is touched when the registry is set up, so that a scrape
//! shows zeros rather than nothing; only quotas stay absent until a registry states one.

use http::{Method, StatusCode};
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::breaker::State;
use super::error::Limit;
use crate::oci::RegistryName;

const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const STATUSES: [&str; 7] = ["2xx", "3xx", "4xx", "401", "404", "429", "5xx"];
/// There was no answer.
const NO_STATUS: &str = "none";
const LIMITS: [&str; 2] = ["quota", "abuse"];

/// How a request for a token ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum TokenResult {
    Granted,
    Refused,
    Failed,
}

impl TokenResult {
    const ALL: [TokenResult; 3] = [Self::Granted, Self::Refused, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            TokenResult::Granted => "granted",
            TokenResult::Refused => "refused",
            TokenResult::Failed => "failed",
        }
    }
}

/// The metrics of this room.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    bytes: IntCounterVec,
    tokens: IntCounterVec,
    limited: IntCounterVec,
    breaker: IntGaugeVec,
    resumed: IntCounterVec,
    pulls_counted: IntCounterVec,
    auth_failures: IntCounterVec,
    rate_limit_total: GaugeVec,
    rate_limit_remaining: GaugeVec,
    hub_remaining: GaugeVec,
    certificates: GaugeVec,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels);
            register(registry, made.expect("name and labels are well formed"))
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = GaugeVec::new(Opts::new(name, help), labels);
            register(registry, made.expect("name and labels are well formed"))
        };
        let breaker = Opts::new(
            "weir_upstream_breaker_state",
            "Whether an endpoint is asked: 0 yes, 1 by one probe, 2 no",
        );
        let breaker = IntGaugeVec::new(breaker, &["registry", "endpoint"]);
        Metrics {
            requests: counter(
                "weir_upstream_requests_total",
                "Requests to registries, their token services and the hosts they redirect to",
                &["registry", "method", "status"],
            ),
            bytes: counter(
                "weir_upstream_bytes_total",
                "Bytes of manifests and blobs received from upstreams",
                &["registry"],
            ),
            tokens: counter(
                "weir_upstream_token_requests_total",
                "Requests for tokens by how they ended",
                &["registry", "result"],
            ),
            limited: counter(
                "weir_upstream_rate_limited_total",
                "Answers with status 429 by what they were about",
                &["registry", "kind"],
            ),
            breaker: register(registry, breaker.expect("name and labels are well formed")),
            resumed: counter(
                "weir_upstream_resumed_total",
                "Transfers that broke and were taken up again",
                &["registry"],
            ),
            pulls_counted: counter(
                "weir_pulls_counted_total",
                "Requests that registries count as pulls",
                &["registry"],
            ),
            certificates: crate::metrics::certificate_expiry(
                registry,
                crate::metrics::CertificateRole::Upstream,
            ),
            auth_failures: crate::metrics::auth_failures(registry, crate::metrics::Side::Upstream),
            rate_limit_total: gauge(
                "rate_limit_total",
                "Pulls that the upstream allows in its window; absent while it states no limit",
                &["registry", "account"],
            ),
            rate_limit_remaining: gauge(
                "rate_limit_remaining",
                "Pulls left in the window; absent while the upstream states no limit",
                &["registry", "account"],
            ),
            hub_remaining: gauge(
                "docker_hub_rate_limit_remaining",
                "Pulls left at Docker Hub, the lowest over accounts; absent while unlimited",
                &[],
            ),
        }
    }

    /// Everything of one registry, touched.
    pub(super) fn of(&self, registry: &RegistryName) -> RegistryMetrics {
        let name = registry.as_str();
        for method in METHODS {
            for status in STATUSES.into_iter().chain([NO_STATUS]) {
                self.requests.with_label_values(&[name, method, status]);
            }
        }
        for result in TokenResult::ALL {
            self.tokens.with_label_values(&[name, result.as_str()]);
        }
        for kind in LIMITS {
            self.limited.with_label_values(&[name, kind]);
        }
        RegistryMetrics {
            registry: registry.clone(),
            bytes: self.bytes.with_label_values(&[name]),
            resumed: self.resumed.with_label_values(&[name]),
            pulls_counted: self.pulls_counted.with_label_values(&[name]),
            auth_failures: self.auth_failures.with_label_values(&[name]),
            all: self.clone(),
        }
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: C) -> C {
    registry
        .register(Box::new(made.clone()))
        .expect("each name is registered once");
    made
}

/// The metrics of one registry.
#[derive(Debug, Clone)]
pub(super) struct RegistryMetrics {
    registry: RegistryName,
    pub(super) bytes: IntCounter,
    pub(super) resumed: IntCounter,
    pub(super) pulls_counted: IntCounter,
    pub(super) auth_failures: IntCounter,
    all: Metrics,
}

impl RegistryMetrics {
    pub(super) fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// One request went out; `None`: no answer came.
    pub(super) fn request(&self, method: &Method, status: Option<StatusCode>) {
        let status = match status.map(|status| status.as_u16()) {
            None => NO_STATUS,
            Some(401) => "401",
            Some(404) => "404",
            Some(429) => "429",
            Some(100..300) => "2xx",
            Some(300..400) => "3xx",
            Some(400..500) => "4xx",
            Some(_) => "5xx",
        };
        let labels = [self.registry.as_str(), method.as_str(), status];
        self.all.requests.with_label_values(&labels).inc();
    }

    pub(super) fn token(&self, result: TokenResult) {
        let labels = [self.registry.as_str(), result.as_str()];
        self.all.tokens.with_label_values(&labels).inc();
    }

    pub(super) fn rate_limited(&self, limit: Limit) {
        let kind = match limit {
            Limit::Quota => "quota",
            Limit::Abuse => "abuse",
        };
        let labels = [self.registry.as_str(), kind];
        self.all.limited.with_label_values(&labels).inc();
    }

    /// The certificates that these endpoints show will be noted.
    pub(super) fn certificates(&self, endpoints: Vec<String>) -> Certificates {
        Certificates {
            gauges: Some(self.all.certificates.clone()),
            endpoints,
        }
    }

    pub(super) fn breaker(&self, endpoint: &str) -> BreakerGauge {
        let labels = [self.registry.as_str(), endpoint];
        BreakerGauge(self.all.breaker.with_label_values(&labels))
    }

    /// The limit and what remains of it, or that there is no limit.
    pub(super) fn quota(&self, account: &str, quota: Option<(u64, u64)>) {
        let labels = [self.registry.as_str(), account];
        let (total, remaining) = (&self.all.rate_limit_total, &self.all.rate_limit_remaining);
        match quota {
            Some((limit, left)) => {
                total.with_label_values(&labels).set(limit as f64);
                remaining.with_label_values(&labels).set(left as f64);
            }
            // An error says only that there was nothing to remove.
            None => {
                let _ = total.remove_label_values(&labels);
                let _ = remaining.remove_label_values(&labels);
            }
        }
    }

    /// The lowest remainder of all accounts of this registry.
    pub(super) fn quota_lowest(&self, lowest: Option<u64>) {
        if !self.registry.is_docker_hub() {
            return;
        }
        match lowest {
            Some(lowest) => {
                let gauge = self.all.hub_remaining.with_label_values::<&str>(&[]);
                gauge.set(lowest as f64);
            }
            None => self.all.hub_remaining.reset(),
        }
    }
}

/// Shows when the certificates of configured endpoints expire; what an endpoint redirects to is not
/// among them.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    gauges: Option<GaugeVec>,
    endpoints: Vec<String>,
}

impl Certificates {
    /// `origin` showed this certificate.
    pub(super) fn shown(&self, origin: &str, certificate: &[u8]) {
        let (Some(gauges), true) = (&self.gauges, self.endpoints.iter().any(|e| e == origin))
        else {
            return;
        };
        if let Some(expiry) = crate::metrics::expiry_of(certificate) {
            gauges.with_label_values(&[origin]).set(expiry as f64);
        }
    }
}

/// Shows one endpoint's breaker.
#[derive(Debug, Clone)]
pub(super) struct BreakerGauge(IntGauge);

impl BreakerGauge {
    pub(super) fn show(&self, state: State) {
        self.0.set(match state {
            State::Closed => 0,
            State::Probing => 1,
            State::Open => 2,
        });
    }
}
