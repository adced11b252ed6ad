//! podman, buildah, skopeo and CRI-O, which read the same files.
//!
//! They do not say which registry they mean: its name goes before the repository, as a part of the
//! mirror's location. Source: containers-registries.conf.d(5), containers-certs.d(5), crio.conf(5).

use std::fmt::Write as _;

use super::plan::Plan;
use super::site::Site;

pub(super) fn podman(site: &Site) -> Plan {
    let mut plan = shared(site);
    plan.note("The file is read with every command, nothing has to be restarted.");
    if site.login {
        let plain = if site.https {
            ""
        } else {
            "--tls-verify=false "
        };
        plan.then(format!("podman login {plain}{}", site.authority));
        plan.note(
            "podman login is for the user who runs it; buildah and skopeo take the same login.",
        );
    }
    plan
}

pub(super) fn crio(site: &Site) -> Plan {
    const AUTH: &str = "/etc/crio/weir-auth.json";
    let mut plan = shared(site);
    if site.login {
        plan.whole(
            "/etc/crio/crio.conf.d/50-weir.conf",
            format!("[crio.image]\nglobal_auth_file = {AUTH:?}\n"),
        );
        let auths = serde_json::json!({ "auths": { &site.authority: { "auth": "BASE64" } } });
        plan.whole(AUTH, format!("{auths:#}\n"));
        plan.note(format!(
            "Put what `printf %s USER:PASSWORD | base64 -w0` prints in the place of BASE64, and let \
             root alone read {AUTH} (chmod 600)."
        ));
    }
    plan.then("systemctl restart crio");
    plan
}

fn shared(site: &Site) -> Plan {
    let mut plan = Plan::default();
    plan.whole(
        "/etc/containers/registries.conf.d/50-weir.conf",
        registries(site),
    );
    if let Some(ca) = &site.ca {
        let folder = format!("/etc/containers/certs.d/{}", site.authority);
        plan.whole(format!("{folder}/ca.crt"), ca);
    }
    plan.note(
        "When weir does not answer, or not with the image, the registry itself is asked. What of an \
         image was begun at weir is not gone on with elsewhere: these clients have no way back once \
         they hold the manifest.",
    );
    plan
}

fn registries(site: &Site) -> String {
    let mut text = String::new();
    for registry in &site.registries {
        let (name, authority) = (&registry.name, &site.authority);
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "[[registry]]\nprefix = \"{name}\"\nlocation = \"{name}\"\n\
             [[registry.mirror]]\nlocation = \"{authority}/{name}\"\n"
        );
        if !site.https {
            text.push_str("insecure = true\n");
        }
        text.push('\n');
    }
    text.pop();
    text
}
