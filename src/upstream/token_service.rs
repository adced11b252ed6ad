//! Asks a token service for a token, in the way it understands.
//!
//! With a password: GET with Basic, and the OAuth2 POST where GET is not served. With an identity
//! token: the POST. With neither: GET. Before anything goes out the realm is checked.
//! Source: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::credentials::{Credential, Secret};
use super::error::{Away, ErrorKind, Limit};
use super::fault::Fault;
use super::granted::Granted;
use super::metrics::{RegistryMetrics, TokenResult};
use super::query::Query;
use super::rate_headers::retry_after_of;
use super::realm::Realm;
use super::tokens::Token;
use super::transport::{Body, Lane, Transport, body_fault};
use super::{ANONYMOUS, address, redirects, said, user_agent};
use crate::clock::Clock;

/// Tokens of a few KiB are usual, of 10 KiB seen.
const ANSWER_BYTES_MAX: usize = 256 << 10;
const CLIENT_ID: &str = "weir";

/// What is asked of a token service.
#[derive(Debug, Clone)]
pub(super) struct TokenAsk {
    /// Who sent us there.
    pub(super) challenger: Uri,
    pub(super) realm: Uri,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) credential: Option<Arc<Credential>>,
}

impl TokenAsk {
    fn label(&self) -> &str {
        self.credential.as_ref().map_or(ANONYMOUS, |c| &c.label)
    }

    /// Scopes are divided by spaces in a challenge and are parameters of their own in a query.
    fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.iter().flat_map(|scope| scope.split_whitespace())
    }
}

/// Speaks to the token services of one registry.
#[derive(Debug, Clone)]
pub(super) struct TokenService {
    pub(super) transport: Transport,
    pub(super) metrics: RegistryMetrics,
    /// `token_services` of the registry.
    pub(super) listed: Arc<[Uri]>,
    pub(super) connect_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) clock: Clock,
    /// No token is used longer, whatever its service says.
    pub(super) lifetime_max: Duration,
}

impl TokenService {
    /// How long a request that nobody waits for may take.
    pub(super) fn patience(&self) -> Duration {
        self.connect_timeout + self.header_timeout
    }

    /// Asks for a token.
    pub(super) async fn ask(&self, ask: &TokenAsk, by: Instant) -> Result<Token, Fault> {
        let realm = ask.realm.path_and_query().map(|p| p.path());
        tracing::debug!(
            registry = %self.metrics.registry(), host = ask.realm.host(), path = realm,
            service = ask.service, scope = ask.scope, credential = ask.label(), "asking for a token"
        );
        let result = self.ask_checked(ask, by).await;
        match &result {
            Ok(_) => self.metrics.token(TokenResult::Granted),
            Err(fault) => self.note(ask, fault),
        }
        result
    }

    fn note(&self, ask: &TokenAsk, fault: &Fault) {
        let refused = matches!(fault.kind, ErrorKind::Refused { .. });
        self.metrics.token(match refused {
            true => TokenResult::Refused,
            false => TokenResult::Failed,
        });
        tracing::warn!(
            registry = %self.metrics.registry(), realm = fault.at.as_deref(), scope = ask.scope,
            credential = ask.label(), why = %fault.kind, "no token"
        );
    }

    async fn ask_checked(&self, ask: &TokenAsk, by: Instant) -> Result<Token, Fault> {
        let realm = Realm {
            challenger: &ask.challenger,
            uri: &ask.realm,
            listed: &self.listed,
        };
        let checked = match &ask.credential {
            Some(_) => realm.check_credential(),
            None => realm.check_anonymous(),
        };
        checked.map_err(|why| {
            let realm = address::origin(&ask.realm);
            Fault::away(&ask.challenger, Away::TokenService { realm, why })
        })?;
        let asked_at = Instant::now();
        let answer = match ask.credential.as_ref().map(|credential| &credential.secret) {
            None => self.get(ask, None, by).await?,
            Some(Secret::Password { username, password }) => {
                let answer = self.get(ask, Some((username, password)), by).await?;
                if !is_elsewhere(answer.status()) {
                    answer
                } else {
                    let user = username.as_str();
                    let grant = [("grant_type", "password"), ("username", user)];
                    self.post(ask, &grant, ("password", password), by).await?
                }
            }
            Some(Secret::IdentityToken { username, token }) => {
                let grant = [("grant_type", "refresh_token")];
                let answer = self.post(ask, &grant, ("refresh_token", token), by).await?;
                match username {
                    Some(username) if is_elsewhere(answer.status()) => {
                        self.get(ask, Some((username, token)), by).await?
                    }
                    Some(_) | None => answer,
                }
            }
        };
        self.read(ask, asked_at, answer).await
    }

