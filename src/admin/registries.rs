//! The registries on the desk: how their endpoints fare, what is left of their quotas, and which
//! credentials apply. Of a secret nothing is told but its length.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::images::Image;
use super::{Admin, Desk};
use crate::config::{Credential, CredentialSource, Registry, RegistryAuth, duration_text};
use crate::upstream::{CredentialOutcome, CredentialTrace, Health};

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    image: String,
}

pub(super) async fn registries(State(admin): State<Admin>) -> Json<Value> {
    Json(Value::Array(registries_of(&admin.0)))
}

pub(super) fn registries_of(desk: &Desk) -> Vec<Value> {
    let (endpoints, quotas) = (desk.upstream.endpoints(), desk.upstream.quota());
    let config = desk.config.load();
    let registry = |registry: &std::sync::Arc<Registry>| {
        let endpoints = endpoints.iter().filter(|e| e.registry == registry.name);
        let endpoints = endpoints.map(
            |endpoint| json!({ "url": &*endpoint.endpoint, "breaker": breaker(endpoint.health) }),
        );
        let quotas = quotas
            .iter()
            .filter(|quota| quota.registry == registry.name);
        let quotas = quotas.map(|quota| {
            json!({
                "account": &*quota.account,
                "limit": quota.state.limit,
                "remaining": quota.state.remaining,
                "window_seconds": quota.state.window.map(|window| window.as_secs()),
                "counted_as": quota.state.counted_as,
                "seen_at": quota.state.seen_at.0 / 1000,
            })
        });
        json!({
            "name": registry.name.as_str(),
            "default": registry.default,
            "hosts": registry.hosts,
            "auth": auth(registry.auth),
            "right_for": right_span(registry, registry.right_for),
            "right_held_for": right_span(registry, registry.right_held_for),
            "endpoints": Vec::from_iter(endpoints),
            "quota": Vec::from_iter(quotas),
            "credentials": registry.credentials.iter().map(credential).collect::<Vec<_>>(),
        })
    };
    config.registries.iter().map(registry).collect()
}

fn breaker(health: Health) -> &'static str {
    match health {
        Health::Well => "closed",
        Health::Probing => "probing",
        Health::Shut => "open",
    }
}

pub(super) fn auth(auth: RegistryAuth) -> &'static str {
    match auth {
        RegistryAuth::Stored => "stored",
        RegistryAuth::Client => "client",
    }
}

/// Rights of clients are asked for only where their own logins count.
fn right_span(registry: &Registry, span: Duration) -> Option<String> {
    (registry.auth == RegistryAuth::Client).then(|| duration_text(span))
}

/// An entry of the configuration, without its secret.
pub(super) fn credential(credential: &Credential) -> Value {
    let mut told = match &credential.source {
        CredentialSource::Password { username, .. } => {
            json!({ "source": "password", "username": username })
        }
        CredentialSource::PasswordFile { username, file } => {
            json!({ "source": "password_file", "username": username, "file": file })
        }
        CredentialSource::PasswordEnv { username, variable } => {
            json!({ "source": "password_env", "username": username, "variable": variable })
        }
        CredentialSource::IdentityTokenFile { username, file } => {
            json!({ "source": "identity_token_file", "username": username, "file": file })
        }
        CredentialSource::Helper { name } => json!({ "source": "helper", "helper": name }),
    };
    told["for"] = json!(credential.prefix);
    told["endpoint"] = json!(credential.endpoint.as_ref().map(ToString::to_string));
    told
}

pub(super) async fn resolve(
    State(admin): State<Admin>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer {
    let Query(which) = which?;
    let desk = &admin.0;
    let image = Image::of(desk, &which.image)?;
    let traces = desk.upstream.explain(&image.target);
    let parts = image.parts(desk).await?;
    let stored = |digest| desk.store.contains(digest);
    Ok(Json(json!({
        "image": which.image,
        "registry": image.target.registry.as_str(),
        "repository": image.target.repository.as_str(),
        "reference": image.reference.to_string(),
        "digest": image.digest.map(|digest| digest.to_string()),
        "manifest_cached": image.digest.as_ref().is_some_and(stored),
        "missing": parts.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "endpoints": traces.iter().map(endpoint).collect::<Vec<_>>(),
    })))
}

fn endpoint(trace: &CredentialTrace) -> Value {
    let steps = trace.steps.iter().map(|step| {
        let applies = match step.outcome {
            CredentialOutcome::Used { .. }
            | CredentialOutcome::ClientsOwn
            | CredentialOutcome::WouldAsk
            | CredentialOutcome::Missing { .. } => true,
            CredentialOutcome::Passed { .. } => false,
        };
        json!({ "source": step.source, "applies": applies, "why": step.outcome.to_string() })
    });
    json!({
        "url": &*trace.endpoint,
        "credential": trace.used().map(|step| &step.source),
        "steps": Vec::from_iter(steps),
    })
}
