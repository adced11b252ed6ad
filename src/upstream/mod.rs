//! The only door to the outside: endpoints, attempts, tokens, credentials, quota, transport.
//!
//! Everything that weir asks of a registry goes through a [`Remote`]: one repository as one
//! identity. What must not be here: the cache. No secret leaves this room but to the registry it is
//! for and to the token service that belongs to it (SPEC 4.4, promise 7).

mod address;
mod challenge;
mod download;
mod error;
mod metrics;
mod realm;
mod redirects;
mod remote;
mod said;
mod transport;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::clock::Clock;
use crate::config::Config;
use crate::oci::{Digest, Manifest, MediaType, RegistryName, Target};

pub use download::Download;
pub use error::{Away, Error, ErrorKind, Limit, Phase, Tls, Wrong};
pub use metrics::Metrics;
pub use remote::Remote;

/// How logs, labels and errors call the credential that is none.
pub const ANONYMOUS: &str = "anonymous";

/// Every configured registry. Used as `Arc<Upstream>`.
#[derive(Debug)]
pub struct Upstream {
    registries: Vec<RegistryName>,
}

/// Why the upstream side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("registries.{registry:?}: {file}: {why}")]
    Tls {
        registry: RegistryName,
        file: String,
        why: String,
    },
}

impl Upstream {
    /// Prepares what is configured. Connects to nobody.
    pub fn new(config: &Config, _clock: Clock, _metrics: Metrics) -> Result<Upstream, StartError> {
        Ok(Upstream {
            registries: config.registries.iter().map(|r| r.name.clone()).collect(),
        })
    }

    /// Takes up a changed configuration; what did not change keeps its tokens and connections.
    pub fn reload(&self, _config: &Config) -> Result<(), StartError> {
        Ok(())
    }

    /// `None`: the registry is not configured.
    pub fn remote(&self, target: &Target, _identity: Identity) -> Option<Remote> {
        let known = self.registries.contains(&target.registry);
        known.then(|| Remote {
            target: target.clone(),
        })
    }
}

/// As whom a repository is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// With what is stored with weir for this registry.
    Stored,
    /// With the client's own login (SPEC 4.5).
    Client(ClientLogin),
}

/// What a client said who it is.
#[derive(Debug, Clone)]
pub struct ClientLogin {
    pub username: String,
    pub secret: SecretString,
}

impl PartialEq for ClientLogin {
    /// Takes the same time wherever the secrets differ.
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.secret.expose_secret(), other.secret.expose_secret());
        self.username == other.username && mine.as_bytes().ct_eq(theirs.as_bytes()).into()
    }
}

impl Eq for ClientLogin {}

impl Hash for ClientLogin {
    /// The secret stays out of it: logins of one user are few.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.username.hash(state);
    }
}

/// Where an answer came from, for logs. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Scheme, host and port: `https://registry-1.docker.io`.
    pub endpoint: Arc<str>,
    /// Source and user, `config:bot`, or [`ANONYMOUS`].
    pub credential: Arc<str>,
}

/// What a HEAD of a manifest told. A registry may leave out any of it.
#[derive(Debug, Clone)]
pub struct Head {
    pub digest: Option<Digest>,
    pub media_type: Option<MediaType>,
    pub length: Option<u64>,
    pub source: Source,
}

/// A manifest whose bytes match its digest.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub manifest: Manifest,
    pub source: Source,
}

/// A page of tags, or the referrers of a digest, as the upstream wrote it.
#[derive(Debug, Clone)]
pub struct Listing {
    pub body: Bytes,
    pub media_type: Option<MediaType>,
    /// What to ask for to get the next page, where there is one.
    pub link_next: Option<TagsQuery>,
    /// Of referrers: the filter on the artifact type is already applied.
    pub filtered: bool,
    pub source: Source,
}

/// Which page of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TagsQuery {
    pub n: Option<u32>,
    pub last: Option<String>,
    /// The cursor of registries that do not page by `last`.
    pub next_page: Option<String>,
}
