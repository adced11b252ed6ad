//! Everything that an upstream saw, in order.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method};

/// The kinds of requests; faults are queued and requests counted by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// `GET /v2/`
    Ping,
    ManifestHead,
    /// `GET` of a manifest: what counts as a pull at Docker Hub.
    Manifest,
    /// A redirect to a manifest elsewhere.
    ManifestRedirect,
    BlobHead,
    /// `GET` of a blob's bytes, at the CDN or, where there is no redirect, at the registry.
    Blob,
    /// The registry's redirect to the CDN.
    BlobRedirect,
    Tags,
    Referrers,
    Token,
    /// A 401 of the registry, whatever was asked.
    Challenge,
    /// A request that no registry knows; also one that a site refuses for its form.
    Odd,
    /// For faults: whatever comes next.
    Any,
}

/// One request and what became of it.
#[derive(Debug)]
pub struct Seen {
    pub on: On,
    pub method: Method,
    /// Path and query.
    pub uri: String,
    pub headers: HeaderMap,
    pub body: String,
    status: AtomicU16,
    sent: AtomicU64,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn is_authorized(&self) -> bool {
        self.headers.contains_key("authorization")
    }

    /// Bytes of the body that left so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Zero while there is no answer yet.
    pub fn status(&self) -> u16 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

#[derive(Default)]
pub(super) struct Log {
    seen: Mutex<Vec<Arc<Seen>>>,
}

impl Log {
    pub(super) fn record(&self, asked: Asked, on: On) -> Arc<Seen> {
        let seen = Arc::new(Seen {
            on,
            method: asked.method,
            uri: asked.uri,
            headers: asked.headers,
            body: asked.body,
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
        });
        self.lock().push(seen.clone());
        seen
    }

    pub(super) fn all(&self) -> Vec<Arc<Seen>> {
        self.lock().clone()
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Seen>>> {
        self.seen.lock().expect("nobody panics with the log")
    }
}

/// A request as it came in, read to its end.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) uri: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Every value of `key` in the query.
    pub(super) fn parameters(&self, key: &str) -> Vec<String> {
        parameters(&self.query, key)
    }

    pub(super) fn form(&self, key: &str) -> Option<String> {
        parameters(&self.body, key).into_iter().next()
    }
}

fn parameters(encoded: &str, key: &str) -> Vec<String> {
    encoded
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| decode(value))
        .collect()
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let pair = digit(rest.next()).zip(digit(rest.next()));
                let (high, low) = pair.expect("percent-encoding with two digits");
                bytes.push((high * 16 + low) as u8);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("text in a query")
}
