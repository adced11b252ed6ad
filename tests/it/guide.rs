//! The guide and the README compared with the program: configurations load, commands, calls, codes,
//! messages and tests are there.
//!
//! What is enumerated is read from the place in the code where it is written, as nothing else has all
//! of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use weir::config::{Wrong, load_str};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn reference() -> String {
    read("src/guide/reference.md")
}

/// The fenced blocks of one language, with the indentation of a list taken away.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open, fence) {
            (None, Some(found)) if found.trim() == language => {
                Some((line.len() - line.trim_start().len(), String::new()))
            }
            (None, Some(found)) if !found.trim().is_empty() => Some((usize::MAX, String::new())),
            (Some((indent, block)), Some("")) => {
                if indent != usize::MAX {
                    blocks.push(block);
                }
                None
            }
            (Some((indent, block)), _) => Some((
                indent,
                block + line.get(indent..).unwrap_or_default() + "\n",
            )),
            (None, _) => None,
        };
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

/// Whether a block of TOML is for a client, and not for weir.
fn is_of_a_client(block: &str) -> bool {
    let of_clients = ["host", "plugins", "registry"];
    let table: toml::Table = block.parse().expect("TOML");
    table.keys().any(|key| of_clients.contains(&key.as_str()))
}

#[test]
fn every_configuration_in_the_guide_and_the_readme_loads() {
    for (page, least) in [
        ("README.md", 1),
        ("src/guide/tutorial.md", 3),
        ("src/guide/how_to.md", 15),
    ] {
        let blocks = blocks(&read(page), "toml");
        let own = blocks.iter().filter(|block| !is_of_a_client(block));
        let mut count = 0;
        for block in own {
            count += 1;
            let problems = load_str(block, &[]).err().map(|all| all.problems);
            for problem in problems.unwrap_or_default() {
                // The files and variables are those of the reader's machine.
                let of_this_machine = matches!(
                    problem.wrong,
                    Wrong::File { .. } | Wrong::VariableUnset { .. }
                );
                assert!(of_this_machine, "{page}: {problem}\n{block}");
            }
        }
        assert!(count >= least, "{page}: {count} configurations");
    }
}

/// What the tutorial shows of one command.
fn shown(page: &str, command: &str, beginning: &str) -> String {
    let start = format!("$ {command}\n{beginning}");
    let blocks = blocks(page, "console");
    let block = blocks.iter().find(|block| block.starts_with(&start));
    let block = block.unwrap_or_else(|| panic!("the tutorial has no {start:?}"));
    block.split_once('\n').expect("an output").1.to_owned()
}

#[test]
fn the_tutorial_shows_what_weir_prints() {
    let page = read("src/guide/tutorial.md");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("weir.toml");
    let printed = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .current_dir(directory.path())
            .env_clear()
            .output()
            .expect("weir runs");
        String::from_utf8(output.stdout).expect("text") + &String::from_utf8_lossy(&output.stderr)
    };
    let config = &blocks(&page, "toml")[0];
    std::fs::write(&file, config).expect("a file");
    assert_eq!(printed(&["check"]), shown(&page, "weir check", "file"));
    let resolve = ["resolve", "alpine:3.20"];
    assert_eq!(
        printed(&resolve),
        shown(&page, "weir resolve alpine:3.20", "alpine")
    );
    let wrong = config.replace("max_size = \"20GiB\"", "max_sise = \"20 gigs\"");
    std::fs::write(&file, wrong).expect("a file");
    assert_eq!(printed(&["check"]), shown(&page, "weir check", "1 problem"));
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .arg("--help")
        .output()
        .expect("weir runs");
    String::from_utf8(output.stdout).expect("text")
}

/// Every `--long-option` in a text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
    let long = words.filter(|word| word.starts_with("--") && word.len() > 3);
    long.map(str::to_owned).collect()
}

/// The part of a page under this heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().expect("a heading has a level");
    let (_, rest) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let ends =
        (1..=level.len()).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

#[test]
fn the_reference_has_every_command_with_its_options() {
    let page = reference();
    let common = section(&page, "## Command line");
    let common = options(common.split("\n### ").next().expect("a beginning"));
    let whole = help(&[]);
    assert_eq!(
        options(whole.split("Options:").nth(1).expect("options")),
        common
    );
    let commands = whole.split("Commands:\n").nth(1).expect("commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    // A line that goes on is indented deeper.
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !matches!(*name, "" | "help")).collect();
    assert!(names.contains(&"serve"), "{names:?}");
    for name in names {
        let written = options(section(&page, &format!("### weir {name}")));
        let all = options(help(&[name]).split("Options:").nth(1).expect("options"));
        let own: BTreeSet<_> = all.difference(&common).cloned().collect();
        assert_eq!(written, own, "weir {name}");
    }
}

