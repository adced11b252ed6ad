//! What each client is given, read as the client would read it.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::json;

use super::plan::{Kind, Plan};
use super::{Arguments, Client, make};
use crate::config;

const TWO: &str = r#"
    builtin_registries = false
    [server]
    listen = ["0.0.0.0:5000", "unix:/run/weir.sock"]
    [registries."docker.io"]
    endpoints = ["https://registry-1.docker.io"]
    default = true
    [registries."registry.test:5005"]
    endpoints = ["http://registry.test:5005"]
"#;
/// Files that are there; nobody looks into them here.
const TLS: &str = concat!(
    "[server.tls]\ncertificate = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/Cargo.toml\"\nkey = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/Cargo.toml\"\n"
);
const LOGIN: &str = concat!(
    "[access]\nanonymous = false\nhtpasswd = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/Cargo.toml\"\n"
);
const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    setup: Arguments,
}

/// `weir setup` with this configuration, as it is typed.
fn setup(config: &str, line: &str) -> Result<Plan, String> {
    let config = config::load_str(config, &[]).expect("a good configuration");
    let line = Line::try_parse_from(["weir setup"].into_iter().chain(line.split_whitespace()));
    let line = line.map_err(|error| error.to_string())?;
    let made = make(&config, &line.setup);
    made.map(|(_, plan)| plan)
        .map_err(|error| error.to_string())
}

fn at_weir(client: &str, config: &str) -> Plan {
    setup(config, &format!("{client} --address weir.test:5000")).expect("a plan")
}

impl Plan {
    fn content(&self, path: &str) -> &str {
        let file = self.files.iter().find(|file| file.path == path);
        &file.unwrap_or_else(|| panic!("no {path}")).content
    }

    fn toml(&self, path: &str) -> serde_json::Value {
        let table: toml::Table = self.content(path).parse().expect("it is TOML");
        serde_json::to_value(table).expect("a table is JSON too")
    }

    fn json_at(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(self.content(path)).expect("it is JSON")
    }

    fn paths(&self) -> Vec<&str> {
        self.files.iter().map(|file| &*file.path).collect()
    }

    fn says(&self, word: &str) -> bool {
        self.notes.iter().any(|note| note.contains(word))
    }
}

/// With a CA in a file; the file lives as long as what comes back.
fn with_ca(client: &str, config: &str) -> (Plan, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!("-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n{PEM}");
    std::fs::write(&file, text).expect("it can be written");
    let path = file.path().display();
    let plan = setup(
        config,
        &format!("{client} --address weir.test:5000 --ca {path}"),
    );
    (plan.expect("a plan"), file)
}

#[test]
fn docker_gets_a_mirror_for_docker_hub() {
    let plan = at_weir("docker", TWO);
    assert_eq!(
        plan.json_at("/etc/docker/daemon.json"),
        json!({ "registry-mirrors": ["http://weir.test:5000"], "insecure-registries": ["weir.test:5000"] })
    );
    let (plan, _ca) = with_ca("docker", &format!("{TWO}{TLS}"));
    assert_eq!(
        plan.json_at("/etc/docker/daemon.json"),
        json!({ "registry-mirrors": ["https://weir.test:5000"] })
    );
    assert_eq!(
        plan.content("/etc/docker/certs.d/weir.test:5000/ca.crt"),
        PEM
    );
    assert!(plan.says("docker pull weir.test:5000/registry.test:5005/REPOSITORY"));
}

