//! What a path under `/v2/` asks for.
//!
//! The repository stands in the middle of the path and has slashes of its own, so the verb is found
//! from the right. Source: OCI Distribution Specification 1.1, "Endpoints".

use super::{Digest, InvalidDigest, InvalidName, Name, Reference, Tag};

/// Longest path that is looked at: a name, a verb and a sha512 digest fit twice.
const PATH_BYTES_MAX: usize = 1024;

/// One request of the pull half of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `/v2/`
    Ping,
    /// `/v2/<name>/manifests/<reference>`
    Manifest { name: Name, reference: Reference },
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: Name, digest: Digest },
    /// `/v2/<name>/tags/list`
    Tags { name: Name },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: Name, digest: Digest },
    /// `/v2/_catalog`
    Catalog,
}

impl Request {
    /// Reads the path of a URL, percent-encoded as it came.
    pub fn parse(path: &str) -> Result<Self, InvalidRequest> {
        if path.len() > PATH_BYTES_MAX {
            return Err(InvalidRequest::TooLong);
        }
        let decoded;
        let path = if path.contains('%') {
            decoded = decode(path)?;
            &decoded
        } else {
            path
        };
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Request::Ping),
            Some("/_catalog") => return Ok(Request::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or(InvalidRequest::NotFound)?,
            None => return Err(InvalidRequest::NotFound),
        };
        let (rest, last) = rest.rsplit_once('/').ok_or(InvalidRequest::NotFound)?;
        let (name, verb) = rest.rsplit_once('/').ok_or(InvalidRequest::NotFound)?;
        match (verb, last) {
            ("manifests", reference) => Ok(Request::Manifest {
                name: parse_name(name)?,
                reference: parse_reference(reference)?,
            }),
            ("blobs", digest) => Ok(Request::Blob {
                name: parse_name(name)?,
                digest: digest.parse()?,
            }),
            ("tags", "list") => Ok(Request::Tags {
                name: parse_name(name)?,
            }),
            ("referrers", digest) => Ok(Request::Referrers {
                name: parse_name(name)?,
                digest: digest.parse()?,
            }),
            _ => Err(InvalidRequest::NotFound),
        }
    }
}

fn parse_name(name: &str) -> Result<Name, InvalidRequest> {
    name.parse().map_err(InvalidRequest::Name)
}

fn parse_reference(reference: &str) -> Result<Reference, InvalidRequest> {
    if reference.contains(':') {
        Ok(Reference::Digest(reference.parse()?))
    } else {
        Ok(Reference::Tag(
            reference.parse::<Tag>().map_err(InvalidRequest::Tag)?,
        ))
    }
}

/// Undoes percent-encoding once. An encoded slash, backslash or control character has no honest use
/// here and is refused rather than interpreted.
fn decode(path: &str) -> Result<String, InvalidRequest> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
            _ => return Err(InvalidRequest::Encoding),
        }
        if matches!(decoded.last(), Some(b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f)) {
            return Err(InvalidRequest::Encoding);
        }
    }
    String::from_utf8(decoded).map_err(|_| InvalidRequest::Encoding)
}

/// Why a path asks for nothing that weir has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("there is nothing at this path; images are under /v2/<name>/manifests/ and /blobs/")]
    NotFound,
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    #[error("the path's percent-encoding is broken, or hides a separator")]
    Encoding,
    #[error("{0}")]
    Name(#[source] InvalidName),
    #[error("{0}")]
    Tag(#[source] InvalidName),
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_endpoint() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Request::parse("/v2/"), Ok(Request::Ping));
        assert_eq!(Request::parse("/v2"), Ok(Request::Ping));
        assert_eq!(Request::parse("/v2/_catalog"), Ok(Request::Catalog));
        for (path, name, reference) in [
            ("/v2/alpine/manifests/3.20".to_owned(), "alpine", "3.20"),
            (format!("/v2/a/b/c/manifests/{digest}"), "a/b/c", &*digest),
            (
                format!("/v2/a/manifests/sha256%3A{}", "0".repeat(64)),
                "a",
                &digest,
            ),
            (
                "/v2/ghcr.io/org/manifests/manifests/x".to_owned(),
                "ghcr.io/org/manifests",
                "x",
            ),
            (
                "/v2/localhost:5000/a/manifests/x".to_owned(),
                "localhost:5000/a",
                "x",
            ),
        ] {
            let expected = Request::Manifest {
                name: name.parse().unwrap(),
                reference: reference.parse().unwrap(),
            };
            assert_eq!(Request::parse(&path), Ok(expected), "{path}");
        }
        assert!(matches!(
            Request::parse(&format!("/v2/a/blobs/{digest}")),
            Ok(Request::Blob { .. })
        ));
        assert!(matches!(
            Request::parse(&format!("/v2/a/referrers/{digest}")),
            Ok(Request::Referrers { .. })
        ));
        assert!(matches!(
            Request::parse("/v2/a/tags/list"),
            Ok(Request::Tags { .. })
        ));
    }

    #[test]
    fn refuses_tricks() {
        for path in [
            "",
            "/",
            "/v1/_ping",
            "/v2/a",
            "/v2/a/b",
            "/v2//manifests/x",
            "/v22/a/manifests/x",
            "/v2/../a/manifests/x",
            "/v2/a/../b/manifests/x",
            "/v2/a%2fb/manifests/x",
            "/v2/a/manifests/..%2f..%2fetc",
            "/v2/a/manifests/%00",
            "/v2/a/manifests/%",
            "/v2/a/manifests/%zz",
            "/v2/a/blobs/latest",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/manifests/a%0d%0ab",
            "/v2/a/manifests/%252e",
            "/v2/a/blobs/uploads/",
            "/v2/a/manifests/",
        ] {
            assert!(Request::parse(path).is_err(), "{path}");
        }
        assert_eq!(
            Request::parse(&format!("/v2/{}/manifests/x", "a/".repeat(600))),
            Err(InvalidRequest::TooLong)
        );
    }

    proptest! {
        #[test]
        fn no_path_makes_the_parser_panic(path: String) {
            let _ = Request::parse(&path);
            let _ = Request::parse(&format!("/v2/{path}"));
        }
    }
}
