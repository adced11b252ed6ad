//! The file as written: TOML as a tree in which every value knows where it stands.
//!
//! Nothing is checked here but the syntax of TOML, and every mistake in that is reported, not only
//! the first. Values may be secrets, so nothing here can be printed by accident.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Wrong};

/// A table of the file, by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text of an environment variable, whatever value it also reads as: a password of digits is
    /// a password.
    pub(super) raw: Option<String>,
}

#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// TOML has it, no key of weir takes it.
    Other(&'static str),
}

impl Node {
    /// What stands here, for a message. Never the value: it may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::Array(elements) if elements.is_empty())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match (&self.raw, &self.value) {
            (Some(raw), _) => Some(raw),
            (None, Value::Text(text)) => Some(text),
            (
                None,
                Value::Integer(_)
                | Value::Boolean(_)
                | Value::Array(_)
                | Value::Table(_)
                | Value::Other(_),
            ) => None,
        }
    }

    /// The value of an environment variable: what TOML would read there, else a string.
    pub(super) fn from_variable(name: &str, text: &str) -> Node {
        let place = Place::Variable(name.to_owned());
        let written = format!("value = {text}");
        let value = match DeTable::parse(&written) {
            Ok(table) if table.get_ref().len() == 1 => table
                .into_inner()
                .into_iter()
                .next()
                .map(|(_, value)| convert(value.into_inner(), &|_| place.clone())),
            Ok(_) | Err(_) => None,
        };
        Node {
            value: value.unwrap_or_else(|| Value::Text(text.to_owned())),
            place,
            raw: Some(text.to_owned()),
        }
    }
}

/// Reads TOML. What can be read is returned even where something is wrong elsewhere, so that one run
/// reports it all.
pub(super) fn parse(text: &str) -> (Table, Vec<Problem>) {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors
        .into_iter()
        .map(|error| Problem {
            key: String::new(),
            place: error
                .span()
                .map_or(Place::Unwritten, |span| lines.place(span.start)),
            wrong: Wrong::Syntax(error.message().to_owned()),
        })
        .collect();
    let table = convert_table(table.into_inner(), &|offset| lines.place(offset));
    (table, problems)
}

fn convert_table(table: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let at = place(key.span().start);
            let node = node(value, at, place);
            (key.into_inner().into_owned(), node)
        })
        .collect()
}

fn node(value: Spanned<DeValue<'_>>, at: Place, place: &dyn Fn(usize) -> Place) -> Node {
    Node {
        value: convert(value.into_inner(), place),
        place: at,
        raw: None,
    }
}

fn convert(value: DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(array) => Value::Array(
            array
                .into_iter()
                .map(|element| {
                    let at = place(element.span().start);
                    node(element, at, place)
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, place)),
    }
}

/// Lays `upper` over `lower`, table by table.
pub(super) fn overlay(lower: &mut Table, upper: Table) {
    for (key, node) in upper {
        match (lower.get_mut(&key), node) {
            (
                Some(Node {
                    value: Value::Table(below),
                    ..
                }),
                Node {
                    value: Value::Table(above),
                    ..
                },
            ) => overlay(below, above),
            (_, node) => {
                lower.insert(key, node);
            }
        }
    }
}

/// Where each line of a text begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines(breaks.map(|(at, _)| at).collect())
    }

    fn place(&self, offset: usize) -> Place {
        Place::Line(self.0.partition_point(|&at| at < offset) + 1)
    }
}
