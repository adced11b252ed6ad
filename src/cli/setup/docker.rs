//! dockerd: `daemon.json` and the CA.
//!
//! Its mirrors are for Docker Hub alone; it asks them without saying which registry it means, and
//! shows one that wants a login the user's login at Docker Hub.

use serde_json::{Map, json};

use super::plan::Plan;
use super::site::Site;
use crate::config::Registry;

pub(super) fn plan(site: &Site) -> Plan {
    let mut plan = Plan::default();
    let hub = site.registries.iter().find(|r| r.name.is_docker_hub());
    let mirror = hub.and_then(|hub| mirror(site, hub));
    let mut hosts = vec![site.authority.clone()];
    let others = site.registries.iter().flat_map(|r| &r.hosts);
    hosts.extend(others.map(|host| site.under(host)));
    hosts.dedup();

    let mut daemon = Map::new();
    let hub_login = hub.is_some_and(|hub| site.login_for(hub));
    if let Some(mirror) = mirror.as_ref().filter(|_| !hub_login) {
        daemon.insert("registry-mirrors".into(), json!([site.url_of(mirror)]));
    }
    if !site.https {
        daemon.insert("insecure-registries".into(), json!(hosts));
    }
    if !daemon.is_empty() {
        plan.whole("/etc/docker/daemon.json", format!("{:#}\n", json!(daemon)));
        plan.then("systemctl reload docker");
        plan.note("Where there is a daemon.json already, put these keys into it.");
    }
    if let Some(ca) = &site.ca {
        for host in &hosts {
            plan.whole(format!("/etc/docker/certs.d/{host}/ca.crt"), ca);
        }
    }
    if site.login {
        plan.then(format!("docker login {}", site.authority));
    }
    if site.login && site.ca.is_some() {
        plan.note(
            "docker with containerd's image store (26.1 was tried) asks for tokens without looking \
             into certs.d: there the CA has to be one that the system trusts \
             (update-ca-certificates), and docker restarted.",
        );
    }
    explain(&mut plan, site, hub.map(|hub| &**hub), mirror.is_some());
    plan
}

/// The address at which a name without anything before it is Docker Hub's.
fn mirror(site: &Site, hub: &Registry) -> Option<String> {
    if hub.default {
        return Some(site.authority.clone());
    }
    hub.hosts.first().map(|host| site.under(host))
}

fn explain(plan: &mut Plan, site: &Site, hub: Option<&Registry>, mirrored: bool) {
    let authority = &site.authority;
    match hub {
        Some(hub) if site.login_for(hub) => plan.note(
            "There is no registry-mirrors here, because this weir wants a login: docker has no place \
             for a mirror's login, shows such a mirror the user's login at Docker Hub, and goes to \
             Docker Hub without a word when that is refused. Images are pulled by weir's name, after \
             docker login.",
        ),
        Some(_) if !mirrored => plan.note(
            "There is no registry-mirrors here: docker does not tell a mirror which registry it \
             means, and docker.io is not the default of this weir. Make it the default, or give it \
             a host name of its own with hosts.",
        ),
        Some(_) => plan.note(
            "docker uses mirrors for Docker Hub only, and goes to Docker Hub itself when weir does \
             not answer.",
        ),
        None => {}
    }
    let named = site.registries.iter().find(|r| !r.name.is_docker_hub());
    let named = named.or(site.registries.first());
    if let Some(registry) = named {
        plan.note(format!(
            "Any registry, by weir's name: docker pull {authority}/{}/REPOSITORY:TAG",
            registry.name
        ));
    }
    for registry in site.registries.iter().filter(|r| !r.hosts.is_empty()) {
        let host = site.under(&registry.hosts[0]);
        plan.note(format!(
            "{}, by its host name: docker pull {host}/REPOSITORY:TAG",
            registry.name
        ));
    }
}
