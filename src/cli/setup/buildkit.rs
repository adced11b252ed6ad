//! buildkitd, also as docker buildx runs it.
//!
//! It asks with containerd's code and says which registry it means (`ns`).
//! Source: BuildKit's docs/buildkitd.toml.md.

use std::fmt::Write as _;

use super::plan::Plan;
use super::site::Site;

const FILE: &str = "/etc/buildkit/buildkitd.toml";
const CA: &str = "/etc/buildkit/weir-ca.crt";

pub(super) fn plan(site: &Site) -> Plan {
    let mut plan = Plan::default();
    let authority = &site.authority;
    let mut text = String::new();
    for registry in &site.registries {
        let name = &registry.name;
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "[registry.\"{name}\"]\n  mirrors = [\"{authority}\"]\n\n"
        );
    }
    let _ = writeln!(text, "[registry.\"{authority}\"]");
    if !site.https {
        text.push_str("  http = true\n");
    }
    if let Some(ca) = &site.ca {
        let _ = writeln!(text, "  ca = [{CA:?}]");
        plan.whole(CA, ca);
    }
    plan.whole(FILE, text);
    plan.then("systemctl restart buildkit");
    plan.then(format!(
        "docker buildx create --use --driver docker-container --buildkitd-config {FILE}"
    ));
    plan.note("The first command is for a buildkitd of its own, the second for docker buildx.");
    if site.login {
        plan.then(format!("docker login {authority}"));
        plan.note(
            "BuildKit takes logins from who builds: docker login there, not on the machine of \
             buildkitd. That it uses them for a mirror was not tested.",
        );
    }
    plan
}
