//! What is counted, and the text that Prometheus reads.
//!
//! Each room has its own `Metrics`, registered at the composition root; here is what they share:
//! the closed sets of label values and the making of a metric. A label never holds a name, path or
//! client that somebody outside chose.

mod certificate;
mod openmetrics;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use certificate::{CertificateRole, certificate_expiry, expiry_of};

/// The label value where a request concerns no configured registry.
pub const NO_REGISTRY: &str = "none";

/// From a manifest out of memory to a big layer over a slow line.
pub const REQUEST_SECONDS_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 180.0,
    600.0,
];

/// A closed set of label values.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
    };
}

label! {
    /// What a client asked for.
    Kind {
        Manifest = "manifest",
        Blob = "blob",
        Tags = "tags",
        Referrers = "referrers",
        Ping = "ping",
    }
}

label! {
    /// Where the answer came from.
    Outcome {
        Hit = "hit",
        Stale = "stale",
        Miss = "miss",
        Joined = "joined",
        Error = "error",
    }
}

label! {
    /// How a pull, a client's GET of a manifest, ended.
    PullStatus {
        Success = "success",
        NotFound = "not_found",
        Denied = "denied",
        RateLimited = "rate_limited",
        Error = "error",
    }
}

label! {
    /// Who was turned away: a client by weir, or weir by an upstream.
    Side { Client = "client", Upstream = "upstream" }
}

pub fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

pub fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

pub fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A gauge of something that is no whole number, such as a point in time or a ratio.
pub fn float_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    register(registry, Gauge::new(name, help))
}

pub fn float_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), labels))
}

pub fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels))
}

/// `container_registry_auth_failures_total`, one half of it: two rooms share the name.
pub fn auth_failures(registry: &Registry, side: Side) -> IntCounterVec {
    let options = Opts::new(
        "container_registry_auth_failures_total",
        "Credentials that were refused, by registry and side.",
    );
    let options = options.const_label("side", side.as_str());
    register(registry, IntCounterVec::new(options, &["registry"]))
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("names, labels and buckets are constants that fit");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once");
    metric
}

/// Seconds, as every duration is counted.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A scrape: content type and text, in the format that `accept` asks for.
pub fn scrape(registry: &Registry, accept: Option<&str>) -> (&'static str, String) {
    let families = registry.gather();
    if openmetrics::is_asked_for(accept) {
        return (openmetrics::CONTENT_TYPE, openmetrics::encode(&families));
    }
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families, &mut text)
        .expect("a Vec takes any text, and every family has a metric");
    let text = String::from_utf8(text).expect("the encoder writes UTF-8");
    (TEXT_CONTENT_TYPE, text)
}

const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_halves_of_a_shared_name_are_one_family() {
        let registry = Registry::new();
        for side in Side::ALL {
            auth_failures(&registry, *side)
                .with_label_values(&["docker.io"])
                .inc();
        }
        let (content_type, text) = scrape(&registry, None);
        assert_eq!(content_type, TEXT_CONTENT_TYPE);
        assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
        for side in ["client", "upstream"] {
            let line = format!(
                "container_registry_auth_failures_total{{registry=\"docker.io\",side=\"{side}\"}} 1"
            );
            assert!(text.contains(&line), "{text}");
        }
    }
}
