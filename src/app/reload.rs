//! Taking up a changed configuration while weir runs.
//!
//! Whole or not at all: a configuration that cannot be read, or names a file that cannot be used,
//! changes nothing. Rooms without state are swapped; the store, flights and sockets stay, and the
//! keys that would need new ones are named.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::{JoinError, spawn_blocking};

use super::metrics::Metrics;
use crate::clock::Clock;
use crate::config::{Config, LoadError};
use crate::pull::Pull;
use crate::server::{self, Server};
use crate::store::Store;
use crate::upkeep;
use crate::upstream::{self, Upstream};

/// Reads the configuration again, from where it came.
pub type Loader = Box<dyn Fn() -> Result<Config, LoadError> + Send + Sync>;

/// Why a configuration is not taken up. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Server(#[from] server::Unservable),
    #[error(transparent)]
    Upstream(#[from] upstream::StartError),
    #[error("the configuration could not be taken up: {0}")]
    Broken(#[from] JoinError),
}

/// Who wants the configuration read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Somebody said so.
    Asked,
    /// The config file, or a file that it names, is another.
    Changed,
    /// It was refused the last time, and what it lacks may have come.
    Refused,
}

impl Because {
    fn as_str(self) -> &'static str {
        match self {
            Because::Asked => "it was asked for",
            Because::Changed => "a file changed",
            Because::Refused => "it was refused before",
        }
    }
}

/// What a reload changes.
pub(super) struct Rooms {
    pub(super) server: Arc<Server>,
    pub(super) pull: Arc<Pull>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) store: Arc<Store>,
    pub(super) upkeep: upkeep::Dials,
}

/// Takes up changed configurations, one at a time.
pub struct Reloader {
    load: Loader,
    rooms: Rooms,
    /// What sockets, limits and the store were made from.
    started: Config,
    current: Arc<ArcSwap<Config>>,
    metrics: Metrics,
    clock: Clock,
    /// Why the last one was refused; held while one is taken up.
    refused: Mutex<Option<String>>,
    /// Somebody who watches the files has others to watch.
    reloaded: Notify,
}

impl Reloader {
    pub(super) fn new(
        config: Config,
        load: Loader,
        rooms: Rooms,
        metrics: Metrics,
        clock: Clock,
    ) -> Arc<Reloader> {
        metrics.reloaded(&config, clock.now());
        Arc::new(Reloader {
            load,
            rooms,
            current: Arc::new(ArcSwap::from_pointee(config.clone())),
            started: config,
            metrics,
            clock,
            refused: Mutex::default(),
            reloaded: Notify::new(),
        })
    }

    /// What is in force.
    pub fn config(&self) -> Arc<Config> {
        self.current.load_full()
    }

    pub(super) fn current(&self) -> Arc<ArcSwap<Config>> {
        Arc::clone(&self.current)
    }

    pub(super) fn is_refused(&self) -> bool {
        let refused = self.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until a configuration was taken up.
    pub(super) async fn reloaded(&self) {
        self.reloaded.notified().await;
    }

    /// Takes up what the configuration says now. Gives the changed keys that need a restart.
    pub async fn reload(
        self: &Arc<Self>,
        because: Because,
    ) -> Result<Vec<&'static str>, ReloadError> {
        let reloader = Arc::clone(self);
        spawn_blocking(move || reloader.take_up(because)).await?
    }

    fn take_up(&self, because: Because) -> Result<Vec<&'static str>, ReloadError> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match self.try_to_take_up() {
            Ok(needs_restart) => {
                *refused = None;
                self.reloaded.notify_one();
                self.say_what_applies(because, &needs_restart);
                Ok(needs_restart)
            }
            Err(error) => {
                let why = error.to_string().replace('\n', "; ");
                // What is tried again by itself and fails alike has been said.
                if because != Because::Refused || refused.as_deref() != Some(&why) {
                    self.metrics.refused();
                    let because = because.as_str();
                    tracing::error!(
                        because,
                        why,
                        "the configuration is refused; the one before it stays"
                    );
                }
                *refused = Some(why);
                Err(error)
            }
        }
    }

    fn try_to_take_up(&self) -> Result<Vec<&'static str>, ReloadError> {
        let config = (self.load)()?;
        // First what can be refused; the last of it changes nothing when it is.
        let prepared = self.rooms.server.prepare(&config)?;
        self.rooms.upstream.reload(&config)?;
        self.rooms.server.reload(prepared);
        self.rooms.pull.reload(&config);
        self.rooms.store.set_limits(&config.cache);
        self.rooms.upkeep.turn(&config.cache);
        self.metrics.reloaded(&config, self.clock.now());
        let needs_restart = needs_restart(&self.started, &config);
        self.current.store(Arc::new(config));
        Ok(needs_restart)
    }

    fn say_what_applies(&self, because: Because, needs_restart: &[&str]) {
        let because = because.as_str();
        tracing::info!(because, "configuration reloaded");
        for warning in &self.config().warnings {
            tracing::warn!("{warning}");
        }
        if !needs_restart.is_empty() {
            tracing::warn!(
                keys = needs_restart.join(", "),
                "changed keys that need a restart are not in force yet"
            );
        }
    }
}

/// The keys that differ from what weir was started with and are read only then.
fn needs_restart(started: &Config, config: &Config) -> Vec<&'static str> {
    let (server, cache) = (&config.server, &config.cache);
    let keys = [
        ("server.listen", started.server.listen != server.listen),
        (
            "server.tls",
            started.server.tls.is_some() != server.tls.is_some(),
        ),
        (
            "server.connections_max",
            started.server.connections_max != server.connections_max,
        ),
        ("admin.listen", started.admin.listen != config.admin.listen),
        (
            "cache.directory",
            started.cache.directory != cache.directory,
        ),
    ];
    let changed = keys.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    #[test]
    fn keys_that_need_a_restart_are_named_and_no_others() {
        let config = |text| load_str(text, &[]).unwrap();
        let started = config("");
        let same = config(
            "[tags]\nfresh_for = \"2m\"\n[cache]\nmax_size = \"1GiB\"\nflights_max = 3\n[server]\ndrain_timeout = \"1s\"",
        );
        assert_eq!(needs_restart(&started, &same), [""; 0]);
        let other = config(
            "[server]\nlisten = \"127.0.0.1:7000\"\nconnections_max = 3\n[cache]\ndirectory = \"/elsewhere\"",
        );
        assert_eq!(
            needs_restart(&started, &other),
            ["server.listen", "server.connections_max", "cache.directory"]
        );
    }
}
