//! Repositories, tags and references.
//!
//! The grammar leaves nothing that a path, a URL or a header could misread: no upper case in
//! repositories, no empty part, no `..`, no control characters.
//! Source: OCI Distribution Specification 1.1, "Pulling manifests".

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Digest, RegistryName};

/// Longest repository name, in bytes, with the registry prefix that a client may put in front.
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// What a client wrote between `/v2/` and the verb: a repository, perhaps with the name of a
/// registry in front of it. Routing makes a [`Repository`] of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// First component and the rest, where there are two or more.
    pub fn split_first(&self) -> Option<(&str, &str)> {
        self.0.split_once('/')
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    /// Takes every repository; the first of several components may also be `host:port`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text)?;
        let (first, rest) = match text.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        let host_like = rest.is_some()
            && RegistryName::looks_like_one(first)
            && first.parse::<RegistryName>().is_ok();
        if !host_like {
            check_component(first)?;
        }
        rest.into_iter()
            .flat_map(|rest| rest.split('/'))
            .try_for_each(check_component)?;
        Ok(Name(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository within a registry, such as `library/alpine`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is only one component, as in `alpine`.
    pub fn is_single_part(&self) -> bool {
        !self.0.contains('/')
    }
}

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text)?;
        text.split('/').try_for_each(check_component)?;
        Ok(Repository(text.into()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_length(text: &str) -> Result<(), InvalidName> {
    if text.len() > NAME_BYTES_MAX {
        return Err(InvalidName::TooLong {
            max: NAME_BYTES_MAX,
        });
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn check_component(component: &str) -> Result<(), InvalidName> {
    let bytes = component.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if bytes.is_empty() {
        return Err(InvalidName::EmptyComponent);
    }
    if let Some(wrong) = component
        .chars()
        .find(|&c| !c.is_ascii() || !(alphanumeric(c as u8) || matches!(c, '.' | '_' | '-')))
    {
        return Err(InvalidName::Character(wrong));
    }
    if !alphanumeric(bytes[0]) || !alphanumeric(bytes[bytes.len() - 1]) {
        return Err(InvalidName::Separator);
    }
    let separators = component
        .split(|c: char| alphanumeric(c as u8))
        .filter(|s| !s.is_empty());
    for separator in separators {
        if !matches!(separator, "." | "_" | "__") && !separator.bytes().all(|b| b == b'-') {
            return Err(InvalidName::Separator);
        }
    }
    Ok(())
}

/// A tag, such as `latest` or `v1.2`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::EmptyTag);
        }
        if text.len() > TAG_BYTES_MAX {
            return Err(InvalidName::TooLong { max: TAG_BYTES_MAX });
        }
        for (at, c) in text.chars().enumerate() {
            let fits = c.is_ascii_alphanumeric() || c == '_' || (at > 0 && matches!(c, '.' | '-'));
            if !fits {
                return Err(InvalidName::TagCharacter(c));
            }
        }
        Ok(Tag(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which manifest of a repository: the one a tag names now, or the one with a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = InvalidName;

    /// A colon makes it a digest: no tag has one.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains(':') {
            Ok(Reference::Digest(text.parse()?))
        } else {
            Ok(Reference::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Why a text is no repository, tag or reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("the name is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("a part of the repository name is empty")]
    EmptyComponent,
    #[error("a repository name has no {0:?}: only a-z, 0-9, and . _ - between them")]
    Character(char),
    #[error(
        "in a repository name, one of . _ __ or any number of - stands between letters or digits"
    )]
    Separator,
    #[error("the tag is empty")]
    EmptyTag,
    #[error("a tag has no {0:?} there: letters, digits and _, then also . and -")]
    TagCharacter(char),
    #[error(transparent)]
    Digest(#[from] super::InvalidDigest),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_what_registries_have() {
        for name in [
            "alpine",
            "library/alpine",
            "a/b/c/d",
            "a--b",
            "a__b",
            "a.b_c-d/0",
            "0",
        ] {
            assert!(name.parse::<Repository>().is_ok(), "{name}");
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        for name in ["localhost:5000/a", "GHCR.io/a", "10.0.0.1:5000/a/b"] {
            assert!(name.parse::<Repository>().is_err(), "{name}");
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_what_could_be_misread() {
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/..",
            "a/../b",
            "../a",
            "a b",
            "A/b/C",
            "a%2fb",
            "a___b",
            "a..b",
            "-a",
            "a-",
            "a\0",
            "a\n",
            "ä",
            "a:5000",
            "a/b:5000/c",
            "a._b",
        ] {
            assert!(name.parse::<Repository>().is_err(), "{name:?}");
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        assert!("a".repeat(255).parse::<Repository>().is_ok());
        assert!("a".repeat(256).parse::<Repository>().is_err());
        for tag in ["", ".a", "-a", "a/b", "a b", "a:b", "ä", "a\n"] {
            assert!(tag.parse::<Tag>().is_err(), "{tag:?}");
        }
        assert!("_".repeat(129).parse::<Tag>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = text.parse::<Name>();
            let _ = text.parse::<Reference>();
            if let Ok(repository) = text.parse::<Repository>() {
                prop_assert_eq!(repository.as_str(), &text);
            }
        }

        #[test]
        fn the_grammar_of_the_specification_is_taken(
            name in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}){0,4}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
        ) {
            prop_assert!(name.parse::<Repository>().is_ok());
            prop_assert!(tag.parse::<Tag>().is_ok());
        }
    }
}
