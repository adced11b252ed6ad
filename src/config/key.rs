//! Where a key stands, in the file and in the environment.

use std::fmt;

use crate::oci::RegistryName;

/// What the variables that are keys begin with.
pub(super) const VARIABLE_PREFIX: &str = "WEIR";

/// Where a key stands: `registries."docker.io".endpoints[0]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// `WEIR__REGISTRIES__DOCKER_IO__ENDPOINTS`. However a registry is spelled in the file, its
    /// variables have its one name.
    pub(super) fn variable(&self) -> String {
        let mut name = VARIABLE_PREFIX.to_owned();
        for (at, step) in self.0.iter().enumerate() {
            name.push_str("__");
            match step {
                Step::Index(index) => name.push_str(&index.to_string()),
                Step::Key(key) => {
                    let registry = (at == 1 && self.0[0] == Step::Key("registries".to_owned()))
                        .then(|| key.parse::<RegistryName>().ok())
                        .flatten();
                    let key = registry.as_ref().map_or(key.as_str(), RegistryName::as_str);
                    name.extend(key.chars().map(variable_character));
                }
            }
        }
        name
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    if !key.is_empty() && key.chars().all(bare) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn variable_character(c: char) -> char {
    if c.is_ascii_alphanumeric() {
        c.to_ascii_uppercase()
    } else {
        '_'
    }
}
