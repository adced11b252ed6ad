//! The walk of a request through the house, as one function: [`Walk::answer`].
//!
//! The type changes at every door: `http::Request` → `Client` → `oci::Request` → `Target` →
//! permitted → content → `http::Response`. Nothing behind a door looks back at the raw request.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};

use super::body::Body;
use super::family::Family;
use super::front::Front;
use super::query::parameter;
use super::record::Record;
use super::refusal::Refusal;
use super::respond::{self, Asked};
use super::{Server, answer};
use crate::access::{Arrival, Client};
use crate::metrics::{Kind, Outcome, PullStatus};
use crate::oci::{Digest, ErrorCode, Name, Reference, Request, Target};
use crate::pull::{self, Answer, Ask, ManifestHead};
use crate::upstream::Identity;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// `None`: over a unix socket.
    pub(super) address: Option<IpAddr>,
}

impl Server {
    /// Answers one request, whatever it is, and whatever happens inside.
    pub(super) async fn walk(&self, parts: Parts, peer: &Peer) -> Response<Body> {
        let mut record = Record::begin(&parts, self.metrics.clone());
        let walk = Walk {
            server: self,
            front: self.front.load_full(),
            parts: &parts,
        };
        let walked = AssertUnwindSafe(walk.answer(peer, &mut record)).catch_unwind();
        let answered = walked.await.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Err(respond::panicked())
        });
        let response = answered.unwrap_or_else(|refusal| {
            record.outcome = Outcome::Error;
            record.pull_status = record.pull_status.map(|_| refusal.pull_status());
            refusal.into_response(&record.id)
        });
        finish(response, &parts, record)
    }
}

/// One request on its way.
struct Walk<'a> {
    server: &'a Server,
    front: Arc<Front>,
    parts: &'a Parts,
}

impl Walk<'_> {
    async fn answer(&self, peer: &Peer, record: &mut Record) -> Result<Response<Body>, Refusal> {
        record.series = Some(self.front.no_registry.clone());
        check_head(self.parts)?;
        let client = self.front.access.identify(&self.arrival(peer));
        record.client = Some(client.clone());
        let request = Request::parse(self.parts.uri.path())
            .map_err(|error| respond::invalid_request(&error))?;
        match request {
            Request::Ping => {
                record.kind = Some(Kind::Ping);
                record.outcome = Outcome::Hit;
                Ok(answer::ping())
            }
            Request::Manifest { name, reference } => {
                record.kind = Some(Kind::Manifest);
                record.pull_status = self.is_get().then_some(PullStatus::Success);
                record.reference = Some(reference.clone());
                let ask = self.admit(&client, &name, record)?;
                self.manifest(&ask, &reference, record).await
            }
            Request::Blob { name, digest } => {
                record.kind = Some(Kind::Blob);
                record.digest = Some(digest);
                let ask = self.admit(&client, &name, record)?;
                self.blob(&ask, &digest, record).await
            }
            Request::Tags { .. } | Request::Referrers { .. } | Request::Catalog => {
                Err(not_offered())
            }
        }
    }

    fn arrival(&self, peer: &Peer) -> Arrival<'_> {
        Arrival {
            peer: peer.address,
            forwarded_for: text(&self.parts.headers, FORWARDED_FOR),
        }
    }

    /// From a name to a repository that this client may pull.
    fn admit(&self, client: &Client, name: &Name, record: &mut Record) -> Result<Ask, Refusal> {
        let ns = parameter(self.parts.uri.query(), "ns");
        let host = host(self.parts);
        let routed = self.front.routes.target(ns.as_deref(), host, name);
        let target = routed.map_err(|error| respond::unrouted(&error))?.target;
        let series = self.front.series(&target.registry);
        record.series = Some(series.clone());
        record.target = Some(target.clone());
        self.front
            .access
            .permits(client, &target)
            .map_err(|error| {
                series.client_refused();
                respond::denied(&error, &target)
            })?;
        let identity = Identity::Stored;
        Ok(Ask { target, identity })
    }

    async fn manifest(
        &self,
        ask: &Ask,
        reference: &Reference,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let pull = &self.server.pull;
        let failed = |error: pull::Error| {
            let asked = self.asked(Kind::Manifest, &ask.target, Some(reference));
            respond::pull_failed(&error, &asked)
        };
        let (head, bytes) = if self.is_get() {
            let answer = pull.manifest(ask, reference).await.map_err(failed)?;
            let bytes = answer.content.bytes.clone();
            (with_head(answer), Some(bytes))
        } else {
            (
                pull.manifest_head(ask, reference).await.map_err(failed)?,
                None,
            )
        };
        record.digest = Some(head.content.digest);
        note(record, &head);
        Ok(answer::manifest(&head, bytes, &self.parts.headers))
    }

    async fn blob(
        &self,
        ask: &Ask,
        digest: &Digest,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let reference = Reference::Digest(*digest);
        let answer = self.server.pull.blob(ask, digest).await.map_err(|error| {
            let asked = self.asked(Kind::Blob, &ask.target, Some(&reference));
            respond::pull_failed(&error, &asked)
        })?;
        note(record, &answer);
        if self.is_get() {
            answer::blob(answer, &self.parts.headers, &self.server.buffers)
        } else {
            Ok(answer::blob_head(&answer, &self.parts.headers))
        }
    }

    fn asked<'a>(
        &self,
        kind: Kind,
        target: &'a Target,
        reference: Option<&'a Reference>,
    ) -> Asked<'a> {
        Asked {
            kind,
            target,
            reference,
            family: Family::of(text(&self.parts.headers, header::USER_AGENT)),
        }
    }

    fn is_get(&self) -> bool {
        self.parts.method == Method::GET
    }
}

