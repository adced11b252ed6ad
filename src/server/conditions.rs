//! Conditional requests. A digest is the strongest of entity tags: the same digest, the same bytes.
//! Source: RFC 9110, section 13.

use http::header::{self, HeaderMap};

use crate::oci::Digest;

/// Whether `If-None-Match` says that the client has this content already.
pub(super) fn is_known(asked: &HeaderMap, digest: &Digest) -> bool {
    let mut lists = asked.get_all(header::IF_NONE_MATCH).iter().peekable();
    if lists.peek().is_none() {
        return false;
    }
    let digest = digest.to_string();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || opaque(tag.strip_prefix("W/").unwrap_or(tag)) == Some(&digest))
}

/// Whether a part of the content is of use to the client: `If-Range` says what it has the rest of.
/// There is no `Last-Modified`, so a date never fits, and a weak tag must not.
pub(super) fn may_send_part(asked: &HeaderMap, digest: &Digest) -> bool {
    match asked.get(header::IF_RANGE) {
        None => true,
        Some(tag) => tag
            .to_str()
            .is_ok_and(|tag| opaque(tag.trim()) == Some(&digest.to_string())),
    }
}

fn opaque(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn asked(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn known_content_is_recognised_in_every_form() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        for (tag, known) in [
            (format!("\"{digest}\""), true),
            (format!("W/\"{digest}\""), true),
            (format!("\"other\", \"{digest}\""), true),
            ("*".to_owned(), true),
            (digest.to_string(), false),
            ("\"other\"".to_owned(), false),
            ("\"".to_owned(), false),
            (String::new(), false),
        ] {
            let headers = asked(header::IF_NONE_MATCH, &tag);
            assert_eq!(is_known(&headers, &digest), known, "{tag}");
        }
        assert!(!is_known(&HeaderMap::new(), &digest));
    }

    #[test]
    fn a_part_goes_only_to_who_has_the_rest_of_the_same_content() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        for (tag, part) in [
            (format!("\"{digest}\""), true),
            (format!("W/\"{digest}\""), false),
            ("Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), false),
            ("\"other\"".to_owned(), false),
        ] {
            let headers = asked(header::IF_RANGE, &tag);
            assert_eq!(may_send_part(&headers, &digest), part, "{tag}");
        }
        assert!(may_send_part(&HeaderMap::new(), &digest));
    }
}
