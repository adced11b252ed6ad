//! Image names as people write them: `alpine`, `ghcr.io/org/app:1`, `app@sha256:…`.

use std::fmt;
use std::str::FromStr;

use super::{
    Digest, InvalidDigest, InvalidName, InvalidRegistry, Reference, RegistryName, Repository, Tag,
};

/// An image as written on a command line or in a list. No registry means the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    pub registry: Option<RegistryName>,
    pub repository: Repository,
    pub tag: Option<Tag>,
    pub digest: Option<Digest>,
}

impl ImageName {
    /// The digest where there is one, else the tag, else `latest`.
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(*digest),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag("latest".parse().expect("latest is a tag")),
        }
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;

    fn from_str(text: &str) -> Result<Self, InvalidImageName> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon behind the last slash begins a tag; one before it, a port.
        let tag_at = rest.rfind(':').filter(|&at| !rest[at..].contains('/'));
        let (rest, tag) = match tag_at {
            Some(at) => (
                &rest[..at],
                Some(rest[at + 1..].parse().map_err(InvalidImageName::Tag)?),
            ),
            None => (rest, None),
        };
        let (registry, repository) = match rest.split_once('/') {
            Some((first, rest)) if RegistryName::looks_like_one(first) => {
                (Some(first.parse()?), rest)
            }
            _ => (None, rest),
        };
        let repository = repository.parse().map_err(InvalidImageName::Repository)?;
        Ok(ImageName {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImageName {
    #[error(transparent)]
    Registry(#[from] InvalidRegistry),
    #[error("{0}")]
    Repository(#[source] InvalidName),
    #[error("{0}")]
    Tag(#[source] InvalidName),
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, registry, repository, reference) in [
            ("alpine", None, "alpine", "latest"),
            ("postgres:17", None, "postgres", "17"),
            ("library/alpine:3.20", None, "library/alpine", "3.20"),
            ("docker.io/alpine", Some("docker.io"), "alpine", "latest"),
            (
                "index.docker.io/library/alpine",
                Some("docker.io"),
                "library/alpine",
                "latest",
            ),
            ("localhost:5000/a/b:c", Some("localhost:5000"), "a/b", "c"),
            ("localhost/a", Some("localhost"), "a", "latest"),
            (
                &format!("ghcr.io/org/app:1@{digest}"),
                Some("ghcr.io"),
                "org/app",
                &digest,
            ),
        ] {
            let image: ImageName = text.parse().unwrap();
            assert_eq!(
                image.registry.as_ref().map(|r| r.as_str()),
                registry,
                "{text}"
            );
            assert_eq!(image.repository.as_str(), repository, "{text}");
            assert_eq!(image.reference().to_string(), reference, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_image() {
        for wrong in [
            "",
            ":",
            "@",
            "Alpine",
            "a:b:c",
            "a@b",
            "ghcr.io/",
            "a/:b",
            "http://a/b",
        ] {
            assert!(wrong.parse::<ImageName>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_image_survives_its_text(text: String) {
            if let Ok(image) = text.parse::<ImageName>() {
                prop_assert_eq!(image.to_string().parse::<ImageName>(), Ok(image));
            }
        }
    }
}
