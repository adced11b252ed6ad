//! Lists: tags by page, and what refers to a digest.
//!
//! They go through as the upstream wrote them, fields of its own included; only the link to the next
//! page is taken apart, since it leads to the upstream.

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::content::{self, BodyTime};
use super::error::{Error, ErrorKind};
use super::exchange::Question;
use super::fault::Fault;
use super::query::{Query, parameter};
use super::remote::Remote;
use super::walk::Patience;
use super::{Listing, TagsQuery};
use crate::oci::{Digest, MediaType, Reference, Tag};

/// A repository with 100,000 tags has a list of some MiB.
const LIST_BYTES_MAX: usize = 16 << 20;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

impl Remote {
    /// A page of tags.
    pub async fn tags(&self, query: &TagsQuery) -> Result<Listing, Error> {
        let mut parameters = Query::default();
        if let Some(n) = query.n {
            parameters.add("n", &n.to_string());
        }
        if let Some(last) = &query.last {
            parameters.add("last", last);
        }
        if let Some(next_page) = &query.next_page {
            parameters.add("next_page", next_page);
        }
        self.list("tags/list".to_owned(), parameters).await
    }

    /// What refers to a digest: by the registry's own list, or where it has none by the tag that
    /// clients keep instead. Source: OCI Distribution Specification 1.1, "Listing Referrers".
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Listing, Error> {
        let mut parameters = Query::default();
        if let Some(artifact_type) = artifact_type {
            parameters.add("artifactType", artifact_type);
        }
        match self.list(format!("referrers/{digest}"), parameters).await {
            Ok(listing) => Ok(listing),
            Err(error) if matches!(error.kind, ErrorKind::NotFound) => {
                self.referrers_by_tag(digest, error).await
            }
            Err(error) => Err(error),
        }
    }

    async fn referrers_by_tag(&self, digest: &Digest, denied: Error) -> Result<Listing, Error> {
        let index = |bytes: Bytes, source| Listing {
            body: bytes,
            media_type: MediaType::new(INDEX_TYPE),
            link_next: None,
            filtered: false,
            source,
        };
        match self.manifest(&Reference::Tag(referrers_tag(digest))).await {
            Ok(fetched) if names_manifests(&fetched.manifest.bytes) => {
                Ok(index(fetched.manifest.bytes, fetched.source))
            }
            Ok(fetched) => Ok(index(
                Bytes::from_static(EMPTY_INDEX.as_bytes()),
                fetched.source,
            )),
            Err(error) if matches!(error.kind, ErrorKind::NotFound) => Err(denied),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, what: String, query: Query) -> Result<Listing, Error> {
        let mut walk = self.walk(None, Patience::manifest());
        loop {
            let turn = walk.next().await?;
            let question = Question {
                query: query.clone(),
                accept: "application/vnd.oci.image.index.v1+json, application/json",
                ..self.question(Method::GET, what.clone(), &turn)
            };
            let listed = async {
                let answer = self.registry.ask(&turn.endpoint, &question).await?;
                let headers = answer.response.headers().clone();
                let time = BodyTime::of_list(self.registry.limits.idle_timeout);
                let body = content::whole(answer.response, LIST_BYTES_MAX, time)
                    .await
                    .map_err(|kind| Fault::at(&answer.from, kind))?;
                Ok(Listing {
                    body,
                    media_type: content::stated_type(&headers),
                    link_next: next_page(&headers),
                    filtered: headers.contains_key("oci-filters-applied"),
                    source: answer.source,
                })
            };
            match listed.await {
                Ok(listing) => {
                    turn.well();
                    return Ok(listing);
                }
                Err(fault) => walk.failed(turn, fault)?,
            }
        }
    }
}

/// `sha256-<hex>`, cut to the length of a tag.
fn referrers_tag(digest: &Digest) -> Tag {
    const TAG_BYTES_MAX: usize = 128;
    let text = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    let text = &text[..text.len().min(TAG_BYTES_MAX)];
    text.parse().expect("letters, digits and a dash are a tag")
}

/// Anybody can push a tag of that name; only an index is a list of referrers.
fn names_manifests(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Index<'a> {
        #[serde(borrow)]
        manifests: Option<Vec<&'a RawValue>>,
    }
    serde_json::from_slice::<Index<'_>>(bytes).is_ok_and(|index| index.manifests.is_some())
}

/// The query of `Link: </v2/…/tags/list?…>; rel="next"`, as far as it is understood.
/// Source: RFC 8288; OCI Distribution Specification 1.1, "Listing Tags".
fn next_page(headers: &HeaderMap) -> Option<TagsQuery> {
    let links = headers
        .get_all(LINK)
        .iter()
        .filter_map(|link| link.to_str().ok());
    let mut next = links.flat_map(|link| link.split(",<")).filter(|link| {
        let relation = link.split(';').skip(1).map(str::trim);
        relation
            .into_iter()
            .any(|r| matches!(r, r#"rel="next""# | "rel=next"))
    });
    let link = next.next()?.trim().trim_start_matches('<');
    let (target, _) = link.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    let page = TagsQuery {
        n: parameter(query, "n").and_then(|n| n.parse().ok()),
        last: parameter(query, "last"),
        next_page: parameter(query, "next_page"),
    };
    (page.last.is_some() || page.next_page.is_some()).then_some(page)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn next(link: &'static str) -> Option<TagsQuery> {
        next_page(&HeaderMap::from_iter([(
            LINK,
            HeaderValue::from_static(link),
        )]))
    }

    #[test]
    fn the_next_page_is_found_in_every_spelling() {
        let page = |n, last: &str| {
            Some(TagsQuery {
                n,
                last: Some(last.to_owned()),
                next_page: None,
            })
        };
        assert_eq!(
            next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#),
            page(Some(2), "b")
        );
        assert_eq!(
            next(r#"<https://r.example/v2/a/tags/list?last=v1%2B2&n=1>; rel=next"#),
            page(Some(1), "v1+2")
        );
        assert_eq!(
            next(r#"</x?last=a>; rel="prev",</x?last=c>; rel="next""#),
            page(None, "c")
        );
        let quay = next(r#"</v2/a/tags/list?next_page=gAAA%3D&n=50>; rel="next""#).unwrap();
        assert_eq!(quay.next_page.as_deref(), Some("gAAA="));
        for none in [r#"</x?last=a>; rel="prev""#, "</x>; rel=\"next\"", "x", ""] {
            assert_eq!(next(none), None, "{none}");
        }
    }

    #[test]
    fn only_an_index_lists_referrers() {
        assert!(names_manifests(EMPTY_INDEX.as_bytes()));
        assert!(!names_manifests(br#"{"layers":[]}"#));
        let digest = Digest::of(crate::oci::Algorithm::Sha512, b"x");
        assert_eq!(referrers_tag(&digest).as_str().len(), 128);
    }
}
