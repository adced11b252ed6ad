//! containerd: one `hosts.toml` for each registry, and where its folder is named.
//!
//! It says with each request which registry it means (`ns`), so one address of weir is enough.
//! Source: containerd's docs/hosts.md and docs/cri/config.md.

use super::plan::Plan;
use super::site::{Site, behind};
use crate::config::Registry;

const FOLDER: &str = "/etc/containerd/certs.d";
const CA: &str = "/etc/containerd/weir-ca.crt";

pub(super) fn plan(site: &Site) -> Plan {
    let mut plan = Plan::default();
    for registry in &site.registries {
        let path = format!("{FOLDER}/{}/hosts.toml", registry.name);
        plan.whole(path, hosts(site, registry));
    }
    if let Some(ca) = &site.ca {
        plan.whole(CA, ca);
    }
    plan.part(
        "/etc/containerd/config.toml",
        "containerd 1.x, version = 2",
        &format!(
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{FOLDER}\"\n"
        ),
    );
    plan.part(
        "/etc/containerd/config.toml",
        "containerd 2.x, version = 3",
        &format!(
            "[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"{FOLDER}\"\n"
        ),
    );
    plan.then("systemctl restart containerd    # after a change of config.toml only");
    plan.then(format!(
        "ctr images pull --hosts-dir {FOLDER} {}/REPOSITORY:TAG",
        site.registries[0].name
    ));
    plan.note(
        "hosts.toml is read anew with every pull. When weir does not answer, or not with the image, \
         containerd asks the registry itself.",
    );
    if site.login {
        plan.note(
            "Put what `printf %s USER:PASSWORD | base64 -w0` prints in the place of BASE64, and let \
             root alone read the files (chmod 600). A pod's imagePullSecrets are for the registry it \
             names, and weir would not know them.",
        );
    }
    plan
}

fn hosts(site: &Site, registry: &Registry) -> String {
    let (url, behind) = (site.url(), behind(registry));
    let mut text = format!(
        "server = {behind:?}\n\n[host.{url:?}]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    if site.ca.is_some() {
        text.push_str(&format!("  ca = {CA:?}\n"));
    }
    if site.login_for(registry) {
        text.push_str(&format!(
            "  [host.{url:?}.header]\n    Authorization = \"Basic BASE64\"\n"
        ));
    }
    text
}
