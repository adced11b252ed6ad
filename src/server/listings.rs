//! Lists: tags page by page, referrers, and the catalog of what is cached.
//!
//! A link to the next page leads back the way the client came: the same path, and the same `ns`.
//! Source: OCI Distribution Specification 1.1, "Content discovery".

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::answer::tell;
use super::body::Body;
use super::query::{encode, parameter};
use super::refusal::{JSON, Refusal};
use crate::oci::{ErrorCode, Target};
use crate::pull::Answer;
use crate::upstream::{Listing, TagsQuery};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Longest cursor that is passed on.
const CURSOR_BYTES_MAX: usize = 512;
/// Names in one page of the catalog, at most and when nothing is said.
const CATALOG_PAGE_MAX: usize = 1000;

/// Which page of tags is asked for.
pub(super) fn tags_query(parts: &Parts) -> Result<TagsQuery, Refusal> {
    Ok(TagsQuery {
        n: page_size(parts)?,
        last: cursor(parts, "last")?,
        next_page: cursor(parts, "next_page")?,
    })
}

/// The filter of a list of referrers.
pub(super) fn artifact_type(parts: &Parts) -> Result<Option<String>, Refusal> {
    cursor(parts, "artifactType").map(|wanted| wanted.filter(|wanted| !wanted.is_empty()))
}

pub(super) fn tags(answer: &Answer<impl AsRef<Listing>>, parts: &Parts) -> Response<Body> {
    let listing = answer.content.as_ref();
    let mut response = list(listing, JSON, answer);
    if let Some(next) = &listing.link_next {
        let number = next.n.map(|n| n.to_string());
        let cursors = [
            ("n", number.as_deref()),
            ("last", next.last.as_deref()),
            ("next_page", next.next_page.as_deref()),
        ];
        link(&mut response, parts, &cursors);
    }
    response
}

pub(super) fn referrers(answer: &Answer<impl AsRef<Listing>>) -> Response<Body> {
    const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
    let listing = answer.content.as_ref();
    let mut response = list(listing, INDEX, answer);
    if listing.filtered {
        let filter = HeaderValue::from_static("artifactType");
        response.headers_mut().insert(FILTERS_APPLIED, filter);
    }
    response
}

/// A page of the names of `targets`, which are in order. Under `ns` they are that registry's
/// repositories, else each has its registry in front, as it can be pulled.
pub(super) fn catalog(targets: &[Target], parts: &Parts) -> Result<Response<Body>, Refusal> {
    let asked = page_size(parts)?.and_then(|n| usize::try_from(n).ok());
    let page = asked.unwrap_or(CATALOG_PAGE_MAX).min(CATALOG_PAGE_MAX);
    let last = cursor(parts, "last")?;
    let by_ns = parameter(parts.uri.query(), "ns").is_some();
    let shown = |target: &Target| match by_ns {
        true => target.repository.to_string(),
        false => target.to_string(),
    };
    let mut names = targets
        .iter()
        .map(shown)
        .skip_while(|name| last.as_ref().is_some_and(|last| name <= last))
        .peekable();
    let repositories: Vec<String> = names.by_ref().take(page).collect();
    let body = serde_json::json!({ "repositories": repositories }).to_string();
    let mut response = Response::new(Body::empty());
    fill(&mut response, JSON, body.into());
    if let (Some(_), Some(last)) = (names.peek(), repositories.last()) {
        let number = page.to_string();
        link(
            &mut response,
            parts,
            &[("n", Some(&number)), ("last", Some(last))],
        );
    }
    Ok(response)
}

fn list<T>(listing: &Listing, usual_type: HeaderValue, answer: &Answer<T>) -> Response<Body> {
    let told = listing.media_type.as_ref();
    let told = told.and_then(|told| HeaderValue::from_str(told.as_str()).ok());
    let mut response = Response::new(Body::empty());
    fill(
        &mut response,
        told.unwrap_or(usual_type),
        listing.body.clone(),
    );
    tell(
        response.headers_mut(),
        answer.age,
        answer.warning.as_deref(),
    );
    response
}

fn fill(response: &mut Response<Body>, content_type: HeaderValue, body: bytes::Bytes) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    *response.body_mut() = Body::whole(body);
}

