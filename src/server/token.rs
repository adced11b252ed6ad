//! The token endpoint: who says who they are gets a token, which later requests bring along.
//!
//! By `GET` with Basic, as the distribution project's token specification has it, and by `POST` of a
//! form, as its OAuth2 specification has it: docker and containerd send logins that way.

use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;

use super::body::Body;
use super::challenge::repository_of;
use super::corridor::{Walk, host, text};
use super::query::parameter;
use super::refusal::{JSON, Refusal};
use super::respond;
use crate::access::{Grant, Login, Unidentified};
use crate::oci::{ErrorCode, RegistryName};

/// Longest form that is read.
const FORM_BYTES_MAX: usize = 32 << 10;

#[derive(Serialize)]
struct Answer<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
}

impl Walk<'_> {
    pub(super) async fn token(&self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let form = match self.parts.method {
            Method::POST => Some(self.form(body).await?),
            _ => None,
        };
        let said = |name: &str| match &form {
            Some(form) => parameter(Some(form), name),
            None => parameter(self.parts.uri.query(), name),
        };
        let login = match &form {
            Some(_) => form_login(said("grant_type"), said("username"), said("password"))?,
            None => text(&self.parts.headers, header::AUTHORIZATION)
                .map(|header| Login::read(header).ok_or(Unidentified::WrongLogin))
                .transpose()
                .map_err(respond::unidentified)?,
        };
        let scope = said("scope");
        let registry = scope.and_then(|scope| self.registry_of(&scope));
        let grant = self
            .front
            .access
            .grant(login, registry, self.server.clock.now())
            .await
            .map_err(|error| {
                self.front.no_registry.client_refused();
                respond::unidentified(error)
            })?;
        Ok(answer(&grant))
    }

    async fn form(&self, body: Incoming) -> Result<String, Refusal> {
        let wrong = || {
            let message = "a token is asked for with a form of user name and password";
            Refusal::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message).then_close()
        };
        let reading = Limited::new(body, FORM_BYTES_MAX).collect();
        let limit = self.server.limits.load().header_timeout;
        let read = tokio::time::timeout(limit, reading).await;
        let bytes = read.map_err(|_| wrong())?.map_err(|_| wrong())?.to_bytes();
        String::from_utf8(bytes.into()).map_err(|_| wrong())
    }

    /// The registry where the token is going to be used.
    fn registry_of(&self, scope: &str) -> Option<RegistryName> {
        let name = repository_of(scope)?.parse().ok()?;
        let ns = parameter(self.parts.uri.query(), "ns");
        let routed = self
            .front
            .routes
            .target(ns.as_deref(), host(self.parts), &name);
        Some(routed.ok()?.target.registry)
    }
}

fn form_login(
    grant_type: Option<impl AsRef<str>>,
    username: Option<impl AsRef<str>>,
    password: Option<impl AsRef<str>>,
) -> Result<Option<Login>, Refusal> {
    let is_password = grant_type.is_some_and(|kind| kind.as_ref() == "password");
    let login = match (username, password) {
        (Some(name), Some(password)) if is_password => Login::new(name.as_ref(), password.as_ref()),
        _ => None,
    };
    let login = login.ok_or(Unidentified::WrongLogin);
    login.map(Some).map_err(respond::unidentified)
}

fn answer(grant: &Grant) -> Response<Body> {
    let issued_at = i64::try_from(grant.issued_at.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .unwrap_or_default();
    let answer = Answer {
        token: &grant.token,
        access_token: &grant.token,
        expires_in: grant.valid_for.as_secs(),
        issued_at: issued_at.to_string(),
    };
    let json = serde_json::to_vec(&answer).expect("strings and numbers are JSON");
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CONTENT_LENGTH, json.len().into());
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    *response.body_mut() = Body::whole(json);
    response
}
