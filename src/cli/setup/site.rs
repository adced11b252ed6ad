//! This weir as a client sees it: where it is, by which protocol, which registries it knows, and
//! whether it asks who is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::config::{Config, Listen, Registry, RegistryAuth};
use crate::oci::RegistryName;

/// What files for clients are made from.
pub(super) struct Site {
    pub(super) https: bool,
    /// `host` or `host:port`, in lower case.
    pub(super) authority: String,
    /// The certificates of the CA, in PEM.
    pub(super) ca: Option<String>,
    /// Those that were asked for, sorted by name.
    pub(super) registries: Vec<Arc<Registry>>,
    /// Clients show weir a login for some of these registries at least.
    pub(super) login: bool,
    login_everywhere: bool,
    certificates: bool,
    only_here: bool,
}

/// Why no files can be made. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("server.listen has no address that clients could use ({0}): say --address HOST:PORT")]
    NoAddress(String),
    #[error(
        "{0:?} is no address of a registry: say --address HOST:PORT, such as weir.internal:5000"
    )]
    Address(String),
    #[error("{0:?} needs a dot or a port: clients would take it for a folder of Docker Hub")]
    BareName(String),
    #[error("{0} is no address to connect to: say by which name or address clients reach weir")]
    Unspecified(String),
    #[error("clients reach weir by http there, and a CA is of use for https only")]
    CaWithoutTls,
    #[error("--ca {}: {source}", .file.display())]
    CaUnreadable {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("--ca {}: {source}", .file.display())]
    CaInvalid { file: PathBuf, source: pem::Error },
    #[error("--ca {}: there is no certificate in it", .0.display())]
    CaEmpty(PathBuf),
    #[error("--registry {asked}: not configured; there is {configured}")]
    UnknownRegistry { asked: String, configured: String },
    #[error("no registry is configured: there is nothing to set up")]
    NoRegistry,
}

impl Site {
    pub(super) fn of(
        config: &Config,
        address: Option<&str>,
        ca: Option<&Path>,
        registries: &[String],
    ) -> Result<Site, Unusable> {
        let (https, authority) = match address {
            Some(text) => given(config, text)?,
            None => listened(config)?,
        };
        let ca = match ca {
            Some(_) if !https => return Err(Unusable::CaWithoutTls),
            Some(file) => Some(read_ca(file)?),
            None => None,
        };
        let tls = config.server.tls.as_ref();
        let registries = chosen(config, registries)?;
        let by_client = |registry: &Arc<Registry>| registry.auth == RegistryAuth::Client;
        let somewhere = !config.access.anonymous || registries.iter().any(by_client);
        Ok(Site {
            https,
            only_here: address.is_none() && is_loopback(&authority),
            authority,
            ca,
            registries,
            login: somewhere,
            login_everywhere: !config.access.anonymous,
            certificates: tls.is_some_and(|tls| tls.client_ca.is_some()),
        })
    }

    /// Whether clients show weir a login for what this registry has.
    pub(super) fn login_for(&self, registry: &Registry) -> bool {
        self.login_everywhere || registry.auth == RegistryAuth::Client
    }

    pub(super) fn url(&self) -> String {
        self.url_of(&self.authority)
    }

    pub(super) fn url_of(&self, authority: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{authority}")
    }

    /// weir's address under another name of its host, such as a virtual host.
    pub(super) fn under(&self, host: &str) -> String {
        let port = self.authority.rsplit_once(':');
        let port = port.filter(|(before, _)| !before.contains(':') || before.ends_with(']'));
        port.map_or_else(|| host.to_owned(), |(_, port)| format!("{host}:{port}"))
    }

    /// What holds for every kind of client.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.only_here {
            notes.push(format!(
                "Only this machine reaches {}. For others let weir listen on an address of theirs, \
                 and say --address HOST:PORT.",
                self.authority
            ));
        }
        if self.https && self.ca.is_none() {
            notes.push(
                "Clients must trust the CA of weir's certificate. Where their system does not, say \
                 --ca FILE, and it becomes a part of these files."
                    .to_owned(),
            );
        }
        if self.login && !self.https {
            notes.push(
                "weir asks for a login and speaks plain HTTP: passwords can be read on the way. \
                 Set server.tls."
                    .to_owned(),
            );
        }
        if self.certificates {
            notes.push(
                "weir takes client certificates too (server.tls.client_ca); they are not set up here."
                    .to_owned(),
            );
        }
        for registry in &self.registries {
            if registry.auth == RegistryAuth::Client {
                notes.push(format!(
                    "{} has auth = \"client\": the login that a client shows weir for its images is \
                     the client's own one at {0}.",
                    registry.name
                ));
            }
        }
        notes
    }
}

