//! The registries: the built-in ones, and what the file and the environment say about each.
//!
//! However a registry is spelled, it comes out once, under its one name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::checked::{
    Credential, CredentialSource, Endpoint, Listen, RIGHT_HELD_MAX, Registry, RegistryAuth,
    UpstreamTls,
};
use super::crossing::Section;
use super::problem::{Danger, Wrong};
use super::values;
use crate::oci::RegistryName;

/// Registries that everybody uses, anonymously unless the file says more.
const BUILT_IN: [&str; 9] = [
    "docker.io",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "registry.k8s.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "nvcr.io",
    "registry.gitlab.com",
];
/// Where Docker Hub answers the API; every other registry does at its name.
const DOCKER_HUB_ENDPOINT: &str = "https://registry-1.docker.io";
const RIGHT_FOR: Duration = Duration::from_secs(60);
const RIGHT_HELD_FOR: Duration = Duration::from_secs(60 * 60);
/// A right that was withdrawn is noticed within a day.
const RIGHT_SPAN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
/// The keys that say where a secret comes from.
pub(super) const CREDENTIAL_SOURCES: [&str; 5] = [
    "password",
    "password_file",
    "password_env",
    "identity_token_file",
    "helper",
];

/// What the addresses of weir mean for those who come from other machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'s> {
    /// Where everybody may pull everything.
    pub(super) open_at: Option<&'s Listen>,
    /// Where what a client says can be read on the way.
    pub(super) clear_at: Option<&'s Listen>,
}

pub(super) fn registries(root: &Section<'_>, reach: Reach<'_>) -> Vec<Arc<Registry>> {
    let built_in = root.boolean("builtin_registries", true);
    let section = root.section("registries");
    let names = names(&section, built_in);
    let mut registries = Vec::with_capacity(names.len());
    let mut default: Option<String> = None;
    let mut hosts: BTreeMap<String, RegistryName> = BTreeMap::new();
    for (name, key) in names {
        let table = section.section(&key);
        let built_in_default = built_in && name.is_docker_hub();
        let said = table.boolean_if_written("default", built_in_default);
        if said == Some(true) {
            if let Some(other) = &default {
                let other = other.clone();
                table.report("default", Wrong::SecondDefault { other });
            }
            default = Some(name.to_string());
        }
        let registry = registry(&table, name, said, reach);
        for host in &registry.hosts {
            if let Some(other) = hosts.insert(host.clone(), registry.name.clone()) {
                let (host, other) = (host.clone(), other.to_string());
                table.report("hosts", Wrong::SameHost { host, other });
            }
        }
        registries.push((registry, said.is_none() && built_in_default));
    }
    let registries = registries.into_iter().map(|(mut registry, fallback)| {
        // The built-in default gives way to one that somebody chose.
        registry.default |= fallback && default.is_none();
        Arc::new(registry)
    });
    registries.collect()
}

/// Every registry with the key that its table has in the file.
fn names(section: &Section<'_>, built_in: bool) -> BTreeMap<RegistryName, String> {
    let mut names: BTreeMap<RegistryName, String> = BTreeMap::new();
    for key in section.names() {
        match key.parse::<RegistryName>() {
            Err(error) => {
                section.take(&key);
                let (text, why) = (key.clone(), error.to_string());
                section.report(&key, Wrong::Registry { text, why });
            }
            Ok(name) => match names.get(&name) {
                None => {
                    names.insert(name, key);
                }
                Some(other) => {
                    section.take(&key);
                    let (registry, other) = (name.to_string(), format!("{other:?}"));
                    section.report(&key, Wrong::SameRegistry { registry, other });
                }
            },
        }
    }
    if built_in {
        for text in BUILT_IN {
            let name = text.parse().expect("each built-in name is a registry");
            names.entry(name).or_insert_with(|| text.to_owned());
        }
    }
    names
}

fn registry(
    section: &Section<'_>,
    name: RegistryName,
    default: Option<bool>,
    reach: Reach<'_>,
) -> Registry {
    let auth = match section.choice("auth", &["stored", "client"]) {
        "client" => RegistryAuth::Client,
        _ => RegistryAuth::Stored,
    };
    let registry = Registry {
        endpoints: endpoints(section, &name),
        default: default == Some(true),
        hosts: section.list("hosts", &[], values::host),
        tls: tls(section),
        allow: section.list("allow", &[], |text| values::repositories(&name, text)),
        deny: section.list("deny", &[], |text| values::repositories(&name, text)),
        token_services: section.list("token_services", &[], values::url),
        quota_reserve: section.count("quota_reserve", 0, 0..=1_000_000),
        auth,
        right_for: section.duration("right_for", RIGHT_FOR, RIGHT_SPAN),
        right_held_for: section.duration(
            "right_held_for",
            RIGHT_HELD_FOR,
            Duration::ZERO..=RIGHT_HELD_MAX,
        ),
        credentials: credentials(section, &name),
        name,
    };
    match registry.auth {
        RegistryAuth::Stored => warn_of_stored(section, &registry, reach.open_at),
        RegistryAuth::Client => check_clients_own(section, &registry, reach.clear_at),
    }
    registry
}

fn endpoints(section: &Section<'_>, name: &RegistryName) -> Vec<Endpoint> {
    let default = if name.is_docker_hub() {
        DOCKER_HUB_ENDPOINT.to_owned()
    } else {
        format!("https://{name}")
    };
    let endpoints = section.list("endpoints", &[&default], values::endpoint);
    if section
        .take("endpoints")
        .is_some_and(|node| node.is_empty_list())
    {
        let example = "endpoints = [\"https://registry.example.com\"]";
        section.report("endpoints", Wrong::Empty { example });
    }
    endpoints
}

