//! The way of one question: request, redirects, the 401 and its cure, the answer or why there is none.
//!
//! The credential stays at the endpoint's origin, and what a redirect leads to is asked without it.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, IF_RANGE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use secrecy::SecretString;
use tokio::time::Instant;

use super::credentials::Credential;
use super::endpoint::Endpoint;
use super::error::{Away, ErrorKind, Limit};
use super::exchange::{Answer, Question};
use super::fault::Fault;
use super::proof::Proof;
use super::rate_headers::retry_after_of;
use super::registry::Registry;
use super::transport::Body;
use super::{ANONYMOUS, Source, address, redirects, said, user_agent};

/// Where a request stands: at the endpoint or behind redirects.
pub(super) struct Trip<'a> {
    pub(super) registry: &'a Registry,
    pub(super) endpoint: &'a Endpoint,
    pub(super) question: &'a Question<'a>,
    credential: Option<Arc<Credential>>,
    /// The repository, as the endpoint calls it.
    pub(super) repository: String,
    pub(super) at: Uri,
    redirects: usize,
    pub(super) tries: u32,
    has_answered: bool,
}

impl<'a> Trip<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        endpoint: &'a Endpoint,
        question: &'a Question<'a>,
        credential: Option<Arc<Credential>>,
    ) -> Self {
        let repository = &question.target.repository;
        Trip {
            registry,
            endpoint,
            question,
            credential,
            repository: endpoint.repository(repository),
            at: endpoint.url(repository, &question.what, question.query.clone()),
            redirects: 0,
            tries: 0,
            has_answered: false,
        }
    }

    pub(super) async fn go(mut self, account: &Arc<str>) -> Result<Answer, Fault> {
        let mut proof = self.expected_proof().await?;
        loop {
            let response = self.send(&proof).await?;
            self.has_answered = true;
            let status = response.status();
            if redirects::is_redirect(status) {
                proof = self.follow(&response, proof).await?;
                continue;
            }
            self.observe(&response, account);
            if status == StatusCode::UNAUTHORIZED {
                proof = self.another_proof(response, proof).await?;
                continue;
            }
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(self.arrived(response));
            }
            if let Some(asked_for) = self.asked_for(status, &proof).await? {
                proof = asked_for;
                continue;
            }
            return Err(self.failure(response, &proof, account).await);
        }
    }

    /// Until when the next step is to be done. A host that has answered gets the time that the next
    /// step takes, as far as there is any: it is slow, not away.
    pub(super) fn by(&self) -> Instant {
        let for_one_more = Instant::now() + self.registry.limits.connect_timeout;
        let (by, latest) = (self.question.by, self.question.latest);
        match self.has_answered {
            true => by.max(for_one_more).min(latest),
            false => by,
        }
    }

    pub(super) fn is_home(&self) -> bool {
        self.registry.is_own(&self.at, self.endpoint)
    }

    /// The credential, where it may be shown.
    pub(super) fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref().filter(|_| self.is_home())
    }

    fn label(&self) -> Arc<str> {
        match self.credential() {
            Some(credential) => Arc::clone(&credential.label),
            None => ANONYMOUS.into(),
        }
    }

    async fn send(&self, proof: &Proof) -> Result<Response<Incoming>, Fault> {
        let question = self.question;
        let mut request = Request::builder()
            .method(&question.method)
            .uri(&self.at)
            .header(USER_AGENT, user_agent());
        if !question.accept.is_empty() {
            request = request.header(ACCEPT, question.accept);
        }
        for (name, value) in &question.headers {
            request = request.header(name, value);
        }
        if let Some((origin, tag)) = &question.if_range
            && *origin == address::origin(&self.at)
        {
            request = request.header(IF_RANGE, tag);
        }
        match proof {
            Proof::None => {}
            Proof::Basic(header) => request = request.header(AUTHORIZATION, header),
            Proof::Bearer { token, .. } => request = request.header(AUTHORIZATION, &token.header),
        }
        let request = request.body(Body::default()).map_err(|error| {
            let why = error.to_string();
            Fault::away(&self.at, Away::Protocol { why })
        })?;
        let (lane, by) = (question.lane, self.by());
        let answer = self.registry.transport.send(lane, request, by).await;
        let status = answer.as_ref().ok().map(Response::status);
        self.registry.metrics.request(&question.method, status);
        tracing::debug!(
            registry = %self.registry.name(), host = %address::origin(&self.at),
            method = %question.method, what = %question.what, repository = self.repository,
            credential = %self.label(), proof = proof.kind(), status = status.map(|status| status.as_u16()), "asked"
        );
        answer.map_err(|away| Fault::away(&self.at, away))
    }

    async fn follow(
        &mut self,
        response: &Response<Incoming>,
        proof: Proof,
    ) -> Result<Proof, Fault> {
        let protocol = |at: &Uri, why: String| Fault::away(at, Away::Protocol { why });
        if self.redirects == redirects::REDIRECTS_MAX {
            return Err(protocol(&self.at, "too many redirects".to_owned()));
        }
        self.redirects += 1;
        let step =
            redirects::next(&self.at, response.headers()).map_err(|why| protocol(&self.at, why))?;
        self.at = step.to;
        if !step.crosses {
            return Ok(proof);
        }
        self.tries = 0;
        self.expected_proof().await
    }

    fn observe(&self, response: &Response<Incoming>, account: &Arc<str>) {
        if !self.question.is_manifest || !self.is_home() {
            return;
        }
        let quota = &self.endpoint.quota;
        let states_one = response.headers().contains_key("ratelimit-limit");
        if states_one {
            let now = self.registry.clock.now();
            quota.observe(account, response.headers(), now);
        } else if response.status() == StatusCode::OK {
            quota.observe_unlimited(account);
        }
    }

    fn arrived(&self, response: Response<Incoming>) -> Answer {
        let question = self.question;
        if question.is_manifest && question.method == Method::GET {
            self.registry.metrics.pulls_counted.inc();
        }
        let credential = match &self.credential {
            Some(credential) => Arc::clone(&credential.label),
            None => ANONYMOUS.into(),
        };
        Answer {
            response,
            source: Source {
                endpoint: Arc::clone(&self.endpoint.origin),
                credential,
            },
            from: self.at.clone(),
        }
    }

    pub(super) async fn refusal(&self, response: Response<Incoming>, proof: &Proof) -> Fault {
        let status = response.status().as_u16();
        let said = self.said(response, proof).await;
        let credential = self.label();
        self.registry.metrics.auth_failures.inc();
        tracing::warn!(
            registry = %self.registry.name(), host = %address::origin(&self.at),
            repository = self.repository, %credential, status, said, "refused"
        );
        let kind = ErrorKind::Refused {
            credential,
            status,
            said,
        };
        Fault::at(&self.at, kind)
    }

    async fn failure(
        &self,
        response: Response<Incoming>,
        proof: &Proof,
        account: &Arc<str>,
    ) -> Fault {
        let status = response.status().as_u16();
        match status {
            // Behind a redirect it is about the signed URL, not about the credential.
            403 if self.is_home() => return self.refusal(response, proof).await,
            404 | 410 => return Fault::at(&self.at, ErrorKind::NotFound),
            _ => {}
        }
        let headers = response.headers().clone();
        let said = self.said(response, proof).await;
        let now = self.registry.clock.now();
        let kind = match status {
            429 if self.is_home() => self.endpoint.quota.refused(account, &headers, &said, now),
            429 => {
                self.registry.metrics.rate_limited(Limit::Abuse);
                ErrorKind::RateLimited {
                    limit: Limit::Abuse,
                    retry_after: retry_after_of(&headers, now),
                    said,
                }
            }
            _ => ErrorKind::Away(Away::Status { status, said }),
        };
        Fault::at(&self.at, kind)
    }

    pub(super) async fn said(&self, response: Response<Incoming>, proof: &Proof) -> String {
        let body = said::body(response.into_body()).await;
        let mut secrets: Vec<&SecretString> = Vec::new();
        secrets.extend(
            self.credential
                .iter()
                .map(|credential| credential.secret.value()),
        );
        let encoded = proof.encoded_login();
        secrets.extend(&encoded);
        if let Proof::Bearer { token, .. } = proof {
            secrets.push(&token.secret);
        }
        said::line(&body, &secrets)
    }
}
