//! What the front door counts.
//!
//! On the way of a request nothing is looked up by label: each registry's handles are resolved once
//! and kept.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::metrics::{
    self, Kind, NO_REGISTRY, Outcome, PullStatus, REQUEST_SECONDS_BUCKETS, Side, seconds,
};

#[derive(Debug)]
pub struct Metrics {
    pulls: IntCounterVec,
    durations: HistogramVec,
    requests: IntCounterVec,
    bytes: IntCounterVec,
    responses: IntCounterVec,
    /// Of [`STATUS_CODES`], in their order.
    responses_known: Vec<IntCounter>,
    auth_failures: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounter,
    pub(super) connections_let_go: IntCounter,
    pub(super) handshakes_failed: IntCounter,
    pub(super) bodies_cut: IntCounter,
    pub(super) panics: IntCounter,
}

/// The status codes that weir answers with; anything else is counted as `other`.
const STATUS_CODES: [&str; 17] = [
    "200", "206", "304", "400", "401", "403", "404", "405", "414", "416", "429", "431", "499",
    "500", "502", "503", "504",
];

impl Metrics {
    pub fn new(registry: &Registry) -> Metrics {
        let responses = metrics::counters(
            registry,
            "weir_client_responses_total",
            "Answers to clients by status code; 499: the client left before there was one.",
            &["status"],
        );
        let known = STATUS_CODES.iter();
        let responses_known = known.map(|status| responses.with_label_values(&[status]));
        Metrics {
            pulls: metrics::counters(
                registry,
                "container_registry_pulls_total",
                "Manifest GETs of clients that were answered, by registry and status.",
                &["registry", "status"],
            ),
            durations: metrics::histograms(
                registry,
                "registry_request_duration_seconds",
                "Time from a client's request to the end of the answer's body.",
                &REQUEST_SECONDS_BUCKETS,
                &["registry", "kind", "result"],
            ),
            requests: metrics::counters(
                registry,
                "weir_cache_requests_total",
                "Requests of clients by what they asked for and where the answer came from.",
                &["registry", "kind", "result"],
            ),
            bytes: metrics::counters(
                registry,
                "weir_client_bytes_total",
                "Bytes of bodies sent to clients.",
                &["registry", "kind", "result"],
            ),
            responses_known: responses_known.collect(),
            responses,
            auth_failures: metrics::auth_failures(registry, Side::Client),
            connections: metrics::gauge(
                registry,
                "weir_client_connections",
                "Open connections of clients.",
            ),
            connections_refused: metrics::counter(
                registry,
                "weir_client_connections_refused_total",
                "Connections closed at once because there were too many.",
            ),
            connections_let_go: metrics::counter(
                registry,
                "weir_client_connections_let_go_total",
                "Quiet connections closed because others needed their place.",
            ),
            handshakes_failed: metrics::counter(
                registry,
                "weir_client_tls_failures_total",
                "TLS handshakes of clients that failed or took too long.",
            ),
            bodies_cut: metrics::counter(
                registry,
                "weir_client_bodies_cut_total",
                "Bodies that weir had to cut because the rest could not be had.",
            ),
            panics: metrics::counter(
                registry,
                "weir_request_panics_total",
                "Requests that ended in a panic: a bug each.",
            ),
        }
    }

    /// The series of one registry, touched so that a scrape shows them from the start.
    pub(super) fn of(&self, registry: &str) -> Arc<RegistryMetrics> {
        let pulls = PullStatus::ALL
            .iter()
            .map(|status| self.pulls.with_label_values(&[registry, status.as_str()]));
        let none = || Kind::ALL.iter().map(|_| Default::default()).collect();
        Arc::new(RegistryMetrics {
            registry: registry.to_owned(),
            pulls: pulls.collect(),
            auth_failures: self.auth_failures.with_label_values(&[registry]),
            series: none(),
            durations: self.durations.clone(),
            requests: self.requests.clone(),
            bytes: self.bytes.clone(),
        })
    }

    /// The series of requests that concern no configured registry.
    pub(super) fn of_no_registry(&self) -> Arc<RegistryMetrics> {
        let series = self.of(NO_REGISTRY);
        series.series(Kind::Ping, Outcome::Hit);
        series
    }

    pub(super) fn responded(&self, status: Option<StatusCode>) {
        let code = status.as_ref().map_or("499", StatusCode::as_str);
        match STATUS_CODES.iter().position(|known| *known == code) {
            Some(known) => self.responses_known[known].inc(),
            None => self.responses.with_label_values(&["other"]).inc(),
        }
    }
}

/// The handles of one registry.
#[derive(Debug)]
pub(super) struct RegistryMetrics {
    registry: String,
    pulls: Vec<IntCounter>,
    auth_failures: IntCounter,
    /// By kind and outcome, resolved when they are first needed.
    series: Vec<[OnceLock<Series>; Outcome::ALL.len()]>,
    durations: HistogramVec,
    requests: IntCounterVec,
    bytes: IntCounterVec,
}

#[derive(Debug)]
struct Series {
    duration: Histogram,
    requests: IntCounter,
    bytes: IntCounter,
}

impl RegistryMetrics {
    pub(super) fn pulled(&self, status: PullStatus) {
        self.pulls[status as usize].inc();
    }

    pub(super) fn client_refused(&self) {
        self.auth_failures.inc();
    }

    pub(super) fn answered(&self, kind: Kind, outcome: Outcome, took: Duration, bytes: u64) {
        let series = self.series(kind, outcome);
        series.duration.observe(seconds(took));
        series.requests.inc();
        series.bytes.inc_by(bytes);
    }

    fn series(&self, kind: Kind, outcome: Outcome) -> &Series {
        self.series[kind as usize][outcome as usize].get_or_init(|| {
            let labels = [self.registry.as_str(), kind.as_str(), outcome.as_str()];
            Series {
                duration: self.durations.with_label_values(&labels),
                requests: self.requests.with_label_values(&labels),
                bytes: self.bytes.with_label_values(&labels),
            }
        })
    }
}
