//! What is shown to a host to be let in, and what to try when that did not do.
//!
//! A 401 is answered by another try only while there is something new to try; a credential is shown
//! at the endpoint's own origin only.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use secrecy::SecretString;

use super::challenge::Challenge;
use super::credentials::Secret;
use super::error::Away;
use super::fault::Fault;
use super::token_service::{TokenAsk, basic, encoded_login};
use super::tokens::Token;
use super::transport::Body;
use super::trip::Trip;
use super::{address, user_agent};

/// Requests for one answer, redirects aside: without a token, with an old one, with a new one.
const TRIES_MAX: u32 = 3;

/// What was sent along to prove who we are.
pub(super) enum Proof {
    None,
    Basic(HeaderValue),
    Bearer {
        ask: Box<TokenAsk>,
        token: Arc<Token>,
        is_new: bool,
    },
}

impl Proof {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Proof::None => "none",
            Proof::Basic(_) => "basic",
            Proof::Bearer { .. } => "bearer",
        }
    }

    /// User and password as they stand in the header.
    pub(super) fn encoded_login(&self) -> Option<SecretString> {
        match self {
            Proof::Basic(header) => encoded_login(header),
            Proof::None | Proof::Bearer { .. } => None,
        }
    }
}

impl Trip<'_> {
    /// What this host will probably want to see.
    pub(super) async fn expected_proof(&self) -> Result<Proof, Fault> {
        let origin = address::origin(&self.at);
        match self.registry.ways.expected(&origin, &self.repository) {
            Some(challenge) => self.proof(challenge).await,
            None => Ok(Proof::None),
        }
    }

    pub(super) async fn proof(&self, challenge: Challenge) -> Result<Proof, Fault> {
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
                let held = self.registry.tokens.get(&ask, self.by()).await?;
                Ok(Proof::Bearer {
                    ask: Box::new(ask),
                    token: held.token,
                    is_new: held.is_new,
                })
            }
        }
    }

    /// Some registries deny private repositories to strangers instead of challenging them. Where
    /// there is a credential that nobody has asked for yet, `/v2/` tells how it is to be shown.
    pub(super) async fn asked_for(
        &mut self,
        status: StatusCode,
        proof: &Proof,
    ) -> Result<Option<Proof>, Fault> {
        let is_denial = matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN);
        let is_unasked = matches!(proof, Proof::None) && self.credential().is_some();
        let ways = &self.registry.ways;
        if !is_denial || !is_unasked || !ways.ask_once(&self.endpoint.origin) {
            return Ok(None);
        }
        let request = Request::get(self.endpoint.ping()).header(USER_AGENT, user_agent());
        let request = request.body(Body::default()).expect("a URL and a header");
        let (lane, by) = (self.question.lane, self.by());
        let answer = self.registry.transport.send(lane, request, by).await;
        let status = answer.as_ref().ok().map(Response::status);
        self.registry.metrics.request(&Method::GET, status);
        let answer = answer.map_err(|away| Fault::away(&self.at, away))?;
        let Some(challenge) = Challenge::of(answer.headers()) else {
            return Ok(None);
        };
        // The scope of a ping, where it has one, is not the repository's.
        let challenge = match challenge {
            Challenge::Basic => Challenge::Basic,
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer {
                realm,
                service,
                scope: None,
            },
        };
        let origin = &self.endpoint.origin;
        let challenge = ways.learn(origin, &self.repository, challenge);
        match self.proof(challenge).await? {
            Proof::None => Ok(None),
            another @ (Proof::Basic(_) | Proof::Bearer { .. }) => Ok(Some(another)),
        }
    }

    /// What to try after a 401, if anything is left to try.
    pub(super) async fn another_proof(
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

    /// A 401 with nothing left to try. From a host behind a redirect that took no token it is about
    /// the signed URL, not about the credential.
    pub(super) async fn not_let_in(&self, response: Response<Incoming>, proof: &Proof) -> Fault {
        if self.is_home() || matches!(proof, Proof::Bearer { .. }) {
            return self.refusal(response, proof).await;
        }
        let status = response.status().as_u16();
        let said = self.said(response, proof).await;
        Fault::away(&self.at, Away::Status { status, said })
    }
}
