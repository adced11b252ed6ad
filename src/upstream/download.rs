//! A blob on its way in: opened, broken, taken up again.
//!
//! What comes out is in order and without gaps, whatever happens beneath: a break is followed by a
//! request for the rest, by `Range`, through a fresh redirect and from another endpoint if need be.
//! A server that answers with the whole blob is read up to where we were. Whether the bytes are the
//! right ones the digest tells, to the one who reads.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, RANGE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::content::check_encoding;
use super::error::{Away, Error, ErrorKind, Phase, Wrong};
use super::exchange::Answer;
use super::fault::Fault;
use super::remote::{Remote, length};
use super::transport::body_fault;
use super::walk::{Patience, Turn};
use super::{Source, address};
use crate::oci::Digest;

/// Breaks in a row, without a byte between them, after which a transfer is given up.
const RESUMES_WITHOUT_PROGRESS_MAX: u32 = 5;
const RESUME_PAUSE_MIN: Duration = Duration::from_millis(50);
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(2);

/// A blob on its way in.
#[derive(Debug)]
pub struct Download {
    remote: Remote,
    digest: Digest,
    /// The last byte that is wanted; `None`: all there are.
    last: Option<u64>,
    length: Option<u64>,
    offset: u64,
    /// Where the next byte that goes out stands.
    position: u64,
    /// `None` between a break and the resume, and after the end.
    body: Option<Body>,
    source: Source,
    etag: Option<StrongTag>,
    resumes_without_progress: u32,
    ended: bool,
}

/// The rest of a transfer, as one server sends it.
#[derive(Debug)]
struct Body {
    incoming: Incoming,
    /// Bytes to leave out: the server began before where we are.
    skip: u64,
    origin: String,
}

/// An entity tag that names bytes exactly, and who gave it.
#[derive(Debug, Clone)]
struct StrongTag {
    value: HeaderValue,
    origin: String,
}

/// What a server said it will send.
#[derive(Debug)]
struct Opened {
    body: Option<Incoming>,
    start: u64,
    length: Option<u64>,
    source: Source,
    origin: String,
    etag: Option<HeaderValue>,
}

impl Download {
    pub(super) async fn open(
        remote: Remote,
        digest: Digest,
        offset: u64,
        last: Option<u64>,
    ) -> Result<Self, Error> {
        let opened = open(&remote, &digest, offset, last, None).await?;
        let mut download = Download {
            remote,
            digest,
            last,
            length: opened.length,
            offset: opened.start,
            position: opened.start,
            body: None,
            source: opened.source.clone(),
            etag: None,
            resumes_without_progress: 0,
            ended: false,
        };
        download.take(opened);
        Ok(download)
    }

