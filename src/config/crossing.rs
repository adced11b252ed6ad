//! The crossing from the file as written to the checked configuration.
//!
//! Every key is read through a [`Section`], which notes that it was asked for. So a knob stands in
//! the code exactly once, and the refusal of unknown keys, the environment variables and the test of
//! the reference file all come from there. Nothing stops at the first problem.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::document::{Node, Table, Value, overlay};
use super::key::{self, KeyPath};
use super::problem::{Danger, Place, Problem, Warning, Wrong};

/// How alike a name has to be to be suggested, of 1.
const LIKENESS_LEAST: f64 = 0.7;

/// Everything that is known while the sections are read.
pub(super) struct Crossing<'e> {
    environment: &'e [(String, String)],
    /// Relative paths in the file start here.
    base: Option<PathBuf>,
    /// The variables that are keys, by their name in capitals.
    variables: BTreeMap<String, (String, String)>,
    known_variables: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    files: RefCell<Vec<PathBuf>>,
    knobs: RefCell<Vec<Knob>>,
}

/// What came out beside the values.
pub(super) struct Outcome {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    pub(super) files: Vec<PathBuf>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test of the reference file reads it")
    )]
    pub(super) knobs: Vec<Knob>,
}

/// One key that the code reads, with TOML's text of its default and of what applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Knob {
    pub(super) key: KeyPath,
    pub(super) default: Option<String>,
    pub(super) value: Option<String>,
}

impl<'e> Crossing<'e> {
    pub(super) fn new(environment: &'e [(String, String)], base: Option<PathBuf>) -> Self {
        let prefix = format!("{}__", key::VARIABLE_PREFIX);
        let variables = environment
            .iter()
            .map(|(name, text)| (name.to_ascii_uppercase(), (name.clone(), text.clone())))
            .filter(|(capitals, _)| capitals.starts_with(&prefix))
            .collect();
        Crossing {
            environment,
            base,
            variables,
            known_variables: RefCell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            files: RefCell::default(),
            knobs: RefCell::default(),
        }
    }

    /// A variable of the environment that is not a key of weir, such as `HOME`.
    pub(super) fn environment(&self, name: &str) -> Option<&'e str> {
        let found = self.environment.iter().find(|(other, _)| other == name);
        found
            .map(|(_, text)| text.as_str())
            .filter(|text| !text.is_empty())
    }

    pub(super) fn root(&self, table: Table) -> Section<'_> {
        Section::new(self, KeyPath::default(), Place::Unwritten, table)
    }

    pub(super) fn report(&self, key: &KeyPath, place: Place, wrong: Wrong) {
        self.problems.borrow_mut().push(Problem {
            key: key.to_string(),
            place,
            wrong,
        });
    }

    pub(super) fn warn(&self, key: &KeyPath, place: Place, danger: Danger) {
        self.warnings.borrow_mut().push(Warning {
            key: key.to_string(),
            place,
            danger,
        });
    }

    pub(super) fn note_file(&self, file: PathBuf) {
        self.files.borrow_mut().push(file);
    }

    /// `~/` is the home directory; what is relative in the file starts at the file's directory, what
    /// is relative in a variable, where weir was started.
    pub(super) fn resolve(&self, text: &str, place: &Place) -> PathBuf {
        if let (Some(rest), Some(home)) = (text.strip_prefix("~/"), self.environment("HOME")) {
            return Path::new(home).join(rest);
        }
        match (place, &self.base) {
            (Place::Line(_), Some(base)) => base.join(text),
            (Place::Line(_) | Place::Variable(_) | Place::Unwritten, _) => text.into(),
        }
    }

    fn variable(&self, name: &str) -> Option<Node> {
        self.known_variables.borrow_mut().insert(name.to_owned());
        let (written, text) = self.variables.get(name)?;
        Some(Node::from_variable(written, text))
    }

    /// Whether a variable names a key below `name`.
    fn has_variable_below(&self, name: &str) -> bool {
        let below = format!("{name}__");
        let mut behind = self.variables.range(below.clone()..);
        behind
            .next()
            .is_some_and(|(other, _)| other.starts_with(&below))
    }

    fn as_table(&self, path: &KeyPath, node: Node) -> (Table, Place) {
        let found = node.kind();
        match node.value {
            Value::Table(table) => (table, node.place),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Boolean(_)
            | Value::Array(_)
            | Value::Other(_) => {
                let wrong = Wrong::Kind {
                    expected: "a table",
                    found,
                };
                self.report(path, node.place.clone(), wrong);
                (Table::new(), node.place)
            }
        }
    }

    pub(super) fn finish(self) -> Outcome {
        let known = self.known_variables.into_inner();
        let mut problems = self.problems.into_inner();
        let unknown = self
            .variables
            .iter()
            .filter(|(name, _)| !known.contains(*name));
        for (name, (written, _)) in unknown {
            problems.push(Problem {
                key: String::new(),
                place: Place::Variable(written.clone()),
                wrong: Wrong::UnknownVariable {
                    nearest: nearest(name, known.iter().map(String::as_str)),
                },
            });
        }
        problems.sort_by(|one, other| one.place.cmp(&other.place));
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by(|one, other| one.place.cmp(&other.place));
        Outcome {
            problems,
            warnings,
            files: self.files.into_inner(),
            knobs: self.knobs.into_inner(),
        }
    }
}

