//! The sections of the file, key by key, each with its default.
//!
//! This is the one place in the code where these knobs stand; `config/reference.toml` explains
//! them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::checked::{
    Access, AccessRule, Admin, Cache, Credentials, Listen, Server, ServerTls, Tags, Upstream,
};
use super::crossing::{Crossing, Section};
use super::problem::{Danger, Wrong};
use super::values;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GIB: u64 = 1 << 30;
/// Ten years: longer is surely a slip, and time arithmetic stays far from its limits.
const SPAN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3650 * 24 * 60 * 60);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
/// Where the cache of a service lies.
const SERVICE_DIRECTORY: &str = "/var/lib/weir";

pub(super) fn server(root: &Section<'_>) -> Server {
    let section = root.section("server");
    let server = Server {
        listen: section.list("listen", &["127.0.0.1:5000"], values::listen),
        tls: section
            .section_if_written("tls")
            .and_then(|tls| server_tls(&tls)),
        drain_timeout: section.duration("drain_timeout", 30 * SECOND, Duration::ZERO..=DAY),
        connections_max: to_usize(section.count("connections_max", 10_000, 1..=1_000_000)),
        header_timeout: section.duration("header_timeout", 15 * SECOND, TIMEOUT),
        send_timeout: section.duration("send_timeout", 5 * MINUTE, TIMEOUT),
        trusted_proxies: section.list("trusted_proxies", &[], values::network),
    };
    if server.listen.is_empty()
        && section
            .take("listen")
            .is_none_or(|node| node.is_empty_list())
    {
        let example = "listen = \"127.0.0.1:5000\"";
        section.report("listen", Wrong::Empty { example });
    }
    for (at, listen) in server.listen.iter().enumerate() {
        if server.listen[..at].iter().any(|other| clash(listen, other)) {
            let text = listen.to_string();
            section.report("listen", Wrong::ListenTwice { text });
        }
    }
    server
}

fn server_tls(section: &Section<'_>) -> Option<ServerTls> {
    let certificate = "certificate = \"/etc/weir/tls.crt\"";
    let key = "key = \"/etc/weir/tls.key\"";
    let found = (
        section.file("certificate", certificate),
        section.file("key", key),
    );
    let client_ca = section.file("client_ca", "client_ca = \"/etc/weir/clients.crt\"");
    section.need("certificate", certificate);
    section.need("key", key);
    match found {
        (Some(certificate), Some(key)) => Some(ServerTls {
            certificate,
            key,
            client_ca,
        }),
        (None, _) | (_, None) => None,
    }
}

pub(super) fn admin(root: &Section<'_>, server: &Server) -> Admin {
    let section = root.section("admin");
    let listen = section.parsed_or("listen", "127.0.0.1:5001", values::listen);
    if server.listen.iter().any(|other| clash(&listen, other)) {
        let text = listen.to_string();
        section.report("listen", Wrong::ListenTwice { text });
    }
    let token_file = section.file("token_file", "token_file = \"/run/secrets/weir-admin\"");
    if token_file.is_none() && !values::is_local(&listen) {
        let listen = listen.to_string();
        section.warn("listen", Danger::OpenAdmin { listen });
    }
    Admin { listen, token_file }
}

/// Whether both would bind the same port. Port 0 is another one each time.
fn clash(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp(one) | Listen::Plain(one), Listen::Tcp(other) | Listen::Plain(other)) => {
            one == other && one.port() != 0
        }
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        (Listen::Tcp(_) | Listen::Plain(_), Listen::Unix(_))
        | (Listen::Unix(_), Listen::Tcp(_) | Listen::Plain(_)) => false,
    }
}

pub(super) fn cache(root: &Section<'_>) -> Cache {
    let section = root.section("cache");
    let written = section.path("directory", "directory = \"/var/lib/weir\"");
    Cache {
        directory: written.unwrap_or_else(|| cache_directory(section.crossing)),
        max_size: section.size("max_size", 50 * GIB, 1..=u64::MAX),
        min_free: section.size("min_free", GIB, 0..=u64::MAX),
        max_age: section.duration_if_written("max_age", SECOND..=*SPAN.end()),
        scrub_rate: section.size("scrub_rate", 4 << 20, 0..=u64::MAX),
        flights_max: to_usize(section.count("flights_max", 256, 1..=100_000)),
    }
}

