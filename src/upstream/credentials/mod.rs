//! Which credential a registry gets, and why that one.
//!
//! The order, at each endpoint of a registry:
//! 1. `[[registries.….credentials]]` of the config whose `for` fits, the longest first, then in the
//!    order written. An entry that fits is used or fails; nothing goes out without it.
//! 2. Docker's `config.json`: `credHelpers` of the host, `credsStore`, `auths` with the longest
//!    path that fits.
//! 3. None: anonymous.
//!
//! Nothing here prints a secret; what is told of one is its length.

mod docker_config;
mod file;
mod helper;
mod trace;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use secrecy::{ExposeSecret as _, SecretString};

use self::docker_config::{DockerConfig, Match};
use self::file::WatchedFile;
use self::helper::{Answer, Helpers};
pub use self::trace::{CredentialOutcome, CredentialStep, CredentialTrace};
use super::error::Away;
use super::{ClientLogin, address, realm};
use crate::config::{self, CredentialSource};
use crate::oci::{RegistryName, Target};

/// What the accounts and labels of clients begin with.
pub(super) const CLIENT: &str = "client:";
/// Largest file with one secret in it.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
/// Docker's own code calls the Hub by this key in front of helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// User and secret, and where they come from.
#[derive(Debug)]
pub(super) struct Credential {
    /// Source and user, for people: `config:bot`.
    pub(super) label: Arc<str>,
    /// Whom the registry counts: the user.
    pub(super) account: Arc<str>,
    pub(super) secret: Secret,
    /// Differs when user or secret differ; tells nothing of them.
    pub(super) fingerprint: u64,
}

#[derive(Debug)]
pub(super) enum Secret {
    Password {
        username: String,
        password: SecretString,
    },
    /// Good for tokens by the OAuth2 way only.
    IdentityToken {
        username: Option<String>,
        token: SecretString,
    },
}

impl Secret {
    pub(super) fn value(&self) -> &SecretString {
        match self {
            Secret::Password { password, .. } => password,
            Secret::IdentityToken { token, .. } => token,
        }
    }

    fn username(&self) -> Option<&str> {
        match self {
            Secret::Password { username, .. } => Some(username),
            Secret::IdentityToken { username, .. } => username.as_deref(),
        }
    }

    fn length(&self) -> usize {
        self.value().expose_secret().len()
    }
}

/// Where one endpoint of a registry stands, and which repository is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) target: &'a Target,
    pub(super) endpoint: &'a Uri,
    /// The registry has no other endpoint.
    pub(super) alone: bool,
}

/// The credentials of every registry, shared by all.
#[derive(Debug)]
pub(super) struct Credentials {
    files: HashMap<PathBuf, WatchedFile<SecretString>>,
    docker_config: Option<WatchedFile<DockerConfig>>,
    helpers: Helpers,
    fingerprints: RandomState,
}

/// What may apply, before any file but docker's config was read or any helper run.
enum Candidate<'a> {
    Entry {
        entry: &'a config::Credential,
        server: String,
    },
    DockerAuth(docker_config::Auth),
    DockerHelper(docker_config::Helper),
}

impl Credentials {
    /// `fingerprints`: makes the same of the same credential in every configuration.
    pub(super) fn new(config: &config::Config, fingerprints: RandomState) -> Self {
        let entries = config.registries.iter().flat_map(|r| &r.credentials);
        let files = entries.filter_map(|entry| match &entry.source {
            CredentialSource::PasswordFile { file, .. }
            | CredentialSource::IdentityTokenFile { file, .. } => Some(file),
            CredentialSource::Password { .. }
            | CredentialSource::PasswordEnv { .. }
            | CredentialSource::Helper { .. } => None,
        });
        let watched = |file: &PathBuf| {
            let watched = WatchedFile::new(file.clone(), SECRET_FILE_BYTES_MAX, secret_of_file);
            (file.clone(), watched)
        };
        let docker_config = config.credentials.docker_config.as_deref();
        Credentials {
            files: files.map(watched).collect(),
            docker_config: docker_config.map(DockerConfig::watched),
            helpers: Helpers::default(),
            fingerprints,
        }
    }

