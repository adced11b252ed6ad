//! The caretaker's desk: metrics, health, a JSON API and a status page, on an address of their own.
//!
//! What must not be here: anything that a pull needs. A weir whose desk is busy serves on.
//!
//! # The API
//!
//! Everything under `/api/v1/` is JSON and stays as it is; fields may be added. Reading is free for
//! whoever reaches the address, because nothing that is told is a secret. What changes something is
//! a `POST` with `Content-Type: application/json`, which the pages of other sites cannot send, and
//! needs `Authorization: Bearer` with the token of `admin.token_file`, unless the caller is on this
//! machine.
//!
//! | call | does |
//! |---|---|
//! | `GET /api/v1/status` | version, readiness, uptime, configuration in force, cache |
//! | `GET /api/v1/registries` | endpoints with their breakers, quotas, credentials by source and user |
//! | `GET /api/v1/resolve?image=NAME` | what an image means, which credential applies and why, whether it is cached |
//! | `GET /api/v1/config` | the configuration in force, secrets hidden |
//! | `GET /api/v1/cache` | how full the cache is |
//! | `GET /api/v1/cache/images` | the tags that are known, with digest and size |
//! | `GET /api/v1/cache/blobs?from=N` | a page of everything stored; begin at 0, go on at `next` |
//! | `POST /api/v1/cache/remove` | `{"images": […], "digests": […]}`: they go, with all that the images name |
//! | `POST /api/v1/cache/pin`, `…/unpin` | the same body: they are never evicted, or may be again |
//! | `POST /api/v1/cache/gc` | evicts down to the limits, compares the index with the files, sweeps |
//! | `POST /api/v1/cache/scrub` | reads everything again and checks it |
//! | `POST /api/v1/reload` | reads the configuration again |
//!
//! Connections are few, and none may be slow for long; `door.rs` has the numbers.
//!
//! An error is `{"error": {"message": …}}` with status 400 (what was asked makes no sense), 401 (token
//! missing or wrong), 403 (not from there), 404 (not cached), 409 (refused: pinned, or a bad
//! configuration), 413 and 415 (the body), 500.

mod answer;
mod cache;
mod door;
mod guard;
mod health;
mod images;
mod page;
mod registries;
mod settings;
mod status;

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::metrics;
use crate::pull::Pull;
use crate::store::Store;
use crate::upstream::Upstream;

use door::Door;
pub use guard::Caller;
pub use health::Health;

/// Largest body of a call.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Reads the configuration again; gives the changed keys that need a restart.
pub type Reload = Box<dyn Fn() -> Reloading + Send + Sync>;
pub type Reloading = Pin<Box<dyn Future<Output = Result<Vec<&'static str>, Refused>> + Send>>;

/// Why a configuration was not taken up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// What the desk shows and may set going.
pub struct Desk {
    /// What a scrape shows.
    pub registry: Registry,
    pub health: Health,
    /// What is in force.
    pub config: Arc<ArcSwap<Config>>,
    pub store: Arc<Store>,
    pub upstream: Arc<Upstream>,
    pub pull: Arc<Pull>,
    pub reload: Reload,
    pub clock: Clock,
    pub started_at: Timestamp,
}

/// Answers on the admin address.
#[derive(Clone)]
pub struct Admin(Arc<Desk>);

impl Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    pub fn new(desk: Desk) -> Admin {
        Admin(Arc::new(desk))
    }

    /// Answers until `stop`.
    pub async fn serve<L>(self, listener: L, stop: CancellationToken)
    where
        L: axum::serve::Listener,
        L::Addr: Debug,
        Caller: From<L::Addr>,
    {
        let refused = metrics::counter(
            &self.0.registry,
            "weir_admin_connections_refused_total",
            "Connections to the admin address closed at once because there were too many.",
        );
        Door::new(self.router(), refused).keep(listener, stop).await;
    }

    fn router(self) -> Router {
        let changing = Router::new()
            .route("/reload", post(status::reload))
            .route("/cache/remove", post(cache::remove))
            .route("/cache/pin", post(cache::pin))
            .route("/cache/unpin", post(cache::unpin))
            .route("/cache/gc", post(cache::gc))
            .route("/cache/scrub", post(cache::scrub))
            .route_layer(middleware::from_fn_with_state(self.clone(), guard::check));
        let api = Router::new()
            .route("/status", get(status::status))
            .route("/registries", get(registries::registries))
            .route("/resolve", get(registries::resolve))
            .route("/config", get(settings::config))
            .route("/cache", get(cache::stats))
            .route("/cache/images", get(cache::images))
            .route("/cache/blobs", get(cache::blobs))
            .merge(changing)
            .fallback(answer::unknown)
            .method_not_allowed_fallback(answer::wrong_method);
        Router::new()
            .route("/", get(page::page))
            .route("/metrics", get(scrape))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .nest("/api/v1", api)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

async fn scrape(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (content_type, text) = metrics::scrape(&admin.0.registry, accept);
    ([(header::CONTENT_TYPE, content_type)], text)
}
