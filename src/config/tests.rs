//! How the loader behaves as a whole: what it takes, where it comes from, and what it warns of.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::oci::RegistryName;

pub(super) fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, text): &(&str, &str)| (name.to_string(), text.to_string());
    variables.iter().map(owned).collect()
}

fn loaded(text: &str, variables: &[(&str, &str)]) -> Config {
    match load_str(text, &environment(variables)) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    let config = loaded(text, &[]);
    let all = config.warnings.iter();
    all.map(|warning| format!("{}: {}", warning.key, warning.danger))
        .collect()
}

fn registry<'c>(config: &'c Config, name: &str) -> &'c Registry {
    let name: RegistryName = name.parse().unwrap();
    config.registry(&name).unwrap()
}

fn origins(registry: &Registry) -> Vec<String> {
    registry.endpoints.iter().map(Endpoint::origin).collect()
}

#[test]
fn nothing_written_gives_the_defaults() {
    let config = loaded("", &[("HOME", "/home/ada")]);
    assert_eq!(config.server.listen[0].to_string(), "127.0.0.1:5000");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:5001");
    assert_eq!(config.cache.max_size, 50 << 30);
    assert_eq!(config.tags.fresh_for, Duration::from_secs(60));
    assert_eq!(config.registries.len(), 9);
    let hub = config.default_registry().unwrap();
    assert!(hub.name.is_docker_hub());
    assert_eq!(origins(hub), ["https://registry-1.docker.io"]);
    assert_eq!(origins(registry(&config, "ghcr.io")), ["https://ghcr.io"]);
    assert!(config.warnings.is_empty());
    assert!(config.files.is_empty());
}

#[test]
fn the_cache_lies_where_caches_lie() {
    let xdg = [("XDG_CACHE_HOME", "/caches"), ("HOME", "/home/ada")];
    assert_eq!(
        loaded("", &xdg).cache.directory,
        PathBuf::from("/caches/weir")
    );
    assert_eq!(
        loaded("", &[]).cache.directory,
        PathBuf::from("/var/lib/weir")
    );
    let home = [("HOME", "/home/ada")];
    let config = loaded("[cache]\ndirectory = \"~/weir\"", &home);
    assert_eq!(config.cache.directory, PathBuf::from("/home/ada/weir"));
}

#[test]
fn a_table_changes_a_built_in_registry_key_by_key() {
    let config = loaded(
        "[registries.\"https://index.docker.io/v1/\"]\nquota_reserve = 10",
        &[],
    );
    assert_eq!(config.registries.len(), 9);
    let hub = config.default_registry().unwrap();
    assert_eq!(hub.quota_reserve, 10);
    assert_eq!(origins(hub), ["https://registry-1.docker.io"]);
}

#[test]
fn the_built_in_default_gives_way() {
    let config = loaded("[registries.\"r.example:5000\"]\ndefault = true", &[]);
    let default = config.default_registry().unwrap();
    assert_eq!(default.name.as_str(), "r.example:5000");
    assert_eq!(origins(default), ["https://r.example:5000"]);
    let config = loaded("[registries.\"docker.io\"]\ndefault = false", &[]);
    assert!(config.default_registry().is_none());
    let config = loaded(
        "builtin_registries = false\n[registries.\"docker.io\"]",
        &[],
    );
    assert_eq!(config.registries.len(), 1);
    assert!(config.default_registry().is_none());
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = "[tags]\nfresh_for = \"2m\"\n[registries.\"r.example:5000\"]\n\
                credentials = [{ username = \"a\", password = \"b\" }]";
    let config = loaded(
        text,
        &[
            ("WEIR_CONFIG", "/is/no/key"),
            ("WEIR__TAGS__FRESH_FOR", "3m"),
            ("weir__tags__stale_for", "1d"),
            ("WEIR__SERVER__LISTEN", "[\"127.0.0.1:0\", \"[::1]:0\"]"),
            ("WEIR__ADMIN__LISTEN", "127.0.0.1:0"),
            ("WEIR__SERVER__CONNECTIONS_MAX", "7"),
            ("WEIR__CACHE__DIRECTORY", "12345"),
            ("WEIR__ACCESS", "{ anonymous = true }"),
            ("WEIR__REGISTRIES__DOCKER_IO__QUOTA_RESERVE", "10"),
            (
                "WEIR__REGISTRIES__R_EXAMPLE_5000__CREDENTIALS__0__PASSWORD",
                "9876",
            ),
            (
                "WEIR__REGISTRIES__R_EXAMPLE_5000__CREDENTIALS__1__HELPER",
                "ecr-login",
            ),
            (
                "WEIR__REGISTRIES__R_EXAMPLE_5000__CREDENTIALS__1__FOR",
                "acme/",
            ),
            (
                "WEIR__REGISTRIES",
                "{ \"new.example\" = { default = true } }",
            ),
        ],
    );
    assert_eq!(config.tags.fresh_for, Duration::from_secs(180));
    assert_eq!(config.tags.stale_for, Duration::from_secs(86_400));
    assert_eq!(config.server.listen.len(), 2);
    assert_eq!(config.server.connections_max, 7);
    assert_eq!(config.cache.directory, PathBuf::from("12345"));
    assert_eq!(registry(&config, "docker.io").quota_reserve, 10);
    assert_eq!(
        config.default_registry().unwrap().name.as_str(),
        "new.example"
    );
    let [first, second] = &registry(&config, "r.example:5000").credentials[..] else {
        panic!("there are two entries");
    };
    use secrecy::ExposeSecret;
    let CredentialSource::Password { username, password } = &first.source else {
        panic!("the first has a password");
    };
    assert_eq!((username.as_str(), password.expose_secret()), ("a", "9876"));
    assert_eq!(second.prefix, "acme/");
}

