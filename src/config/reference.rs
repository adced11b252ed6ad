//! `config/reference.toml` against the code, in both directions, and the ready examples.
//!
//! The keys of the code are those that the sections asked for while they read the reference.

use std::collections::BTreeSet;
use std::path::Path;

use super::document::{self, Node, Table, Value};
use super::key::KeyPath;
use super::load::read_all;
use super::{Wrong, load};

const REFERENCE: &str = include_str!("../../config/reference.toml");

/// The reference with its examples switched on.
fn with_examples() -> String {
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Every key of a document, tables included.
fn keys_of(table: &Table, path: &KeyPath, keys: &mut BTreeSet<String>) {
    for (key, node) in table {
        let path = path.key(key);
        keys.insert(normal(&path));
        keys_below(node, &path, keys);
    }
}

fn keys_below(node: &Node, path: &KeyPath, keys: &mut BTreeSet<String>) {
    match &node.value {
        Value::Table(table) => keys_of(table, path, keys),
        Value::Array(nodes) => {
            for (at, node) in nodes.iter().enumerate() {
                keys_below(node, &path.index(at), keys);
            }
        }
        Value::Text(_) | Value::Integer(_) | Value::Boolean(_) | Value::Other(_) => {}
    }
}

/// A key as the reference knows it: any registry, any entry of a list.
fn normal(path: &KeyPath) -> String {
    let mut text = String::new();
    let mut rest = path.to_string();
    if let Some(behind) = rest.strip_prefix("registries.\"")
        && let Some((_, behind)) = behind.split_once('"')
    {
        text.push_str("registries.*");
        rest = behind.to_owned();
    }
    for part in rest.split_inclusive('[') {
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

fn keys_written(text: &str) -> BTreeSet<String> {
    let (table, problems) = document::parse(text);
    assert_eq!(problems, []);
    let mut keys = BTreeSet::new();
    keys_of(&table, &KeyPath::default(), &mut keys);
    keys
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let text = with_examples();
    let (_, outcome) = read_all(&text, &[], None);
    for problem in &outcome.problems {
        let of_this_machine = matches!(
            problem.wrong,
            Wrong::File { .. } | Wrong::VariableUnset { .. }
        );
        assert!(of_this_machine, "{problem}");
    }
    let known: BTreeSet<_> = outcome.knobs.iter().map(|knob| normal(&knob.key)).collect();
    let written = keys_written(&text);
    let missing: Vec<_> = known.difference(&written).collect();
    assert!(missing.is_empty(), "not in the reference: {missing:?}");
    let unknown: Vec<_> = written.difference(&known).collect();
    assert!(unknown.is_empty(), "not in the code: {unknown:?}");
}

#[test]
fn the_reference_shows_the_defaults() {
    let (_, outcome) = read_all(REFERENCE, &[], None);
    let written = keys_written(REFERENCE);
    for knob in &outcome.knobs {
        let key = knob.key.to_string();
        assert_eq!(knob.value, knob.default, "{key}");
        let elsewhere = key.starts_with("registries.") && !key.contains("\"docker.io\"");
        if knob.default.is_some() && !elsewhere {
            let shown = written.contains(&normal(&knob.key));
            assert!(
                shown,
                "{key} has a default that the reference does not show"
            );
        }
    }
    let tables = [
        "server",
        "admin",
        "cache",
        "tags",
        "upstream",
        "credentials",
        "access",
    ];
    let tables: Vec<_> = tables.into_iter().map(String::from).collect();
    for key in written {
        let table = tables.contains(&key) || key == "registries" || key == "registries.*";
        let with_default =
            |knob: &&super::crossing::Knob| normal(&knob.key) == key && knob.default.is_some();
        let has_default = outcome.knobs.iter().find(with_default).is_some();
        assert!(
            table || has_default,
            "{key} has no default and is not an example"
        );
    }
}

/// Loads an example as if the files that it names were there.
fn load_example(name: &str) -> super::Config {
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    let directory = tempfile::tempdir().unwrap();
    let mut text = std::fs::read_to_string(example).unwrap();
    for place in ["/run/secrets", "/etc/weir"] {
        let here = format!("{}{place}", directory.path().display());
        text = text.replace(place, &here);
    }
    let inside = directory.path().display().to_string();
    for path in text.split('"').filter(|path| path.starts_with(&inside)) {
        std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, "secret").unwrap();
    }
    let file = directory.path().join(name);
    std::fs::write(&file, text).unwrap();
    load(Some(&file), std::iter::empty()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_example_loads_without_a_warning() {
    for name in [
        "docker-hub-mirror.toml",
        "kubernetes.toml",
        "private-registries.toml",
    ] {
        let config = load_example(name);
        assert_eq!(config.warnings, [], "{name}");
        assert!(config.default_registry().is_some(), "{name}");
    }
    let all = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap();
    assert_eq!(all.count(), 4, "an example that no test reads");
}
