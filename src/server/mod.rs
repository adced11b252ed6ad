//! The front door: listeners, the corridor, responses, sending bytes.
//!
//! Only here and in `admin` is HTTP spoken to clients. What must not be here: knowledge of upstreams
//! or files; where content comes from is the business of `pull`.

mod answer;
mod asking;
mod body;
mod buffers;
mod conditions;
mod connection;
mod corridor;
mod family;
mod front;
mod listener;
mod listings;
mod mapping;
mod metrics;
mod multipart;
mod outlet;
mod query;
mod range;
mod record;
mod refusal;
mod request_id;
mod respond;
mod send;
mod unhurried;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::pull::Pull;
use buffers::Buffers;
use front::Front;

pub use listener::{BindError, Bound, Listener, SocketFile};
pub use metrics::Metrics;

/// Serves clients. Used as `Arc<Server>`.
pub struct Server {
    front: ArcSwap<Front>,
    pull: Arc<Pull>,
    metrics: Arc<Metrics>,
    buffers: Arc<Buffers>,
    limits: Limits,
    /// One permit an open connection.
    connections: Arc<Semaphore>,
}

/// How much, and how long, one client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    header_timeout: Duration,
    send_timeout: Duration,
}

impl Server {
    pub fn new(config: &Config, pull: Arc<Pull>, metrics: Metrics) -> Arc<Server> {
        Arc::new(Server {
            front: ArcSwap::from_pointee(Front::new(config, &metrics)),
            pull,
            metrics: Arc::new(metrics),
            buffers: Arc::default(),
            limits: Limits {
                header_timeout: config.server.header_timeout,
                send_timeout: config.server.send_timeout,
            },
            connections: Arc::new(Semaphore::new(config.server.connections_max)),
        })
    }

    /// Takes up changed routes and rules. Requests under way go on by the ones they began with;
    /// listeners and limits stay as they are.
    pub fn reload(&self, config: &Config) {
        self.front
            .store(Arc::new(Front::new(config, &self.metrics)));
    }

    /// Accepts and answers until `stop`, then lets the requests under way finish, at the longest
    /// until `cut`. Returns when no connection is left.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Vec<Listener>,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let connections = TaskTracker::new();
        let accepting = listeners.into_iter().map(|listener| {
            let server = self.clone();
            listener.accept_until(server, connections.clone(), stop.clone(), cut.clone())
        });
        futures_util::future::join_all(accepting).await;
        connections.close();
        connections.wait().await;
    }
}
