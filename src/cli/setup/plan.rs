//! What there is to do on a client's machine, as text for a person or JSON for a program.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::print::Style;
use super::site::Site;

/// Columns of a note.
const WIDTH: usize = 96;

/// Everything to be done for one client.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// Commands to run when the files are in place.
    pub(super) then: Vec<String>,
    /// What one has to know, a paragraph each.
    pub(super) notes: Vec<String>,
}

/// A file on a client's machine.
pub(super) struct File {
    /// Absolute.
    pub(super) path: String,
    pub(super) content: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole file.
    Whole,
    /// To be put by hand into a file that is there already; says for which of them.
    Part(&'static str),
}

impl Plan {
    pub(super) fn whole(&mut self, path: impl Into<String>, content: impl Into<String>) {
        self.files.push(File {
            path: path.into(),
            content: content.into(),
            kind: Kind::Whole,
        });
    }

    pub(super) fn part(&mut self, path: &str, of: &'static str, content: &str) {
        self.files.push(File {
            path: path.to_owned(),
            content: content.to_owned(),
            kind: Kind::Part(of),
        });
    }

    pub(super) fn then(&mut self, command: impl Into<String>) {
        self.then.push(command.into());
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// `written`: which files were written, and where to.
    pub(super) fn text(&self, written: &[PathBuf], style: Style) -> String {
        let mut text = String::new();
        for file in &self.files {
            let title = match file.kind {
                Kind::Whole => file.path.clone(),
                Kind::Part(of) => format!("{} (add: {of})", file.path),
            };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}", style.strong(format_args!("# {title}")));
            text.push_str(&file.content);
            text.push('\n');
        }
        for path in written {
            let _ = writeln!(text, "# written: {}", path.display());
        }
        if !self.then.is_empty() {
            let _ = writeln!(text, "{}", style.strong("# then"));
        }
        for command in &self.then {
            let _ = writeln!(text, "#   {command}");
        }
        for note in &self.notes {
            text.push_str("#\n");
            for line in lines(note) {
                let _ = writeln!(text, "# {line}");
            }
        }
        text
    }

    pub(super) fn json(&self, site: &Site) -> Value {
        let registries = site
            .registries
            .iter()
            .map(|registry| registry.name.as_str());
        let files = self.files.iter().map(|file| {
            let (whole, part) = match file.kind {
                Kind::Whole => (true, None),
                Kind::Part(of) => (false, Some(of)),
            };
            json!({ "path": file.path, "content": file.content, "whole": whole, "part_of": part })
        });
        json!({
            "address": site.url(),
            "registries": registries.collect::<Vec<_>>(),
            "login": site.login,
            "files": files.collect::<Vec<_>>(),
            "then": self.then,
            "notes": self.notes,
        })
    }
}

/// A paragraph in lines of some width.
fn lines(paragraph: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