#[test]
fn variables_that_are_no_key_are_named() {
    let variables = [
        ("WEIR__TAGS__FRESH_FRO", "1m"),
        ("WEIR__REGISTRIES__NEW_EXAMPLE__DEFAULT", "true"),
        ("WEIR__TAGS", "soon"),
    ];
    let failure = load_str("", &environment(&variables)).unwrap_err();
    let said = failure.to_string();
    assert!(
        said.contains(
            "WEIR__TAGS__FRESH_FRO: there is no such key; did you mean WEIR__TAGS__FRESH_FOR?"
        ),
        "{said}"
    );
    assert!(
        said.contains("WEIR__REGISTRIES__NEW_EXAMPLE__DEFAULT: there is no"),
        "{said}"
    );
    assert!(
        said.contains("WEIR__TAGS: tags: a table belongs here, not a string"),
        "{said}"
    );
}

#[test]
fn logins_that_travel_in_clear_are_warned_of() {
    let registry = "[registries.r]\nauth = \"client\"\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let tls = "[server.tls]\ncertificate = \"/dev/null\"\nkey = \"/dev/null\"\n";
    for (server, clear_at) in [
        ("listen = \"127.0.0.1:5000\"\n", None),
        ("listen = [\"unix:/run/weir.sock\"]\n", None),
        (
            "listen = [\"127.0.0.1:1\", \"0.0.0.0:2\"]\n",
            Some("0.0.0.0:2"),
        ),
    ] {
        let said = warnings(&format!("[server]\n{server}{registry}"));
        let expected = clear_at.map(|at| {
            format!("registries.r.auth: the logins of clients for r come to {at} unencrypted")
        });
        assert_eq!(said, Vec::from_iter(expected), "{server}");
        assert!(warnings(&format!("[server]\n{server}{tls}{registry}")).is_empty());
    }
    let plain = "[server]\nlisten = [\"0.0.0.0:1\", \"http://0.0.0.0:2\"]\n";
    let said = warnings(&format!("{plain}{tls}{registry}"));
    assert!(said[0].contains("http://0.0.0.0:2"), "{said:?}");
}

#[test]
fn what_is_dangerous_is_said() {
    let text = r#"
[server]
listen = "0.0.0.0:5000"
[admin]
listen = "0.0.0.0:5001"
[registries."r.example"]
endpoints = ["http://r.example", "http://127.0.0.1:5000", "http://localhost"]
insecure_skip_verify = true
credentials = [{ helper = "a" }, { helper = "b" }]
"#;
    assert_eq!(
        warnings(text),
        [
            "admin.listen: everybody who reaches 0.0.0.0:5001 may read what is cached and configured \
             (no secret is told), and only callers on this machine may change anything",
            "registries.\"r.example\".endpoints: credentials for r.example go to http://r.example \
             unencrypted",
            "registries.\"r.example\".insecure_skip_verify: the certificates of r.example are not \
             checked: anybody on the way can read the credentials and change the images",
            "registries.\"r.example\".credentials[1].for: this entry is never used: an earlier \
             one has the same prefix",
            "registries.\"r.example\".credentials: everybody who reaches 0.0.0.0:5000 may pull \
             from r.example what weir's credentials may pull",
        ]
    );
    let ruled = "[[access.rules]]\nnetworks = [\"10.0.0.1\"]\nallow = \"*\"\n\
                 [server]\nlisten = \"0.0.0.0:5000\"\n[registries.r]\ncredentials = [{ helper = \"a\" }]";
    assert!(warnings(ruled).is_empty());
    let closed = warnings("[access]\nanonymous = false");
    assert!(closed[0].contains("nobody can pull"), "{closed:?}");
}

#[test]
fn files_are_found_beside_the_config_file_and_watched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let text = "[registries.r]\ncredentials = [{ username = \"a\", password_file = \"secret\" }]";
    std::fs::write(&file, text).unwrap();
    let failure = load(Some(&file), std::iter::empty())
        .unwrap_err()
        .to_string();
    assert!(failure.contains("secret cannot be read"), "{failure}");
    std::fs::write(directory.path().join("secret"), "x").unwrap();
    let config = load(Some(&file), std::iter::empty()).unwrap();
    assert_eq!(
        config.files,
        [file.clone(), directory.path().join("secret")]
    );
    let named = vec![("WEIR_CONFIG".to_owned(), file.display().to_string())];
    assert_eq!(load(None, named.into_iter()).unwrap().file, Some(file));
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load(Some(&directory.path().join("no")), std::iter::empty());
    assert!(matches!(missing, Err(LoadError::Unreadable { .. })));
    let file = directory.path().join("weir.toml");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    let binary = load(Some(&file), std::iter::empty());
    assert!(matches!(binary, Err(LoadError::NotText { .. })));
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    let large = load(Some(&file), std::iter::empty());
    assert!(matches!(large, Err(LoadError::TooLarge { .. })));
}

