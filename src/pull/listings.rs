//! Lists that an upstream keeps: the tags of a repository, the referrers of a digest.
//!
//! They are passed on as they came, from a small memory for a short while, and stale when the
//! upstream is away; where the upstream decides who may have them, each client is given what it was
//! told itself. Source: OCI Distribution Specification 1.1, "Content discovery", "Listing
//! referrers" with its fallback tag scheme.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::joint::Part;
use super::rights::Right;
use super::standing::{Known, Who};
use super::{Answer, Ask, Error, Outcome, Pull};
use crate::clock::Timestamp;
use crate::oci::{Digest, MediaType, Reference, Target};
use crate::upstream::{self, Listing, Remote, Source, TagsQuery};

/// How long a list is given out without asking again.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// Bytes of lists kept in memory at most.
const MEMORY_BYTES: u64 = 4 << 20;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The lists that were asked for lately.
pub(super) type Listings = moka::sync::Cache<Question, (Timestamp, Arc<Listing>)>;

pub(super) fn memory() -> Listings {
    moka::sync::Cache::builder()
        .max_capacity(MEMORY_BYTES)
        .weigher(|_, (_, listing): &(_, Arc<Listing>)| {
            u32::try_from(listing.body.len() + 512).unwrap_or(u32::MAX)
        })
        .build()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    target: Target,
    who: Who,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Tags(TagsQuery),
    Referrers {
        digest: Digest,
        artifact_type: Option<String>,
    },
}

pub(super) type Told = Result<Arc<Listing>, Error>;

impl Pull {
    /// One page of a repository's tags.
    pub async fn tags(
        self: &Arc<Self>,
        ask: &Ask,
        query: TagsQuery,
    ) -> Result<Answer<Arc<Listing>>, Error> {
        self.list(ask, What::Tags(query)).await
    }