    /// Of the whole blob, where the upstream says.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Where the first chunk stands; 0 although more was asked for: the upstream ignored `Range`.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Who sends it now; another after a resume from elsewhere.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The next piece; `None`: all of it is there. A body that ends short is an error, once the
    /// resumes are used up. Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.is_complete() {
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                self.resume().await?;
                continue;
            };
            let idle = self.remote.registry.limits.idle_timeout;
            let broken = match tokio::time::timeout(idle, body.incoming.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => match self.deliver(data)? {
                        Some(piece) => return Ok(Some(piece)),
                        None => continue,
                    },
                    Err(_trailers) => continue,
                },
                Ok(None) => match self.end() {
                    None => {
                        self.ended = true;
                        return Ok(None);
                    }
                    Some(expected) => ErrorKind::Wrong(Wrong::TooShort {
                        expected,
                        found: self.position,
                    }),
                },
                Ok(Some(Err(error))) => ErrorKind::Away(body_fault(&error)),
                Err(_elapsed) => ErrorKind::Away(Away::Timeout {
                    during: Phase::Body,
                    after: idle,
                }),
            };
            self.broke(broken).await?;
        }
    }

    /// Where the last wanted byte ends, as far as it is known.
    fn end(&self) -> Option<u64> {
        match (self.last, self.length) {
            (Some(last), Some(length)) => Some(length.min(last + 1)),
            (Some(last), None) => Some(last + 1),
            (None, length) => length,
        }
    }

    fn is_complete(&self) -> bool {
        self.ended || self.end().is_some_and(|end| self.position >= end)
    }

    /// What of a piece goes out; `None`: it lies before where we are.
    fn deliver(&mut self, mut data: Bytes) -> Result<Option<Bytes>, Error> {
        self.remote.registry.metrics.bytes.inc_by(data.len() as u64);
        if let Some(body) = &mut self.body {
            let skipped = body.skip.min(data.len() as u64);
            body.skip -= skipped;
            data = data.split_off(skipped as usize);
        }
        if data.is_empty() {
            return Ok(None);
        }
        if let Some(end) = self.end() {
            let left = end - self.position;
            if data.len() as u64 > left {
                // Of a range that was answered with everything, the rest is not wanted.
                if self.last.is_none() {
                    return Err(self.error(ErrorKind::Wrong(Wrong::TooLong { max: end })));
                }
                data.truncate(left as usize);
            }
        }
        self.position += data.len() as u64;
        self.resumes_without_progress = 0;
        Ok(Some(data))
    }

    /// The transfer broke: a pause, then the next chunk takes it up again.
    async fn broke(&mut self, why: ErrorKind) -> Result<(), Error> {
        self.body = None;
        self.resumes_without_progress += 1;
        let error = self.error(why);
        tracing::debug!(
            image = %self.remote.target, digest = %self.digest, position = self.position,
            why = %error.kind, "a transfer broke"
        );
        let breaks = self.resumes_without_progress;
        if breaks > RESUMES_WITHOUT_PROGRESS_MAX {
            return Err(error);
        }
        // The first break is followed up at once: it is most often a connection that was closed.
        if breaks > 1 {
            let pause = RESUME_PAUSE_MIN
                .saturating_mul(1 << breaks)
                .min(RESUME_PAUSE_MAX);
            tokio::time::sleep(self.remote.registry.jittered(pause)).await;
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), Error> {
        let tag = self.etag.clone();
        // Boxed: every reader of a blob holds the future of its next chunk.
        let opening = open(&self.remote, &self.digest, self.position, self.last, tag);
        let opened = Box::pin(opening).await?;
        if let (Some(expected), Some(found)) = (self.length, opened.length)
            && expected != found
        {
            self.source = opened.source;
            return Err(self.error(ErrorKind::Wrong(Wrong::Length { expected, found })));
        }
        self.length = self.length.or(opened.length);
        self.remote.registry.metrics.resumed.inc();
        self.source = opened.source.clone();
        tracing::debug!(
            image = %self.remote.target, digest = %self.digest, position = self.position,
            endpoint = %self.source.endpoint, start = opened.start, "a transfer goes on"
        );
        self.take(opened);
        Ok(())
    }

    fn take(&mut self, opened: Opened) {
        self.etag = opened.etag.map(|value| StrongTag {
            value,
            origin: opened.origin.clone(),
        });
        match opened.body {
            Some(incoming) => {
                self.body = Some(Body {
                    incoming,
                    skip: self.position - opened.start,
                    origin: opened.origin,
                });
            }
            None => self.ended = true,
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let behind = self.body.as_ref().map(|body| body.origin.as_str().into());
        Error {
            registry: self.remote.registry.name().clone(),
            endpoint: Some(behind.unwrap_or_else(|| self.source.endpoint.clone())),
            kind,
        }
    }
}

async fn open(
    remote: &Remote,
    digest: &Digest,
    offset: u64,
    last: Option<u64>,
    etag: Option<StrongTag>,
) -> Result<Opened, Error> {
    let mut walk = remote.walk(Some(digest), Patience::blob());
    loop {
        let turn = walk.next().await?;
        match open_at(remote, &turn, digest, (offset, last), &etag).await {
            Ok(opened) => {
                turn.well();
                return Ok(opened);
            }
            Err(fault) => walk.failed(turn, fault)?,
        }
    }
}

async fn open_at(
    remote: &Remote,
    turn: &Turn,
    digest: &Digest,
    (offset, last): (u64, Option<u64>),
    etag: &Option<StrongTag>,
) -> Result<Opened, Fault> {
    let mut question = remote.about_blob(Method::GET, digest, turn);
    if offset > 0 || last.is_some() {
        let range = match last {
            Some(last) => format!("bytes={offset}-{last}"),
            None => format!("bytes={offset}-"),
        };
        let range = HeaderValue::from_str(&range).expect("digits are fit for a header");
        question.headers.push((RANGE, range));
        if let Some(tag) = etag {
            question.if_range = Some((tag.origin.clone(), tag.value.clone()));
        }
    }
    let answer = remote.registry.ask(&turn.endpoint, &question).await?;
    let from = answer.from.clone();
    opened(answer, offset).map_err(|kind| Fault::at(&from, kind))
}

fn opened(answer: Answer, asked: u64) -> Result<Opened, ErrorKind> {
    let headers = answer.response.headers();
    check_encoding(headers)?;
    let range = headers
        .get(CONTENT_RANGE)
        .and_then(|value| parse_range(value.to_str().ok()?));
    let etag = headers
        .get(ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""))
        .cloned();
    let status = answer.response.status();
    let (start, whole) = match (status, range) {
        (StatusCode::PARTIAL_CONTENT, Some((Some(start), whole))) if start <= asked => {
            (start, whole)
        }
        (StatusCode::PARTIAL_CONTENT, Some((Some(found), _))) => {
            return Err(ErrorKind::Wrong(Wrong::Range { asked, found }));
        }
        (StatusCode::PARTIAL_CONTENT, _) => {
            let why = "a part without a usable Content-Range".to_owned();
            return Err(ErrorKind::Away(Away::Protocol { why }));
        }
        // Asked to go on behind the last byte: there is nothing more to come.
        (StatusCode::RANGE_NOT_SATISFIABLE, Some((_, Some(whole)))) if whole == asked => {
            (asked, Some(whole))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, range) => {
            let found = range.and_then(|(_, whole)| whole).unwrap_or_default();
            return Err(ErrorKind::Wrong(Wrong::Range { asked, found }));
        }
        (_, _) => (0, length(headers)),
    };
    let is_over = status == StatusCode::RANGE_NOT_SATISFIABLE;
    Ok(Opened {
        start,
        length: whole,
        origin: address::origin(&answer.from),
        source: answer.source,
        etag,
        body: (!is_over).then(|| answer.response.into_body()),
    })
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`: first byte and length of the whole.
fn parse_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (part, whole) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let whole = whole.trim().parse().ok();
    let first = part
        .trim()
        .split_once('-')
        .and_then(|(first, _)| first.trim().parse().ok());
    Some((first, whole))
}

/// What must hold of every header: what is read from it can be written again.
#[cfg(any(test, fuzzing))]
pub(crate) fn range_holds(text: &str) {
    if let Some((Some(first), Some(whole))) = parse_range(text) {
        let again = format!("bytes {first}-{first}/{whole}");
        assert_eq!(parse_range(&again), Some((Some(first), Some(whole))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(parse_range("bytes */10"), Some((None, Some(10))));
        for wrong in ["", "bytes", "5-9/10", "bytes 5-9"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }
}
