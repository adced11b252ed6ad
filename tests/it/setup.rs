//! `weir setup` as a person meets it: what it prints where, what it writes, how it ends.

use std::process::Output;

use crate::support::House;

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn files_are_printed_under_their_names_and_written_where_one_says() {
    let house = House::empty();
    let root = house.cache_directory().with_file_name("root");
    let root = root.to_str().expect("temporary paths are text");
    let line = ["setup", "podman", "--address", "weir.test:5000"];
    let output = house.run(&[&line[..], &["--output", root]].concat()).await;
    let (code, out, err) = said(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let path = "/etc/containers/registries.conf.d/50-weir.conf";
    let (head, content) = out.split_once('\n').expect("lines");
    assert_eq!(head, format!("# {path}"));
    let file = format!("{root}{path}");
    let written = std::fs::read_to_string(&file).expect("it was written");
    assert!(content.starts_with(&written), "{out}");
    assert!(out.contains(&format!("# written: {file}")), "{out}");
    // The whole of it is still a file that podman could read.
    let table: toml::Table = out.parse().expect("it is TOML");
    let registries = table["registry"].as_array().expect("a list");
    assert_eq!(registries.len(), 9, "every built-in registry");

    let other = ["--output", root, "--registry", "ghcr.io"];
    let output = house.run(&[&line[..], &other].concat()).await;
    let (code, out, err) = said(&output);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("--force") && err.lines().count() == 1, "{err}");
    let output = house.run(&[&line[..], &other, &["--force"]].concat()).await;
    assert_eq!(output.status.code(), Some(0));
    let after = std::fs::read_to_string(&file).expect("it is there");
    assert!(after.len() < written.len());
}

#[tokio::test]
async fn a_program_gets_json() {
    let line = ["setup", "k3s", "--address", "weir.test:5000", "--json"];
    let (code, out, _) = said(&House::empty().run(&line).await);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(json["address"], "http://weir.test:5000");
    assert_eq!(json["registries"].as_array().map(Vec::len), Some(9));
    assert_eq!(json["files"][0]["path"], "/etc/rancher/k3s/registries.yaml");
    assert_eq!(json["files"][0]["whole"], true);
    assert_eq!(json["login"], false);
}

#[tokio::test]
async fn wrong_usage_of_setup_ends_with_2() {
    let house = House::empty();
    for line in [
        &["setup"][..],
        &["setup", "rkt"],
        // Listens on a port that is not known yet.
        &["setup", "docker"],
        &["setup", "docker", "--address", "0.0.0.0:5000"],
        &[
            "setup",
            "docker",
            "--address",
            "weir:1",
            "--registry",
            "no.test",
        ],
        &["setup", "docker", "--address", "weir:1", "--ca", "/ca.crt"],
    ] {
        let (code, out, err) = said(&house.run(line).await);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{line:?}");
        assert!(!err.is_empty(), "{line:?}");
    }
    let (_, completions, _) = said(&house.run(&["completions", "bash"]).await);
    assert!(completions.contains("containerd podman crio"), "no clients");
}

#[tokio::test]
async fn the_readme_shows_what_is_printed() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let house = House::empty();
    let mut count = 0;
    for block in readme.split("```console\n$ weir setup ").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        let (line, shown) = block.split_once('\n').expect("lines");
        let arguments: Vec<_> = ["setup"].into_iter().chain(line.split(' ')).collect();
        let (_, out, err) = said(&house.run(&arguments).await);
        match shown.strip_suffix("…\n") {
            Some(beginning) => assert!(out.starts_with(beginning), "{line}: {err}{out}"),
            None => assert_eq!(out, shown, "{line}"),
        }
        count += 1;
    }
    assert!(count >= 3, "{count}");
}