fn cache_directory(crossing: &Crossing<'_>) -> PathBuf {
    let absolute = |name: &str| {
        let path = crossing.environment(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if let Some(caches) = absolute("XDG_CACHE_HOME") {
        return caches.join("weir");
    }
    match absolute("HOME") {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(".cache/weir"),
        Some(_) | None => SERVICE_DIRECTORY.into(),
    }
}

pub(super) fn tags(root: &Section<'_>) -> Tags {
    let section = root.section("tags");
    Tags {
        fresh_for: section.duration("fresh_for", MINUTE, SPAN),
        stale_for: section.duration("stale_for", 30 * DAY, SPAN),
        missing_for: section.duration("missing_for", 30 * SECOND, SPAN),
        revalidate_for: section.duration("revalidate_for", Duration::ZERO, SPAN),
        immutable: section.list("immutable", &[], values::tags),
    }
}

pub(super) fn upstream(root: &Section<'_>) -> Upstream {
    let section = root.section("upstream");
    Upstream {
        connect_timeout: section.duration("connect_timeout", 3 * SECOND, TIMEOUT),
        header_timeout: section.duration("header_timeout", 15 * SECOND, TIMEOUT),
        idle_timeout: section.duration("idle_timeout", 30 * SECOND, TIMEOUT),
        parallel_above: section.size("parallel_above", 128 << 20, 0..=u64::MAX),
        proxy: section.parsed("proxy", "proxy = \"http://proxy:3128\"", values::proxy),
        no_proxy: section.text("no_proxy", "no_proxy = \"localhost,.internal\""),
    }
}

pub(super) fn credentials(root: &Section<'_>, open_at: Option<&Listen>) -> Credentials {
    let section = root.section("credentials");
    let example = "docker_config = \"~/.docker/config.json\"";
    let docker_config = section.file("docker_config", example);
    if let (Some(_), Some(listen)) = (&docker_config, open_at) {
        let registry = "the registries in it".to_owned();
        let listen = listen.to_string();
        section.warn(
            "docker_config",
            Danger::OpenCredentials { registry, listen },
        );
    }
    Credentials { docker_config }
}

pub(super) fn access(root: &Section<'_>, server: &Server) -> Access {
    let section = root.section("access");
    let access = Access {
        anonymous: section.boolean("anonymous", true),
        htpasswd: section.file("htpasswd", "htpasswd = \"/etc/weir/htpasswd\""),
        rules: section.sections("rules").iter().map(access_rule).collect(),
    };
    let certificates = server
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if !access.anonymous && access.htpasswd.is_none() && !certificates {
        section.warn("anonymous", Danger::Closed);
    }
    access
}

fn access_rule(section: &Section<'_>) -> AccessRule {
    let rule = AccessRule {
        users: section.list("users", &[], |text| match text {
            "" => Err(Wrong::Empty { example: "\"ci\"" }),
            name => Ok(name.to_owned()),
        }),
        networks: section.list("networks", &[], values::network),
        certificates: section.list("certificates", &[], values::loose),
        anonymous: section.boolean("anonymous", false),
        allow: section.list("allow", &[], values::targets),
    };
    section.need("allow", "allow = [\"docker.io/library/*\"]");
    let clients = ["users", "networks", "certificates"];
    let written = |key: &&str| section.take(key).is_some_and(|node| !node.is_empty_list());
    if !rule.anonymous && !clients.iter().any(written) {
        section.report_whole(Wrong::RuleForNobody);
    }
    rule
}

/// The first address that others than this machine reach, where nothing decides who may have what.
pub(super) fn open_address<'s>(server: &'s Server, access: &Access) -> Option<&'s Listen> {
    let decided = !access.anonymous || !access.rules.is_empty();
    let mut others = server
        .listen
        .iter()
        .filter(|listen| !values::is_local(listen));
    others.next().filter(|_| !decided)
}

/// The first address where what clients from other machines say can be read on the way.
pub(super) fn clear_address(server: &Server) -> Option<&Listen> {
    let is_clear = |listen: &&Listen| match listen {
        Listen::Tcp(_) => server.tls.is_none() && !values::is_local(listen),
        Listen::Plain(_) => !values::is_local(listen),
        Listen::Unix(_) => false,
    };
    server.listen.iter().find(is_clear)
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
