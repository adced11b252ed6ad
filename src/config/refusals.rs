//! What the loader refuses, and what it says then: every problem at once, each with its key.

use super::tests::environment;
use super::*;

/// Each problem as `key: what`, in order.
fn problems_with(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let problems = load_str(text, &environment(variables)).expect_err("there are problems");
    let all = problems.problems.iter();
    all.map(|problem| format!("{}: {}", problem.key, problem.wrong))
        .collect()
}

fn problems(text: &str) -> Vec<String> {
    problems_with(text, &[])
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = r#"
[server]
listen = ["here", "127.0.0.1:1"]
[tags]
fresh_fro = "1m"
stale_for = "soon"
[registries."docker.io"]
endpoints = ["https://registry-1.docker.io", "ftp://x"]
[wrong]
"#;
    let variables = [("WEIR__TAGS__MISSING_FOR", "5"), ("WEIR__TAG__X", "1")];
    let failure = load_str(text, &environment(&variables)).unwrap_err();
    let said: Vec<_> = failure.problems.iter().map(Problem::to_string).collect();
    let expected = [
        "line 3: server.listen[0]: \"here\" is no address to listen on; ",
        "line 5: tags.fresh_fro: there is no such key; did you mean fresh_for?",
        "line 6: tags.stale_for: \"soon\" is no duration; write a number with ms, s, m, h or d",
        "line 8: registries.\"docker.io\".endpoints[1]: \"ftp://x\" is no URL for this: its scheme",
        "line 9: wrong: there is no such key; known here: access, admin, builtin_registries, ",
        "WEIR__TAGS__MISSING_FOR: tags.missing_for: \"5\" is no duration; ",
        "WEIR__TAG__X: there is no such key; did you mean WEIR__",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(
            said.starts_with(expected),
            "{said}\nshould begin with\n{expected}"
        );
    }
}

#[test]
fn mistakes_in_the_syntax_do_not_hide_the_other_problems() {
    let said = problems("[tags]\nfresh_for = \"1 moment\"\nstale_for = \n[cache]\nmax_size = 5\n");
    assert!(said.iter().any(|s| s.contains("is no TOML")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("1 moment")), "{said:?}");
    assert!(
        said.iter().any(|s| s.contains("cache.max_size")),
        "{said:?}"
    );
}