#[test]
fn docker_gets_no_mirror_that_would_mislead_it() {
    let plan = at_weir("docker", &format!("{TWO}{TLS}{LOGIN}"));
    assert_eq!(plan.paths(), [""; 0]);
    assert!(
        plan.says("wants a login") && plan.then.contains(&"docker login weir.test:5000".into())
    );

    let elsewhere = TWO.replace("default = true", "");
    let plan = at_weir("docker", &elsewhere);
    let daemon = plan.json_at("/etc/docker/daemon.json");
    assert_eq!(daemon["registry-mirrors"], json!(null));
    assert!(plan.says("not the default"));

    let by_host = TWO.replace("default = true", "hosts = [\"hub.test\"]");
    let daemon = at_weir("docker", &by_host).json_at("/etc/docker/daemon.json");
    assert_eq!(daemon["registry-mirrors"], json!(["http://hub.test:5000"]));
    let insecure = json!(["weir.test:5000", "hub.test:5000"]);
    assert_eq!(daemon["insecure-registries"], insecure);
}

#[test]
fn a_registry_that_clients_log_in_to_themselves_is_set_up_with_a_login_and_the_others_without() {
    let by_client = TWO.replace("default = true", "default = true\nauth = \"client\"");
    let plan = at_weir("docker", &by_client);
    let daemon = plan.json_at("/etc/docker/daemon.json");
    assert_eq!(daemon["registry-mirrors"], json!(null));
    assert!(plan.then.contains(&"docker login weir.test:5000".into()));

    let plan = at_weir("containerd", &by_client);
    let hosts = |registry| plan.content(&format!("/etc/containerd/certs.d/{registry}/hosts.toml"));
    assert!(hosts("docker.io").contains("Authorization"));
    assert!(!hosts("registry.test:5005").contains("Authorization"));

    let other = format!("{TWO}auth = \"client\"").replace("http://reg", "https://reg");
    let daemon = at_weir("docker", &other).json_at("/etc/docker/daemon.json");
    assert_eq!(daemon["registry-mirrors"], json!(["http://weir.test:5000"]));
}

