//! The house as it is built, compared with its map in `src/lib.rs`.
//!
//! A room mentions only rooms of lower lines; every file says what it is for, stays small, and is
//! safe Rust where the map names no exception.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FILE_LINES_MAX: usize = 500;

#[test]
fn the_house_is_built_as_the_map_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_folder(&root, &root, &mut files);
    assert!(files.len() > 10, "src/ was not found");
    let map = fs::read_to_string(root.join("lib.rs")).expect("the map");
    let broken = violations(&map, &files);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[derive(Debug)]
struct File {
    /// Relative to `src`, with slashes.
    path: String,
    text: String,
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("inside src");
            files.push(File {
                path: relative.to_string_lossy().replace('\\', "/"),
                text: fs::read_to_string(&path).expect("a source file is text"),
            });
        }
    }
}

/// Every rule that a file breaks, one line each.
fn violations(map: &str, files: &[File]) -> Vec<String> {
    let lines = lines_of_rooms(map);
    let mut broken = Vec::new();
    if lines.is_empty() {
        broken.push("lib.rs: the table of rooms is not there".to_owned());
    }
    for file in files {
        let mut report = |what: String| broken.push(format!("{}: {what}", file.path));
        if !file.text.starts_with("//! ") {
            report("does not begin with //!".to_owned());
        }
        let length = file.text.lines().count();
        if length > FILE_LINES_MAX {
            report(format!(
                "has {length} lines; a bigger file is a missing room"
            ));
        }
        let code = without_comments_and_strings(&file.text);
        let words = words(&code);
        if words.contains(&"unsafe") && !unsafe_is_allowed(map, &file.path) {
            report("has unsafe, and the map does not name it".to_owned());
        }
        if file.path == "lib.rs" {
            continue;
        }
        let room = room_of(&file.path);
        let Some(own) = lines.get(room) else {
            report(format!("the room {room} is not in the table"));
            continue;
        };
        for mentioned in mentions(&words, depth_of(&file.path), &lines) {
            match lines.get(mentioned) {
                _ if mentioned == room => {}
                Some(line) if line < own => {}
                // The binary is a crate of its own, on top of everything.
                Some(_) if room == "main" => {}
                Some(line) => report(format!(
                    "{room} (line {own}) mentions {mentioned} (line {line})"
                )),
                None => report(format!("mentions {mentioned}, which is no room")),
            }
        }
    }
    broken
}

/// Reads the table `//! 6: main cli` of the map: the line of each room.
fn lines_of_rooms(map: &str) -> BTreeMap<&str, u32> {
    let rows = map.lines().filter_map(|line| {
        let (number, rooms) = line.strip_prefix("//! ")?.split_once(": ")?;
        Some((number.parse::<u32>().ok()?, rooms))
    });
    rows.flat_map(|(line, rooms)| rooms.split_whitespace().map(move |room| (room, line)))
        .collect()
}

fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// How many `super::` lead from this file to the root of the crate.
fn depth_of(path: &str) -> usize {
    let folders = path.matches('/').count();
    if path.ends_with("/mod.rs") {
        folders
    } else {
        folders + 1
    }
}

/// The files that the map's sentence about `unsafe` names.
fn unsafe_is_allowed(map: &str, path: &str) -> bool {
    let sentence = map.split("//! - ").find(|item| item.contains("`unsafe`"));
    sentence.is_some_and(|sentence| sentence.contains(&format!("`{path}`")))
}

/// First parts of all paths that begin at the crate: `crate::a`, `crate::{a, b::{c}}`, `weir::a` of
/// the binary, and `super::super::a` as far as it leads there.
fn mentions<'a>(words: &[&'a str], depth: usize, rooms: &BTreeMap<&str, u32>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let behind = at.checked_sub(1).map(|before| words[before]);
        if matches!(*word, "crate" | "weir") && behind != Some("::") {
            match words.get(at + 1..) {
                Some(["::", "{", rest @ ..]) => found.extend(group(rest)),
                Some(["::", name, ..]) => found.push(name),
                Some(_) | None => {}
            }
        }
        if *word == "super" && behind != Some("::") {
            let pairs = words[at..].chunks_exact(2);
            let supers = pairs.take_while(|pair| *pair == ["super", "::"]).count();
            let name = words.get(at + 2 * supers);
            found.extend(name.filter(|name| supers >= depth && rooms.contains_key(**name)));
        }
    }
    found
}