#[test]
fn the_reference_has_every_call_of_the_admin_api() {
    let code = read("src/admin/mod.rs");
    let (router, rest) = code
        .split_once("        Router::new()\n            .route(\"/\"")
        .expect("the outer routes");
    let calls = |code: &str, prefix: &str| {
        let routes = code.split(".route(\"").skip(1).map(|route| {
            let (path, handler) = route.split_once("\", ").expect("a path and a handler");
            let method = if handler.starts_with("post(") {
                "POST"
            } else {
                "GET"
            };
            format!("{method} {prefix}{path}")
        });
        routes.collect::<BTreeSet<_>>()
    };
    let mut served = calls(router, "/api/v1");
    served.extend(calls(&format!(".route(\"/\"{rest}"), ""));
    assert!(served.len() > 15, "{served:?}");
    let page = reference();
    let rows = section(&page, "## Admin API").lines().filter_map(|row| {
        let call = row.strip_prefix("| `")?.split('`').next()?;
        let call = call.split('?').next()?;
        (call.starts_with("GET") || call.starts_with("POST")).then(|| call.to_owned())
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), served);
}

/// What is written of the code that runs.
fn code(path: &str) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]").next().expect("a beginning");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_has_every_code_that_a_client_can_get() {
    let names = code("src/oci/error.rs");
    let names: Vec<_> = names
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("ErrorCode::")?
                .split_once(" => \"")
        })
        .map(|(variant, code)| (variant, code.trim_end_matches("\",")))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let files = std::fs::read_dir(server).expect("the room");
    let files = files.map(|file| file.expect("a file").file_name().into_string());
    let used: String = files
        .filter_map(|name| name.ok().filter(|name| name.ends_with(".rs")))
        .map(|name| code(&format!("src/server/{name}")))
        .collect();
    let page = reference();
    let table = section(&page, "## Errors that clients see");
    let used: Vec<_> = names
        .iter()
        .filter(|(variant, _)| used.contains(&format!("ErrorCode::{variant}")))
        .map(|(_, code)| *code)
        .collect();
    assert!(used.contains(&"TOOMANYREQUESTS"), "{used:?}");
    for code in &used {
        assert!(
            table.contains(&format!("| `{code}` |")),
            "{code} is not told"
        );
    }
    for (_, code) in names.iter().filter(|(_, code)| !used.contains(code)) {
        assert!(
            !table.contains(&format!("| `{code}` |")),
            "nobody gets {code}"
        );
    }
}

/// The texts between quotes.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some((_, opened)) = rest.split_once('"') {
        let mut text = String::new();
        let mut characters = opened.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => match characters.next() {
                    Some((_, '\n')) => text.push('\n'),
                    Some((_, other)) => text.push(other),
                    None => break opened.len(),
                },
                Some((at, '"')) => break at + 1,
                Some((_, other)) => text.push(other),
                None => break opened.len(),
            }
        };
        // A line that is broken in the code goes on behind its indentation.
        let lines = text.split('\n').enumerate();
        let joined = lines.map(|(at, line)| if at == 0 { line } else { line.trim_start() });
        found.push(joined.collect());
        rest = &opened[end..];
    }
    found
}

/// What stays the same of the first sentence of a message: the longest piece between placeholders.
fn fixed_part(message: &str) -> Option<String> {
    let first = message.split(';').next()?;
    let pieces = first.split(['{', '}', '(', ')', ',', ':']);
    // Every second piece would be a placeholder's name, which has no spaces.
    let words = pieces.map(str::trim).filter(|piece| piece.contains(' '));
    words.max_by_key(|piece| piece.len()).map(str::to_owned)
}

#[test]
fn the_reference_has_every_way_in_which_an_upstream_fails() {
    let code = code("src/upstream/wording.rs");
    let messages: BTreeSet<_> = literals(&code)
        .iter()
        .filter_map(|text| fixed_part(text))
        .collect();
    assert!(messages.contains("does not resolve"), "{messages:?}");
    assert!(messages.len() > 25, "{messages:?}");
    let page = reference();
    // Parts of other messages.
    let parts = [
        "in the middle of the content",
        "in the TLS handshake",
        "it said",
        "nothing of it is kept",
        "try again in",
        "while connecting",
        "while waiting for the answer",
    ];
    let table = section(&page, "## Errors at upstreams");
    let told =
        |message: &String| parts.contains(&message.as_str()) || table.contains(message.as_str());
    let missing: Vec<_> = messages.iter().filter(|message| !told(message)).collect();
    assert!(missing.is_empty(), "not in the table: {missing:#?}");
}

#[test]
fn the_tests_that_are_named_for_promises_are_there() {
    let page = read("src/guide/explanation.md");
    let names = section(&page, "## Promises").split('`').skip(1).step_by(2);
    let names: Vec<_> = names.filter_map(|name| name.strip_prefix("it::")).collect();
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let (module, test) = name.split_once("::").expect("a module and a test");
        let file = read(&format!("tests/it/{module}.rs"));
        assert!(
            file.contains(&format!("fn {test}()")),
            "there is no test {name}"
        );
    }
}

/// What a git host makes of the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
            _ => None,
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_pages_and_headings_that_are_there() {
    for page in [
        "README.md",
        "src/guide/tutorial.md",
        "src/guide/how_to.md",
        "src/guide/reference.md",
        "src/guide/explanation.md",
    ] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(&page).expect("a page");
        let targets = text.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split(')').next());
        let mut count = 0;
        for target in targets.filter(|target| !target.contains("://")) {
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{}: {target}", page.display());
            if !anchor.is_empty() {
                let there = std::fs::read_to_string(&file).expect("a page");
                let found = anchors(&there).contains(anchor);
                assert!(found, "{}: no heading for {target}", page.display());
            }
        }
        assert!(count > 0, "{} leads nowhere", page.display());
    }
}
