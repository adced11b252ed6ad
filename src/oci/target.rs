//! A repository in a registry: where a request is meant to go.

use std::fmt;

use super::{Name, RegistryName, Repository};

/// A repository of one particular registry. Routing makes them out of a client's request; store,
/// upstream and access all speak of them. Two registries with the same path are two targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub registry: RegistryName,
    pub repository: Repository,
}

impl Target {
    /// A one-part repository of Docker Hub gets `library/`, as every client does it.
    pub fn new(registry: RegistryName, repository: Repository) -> Self {
        let repository = if registry.is_docker_hub() && repository.is_single_part() {
            let official = format!("library/{repository}");
            official.parse().unwrap_or(repository)
        } else {
            repository
        };
        Target {
            registry,
            repository,
        }
    }

    /// A target whose repository is still the text a client sent.
    pub fn from_name(registry: RegistryName, name: &Name) -> Result<Self, super::InvalidName> {
        Ok(Target::new(registry, name.as_str().parse()?))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}
