//! One question to one endpoint: credential, token, request, redirects, the 401 and its cure.
//!
//! The order matters: leave from the quota comes before anything is sent; the credential stays at
//! the endpoint's origin, and what a redirect leads to is asked without it; a 401 is answered by
//! another try only while there is something new to try.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, HeaderName, IF_RANGE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use secrecy::SecretString;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::credentials::{Credential, Place, Secret};
use super::endpoint::Endpoint;
use super::error::{Away, ErrorKind, Limit};
use super::fault::Fault;
use super::query::Query;
use super::quota::{Leave, retry_after_of};
use super::registry::Registry;
use super::token_service::{TokenAsk, basic};
use super::tokens::Token;
use super::transport::{Body, Lane};
use super::{ANONYMOUS, Identity, Source, address, redirects, said, user_agent};
use crate::oci::Target;

/// Requests for one answer, redirects aside: without a token, with an old one, with a new one.
const TRIES_MAX: u32 = 3;

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
    pub(super) deadline: Instant,
}

/// A head that means success; the body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) source: Source,
    /// Who answered in the end.
    pub(super) from: Uri,
}

/// What was sent along to prove who we are.
enum Proof {
    None,
    Basic(HeaderValue),
    Bearer {
        ask: Box<TokenAsk>,
        token: Arc<Token>,
        is_new: bool,
    },
}

/// Where a request stands: at the endpoint or behind redirects.
struct Trip<'a> {
    registry: &'a Registry,
    endpoint: &'a Endpoint,
    question: &'a Question<'a>,
    credential: Option<Arc<Credential>>,
    /// The repository, as the endpoint calls it.
    repository: String,
    at: Uri,
    redirects: usize,
    tries: u32,
    has_answered: bool,
}

impl Registry {
    /// Asks one endpoint. What comes back is a success, or 416 where a range was asked for.
    pub(super) async fn ask(
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
        // It may have been changed since it was read.
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

impl<'a> Trip<'a> {
    fn new(
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

    async fn go(mut self, account: &Arc<str>) -> Result<Answer, Fault> {
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
            return Err(self.failure(response, &proof, account).await);
        }
    }

    /// Until when a connection must stand. One that has answered gets the time that its next steps
    /// take: it is slow, not away.
    fn deadline(&self) -> Instant {
        let for_one_more = Instant::now() + self.registry.limits.connect_timeout;
        match self.has_answered {
            true => self.question.deadline.max(for_one_more),
            false => self.question.deadline,
        }
    }

    fn is_home(&self) -> bool {
        self.registry.is_own(&self.at, self.endpoint)
    }

    /// The credential, where it may be shown.
    fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref().filter(|_| self.is_home())
    }

    fn label(&self) -> Arc<str> {
        match self.credential() {
            Some(credential) => Arc::clone(&credential.label),
            None => ANONYMOUS.into(),
        }
    }

    /// What this host will probably want to see.
    async fn expected_proof(&self) -> Result<Proof, Fault> {
        let origin = address::origin(&self.at);
        match self.registry.ways.expected(&origin, &self.repository) {
            Some(challenge) => self.proof(challenge).await,
            None => Ok(Proof::None),
        }
    }

    async fn proof(&self, challenge: Challenge) -> Result<Proof, Fault> {
        match challenge {
            Challenge::Basic => Ok(match self.credential().map(|c| &c.secret) {
                Some(Secret::Password { username, password }) => {
                    Proof::Basic(basic(username, password))
                }
                Some(Secret::IdentityToken { username, token }) => {
                    Proof::Basic(basic(username.as_deref().unwrap_or_default(), token))
                }
                None => Proof::None,
            }),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let ask = TokenAsk {
                    challenger: self.at.clone(),
                    realm,
                    service,
                    scope,
                    credential: self.credential().cloned(),
                };
                let held = self
                    .registry
                    .tokens
                    .get(&ask, self.question.deadline)
                    .await?;
                Ok(Proof::Bearer {
                    ask: Box::new(ask),
                    token: held.token,
                    is_new: held.is_new,
                })
            }
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
        let (lane, deadline) = (question.lane, self.deadline());
        let answer = self.registry.transport.send(lane, request, deadline).await;
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

    /// What to try after a 401, if anything is left to try.
    async fn another_proof(
        &mut self,
        response: Response<Incoming>,
        proof: Proof,
    ) -> Result<Proof, Fault> {
        self.tries += 1;
        let challenge = Challenge::of(response.headers());
        let Some(challenge) = challenge.filter(|_| self.tries < TRIES_MAX) else {
            return Err(self.not_let_in(response, &proof).await);
        };
        let origin = address::origin(&self.at);
        let challenge = self
            .registry
            .ways
            .learn(&origin, &self.repository, challenge);
        if let Proof::Bearer { ask, token, .. } = &proof {
            self.registry.tokens.drop_token(ask, token);
        }
        let has_been_tried = match (&proof, &challenge) {
            (Proof::Basic(_), Challenge::Basic) => true,
            (Proof::Bearer { ask, is_new, .. }, Challenge::Bearer { realm, scope, .. }) => {
                *is_new && ask.realm == *realm && ask.scope == *scope
            }
            (Proof::None, _) | (Proof::Basic(_), _) | (Proof::Bearer { .. }, _) => false,
        };
        if has_been_tried {
            return Err(self.not_let_in(response, &proof).await);
        }
        match self.proof(challenge).await? {
            Proof::None => Err(self.not_let_in(response, &proof).await),
            another @ (Proof::Basic(_) | Proof::Bearer { .. }) => Ok(another),
        }
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

    /// A 401 with nothing left to try. From a host behind a redirect that took no token it is about
    /// the signed URL, not about the credential.
    async fn not_let_in(&self, response: Response<Incoming>, proof: &Proof) -> Fault {
        if self.is_home() || matches!(proof, Proof::Bearer { .. }) {
            return self.refusal(response, proof).await;
        }
        let status = response.status().as_u16();
        let said = self.said(response, proof).await;
        Fault::away(&self.at, Away::Status { status, said })
    }

    async fn refusal(&self, response: Response<Incoming>, proof: &Proof) -> Fault {
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

    async fn said(&self, response: Response<Incoming>, proof: &Proof) -> String {
        let body = said::body(response.into_body()).await;
        let mut secrets: Vec<&SecretString> = Vec::new();
        secrets.extend(
            self.credential
                .iter()
                .map(|credential| credential.secret.value()),
        );
        if let Proof::Bearer { token, .. } = proof {
            secrets.push(&token.secret);
        }
        said::line(&body, &secrets)
    }
}

impl Proof {
    fn kind(&self) -> &'static str {
        match self {
            Proof::None => "none",
            Proof::Basic(_) => "basic",
            Proof::Bearer { .. } => "bearer",
        }
    }
}

/// Whom the registry will count.
pub(super) fn account(credential: Option<&Arc<Credential>>) -> Arc<str> {
    match credential {
        Some(credential) => Arc::clone(&credential.account),
        None => ANONYMOUS.into(),
    }
}