#[test]
fn each_value_that_cannot_be_is_refused() {
    for (text, expected) in [
        ("[server]\nlisten = []", "server.listen: it is empty"),
        (
            "[server]\nlisten = \":5000\"",
            "server.listen[0]: \":5000\" is no address",
        ),
        (
            "[server]\nlisten = \"5000\"",
            "server.listen[0]: \"5000\" is no address",
        ),
        (
            "[server]\nlisten = \"unix:x\"",
            "server.listen[0]: \"unix:x\" is no address",
        ),
        (
            "[server]\nlisten = 5000",
            "server.listen: a string or a list of strings belongs",
        ),
        (
            "[server]\nlisten = [5000]",
            "server.listen[0]: a string belongs here, not a number",
        ),
        (
            "[server]\nlisten = [\"[::]:1\", \"[::]:1\"]",
            "server.listen: [::]:1 is listened on twice",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:5000\"",
            "admin.listen: 127.0.0.1:5000 is listened",
        ),
        (
            "[admin]\nlisten = []",
            "admin.listen: a string belongs here, not a list",
        ),
        ("[server.tls]", "server.tls.certificate: it is missing"),
        ("server = 1", "server: a table belongs here, not a number"),
        (
            "[server]\nconnections_max = 0",
            "server.connections_max: 0 is out of range",
        ),
        (
            "[server]\nconnections_max = -1",
            "server.connections_max: -1 is out of range",
        ),
        (
            "[server]\nconnections_max = \"many\"",
            "server.connections_max: a whole number",
        ),
        (
            "[server]\nconnections_max = 99999999999999999999",
            "server.connections_max: a whole",
        ),
        (
            "[server]\ntrusted_proxies = [\"proxy\"]",
            "server.trusted_proxies[0]: \"proxy\" is no",
        ),
        (
            "[tags]\nfresh_for = 60",
            "tags.fresh_for: a duration such as",
        ),
        (
            "[tags]\nfresh_for = \"9999d\"",
            "tags.fresh_for: 9999d is out of range",
        ),
        (
            "[tags]\nimmutable = [\"v1\"]",
            "tags.immutable[0]: \"v1\" is no pattern: it has no tag",
        ),
        (
            "[tags]\nimmutable = [\"*:[\"]",
            "tags.immutable[0]: \"*:[\" is no pattern",
        ),
        (
            "[cache]\nmax_size = \"big\"",
            "cache.max_size: \"big\" is no size",
        ),
        (
            "[cache]\nmax_size = \"0\"",
            "cache.max_size: 0 is out of range",
        ),
        ("[cache]\ndirectory = \"\"", "cache.directory: it is empty"),
        (
            "[upstream]\nconnect_timeout = \"0s\"",
            "upstream.connect_timeout: 0s is out of range",
        ),
        (
            "[upstream]\nproxy = \"proxy:3128\"",
            "upstream.proxy: \"proxy:3128\" is no URL",
        ),
        (
            "[access]\nanonymous = \"yes\"",
            "access.anonymous: true or false belongs here",
        ),
        (
            "[[access.rules]]\nallow = \"*\"",
            "access.rules[0]: the rule allows nothing",
        ),
        (
            "[[access.rules]]\nanonymous = true",
            "access.rules[0].allow: it is missing",
        ),
        (
            "[[access.rules]]\nanonymous = true\nallow = \"ghcr.io\"",
            "access.rules[0].allow[0]: \"ghcr.io\" is no pattern: it names no repository",
        ),
        (
            "[access]\nhtpasswd = \"/no/such\"",
            "access.htpasswd: /no/such cannot be read: No such",
        ),
        (
            "[access]\nhtpasswd = \"/\"",
            "access.htpasswd: / is a directory",
        ),
        (
            "[access]\nrules = 1",
            "access.rules: a list of tables belongs here",
        ),
    ] {
        let said = problems(text);
        assert!(said[0].starts_with(expected), "{text}\n{said:?}");
    }
}