/// What a client asks when weir can't help: the registry itself.
pub(super) fn behind(registry: &Registry) -> String {
    if registry.name.is_docker_hub() {
        return "https://registry-1.docker.io".to_owned();
    }
    // Where weir asks that very host, it knows whether it speaks TLS.
    let own = registry.endpoints.iter().find(|endpoint| {
        let authority = endpoint.uri.authority().map(|authority| authority.as_str());
        authority == Some(registry.name.as_str())
    });
    own.map_or_else(
        || format!("https://{}", registry.name),
        |endpoint| endpoint.origin(),
    )
}

/// An address that the operator names.
fn given(config: &Config, text: &str) -> Result<(bool, String), Unusable> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("https", rest)) => (Some(true), rest),
        Some(("http", rest)) => (Some(false), rest),
        Some(_) => return Err(Unusable::Address(text.into())),
        None => (None, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let name = rest.parse::<RegistryName>().ok();
    let name = name.filter(|name| !rest.contains('/') && !name.is_docker_hub());
    let name = name.ok_or_else(|| Unusable::Address(text.into()))?;
    if !RegistryName::looks_like_one(name.as_str()) {
        return Err(Unusable::BareName(text.into()));
    }
    let host = name.host().trim_matches(['[', ']']);
    if host
        .parse()
        .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
    {
        return Err(Unusable::Unspecified(text.into()));
    }
    let https = scheme.unwrap_or_else(|| config.server.tls.is_some() && !is_plain(config, &name));
    Ok((https, name.to_string()))
}

/// Whether the port is one where weir speaks plain HTTP beside TLS.
fn is_plain(config: &Config, name: &RegistryName) -> bool {
    let port = name.as_str().strip_prefix(name.host());
    config.server.listen.iter().any(|listen| match listen {
        Listen::Plain(address) => port == Some(&*format!(":{}", address.port())),
        Listen::Tcp(_) | Listen::Unix(_) => false,
    })
}

/// The address of the configuration that most clients can use.
fn listened(config: &Config) -> Result<(bool, String), Unusable> {
    let tls = config.server.tls.is_some();
    let usable = config.server.listen.iter().filter_map(|listen| {
        let (https, address) = match listen {
            Listen::Tcp(address) => (tls, address),
            Listen::Plain(address) => (false, address),
            Listen::Unix(_) => return None,
        };
        let fits = !address.ip().is_unspecified() && address.port() != 0;
        fits.then_some((https, address))
    });
    // The first of the best: for other machines before this one, TLS before plain HTTP.
    let best = usable.min_by_key(|(https, address)| (address.ip().is_loopback(), !https));
    best.map(|(https, address)| (https, address.to_string()))
        .ok_or_else(|| {
            let all = config.server.listen.iter().map(ToString::to_string);
            Unusable::NoAddress(all.collect::<Vec<_>>().join(", "))
        })
}

fn is_loopback(authority: &str) -> bool {
    let address = authority.parse::<std::net::SocketAddr>();
    address.is_ok_and(|address| address.ip().is_loopback())
}

fn read_ca(file: &Path) -> Result<String, Unusable> {
    let text = std::fs::read_to_string(file).map_err(|source| Unusable::CaUnreadable {
        file: file.to_owned(),
        source,
    })?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|source| Unusable::CaInvalid {
        file: file.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(Unusable::CaEmpty(file.to_owned()));
    }
    // Whatever else stands in the file, a key perhaps, stays where it is.
    Ok(only_certificates(&text))
}

fn only_certificates(text: &str) -> String {
    let (mut kept, mut inside) = (String::new(), false);
    for line in text.lines().map(str::trim_end) {
        inside |= line == "-----BEGIN CERTIFICATE-----";
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    kept
}

fn chosen(config: &Config, asked: &[String]) -> Result<Vec<Arc<Registry>>, Unusable> {
    if config.registries.is_empty() {
        return Err(Unusable::NoRegistry);
    }
    let mut chosen = Vec::new();
    for text in asked {
        let name = text.parse::<RegistryName>().ok();
        let registry = name.and_then(|name| config.registry(&name));
        let registry = registry.ok_or_else(|| {
            let names = config
                .registries
                .iter()
                .map(|registry| registry.name.as_str());
            Unusable::UnknownRegistry {
                asked: text.clone(),
                configured: names.collect::<Vec<_>>().join(", "),
            }
        })?;
        chosen.push(registry.clone());
    }
    if asked.is_empty() {
        chosen.clone_from(&config.registries);
    }
    chosen.sort_by(|one, other| one.name.cmp(&other.name));
    chosen.dedup_by(|one, other| one.name == other.name);
    Ok(chosen)
}
