//! Routing, case by case and with anything a client may send.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Endpoint, RegistryAuth, UpstreamTls};

fn registry(name: &str, default: bool, hosts: &[&str]) -> Arc<Registry> {
    Arc::new(Registry {
        name: name.parse().unwrap(),
        endpoints: vec![Endpoint {
            uri: http::Uri::from_static("https://registry.invalid"),
        }],
        default,
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        tls: UpstreamTls::default(),
        allow: Vec::new(),
        deny: Vec::new(),
        token_services: Vec::new(),
        quota_reserve: 0,
        auth: RegistryAuth::Stored,
        right_for: Duration::ZERO,
        right_held_for: Duration::ZERO,
        credentials: Vec::new(),
    })
}

fn routes() -> Routes {
    Routes::among(&[
        registry("docker.io", true, &["hub.mirror.internal"]),
        registry("ghcr.io", false, &["ghcr.mirror.internal"]),
        registry("localhost:5000", false, &[]),
        registry("library", false, &[]),
    ])
}

type Case = (
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
    &'static str,
    By,
);

#[test]
fn each_way_leads_to_its_registry_in_the_order_of_the_contract() {
    use By::{Default, Host, Namespace, Prefix};
    let cases: &[Case] = &[
        // Nothing named: the default, with `library/` for Docker Hub.
        (None, None, "alpine", "docker.io/library/alpine", Default),
        (
            None,
            Some("weir:5000"),
            "acme/app",
            "docker.io/acme/app",
            Default,
        ),
        // The prefix, in every spelling.
        (None, None, "ghcr.io/org/app", "ghcr.io/org/app", Prefix),
        (None, None, "GHCR.io/org/app", "ghcr.io/org/app", Prefix),
        (
            None,
            None,
            "docker.io/alpine",
            "docker.io/library/alpine",
            Prefix,
        ),
        (None, None, "index.docker.io/a/b", "docker.io/a/b", Prefix),
        (None, None, "localhost:5000/a", "localhost:5000/a", Prefix),
        (None, None, "library/a", "library/a", Prefix),
        // The virtual host wins over the prefix and takes the name whole.
        (
            None,
            Some("ghcr.mirror.internal"),
            "org/app",
            "ghcr.io/org/app",
            Host,
        ),
        (
            None,
            Some("GHCR.mirror.internal.:443"),
            "a/b",
            "ghcr.io/a/b",
            Host,
        ),
        (
            None,
            Some("hub.mirror.internal:5000"),
            "ghcr.io/a/b",
            "docker.io/ghcr.io/a/b",
            Host,
        ),
        // `ns` wins over both and takes the name whole.
        (
            Some("ghcr.io"),
            Some("hub.mirror.internal"),
            "org/app",
            "ghcr.io/org/app",
            Namespace,
        ),
        (
            Some("docker.io"),
            None,
            "ghcr.io/a/b",
            "docker.io/ghcr.io/a/b",
            Namespace,
        ),
        (
            Some("docker.io"),
            None,
            "library/alpine",
            "docker.io/library/alpine",
            Namespace,
        ),
        (
            Some("index.docker.io"),
            None,
            "alpine",
            "docker.io/library/alpine",
            Namespace,
        ),
        (
            Some("registry-1.docker.io"),
            None,
            "a/b",
            "docker.io/a/b",
            Namespace,
        ),
        (
            Some("https://index.docker.io/v1/"),
            None,
            "a/b",
            "docker.io/a/b",
            Namespace,
        ),
        (
            Some("localhost:5000"),
            None,
            "a",
            "localhost:5000/a",
            Namespace,
        ),
    ];
    for &(ns, host, name, target, by) in cases {
        let routed = routes().target(ns, host, &name.parse().unwrap());
        let routed = routed.map(|routed| (routed.target.to_string(), routed.by));
        assert_eq!(
            routed,
            Ok((target.to_owned(), by)),
            "{ns:?} {host:?} {name}"
        );
    }
}

#[test]
fn an_unknown_registry_is_named_together_with_the_known_ones() {
    for (ns, name) in [
        (Some("169.254.169.254"), "a/b"),
        (Some("quay.io"), "a/b"),
        (Some(""), "a/b"),
        (Some("http://localhost:5001/"), "a/b"),
        (Some("docker.io.example.com"), "a/b"),
        (None, "quay.io/a/b"),
        (None, "10.0.0.1:8080/a"),
        (None, "localhost/a"),
    ] {
        let unrouted = routes()
            .target(ns, None, &name.parse().unwrap())
            .unwrap_err();
        let message = unrouted.to_string();
        let asked = ns.unwrap_or_else(|| name.split('/').next().unwrap());
        assert!(message.contains(asked), "{message}");
        assert!(message.contains("ghcr.io"), "{message}");
    }
}

#[test]
fn without_a_default_a_bare_name_leads_nowhere() {
    let routes = Routes::among(&[registry("ghcr.io", false, &[])]);
    let unrouted = routes.target(None, None, &"alpine".parse().unwrap());
    assert!(matches!(unrouted, Err(Unrouted::NoDefault { .. })));
    assert!(
        routes
            .target(None, None, &"ghcr.io/a".parse().unwrap())
            .is_ok()
    );
}

#[test]
fn another_default_than_docker_hub_may_have_dotted_namespaces() {
    let routes = Routes::among(&[registry("registry.internal", true, &[])]);
    let routed = routes.target(None, None, &"team.a/app".parse().unwrap());
    assert_eq!(routed.unwrap().target.repository.as_str(), "team.a/app");
    let routed = routes.target(None, None, &"host:5000/app".parse().unwrap());
    assert!(matches!(routed, Err(Unrouted::UnknownRegistry { .. })));
}

#[test]
fn a_port_stands_in_no_repository() {
    let routed = routes().target(Some("ghcr.io"), None, &"localhost:5000/a".parse().unwrap());
    assert!(matches!(routed, Err(Unrouted::Name(_))));
}

proptest! {
    #[test]
    fn nothing_leads_out_of_the_configured_world(
        ns: Option<String>,
        host: Option<String>,
        name in "([a-z0-9.]{1,8}(:[0-9]{1,4})?/)?[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}",
    ) {
        let routes = routes();
        if let Ok(name) = name.parse::<Name>()
            && let Ok(routed) = routes.target(ns.as_deref(), host.as_deref(), &name)
        {
            prop_assert!(routes.registries.contains(&routed.target.registry));
        }
    }

    #[test]
    fn ns_decides_whatever_the_host_and_the_name_say(
        host: Option<String>,
        name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){1,2}",
    ) {
        let name: Name = name.parse().unwrap();
        let routed = routes().target(Some("ghcr.io"), host.as_deref(), &name).unwrap();
        prop_assert_eq!(routed.target.to_string(), format!("ghcr.io/{name}"));
    }
}