#[test]
fn secrets_are_never_printed() {
    let text = "[upstream]\nproxy = \"http://ada:hunter2@proxy:3128\"\n[registries.r]\n\
                credentials = [{ username = \"a\", password = \"hunter2\" }]";
    assert!(!format!("{:?}", loaded(text, &[])).contains("hunter2"));
    let wrong = "[upstream]\nproxy = \"ftp://ada:hunter2@proxy:3128\"\n[registries.r]\n\
                 endpoints = [\"https://ada:hunter2@r\"]\n\
                 credentials = [{ password = \"hunter2\", helper = \"b\", username = 5 }]";
    let said = load_str(wrong, &[]).unwrap_err();
    assert!(!said.to_string().contains("hunter2"), "{said}");
    assert!(!format!("{said:?}").contains("hunter2"));
}

#[test]
fn patterns_mean_what_people_expect() {
    let text = r#"
[tags]
immutable = ["*:v[0-9]*"]
[registries."docker.io"]
allow = ["alpine", "acme/**", "one/*"]
deny = ["*"]
[[access.rules]]
anonymous = true
allow = ["index.docker.io/alpine", "*/public/**", "ghcr.io/*"]
"#;
    let config = loaded(text, &[]);
    let immutable = &config.tags.immutable[0];
    assert!(immutable.is_match("library/alpine:v1.2") && immutable.is_match("a/b/c:v3"));
    assert!(!immutable.is_match("library/alpine:latest"));
    let hub = registry(&config, "docker.io");
    assert!(hub.allow[0].is_match("library/alpine") && !hub.allow[0].is_match("alpine"));
    assert!(hub.allow[1].is_match("acme/a/b") && !hub.allow[1].is_match("acmee/a"));
    assert!(hub.allow[2].is_match("one/a") && !hub.allow[2].is_match("one/a/b"));
    assert!(hub.deny[0].is_match("library/alpine"));
    let allow = &config.access.rules[0].allow;
    assert!(allow[0].is_match("docker.io/library/alpine"));
    assert!(allow[1].is_match("quay.io/public/a/b") && !allow[1].is_match("quay.io/private/a"));
    assert!(allow[2].is_match("ghcr.io/a/b"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_text_makes_the_loader_panic(
        text: String,
        lines in prop::collection::vec(
            "(\\[{0,2}(server|tags|registries|access\\.rules|\\PC{0,8})\\]{0,2}|[a-z_]{1,10} ?= ?(\\PC{0,12}|\"\\PC{0,12}\"|\\[\\PC{0,8}\\]|\\{\\PC{0,8}\\}))",
            0..12,
        ),
        variable in "WEIR__[A-Z_0-9]{0,20}",
        value: String,
    ) {
        let _ = load_str(&text, &[(variable, value)]).map_err(|problems| problems.to_string());
        let _ = load_str(&lines.join("\n"), &[]).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_value_makes_a_key_panic(value in "\\PC{0,16}") {
        let quoted = toml::Value::String(value).to_string();
        let keys = [
            "server.listen", "server.tls.key", "server.trusted_proxies", "admin.listen",
            "cache.max_size", "cache.directory", "tags.fresh_for", "tags.immutable",
            "upstream.proxy", "registries.r.endpoints", "registries.r.hosts",
            "registries.\"docker.io\".allow", "registries.r.token_services",
            "registries.r.credentials.0", "registries.r.auth",
        ];
        for key in keys {
            let _ = load_str(&format!("{key} = {quoted}"), &[]).map_err(|p| p.to_string());
        }
        let entry = format!("[[registries.r.credentials]]\nfor = {quoted}\nhelper = {quoted}");
        let _ = load_str(&entry, &[]).map_err(|p| p.to_string());
        let rule = format!("[[access.rules]]\nallow = {quoted}\nnetworks = {quoted}");
        let _ = load_str(&rule, &[]).map_err(|p| p.to_string());
    }
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    let text = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(load_str(&text, &[]).is_err());
    assert!(
        load_str(
            "",
            &environment(&[("WEIR__TAGS__IMMUTABLE", &"[".repeat(100_000))])
        )
        .is_err()
    );
    let dotted = format!("{}x = 1", "a.".repeat(100_000));
    assert!(load_str(&dotted, &[]).is_err());
}

#[test]
fn each_knob_is_read_once() {
    let (_, outcome) = load::read_all("", &[], None);
    let mut keys: Vec<_> = outcome
        .knobs
        .iter()
        .map(|knob| knob.key.to_string())
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}
