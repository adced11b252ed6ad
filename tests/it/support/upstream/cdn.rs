//! The host that blobs are redirected to: signed addresses that expire, ranges, and no patience
//! with anybody who brings an `Authorization` along.

use bytes::Bytes;
use weir::oci::{Algorithm, Digest};

use super::State;
use super::log::{Asked, On};
use super::send::Reply;

/// The signed path of content of `kind` (`blobs`, `manifests`) in a repository.
pub(super) fn sign(state: &State, kind: &str, repository: &str, reference: &str) -> String {
    let path = format!("/{kind}/{repository}@{reference}");
    let signature = signature(state, &path);
    format!("{path}?X-Signature={signature}&X-Expires=600")
}

fn signature(state: &State, path: &str) -> String {
    let text = format!("{} {path}", state.url_generation());
    Digest::of(Algorithm::Sha256, text.as_bytes()).hex()[..32].to_owned()
}

pub(super) fn answer(state: &State, asked: &Asked) -> (On, Reply) {
    if asked.header("authorization").is_some() {
        let refusal = "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
        return (On::Odd, Reply::new(400, refusal));
    }
    fetch(state, asked)
}

/// Answers a signed address.
pub(super) fn fetch(state: &State, asked: &Asked) -> (On, Reply) {
    let is_head = asked.method == http::Method::HEAD;
    let shelf = state.shelf();
    let (on, found) = match split(&asked.path) {
        Some(("blobs", repository, digest)) => {
            let blob = shelf.repository(repository).and_then(|r| r.blob(digest));
            let on = if is_head { On::BlobHead } else { On::Blob };
            let settings = state.settings();
            let reply = blob.map(|blob| Reply {
                chunked: !settings.lengths,
                ..blob_reply(asked, blob, settings.ranges)
            });
            (on, reply)
        }
        Some(("manifests", repository, reference)) => {
            let manifest = shelf
                .repository(repository)
                .and_then(|r| r.manifest(reference));
            let on = if is_head {
                On::ManifestHead
            } else {
                On::Manifest
            };
            (on, manifest.map(super::origin::manifest_reply))
        }
        _ => return (On::Odd, Reply::new(404, "")),
    };
    if asked.parameters("X-Signature") != [signature(state, &asked.path)] {
        let expired =
            "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        return (on, Reply::new(403, expired));
    }
    (on, found.unwrap_or_else(|| Reply::new(404, "")))
}

fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    let (repository, reference) = rest.split_once('@')?;
    Some((kind, repository, reference))
}

/// A blob, or the part of it that was asked for.
pub(super) fn blob_reply(asked: &Asked, blob: &Bytes, ranges: bool) -> Reply {
    let etag = format!("\"{}\"", &Digest::of(Algorithm::Sha256, blob).hex()[..16]);
    let whole = Reply::new(200, blob.clone())
        .with("content-type", "application/octet-stream")
        .with("etag", &etag);
    if !ranges {
        return whole;
    }
    let whole = whole.with("accept-ranges", "bytes");
    let condition = asked.header("if-range");
    let range = asked.header("range");
    let Some(range) = range.filter(|_| condition.is_none_or(|known| known == etag)) else {
        return whole;
    };
    let length = blob.len();
    match parse_range(range, length) {
        Some((first, last)) => Reply {
            content: blob.slice(first..=last),
            ..whole
        }
        .status(206)
        .with("content-range", format!("bytes {first}-{last}/{length}")),
        None => Reply::new(416, "").with("content-range", format!("bytes */{length}")),
    }
}

/// First and last byte of a single range.
fn parse_range(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    if first.is_empty() {
        let suffix: usize = last.parse().ok()?;
        return (suffix > 0).then(|| (length.saturating_sub(suffix), end));
    }
    let first = first.parse().ok()?;
    let last = match last {
        "" => end,
        last => last.parse::<usize>().ok()?.min(end),
    };
    (first <= last).then_some((first, last))
}
