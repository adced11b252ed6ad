//! The configuration in force, as JSON with the names of the file. Secrets are hidden; where they
//! come from is not one.

use axum::Json;
use axum::extract::State;
use globset::GlobMatcher;
use serde_json::{Map, Value, json};

use super::Admin;
use super::registries::{auth, credential};
use crate::config::{AccessRule, Config, Registry, duration_text, size_text, without_login};

pub(super) async fn config(State(admin): State<Admin>) -> Json<Value> {
    Json(json_of(&admin.0.config.load()))
}

fn json_of(config: &Config) -> Value {
    let registries = config.registries.iter();
    let registries: Map<_, _> = registries
        .map(|registry| (registry.name.to_string(), json_of_registry(registry)))
        .collect();
    let (server, cache, tags) = (&config.server, &config.cache, &config.tags);
    let upstream = &config.upstream;
    json!({
        "server": {
            "listen": texts(&server.listen),
            "tls": server.tls.as_ref().map(|tls| json!({
                "certificate": tls.certificate,
                "key": tls.key,
                "client_ca": tls.client_ca,
            })),
            "drain_timeout": duration_text(server.drain_timeout),
            "connections_max": server.connections_max,
            "header_timeout": duration_text(server.header_timeout),
            "send_timeout": duration_text(server.send_timeout),
            "trusted_proxies": texts(&server.trusted_proxies),
        },
        "admin": {
            "listen": config.admin.listen.to_string(),
            "token_file": config.admin.token_file,
        },
        "cache": {
            "directory": cache.directory,
            "max_size": size_text(cache.max_size),
            "min_free": size_text(cache.min_free),
            "max_age": cache.max_age.map(duration_text),
            "scrub_rate": size_text(cache.scrub_rate),
            "flights_max": cache.flights_max,
        },
        "tags": {
            "fresh_for": duration_text(tags.fresh_for),
            "stale_for": duration_text(tags.stale_for),
            "missing_for": duration_text(tags.missing_for),
            "revalidate_for": duration_text(tags.revalidate_for),
            "immutable": patterns(&tags.immutable),
        },
        "upstream": {
            "connect_timeout": duration_text(upstream.connect_timeout),
            "header_timeout": duration_text(upstream.header_timeout),
            "idle_timeout": duration_text(upstream.idle_timeout),
            "parallel_above": size_text(upstream.parallel_above),
            "proxy": upstream.proxy.as_deref().map(without_login),
            "no_proxy": upstream.no_proxy,
        },
        "credentials": { "docker_config": config.credentials.docker_config },
        "registries": registries,
        "access": {
            "anonymous": config.access.anonymous,
            "htpasswd": config.access.htpasswd,
            "rules": config.access.rules.iter().map(json_of_rule).collect::<Vec<_>>(),
        },
    })
}

fn json_of_registry(registry: &Registry) -> Value {
    let endpoints = registry.endpoints.iter();
    json!({
        "endpoints": Vec::from_iter(endpoints.map(|endpoint| endpoint.uri.to_string())),
        "default": registry.default,
        "hosts": registry.hosts,
        "ca_file": registry.tls.ca_file,
        "client_certificate": registry.tls.client_certificate,
        "client_key": registry.tls.client_key,
        "insecure_skip_verify": registry.tls.insecure_skip_verify,
        "allow": patterns(&registry.allow),
        "deny": patterns(&registry.deny),
        "token_services": texts(&registry.token_services),
        "quota_reserve": registry.quota_reserve,
        "auth": auth(registry.auth),
        "right_for": duration_text(registry.right_for),
        "right_held_for": duration_text(registry.right_held_for),
        "credentials": registry.credentials.iter().map(credential).collect::<Vec<_>>(),
    })
}

fn json_of_rule(rule: &AccessRule) -> Value {
    json!({
        "users": rule.users,
        "networks": texts(&rule.networks),
        "certificates": patterns(&rule.certificates),
        "anonymous": rule.anonymous,
        "allow": patterns(&rule.allow),
    })
}

fn patterns(patterns: &[GlobMatcher]) -> Vec<String> {
    patterns
        .iter()
        .map(|pattern| pattern.glob().glob().to_owned())
        .collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