    /// The credential for a place; `None`: there is none, go anonymously.
    pub(super) async fn lookup(
        &self,
        registry: &config::Registry,
        place: Place<'_>,
    ) -> Result<Option<Arc<Credential>>, Away> {
        for candidate in self.candidates(registry, place) {
            let source = candidate.source();
            match self.resolve(&candidate).await {
                Ok(Some(found)) => {
                    tracing::debug!(
                        image = %place.target, endpoint = %place.endpoint,
                        credential = %found.label, secret_length = found.secret.length(),
                        "credential found"
                    );
                    return Ok(Some(found));
                }
                Ok(None) => {
                    tracing::debug!(image = %place.target, source, "no credential there");
                }
                Err(why) if candidate.is_binding() => {
                    tracing::warn!(image = %place.target, source, why, "credential missing");
                    let credential = source.into();
                    return Err(Away::Credential { credential, why });
                }
                Err(why) => {
                    tracing::warn!(image = %place.target, source, why, "credential source failed");
                }
            }
        }
        tracing::debug!(image = %place.target, endpoint = %place.endpoint, "no credential found");
        Ok(None)
    }

    /// The credential was refused: what is cached of it is looked up anew.
    pub(super) fn forget(&self) {
        self.files.values().for_each(WatchedFile::forget);
        self.docker_config.iter().for_each(WatchedFile::forget);
        self.helpers.forget();
    }

    /// The credential that a client brought.
    pub(super) fn of_client(&self, login: &ClientLogin) -> Arc<Credential> {
        let secret = Secret::Password {
            username: login.username.clone(),
            password: login.secret.clone(),
        };
        let mut credential = self.made("client", secret);
        credential.account = Arc::clone(&credential.label);
        Arc::new(credential)
    }

    fn candidates<'a>(
        &self,
        registry: &'a config::Registry,
        place: Place<'_>,
    ) -> Vec<Candidate<'a>> {
        if let Some(entry) = entries_that_fit(registry, place).first() {
            let server = server(place);
            return vec![Candidate::Entry { entry, server }];
        }
        let Some(Ok(docker)) = self.docker_config.as_ref().map(WatchedFile::read) else {
            return Vec::new();
        };
        let repository = place.target.repository.as_str();
        let found = |name| docker.find(&name, repository);
        names(place)
            .into_iter()
            .flat_map(found)
            .map(|found| match found {
                Match::Auth(auth) => Candidate::DockerAuth(auth),
                Match::Helper(helper) => Candidate::DockerHelper(helper),
            })
            .collect()
    }

    /// `None`: the source has none for this registry. The error is a text: whatever it is, the
    /// credential cannot be had.
    async fn resolve(&self, candidate: &Candidate<'_>) -> Result<Option<Arc<Credential>>, String> {
        let (source, secret) = match candidate {
            Candidate::Entry { entry, server } => match self.of_entry(entry)? {
                Some(secret) => ("config".to_owned(), secret),
                None => {
                    let CredentialSource::Helper { name } = &entry.source else {
                        return Ok(None);
                    };
                    match self.helpers.get(name, server).await? {
                        Answer::Found(secret) => (format!("helper/{name}"), secret),
                        Answer::NotFound => return Err(format!("it knows no login for {server}")),
                    }
                }
            },
            Candidate::DockerAuth(auth) => ("docker-config".to_owned(), auth.secret()),
            Candidate::DockerHelper(helper) => {
                match self.helpers.get(&helper.name, &helper.server).await? {
                    Answer::Found(secret) => (format!("helper/{}", helper.name), secret),
                    Answer::NotFound => return Ok(None),
                }
            }
        };
        Ok(Some(Arc::new(self.made(&source, secret))))
    }

    /// The secret that an entry holds or names; `None`: a helper has to be asked.
    fn of_entry(&self, entry: &config::Credential) -> Result<Option<Secret>, String> {
        let secret = match &entry.source {
            CredentialSource::Password { username, password } => Secret::Password {
                username: username.clone(),
                password: password.clone(),
            },
            CredentialSource::PasswordFile { username, file } => Secret::Password {
                username: username.clone(),
                password: self.file(file)?,
            },
            CredentialSource::PasswordEnv { username, variable } => {
                let value = std::env::var(variable)
                    .map_err(|error| format!("the environment variable {variable}: {error}"))?;
                Secret::Password {
                    username: username.clone(),
                    password: value.into(),
                }
            }
            CredentialSource::IdentityTokenFile { username, file } => Secret::IdentityToken {
                username: username.clone(),
                token: self.file(file)?,
            },
            CredentialSource::Helper { .. } => return Ok(None),
        };
        Ok(Some(secret))
    }

    fn file(&self, file: &Path) -> Result<SecretString, String> {
        let watched = self.files.get(file).ok_or("it is not watched")?;
        Ok(SecretString::clone(&*watched.read()?))
    }

    fn made(&self, source: &str, secret: Secret) -> Credential {
        let user = secret.username().unwrap_or("identity-token");
        let hashed = (source, user, secret.value().expose_secret());
        Credential {
            label: format!("{source}:{user}").into(),
            account: user.into(),
            fingerprint: self.fingerprints.hash_one(hashed),
            secret,
        }
    }
}