    /// The manifests whose subject is `digest`. Where the registry has no referrers API, the tag
    /// `<algorithm>-<hex>` is asked for; where that is not there either, the list is empty.
    pub async fn referrers(
        self: &Arc<Self>,
        ask: &Ask,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Answer<Arc<Listing>>, Error> {
        let artifact_type = artifact_type.map(str::to_owned);
        self.list(
            ask,
            What::Referrers {
                digest: *digest,
                artifact_type,
            },
        )
        .await
    }

    /// The repositories of which something was pulled through here.
    pub fn catalog(&self) -> Vec<Target> {
        self.store.index().targets()
    }

    async fn list(self: &Arc<Self>, ask: &Ask, what: What) -> Result<Answer<Arc<Listing>>, Error> {
        let question = Question {
            target: ask.target.clone(),
            who: self.rights.who(&ask.identity),
            what,
        };
        let standing = self.rights.to_lists(&ask.target, &ask.identity);
        let known = standing
            .as_ref()
            .map(|standing| self.rights.known(standing, Instant::now()));
        if let Some(Known::Refused(error)) = known {
            return Err(error.into());
        }
        let right = standing.is_some().then_some(Right::Known);
        let remote = self.remote(ask)?;
        let now = self.clock.now();
        let cached = self.listings.get(&question);
        if let Some((heard_at, listing)) = &cached
            && !matches!(known, Some(Known::Unknown))
            && now.since(*heard_at) < FRESH_FOR
        {
            return Ok(aged(Arc::clone(listing), Outcome::Hit, now.since(*heard_at)).by(right));
        }
        let work = || {
            let (pull, question, ask) = (Arc::clone(self), question.clone(), ask.clone());
            let standing = standing.clone();
            async move {
                let asked_at = Instant::now();
                let told = pull.clone().hear_list(&ask, &question, &remote).await;
                if let Some(standing) = &standing {
                    pull.note_right(standing, asked_at, told.as_ref().map(|_| ()));
                }
                told
            }
        };
        let told = self.lists.run(&self.tasks, question.clone(), work).await;
        let (told, part) = told.ok_or(Error::Stopping)?;
        match (told, cached) {
            (Ok(listing), _) => {
                let outcome = if part == Part::Began {
                    Outcome::Miss
                } else {
                    Outcome::Joined
                };
                let asked = standing.is_some().then_some(Right::Asked);
                let mut answer = Answer::new(listing, outcome).by(asked);
                answer.source = Some(answer.content.source.clone());
                Ok(answer)
            }
            (Err(error), Some((heard_at, listing)))
                if self.may_stand_in(standing.as_ref(), &error) =>
            {
                let right = standing.as_ref().map(|_| Right::Held);
                let mut answer = aged(listing, Outcome::Stale, now.since(heard_at)).by(right);
                answer.warning = Some(format!("stale, from weir's cache: {}", error.for_clients()));
                Ok(answer)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn hear_list(self: Arc<Self>, ask: &Ask, question: &Question, remote: &Remote) -> Told {
        let listing = match &question.what {
            What::Tags(query) => remote.tags(query).await?,
            What::Referrers {
                digest,
                artifact_type,
            } => {
                let artifact_type = artifact_type.as_deref();
                match remote.referrers(digest, artifact_type).await {
                    Ok(listing) => narrowed(listing, artifact_type),
                    Err(error) if matches!(error.kind, upstream::ErrorKind::NotFound) => {
                        self.referrers_by_tag(ask, digest, artifact_type).await?
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let listing = Arc::new(listing);
        self.listings
            .insert(question.clone(), (self.clock.now(), Arc::clone(&listing)));
        Ok(listing)
    }

    /// The fallback tag scheme.
    async fn referrers_by_tag(
        self: &Arc<Self>,
        ask: &Ask,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Listing, Error> {
        let tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        // A tag has 128 characters; sha512 is cut as the specification says.
        let tag = tag.chars().take(128).collect::<String>().parse();
        let reference = Reference::Tag(tag.expect("an algorithm and hexadecimal digits are a tag"));
        let (bytes, source) = match self.manifest(ask, &reference).await {
            Ok(answer) => {
                let source = answer.source.unwrap_or_else(from_cache);
                (answer.content.bytes.clone(), source)
            }
            Err(Error::RememberedMissing { .. }) => (empty_index(), from_cache()),
            Err(Error::Upstream(error)) if matches!(error.kind, upstream::ErrorKind::NotFound) => {
                (empty_index(), from_cache())
            }
            Err(error) => return Err(error),
        };
        let listing = Listing {
            filtered: false,
            body: bytes,
            media_type: MediaType::new(INDEX),
            link_next: None,
            source,
        };
        Ok(narrowed(listing, artifact_type))
    }
}

/// The source of a list that was put together here.
fn from_cache() -> Source {
    Source {
        endpoint: "cache".into(),
        credential: upstream::ANONYMOUS.into(),
    }
}

fn aged(listing: Arc<Listing>, outcome: Outcome, age: Duration) -> Answer<Arc<Listing>> {
    let mut answer = Answer::new(listing, outcome);
    answer.age = Some(age);
    answer
}

fn empty_index() -> Bytes {
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#
    ))
}

/// The filter is applied here where the registry did not say that it did.
fn narrowed(listing: Listing, artifact_type: Option<&str>) -> Listing {
    match artifact_type {
        Some(wanted) if !listing.filtered => Listing {
            body: filter(&listing.body, wanted),
            filtered: true,
            ..listing
        },
        Some(_) | None => listing,
    }
}

/// Keeps the descriptors of one artifact type; what is no index stays as it is.
fn filter(index: &Bytes, artifact_type: &str) -> Bytes {
    let Ok(mut document) = serde_json::from_slice::<Value>(index) else {
        return index.clone();
    };
    if let Some(Value::Array(manifests)) = document.get_mut("manifests") {
        manifests.retain(|descriptor| descriptor["artifactType"] == artifact_type);
    }
    serde_json::to_vec(&document).map_or_else(|_| index.clone(), Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_are_filtered_by_their_type() {
        let index = Bytes::from_static(
            br#"{"schemaVersion":2,"manifests":[{"artifactType":"a/b"},{"artifactType":"c/d"},{}]}"#,
        );
        let kept: Value = serde_json::from_slice(&filter(&index, "c/d")).unwrap();
        assert_eq!(
            kept["manifests"],
            serde_json::json!([{"artifactType": "c/d"}])
        );
        assert_eq!(kept["schemaVersion"], 2);
    }
}
