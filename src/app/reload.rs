//! A changed configuration is taken up without a restart, whole or not at all.
//!
//! Everything that can be wrong is read before anything changes; a bad file leaves the old
//! configuration in place, says why, and shows in the metrics. Sockets, the store and what is under
//! way stay as they are.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, LoadError};
use crate::metrics;
use crate::pull::Pull;
use crate::server::{self, Server};
use crate::store::Store;
use crate::upstream::{self, Upstream};

/// How often the files are looked at. A change counts when they look the same twice, because a
/// certificate and its key are not replaced at one moment.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The rooms that take up a configuration.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) server: Arc<Server>,
    pub(super) pull: Arc<Pull>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) store: Arc<Store>,
}

/// Takes up changed configurations, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    rooms: Rooms,
    current: Arc<Mutex<Config>>,
    metrics: Metrics,
}

/// Why a configuration was not taken up.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Server(#[from] server::Unservable),
    #[error(transparent)]
    Upstream(#[from] upstream::StartError),
    #[error("the reload ended before its time: {0}")]
    Ended(#[from] JoinError),
}

#[derive(Debug, Clone)]
struct Metrics {
    succeeded: IntCounter,
    failed: IntCounter,
    last_succeeded: IntGauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Metrics {
        let reloads = metrics::counters(
            registry,
            "weir_config_reloads_total",
            "Reloads of the configuration, by how they ended.",
            &["result"],
        );
        let last_succeeded = metrics::gauge(
            registry,
            "weir_config_last_reload_successful",
            "1 when the last reload was taken up, 0 when the old configuration stayed.",
        );
        last_succeeded.set(1);
        Metrics {
            succeeded: reloads.with_label_values(&["success"]),
            failed: reloads.with_label_values(&["error"]),
            last_succeeded,
        }
    }
}

impl Reloader {
    pub(super) fn new(rooms: Rooms, config: Config, registry: &Registry) -> Reloader {
        Reloader {
            rooms,
            current: Arc::new(Mutex::new(config)),
            metrics: Metrics::new(registry),
        }
    }

    /// Reads the configuration again, and every file that it names, and takes it up.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let taken_up = self.take_up().await;
        match &taken_up {
            Ok(()) => self.metrics.succeeded.inc(),
            Err(error) => {
                self.metrics.failed.inc();
                tracing::error!("the old configuration stays: {error}");
            }
        }
        self.metrics.last_succeeded.set(taken_up.is_ok().into());
        taken_up
    }

    async fn take_up(&self) -> Result<(), ReloadError> {
        let mut current = self.current.lock().await;
        let (rooms, before) = (self.rooms.clone(), current.clone());
        let reading = spawn_blocking(move || {
            let next = read_again(&before)?;
            let prepared = rooms.server.prepare(&next)?;
            // The last that can fail, and it changes nothing when it does.
            rooms.upstream.reload(&next)?;
            rooms.server.reload(prepared);
            rooms.pull.reload(&next);
            rooms.store.set_limits(&next.cache);
            Ok::<_, ReloadError>(next)
        });
        let next = reading.await??;
        for warning in &next.warnings {
            tracing::warn!("{warning}");
        }
        let left = needs_restart(&current, &next);
        if left.is_empty() {
            tracing::info!("configuration reloaded");
        } else {
            let keys = left.join(", ");
            tracing::warn!("configuration reloaded; these keys need a restart: {keys}");
        }
        *current = next;
        Ok(())
    }

    /// Reloads whenever one of the files changes, until `stop`.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut seen = self.look().await;
        let mut settled = seen.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let now = self.look().await;
            if now == seen && now != settled {
                // Whether it is good or not: it is not tried again before it changes again. A
                // failure has said why.
                let _ = self.reload().await;
                let after = self.look().await;
                // What changed while it was read shall be read again; files that are named since
                // then have just been read.
                settled = if is_about_the_same(&now, &after) {
                    now
                } else {
                    after
                };
            } else {
                seen = now;
            }
        }
    }

    async fn look(&self) -> Seen {
        let files = self.current.lock().await.files.clone();
        let looking = spawn_blocking(|| {
            let stamped = files.into_iter().map(|file| {
                let stamp = Stamp::of(&file);
                (file, stamp)
            });
            stamped.collect()
        });
        looking.await.unwrap_or_default()
    }
}

/// Each file and how it looks.
type Seen = Vec<(PathBuf, Option<Stamp>)>;

fn is_about_the_same(one: &Seen, other: &Seen) -> bool {
    one.iter()
        .map(|(file, _)| file)
        .eq(other.iter().map(|(file, _)| file))
}

/// What changes when a file does, behind symbolic links, as Kubernetes swaps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None`: there is no such file now.
    fn of(file: &std::path::Path) -> Option<Stamp> {
        let meta = std::fs::metadata(file).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// A configuration that came from no file is the same again; only the files that it names may differ.
fn read_again(before: &Config) -> Result<Config, LoadError> {
    let Some(file) = &before.file else {
        return Ok(before.clone());
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    config::load(Some(file), variables)
}

/// The changed keys that were read when weir started and are not read again.
fn needs_restart(before: &Config, next: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.server, &next.server);
    let (old_cache, new_cache) = (&before.cache, &next.cache);
    let keys = [
        ("server.listen", old.listen != new.listen),
        ("server.tls", old.tls.is_some() != new.tls.is_some()),
        (
            "server.drain_timeout",
            old.drain_timeout != new.drain_timeout,
        ),
        (
            "server.connections_max",
            old.connections_max != new.connections_max,
        ),
        (
            "server.header_timeout",
            old.header_timeout != new.header_timeout,
        ),
        ("server.send_timeout", old.send_timeout != new.send_timeout),
        ("admin.listen", before.admin.listen != next.admin.listen),
        (
            "cache.directory",
            old_cache.directory != new_cache.directory,
        ),
        ("cache.max_age", old_cache.max_age != new_cache.max_age),
        (
            "cache.scrub_rate",
            old_cache.scrub_rate != new_cache.scrub_rate,
        ),
        (
            "cache.flights_max",
            old_cache.flights_max != new_cache.flights_max,
        ),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_keys_that_are_read_once_need_a_restart() {
        let config = |text| config::load_str(text, &[]).expect("it is right");
        let before = config("");
        assert!(needs_restart(&before, &before).is_empty());
        let next = config(
            "[server]\nlisten = \"127.0.0.1:5009\"\n[cache]\nscrub_rate = \"1MiB\"\n\
             [tags]\nfresh_for = \"5m\"",
        );
        assert_eq!(
            needs_restart(&before, &next),
            ["server.listen", "cache.scrub_rate"]
        );
    }
}