/// What has to be right before anybody asks what the request wants.
fn check_head(parts: &Parts) -> Result<(), Refusal> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    let needs_host = parts.version == Version::HTTP_11 && parts.uri.authority().is_none();
    // RFC 9112, 3.2: exactly one Host, also where the target is an absolute URI.
    if hosts > 1 || (needs_host && hosts == 0) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::Unsupported,
            "an HTTP/1.1 request has exactly one Host header",
        )
        .then_close());
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            "weir only serves pulls; push to the registry itself",
        ));
    }
    Ok(())
}

fn host(parts: &Parts) -> Option<&str> {
    let of_uri = parts.uri.authority().map(|authority| authority.as_str());
    of_uri.or_else(|| text(&parts.headers, header::HOST))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn with_head(answer: Answer<Arc<crate::oci::Manifest>>) -> Answer<ManifestHead> {
    Answer {
        content: ManifestHead::from(&*answer.content),
        outcome: answer.outcome,
        age: answer.age,
        warning: answer.warning,
        source: answer.source,
    }
}

fn note<T>(record: &mut Record, answer: &Answer<T>) {
    record.source = answer.source.clone();
    record.outcome = match answer.outcome {
        pull::Outcome::Hit => Outcome::Hit,
        pull::Outcome::Stale => Outcome::Stale,
        pull::Outcome::Miss => Outcome::Miss,
        pull::Outcome::Joined => Outcome::Joined,
    };
}

fn not_offered() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        ErrorCode::Unsupported,
        "this weir does not answer this",
    )
}

/// What every answer carries, and the record with it.
fn finish(mut response: Response<Body>, parts: &Parts, mut record: Record) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(super::request_id::RequestId::HEADER, record.id.to_header());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(target) = &record.target
        && parameter(parts.uri.query(), "ns").is_some()
    {
        let registry = HeaderValue::from_str(target.registry.as_str());
        headers.insert(
            OCI_NAMESPACE,
            registry.expect("a registry's name is a header value"),
        );
    }
    let promised = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    record.answered(response.status(), promised);
    let is_head = parts.method == Method::HEAD;
    response.map(|body| {
        let body = if is_head { Body::empty() } else { body };
        body.accompany(record)
    })
}
