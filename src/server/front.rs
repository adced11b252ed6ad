//! What of the configuration a request meets at the door. Without state; a reload makes a new one.

use std::collections::HashMap;
use std::sync::Arc;

use super::metrics::{Metrics, RegistryMetrics};
use crate::access::{Access, InvalidPasswords, Keys};
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
    pub(super) fn new(
        config: &Config,
        keys: Keys,
        metrics: &Metrics,
    ) -> Result<Front, InvalidPasswords> {
        let names = config.registries.iter().map(|registry| &registry.name);
        Ok(Front {
            routes: Routes::new(config),
            access: Access::new(config, keys)?,
            series: names
                .map(|name| (name.clone(), metrics.of(name.as_str())))
                .collect(),
            no_registry: metrics.of_no_registry(),
        })
    }

    pub(super) fn series(&self, registry: &RegistryName) -> Arc<RegistryMetrics> {
        self.series
            .get(registry)
            .unwrap_or(&self.no_registry)
            .clone()
    }
}
