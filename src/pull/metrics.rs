//! What the heart counts: flights and those who wait on them, pulls saved, content not stored,
//! rights looked for.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::Error;
use crate::upstream::ErrorKind;

#[derive(Clone)]
pub struct Metrics {
    pub(super) flights: IntGauge,
    pub(super) followers: IntGauge,
    pub(super) landed: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) parked: IntCounter,
    pub(super) refused_busy: IntCounter,
    pub(super) uncached: IntCounter,
    pub(super) not_stored: IntCounter,
    pub(super) pulls_saved: IntCounter,
    pub(super) rights: Rights,
}

/// What became of looking for a client's right, before something cached was given to it.
#[derive(Clone)]
pub(super) struct Rights {
    pub(super) known: IntCounter,
    pub(super) granted: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) held: IntCounter,
    missing: IntCounter,
    failed: IntCounter,
}

impl Rights {
    fn new(registry: &Registry) -> Self {
        let rights = IntCounterVec::new(
            Opts::new(
                "weir_rights_total",
                "Looks at the right of a client, where the registry decides it, by result.",
            ),
            &["result"],
        )
        .expect("the name and label are valid");
        register(registry, &rights);
        let of = |result: &str| rights.with_label_values(&[result]);
        Rights {
            known: of("known"),
            granted: of("granted"),
            refused: of("refused"),
            held: of("held"),
            missing: of("missing"),
            failed: of("failed"),
        }
    }

    /// Counts what a right that was asked for was not granted for.
    pub(super) fn failed(&self, error: &Error) {
        let counter = match error.of_upstream().map(|error| &error.kind) {
            Some(ErrorKind::Refused { .. }) => &self.refused,
            Some(ErrorKind::NotFound) => &self.missing,
            Some(ErrorKind::RateLimited { .. } | ErrorKind::Away(_) | ErrorKind::Wrong(_))
            | None => &self.failed,
        };
        counter.inc();
    }
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let fills = IntCounterVec::new(
            Opts::new(
                "weir_fills_total",
                "Transfers of blobs from upstreams, by how they ended.",
            ),
            &["result"],
        )
        .expect("the name and label are valid");
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            register(registry, &gauge);
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            register(registry, &counter);
            counter
        };
        register(registry, &fills);
        Metrics {
            rights: Rights::new(registry),
            flights: gauge(
                "weir_flights",
                "Transfers of blobs from upstreams under way.",
            ),
            followers: gauge("weir_flight_followers", "Clients that read a growing blob."),
            landed: fills.with_label_values(&["landed"]),
            failed: fills.with_label_values(&["failed"]),
            parked: fills.with_label_values(&["parked"]),
            refused_busy: counter(
                "weir_flights_refused_total",
                "Requests refused because cache.flights_max transfers were under way.",
            ),
            uncached: counter(
                "weir_uncached_transfers_total",
                "Blobs streamed through because the cache had no room or could not be used.",
            ),
            not_stored: counter(
                "weir_manifests_not_stored_total",
                "Manifests that were served but could not be put into the cache.",
            ),
            pulls_saved: counter(
                "weir_pulls_saved_total",
                "Manifest GETs answered without a GET of a manifest upstream.",
            ),
        }
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: &C) {
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once");
}
