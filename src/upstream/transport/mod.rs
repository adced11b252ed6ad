//! Connections and requests: from a URL to a response head, or to a reason why there is none.
//!
//! A registry has one transport, used for its endpoints, its token service and the hosts it
//! redirects to alike, so that a private CA or a proxy holds for all of them. Knows nothing of
//! registries, credentials or retries.

mod connector;
mod fault;
mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use self::connector::Connector;
pub(super) use self::connector::Proxies;
pub(super) use self::fault::body_fault;
pub(super) use self::tls::{Alpn, Roots, Tls};
use super::error::{Away, Phase};
use crate::config;

/// Registries send headers of up to 64 KiB, some of them in many lines.
const HEADERS_MAX: usize = 256;
const HEADER_BYTES_MAX: u32 = 256 << 10;
/// What is read from a socket at once, at most; the buffer grows to it as the data comes.
const READ_BYTES_MAX: usize = 512 << 10;
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 32;
const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(60);
/// A silent HTTP/2 connection would otherwise be found out only by a request that times out.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(15);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Room for a manifest without waiting for window updates.
const HTTP2_WINDOW_BYTES: u32 = 4 << 20;

pub(super) type Body = Full<Bytes>;
type Client = legacy::Client<Connector, Body>;

/// Which connections a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Manifests, tokens, lists: HTTP/2 where it is offered.
    Control,
    /// Blobs: HTTP/1.1, one connection for each, because one HTTP/2 connection would share its
    /// window among all.
    Bulk,
}

/// The connections to one registry and to what belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    control: Client,
    bulk: Client,
    header_timeout: Duration,
}

impl Transport {
    pub(super) fn new(tls: Arc<Tls>, proxies: Arc<Proxies>, limits: &config::Upstream) -> Self {
        let client = |alpn| {
            let connector = Connector::new(
                Arc::clone(&tls),
                alpn,
                Arc::clone(&proxies),
                limits.connect_timeout,
            );
            build(connector)
        };
        Transport {
            control: client(Alpn::Http2OrHttp1),
            bulk: client(Alpn::Http1),
            header_timeout: limits.header_timeout,
        }
    }

    /// Sends the request and waits for the head of its answer, until `by` at the latest.
    pub(super) async fn send(
        &self,
        lane: Lane,
        mut request: Request<Body>,
        by: Instant,
    ) -> Result<Response<Incoming>, Away> {
        let client = match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        };
        let started = Instant::now();
        let timed_out = |during| Away::Timeout {
            during,
            after: started.elapsed(),
        };
        let mut connection = capture_connection(&mut request);
        let mut response = pin!(client.request(request));
        let early = tokio::select! {
            biased;
            early = &mut response => Some(early),
            _ = connection.wait_for_connection_metadata() => None,
            () = tokio::time::sleep_until(by) => return Err(timed_out(Phase::Connect)),
        };
        let answered = match early {
            Some(answered) => answered,
            None => timeout_at(by.min(Instant::now() + self.header_timeout), response)
                .await
                .map_err(|_elapsed| timed_out(Phase::Headers))?,
        };
        answered.map_err(|error| fault::request_fault(&error))
    }
}

fn build(connector: Connector) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION_KEPT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http1_max_buf_size(READ_BYTES_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .build(connector)
}