#[test]
fn each_value_of_a_registry_that_cannot_be_is_refused() {
    for (written, expected) in [
        ("endpoints = []", "endpoints: it is empty"),
        (
            "endpoints = [\"r.example\"]",
            "endpoints[0]: \"r.example\" is no URL for this: it has no",
        ),
        (
            "endpoints = [\"https://\"]",
            "endpoints[0]: \"https://\" is no URL",
        ),
        (
            "endpoints = [\"https://a/?b=c\"]",
            "endpoints[0]: \"https://a/?b=c\" is no URL",
        ),
        (
            "endpoints = [\"https://a/#b\"]",
            "endpoints[0]: \"https://a/#b\" is no URL",
        ),
        (
            "endpoints = [\"https://a/../b\"]",
            "endpoints[0]: \"https://a/../b\" is no URL",
        ),
        (
            "endpoints = [\"https://a/v2/\"]",
            "endpoints[0]: \"https://a/v2/\" is no URL for this: the",
        ),
        (
            "endpoints = [\"https://docker.io\"]",
            "endpoints[0]: \"https://docker.io\" is no URL",
        ),
        (
            "endpoints = [\"https://a:0\"]",
            "endpoints[0]: \"https://a:0\" is no URL",
        ),
        ("auth = \"both\"", "auth: \"both\" is none of the choices"),
        (
            "auth = \"client\"\ncredentials = [{ helper = \"b\" }]",
            "credentials: credentials means nothing beside auth = \"client\"",
        ),
        (
            "auth = \"client\"\nendpoints = [\"https://a\", \"http://a\"]",
            "endpoints: the logins of clients would go to http://a unencrypted",
        ),
        ("right_for = \"2d\"", "right_for: 2d is out of range"),
        (
            "right_held_for = \"8d\"",
            "right_held_for: 8d is out of range",
        ),
        (
            "hosts = [\"a:5000\"]",
            "hosts[0]: \"a:5000\" is no host name",
        ),
        (
            "hosts = [\"http://a\"]",
            "hosts[0]: \"http://a\" is no host name",
        ),
        (
            "client_key = \"/dev/null\"",
            "client_key: it needs client_certificate beside it",
        ),
        (
            "client_certificate = \"/dev/null\"",
            "client_certificate: it needs client_key",
        ),
        ("ca_file = \"/no/such\"", "ca_file: /no/such cannot be read"),
        ("allow = [\"\"]", "allow[0]: \"\" is no pattern"),
        ("deny = [\"/x\"]", "deny[0]: \"/x\" is no pattern"),
        (
            "quota_reserve = \"10\"",
            "quota_reserve: a whole number belongs here, not a string",
        ),
        (
            "credentials = [{}]",
            "credentials[0]: an entry has one source, and this one has none",
        ),
        (
            "credentials = [{ username = \"a\", password = \"b\", helper = \"c\" }]",
            "credentials[0]: an entry has one source, and this one has password and helper",
        ),
        (
            "credentials = [{ password = \"b\" }]",
            "credentials[0].username: it is missing",
        ),
        (
            "credentials = [{ username = \"a\", password = \"\" }]",
            "credentials[0].password: it is empty",
        ),
        (
            "credentials = [{ username = \"a\", password = 1234 }]",
            "credentials[0].password: a string belongs here, not a number",
        ),
        (
            "credentials = [{ username = \"a\", password_env = \"NOT_THERE\" }]",
            "credentials[0].password_env: the environment variable NOT_THERE is not set",
        ),
        (
            "credentials = [{ username = \"a\", helper = \"b\" }]",
            "credentials[0].username: username means nothing beside helper",
        ),
        (
            "credentials = [{ helper = \"docker-credential-b\" }]",
            "credentials[0].helper: \"docker-credential-b\" is no credential helper",
        ),
        (
            "credentials = [{ helper = \"../b\" }]",
            "credentials[0].helper: \"../b\" is no cred",
        ),
        (
            "credentials = [{ helper = \"b\", for = \"acme/*\" }]",
            "credentials[0].for: \"acme/*\" is no repository prefix",
        ),
        (
            "credentials = [{ helper = \"b\", for = \"quay.io/acme\" }]",
            "credentials[0].for: \"quay.io/acme\" is no repository prefix: it begins with another",
        ),
        (
            "credentials = [{ helper = \"b\", passwrod = \"c\" }]",
            "credentials[0].passwrod: there is no such key",
        ),
    ] {
        let said = problems(&format!("[registries.\"r.example\"]\n{written}"));
        let expected = format!("registries.\"r.example\".{expected}");
        assert!(said[0].starts_with(&expected), "{written}\n{said:?}");
    }
}

#[test]
fn registries_that_contradict_each_other_are_refused() {
    let same = "[registries.\"index.docker.io\"]\n[registries.\"docker.io\"]";
    let said = problems(same);
    assert!(
        said[0].contains("is the same registry, docker.io"),
        "{said:?}"
    );
    let defaults = "[registries.a]\ndefault = true\n[registries.b]\ndefault = true";
    assert_eq!(
        problems(defaults),
        ["registries.b.default: a is the default registry already"]
    );
    let hosts = "[registries.a]\nhosts = \"m.x\"\n[registries.b]\nhosts = \"M.x\"";
    assert_eq!(problems(hosts), ["registries.b.hosts: m.x means a already"]);
    let said = problems("[registries.\"a/b\"]");
    assert!(said[0].contains("\"a/b\" names no registry"), "{said:?}");
}