    async fn get(
        &self,
        ask: &TokenAsk,
        login: Option<(&String, &SecretString)>,
        by: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        let mut query = Query::of(ask.realm.query());
        if let Some(service) = &ask.service {
            query.add("service", service);
        }
        for scope in ask.scopes() {
            query.add("scope", scope);
        }
        let mut uri = query.onto(&ask.realm);
        let mut authorization = login.map(|(user, secret)| basic(user, secret));
        for _ in 0..=redirects::REDIRECTS_MAX {
            let mut request = Request::get(&uri);
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(Body::default());
            let answer = self.send(&uri, request, by).await?;
            if !redirects::is_redirect(answer.status()) {
                return Ok(answer);
            }
            let step = redirects::next(&uri, answer.headers())
                .map_err(|why| Fault::away(&uri, Away::Protocol { why }))?;
            // Whoever is there now is not who was checked.
            if step.crosses {
                authorization = None;
            }
            uri = step.to;
        }
        let why = "too many redirects".to_owned();
        Err(Fault::away(&uri, Away::Protocol { why }))
    }

    async fn post(
        &self,
        ask: &TokenAsk,
        grant: &[(&str, &str)],
        (name, secret): (&str, &SecretString),
        by: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        let mut form = Query::of(None);
        for (name, value) in grant {
            form.add(name, value);
        }
        form.add("client_id", CLIENT_ID);
        form.add("service", ask.service.as_deref().unwrap_or_default());
        let scopes: Vec<_> = ask.scopes().collect();
        if !scopes.is_empty() {
            form.add("scope", &scopes.join(" "));
        }
        form.add(name, secret.expose_secret());
        let request = Request::post(&ask.realm)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::new(Bytes::from(form.into_string())));
        self.send(&ask.realm, request, by).await
    }

    async fn send(
        &self,
        uri: &Uri,
        request: Result<Request<Body>, http::Error>,
        by: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = request.map_err(|error| {
            let why = error.to_string();
            Fault::away(uri, Away::Protocol { why })
        })?;
        request.headers_mut().insert(USER_AGENT, user_agent());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let method: Method = request.method().clone();
        let answer = self.transport.send(Lane::Control, request, by).await;
        let status = answer.as_ref().ok().map(|answer| answer.status());
        self.metrics.request(&method, status);
        answer.map_err(|away| Fault::away(uri, away))
    }

    async fn read(
        &self,
        ask: &TokenAsk,
        asked_at: Instant,
        answer: Response<Incoming>,
    ) -> Result<Token, Fault> {
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(self.refusal(ask, answer).await);
        }
        let protocol = |why: &str| {
            let why = format!("of the token service: {why}");
            Fault::away(&ask.realm, Away::Protocol { why })
        };
        let collecting = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(self.header_timeout, collecting)
            .await
            .map_err(|_elapsed| protocol("it does not end"))?
            .map_err(|error| Fault::away(&ask.realm, body_fault(&*error)))?
            .to_bytes();
        // The text of a parse error could quote the token.
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| protocol("it is not its JSON"))?;
        let lifetime = granted.lifetime().min(self.lifetime_max);
        let secret = granted
            .token()
            .ok_or_else(|| protocol("there is no token in it"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", secret.expose_secret()))
            .map_err(|_| protocol("the token cannot be a header"))?;
        header.set_sensitive(true);
        tracing::debug!(
            registry = %self.metrics.registry(), scope = ask.scope, credential = ask.label(),
            expires_in_seconds = lifetime.as_secs(), "token granted"
        );
        Ok(Token::new(secret, header, asked_at, lifetime))
    }

    async fn refusal(&self, ask: &TokenAsk, answer: Response<Incoming>) -> Fault {
        let status = answer.status();
        let retry_after = retry_after_of(answer.headers(), self.clock.now());
        let body = said::body(answer.into_body()).await;
        let mut secrets: Vec<&SecretString> = Vec::new();
        secrets.extend(ask.credential.iter().map(|c| c.secret.value()));
        let encoded = ask.credential.as_ref().and_then(|c| match &c.secret {
            Secret::Password { username, password } => encoded_login(&basic(username, password)),
            Secret::IdentityToken { username, token } => {
                encoded_login(&basic(username.as_deref()?, token))
            }
        });
        secrets.extend(&encoded);
        let said = said::line(&body, &secrets);
        let kind = match status.as_u16() {
            400 | 401 | 403 => {
                self.metrics.auth_failures.inc();
                ErrorKind::Refused {
                    credential: ask.label().into(),
                    status: status.as_u16(),
                    said,
                }
            }
            429 => {
                self.metrics.rate_limited(Limit::Abuse);
                ErrorKind::RateLimited {
                    limit: Limit::Abuse,
                    retry_after,
                    said,
                }
            }
            status => ErrorKind::Away(Away::Status { status, said }),
        };
        Fault::at(&ask.realm, kind)
    }
}

/// The way to ask is not served there; another may be.
fn is_elsewhere(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    )
}

/// The value of an Authorization header, never to be shown.
pub(super) fn basic(username: &str, secret: &SecretString) -> HeaderValue {
    let pair = format!("{username}:{}", secret.expose_secret());
    let encoded = BASE64_STANDARD.encode(pair);
    let mut header =
        HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is fit for a header");
    header.set_sensitive(true);
    header
}

/// The part of such a value that tells user and password.
pub(super) fn encoded_login(header: &HeaderValue) -> Option<SecretString> {
    let encoded = header.to_str().ok()?.strip_prefix("Basic ")?;
    Some(encoded.into())
}
