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
use hyper::body::Incoming;

use super::body::Body;
use super::challenge::{TOKEN_PATH, challenge};
use super::front::Front;
use super::query::parameter;
use super::record::Record;
use super::refusal::Refusal;
use super::respond;
use super::{Server, answer};
use crate::access::{Arrival, Client, Denied, Shown, Subject, Unidentified};
use crate::metrics::{Kind, Outcome, PullStatus};
use crate::oci::{ErrorCode, InvalidRequest, Name, Request};
use crate::pull::Ask;
use crate::upstream::{ClientLogin, Identity};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// `None`: over a unix socket.
    pub(super) address: Option<IpAddr>,
    /// Whether the connection is TLS.
    pub(super) secure: bool,
    pub(super) certificate: Option<Arc<Subject>>,
}

impl Server {
    /// Answers one request, whatever it is, and whatever happens inside.
    pub(super) async fn walk(
        &self,
        request: http::Request<Incoming>,
        peer: &Peer,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut record = Record::begin(&parts, self.metrics.clone());
        let walk = Walk {
            server: self,
            front: self.front.load_full(),
            parts: &parts,
            peer,
        };
        let walked = AssertUnwindSafe(walk.answer(body, &mut record)).catch_unwind();
        let answered = walked.await.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            Err(respond::panicked())
        });
        let response = answered.unwrap_or_else(|mut refusal| {
            record.outcome = Outcome::Error;
            record.pull_status = record.pull_status.map(|_| refusal.pull_status());
            if refusal.status == StatusCode::UNAUTHORIZED {
                refusal.challenge = Some(challenge(&parts, walk.is_secure()));
            }
            refusal.into_response(&record.id)
        });
        finish(response, &parts, record)
    }
}

/// One request on its way.
pub(super) struct Walk<'a> {
    pub(super) server: &'a Server,
    pub(super) front: Arc<Front>,
    pub(super) parts: &'a Parts,
    pub(super) peer: &'a Peer,
}

impl Walk<'_> {
    async fn answer(&self, body: Incoming, record: &mut Record) -> Result<Response<Body>, Refusal> {
        record.series = Some(self.front.no_registry.clone());
        check_host(self.parts)?;
        if self.parts.uri.path() == TOKEN_PATH {
            return Box::pin(self.token(body)).await;
        }
        check_method(self.parts)?;
        let client = self.identify(record).await?;
        let request = Request::parse(self.parts.uri.path())
            .map_err(|error| respond::invalid_request(&error))?;
        match request {
            Request::Ping => {
                record.kind = Some(Kind::Ping);
                if self.front.access.wants_login(&client) {
                    return Err(respond::unidentified(Unidentified::NoLogin));
                }
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
            Request::Tags { name } => {
                record.kind = Some(Kind::Tags);
                let ask = self.admit(&client, &name, record)?;
                Box::pin(self.tags(&ask, record)).await
            }
            Request::Referrers { name, digest } => {
                record.kind = Some(Kind::Referrers);
                record.digest = Some(digest);
                let ask = self.admit(&client, &name, record)?;
                Box::pin(self.referrers(&ask, &digest, record)).await
            }
            Request::Catalog => self.catalog(&client, record),
        }
    }

    async fn identify(&self, record: &mut Record) -> Result<Client, Refusal> {
        let headers = &self.parts.headers;
        let forwarded_for = headers.get_all(FORWARDED_FOR).iter();
        let arrival = Arrival {
            peer: self.peer.address,
            forwarded_for: forwarded_for
                .filter_map(|line| line.to_str().ok())
                .collect(),
            certificate: self.peer.certificate.as_ref(),
            authorization: text(headers, header::AUTHORIZATION),
        };
        let now = self.server.clock.now();
        let identified = self.front.access.identify(&arrival, now).await;
        let client = identified.map_err(|error| {
            self.front.no_registry.client_refused();
            respond::unidentified(error)
        })?;
        record.client = Some(client.clone());
        Ok(client)
    }

    /// Whether the client's own connection is TLS, which a proxy may have ended.
    fn is_secure(&self) -> bool {
        let by_proxy = || text(&self.parts.headers, FORWARDED_PROTO) == Some("https");
        self.peer.secure || (self.front.access.trusts(self.peer.address) && by_proxy())
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
        let access = &self.front.access;
        access.permits(client, &target).map_err(|error| {
            match error {
                Denied::NotServed | Denied::NoRule => series.client_refused(),
                // Nothing was refused yet: the client is asked who it is.
                Denied::NeedsUser | Denied::NeedsLogin => record.pull_status = None,
            }
            respond::denied(error, &target)
        })?;
        let shown = access.shown_by(client, &target);
        let identity = shown.map(identity).ok_or(Denied::NeedsLogin);
        Ok(Ask {
            identity: identity.map_err(|error| respond::denied(error, &target))?,
            target,
            trace: record.trace.clone(),
        })
    }

    pub(super) fn is_get(&self) -> bool {
        self.parts.method == Method::GET
    }
}

/// The client's own login goes on to the upstream that judges it, and nowhere else.
pub(super) fn identity(shown: Shown<'_>) -> Identity {
    match shown {
        Shown::Stored => Identity::Stored,
        Shown::Nothing => Identity::Nobody,
        Shown::Login(login) => Identity::Client(ClientLogin {
            username: login.username.clone(),
            secret: login.secret.clone(),
        }),
    }
}

fn check_host(parts: &Parts) -> Result<(), Refusal> {
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
    Ok(())
}

fn check_method(parts: &Parts) -> Result<(), Refusal> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        // What could not be pushed to any registry is called by its own name: the specification's
        // tests of pulling ask for that.
        if parts.method == Method::PUT
            && let Err(error @ InvalidRequest::Digest(_)) = Request::parse(parts.uri.path())
        {
            return Err(respond::invalid_request(&error));
        }
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            "weir only serves pulls; push to the registry itself",
        ));
    }
    Ok(())
}

pub(super) fn host(parts: &Parts) -> Option<&str> {
    let of_uri = parts.uri.authority().map(|authority| authority.as_str());
    of_uri.or_else(|| text(&parts.headers, header::HOST))
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
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