/// A table that is being read. When it is dropped, the keys that nobody asked for are reported.
pub(super) struct Section<'c> {
    pub(super) crossing: &'c Crossing<'c>,
    pub(super) path: KeyPath,
    place: Place,
    table: Table,
    asked: RefCell<BTreeSet<String>>,
}

impl<'c> Section<'c> {
    fn new(crossing: &'c Crossing<'c>, path: KeyPath, place: Place, mut table: Table) -> Self {
        if let Some(node) = crossing.variable(&path.variable()) {
            let (above, _) = crossing.as_table(&path, node);
            overlay(&mut table, above);
        }
        Section {
            crossing,
            path,
            place,
            table,
            asked: RefCell::default(),
        }
    }

    /// What was written for a key: the environment goes before the file.
    pub(super) fn take(&self, key: &str) -> Option<Node> {
        self.asked.borrow_mut().insert(key.to_owned());
        let variable = self.crossing.variable(&self.path.key(key).variable());
        variable.or_else(|| self.table.get(key).cloned())
    }

    /// The table of a key, empty where it is not written.
    pub(super) fn section(&self, key: &str) -> Section<'c> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.note(key, None, None);
        self.subsection(key, &self.path.key(key))
    }

    /// The table of a key, where the file or the environment has it.
    pub(super) fn section_if_written(&self, key: &str) -> Option<Section<'c>> {
        let path = self.path.key(key);
        let name = path.variable();
        let written = self.take(key).is_some() || self.crossing.has_variable_below(&name);
        self.note(key, None, None);
        written.then(|| self.subsection(key, &path))
    }

    fn subsection(&self, key: &str, path: &KeyPath) -> Section<'c> {
        let (table, place) = match self.table.get(key).cloned() {
            Some(node) => self.crossing.as_table(path, node),
            None => (Table::new(), Place::Unwritten),
        };
        Section::new(self.crossing, path.clone(), place, table)
    }

    /// A list of tables. Variables with a number change one of them, or add one.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'c>> {
        let path = self.path.key(key);
        let mut nodes = match self.take(key) {
            None => Vec::new(),
            Some(node) => {
                let found = node.kind();
                match node.value {
                    Value::Array(nodes) => nodes,
                    Value::Text(_)
                    | Value::Integer(_)
                    | Value::Boolean(_)
                    | Value::Table(_)
                    | Value::Other(_) => {
                        let expected = "a list of tables";
                        let wrong = Wrong::Kind { expected, found };
                        self.crossing.report(&path, node.place, wrong);
                        Vec::new()
                    }
                }
            }
        };
        self.note(key, None, None);
        while self
            .crossing
            .has_variable_below(&path.index(nodes.len()).variable())
        {
            nodes.push(Node {
                value: Value::Table(Table::new()),
                place: Place::Unwritten,
                raw: None,
            });
        }
        let sections = nodes.into_iter().enumerate().map(|(at, node)| {
            let path = path.index(at);
            let (table, place) = self.crossing.as_table(&path, node);
            Section::new(self.crossing, path, place, table)
        });
        sections.collect()
    }

    /// The keys of this table, where they are names and no knobs.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Where a key was written, for a message: at least where its table begins.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let variable = self.path.key(key).variable();
        match self.crossing.variables.get(&variable) {
            Some((written, _)) => Place::Variable(written.clone()),
            None => self
                .table
                .get(key)
                .map_or_else(|| self.place.clone(), |node| node.place.clone()),
        }
    }

    /// Reports a problem with this table.
    pub(super) fn report_whole(&self, wrong: Wrong) {
        self.crossing.report(&self.path, self.place.clone(), wrong);
    }

    /// Reports the key where it is not written.
    pub(super) fn need(&self, key: &str, example: &'static str) {
        if self.take(key).is_none() {
            self.report(key, Wrong::Missing { example });
        }
    }

    /// Reports a problem with a key of this table.
    pub(super) fn report(&self, key: &str, wrong: Wrong) {
        let place = self.place_of(key);
        self.crossing.report(&self.path.key(key), place, wrong);
    }

    pub(super) fn warn(&self, key: &str, danger: Danger) {
        let place = self.place_of(key);
        self.crossing.warn(&self.path.key(key), place, danger);
    }

    /// Notes that the code knows this key.
    pub(super) fn note(&self, key: &str, default: Option<String>, value: Option<String>) {
        self.crossing.knobs.borrow_mut().push(Knob {
            key: self.path.key(key),
            default,
            value,
        });
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.take();
        for (key, node) in &self.table {
            if !asked.contains(key) {
                let wrong = Wrong::UnknownKey {
                    nearest: nearest(key, asked.iter().map(String::as_str)),
                    known: asked.iter().cloned().collect(),
                };
                let path = self.path.key(key);
                self.crossing.report(&path, node.place.clone(), wrong);
            }
        }
    }
}

/// The known name that looks most like the one that was written.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    known
        .map(|other| (strsim::jaro_winkler(name, other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS_LEAST)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other.to_owned())
}