/// The first parts in a group that has just been opened.
fn group<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut open = 1;
    let mut before = ",";
    for word in words {
        match *word {
            "{" => open += 1,
            "}" => open -= 1,
            name if open == 1 && before == "," => found.push(name),
            _ => {}
        }
        if open == 0 {
            break;
        }
        before = word;
    }
    found
}

/// Identifiers, `::`, and every other character by itself.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let identifier = |c: char| c.is_alphanumeric() || c == '_';
        let length = if identifier(first) {
            rest.find(|c| !identifier(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

/// What the compiler reads: a mention in a sentence or a message is no arrow.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else {
            0
        };
        let taken = if skipped == 0 {
            code.push(first);
            first.len_utf8()
        } else {
            code.push(' ');
            skipped
        };
        rest = &rest[taken..];
    }
    code
}

/// Length of the string literal at the beginning.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string literal at the beginning, where there is one.
fn raw_string(text: &str) -> Option<usize> {
    let hashes_and_rest = text.strip_prefix('r')?;
    let rest = hashes_and_rest.trim_start_matches('#');
    let hashes = hashes_and_rest.len() - rest.len();
    let content = rest.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = 2 + hashes;
    Some(opening + content.find(&end)? + end.len())
}

const MAP: &str = "//! The map.\n\
    //!\n\
    //! 3: main cli\n\
    //! 2: pull\n\
    //! 1: store upstream\n\
    //! 0: oci\n\
    //!\n\
    //! - There is no `unsafe` but in `store/map.rs`.\n";

/// What is broken in a house with this one file.
fn broken_in(path: &str, code: &str) -> Vec<String> {
    let file = File {
        path: path.to_owned(),
        text: format!("//! What it is for.\n{code}"),
    };
    violations(MAP, &[file])
}

#[test]
fn arrows_downwards_are_fine() {
    for (path, code) in [
        (
            "pull/mod.rs",
            "use crate::{oci::{Digest, Name}, store, upstream::Upstream};",
        ),
        ("pull.rs", "fn f() { crate::store::open() }"),
        (
            "store/disk.rs",
            "use crate::store::Blob; use super::Error; mod tests { use super::*; }",
        ),
        (
            "store/disk.rs",
            "// crate::pull is above\nconst A: &str = \"crate::pull\";",
        ),
        (
            "store/disk.rs",
            "const A: &str = r#\"say \"crate::pull\" \"#; const B: char = '\"';",
        ),
        ("store/map.rs", "unsafe fn map() {}"),
        ("pull.rs", "use std::{store::x};"),
        ("main.rs", "fn main() { weir::cli::run() }"),
    ] {
        assert_eq!(broken_in(path, code), [""; 0], "{path}: {code}");
    }
}

#[test]
fn arrows_upwards_and_sidewards_are_found() {
    for (path, code) in [
        ("store/disk.rs", "use crate::pull::Pull;"),
        ("store/disk.rs", "use crate::upstream;"),
        (
            "store/disk.rs",
            "use crate::{oci, upstream::{Remote, Error}};",
        ),
        ("store/disk.rs", "use crate::{oci::{Digest, Name}, pull};"),
        ("store/disk.rs", "fn f() -> Result<crate :: pull::Error> {}"),
        (
            "store/disk.rs",
            "const Q: char = '\"'; fn f() { crate::pull::go() }",
        ),
        ("store/disk.rs", "use super::super::pull::Pull;"),
        ("store.rs", "use super::pull::Pull;"),
        ("oci/digest.rs", "use crate::store;"),
        ("oci.rs", "use weir::store;"),
        ("store.rs", "use crate::helpers::x;"),
        ("cli/serve.rs", "use crate::main;"),
        ("attic.rs", "fn f() {}"),
        ("store/disk.rs", "fn f() { unsafe { g() } }"),
        ("store.rs", &"\n".repeat(FILE_LINES_MAX)),
    ] {
        assert_eq!(broken_in(path, code).len(), 1, "{path}: {code}");
    }
}

#[test]
fn a_file_without_its_purpose_is_found() {
    let file = File {
        path: "oci/digest.rs".to_owned(),
        text: "use std::fmt;\n".to_owned(),
    };
    assert_eq!(violations(MAP, &[file]).len(), 1);
    assert!(!violations("//! No table.\n", &[]).is_empty());
}
