//! The front door: listeners, the corridor, responses, sending bytes.
//!
//! Only here and in `admin` is HTTP spoken to clients. What must not be here: knowledge of upstreams
//! or files; where content comes from is the business of `pull`.

mod answer;
mod asking;
mod body;
mod buffers;
mod challenge;
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
mod readers;
mod record;
mod refusal;
mod request_id;
mod respond;
mod seats;
mod send;
mod tls;
mod token;
mod unhurried;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{InvalidPasswords, Keys};
use crate::clock::Clock;
use crate::config::Config;
use crate::pull::Pull;
use front::Front;
use outlet::Outlets;
use seats::Seats;

pub use listener::{BindError, Bound, Handed, Listener, SocketFile};
pub use metrics::Metrics;
pub use tls::InvalidTls;

#[cfg(any(test, fuzzing))]
pub(crate) use range::holds as range_holds;

/// Serves clients. Used as `Arc<Server>`.
pub struct Server {
    front: ArcSwap<Front>,
    /// What the TLS addresses show; `None`: every address is plain HTTP.
    tls: ArcSwapOption<rustls::ServerConfig>,
    keys: Keys,
    pull: Arc<Pull>,
    clock: Clock,
    metrics: Arc<Metrics>,
    outlets: Outlets,
    limits: ArcSwap<Limits>,
    seats: Arc<Seats>,
}

/// How much, and how long, one client may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    header_timeout: Duration,
    send_timeout: Duration,
}

/// Why a configuration can't be served: a file that it names is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Unservable {
    #[error("access.htpasswd: {0}")]
    Passwords(#[from] InvalidPasswords),
    #[error("server.tls: {0}")]
    Tls(#[from] InvalidTls),
}

/// A changed configuration, read and found good, that waits to be taken up.
pub struct Prepared {
    front: Front,
    limits: Limits,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Server {
    pub fn new(
        config: &Config,
        pull: Arc<Pull>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Arc<Server>, Unservable> {
        let keys = Keys::generate();
        let Prepared { front, limits, tls } = prepare(config, &keys, &metrics)?;
        Ok(Arc::new(Server {
            front: ArcSwap::from_pointee(front),
            tls: ArcSwapOption::new(tls),
            keys,
            pull,
            clock,
            metrics: Arc::new(metrics),
            outlets: Outlets::new(),
            limits: ArcSwap::from_pointee(limits),
            seats: Seats::new(config.server.connections_max),
        }))
    }

    /// Reads what a changed configuration names, and changes nothing.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, Unservable> {
        prepare(config, &self.keys, &self.metrics)
    }

    /// Takes up changed routes, rules, timeouts and certificates. Requests and connections under way
    /// go on by what they began with; listeners and their number of connections stay as they are.
    pub fn reload(&self, prepared: Prepared) {
        self.front.store(Arc::new(prepared.front));
        self.limits.store(Arc::new(prepared.limits));
        // An address that speaks TLS goes on speaking it: that it no longer should needs a restart.
        if self.tls.load().is_some() && prepared.tls.is_some() {
            self.tls.store(prepared.tls);
        }
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

fn prepare(config: &Config, keys: &Keys, metrics: &Metrics) -> Result<Prepared, Unservable> {
    let tls = config.server.tls.as_ref().map(tls::read).transpose()?;
    let front = Front::new(config, keys.clone(), metrics)?;
    let limits = Limits {
        header_timeout: config.server.header_timeout,
        send_timeout: config.server.send_timeout,
    };
    Ok(Prepared { front, limits, tls })
}
