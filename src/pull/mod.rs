//! The heart: what a client gets, out of what is stored and what the upstream says.
//!
//! A manifest is a hit, stale or a miss (`manifests.rs`, by the rules of `freshness.rs`); a blob is
//! a file, or a flight that fills one (`blobs.rs`, `flight.rs`, `fill.rs`). However many clients ask,
//! one question goes upstream at a time: manifests are asked for through `joint::Joint`, blobs
//! through flights. Where an upstream decides itself who may pull, its word comes before everything
//! (`rights.rs`). This is the only room that knows both the store and the upstream.

mod ahead;
mod blobs;
mod error;
mod fill;
mod flight;
mod freshness;
mod joint;
mod kept;
mod listings;
mod manifests;
mod metrics;
mod missing;
mod question;
mod reader;
mod rights;
mod segments;
mod silence;
mod sizes;
mod standing;
mod through;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::oci::{Digest, Manifest, MediaType, Target};
use crate::store::Store;
use crate::upstream::{Identity, Remote, Source, TraceParent, Upstream};

pub use blobs::Blob;
pub use error::Error;
pub use metrics::Metrics;
pub use reader::{Piece, Reader};
pub use rights::Right;

/// Bytes of manifests that are kept in memory at most.
const MANIFEST_MEMORY_BYTES: u64 = 16 << 20;

/// Everything a pull needs. One for the whole process, behind an [`Arc`].
pub struct Pull {
    store: Arc<Store>,
    upstream: Arc<Upstream>,
    clock: Clock,
    rules: ArcSwap<freshness::Rules>,
    manifests: moka::sync::Cache<Digest, Arc<Manifest>>,
    questions: Arc<joint::Joint<question::Question, question::Told>>,
    lists: Arc<joint::Joint<listings::Question, listings::Told>>,
    listings: listings::Listings,
    missing: missing::Missing,
    sizes: sizes::Sizes,
    rights: standing::Rights,
    right_asks: Arc<joint::Joint<rights::Asked, rights::Told>>,
    flights: Arc<flight::Flights>,
    segments: segments::Pool,
    metrics: Metrics,
    /// The tasks that ask upstreams: fills and revalidations. They outlive the clients that caused
    /// them and end with [`Pull::drain`].
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Where a client wants something from, and whose credentials the upstream shall see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub target: Target,
    pub identity: Identity,
    /// Handed on to the upstream, where this causes a question.
    pub trace: Option<TraceParent>,
}

/// Content, and how it was come by.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    pub content: T,
    pub outcome: Outcome,
    /// Since the upstream last confirmed it; only of tags.
    pub age: Option<Duration>,
    /// What the client should be told although it gets an answer.
    pub warning: Option<String>,
    /// Who was asked, where somebody was.
    pub source: Option<Source>,
    /// How it was known that the client may have it, where the upstream decides that.
    pub right: Option<Right>,
}

impl<T> Answer<T> {
    fn new(content: T, outcome: Outcome) -> Self {
        Answer {
            content,
            outcome,
            age: None,
            warning: None,
            source: None,
            right: None,
        }
    }

    fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            content: change(self.content),
            outcome: self.outcome,
            age: self.age,
            warning: self.warning,
            source: self.source,
            right: self.right,
        }
    }

    fn by(mut self, right: Option<Right>) -> Self {
        self.right = right;
        self
    }
}

/// How content was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// From the cache, fresh or just confirmed.
    Hit,
    /// From the cache, because the upstream could not say.
    Stale,
    /// From the upstream.
    Miss,
    /// From a transfer that somebody else's request had begun.
    Joined,
}

/// What a `HEAD` tells of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    pub digest: Digest,
    pub media_type: MediaType,
    pub length: u64,
}

impl From<&Manifest> for ManifestHead {
    fn from(manifest: &Manifest) -> Self {
        ManifestHead {
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            length: manifest.bytes.len() as u64,
        }
    }
}

impl Pull {
    pub fn new(
        config: &Config,
        store: Arc<Store>,
        upstream: Arc<Upstream>,
        clock: Clock,
        metrics: Metrics,
    ) -> Arc<Pull> {
        let manifests = moka::sync::Cache::builder()
            .max_capacity(MANIFEST_MEMORY_BYTES)
            .weigher(|_, manifest: &Arc<Manifest>| {
                u32::try_from(manifest.bytes.len() + 256).unwrap_or(u32::MAX)
            })
            .build();
        Arc::new(Pull {
            store,
            upstream,
            clock,
            rules: ArcSwap::from_pointee(freshness::Rules::new(&config.tags)),
            manifests,
            questions: Arc::default(),
            lists: Arc::default(),
            listings: listings::memory(),
            missing: missing::Missing::new(),
            sizes: sizes::Sizes::new(),
            rights: standing::Rights::new(config),
            right_asks: Arc::default(),
            flights: Arc::new(flight::Flights::new(config.cache.flights_max)),
            segments: segments::Pool::new(config.upstream.parallel_above),
            metrics,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Takes up changed rules about tags and rights, and limits of transfers; what is under way goes
    /// on.
    pub fn reload(&self, config: &Config) {
        self.rules
            .store(Arc::new(freshness::Rules::new(&config.tags)));
        self.rights.reload(config);
        self.flights.set_limit(config.cache.flights_max);
        self.segments
            .set_parallel_above(config.upstream.parallel_above);
    }

    /// What is kept of this content in memory goes: it was removed from the store.
    pub fn forget(&self, digest: &Digest) {
        self.manifests.invalidate(digest);
    }

    /// Ends what runs towards upstreams: fills are finished until `deadline` is over, then parked.
    pub async fn drain(&self, deadline: Duration) {
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            self.stop.cancel();
            self.tasks.wait().await;
        }
        self.upstream.close().await;
    }

    fn remote(&self, ask: &Ask) -> Result<Remote, Error> {
        self.upstream
            .remote(&ask.target, ask.identity.clone())
            .map(|remote| remote.traced(ask.trace.clone()))
            .ok_or_else(|| Error::UnknownRegistry(ask.target.registry.clone()))
    }
}
