//! The caretaker's desk: metrics and health, on an address of their own.
//!
//! What must not be here: anything that a pull needs. A weir whose desk is busy serves on.

mod health;

use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::metrics;

pub use health::Health;

/// Answers on the admin address.
#[derive(Debug, Clone)]
pub struct Admin {
    registry: Registry,
    health: Health,
}

impl Admin {
    /// `registry` is what a scrape shows.
    pub fn new(registry: Registry, health: Health) -> Admin {
        Admin { registry, health }
    }

    /// Answers until `stop`.
    pub async fn serve<L>(self, listener: L, stop: CancellationToken) -> io::Result<()>
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let serving = axum::serve(listener, self.router());
        serving.with_graceful_shutdown(stop.cancelled_owned()).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(scrape))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .with_state(self)
    }
}

async fn scrape(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (content_type, text) = metrics::scrape(&admin.registry, accept);
    ([(header::CONTENT_TYPE, content_type)], text)
}
