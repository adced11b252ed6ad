//! One connection: HTTP on it, its limits, and its orderly end.
//!
//! A body that has to be cut ends with a FIN, never with a reset: containerd goes on after the one
//! and gives up after the other.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Server;
use super::corridor::Peer;
use super::seats::Seat;
use super::unhurried::Unhurried;
use crate::access::Subject;

/// Most bytes of a request's head: a `Range` of a thousand ranges fits. hyper takes 100 headers.
const HEAD_BYTES_MAX: usize = 48 << 10;
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// After the end of an answer that closes the connection, the client's last words are listened to
/// this long: unread bytes would turn the FIN into a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// At a stop, a connection on which nothing was asked yet may still ask once, if it does so soon:
/// its client does not know that it came late, and takes a closed connection for a failure.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// A connection as it was accepted.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(TcpStream, Arc<rustls::ServerConfig>),
    Unix(UnixStream),
}

impl Server {
    /// Answers a client's requests until it leaves, or until `stop` and the answer under way is
    /// complete.
    pub(super) async fn converse(
        self: Arc<Self>,
        stream: Stream,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        self.metrics.connections.inc();
        let leave = Leave(self.clone());
        match stream {
            Stream::Plain(stream) => self.speak_http1(stream, peer, seat, stop).await,
            Stream::Tls(stream, config) => self.speak_tls(stream, config, peer, seat, stop).await,
            Stream::Unix(stream) => self.speak_http1(stream, peer, seat, stop).await,
        }
        drop(leave);
    }

    async fn speak_tls(
        self: Arc<Self>,
        stream: TcpStream,
        config: Arc<rustls::ServerConfig>,
        mut peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        let limits = **self.limits.load();
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = tokio::select! {
            shaken = tokio::time::timeout(limits.header_timeout, handshake) => shaken,
            () = late(&stop) => return,
        };
        let stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!("a TLS handshake failed: {error}");
                return;
            }
            Err(_) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!("a TLS handshake took too long");
                return;
            }
        };
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let subject = shown.and_then(|certificate| Subject::of_certificate(certificate));
        peer.certificate = subject.map(Arc::new);
        peer.secure = true;
        self.speak_http1(stream, peer, seat, stop).await;
    }

    async fn speak_http1<S>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = **self.limits.load();
        let unhurried = Unhurried::new(stream, limits.send_timeout, seat.chair().clone());
        let io = TokioIo::new(unhurried);
        let peer = Arc::new(peer);
        let asked = CancellationToken::new();
        let has_asked = asked.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            has_asked.cancel();
            let (server, peer, under_way) = (self.clone(), peer.clone(), seat.under_way());
            Box::pin(async move {
                let response = server.walk(request, &peer).await;
                Ok::<_, Infallible>(response.map(|body| body.until_sent(under_way)))
            })
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            // A client that has nothing more to say still wants its answer.
            .half_close(true)
            .serve_connection(io, service);
        let ended = tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
            () = async { stop.cancelled().await; asked.cancelled().await } => None,
            () = late(&stop) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        if let Err(error) = &ended {
            tracing::debug!("a connection ended: {error}");
        }
        let linger = ended.is_err() || !stop.is_cancelled();
        end(connection.into_parts().io.into_inner(), linger).await;
    }
}

/// Ends when it is too late for a first request.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FIRST_WORD).await;
}

/// Says that nothing more comes, and listens to what the client still has to say.
async fn end(mut stream: impl AsyncRead + AsyncWrite + Unpin, linger: bool) {
    if stream.shutdown().await.is_err() || !linger {
        return;
    }
    let mut unread = [0; 4 << 10];
    let mut left = LINGER_BYTES_MAX;
    let listening = async {
        while let Ok(read @ 1..) = stream.read(&mut unread).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // However it ended: enough was listened to.
    let _ = tokio::time::timeout(LINGER, listening).await;
}

/// Counts a connection out, however it ends.
struct Leave(Arc<Server>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
    }
}