#[test]
fn containerd_gets_a_file_for_each_registry_with_the_way_back() {
    let plan = at_weir("containerd", TWO);
    let capabilities = json!(["pull", "resolve"]);
    assert_eq!(
        plan.toml("/etc/containerd/certs.d/docker.io/hosts.toml"),
        json!({ "server": "https://registry-1.docker.io",
                "host": { "http://weir.test:5000": { "capabilities": capabilities } } })
    );
    let other = plan.toml("/etc/containerd/certs.d/registry.test:5005/hosts.toml");
    assert_eq!(other["server"], "http://registry.test:5005");
    let parts: Vec<_> = plan
        .files
        .iter()
        .filter(|file| file.kind != Kind::Whole)
        .map(|file| file.content.parse::<toml::Table>().expect("it is TOML"))
        .collect();
    let folder = Some("/etc/containerd/certs.d");
    assert_eq!(
        parts[0]["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["config_path"].as_str(),
        folder
    );
    assert_eq!(
        parts[1]["plugins"]["io.containerd.cri.v1.images"]["registry"]["config_path"].as_str(),
        folder
    );

    let (plan, _ca) = with_ca("containerd", &format!("{TWO}{TLS}{LOGIN}"));
    let host = &plan.toml("/etc/containerd/certs.d/docker.io/hosts.toml")["host"];
    assert_eq!(
        host["https://weir.test:5000"],
        json!({ "capabilities": capabilities, "ca": "/etc/containerd/weir-ca.crt",
                "header": { "Authorization": "Basic BASE64" } })
    );
    assert_eq!(plan.content("/etc/containerd/weir-ca.crt"), PEM);
}

#[test]
fn podman_and_crio_name_the_registry_in_the_location() {
    const CONF: &str = "/etc/containers/registries.conf.d/50-weir.conf";
    let plan = at_weir("podman", TWO);
    let mirror = |name: &str| format!("weir.test:5000/{name}");
    let entry = |name: &str, more: serde_json::Value| {
        let mut one = json!({ "location": mirror(name) });
        let fields = one.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        json!({ "prefix": name, "location": name, "mirror": [one] })
    };
    let plain = json!({ "insecure": true });
    assert_eq!(
        plan.toml(CONF)["registry"],
        json!([
            entry("docker.io", plain.clone()),
            entry("registry.test:5005", plain)
        ])
    );
    let (plan, _ca) = with_ca("podman", &format!("{TWO}{TLS}{LOGIN}"));
    assert_eq!(
        plan.toml(CONF)["registry"][0],
        entry("docker.io", json!({}))
    );
    assert_eq!(
        plan.content("/etc/containers/certs.d/weir.test:5000/ca.crt"),
        PEM
    );
    assert_eq!(plan.then, ["podman login weir.test:5000"]);

    let plan = at_weir("crio", &format!("{TWO}{TLS}{LOGIN}"));
    let crio = plan.toml("/etc/crio/crio.conf.d/50-weir.conf");
    let auth = crio["crio"]["image"]["global_auth_file"].as_str();
    let auths = plan.json_at(auth.expect("a file"));
    assert_eq!(auths["auths"]["weir.test:5000"]["auth"], "BASE64");
}

#[test]
fn buildkit_is_told_how_to_speak_to_the_mirror() {
    let file = "/etc/buildkit/buildkitd.toml";
    let mirrors = json!({ "mirrors": ["weir.test:5000"] });
    assert_eq!(
        at_weir("buildkit", TWO).toml(file)["registry"],
        json!({ "docker.io": mirrors, "registry.test:5005": mirrors,
                "weir.test:5000": { "http": true } })
    );
    let (plan, _ca) = with_ca("buildkit", &format!("{TWO}{TLS}"));
    let weir = &plan.toml(file)["registry"]["weir.test:5000"];
    assert_eq!(*weir, json!({ "ca": ["/etc/buildkit/weir-ca.crt"] }));
}

#[test]
fn k3s_gets_its_yaml() {
    let (plan, _ca) = with_ca("k3s", &format!("{TWO}{TLS}{LOGIN}"));
    let expected = r#"mirrors:
  "docker.io":
    endpoint:
      - "https://weir.test:5000"
  "registry.test:5005":
    endpoint:
      - "https://weir.test:5000"
configs:
  "weir.test:5000":
    auth:
      username: "USER"
      password: "PASSWORD"
    tls:
      ca_file: "/etc/rancher/k3s/weir-ca.crt"
"#;
    assert_eq!(plan.content("/etc/rancher/k3s/registries.yaml"), expected);
    let plan = at_weir("k3s", TWO);
    let yaml = plan.content("/etc/rancher/k3s/registries.yaml");
    assert!(yaml.contains("http://weir.test:5000") && !yaml.contains("configs"));
}

#[test]
fn the_address_is_one_that_clients_can_use() {
    let with = |listen: &str| TWO.replace("\"0.0.0.0:5000\"", listen);
    let mirror = |config: &str, line: &str| {
        let plan = setup(config, line)?;
        let yaml = plan.content("/etc/rancher/k3s/registries.yaml");
        let url = yaml.lines().find_map(|line| line.trim().strip_prefix("- "));
        Ok::<_, String>(url.expect("an endpoint").trim_matches('"').to_owned())
    };
    for (listen, expected) in [
        ("\"127.0.0.1:5000\"", "http://127.0.0.1:5000"),
        ("\"0.0.0.0:5000\", \"[::1]:5000\"", "http://[::1]:5000"),
        ("\"127.0.0.1:1\", \"192.0.2.1:2\"", "http://192.0.2.1:2"),
    ] {
        assert_eq!(mirror(&with(listen), "k3s").as_deref(), Ok(expected));
    }
    let both = format!(
        "{}{TLS}",
        with("\"http://192.0.2.1:80\", \"192.0.2.1:443\"")
    );
    assert_eq!(mirror(&both, "k3s").as_deref(), Ok("https://192.0.2.1:443"));
    for (line, expected) in [
        ("--address weir.test:80", "http://weir.test:80"),
        ("--address WEIR.test", "https://weir.test"),
        ("--address http://weir.test/", "http://weir.test"),
        ("--address [2001:db8::1]:443", "https://[2001:db8::1]:443"),
    ] {
        assert_eq!(
            mirror(&both, &format!("k3s {line}")).as_deref(),
            Ok(expected)
        );
    }
    assert!(
        at_weir("k3s", TWO)
            .notes
            .iter()
            .all(|note| !note.contains("Only this machine"))
    );
    let here = setup(&with("\"127.0.0.1:5000\""), "k3s").expect("a plan");
    assert!(here.says("Only this machine"));
}

#[test]
fn what_cannot_be_set_up_is_said_with_the_cure() {
    let missing = "/nowhere/ca.crt";
    for (line, part) in [
        ("docker", "--address HOST:PORT"),
        ("docker --address 0.0.0.0:5000", "no address to connect to"),
        ("docker --address weir", "dot or a port"),
        ("docker --address ftp://weir:1", "no address of a registry"),
        ("docker --address docker.io", "no address of a registry"),
        (
            "docker --address weir:5000/v2/x",
            "no address of a registry",
        ),
        (
            "docker --address weir:5000 --registry quay.io",
            "docker.io, registry.test:5005",
        ),
        (
            "docker --address http://weir:5000 --ca /etc/passwd",
            "https only",
        ),
        (
            "docker --address https://weir:5000 --ca /etc/passwd",
            "no certificate",
        ),
        (
            "docker --address https://weir:5000 --ca /nowhere/ca.crt",
            missing,
        ),
        ("docker --address weir:5000 --force", "--output"),
        ("rkt", "rkt"),
    ] {
        let error = setup(TWO, line).err().unwrap_or_default();
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn only_the_registries_that_are_asked_for_are_set_up() {
    let plan = setup(
        TWO,
        "containerd --address weir:1 --registry index.docker.io",
    );
    let paths = plan.expect("a plan");
    let whole = paths.files.iter().filter(|file| file.kind == Kind::Whole);
    let whole: Vec<_> = whole.map(|file| &*file.path).collect();
    assert_eq!(whole, ["/etc/containerd/certs.d/docker.io/hosts.toml"]);
    let plan = setup(
        TWO,
        "k3s --address w:1 --registry registry.test:5005,docker.io",
    );
    let yaml = plan.expect("a plan");
    let yaml = yaml.content("/etc/rancher/k3s/registries.yaml");
    assert_eq!(yaml.matches("endpoint").count(), 2);
}

#[test]
fn files_are_installed_all_or_none() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let plan = at_weir("crio", &format!("{TWO}{TLS}{LOGIN}"));
    let conf = root.path().join("etc/crio/crio.conf.d/50-weir.conf");
    let install = |force| super::install::install(&plan, root.path(), force);
    let read = |path: &Path| std::fs::read_to_string(path).ok();

    std::fs::create_dir_all(conf.parent().expect("a folder")).expect("it can be made");
    std::fs::write(&conf, "mine").expect("it can be written");
    let refused = install(false).expect_err("something else is there");
    assert!(refused.to_string().contains("50-weir.conf"), "{refused}");
    let registries = root
        .path()
        .join("etc/containers/registries.conf.d/50-weir.conf");
    assert_eq!(
        (read(&conf).as_deref(), registries.exists()),
        (Some("mine"), false)
    );

    let written = install(true).expect("it is forced");
    assert_eq!(written.len(), 3);
    let content = plan.content("/etc/crio/crio.conf.d/50-weir.conf");
    assert_eq!(read(&conf).as_deref(), Some(content));
    let again: Vec<PathBuf> = install(false).expect("the same is there");
    assert_eq!(again, written);
}

#[test]
fn every_client_says_what_to_run() {
    for client in [
        Client::Docker,
        Client::Containerd,
        Client::Crio,
        Client::Buildkit,
        Client::K3s,
    ] {
        let name = clap::ValueEnum::to_possible_value(&client);
        let name = name.expect("a name").get_name().to_owned();
        assert!(!at_weir(&name, TWO).then.is_empty(), "{name}");
    }
}
