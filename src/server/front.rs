//! What of the configuration a request meets at the door. Without state; a reload makes a new one.

use std::collections::HashMap;
use std::sync::Arc;

use super::metrics::{Metrics, RegistryMetrics};
use crate::access::Access;
use crate::config::Config;
use crate::oci::RegistryName;
use crate::route::Routes;

pub(super) struct Front {
    pub(super) routes: Routes,
    pub(super) access: Access,
    series: HashMap<RegistryName, Arc<RegistryMetrics>>,
    pub(super) no_registry: Arc<RegistryMetrics>,
}

impl Front {
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Front {
        let names = config.registries.iter().map(|registry| &registry.name);
        Front {
            routes: Routes::new(config),
            access: Access::new(config),
            series: names
                .map(|name| (name.clone(), metrics.of(name.as_str())))
                .collect(),
            no_registry: metrics.of_no_registry(),
        }
    }

    pub(super) fn series(&self, registry: &RegistryName) -> Arc<RegistryMetrics> {
        self.series
            .get(registry)
            .unwrap_or(&self.no_registry)
            .clone()
    }
}
