//! A client of registries: one connection per request, bodies whole, in part, slow or dropped.
//!
//! It never hides how a body ended: whole, closed too early, or reset.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use weir::oci::{Algorithm, Digest, Hasher};

use super::wait::in_time;

/// Talks to one address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    headers: HeaderMap,
    receive_buffer_bytes: Option<u32>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&address.to_string()).expect("an address is a host");
        headers.insert("host", host);
        Client {
            address,
            headers,
            receive_buffer_bytes: None,
        }
    }

    /// Sends this header with every request.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.insert(name, value);
        self
    }

    pub fn user_agent(self, name: &str) -> Self {
        self.with("user-agent", name)
    }

    /// As little as the kernel allows is received ahead of the reader, so that a reader that does
    /// not read is felt by the sender.
    pub fn slow(mut self) -> Self {
        self.receive_buffer_bytes = Some(4096);
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.open(path).await.rest().await
    }

    pub async fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path).await.rest().await
    }

    pub async fn get_range(&self, path: &str, range: &str) -> Answer {
        self.clone().with("range", range).get(path).await
    }

    /// Sends this as JSON, where no header says that it is something else.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let mut client = self.clone();
        let json = HeaderValue::from_static("application/json");
        client.headers.entry("content-type").or_insert(json);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let what = format!("an answer to {path}");
        let sent = in_time(what, client.ask_with(Method::POST, path, body)).await;
        let sent = sent.unwrap_or_else(|error| panic!("no answer to {path}: {error}"));
        sent.rest().await
    }

    /// A GET whose body is still to be read.
    pub async fn open(&self, path: &str) -> Open {
        self.send(Method::GET, path).await
    }

    pub async fn send(&self, method: Method, path: &str) -> Open {
        let sent = self.try_send(method, path).await;
        sent.unwrap_or_else(|error| panic!("no answer to {path}: {error}"))
    }

    /// `Err`: there is nobody, or the connection ended before an answer came.
    pub async fn try_send(&self, method: Method, path: &str) -> Result<Open, Failed> {
        let what = format!("an answer to {path}");
        in_time(what, self.ask(method, path)).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Open, Failed> {
        self.ask_with(method, path, Bytes::new()).await
    }

    async fn ask_with(&self, method: Method, path: &str, body: Bytes) -> Result<Open, Failed> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path is a URI");
        *request.headers_mut() = self.headers.clone();
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Open {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            ahead: BytesMut::new(),
            ended: None,
        })
    }

    /// Sends these bytes as they are, and gives what comes back until the other side closes.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await.expect("somebody listens");
        stream.write_all(request).await.expect("the request leaves");
        read_all(stream).await
    }

    /// The same, and closes its own half behind the request.
    pub async fn raw_half_closed(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await.expect("somebody listens");
        // A server that has read enough may close before all of it is written.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        read_all(stream).await
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(self.address).await
    }
}

async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset behind the answer does not unmake the answer.
    let read = stream.read_to_end(&mut answer);
    let _ = in_time("the end of the connection".to_owned(), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("no answer: {0}")]
    Answer(#[from] hyper::Error),
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Whole,
    /// In order, but too early.
    Closed,
    Reset,
}

/// An answer that has been read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub ended: Ended,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn length_header(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    /// The body, which has to be whole and come with this status.
    #[track_caller]
    pub fn whole(&self, status: u16) -> &Bytes {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.ended, Ended::Whole);
        &self.bytes
    }

    /// The first code of an error in the specification's form.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.error_field("code")
    }

    #[track_caller]
    pub fn error_message(&self) -> String {
        self.error_field("message")
    }

    pub fn text(&self) -> String {
        let shown = &self.bytes[..self.bytes.len().min(1000)];
        String::from_utf8_lossy(shown).into_owned()
    }

    #[track_caller]
    fn error_field(&self, name: &str) -> String {
        let body: Result<serde_json::Value, _> = serde_json::from_slice(&self.bytes);
        let field = body
            .ok()
            .and_then(|body| Some(body["errors"][0][name].as_str()?.to_owned()));
        field.unwrap_or_else(|| panic!("{} is no error: {}", self.status, self.text()))
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Open {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    ahead: BytesMut,
    ended: Option<Ended>,
}

impl Open {
    /// The next `length` bytes; panics where the body ends before.
    pub async fn read_exact(&mut self, length: usize) -> Bytes {
        while self.ahead.len() < length {
            let what = format!("byte {length} of a body, {} are there", self.ahead.len());
            let Some(piece) = in_time(what, self.next()).await else {
                panic!(
                    "the body ended after {} of {length} bytes",
                    self.ahead.len()
                );
            };
            self.ahead.extend_from_slice(&piece);
        }
        self.ahead.split_to(length).freeze()
    }

    /// The same; `None` where the body ends before.
    pub async fn try_read(&mut self, length: usize) -> Option<Bytes> {
        while self.ahead.len() < length {
            let what = format!("byte {length} of a body, {} are there", self.ahead.len());
            let piece = in_time(what, self.next()).await?;
            self.ahead.extend_from_slice(&piece);
        }
        Some(self.ahead.split_to(length).freeze())
    }

    /// What is left of the body, all of it in memory.
    pub async fn rest(mut self) -> Answer {
        while let Some(piece) = in_time("the rest of a body".to_owned(), self.next()).await {
            self.ahead.extend_from_slice(&piece);
        }
        Answer {
            status: self.status,
            headers: self.headers,
            bytes: self.ahead.freeze(),
            ended: self.ended.expect("the body has ended"),
        }
    }

    /// The sha256 of what is left of the body, its length, and how it ended; nothing is kept.
    pub async fn hash_rest(mut self) -> (Digest, u64, Ended) {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&self.ahead);
        let mut length = self.ahead.len() as u64;
        while let Some(piece) = in_time("the rest of a body".to_owned(), self.next()).await {
            hasher.update(&piece);
            length += piece.len() as u64;
        }
        let ended = self.ended.expect("the body has ended");
        (hasher.finish(), length, ended)
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.ended.is_some() {
            return None;
        }
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Some(piece);
                    }
                }
                Some(Err(error)) => {
                    self.ended = Some(how(&error));
                    return None;
                }
                None => {
                    self.ended = Some(Ended::Whole);
                    return None;
                }
            }
        }
    }
}

fn how(error: &hyper::Error) -> Ended {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::ConnectionReset
        {
            return Ended::Reset;
        }
        source = error.source();
    }
    Ended::Closed
}
