//! One endpoint of a registry: where it is, and how it fares.

use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;

use super::address;
use super::breaker::{Breaker, Shut};
use super::metrics::{BreakerGauge, RegistryMetrics};
use super::query::Query;
use super::quota::Quota;
use crate::oci::Repository;

/// One endpoint of a registry.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    /// Scheme, host and port.
    pub(super) origin: Arc<str>,
    /// Put before every repository; empty or ending with a slash.
    prefix: String,
    pub(super) quota: Quota,
    breaker: Breaker,
    gauge: BreakerGauge,
}

impl Endpoint {
    pub(super) fn new(uri: &Uri, metrics: &RegistryMetrics) -> Self {
        let origin: Arc<str> = address::origin(uri).into();
        Endpoint {
            uri: uri.clone(),
            prefix: prefix(uri.path()),
            quota: Quota::new(metrics.clone()),
            breaker: Breaker::default(),
            gauge: metrics.breaker(&origin),
            origin,
        }
    }

    /// The repository as this endpoint calls it.
    pub(super) fn repository(&self, repository: &Repository) -> String {
        format!("{}{repository}", self.prefix)
    }

    /// `what` is a path within the repository, such as `manifests/latest`.
    pub(super) fn url(&self, repository: &Repository, what: &str, query: Query) -> Uri {
        let path = format!("/v2/{}{repository}/{what}", self.prefix);
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        let uri = Uri::from_parts(parts).expect("names and references are fit for a path");
        query.onto(&uri)
    }

    /// Where every registry says whether it is one, and how to get in.
    pub(super) fn ping(&self) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("/v2/"));
        Uri::from_parts(parts).expect("an endpoint has scheme and host")
    }

    pub(super) fn enter(&self) -> Result<(), Shut> {
        let entered = self.breaker.enter();
        self.show();
        entered
    }

    pub(super) fn well(&self) {
        self.breaker.well();
        self.show();
    }

    pub(super) fn ill(&self, because: &str) {
        self.breaker.ill(because);
        self.show();
    }

    pub(super) fn leave(&self) {
        self.breaker.leave();
        self.show();
    }

    pub(super) fn state(&self) -> super::breaker::State {
        self.breaker.state()
    }

    fn show(&self) {
        self.gauge.show(self.breaker.state());
    }
}

/// A path that begins with `/v2`, as other programs want it written, means the same.
fn prefix(path: &str) -> String {
    let path = path.trim_matches('/');
    let path = match path.strip_prefix("v2") {
        Some("") => "",
        Some(rest) => rest.strip_prefix('/').unwrap_or(path),
        None => path,
    };
    match path {
        "" => String::new(),
        path => format!("{path}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_before_the_repository() {
        let registry = prometheus::Registry::new();
        let metrics = super::super::Metrics::new(&registry).of(&"r.example".parse().unwrap());
        for (endpoint, expected) in [
            ("https://r.example", "https://r.example/v2/a/b/tags/list"),
            ("https://r.example/", "https://r.example/v2/a/b/tags/list"),
            (
                "https://r.example/v2/",
                "https://r.example/v2/a/b/tags/list",
            ),
            (
                "https://r.example:8443/hub",
                "https://r.example:8443/v2/hub/a/b/tags/list",
            ),
            (
                "http://r.example/v2/hub/x/",
                "http://r.example/v2/hub/x/a/b/tags/list",
            ),
            (
                "http://r.example/v2x",
                "http://r.example/v2/v2x/a/b/tags/list",
            ),
        ] {
            let endpoint = Endpoint::new(&endpoint.parse().unwrap(), &metrics);
            let url = endpoint.url(&"a/b".parse().unwrap(), "tags/list", Query::default());
            assert_eq!(url.to_string(), expected);
        }
    }
}
