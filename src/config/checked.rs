//! The configuration after the crossing: every value parsed, every default filled in, nothing left
//! to check. Rooms take the part they need.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;
use http::Uri;
use ipnet::IpNet;
use secrecy::SecretString;

use super::problem::Warning;
use super::values::without_login;
use crate::oci::RegistryName;

/// Everything the operator said, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub cache: Cache,
    pub tags: Tags,
    pub upstream: Upstream,
    pub credentials: Credentials,
    /// Sorted by name; at most one is the default.
    pub registries: Vec<Arc<Registry>>,
    pub access: Access,
    /// The config file itself, where there is one, and every file that it names: what a reload
    /// watches.
    pub files: Vec<PathBuf>,
    /// The config file, where there is one.
    pub file: Option<PathBuf>,
    /// What is allowed but dangerous.
    pub warnings: Vec<Warning>,
}

impl Config {
    pub fn registry(&self, name: &RegistryName) -> Option<&Arc<Registry>> {
        self.registries
            .iter()
            .find(|registry| registry.name == *name)
    }

    pub fn default_registry(&self) -> Option<&Arc<Registry>> {
        self.registries.iter().find(|registry| registry.default)
    }
}

/// Where clients reach weir.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: Vec<Listen>,
    pub tls: Option<ServerTls>,
    /// How long a drain waits for requests under way.
    pub drain_timeout: Duration,
    /// Open connections at most; one more is refused.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, and be idle between requests.
    pub header_timeout: Duration,
    /// How long a client may take no byte of an answer.
    pub send_timeout: Duration,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TLS where `server.tls` is configured, else plain HTTP.
    Tcp(SocketAddr),
    /// Plain HTTP, also beside TLS.
    Plain(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Plain(address) => write!(f, "http://{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug, Clone)]
pub struct ServerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Clients may show a certificate that this CA signed.
    pub client_ca: Option<PathBuf>,
}

/// The caretaker's desk.
#[derive(Debug, Clone)]
pub struct Admin {
    pub listen: Listen,
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Cache {
    pub directory: PathBuf,
    /// Bytes of blobs at most.
    pub max_size: u64,
    /// Free bytes that the file system keeps.
    pub min_free: u64,
    /// Content that nobody asked for this long goes, whatever the size.
    pub max_age: Option<Duration>,
    /// Bytes a second that the background check of stored content may read; 0 switches it off.
    pub scrub_rate: u64,
    /// Transfers from upstreams at once.
    pub flights_max: usize,
}

/// How long an answer about a tag holds.
#[derive(Debug, Clone)]
pub struct Tags {
    pub fresh_for: Duration,
    pub stale_for: Duration,
    pub missing_for: Duration,
    /// Revalidate a tag in the background while the cached one is served, for this long after
    /// `fresh_for`; zero asks first.
    pub revalidate_for: Duration,
    /// `repository:tag` patterns whose tags never change.
    pub immutable: Vec<GlobMatcher>,
}

#[derive(Clone)]
pub struct Upstream {
    pub connect_timeout: Duration,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    /// A blob of this many bytes or more comes over several connections where one of them is slow;
    /// 0 switches it off.
    pub parallel_above: u64,
    /// `http://`, `https://` or `socks5://`; `None`: the environment's.
    pub proxy: Option<String>,
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Upstream {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("connect_timeout", &self.connect_timeout)
            .field("header_timeout", &self.header_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("parallel_above", &self.parallel_above)
            .field("proxy", &self.proxy.as_deref().map(without_login))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

#[derive(Debug, Clone)]
pub struct Credentials {
    pub docker_config: Option<PathBuf>,
}

/// One upstream registry.
#[derive(Debug, Clone)]
pub struct Registry {
    pub name: RegistryName,
    /// In order of preference, at least one.
    pub endpoints: Vec<Endpoint>,
    pub default: bool,
    /// Virtual hosts that mean this registry, lower case, without port.
    pub hosts: Vec<String>,
    pub tls: UpstreamTls,
    /// Repository patterns; empty: all.
    pub allow: Vec<GlobMatcher>,
    pub deny: Vec<GlobMatcher>,
    /// Hosts of token services beside the registry's own domain.
    pub token_services: Vec<Uri>,
    pub quota_reserve: u64,
    pub auth: RegistryAuth,
    /// How long a client's right to a repository is taken as known; only with the client's own
    /// credentials.
    pub right_for: Duration,
    /// How long it holds on while the upstream cannot be asked.
    pub right_held_for: Duration,
    /// In the order written; the longest `prefix` that fits wins.
    pub credentials: Vec<Credential>,
}

/// No right outlives a longer silence of its registry.
pub const RIGHT_HELD_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Whose credentials go upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryAuth {
    /// The ones stored with weir.
    Stored,
    /// The client's own, SPEC 4.5.
    Client,
}

/// A base address of a registry; the path, where it has one, is put before the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub uri: Uri,
}

impl Endpoint {
    /// Scheme, host and port, as messages and labels show it.
    pub fn origin(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let authority = self.uri.authority().map(|a| a.as_str()).unwrap_or_default();
        format!("{scheme}://{authority}")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub insecure_skip_verify: bool,
}

/// One `[[registries.….credentials]]` entry.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Repository prefix; empty fits every repository.
    pub prefix: String,
    /// The only endpoint that gets it; `None`: every endpoint of the registry.
    pub endpoint: Option<Uri>,
    pub source: CredentialSource,
}

#[derive(Debug, Clone)]
pub enum CredentialSource {
    Password {
        username: String,
        password: SecretString,
    },
    PasswordFile {
        username: String,
        file: PathBuf,
    },
    PasswordEnv {
        username: String,
        variable: String,
    },
    IdentityTokenFile {
        username: Option<String>,
        file: PathBuf,
    },
    /// `docker-credential-<name>`
    Helper {
        name: String,
    },
}

/// Who may pull what.
#[derive(Debug, Clone)]
pub struct Access {
    pub anonymous: bool,
    pub htpasswd: Option<PathBuf>,
    pub rules: Vec<AccessRule>,
}

#[derive(Debug, Clone)]
pub struct AccessRule {
    pub users: Vec<String>,
    pub networks: Vec<IpNet>,
    /// Patterns of certificate subjects, such as `CN=node-*`.
    pub certificates: Vec<GlobMatcher>,
    pub anonymous: bool,
    /// `registry/repository` patterns.
    pub allow: Vec<GlobMatcher>,
}
