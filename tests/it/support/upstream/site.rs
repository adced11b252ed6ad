//! A listener that can go away and come back at the same address, and connections that can be cut
//! in order or reset.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::send::Body;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
/// Answers a request that came over this wire.
pub(super) type Service = Arc<dyn Fn(Request<Incoming>, Arc<Wire>) -> Answering + Send + Sync>;

pub(super) struct Site {
    pub(super) address: SocketAddr,
    /// Bound but not listening: keeps the port while the site is away.
    _reserved: Socket,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    stop: CancellationToken,
    accepting: tokio::task::JoinHandle<()>,
}

impl Site {
    pub(super) fn reserve(host: &str) -> Self {
        let any_port = format!("{host}:0").parse().expect("an address");
        let reserved = bind(any_port);
        let address = reserved.local_addr().expect("a bound socket");
        Site {
            address: address.as_socket().expect("an IP socket"),
            _reserved: reserved,
            listening: Mutex::new(None),
        }
    }

    pub(super) async fn open(&self, service: Service) {
        let socket = bind(self.address);
        socket.listen(1024).expect("a bound socket can listen");
        socket.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(socket.into()).expect("a listening socket");
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, service, stop.clone()));
        *self.listening.lock().await = Some(Listening { stop, accepting });
    }

    /// Cuts every connection; new ones are refused from now on.
    pub(super) async fn close(&self) {
        if let Some(listening) = self.listening.lock().await.take() {
            listening.stop.cancel();
            listening.accepting.await.expect("accepting does not panic");
        }
    }
}

fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("a socket option");
    socket.set_reuse_address(true).expect("a socket option");
    socket.bind(&address.into()).expect("a free loopback port");
    socket
}

async fn accept(listener: TcpListener, service: Service, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, service.clone()));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn converse(stream: TcpStream, service: Service) {
    let _ = stream.set_nodelay(true);
    let wire = Arc::new(Wire::default());
    let connection = TokioIo::new(Wired {
        stream,
        wire: wire.clone(),
    });
    let answer = service_fn(move |request| {
        let answering = service(request, wire.clone());
        async move { Ok::<_, Infallible>(answering.await) }
    });
    // A connection that ends badly is what half of the tests ask for.
    let _ = hyper::server::conn::http1::Builder::new()
        .max_buf_size(1 << 20)
        .serve_connection(connection, answer)
        .await;
}

/// What the sender of a body and its connection tell each other.
#[derive(Default)]
pub(super) struct Wire {
    flushes: AtomicU64,
    flushed: Notify,
    reset: AtomicBool,
}

impl Wire {
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// Waits until everything that hyper held at the time of flush number `seen` is in the socket.
    pub(super) async fn flushed_since(&self, seen: u64) {
        loop {
            let flushed = self.flushed.notified();
            if self.flushes() > seen {
                return;
            }
            flushed.await;
        }
    }

    /// The connection will end with a reset rather than in order.
    pub(super) fn reset_at_end(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }
}

struct Wired {
    stream: TcpStream,
    wire: Arc<Wire>,
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper comes here when it has written all that it held.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.flushes.fetch_add(1, Ordering::SeqCst);
        self.wire.flushed.notify_waiters();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.reset.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        if self.wire.reset.load(Ordering::SeqCst) {
            let _ = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}
