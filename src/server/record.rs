//! What there is to say of one request: one line in the log and its share in the metrics.
//!
//! A record is written exactly once, when it is dropped: after the body has gone out, or when the
//! client left before that.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::metrics::{Metrics, RegistryMetrics};
use super::request_id::RequestId;
use super::send::Cut;
use crate::access::Client;
use crate::metrics::{Kind, Outcome, PullStatus};
use crate::oci::{Digest, Reference, Target};
use crate::pull::Right;
use crate::upstream::{Source, TraceParent};

pub(super) struct Record {
    pub(super) id: RequestId,
    began: Instant,
    method: Method,
    path: Box<str>,
    user_agent: Option<HeaderValue>,
    pub(super) trace: Option<TraceParent>,
    pub(super) client: Option<Client>,
    pub(super) kind: Option<Kind>,
    pub(super) target: Option<Target>,
    pub(super) reference: Option<Reference>,
    pub(super) digest: Option<Digest>,
    pub(super) source: Option<Source>,
    /// How it was known that the client may have it, where the upstream decides that.
    pub(super) right: Option<Right>,
    pub(super) outcome: Outcome,
    /// How the pull went, where this request is one.
    pub(super) pull_status: Option<PullStatus>,
    pub(super) series: Option<Arc<RegistryMetrics>>,
    status: Option<StatusCode>,
    promised_bytes: Option<u64>,
    sent_bytes: u64,
    body: BodyState,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    /// None is expected, or all of it was handed over.
    Complete,
    UnderWay,
    /// weir gave it up.
    Cut,
}

impl Record {
    pub(super) fn begin(parts: &Parts, metrics: Arc<Metrics>) -> Record {
        Record {
            id: RequestId::of(&parts.headers),
            began: Instant::now(),
            method: parts.method.clone(),
            path: parts.uri.path().into(),
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            trace: TraceParent::of(&parts.headers),
            client: None,
            kind: None,
            target: None,
            reference: None,
            digest: None,
            source: None,
            right: None,
            outcome: Outcome::Error,
            pull_status: None,
            series: None,
            status: None,
            promised_bytes: None,
            sent_bytes: 0,
            body: BodyState::Complete,
            metrics,
        }
    }

    /// The head of the answer is made; `promised_bytes` is what its `Content-Length` says, `None`
    /// where the body has no known length.
    pub(super) fn answered(&mut self, status: StatusCode, promised_bytes: Option<u64>) {
        self.status = Some(status);
        self.promised_bytes = promised_bytes;
    }

    pub(super) fn expects_body(&mut self, expected: bool) {
        if expected {
            self.body = BodyState::UnderWay;
        }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
        if self.promised_bytes == Some(self.sent_bytes) {
            self.body = BodyState::Complete;
        }
    }

    pub(super) fn completed(&mut self) {
        self.body = BodyState::Complete;
    }

    pub(super) fn cut(&mut self, cut: &Cut) {
        self.body = BodyState::Cut;
        self.metrics.bodies_cut.inc();
        tracing::warn!(
            request_id = self.id.as_str(),
            sent_bytes = self.sent_bytes,
            "cut a body: {cut}"
        );
    }

    fn count(&self) {
        self.metrics.responded(self.status);
        let Some(series) = &self.series else {
            return;
        };
        if let Some(kind) = self.kind {
            let outcome = match self.body {
                BodyState::Complete | BodyState::UnderWay => self.outcome,
                BodyState::Cut => Outcome::Error,
            };
            series.answered(kind, outcome, self.began.elapsed(), self.sent_bytes);
        }
        if let (Some(pull_status), Some(_)) = (self.pull_status, self.status) {
            series.pulled(pull_status);
        }
    }

    fn log(&self) {
        let user_agent = self.user_agent.as_ref();
        tracing::info!(
            target: "weir::request",
            request_id = self.id.as_str(),
            trace_id = self.trace.as_ref().map(TraceParent::trace_id),
            client = shown(self.client.as_ref().map(|client| client.address)),
            user = self.client.as_ref().and_then(|client| client.user.as_deref()),
            user_agent = user_agent.and_then(|agent| agent.to_str().ok()),
            method = self.method.as_str(),
            path = &*self.path,
            registry = self.target.as_ref().map(|target| target.registry.as_str()),
            repository = self.target.as_ref().map(|target| target.repository.as_str()),
            reference = shown(self.reference.as_ref()),
            digest = shown(self.digest.as_ref()),
            kind = self.kind.map(Kind::as_str),
            result = self.outcome.as_str(),
            status = self.status.map_or(499, |status| status.as_u16()),
            bytes = self.sent_bytes,
            body = match self.body {
                BodyState::Complete => None,
                BodyState::UnderWay => Some("client left"),
                BodyState::Cut => Some("cut"),
            },
            ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            upstream = self.source.as_ref().map(|source| &*source.endpoint),
            right = self.right.map(Right::as_str),
            credential = self.source.as_ref().map(|source| &*source.credential),
            "request"
        );
    }
}

fn shown(value: Option<impl fmt::Display>) -> Option<impl tracing::Value> {
    value.map(tracing::field::display)
}

impl Drop for Record {
    fn drop(&mut self) {
        self.count();
        self.log();
    }
}
