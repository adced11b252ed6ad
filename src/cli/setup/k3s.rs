//! K3s and RKE2: `registries.yaml`, from which they make containerd's files.
//!
//! containerd says which registry it means (`ns`), so nothing has to be rewritten.
//! Source: docs.k3s.io, "Private Registry Configuration".

use std::fmt::Write as _;

use super::plan::Plan;
use super::site::Site;

const CA: &str = "/etc/rancher/k3s/weir-ca.crt";

pub(super) fn plan(site: &Site) -> Plan {
    let mut plan = Plan::default();
    let mut text = String::from("mirrors:\n");
    for registry in &site.registries {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "  \"{}\":\n    endpoint:\n      - \"{}\"\n",
            registry.name,
            site.url()
        );
    }
    if site.login || site.ca.is_some() {
        let _ = writeln!(text, "configs:\n  \"{}\":", site.authority);
    }
    if site.login {
        text.push_str("    auth:\n      username: \"USER\"\n      password: \"PASSWORD\"\n");
        plan.note(
            "Put a user of weir and its password in the places of USER and PASSWORD, and let root \
             alone read the file (chmod 600).",
        );
    }
    if let Some(ca) = &site.ca {
        let _ = writeln!(text, "    tls:\n      ca_file: \"{CA}\"");
        plan.whole(CA, ca);
    }
    plan.whole("/etc/rancher/k3s/registries.yaml", text);
    plan.then("systemctl restart k3s    # k3s-agent on the other nodes");
    plan.note(
        "RKE2 reads the same from /etc/rancher/rke2/registries.yaml. Nothing needs a rewrite: the \
         nodes say which registry they mean. When weir does not answer, or not with the image, they \
         ask the registry itself.",
    );
    plan
}
