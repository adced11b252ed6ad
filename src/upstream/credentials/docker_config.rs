//! Docker's `config.json`: logins as docker, podman and their kin keep them.
//!
//! Keys come in every spelling that ever was: `https://index.docker.io/v1/`, `ghcr.io`,
//! `https://host`, `host:port`, `host/path`. All spellings of one registry are one registry; of
//! several paths the longest that fits wins.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

use super::file::WatchedFile;
use super::{HUB_KEY, Secret, fits};
use crate::oci::RegistryName;

const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file, read.
#[derive(Debug)]
pub(super) struct DockerConfig {
    auths: Vec<Auth>,
    helpers: Vec<(RegistryName, String)>,
    /// The helper for everything.
    store: Option<String>,
}

/// One entry of `auths` that holds something.
#[derive(Debug, Clone)]
pub(super) struct Auth {
    /// As it is written in the file.
    pub(super) key: String,
    registry: RegistryName,
    path: String,
    username: Option<String>,
    secret: SecretString,
    is_identity_token: bool,
}

/// A helper that may know a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    pub(super) name: String,
    /// What to ask it for.
    pub(super) server: String,
    /// Named in `credHelpers` for this host, not the store for everything.
    pub(super) is_for_host: bool,
}

/// What the file has for a registry.
#[derive(Debug)]
pub(super) enum Match {
    Auth(Auth),
    Helper(Helper),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    auths: BTreeMap<String, WrittenAuth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize)]
struct WrittenAuth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl DockerConfig {
    pub(super) fn watched(path: &Path) -> WatchedFile<DockerConfig> {
        WatchedFile::new(path.to_owned(), FILE_BYTES_MAX, DockerConfig::parse)
    }

    /// Entries that make no sense are left out with a warning: another registry's trouble must not
    /// be this one's.
    fn parse(content: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(content).map_err(|error| {
            // Without the text around it, which may be a secret.
            format!("it is not docker's config.json (line {})", error.line())
        })?;
        let mut auths = Vec::new();
        for (key, entry) in written.auths {
            match entry.read(&key) {
                Ok(auth) => auths.extend(auth),
                Err(why) => tracing::warn!(key, why, "an entry of docker's config is left out"),
            }
        }
        auths.sort_by_key(|auth| std::cmp::Reverse(auth.path.len()));
        let helpers = written.cred_helpers.into_iter().filter_map(|(key, name)| {
            let (registry, _path) = split_key(&key)?;
            Some((registry, name))
        });
        Ok(DockerConfig {
            auths,
            helpers: helpers.collect(),
            store: Some(written.creds_store).filter(|store| !store.is_empty()),
        })
    }

    /// What may hold a login for the repository, in docker's order.
    pub(super) fn find(&self, registry: &RegistryName, repository: &str) -> Vec<Match> {
        let server = || match registry.is_docker_hub() {
            true => HUB_KEY.to_owned(),
            false => registry.as_str().to_owned(),
        };
        let for_host = self.helpers.iter().find(|(name, _)| name == registry);
        let for_host = for_host.map(|(_, name)| Helper {
            name: name.clone(),
            server: server(),
            is_for_host: true,
        });
        let store = self.store.as_ref().map(|name| Helper {
            name: name.clone(),
            server: server(),
            is_for_host: false,
        });
        let helper = for_host.or(store).map(Match::Helper);
        let auth = self
            .auths
            .iter()
            .find(|auth| auth.registry == *registry && fits(&auth.path, repository))
            .cloned()
            .map(Match::Auth);
        helper.into_iter().chain(auth).collect()
    }
}

impl Auth {
    pub(super) fn secret(&self) -> Secret {
        if self.is_identity_token {
            return Secret::IdentityToken {
                username: self.username.clone(),
                token: self.secret.clone(),
            };
        }
        Secret::Password {
            username: self.username.clone().unwrap_or_default(),
            password: self.secret.clone(),
        }
    }
}

impl Helper {
    pub(super) fn source(&self) -> String {
        format!("docker-credential-{} for {:?}", self.name, self.server)
    }
}

impl WrittenAuth {
    /// `None`: empty, because a helper has the secret.
    fn read(self, key: &str) -> Result<Option<Auth>, &'static str> {
        let (registry, path) = split_key(key).ok_or("the key names no registry")?;
        let (mut username, mut password) = (self.username, self.password);
        if !self.auth.is_empty() {
            (username, password) = decode(&self.auth)?;
        }
        let is_identity_token = !self.identitytoken.is_empty();
        let secret = match is_identity_token {
            true => self.identitytoken,
            false => password,
        };
        if secret.is_empty() {
            return Ok(None);
        }
        if username.is_empty() && !is_identity_token {
            return Err("it has a password and no user");
        }
        Ok(Some(Auth {
            key: key.to_owned(),
            registry,
            path,
            username: Some(username).filter(|user| !user.is_empty() && user != "<token>"),
            secret: secret.into(),
            is_identity_token,
        }))
    }
}

