//! Everything is put together here, runs, and is drained.
//!
//! Sockets are bound before anything else; nothing here waits for the network. What must not be
//! here: decisions about a pull.

mod doors;
mod metrics;
mod reload;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Desk, Health, Refused, Reload};
use crate::clock::Clock;
use crate::config::{Config, Danger, Listen, Warning};
use crate::pull::{self, Pull};
use crate::server::{self, BindError, Bound, Listener, Server};
use crate::store::{self, Store};
use crate::upkeep::{self, Upkeep};
use crate::upstream::{self, Upstream};

use doors::Doors;
pub use doors::Handover;
use reload::Rooms;
pub use reload::{Because, Loader, ReloadError, Reloader};
use watch::Watched;

/// How long the admin address still answers after everything else has ended.
const ADMIN_GRACE: Duration = Duration::from_millis(500);

/// A weir, ready to serve.
pub struct App {
    addresses: Addresses,
    listeners: Vec<Listener>,
    admin_listener: Listener,
    server: Arc<Server>,
    admin: Admin,
    health: Health,
    pull: Arc<Pull>,
    store: Arc<Store>,
    upkeep: Upkeep,
    reloader: Arc<Reloader>,
    watched: Watched,
}

/// Where weir listens, with real ports where 0 was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub registry: Vec<Listen>,
    pub admin: Listen,
}

