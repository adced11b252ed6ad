//! From a reply and a fault to bytes on the wire.
//!
//! The sites make honest replies; everything that is wrong with an answer is made wrong here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use super::bursts::Bursting;
use super::fault::Fault;
use super::log::Seen;
use super::site::Wire;
use super::{Gate, content::noise};

const PIECE_BYTES: usize = 64 * 1024;
const HTML: &str = "<!DOCTYPE html><html><title>Sign in to the hotel network</title></html>";

pub(super) type Body = UnsyncBoxBody<Bytes, Cut>;

/// Ends a connection in the middle of a body.
#[derive(Debug, thiserror::Error)]
#[error("a fault cut the body")]
pub(super) struct Cut;

/// An answer before anything is done to it.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Bytes,
    /// The end of the body is its last chunk.
    pub(super) chunked: bool,
}

impl Reply {
    pub(super) fn new(status: u16, content: impl Into<Bytes>) -> Self {
        Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            content: content.into(),
            chunked: false,
        }
    }

    pub(super) fn json(status: u16, document: &serde_json::Value) -> Self {
        Reply::new(status, document.to_string()).with(CONTENT_TYPE.as_str(), "application/json")
    }

    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let entry = json!({"code": code, "message": message, "detail": null});
        Reply::json(status, &json!({"errors": [entry]}))
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set(name, value.as_ref());
        self
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers
            .insert(name, HeaderValue::from_str(value).expect("a header value"));
    }
}

/// How the body goes out.
struct Sending {
    content: Bytes,
    at: usize,
    length: Option<u64>,
    cut_at: Option<usize>,
    endless: bool,
    gate: Option<Gate>,
    bursting: Option<Bursting>,
    wire: Arc<Wire>,
    seen: Arc<Seen>,
    /// Flushes of the wire when the last piece was handed over.
    flushes: u64,
}

/// Waits where the fault says so, then puts the reply as it will be seen into the log's hands.
pub(super) async fn spoil(reply: Reply, fault: Option<&Fault>) -> Reply {
    let mut reply = reply;
    match fault {
        Some(Fault::Status(status)) => {
            let code = match status {
                401 => "UNAUTHORIZED",
                403 => "DENIED",
                404 => "MANIFEST_UNKNOWN",
                429 => "TOOMANYREQUESTS",
                _ => "UNKNOWN",
            };
            return Reply::error(*status, code, "a fault of the test");
        }
        Some(Fault::Answer {
            status,
            headers,
            body,
        }) => {
            let answer = Reply::new(*status, body.clone());
            let with = |answer: Reply, (name, value): &(&str, String)| answer.with(name, value);
            return headers.iter().fold(answer, with);
        }
        Some(Fault::Html) => {
            return Reply::new(200, HTML).with(CONTENT_TYPE.as_str(), "text/html");
        }
        Some(Fault::CorruptAt(place)) => {
            let mut bytes = BytesMut::from(&reply.content[..]);
            // Of a refusal there may be less.
            if let Some(byte) = bytes.get_mut(*place) {
                *byte ^= 1;
            }
            reply.content = bytes.freeze();
        }
        Some(Fault::TooShort(missing)) => {
            let left = reply.content.len().saturating_sub(*missing);
            reply.content.truncate(left);
        }
        Some(Fault::TooLong(more)) => {
            let mut bytes = BytesMut::from(&reply.content[..]);
            bytes.extend_from_slice(&noise(7, *more));
            reply.content = bytes.freeze();
        }
        Some(Fault::DigestHeader(digest)) => reply.set("docker-content-digest", digest),
        Some(Fault::Header(name, value)) => reply.set(name, value),
        Some(Fault::SilentBehind(gate)) => {
            gate.pass(1).await;
        }
        Some(Fault::Delay(duration)) => tokio::time::sleep(*duration).await,
        Some(
            Fault::CutAfter(_)
            | Fault::ResetAfter(_)
            | Fault::ClaimsMore(_)
            | Fault::NoLength
            | Fault::Endless
            | Fault::Behind(_)
            | Fault::InBursts(_),
        )
        | None => {}
    }
    reply
}

/// Turns the reply into hyper's response.
pub(super) fn send(
    reply: Reply,
    fault: Option<Fault>,
    method: &Method,
    wire: Arc<Wire>,
    seen: Arc<Seen>,
) -> Response<Body> {
    let mut sending = Sending {
        length: (!reply.chunked).then_some(reply.content.len() as u64),
        content: reply.content,
        at: 0,
        cut_at: None,
        endless: false,
        gate: None,
        bursting: None,
        flushes: wire.flushes(),
        wire,
        seen,
    };
    sending.spoil(fault);
    let mut response = Response::new(());
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if let Some(length) = sending.length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if *method == Method::HEAD {
        sending.content = Bytes::new();
        sending.cut_at = None;
        sending.endless = false;
    }
    let pieces = stream::unfold(sending, |mut sending| async move {
        let piece = sending.next().await?;
        Some((piece.map(Frame::data), sending))
    });
    response.map(|()| BodyExt::boxed_unsync(StreamBody::new(pieces)))
}

impl Sending {
    fn spoil(&mut self, fault: Option<Fault>) {
        match fault {
            Some(Fault::CutAfter(bytes)) => self.cut_at = Some(bytes),
            Some(Fault::ResetAfter(bytes)) => {
                self.cut_at = Some(bytes);
                self.wire.reset_at_end();
            }
            Some(Fault::ClaimsMore(bytes)) => {
                self.cut_at = Some(self.content.len());
                self.length = self.length.map(|length| length + bytes as u64);
            }
            Some(Fault::NoLength) => self.length = None,
            Some(Fault::Endless) => {
                self.length = None;
                self.endless = true;
            }
            Some(Fault::Behind(gate)) => self.gate = Some(gate),
            Some(Fault::InBursts(bursts)) => self.bursting = Some(bursts.begin()),
            Some(
                Fault::Status(_)
                | Fault::Answer { .. }
                | Fault::Html
                | Fault::CorruptAt(_)
                | Fault::TooShort(_)
                | Fault::TooLong(_)
                | Fault::DigestHeader(_)
                | Fault::Header(..)
                | Fault::SilentBehind(_)
                | Fault::Delay(_),
            )
            | None => {}
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        if self.cut_at == Some(self.at) {
            // Everything up to the cut has to be in the socket first.
            self.wire.flushed_since(self.flushes).await;
            return Some(Err(Cut));
        }
        if self.at == self.content.len() && self.endless {
            self.content = noise(self.at as u64, PIECE_BYTES).into();
            self.at = 0;
        }
        let end = self.cut_at.unwrap_or(usize::MAX).min(self.content.len());
        let mut length = (end - self.at).min(PIECE_BYTES);
        if length == 0 {
            return None;
        }
        if let Some(gate) = &self.gate {
            length = gate.pass(length).await;
        }
        if let Some(bursting) = &mut self.bursting {
            length = bursting.pass(length).await;
        }
        let piece = self.content.slice(self.at..self.at + length);
        self.at += length;
        self.flushes = self.wire.flushes();
        self.seen.count_sent(length);
        Some(Ok(piece))
    }
}
