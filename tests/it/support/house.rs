//! weir as it runs, put together from a configuration: the real `App` on ports of its own, with a
//! directory that outlives a restart.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use toml::{Table, Value};
use weir::app::App;
use weir::clock::Clock;
use weir::oci::Algorithm;

use super::client::Client;
use super::disk;
use super::scrape::Scrape;
use super::time::HeldTime;
use super::upstream::Upstream;
use super::wait::in_time;

/// What weir is started from. Cheap to clone; clones share the directory.
#[derive(Clone)]
pub struct House {
    directory: Arc<TempDir>,
    settings: Table,
    clock: Clock,
}

impl House {
    /// No registry but the built-in ones, which no test may ask for anything.
    pub fn empty() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let house = House {
            directory: Arc::new(directory),
            settings: Table::new(),
            clock: Clock::System,
        };
        let cache = house.cache_directory();
        house
            .config(
                r#"
                [server]
                listen = "127.0.0.1:0"
                [admin]
                listen = "127.0.0.1:0"
                [cache]
                min_free = "1MiB"
                "#,
            )
            .config(&format!(
                "[cache]\ndirectory = {:?}",
                cache.display().to_string()
            ))
    }

    /// A house whose default registry is this upstream, under the name of Docker Hub.
    pub fn in_front_of(upstream: &Upstream) -> Self {
        House::empty()
            .registry("docker.io", upstream)
            .config("[registries.\"docker.io\"]\ndefault = true")
    }

    pub fn registry(self, name: &str, upstream: &Upstream) -> Self {
        let endpoint = upstream.endpoint();
        self.config(&format!(
            "[registries.{name:?}]\nendpoints = [{endpoint:?}]"
        ))
    }

    /// Adds these settings to the ones that are there already.
    pub fn config(mut self, text: &str) -> Self {
        let added = text.parse().expect("a test's settings are TOML");
        merge(&mut self.settings, added);
        self
    }

    /// weir asks this clock for the time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn cache_directory(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// A place for files that the configuration names.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("the temporary directory takes files");
        path
    }

    pub fn config_text(&self) -> String {
        toml::to_string(&self.settings).expect("a table is TOML")
    }

    pub async fn start(&self) -> Weir {
        let started = self.try_start().await;
        started.unwrap_or_else(|error| panic!("weir does not start: {error}"))
    }

    /// `Err` is what an operator reads.
    pub async fn try_start(&self) -> Result<Weir, String> {
        let config = weir::config::load_str(&self.config_text(), &[]);
        let config = config.map_err(|problems| problems.to_string())?;
        let app = App::start(config, self.clock).await;
        let app = app.map_err(|error| error.to_string())?;
        let addresses = app.addresses();
        let registry = socket(&addresses.registry[0]);
        let admin = socket(&addresses.admin);
        let stop = CancellationToken::new();
        let serving = app.serve(stop.clone());
        let serving = tokio::spawn(async move {
            let served = serving.await;
            served.map_err(|error| error.to_string())
        });
        Ok(Weir {
            house: self.clone(),
            registry,
            admin,
            stop,
            serving,
        })
    }
}

fn socket(bound: &dyn Display) -> SocketAddr {
    let text = bound.to_string();
    text.parse().expect("tests listen on TCP")
}

/// Tables are merged, everything else is replaced.
fn merge(into: &mut Table, added: Table) {
    for (key, value) in added {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(added)) => merge(into, added),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A running weir.
pub struct Weir {
    house: House,
    registry: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), String>>,
}

impl Weir {
    pub async fn in_front_of(upstream: &Upstream) -> Self {
        House::in_front_of(upstream).start().await
    }

    pub fn client(&self) -> Client {
        Client::new(self.registry)
    }

    pub fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    pub fn address(&self) -> SocketAddr {
        self.registry
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn house(&self) -> &House {
        &self.house
    }

    pub fn cache_directory(&self) -> PathBuf {
        self.house.cache_directory()
    }

    /// Asks it to stop, without waiting until it has.
    pub fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Drains, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        let served = in_time("weir to stop".to_owned(), self.serving).await;
        let served = served.expect("serving does not panic");
        served.expect("weir stops in order");
    }

    /// The same where time has to pass for it.
    pub async fn restart_in(self, time: &HeldTime) -> Self {
        let house = self.house.clone();
        time.pass_during(self.stop()).await;
        house.start().await
    }

    /// Drains, ends, and starts again on the same directory.
    pub async fn restart(self) -> Self {
        let house = self.house.clone();
        self.stop().await;
        house.start().await
    }

    pub async fn metrics(&self) -> Scrape {
        let answer = self.admin().get("/metrics").await;
        Scrape::parse(&String::from_utf8_lossy(answer.whole(200)))
    }

    /// Names of the files under `blobs/sha256`.
    pub fn stored(&self) -> Vec<String> {
        disk::names(&blobs(&self.cache_directory()))
    }

    /// Bytes of growing files.
    pub fn staged_bytes(&self) -> u64 {
        disk::bytes(&self.cache_directory().join("staging"))
    }
}

/// Where a cache keeps its sha256 content.
pub fn blobs(cache_directory: &Path) -> PathBuf {
    let algorithm = Algorithm::Sha256.as_str();
    cache_directory.join("blobs").join(algorithm)
}