/// Why weir does not start. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("server.listen: {0}")]
    Registry(#[source] BindError),
    #[error("admin.listen: {0}")]
    Admin(#[source] BindError),
    #[error("a socket that was handed over can't be served on: {0}")]
    Handed(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error(transparent)]
    Upstream(#[from] upstream::StartError),
    #[error(transparent)]
    Server(#[from] server::Unservable),
    #[error("the cache could not be opened: {0}")]
    Opening(#[source] tokio::task::JoinError),
}

/// Why weir stopped serving although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the admin address failed: {0}")]
    Admin(#[source] tokio::task::JoinError),
}

impl App {
    /// Starts with a configuration that never changes; only the files that it names do.
    pub async fn start(config: Config, clock: Clock) -> Result<App, StartError> {
        let same = config.clone();
        let load = Box::new(move || Ok(same.clone()));
        App::start_reloading(config, load, Handover::default(), clock).await
    }

    /// Binds the sockets that were not handed over, opens the store, and puts the rooms together.
    /// `load` reads the configuration again when it may have changed.
    pub async fn start_reloading(
        config: Config,
        load: Loader,
        handover: Handover,
        clock: Clock,
    ) -> Result<App, StartError> {
        let watched = Watched::now(&config.files).await;
        let Doors {
            registry: listeners,
            admin: admin_listener,
        } = Doors::open(&config, handover)?;

        let registry = Registry::new();
        count_process(&registry);
        let store = open_store(&config, clock, store::Metrics::new(&registry)).await?;
        let upkeep_metrics = upkeep::Metrics::new(&registry);
        let upkeep = Upkeep::new(&config.cache, store.clone(), clock, upkeep_metrics);
        let upstream = Upstream::new(&config, clock, upstream::Metrics::new(&registry))?;
        let upstream = Arc::new(upstream);
        let pull = Pull::new(
            &config,
            store.clone(),
            upstream.clone(),
            clock,
            pull::Metrics::new(&registry),
        );
        let server_metrics = server::Metrics::new(&registry);
        let server = Server::new(&config, pull.clone(), clock, server_metrics)?;
        let health = Health::default();
        say_who_may_pull(&config);
        let rooms = Rooms {
            server: server.clone(),
            pull: pull.clone(),
            upstream: upstream.clone(),
            store: store.clone(),
            upkeep: upkeep.dials(),
        };
        let reload_metrics = metrics::Metrics::new(&registry);
        let reloader = Reloader::new(config, load, rooms, reload_metrics, clock);
        let admin = Admin::new(Desk {
            registry,
            health: health.clone(),
            config: reloader.current(),
            store: store.clone(),
            upstream,
            pull: pull.clone(),
            reload: reload_when_asked(reloader.clone()),
            clock,
            started_at: clock.now(),
        });
        Ok(App {
            addresses: Addresses {
                registry: listeners
                    .iter()
                    .map(|listener| listener.address().clone())
                    .collect(),
                admin: admin_listener.address().clone(),
            },
            listeners,
            admin_listener,
            server,
            admin,
            health,
            pull,
            store,
            upkeep,
            reloader,
            watched,
        })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes up changed configurations while weir serves.
    pub fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// Serves until `stop`, then drains: takes no more connections, lets requests and fills under
    /// way finish as long as `server.drain_timeout` allows, and leaves the store in order.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let tasks = TaskTracker::new();
        let stop = stop.child_token();
        let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
        let admin_stop = CancellationToken::new();
        // Before anybody can ask: what comes from now on waits at a bound address at worst.
        self.health.set_ready(true);
        let mut admin = tasks.spawn(serve_admin(
            self.admin,
            self.admin_listener,
            admin_stop.clone(),
        ));
        let serving = self
            .server
            .serve(self.listeners, closing.clone(), cut.clone());
        let mut serving = tasks.spawn(serving);
        let (upkeep, upkeep_stop) = (self.upkeep, CancellationToken::new());
        let until = upkeep_stop.clone();
        let keeping = tasks.spawn(async move { upkeep.run(until).await });
        let watching = watch::watch(self.watched, self.reloader.clone(), stop.clone());
        tasks.spawn(watching);
        tasks.close();

        let failed = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut admin => ended.err(),
        };
        // First of all, so that nobody is turned away while weir still says that it is ready.
        self.health.set_ready(false);
        closing.cancel();
        stop.cancel();
        let deadline = Instant::now() + self.reloader.config().server.drain_timeout;
        if tokio::time::timeout_at(deadline, &mut serving)
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time and were cut");
            cut.cancel();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.pull.drain(left).await;
        upkeep_stop.cancel();
        if let Err(panic) = keeping.await {
            tracing::error!(error = %panic, "upkeep ended before its time");
        }
        self.store.flush().await;
        admin_stop.cancel();
        // Whoever still reads metrics now has had the time that there was.
        let _ = tokio::time::timeout(ADMIN_GRACE, tasks.wait()).await;
        failed.map_or(Ok(()), |error| Err(ServeError::Admin(error)))
    }
}

async fn open_store(
    config: &Config,
    clock: Clock,
    metrics: store::Metrics,
) -> Result<Arc<Store>, StartError> {
    let cache = config.cache.clone();
    let opening = tokio::task::spawn_blocking(move || Store::open(&cache, clock, metrics));
    let store = opening.await.map_err(StartError::Opening)??;
    Ok(Arc::new(store))
}

/// The desk knows nothing of what is put together here; it gets one thing it may ask for.
fn reload_when_asked(reloader: Arc<Reloader>) -> Reload {
    Box::new(move || {
        let reloader = reloader.clone();
        Box::pin(async move {
            let reloaded = reloader.reload(Because::Asked).await;
            reloaded.map_err(|error| Refused(error.to_string()))
        })
    })
}

async fn serve_admin(admin: Admin, listener: Listener, stop: CancellationToken) {
    match listener.into_bound() {
        Bound::Tcp(listener) => admin.serve(listener, stop).await,
        Bound::Unix { listener, name } => {
            admin.serve(listener, stop).await;
            drop(name);
        }
    }
}

fn count_process(registry: &Registry) {
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .expect("the names of the process metrics are registered once");
    crate::metrics::gauges(
        registry,
        "weir_build_info",
        "Always 1; the label says which weir this is.",
        &["version"],
    )
    .with_label_values(&[env!("CARGO_PKG_VERSION")])
    .set(1);
}

/// SPEC 4.5: without rules, whoever reaches weir has what its credentials have. Said once: where
/// credentials can be reached from other machines, a warning of the configuration names them.
fn say_who_may_pull(config: &Config) {
    let is_said = |warning: &Warning| matches!(warning.danger, Danger::OpenCredentials { .. });
    if !config.access.anonymous
        || !config.access.rules.is_empty()
        || config.warnings.iter().any(is_said)
    {
        return;
    }
    tracing::info!(
        "no access rules: everybody who reaches weir may pull what its credentials may pull"
    );
}
