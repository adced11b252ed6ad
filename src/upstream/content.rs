//! Answers that are small enough to be taken whole: read within limits, and checked.
//!
//! A manifest leaves this file only with bytes that match its digest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::error::{Away, ErrorKind, Phase, Wrong};
use super::remote::length;
use super::transport::body_fault;
use crate::oci::{Algorithm, Children, Digest, MANIFEST_BYTES_MAX, Manifest, MediaType, Reference};

/// What is asked for, always all of it: what a client accepts is its own affair, and one answer is
/// to serve them all. Source: the media types of OCI Image 1.1 and Docker's schemas.
pub(super) const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.v1+prettyjws, \
     application/vnd.docker.distribution.manifest.v1+json";
/// Its digest leaves its signatures out, so that it does not fit its bytes.
const SIGNED_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// How long a manifest may pause when its time is over. With the patience of the question it stays
/// within the 5 s of SPEC 4.3 that an upstream may be silent.
const MANIFEST_PAUSE: Duration = Duration::from_millis(400);
/// How often a list may use up its idle time.
const LIST_PAUSES: u32 = 4;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyTime {
    /// Until then it may pause as it likes.
    by: Instant,
    /// After that it has to keep coming, with pauses no longer than this.
    pause: Duration,
    in_all: Duration,
}

impl BodyTime {
    pub(super) fn of_manifest(by: Instant, idle_timeout: Duration) -> Self {
        BodyTime {
            by,
            pause: MANIFEST_PAUSE,
            in_all: idle_timeout,
        }
    }

    pub(super) fn of_list(idle_timeout: Duration) -> Self {
        BodyTime {
            by: Instant::now(),
            pause: idle_timeout,
            in_all: idle_timeout * LIST_PAUSES,
        }
    }
}

/// Reads a manifest and holds it against the digest that was asked for, or that the registry states.
pub(super) async fn manifest(
    response: Response<Incoming>,
    reference: &Reference,
    time: BodyTime,
) -> Result<Manifest, ErrorKind> {
    let headers = response.headers().clone();
    let bytes = whole(response, MANIFEST_BYTES_MAX, time).await?;
    let media_type = manifest_type(&headers, &bytes)?;
    let expected = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) if media_type.as_str() == SIGNED_SCHEMA_1 => None,
        Reference::Tag(_) => stated_digest(&headers),
    };
    let algorithm = expected.map_or(Algorithm::Sha256, |expected| expected.algorithm());
    let found = Digest::of(algorithm, &bytes);
    match expected {
        Some(expected) if expected != found => Err(ErrorKind::Wrong(Wrong::Digest {
            expected: Box::new(expected),
            found: Box::new(found),
        })),
        Some(_) | None => Ok(Manifest {
            digest: found,
            media_type,
            bytes,
        }),
    }
}

/// Reads a body of at most `bytes_max` bytes.
pub(super) async fn whole(
    response: Response<Incoming>,
    bytes_max: usize,
    time: BodyTime,
) -> Result<Bytes, ErrorKind> {
    check_encoding(response.headers())?;
    let too_long = || {
        let max = bytes_max as u64;
        ErrorKind::Wrong(Wrong::TooLong { max })
    };
    let stated = length(response.headers());
    if stated.is_some_and(|stated| stated > bytes_max as u64) {
        return Err(too_long());
    }
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    let started = Instant::now();
    loop {
        let by = time.by.max(Instant::now() + time.pause);
        let frame = tokio::time::timeout_at(by.min(started + time.in_all), body.frame())
            .await
            .map_err(|_elapsed| {
                ErrorKind::Away(Away::Timeout {
                    during: Phase::Body,
                    after: started.elapsed(),
                })
            })?;
        let Some(frame) = frame else {
            return Ok(read.freeze());
        };
        let frame = frame.map_err(|error| ErrorKind::Away(body_fault(&error)))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > bytes_max {
                return Err(too_long());
            }
            read.extend_from_slice(&data);
        }
    }
}

/// A content coding would change the bytes that the digest is about.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), ErrorKind> {
    let Some(coding) = headers.get(CONTENT_ENCODING) else {
        return Ok(());
    };
    let coding = String::from_utf8_lossy(coding.as_bytes()).trim().to_owned();
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    let coding = coding
        .chars()
        .filter(char::is_ascii_graphic)
        .take(32)
        .collect();
    Err(ErrorKind::Wrong(Wrong::Encoded { coding }))
}

pub(super) fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    let value = headers.get("docker-content-digest")?;
    value.to_str().ok()?.trim().parse().ok()
}

/// The media type, without parameters such as a charset.
pub(super) fn stated_type(headers: &HeaderMap) -> Option<MediaType> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    MediaType::new(value.split(';').next()?.trim())
}

/// The type that the registry states, where that is one of a manifest; else what the bytes tell.
fn manifest_type(headers: &HeaderMap, bytes: &Bytes) -> Result<MediaType, ErrorKind> {
    let not = |why: String| ErrorKind::Wrong(Wrong::NotManifest { why });
    let stated = stated_type(headers);
    let children = Children::parse(bytes).map_err(|error| not(error.to_string()))?;
    let told = Manifest::sniff_media_type(bytes).map_err(|error| not(error.to_string()))?;
    let is_specific = |stated: &MediaType| stated.as_str().starts_with("application/vnd.");
    let stated_specific = stated.clone().filter(is_specific);
    let is_empty = children.iter().next().is_none() && children.subject.is_none();
    if is_empty && stated_specific.is_none() {
        let stated = stated.as_ref().map_or("no type", MediaType::as_str);
        return Err(not(format!("it names no content, and comes as {stated}")));
    }
    Ok(stated_specific.unwrap_or(told))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn typed(content_type: &str, body: &str) -> Result<String, ErrorKind> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        manifest_type(&headers, &bytes).map(|media_type| media_type.to_string())
    }

    #[test]
    fn the_type_is_the_registrys_or_the_manifests_own() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = format!(r#"{{"config":{{"digest":"{digest}"}},"layers":[]}}"#);
        let oci = "application/vnd.oci.image.manifest.v1+json";
        assert_eq!(
            typed(&format!("{oci}; charset=utf-8"), &image).unwrap(),
            oci
        );
        assert_eq!(typed("application/json", &image).unwrap(), oci);
        assert_eq!(typed("text/plain", &image).unwrap(), oci);
        let index = "application/vnd.oci.image.index.v1+json";
        assert_eq!(typed(index, r#"{"manifests":[]}"#).unwrap(), index);
    }

    #[test]
    fn error_pages_are_no_manifests() {
        for (content_type, body) in [
            ("text/html", "<html>Sign in</html>"),
            ("application/json", r#"{"errors":[{"code":"UNKNOWN"}]}"#),
            ("application/vnd.oci.image.manifest.v1+json", ""),
            ("application/json", "{}"),
            ("application/json", "[]"),
        ] {
            let found = typed(content_type, body);
            assert!(
                matches!(found, Err(ErrorKind::Wrong(Wrong::NotManifest { .. }))),
                "{body}"
            );
        }
    }

    #[test]
    fn only_plain_content_is_taken() {
        let with = |coding: &'static str| {
            let value = HeaderValue::from_static(coding);
            check_encoding(&HeaderMap::from_iter([(CONTENT_ENCODING, value)]))
        };
        assert!(check_encoding(&HeaderMap::new()).is_ok());
        assert!(with("identity").is_ok());
        assert!(with("gzip").is_err());
    }
}