fn page_size(parts: &Parts) -> Result<Option<u32>, Refusal> {
    let Some(n) = parameter(parts.uri.query(), "n") else {
        return Ok(None);
    };
    n.parse().map(Some).map_err(|_| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::Unsupported,
            "n is the number of names on a page",
        )
    })
}

fn cursor(parts: &Parts, name: &str) -> Result<Option<String>, Refusal> {
    match parameter(parts.uri.query(), name) {
        Some(text) if text.len() > CURSOR_BYTES_MAX => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::Unsupported,
            format!("{name} is longer than {CURSOR_BYTES_MAX} bytes"),
        )),
        text => Ok(text.map(|text| text.into_owned())),
    }
}

/// `<path?n=2&last=b>; rel="next"`
fn link(response: &mut Response<Body>, parts: &Parts, cursors: &[(&str, Option<&str>)]) {
    let mut target = parts.uri.path().to_owned();
    let ns = parameter(parts.uri.query(), "ns");
    let mut separator = '?';
    for (name, value) in cursors.iter().copied().chain([("ns", ns.as_deref())]) {
        if let Some(value) = value {
            target.push(separator);
            separator = '&';
            target.push_str(name);
            target.push('=');
            encode(&mut target, value);
        }
    }
    let value = HeaderValue::from_str(&format!("<{target}>; rel=\"next\""));
    let value = value.expect("a path as it came and an encoded query are a header value");
    response.headers_mut().insert(header::LINK, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        http::Request::get(uri).body(()).unwrap().into_parts().0
    }

    fn targets() -> Vec<Target> {
        let target = |registry: &str, repository: &str| {
            Target::new(registry.parse().unwrap(), repository.parse().unwrap())
        };
        vec![
            target("docker.io", "acme/app"),
            target("docker.io", "library/alpine"),
            target("ghcr.io", "acme/app"),
        ]
    }

    #[tokio::test]
    async fn the_catalog_can_be_walked_page_by_page() {
        let mut uri = "/v2/_catalog?n=2".to_owned();
        let mut found = Vec::new();
        loop {
            let response = catalog(&targets(), &parts(&uri)).unwrap();
            let link = response.headers().get(header::LINK).cloned();
            let body = http_body_util::BodyExt::collect(response.into_body()).await;
            let body: serde_json::Value =
                serde_json::from_slice(&body.unwrap().to_bytes()).unwrap();
            let names = body["repositories"].as_array().unwrap().iter();
            found.extend(names.map(|name| name.as_str().unwrap().to_owned()));
            let Some(link) = link else { break };
            let link = link.to_str().unwrap();
            assert_eq!(
                link,
                "</v2/_catalog?n=2&last=docker.io%2Flibrary%2Falpine>; rel=\"next\""
            );
            uri = link[1..link.find('>').unwrap()].to_owned();
        }
        let names = [
            "docker.io/acme/app",
            "docker.io/library/alpine",
            "ghcr.io/acme/app",
        ];
        assert_eq!(found, names);
    }

    #[test]
    fn a_page_is_asked_for_by_number_and_cursor() {
        let query = tags_query(&parts("/v2/a/tags/list?n=5&last=v1%2B2")).unwrap();
        assert_eq!((query.n, query.last.as_deref()), (Some(5), Some("v1+2")));
        assert_eq!(
            tags_query(&parts("/v2/a/tags/list")).unwrap(),
            TagsQuery::default()
        );
        for wrong in [
            "n=-1",
            "n=x",
            "n=99999999999",
            &format!("last={}", "x".repeat(513)),
        ] {
            let refusal = tags_query(&parts(&format!("/v2/a/tags/list?{wrong}"))).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }

    #[test]
    fn a_link_cannot_be_broken_out_of() {
        let mut response = Response::new(Body::empty());
        let asked = parts("/v2/a/tags/list?ns=docker.io%3E%0d%0a");
        link(&mut response, &asked, &[("last", Some("a>;\"\r\n\u{e4}"))]);
        let value = response.headers()[header::LINK].to_str().unwrap();
        assert_eq!(
            value,
            "</v2/a/tags/list?last=a%3E%3B%22%0D%0A%C3%A4&ns=docker.io%3E%0D%0A>; rel=\"next\""
        );
    }
}
