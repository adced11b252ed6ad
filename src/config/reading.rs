//! Reading single keys: one method for each kind of value.
//!
//! A value that is wrong is reported and its default goes on in its place, so that the rest of the
//! file is still checked.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::crossing::Section;
use super::document::{Node, Value};
use super::problem::{Place, Wrong};
use super::units::{duration_text, parse_duration, parse_size, size_text};

impl Section<'_> {
    pub(super) fn boolean(&self, key: &str, default: bool) -> bool {
        self.boolean_if_written(key, default).unwrap_or(default)
    }

    /// `default` is only what the reference says.
    pub(super) fn boolean_if_written(&self, key: &str, default: bool) -> Option<bool> {
        let found = self.read(key, |node| match node.value {
            Value::Boolean(value) => Ok(value),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Array(_)
            | Value::Table(_)
            | Value::Other(_) => Err(kind("true or false", node)),
        });
        let value = found.unwrap_or(default);
        self.note(key, Some(default.to_string()), Some(value.to_string()));
        found
    }

    pub(super) fn count(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let value = self.read(key, |node| {
            let Value::Integer(number) = node.value else {
                return Err(kind("a whole number", node));
            };
            let value = u64::try_from(number).ok().filter(|n| range.contains(n));
            value.ok_or_else(|| Wrong::Range {
                text: number.to_string(),
                least: range.start().to_string(),
                most: range.end().to_string(),
            })
        });
        let value = value.unwrap_or(default);
        self.note(key, Some(default.to_string()), Some(value.to_string()));
        value
    }

    pub(super) fn duration(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let value = self.duration_of(key, range).unwrap_or(default);
        let quoted = |duration| Some(quoted(&duration_text(duration)));
        self.note(key, quoted(default), quoted(value));
        value
    }

    pub(super) fn duration_if_written(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = self.duration_of(key, range);
        self.note(key, None, value.map(|value| quoted(&duration_text(value))));
        value
    }

    fn duration_of(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.read(key, |node| {
            let expected = "a duration such as \"30s\"";
            let text = node.text().ok_or_else(|| kind(expected, node))?;
            let value =
                parse_duration(text).ok_or_else(|| Wrong::Duration { text: text.into() })?;
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(Wrong::Range {
                    text: text.to_owned(),
                    least: duration_text(*range.start()),
                    most: duration_text(*range.end()),
                })
            }
        })
    }

    pub(super) fn size(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let value = self.read(key, |node| {
            let expected = "a size such as \"50GiB\"";
            let text = node.text().ok_or_else(|| kind(expected, node))?;
            let value = parse_size(text).ok_or_else(|| Wrong::Size { text: text.into() })?;
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(Wrong::Range {
                    text: text.to_owned(),
                    least: size_text(*range.start()),
                    most: size_text(*range.end()),
                })
            }
        });
        let value = value.unwrap_or(default);
        let quoted = |bytes| Some(quoted(&size_text(bytes)));
        self.note(key, quoted(default), quoted(value));
        value
    }

    pub(super) fn text(&self, key: &str, example: &'static str) -> Option<String> {
        self.parsed(key, example, |text| Ok(text.to_owned()))
    }

    /// One of a few words; the first is the default.
    pub(super) fn choice(&self, key: &str, choices: &'static [&'static str]) -> &'static str {
        let chosen = self.read(key, |node| {
            let text = node.text().ok_or_else(|| kind("a string", node))?;
            let known = choices.iter().find(|choice| **choice == text);
            known.copied().ok_or_else(|| Wrong::Choice {
                text: text.into(),
                choices,
            })
        });
        let chosen = chosen.unwrap_or(choices[0]);
        self.note(key, Some(quoted(choices[0])), Some(quoted(chosen)));
        chosen
    }

    /// A text that is never noted, so that it can appear nowhere.
    pub(super) fn secret(&self, key: &str) -> Option<String> {
        self.note(key, None, None);
        self.read(key, |node| match node.text() {
            None => Err(kind("a string", node)),
            Some("") => Err(Wrong::Empty {
                example: "password_file = \"/run/secrets/registry\"",
            }),
            Some(text) => Ok(text.to_owned()),
        })
    }

    /// A text that means something.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.note(key, None, None);
        self.read(key, |node| match node.text() {
            None => Err(kind("a string", node)),
            Some("") => Err(Wrong::Empty { example }),
            Some(text) => parse(text),
        })
    }

    /// A text that means something, with a default that does.
    pub(super) fn parsed_or<T>(
        &self,
        key: &str,
        default: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> T {
        let value = self.read(key, |node| {
            let text = node.text().ok_or_else(|| kind("a string", node))?;
            Ok((parse(text)?, quoted(text)))
        });
        let (value, text) = value.unwrap_or_else(|| {
            let value = parse(default).expect("each default can be read");
            (value, quoted(default))
        });
        self.note(key, Some(quoted(default)), Some(text));
        value
    }

    /// A path that need not exist.
    pub(super) fn path(&self, key: &str, example: &'static str) -> Option<PathBuf> {
        let place = self.place_of(key);
        self.parsed(key, example, |text| Ok(self.crossing.resolve(text, &place)))
    }

    /// A file that is there and can be read. A reload watches it.
    pub(super) fn file(&self, key: &str, example: &'static str) -> Option<PathBuf> {
        let path = self.path(key, example)?;
        self.crossing.note_file(path.clone());
        if let Some(why) = unreadable(&path) {
            let wrong = Wrong::File {
                path: path.clone(),
                why,
            };
            self.report(key, wrong);
        }
        Some(path)
    }

    /// A list of texts, or one text.
    pub(super) fn list<T>(
        &self,
        key: &str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let written = self.read(key, |node| match (&node.value, node.text()) {
            (Value::Array(elements), _) => Ok(elements.clone()),
            (_, Some(_)) => Ok(vec![node.clone()]),
            (_, None) => Err(kind("a string or a list of strings", node)),
        });
        let default_nodes = || default.iter().map(|text| default_node(text)).collect();
        let elements: Vec<Node> = written.unwrap_or_else(default_nodes);
        let texts = elements.iter().filter_map(Node::text);
        let value = list_text(texts);
        self.note(key, Some(list_text(default.iter().copied())), Some(value));
        let path = self.path.key(key);
        let mut values = Vec::with_capacity(elements.len());
        for (at, element) in elements.iter().enumerate() {
            let parsed = match element.text() {
                None => Err(kind("a string", element)),
                Some(text) => parse(text),
            };
            match parsed {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    let place = element.place.clone();
                    self.crossing.report(&path.index(at), place, wrong);
                }
            }
        }
        values
    }

    fn read<T>(&self, key: &str, parse: impl FnOnce(&Node) -> Result<T, Wrong>) -> Option<T> {
        let node = self.take(key)?;
        match parse(&node) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.crossing.report(&self.path.key(key), node.place, wrong);
                None
            }
        }
    }
}

fn kind(expected: &'static str, node: &Node) -> Wrong {
    Wrong::Kind {
        expected,
        found: node.kind(),
    }
}

fn default_node(text: &str) -> Node {
    Node {
        value: Value::Text(text.to_owned()),
        place: Place::Unwritten,
        raw: None,
    }
}

/// As TOML writes it.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn list_text<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let quoted: Vec<_> = texts.map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}

/// Why a file cannot be read, if it cannot.
fn unreadable(path: &std::path::Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Some("is a directory".into()),
        // Opening a pipe would wait for a writer.
        Ok(metadata) if !metadata.is_file() => None,
        Ok(_) => std::fs::File::open(path)
            .err()
            .map(|error| format!("cannot be read: {error}")),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}
