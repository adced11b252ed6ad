//! What can be wrong with a configuration, and what only looks dangerous.
//!
//! Each says at which key it stands, where that was written, what is wrong and what cures it. None
//! of them ever carries the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(String),
    /// Nowhere: it is missing, or a default.
    Unwritten,
}

/// Every problem of one configuration, in the order of the file.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Problems {
    /// `None`: the text did not come from a file.
    pub file: Option<PathBuf>,
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `registries."docker.io".endpoints[0]`; empty where the file is no TOML.
    pub key: String,
    pub place: Place,
    pub wrong: Wrong,
}

impl Problem {
    pub fn cure(&self) -> String {
        self.wrong.cure()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.place, &self.key)?;
        write!(f, "{}; {}", self.wrong, self.wrong.cure())
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, place: &Place, key: &str) -> fmt::Result {
    match place {
        Place::Line(line) => write!(f, "line {line}: ")?,
        Place::Variable(name) => write!(f, "{name}: ")?,
        Place::Unwritten => {}
    }
    if key.is_empty() {
        Ok(())
    } else {
        write!(f, "{key}: ")
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("this is no TOML: {0}")]
    Syntax(String),
    #[error("there is no such key")]
    UnknownKey {
        nearest: Option<String>,
        known: Vec<String>,
    },
    #[error("there is no such key")]
    UnknownVariable { nearest: Option<String> },
    #[error("{expected} belongs here, not {found}")]
    Kind {
        expected: &'static str,
        found: &'static str,
    },
    #[error("it is missing")]
    Missing { example: &'static str },
    #[error("it is empty")]
    Empty { example: &'static str },
    #[error("{text:?} is no duration")]
    Duration { text: String },
    #[error("{text:?} is no size")]
    Size { text: String },
    #[error("{text} is out of range")]
    Range {
        text: String,
        least: String,
        most: String,
    },
    #[error("{text:?} is none of the choices")]
    Choice {
        text: String,
        choices: &'static [&'static str],
    },
    #[error("{text:?} is no address to listen on")]
    Listen { text: String },
    #[error("{text} is listened on twice")]
    ListenTwice { text: String },
    #[error("{text:?} is no URL for this: {why}")]
    Url { text: String, why: &'static str },
    #[error("{text:?} is no pattern: {why}")]
    Pattern { text: String, why: String },
    #[error("{text:?} is no network")]
    Network { text: String },
    #[error("{text:?} is no host name")]
    Host { text: String },
    #[error("{text:?} names no registry: {why}")]
    Registry { text: String, why: String },
    #[error("{other} is the same registry, {registry}")]
    SameRegistry { registry: String, other: String },
    #[error("{other} is the default registry already")]
    SecondDefault { other: String },
    #[error("{host} means {other} already")]
    SameHost { host: String, other: String },
    #[error("{path} {why}", path = path.display())]
    File { path: PathBuf, why: String },
    #[error("it needs {other} beside it")]
    Alone { other: &'static str },
    #[error("an entry has one source, and this one has {}", listed(found))]
    CredentialSources { found: Vec<&'static str> },
    #[error("{key} means nothing beside {source_key}")]
    Needless {
        key: &'static str,
        source_key: &'static str,
    },
    #[error("the logins of clients would go to {endpoint} unencrypted")]
    ClearEndpoint { endpoint: String },
    #[error("the environment variable {variable} is not set")]
    VariableUnset { variable: String },
    #[error("{text:?} is no repository prefix: {why}")]
    Prefix { text: String, why: &'static str },
    #[error("{text:?} is no credential helper: {why}")]
    Helper { text: String, why: &'static str },
    #[error("the rule allows nothing and refuses nobody: it names no client")]
    RuleForNobody,
}

impl Wrong {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Wrong::Syntax(_) => "correct the line; text goes between quotes".into(),
            Wrong::UnknownKey {
                nearest: Some(nearest),
                ..
            } => format!("did you mean {nearest}?"),
            Wrong::UnknownKey {
                nearest: None,
                known,
            } => format!("known here: {}", known.join(", ")),
            Wrong::UnknownVariable {
                nearest: Some(nearest),
            } => format!("did you mean {nearest}?"),
            Wrong::UnknownVariable { nearest: None } => {
                "variables are called WEIR__SECTION__KEY; a registry has to be built in or in the \
                 file before a variable can change it"
                    .into()
            }
            Wrong::Kind { expected, .. } => format!("write {expected}"),
            Wrong::Missing { example } | Wrong::Empty { example } => {
                format!("write for example {example}")
            }
            Wrong::Duration { .. } => {
                "write a number with ms, s, m, h or d, such as \"30s\", \"6h\" or \"1h30m\"".into()
            }
            Wrong::Size { .. } => {
                "write a number with B, KiB, MiB, GiB, TiB (or kB, MB, GB, TB), such as \"50GiB\""
                    .into()
            }
            Wrong::Range { least, most, .. } => format!("it may be from {least} to {most}"),
            Wrong::Choice { choices, .. } => format!("write \"{}\"", choices.join("\" or \"")),
            Wrong::Listen { .. } => {
                "write an address and a port, such as \"127.0.0.1:5000\", \"[::]:5000\", or \
                 \"unix:/run/weir.sock\""
                    .into()
            }
            Wrong::ListenTwice { .. } => "give each its own port, or take one away".into(),
            Wrong::Url { .. } => "write scheme, host and where needed port and path, such as \
                 \"https://registry.example.com\""
                .into(),
            Wrong::Pattern { .. } => {
                "* stands for anything within one part, ** for any number of parts, such as \
                 \"library/*\" or \"acme/**\""
                    .into()
            }
            Wrong::Network { .. } => "write such as \"10.0.0.0/8\" or \"fd00::/8\"".into(),
            Wrong::Host { .. } => "write a name or an address without scheme and port, such as \
                 \"hub.mirror.internal\""
                .into(),
            Wrong::Registry { .. } => "write such as [registries.\"registry.example.com\"]".into(),
            Wrong::SameRegistry { .. } => "put both into one table".into(),
            Wrong::SecondDefault { .. } => "leave default = true at one of them".into(),
            Wrong::SameHost { .. } => "leave the host at one of them".into(),
            Wrong::File { .. } => {
                "check the path, and that the user who runs weir may read it".into()
            }
            Wrong::Alone { other } => format!("add {other}, or take this away"),
            Wrong::CredentialSources { .. } => format!(
                "give each entry one of {}",
                super::registries::CREDENTIAL_SOURCES.join(", ")
            ),
            Wrong::Needless { key, .. } => format!("take {key} away"),
            Wrong::ClearEndpoint { .. } => {
                "use an https:// endpoint, or an http:// one on this machine".into()
            }
            Wrong::VariableUnset { .. } => "set it, or use password_file".into(),
            Wrong::Prefix { .. } => "write the beginning of a repository, such as \"acme/\"".into(),
            Wrong::Helper { .. } => {
                "write what follows docker-credential-, such as \"ecr-login\"".into()
            }
            Wrong::RuleForNobody => "add users, networks, certificates, or anonymous = true".into(),
        }
    }
}

fn listed(keys: &[&str]) -> String {
    if keys.is_empty() {
        "none".into()
    } else {
        keys.join(" and ")
    }
}

/// Something that is allowed but dangerous, or surely not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub key: String,
    pub place: Place,
    pub danger: Danger,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.place, &self.key)?;
        write!(f, "{}; {}", self.danger, self.danger.cure())
    }
}

/// What is dangerous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    #[error(
        "everybody who reaches {listen} may read what is cached and configured (no secret is told), and only callers on this machine may change anything"
    )]
    OpenAdmin { listen: String },
    #[error(
        "everybody who reaches {listen} may pull from {registry} what weir's credentials may pull"
    )]
    OpenCredentials { registry: String, listen: String },
    #[error("credentials for {registry} go to {endpoint} unencrypted")]
    Unencrypted { registry: String, endpoint: String },
    #[error(
        "the certificates of {registry} are not checked: anybody on the way can read the credentials and change the images"
    )]
    Unverified { registry: String },
    #[error("the logins of clients for {registry} come to {listen} unencrypted")]
    ClearLogins { registry: String, listen: String },
    #[error("this entry is never used: an earlier one has the same prefix")]
    NeverUsed,
    #[error(
        "clients must say who they are, and there is no way to do it: nobody can pull, but from \
         registries with auth = \"client\""
    )]
    Closed,
}

impl Danger {
    pub fn cure(&self) -> &'static str {
        match self {
            Danger::OpenAdmin { .. } => {
                "set admin.token_file for changes from other machines, or listen on 127.0.0.1"
            }
            Danger::OpenCredentials { .. } => {
                "add [[access.rules]], set auth = \"client\" there, or listen on 127.0.0.1"
            }
            Danger::Unencrypted { .. } => "use an https:// endpoint",
            Danger::Unverified { .. } => "name the registry's CA with ca_file instead",
            Danger::ClearLogins { .. } => {
                "set server.tls, or listen on 127.0.0.1 behind a proxy that ends TLS"
            }
            Danger::NeverUsed => "give it its own `for`, or take it away",
            Danger::Closed => "set access.htpasswd, or server.tls.client_ca",
        }
    }
}
