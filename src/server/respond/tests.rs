//! The table of SPEC 4.3, row by row.

use std::sync::Arc;

use super::*;
use crate::metrics::PullStatus;
use crate::oci::InvalidName;
use crate::upstream::{Limit, Phase, Wrong};

fn target() -> Target {
    Target::new("docker.io".parse().unwrap(), "acme/app".parse().unwrap())
}

fn upstream_error(kind: ErrorKind) -> pull::Error {
    pull::Error::Upstream(upstream::Error {
        registry: "docker.io".parse().unwrap(),
        endpoint: Some("https://registry-1.docker.io".into()),
        kind,
    })
}

fn refusal(kind: Kind, family: Family, error: &pull::Error) -> Refusal {
    let reference: Reference = "3.20".parse().unwrap();
    let target = target();
    let asked = Asked {
        kind,
        target: &target,
        reference: Some(&reference),
        family,
        shown: Shown::Stored,
    };
    pull_failed(error, &asked)
}

fn quota() -> ErrorKind {
    ErrorKind::RateLimited {
        limit: Limit::Quota,
        retry_after: None,
        said: "You have reached your pull rate limit".to_owned(),
    }
}

fn refused_by(credential: &str) -> ErrorKind {
    ErrorKind::Refused {
        credential: credential.into(),
        status: 401,
        said: "incorrect username or password".to_owned(),
    }
}

#[test]
fn each_failure_of_a_manifest_has_its_status_and_code() {
    let timeout = Away::Timeout {
        during: Phase::Headers,
        after: Duration::from_secs(15),
    };
    for (kind, status, code, pull_status) in [
        (
            ErrorKind::NotFound,
            404,
            "MANIFEST_UNKNOWN",
            PullStatus::NotFound,
        ),
        (
            refused_by("config:bot"),
            502,
            "UNAUTHORIZED",
            PullStatus::Denied,
        ),
        (quota(), 429, "TOOMANYREQUESTS", PullStatus::RateLimited),
        (
            ErrorKind::Away(timeout),
            504,
            "UNAVAILABLE",
            PullStatus::Error,
        ),
        (
            ErrorKind::Away(Away::Refused),
            502,
            "UNAVAILABLE",
            PullStatus::Error,
        ),
        (
            ErrorKind::Wrong(Wrong::MediaType),
            502,
            "UNAVAILABLE",
            PullStatus::Error,
        ),
    ] {
        let refusal = refusal(Kind::Manifest, Family::Other, &upstream_error(kind.clone()));
        assert_eq!(
            (
                refusal.status.as_u16(),
                refusal.code.as_str(),
                refusal.pull_status()
            ),
            (status, code, pull_status),
            "{kind:?}"
        );
        assert!(refusal.message.contains("docker.io"), "{}", refusal.message);
    }
}

#[test]
fn a_blob_that_cannot_be_had_is_a_404_whatever_the_reason() {
    for kind in [
        ErrorKind::NotFound,
        refused_by("anonymous"),
        quota(),
        ErrorKind::Away(Away::Refused),
        ErrorKind::Wrong(Wrong::MediaType),
    ] {
        let refusal = refusal(Kind::Blob, Family::Other, &upstream_error(kind));
        assert_eq!(
            (refusal.status.as_u16(), refusal.code.as_str()),
            (404, "BLOB_UNKNOWN")
        );
        assert!(refusal.message.contains("docker.io"), "{}", refusal.message);
    }
}

#[test]
fn a_used_up_quota_is_a_429_or_a_503_by_client_family() {
    let error = upstream_error(quota());
    let docker = refusal(Kind::Manifest, Family::Other, &error);
    assert_eq!(docker.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(docker.retry_after, Some(RATE_LIMIT_RETRY));
    assert!(
        docker.message.contains("pull rate limit"),
        "{}",
        docker.message
    );
    let podman = refusal(Kind::Manifest, Family::ContainersImage, &error);
    assert_eq!(podman.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(podman.pull_status(), PullStatus::RateLimited);
}

#[test]
fn a_server_error_names_credential_and_registry_but_no_inner_detail() {
    let error = upstream_error(refused_by("config:bot"));
    let message = refusal(Kind::Manifest, Family::Other, &error).message;
    assert!(
        message.contains("config:bot") && message.contains("docker.io"),
        "{message}"
    );
    let inner = Away::Dns {
        host: "registry.corp.internal".to_owned(),
        why: "SERVFAIL from 10.1.2.3".to_owned(),
    };
    let error = upstream_error(ErrorKind::Away(inner));
    let message = refusal(Kind::Manifest, Family::Other, &error).message;
    assert!(
        !message.contains("10.1.2.3") && !message.contains("corp"),
        "{message}"
    );
}

#[test]
fn what_weir_itself_cannot_do_is_said_without_paths() {
    let digest = crate::oci::Digest::of(crate::oci::Algorithm::Sha256, b"");
    for (error, status) in [
        (pull::Error::Busy { limit: 64 }, 503),
        (pull::Error::Crowded { limit: 64 }, 503),
        (pull::Error::Stopping, 503),
        (pull::Error::QuotaReserved { target: target() }, 429),
        (
            pull::Error::UnknownRegistry("a.example".parse().unwrap()),
            404,
        ),
        (
            pull::Error::NotNamed {
                target: target(),
                digest,
            },
            404,
        ),
        (
            pull::Error::RememberedMissing {
                target: target(),
                reference: "3.20".parse().unwrap(),
            },
            404,
        ),
    ] {
        let refusal = refusal(Kind::Manifest, Family::Other, &error);
        assert_eq!(refusal.status.as_u16(), status, "{error}");
    }
}

#[test]
fn malformed_requests_have_the_codes_of_the_specification() {
    for (path, status, code) in [
        ("/v1/_ping", 404, "UNSUPPORTED"),
        ("/v2/a/manifests/.INVALID", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/A/manifests/x", 400, "NAME_INVALID"),
        ("/v2/../etc/passwd/manifests/x", 400, "NAME_INVALID"),
        ("/v2/a%2f..%2fb/manifests/x", 400, "NAME_INVALID"),
    ] {
        let error = crate::oci::Request::parse(path).unwrap_err();
        let refusal = invalid_request(&error);
        assert_eq!(
            (refusal.status.as_u16(), refusal.code.as_str()),
            (status, code),
            "{path}"
        );
    }
    assert_eq!(
        invalid_request(&InvalidRequest::TooLong).status.as_u16(),
        414
    );
}

#[test]
fn what_leads_nowhere_is_an_unknown_name() {
    let configured: Arc<str> = "docker.io, ghcr.io".into();
    let unknown = unrouted(&Unrouted::UnknownRegistry {
        asked: "quay.io".to_owned(),
        configured,
    });
    assert_eq!(
        (unknown.status.as_u16(), unknown.code.as_str()),
        (404, "NAME_UNKNOWN")
    );
    let port = unrouted(&Unrouted::Name(InvalidName::Character(':')));
    assert_eq!(
        (port.status.as_u16(), port.code.as_str()),
        (400, "NAME_INVALID")
    );
    let denied = denied(Denied::NoRule, &target());
    assert_eq!(
        (denied.status.as_u16(), denied.code.as_str()),
        (403, "DENIED")
    );
    assert_eq!(denied.pull_status(), PullStatus::Denied);
}
