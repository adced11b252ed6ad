//! The search for a credential, step by step, for people: `weir resolve` and `weir doctor` show it.
//!
//! Local only: files are read, helpers are named and not run, nothing is sent. It goes the way that
//! a pull goes, by the same functions.

use std::fmt;
use std::sync::Arc;

use super::docker_config::Match;
use super::{Credentials, Place, entries_that_fit, fits, names};
use crate::config::{self, CredentialSource};
use crate::upstream::ANONYMOUS;

/// How the credential for one endpoint is found.
#[derive(Debug, Clone)]
pub struct CredentialTrace {
    pub endpoint: Arc<str>,
    /// In the order they are taken.
    pub steps: Vec<CredentialStep>,
}

/// One place that was looked at.
#[derive(Debug, Clone)]
pub struct CredentialStep {
    /// `config "acme/" password_file /run/secrets/hub`
    pub source: String,
    pub outcome: CredentialOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialOutcome {
    /// This one is used.
    Used {
        username: Option<String>,
        secret_length: usize,
    },
    /// The client's own login is used, and nothing of weir's.
    ClientsOwn,
    /// A program would be asked, and its answer used.
    WouldAsk,
    /// It applies, and could not be had.
    Missing { why: String },
    /// It does not apply.
    Passed { why: String },
}

impl CredentialTrace {
    /// The step whose credential is used, if there is one; without one the pull is anonymous.
    pub fn used(&self) -> Option<&CredentialStep> {
        self.steps.iter().find(|step| match step.outcome {
            CredentialOutcome::Used { .. }
            | CredentialOutcome::ClientsOwn
            | CredentialOutcome::WouldAsk
            | CredentialOutcome::Missing { .. } => true,
            CredentialOutcome::Passed { .. } => false,
        })
    }
}

impl fmt::Display for CredentialTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint)?;
        for step in &self.steps {
            write!(f, "\n  {}: {}", step.source, step.outcome)?;
        }
        match self.used() {
            Some(_) => Ok(()),
            None => write!(f, "\n  {ANONYMOUS}"),
        }
    }
}

impl fmt::Display for CredentialOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialOutcome::Used {
                username,
                secret_length,
            } => {
                let user = username.as_deref().unwrap_or("(identity token)");
                write!(f, "used, user {user}, secret of {secret_length} characters")
            }
            CredentialOutcome::ClientsOwn => {
                f.write_str("used: the login that each client brings; weir shows none of its own")
            }
            CredentialOutcome::WouldAsk => f.write_str("would be asked"),
            CredentialOutcome::Missing { why } => write!(f, "missing: {why}"),
            CredentialOutcome::Passed { why } => f.write_str(why),
        }
    }
}

impl Credentials {
    /// The steps that a lookup for `place` takes, without running helpers.
    pub(in crate::upstream) fn explain(
        &self,
        registry: &config::Registry,
        place: Place<'_>,
    ) -> Vec<CredentialStep> {
        if registry.auth == config::RegistryAuth::Client {
            return vec![CredentialStep {
                source: "auth = \"client\"".to_owned(),
                outcome: CredentialOutcome::ClientsOwn,
            }];
        }
        let mut steps = Vec::new();
        let fitting = entries_that_fit(registry, place);
        for entry in &registry.credentials {
            let first = fitting
                .first()
                .is_some_and(|first| std::ptr::eq(*first, entry));
            let outcome = if first {
                self.explain_entry(entry)
            } else {
                passed(&why_not(entry, place))
            };
            let prefix = Some(&entry.prefix).filter(|prefix| !prefix.is_empty());
            let prefix = prefix.map(|prefix| format!(" for {prefix:?}"));
            let source = of_config(&entry.source) + &prefix.unwrap_or_default();
            steps.push(CredentialStep { source, outcome });
        }
        if fitting.is_empty() {
            self.explain_docker(place, &mut steps);
        }
        steps
    }

    fn explain_entry(&self, entry: &config::Credential) -> CredentialOutcome {
        match self.of_entry(entry) {
            Ok(Some(secret)) => CredentialOutcome::Used {
                username: secret.username().map(str::to_owned),
                secret_length: secret.length(),
            },
            Ok(None) => CredentialOutcome::WouldAsk,
            Err(why) => CredentialOutcome::Missing { why },
        }
    }

    fn explain_docker(&self, place: Place<'_>, steps: &mut Vec<CredentialStep>) {
        let Some(file) = &self.docker_config else {
            return;
        };
        let source = format!("docker-config {}", file.path().display());
        let docker = match file.read() {
            Ok(docker) => docker,
            Err(why) => {
                let outcome = passed(&why);
                steps.push(CredentialStep { source, outcome });
                return;
            }
        };
        for name in names(place) {
            let found = docker.find(&name, place.target.repository.as_str());
            if found.is_empty() {
                let outcome = passed(&format!("no entry for {name}"));
                let source = source.clone();
                steps.push(CredentialStep { source, outcome });
            }
            steps.extend(found.into_iter().map(|found| match found {
                Match::Auth(auth) => {
                    let secret = auth.secret();
                    CredentialStep {
                        source: format!("docker-config {:?}", auth.key),
                        outcome: CredentialOutcome::Used {
                            username: secret.username().map(str::to_owned),
                            secret_length: secret.length(),
                        },
                    }
                }
                Match::Helper(helper) => CredentialStep {
                    source: helper.source(),
                    outcome: CredentialOutcome::WouldAsk,
                },
            }));
        }
    }
}

fn passed(why: &str) -> CredentialOutcome {
    CredentialOutcome::Passed {
        why: why.to_owned(),
    }
}

fn why_not(entry: &config::Credential, place: Place<'_>) -> String {
    let repository = &place.target.repository;
    if !fits(&entry.prefix, repository.as_str()) {
        return format!("not for {repository}");
    }
    match &entry.endpoint {
        Some(endpoint) => format!("only for {endpoint}"),
        None => "another entry fits better".to_owned(),
    }
}

/// How a config entry is called in logs and messages.
pub(super) fn of_config(source: &CredentialSource) -> String {
    match source {
        CredentialSource::Password { username, .. } => format!("config:{username}"),
        CredentialSource::PasswordFile { username, file } => {
            format!("config:{username} (password_file {})", file.display())
        }
        CredentialSource::PasswordEnv { username, variable } => {
            format!("config:{username} (password_env {variable})")
        }
        CredentialSource::IdentityTokenFile { file, .. } => {
            format!("config (identity_token_file {})", file.display())
        }
        CredentialSource::Helper { name } => format!("config (helper {name})"),
    }
}
