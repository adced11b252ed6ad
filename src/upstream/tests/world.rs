//! Configurations and content for tests, in few words.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::server::{Reply, Seen};
use crate::clock::Clock;
use crate::config::{self, Config, CredentialSource, RegistryAuth};
use crate::oci::{Algorithm, Digest, Reference, RegistryName, Target};
use crate::upstream::{Identity, Metrics, Remote, Upstream};

pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const PASSWORD: &str = "s3cret-p4ssword-of-bot";
pub(super) const TOKEN: &str = "t0ken-that-nobody-may-see";

pub(super) fn registry(name: &str, endpoints: &[&str]) -> config::Registry {
    let endpoint = |uri: &&str| config::Endpoint {
        uri: uri.parse().expect("tests write URLs"),
    };
    config::Registry {
        name: name.parse().expect("tests write names"),
        endpoints: endpoints.iter().map(endpoint).collect(),
        default: false,
        hosts: Vec::new(),
        tls: config::UpstreamTls::default(),
        allow: Vec::new(),
        deny: Vec::new(),
        token_services: Vec::new(),
        quota_reserve: 0,
        auth: RegistryAuth::Stored,
        right_for: Duration::from_secs(60),
        right_held_for: Duration::from_secs(3600),
        credentials: Vec::new(),
    }
}

pub(super) fn bot() -> config::Credential {
    login("bot", PASSWORD)
}

pub(super) fn login(username: &str, password: &str) -> config::Credential {
    entry(CredentialSource::Password {
        username: username.to_owned(),
        password: password.into(),
    })
}

pub(super) fn entry(source: CredentialSource) -> config::Credential {
    config::Credential {
        prefix: String::new(),
        endpoint: None,
        source,
    }
}

pub(super) fn config(registries: Vec<config::Registry>) -> Config {
    let listen = || config::Listen::Tcp(([127, 0, 0, 1], 0).into());
    let zero = Duration::ZERO;
    Config {
        server: config::Server {
            listen: vec![listen()],
            tls: None,
            drain_timeout: zero,
            connections_max: 1,
            header_timeout: zero,
            send_timeout: zero,
            trusted_proxies: Vec::new(),
        },
        admin: config::Admin {
            listen: listen(),
            token_file: None,
        },
        cache: config::Cache {
            directory: "/nonexistent".into(),
            max_size: 0,
            min_free: 0,
            max_age: None,
            scrub_rate: 0,
            flights_max: 1,
        },
        tags: config::Tags {
            fresh_for: zero,
            stale_for: zero,
            missing_for: zero,
            revalidate_for: zero,
            immutable: Vec::new(),
        },
        upstream: config::Upstream {
            connect_timeout: Duration::from_secs(3),
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            parallel_above: 0,
            proxy: None,
            no_proxy: None,
        },
        credentials: config::Credentials {
            docker_config: None,
        },
        registries: registries.into_iter().map(Arc::new).collect(),
        access: config::Access {
            anonymous: true,
            htpasswd: None,
            rules: Vec::new(),
        },
        file: None,
        files: Vec::new(),
        warnings: Vec::new(),
    }
}

/// An upstream, and the registry of its metrics.
pub(super) fn upstream(config: &Config) -> (Upstream, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry);
    let upstream = Upstream::new(config, Clock::System, metrics).expect("the config is good");
    (upstream, registry)
}

/// Everything that a scrape would show.
pub(super) fn scrape(registry: &prometheus::Registry) -> String {
    let encoder = prometheus::TextEncoder::new();
    encoder
        .encode_to_string(&registry.gather())
        .expect("metrics are text")
}

pub(super) fn remote(upstream: &Upstream, image: &str) -> Remote {
    let (registry, repository) = image.split_once('/').expect("registry/repository");
    let registry: RegistryName = registry.parse().expect("tests write names");
    let target = Target::new(registry, repository.parse().expect("tests write names"));
    upstream
        .remote(&target, Identity::Stored)
        .expect("it is configured")
}

pub(super) fn one(config: config::Registry) -> (Upstream, prometheus::Registry) {
    upstream(&self::config(vec![config]))
}

pub(super) fn tag(tag: &str) -> Reference {
    tag.parse().expect("tests write tags")
}

pub(super) fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

pub(super) fn image() -> Vec<u8> {
    let digest = sha256(b"config");
    format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":6}},"layers":[]}}"#).into()
}

/// The image, as a registry sends it.
pub(super) fn image_reply() -> Reply {
    let image = image();
    let digest = sha256(&image).to_string();
    Reply::ok(image)
        .header("content-type", MANIFEST_TYPE)
        .header("docker-content-digest", digest)
}

/// A token service at `/token` of the same server as the registry.
pub(super) fn token_reply(expires_in: u64) -> Reply {
    Reply::ok(format!(
        r#"{{"token":"{TOKEN}","expires_in":{expires_in}}}"#
    ))
}

/// 401, and how to get in.
pub(super) fn challenge(realm: &str, scope: &str) -> Reply {
    let challenge = format!(r#"Bearer realm="{realm}",service="test",scope="{scope}""#);
    Reply::new(401).header("www-authenticate", challenge)
}

/// The usual scope of the repository in the path.
pub(super) fn scope_of(seen: &Seen) -> String {
    let rest = seen.path.trim_start_matches("/v2/");
    let end = rest
        .find("/manifests/")
        .or(rest.find("/blobs/"))
        .unwrap_or(rest.len());
    format!("repository:{}:pull", &rest[..end])
}

/// The server's own URL, from a request to it.
pub(super) fn own_url(seen: &Seen) -> String {
    format!("http://{}", seen.header("host"))
}

/// A registry with one image in every repository, whose tokens come from its own `/token`.
pub(super) fn bearer(expires_in: u64) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| {
        if seen.path.starts_with("/token") {
            return token_reply(expires_in);
        }
        match seen.header("authorization") {
            auth if auth == format!("Bearer {TOKEN}") => image_reply(),
            _ => challenge(&format!("{}/token", own_url(seen)), &scope_of(seen)),
        }
    }
}

pub(super) fn uri(text: &str) -> Uri {
    text.parse().expect("tests write URLs")
}

/// Lets time pass without waiting for it. Sockets need the clock running, so it stands only here.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
