//! A server for one test: answers as the test says, and remembers what it was asked.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) version: Version,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("tests send text"))
    }

    /// `GET /v2/…`, with the kind of authorization where there is one.
    pub(super) fn line(&self) -> String {
        let kind = self.header("authorization").split(' ').next().unwrap_or("");
        format!("{} {} {kind}", self.method, self.path)
            .trim_end()
            .to_owned()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    /// The body breaks off, or stalls, after so many bytes.
    cut_after: Option<usize>,
    stall_after: Option<usize>,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            cut_after: None,
            stall_after: None,
        }
    }

    pub(super) fn ok(body: impl Into<Bytes>) -> Self {
        Reply::new(200).body(body)
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    pub(super) fn stall_after(mut self, bytes: usize) -> Self {
        self.stall_after = Some(bytes);
        self
    }

    fn into_response(self, head: bool) -> Response<BoxBody<Bytes, io::Error>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let states_length = self
            .headers
            .iter()
            .any(|(name, _)| name == "content-length")
            || self
                .headers
                .iter()
                .any(|(name, _)| name == "transfer-encoding");
        if !states_length {
            response = response.header("content-length", self.body.len());
        }
        let sent = self
            .cut_after
            .or(self.stall_after)
            .unwrap_or(self.body.len());
        let piece = self.body.slice(..sent.min(self.body.len()));
        let pieces = stream::iter((!head && !piece.is_empty()).then(|| Ok(Frame::data(piece))));
        let body = if !head && self.cut_after.is_some() {
            // Once pending, so that what came before is sent.
            let cut = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("cut by the test"))
            });
            BoxBody::new(StreamBody::new(pieces.chain(cut)))
        } else if !head && self.stall_after.is_some() {
            BoxBody::new(StreamBody::new(pieces.chain(stream::pending())))
        } else {
            BoxBody::new(StreamBody::new(pieces))
        };
        response.body(body).expect("tests make good responses")
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A server on a port of its own, until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Server::start_at("127.0.0.1:0", None, handler).await
    }

    pub(super) async fn start_tls(
        acceptor: TlsAcceptor,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Server::start_at("127.0.0.1:0", Some(acceptor), handler).await
    }

    pub(super) async fn start_at(
        address: &str,
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (handler, log): (Handler, _) = (Arc::new(handler), Arc::clone(&seen));
        let accept = async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                match tls.clone() {
                    None => connections.spawn(serve(stream, handler, log)),
                    Some(tls) => connections.spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, handler, log).await;
                        }
                    }),
                };
            }
        };
        let task = tokio::spawn(accept).abort_handle();
        Server {
            address,
            scheme,
            seen,
            task,
        }
    }

    /// `http://127.0.0.1:port`
    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The same server under another name, which is another origin.
    pub(super) fn url_as(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// Everything that was asked since the last call.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no test panics with it"))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.take().iter().map(Seen::line).collect()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Handler,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
        async move {
            let (mut head, body) = request.into_parts();
            // HTTP/2 has it in the URL.
            if let Some(host) = head.uri.authority().map(|a| a.as_str()) {
                let host = host.parse().expect("an authority is fit for a header");
                head.headers.insert("host", host);
            }
            let body = body
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            let seen = Seen {
                method: head.method,
                path: head
                    .uri
                    .path_and_query()
                    .map_or_else(String::new, ToString::to_string),
                headers: head.headers,
                body,
                version: head.version,
            };
            let is_head = seen.method == Method::HEAD;
            log.lock()
                .expect("no test panics with it")
                .push(seen.clone());
            Ok::<_, Infallible>(handler(&seen).into_response(is_head))
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A client that goes away is none of the test's business.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