/// base64 of `user:password`, with or without padding.
fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let unpadded = auth.trim().trim_end_matches('=');
    let padded = match unpadded.len() % 4 {
        2 => format!("{unpadded}=="),
        3 => format!("{unpadded}="),
        _ => unpadded.to_owned(),
    };
    let decoded = BASE64_STANDARD
        .decode(padded)
        .map_err(|_| "auth is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "auth is not UTF-8 text")?;
    // Docker pads what it wrote with zeros.
    let text = text.trim_end_matches('\0');
    let (user, password) = text.split_once(':').ok_or("auth is not user:password")?;
    Ok((user.to_owned(), password.to_owned()))
}

/// Registry and path of a key.
fn split_key(key: &str) -> Option<(RegistryName, String)> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let rest = rest.unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let registry = host.parse().ok()?;
    let path = path.trim_matches('/');
    let path = match path {
        "v1" | "v2" => "",
        path => path.strip_prefix("v2/").unwrap_or(path),
    };
    Some((registry, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn login(config: &str, registry: &str, repository: &str) -> Option<(Option<String>, String)> {
        let config = DockerConfig::parse(config.as_bytes()).unwrap();
        let found = config.find(&registry.parse().unwrap(), repository);
        found.into_iter().find_map(|found| match found {
            Match::Auth(auth) => Some((auth.username, auth.secret.expose_secret().to_owned())),
            Match::Helper(_) => None,
        })
    }

    fn alice() -> Option<(Option<String>, String)> {
        Some((Some("alice".to_owned()), "pass:word".to_owned()))
    }

    #[test]
    fn every_spelling_of_a_key_is_found() {
        let auth = BASE64_STANDARD.encode("alice:pass:word");
        for (key, registry) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("http://GHCR.io/", "ghcr.io"),
            ("r.example:5000", "r.example:5000"),
            ("https://r.example:5000/v2/", "r.example:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#);
            assert_eq!(login(&config, registry, "library/x"), alice(), "{key}");
            assert_eq!(login(&config, "other.example", "library/x"), None, "{key}");
        }
    }

    #[test]
    fn the_longest_path_that_fits_wins() {
        let config = r#"{"auths":{
            "gitlab.example":{"username":"all","password":"a"},
            "gitlab.example/group":{"username":"group","password":"g"},
            "gitlab.example/group/project":{"username":"project","password":"p"}}}"#;
        let user = |repository| {
            login(config, "gitlab.example", repository)
                .unwrap()
                .0
                .unwrap()
        };
        assert_eq!(user("group/project/app"), "project");
        assert_eq!(user("group/project"), "project");
        assert_eq!(user("group/projects"), "group");
        assert_eq!(user("other/x"), "all");
    }

    #[test]
    fn identity_tokens_helpers_and_stores_are_known() {
        let config = r#"{"auths":{"acme.azurecr.io":{"auth":"MDAwOg==","identitytoken":"idt"}},
            "credHelpers":{"1.dkr.ecr.eu-central-1.amazonaws.com":"ecr-login"},
            "credsStore":"desktop","HttpHeaders":{"x":"y"}}"#;
        let (user, token) = login(config, "acme.azurecr.io", "x").unwrap();
        assert_eq!((user.as_deref(), &*token), (Some("000"), "idt"));
        let config = DockerConfig::parse(config.as_bytes()).unwrap();
        let helper = |registry: &str| {
            let found = config.find(&registry.parse().unwrap(), "x");
            match found.into_iter().next() {
                Some(Match::Helper(helper)) => (helper.name, helper.server, helper.is_for_host),
                Some(Match::Auth(_)) | None => panic!("no helper for {registry}"),
            }
        };
        let ecr = "1.dkr.ecr.eu-central-1.amazonaws.com";
        assert_eq!(helper(ecr), ("ecr-login".to_owned(), ecr.to_owned(), true));
        let hub = ("desktop".to_owned(), HUB_KEY.to_owned(), false);
        assert_eq!(helper("docker.io"), hub);
    }

    #[test]
    fn nonsense_is_left_out_and_never_quoted() {
        let config = r#"{"auths":{
            "a b":{"auth":"eDp5"},
            "bad.example":{"auth":"%%%"},
            "empty.example":{},
            "good.example":{"auth":"eDp5"}}}"#;
        assert_eq!(login(config, "bad.example", "x"), None);
        assert_eq!(login(config, "empty.example", "x"), None);
        assert!(login(config, "good.example", "x").is_some());
        let error = DockerConfig::parse(br#"{"auths":{"x":{"auth":hunter2"#).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn auth_may_lack_its_padding_or_have_too_much() {
        for auth in ["eDp5", "eDp5eQ", "eDp5eQ==", "eDp5AAAA"] {
            assert!(decode(auth).is_ok(), "{auth}");
        }
        assert_eq!(decode("eDp5AAAA").unwrap().1, "y");
    }
}
