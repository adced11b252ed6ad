//! The answers that give something: heads of manifests and blobs, and the bodies behind them.
//!
//! A manifest goes out byte for byte, a blob is never content-encoded, and both say their digest.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::Body;
use super::conditions;
use super::multipart::{Multipart, content_range};
use super::outlet::Outlet;
use super::range::Wanted;
use super::refusal::{JSON, Refusal};
use super::send;
use crate::oci::{Digest, ErrorCode};
use crate::pull::{Answer, Blob, ManifestHead};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Longest text of a warning, by the specification.
const WARNING_BYTES_MAX: usize = 4096;

pub(super) fn ping() -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::from_static(b"{}")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(2));
    response
}

/// `bytes`: the manifest itself; without, only its head, as a `HEAD` asks for.
pub(super) fn manifest(
    answer: &Answer<ManifestHead>,
    bytes: Option<Bytes>,
    asked: &HeaderMap,
) -> Response<Body> {
    let ManifestHead {
        digest,
        media_type,
        length,
    } = &answer.content;
    let mut response = match conditions::is_known(asked, digest) {
        true => not_modified(),
        false => Response::new(bytes.map_or_else(Body::empty, Body::whole)),
    };
    let headers = response.headers_mut();
    let text = HeaderValue::from_str(media_type.as_str());
    headers.insert(
        header::CONTENT_TYPE,
        text.expect("a media type is a header value"),
    );
    name(headers, digest);
    tell(headers, answer.age, answer.warning.as_deref());
    if response.status() == StatusCode::OK {
        promise(&mut response, *length);
    }
    response
}

/// All of a blob, or the part that `Range` asks for.
pub(super) fn blob(
    answer: Answer<Blob>,
    asked: &HeaderMap,
    outlet: Outlet,
) -> Result<Response<Body>, Refusal> {
    let blob = answer.content;
    let digest = *blob.digest();
    let mut response = if conditions::is_known(asked, &digest) {
        not_modified()
    } else {
        match wanted(&blob, asked) {
            Wanted::Whole => whole(blob, outlet),
            Wanted::One(range) => one_range(blob, range, outlet),
            Wanted::Several(ranges) => several_ranges(blob, ranges, outlet),
            Wanted::Unsatisfiable => return Err(unsatisfiable(&blob)),
            Wanted::TooMany => return Err(too_many_ranges()),
        }
    };
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_TYPE).or_insert(OCTETS);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    name(headers, &digest);
    tell(headers, answer.age, answer.warning.as_deref());
    Ok(response)
}

/// The head of a blob, for a `HEAD`, which knows no ranges.
pub(super) fn blob_head(answer: &Answer<Blob>, asked: &HeaderMap) -> Response<Body> {
    let digest = answer.content.digest();
    let mut response = if conditions::is_known(asked, digest) {
        not_modified()
    } else {
        let mut response = Response::new(Body::empty());
        if let Some(length) = answer.content.length() {
            promise(&mut response, length);
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, OCTETS);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    name(headers, digest);
    tell(headers, answer.age, answer.warning.as_deref());
    response
}

fn wanted(blob: &Blob, asked: &HeaderMap) -> Wanted {
    let range = asked
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    match (range, blob.length()) {
        (Some(range), Some(length))
            if blob.has_ranges() && conditions::may_send_part(asked, blob.digest()) =>
        {
            Wanted::read(range, length)
        }
        _ => Wanted::Whole,
    }
}

fn whole(blob: Blob, outlet: Outlet) -> Response<Body> {
    let length = blob.length();
    if length == Some(0) {
        let mut response = Response::new(Body::empty());
        promise(&mut response, 0);
        return response;
    }
    let mut response = Response::new(Body::stream(send::whole(blob, outlet)));
    if let Some(length) = length {
        promise(&mut response, length);
    }
    response
}

fn one_range(blob: Blob, range: Range<u64>, outlet: Outlet) -> Response<Body> {
    let shown = content_range(&range, blob.length().unwrap_or_default());
    let length = range.end - range.start;
    let stretches = vec![send::Stretch::Part(range)];
    let stream = send::stretches(blob, stretches, outlet);
    let mut response = Response::new(Body::stream(stream));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let shown = HeaderValue::from_str(&shown).expect("digits are a header value");
    response.headers_mut().insert(header::CONTENT_RANGE, shown);
    promise(&mut response, length);
    response
}

fn several_ranges(blob: Blob, ranges: Vec<Range<u64>>, outlet: Outlet) -> Response<Body> {
    let boundary = uuid::Uuid::now_v7().simple().to_string();
    let multipart = Multipart::new(ranges, blob.length().unwrap_or_default(), &boundary);
    let stream = send::stretches(blob, multipart.stretches, outlet);
    let mut response = Response::new(Body::stream(stream));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let content_type = HeaderValue::from_str(&multipart.content_type);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        content_type.expect("a boundary of digits is a header value"),
    );
    promise(&mut response, multipart.length);
    response
}

fn unsatisfiable(blob: &Blob) -> Refusal {
    let length = blob.length().unwrap_or_default();
    Refusal::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::RangeInvalid,
        format!("nothing of this range is in the blob, which has {length} bytes"),
    )
    .length(length)
}

/// 400: clients that fetch parts of layers ask for fewer after it.
fn too_many_ranges() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::RangeInvalid,
        "too many ranges in one request",
    )
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn name(headers: &mut HeaderMap, digest: &Digest) {
    let etag = Bytes::from(format!("\"{digest}\""));
    let digest = etag.slice(1..etag.len() - 1);
    let value = |text| HeaderValue::from_maybe_shared(text).expect("a digest is a header value");
    headers.insert(header::ETAG, value(etag));
    headers.insert(DIGEST, value(digest));
}

pub(super) fn tell(headers: &mut HeaderMap, age: Option<Duration>, warning: Option<&str>) {
    if let Some(age) = age {
        headers.insert(header::AGE, age.as_secs().into());
    }
    if let Some(text) = warning {
        headers.insert(header::WARNING, warning_value(text));
    }
}

fn promise(response: &mut Response<Body>, length: u64) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
}

/// `299 - "text"`. Source: OCI Distribution Specification 1.1, "Warnings".
fn warning_value(text: &str) -> HeaderValue {
    let printable = text.chars().map(|c| match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    });
    let text: String = printable.take(WARNING_BYTES_MAX).collect();
    let value = HeaderValue::from_str(&format!("299 - \"{text}\""));
    value.expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_cannot_break_out_of_its_header() {
        let text = format!("stale: \"x\"\r\nSet-Cookie: a\\ \u{e4}{}", "y".repeat(5000));
        let value = warning_value(&text);
        let value = value.to_str().unwrap();
        assert!(
            value.starts_with("299 - \"stale: 'x'??Set-Cookie: a' ?yyy"),
            "{value}"
        );
        assert!(value.ends_with("y\""));
        assert_eq!(value.len(), WARNING_BYTES_MAX + "299 - \"\"".len());
    }
}
