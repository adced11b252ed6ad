//! What the heart counts: flights and those who wait on them, pulls saved, content not stored.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

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