fn tls(section: &Section<'_>) -> UpstreamTls {
    let certificate = "client_certificate = \"/etc/weir/client.crt\"";
    let tls = UpstreamTls {
        ca_file: section.file("ca_file", "ca_file = \"/etc/weir/ca.crt\""),
        client_certificate: section.file("client_certificate", certificate),
        client_key: section.file("client_key", "client_key = \"/etc/weir/client.key\""),
        insecure_skip_verify: section.boolean("insecure_skip_verify", false),
    };
    let (certificate, key) = ("client_certificate", "client_key");
    for (one, other) in [(certificate, key), (key, certificate)] {
        if section.take(one).is_some() && section.take(other).is_none() {
            section.report(one, Wrong::Alone { other });
        }
    }
    tls
}

fn credentials(section: &Section<'_>, registry: &RegistryName) -> Vec<Credential> {
    let mut credentials: Vec<Credential> = Vec::new();
    for entry in section.sections("credentials") {
        let prefix = entry.parsed("for", "for = \"acme/\"", |text| {
            values::prefix(registry, text)
        });
        let prefix = prefix.unwrap_or_default();
        let example = "endpoint = \"https://mirror.example.com\"";
        let endpoint = entry.parsed("endpoint", example, values::url);
        let same = |earlier: &Credential| earlier.prefix == prefix && earlier.endpoint == endpoint;
        if credentials.iter().any(same) {
            entry.warn("for", Danger::NeverUsed);
        }
        if let Some(source) = credential_source(&entry) {
            credentials.push(Credential {
                prefix,
                endpoint,
                source,
            });
        }
    }
    credentials
}

fn credential_source(entry: &Section<'_>) -> Option<CredentialSource> {
    let username = entry.text("username", "username = \"bot\"");
    let password = entry.secret("password").map(SecretString::from);
    let password_file = entry.file("password_file", "password_file = \"/run/secrets/hub\"");
    let password_env = entry.text("password_env", "password_env = \"HUB_PASSWORD\"");
    let identity_token_file = entry.file(
        "identity_token_file",
        "identity_token_file = \"/run/secrets/hub-token\"",
    );
    let helper = entry.parsed("helper", "helper = \"ecr-login\"", values::helper);

    let written = CREDENTIAL_SOURCES.into_iter();
    let found: Vec<_> = written.filter(|key| entry.take(key).is_some()).collect();
    let [source] = found[..] else {
        entry.report_whole(Wrong::CredentialSources { found });
        return None;
    };
    match source {
        "helper" if entry.take("username").is_some() => {
            let (key, source_key) = ("username", "helper");
            entry.report(key, Wrong::Needless { key, source_key });
        }
        "helper" | "identity_token_file" => {}
        _ => entry.need("username", "username = \"bot\""),
    }
    if let Some(variable) = &password_env
        && entry.crossing.environment(variable).is_none()
    {
        let variable = variable.clone();
        entry.report("password_env", Wrong::VariableUnset { variable });
    }
    if let Some(name) = helper {
        return Some(CredentialSource::Helper { name });
    }
    if let Some(file) = identity_token_file {
        return Some(CredentialSource::IdentityTokenFile { username, file });
    }
    let username = username?;
    if let Some(password) = password {
        return Some(CredentialSource::Password { username, password });
    }
    if let Some(file) = password_file {
        return Some(CredentialSource::PasswordFile { username, file });
    }
    password_env.map(|variable| CredentialSource::PasswordEnv { username, variable })
}

fn warn_of_stored(section: &Section<'_>, registry: &Registry, open_at: Option<&Listen>) {
    warn_unverified(section, registry);
    let name = registry.name.to_string();
    let has_credentials = !registry.credentials.is_empty();
    for endpoint in clear_endpoints(registry).filter(|_| has_credentials) {
        let registry = name.clone();
        section.warn("endpoints", Danger::Unencrypted { registry, endpoint });
    }
    if let Some(listen) = open_at.filter(|_| has_credentials) {
        let (registry, listen) = (name, listen.to_string());
        section.warn("credentials", Danger::OpenCredentials { registry, listen });
    }
}

/// With the client's own credentials there is nothing for stored ones to do, and no secret of weir's
/// operator to be careless with: what goes over the wire belongs to others.
fn check_clients_own(section: &Section<'_>, registry: &Registry, clear_at: Option<&Listen>) {
    warn_unverified(section, registry);
    let written = section.take("credentials");
    if !registry.credentials.is_empty() || written.is_some_and(|node| !node.is_empty_list()) {
        let (key, source_key) = ("credentials", "auth = \"client\"");
        section.report(key, Wrong::Needless { key, source_key });
    }
    if let Some(endpoint) = clear_endpoints(registry).next() {
        section.report("endpoints", Wrong::ClearEndpoint { endpoint });
    }
    if let Some(listen) = clear_at {
        let (registry, listen) = (registry.name.to_string(), listen.to_string());
        section.warn("auth", Danger::ClearLogins { registry, listen });
    }
}

fn warn_unverified(section: &Section<'_>, registry: &Registry) {
    if registry.tls.insecure_skip_verify {
        let registry = registry.name.to_string();
        section.warn("insecure_skip_verify", Danger::Unverified { registry });
    }
}

/// The endpoints to which what is sent can be read on the way.
fn clear_endpoints(registry: &Registry) -> impl Iterator<Item = String> {
    let clear = registry.endpoints.iter().filter(|endpoint| {
        endpoint.uri.scheme_str() == Some("http") && !values::is_loopback(&endpoint.uri)
    });
    clear.map(|endpoint| endpoint.origin())
}