impl Candidate<'_> {
    fn source(&self) -> String {
        match self {
            Candidate::Entry { entry, .. } => trace::of_config(&entry.source),
            Candidate::DockerAuth(auth) => format!("docker-config {:?}", auth.key),
            Candidate::DockerHelper(helper) => helper.source(),
        }
    }

    /// Said by the operator for this registry: without it nothing goes out.
    fn is_binding(&self) -> bool {
        match self {
            Candidate::Entry { .. } => true,
            Candidate::DockerAuth(_) => false,
            Candidate::DockerHelper(helper) => helper.is_for_host,
        }
    }
}

/// The entries for this repository and endpoint, best first: those for the endpoint alone before the
/// others, then the longest prefix, then as written.
fn entries_that_fit<'a>(
    registry: &'a config::Registry,
    place: Place<'_>,
) -> Vec<&'a config::Credential> {
    let origin = address::origin(place.endpoint);
    let is_for_endpoint = |entry: &config::Credential| {
        let only = entry.endpoint.as_ref();
        only.is_none_or(|only| address::origin(only) == origin)
    };
    let repository = place.target.repository.as_str();
    let mut entries: Vec<_> = registry
        .credentials
        .iter()
        .filter(|entry| is_for_endpoint(entry) && fits(&entry.prefix, repository))
        .collect();
    entries.sort_by_key(|entry| {
        let general = entry.endpoint.is_none();
        (general, std::cmp::Reverse(entry.prefix.len()))
    });
    entries
}

/// Whether a repository lies under a prefix: whole components only, so that an entry for `acme`
/// does not reach `acme-internal`.
fn fits(prefix: &str, repository: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    match repository.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// By which names docker's config may know the place: the endpoint's host, and the registry's name
/// where the endpoint belongs to it. A mirror of somebody else does not get the registry's login.
fn names(place: Place<'_>) -> Vec<RegistryName> {
    let registry = &place.target.registry;
    let host = place.endpoint.host().unwrap_or_default();
    let authority = place.endpoint.authority().map(|a| a.as_str());
    let mut names: Vec<RegistryName> = authority.and_then(|a| a.parse().ok()).into_iter().collect();
    let is_own = place.alone || realm::belongs(host, registry.host());
    if is_own && !names.contains(registry) {
        names.push(registry.clone());
    }
    names
}

/// How helpers know the endpoint.
fn server(place: Place<'_>) -> String {
    let authority = place.endpoint.authority().map(|a| a.as_str());
    let authority = authority.unwrap_or_default();
    match authority.parse::<RegistryName>() {
        Ok(name) if name.is_docker_hub() => HUB_KEY.to_owned(),
        Ok(_) | Err(_) => authority.to_owned(),
    }
}

/// A file written by an editor or `echo` ends with a line break that is not part of the secret.
fn secret_of_file(content: &[u8]) -> Result<SecretString, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(secret.into())
}
