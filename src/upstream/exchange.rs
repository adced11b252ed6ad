//! One question to one endpoint, as the credential that is for it.
//!
//! Leave from the quota comes before anything is sent. A stored credential that is refused is looked
//! up once more: it may have been changed since it was read.

use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderValue, Method, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::credentials::{Credential, Place};
use super::endpoint::Endpoint;
use super::error::{Away, ErrorKind, Phase};
use super::fault::Fault;
use super::query::Query;
use super::quota::Leave;
use super::registry::Registry;
use super::transport::Lane;
use super::trip::Trip;
use super::{ANONYMOUS, Identity, Source};
use crate::oci::Target;

/// What is asked, in which repository, as whom.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) target: &'a Target,
    pub(super) identity: &'a Identity,
    pub(super) method: Method,
    /// Within the repository: `manifests/latest`.
    pub(super) what: String,
    pub(super) query: Query,
    pub(super) accept: &'static str,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Sent only to the origin that gave it.
    pub(super) if_range: Option<(String, HeaderValue)>,
    pub(super) lane: Lane,
    /// It is about a manifest: the answer tells the quota, and a GET counts as a pull.
    pub(super) is_manifest: bool,
    /// Until when it is to be answered, and until when by one who answers step by step.
    pub(super) by: Instant,
    pub(super) latest: Instant,
}

/// A head that means success; the body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) source: Source,
    /// Who answered in the end.
    pub(super) from: Uri,
}

impl Registry {
    /// Asks one endpoint. What comes back is a success, or 416 where a range was asked for. However
    /// many steps that takes, it ends when the question's patience does.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
    ) -> Result<Answer, Fault> {
        let started = Instant::now();
        let asking = self.ask_and_look_up(endpoint, question);
        let answer = tokio::time::timeout_at(question.latest, asking).await;
        answer.unwrap_or_else(|_elapsed| {
            let during = Phase::Headers;
            let after = started.elapsed();
            Err(Fault::away(&endpoint.uri, Away::Timeout { during, after }))
        })
    }

    async fn ask_and_look_up(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
    ) -> Result<Answer, Fault> {
        let (target, identity) = (question.target, question.identity);
        let credential = self.credential(endpoint, target, identity).await?;
        let result = self.ask_as(endpoint, question, credential.clone()).await;
        let refused =
            matches!(&result, Err(fault) if matches!(fault.kind, ErrorKind::Refused { .. }));
        let (true, Some(credential), Identity::Stored) = (refused, credential, identity) else {
            return result;
        };
        self.credentials.forget();
        match self.credential(endpoint, target, identity).await? {
            Some(anew) if anew.fingerprint != credential.fingerprint => {
                tracing::debug!(credential = %anew.label, "the refused credential has changed");
                self.ask_as(endpoint, question, Some(anew)).await
            }
            Some(_) | None => result,
        }
    }

    /// What is to be shown to this endpoint.
    pub(super) async fn credential(
        &self,
        endpoint: &Endpoint,
        target: &Target,
        identity: &Identity,
    ) -> Result<Option<Arc<Credential>>, Fault> {
        match identity {
            Identity::Nobody => Ok(None),
            Identity::Client(login) => Ok(Some(self.credentials.of_client(login))),
            Identity::Stored => {
                let place = Place {
                    target,
                    endpoint: &endpoint.uri,
                    alone: self.is_alone(),
                };
                let found = self.credentials.lookup(&self.config, place).await;
                found.map_err(|away| Fault::away(&endpoint.uri, away))
            }
        }
    }

    async fn ask_as(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        credential: Option<Arc<Credential>>,
    ) -> Result<Answer, Fault> {
        let account = account(credential.as_ref());
        let counts = question.is_manifest && question.method == Method::GET;
        let stay = |kind| Fault::at(&endpoint.uri, kind);
        match endpoint.quota.leave(&account, counts) {
            Leave::Go => {}
            Leave::Stay(kind) => return Err(stay(kind)),
            Leave::ProbeFirst => {
                let probe = Question {
                    method: Method::HEAD,
                    ..question.clone()
                };
                tracing::debug!(registry = %self.name(), %account, "looking whether pulls are left");
                let trip = Trip::new(self, endpoint, &probe, credential.clone());
                // What it learned, the quota knows.
                drop(trip.go(&account).await);
                if let Leave::Stay(kind) = endpoint.quota.leave(&account, counts) {
                    return Err(stay(kind));
                }
            }
        }
        let trip = Trip::new(self, endpoint, question, credential);
        trip.go(&account).await
    }
}

/// Whom the registry will count.
pub(super) fn account(credential: Option<&Arc<Credential>>) -> Arc<str> {
    match credential {
        Some(credential) => Arc::clone(&credential.account),
        None => ANONYMOUS.into(),
    }
}
