//! What the composition root counts: reloads, and when the certificates of the configuration expire.

use std::path::Path;

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, Registry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::metrics;

const OK: &str = "ok";
const REFUSED: &str = "refused";

#[derive(Debug)]
pub(super) struct Metrics {
    reloads: IntCounterVec,
    successful: IntGauge,
    last_success: Gauge,
    certificates: GaugeVec,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let metrics = Metrics {
            reloads: metrics::counters(
                registry,
                "weir_config_reloads_total",
                "Configurations that were read again, by what became of them.",
                &["result"],
            ),
            successful: metrics::gauge(
                registry,
                "weir_config_last_reload_successful",
                "Whether the configuration as it is written now is in force: 1 yes, 0 it was refused.",
            ),
            last_success: metrics::float_gauge(
                registry,
                "weir_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was taken up.",
            ),
            certificates: metrics::certificate_expiry(registry, metrics::CertificateRole::Own),
        };
        for result in [OK, REFUSED] {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics
    }

    /// A configuration is in force; the one that weir starts with is no reload.
    pub(super) fn reloaded(&self, config: &Config, at: Timestamp) {
        if self.last_success.get() > 0.0 {
            self.reloads.with_label_values(&[OK]).inc();
        }
        self.successful.set(1);
        self.last_success.set(at.0 as f64 / 1000.0);
        self.show_certificates(config);
    }

    pub(super) fn refused(&self) {
        self.reloads.with_label_values(&[REFUSED]).inc();
        self.successful.set(0);
    }

    fn show_certificates(&self, config: &Config) {
        self.certificates.reset();
        let own = config
            .server
            .tls
            .iter()
            .map(|tls| ("server", &tls.certificate));
        let clients = config.registries.iter().filter_map(|registry| {
            let file = registry.tls.client_certificate.as_ref()?;
            Some((registry.name.as_str(), file))
        });
        for (name, file) in own.chain(clients) {
            if let Some(expiry) = first_expiry(file) {
                let gauge = self.certificates.with_label_values(&[name]);
                gauge.set(expiry as f64);
            }
        }
    }
}

/// Of the certificates in a file, when the first of them expires.
fn first_expiry(file: &Path) -> Option<i64> {
    let certificates = CertificateDer::pem_file_iter(file).ok()?;
    let expiries = certificates
        .filter_map(Result::ok)
        .filter_map(|certificate| metrics::expiry_of(&certificate));
    expiries.min()
}
