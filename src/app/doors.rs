//! The sockets that weir listens on: bound by itself, or handed over by who started it.
//!
//! What was handed over takes the place of the addresses of the configuration, for clients and for
//! the admin apart.

use super::StartError;
use crate::config::Config;
use crate::server::{Handed, Listener};

/// Sockets that listen already. Empty: weir binds what its configuration says.
#[derive(Debug, Default)]
pub struct Handover {
    pub registry: Vec<Handed>,
    pub admin: Option<Handed>,
}

/// Every socket of a weir.
pub(super) struct Doors {
    pub(super) registry: Vec<Listener>,
    pub(super) admin: Listener,
}

impl Doors {
    pub(super) fn open(config: &Config, handover: Handover) -> Result<Doors, StartError> {
        let registry: Result<Vec<_>, _> = match handover.registry {
            handed if handed.is_empty() => {
                let bound = config.server.listen.iter().map(Listener::bind);
                bound
                    .collect::<Result<_, _>>()
                    .map_err(StartError::Registry)
            }
            handed => {
                let adopted = handed.into_iter().map(Listener::adopt);
                adopted
                    .collect::<Result<_, _>>()
                    .map_err(StartError::Handed)
            }
        };
        let registry = registry?;
        let admin = match handover.admin {
            Some(handed) => Listener::adopt(handed).map_err(StartError::Handed)?,
            None => Listener::bind(&config.admin.listen).map_err(StartError::Admin)?,
        };
        Ok(Doors { registry, admin })
    }
}
