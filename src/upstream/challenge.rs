//! `WWW-Authenticate`: which way in a registry offers.
//!
//! A header may hold several challenges, there may be several headers, and some schemes are not
//! known here; the best that is known is taken: Bearer before Basic.
//! Source: RFC 9110, 11.6.1; the distribution project's token authentication.

use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderValue, Uri};

/// The header values that are looked at, and their bytes: a registry sends one or two short ones.
const HEADERS_MAX: usize = 8;
const HEADER_BYTES_MAX: usize = 8 << 10;

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Get a token from the realm first.
    Bearer {
        realm: Uri,
        service: Option<String>,
        scope: Option<String>,
    },
    /// Send user and password along.
    Basic,
}

impl Challenge {
    /// The challenge to take up; `None` when there is none that can be.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().take(HEADERS_MAX);
        let all: Vec<Challenge> = values.flat_map(parse).collect();
        let bearer = all.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
        bearer.or_else(|| all.first()).cloned()
    }
}

fn parse(value: &HeaderValue) -> Vec<Challenge> {
    let Ok(text) = value.to_str() else {
        return Vec::new();
    };
    if text.len() > HEADER_BYTES_MAX {
        return Vec::new();
    }
    // What comes behind a syntax error is lost; what came before it may do.
    http_auth::parser::ChallengeParser::new(text)
        .map_while(Result::ok)
        .filter_map(|challenge| known(&challenge))
        .collect()
}

fn known(challenge: &http_auth::ChallengeRef<'_>) -> Option<Challenge> {
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameter = |name: &str| {
        let mut all = challenge.params.iter();
        let (_, value) = all.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.to_unescaped()).filter(|value| !value.is_empty())
    };
    let realm: Uri = parameter("realm")?.parse().ok()?;
    realm.host()?;
    realm.scheme()?;
    Some(Challenge::Bearer {
        realm,
        service: parameter("service"),
        scope: parameter("scope"),
    })
}

/// What must hold of every header: a realm that is taken can be asked, and what is taken from a
/// challenge says the same when it is written anew. Each line of `bytes` is a header of its own.
#[cfg(any(test, fuzzing))]
pub(crate) fn holds(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let Some(Challenge::Bearer {
        realm,
        service,
        scope,
    }) = Challenge::of(&headers)
    else {
        return;
    };
    assert!(realm.host().is_some() && realm.scheme().is_some());
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut written = format!("Bearer realm=\"{}\"", quoted(&realm.to_string()));
    for (name, value) in [("service", &service), ("scope", &scope)] {
        if let Some(value) = value {
            written += &format!(",{name}=\"{}\"", quoted(value));
        }
    }
    let value = HeaderValue::from_str(&written).expect("what came in a header goes into one");
    if written.len() <= HEADER_BYTES_MAX {
        let expected = Challenge::Bearer {
            realm,
            service,
            scope,
        };
        let again = Challenge::of(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
        assert_eq!(again, Some(expected));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn reads_what_registries_send() {
        assert_eq!(
            of(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#
            ]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/alpine:pull")
            )
        );
        assert_eq!(
            of(&[r#"bearer Realm="https://ghcr.io/token", scope="repository:a/b:pull,push""#]),
            bearer(
                "https://ghcr.io/token",
                None,
                Some("repository:a/b:pull,push")
            )
        );
        assert_eq!(
            of(&[r#"Basic realm="https://1.dkr.ecr.eu.amazonaws.com/",service="ecr""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn takes_the_best_of_several() {
        let expected = bearer("https://r.example/t", Some("a, b"), None);
        let both = r#"Negotiate, Basic realm="a \"b\", c", Bearer realm="https://r.example/t",service="a, b""#;
        assert_eq!(of(&[both]), expected);
        let separate = [
            r#"Basic realm="x""#,
            r#"Bearer realm="https://r.example/t",service="a, b",error="insufficient_scope""#,
        ];
        assert_eq!(of(&separate), expected);
    }

    #[test]
    fn what_cannot_be_taken_up_is_no_challenge() {
        for value in [
            "Negotiate",
            "Bearer",
            r#"Bearer realm="""#,
            r#"Bearer realm="not a url""#,
            r#"Bearer realm="/token""#,
            r#"Bearer service="x""#,
            ",,,",
            "=",
        ] {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&[]), None);
        let long = format!(r#"Basic realm="{}""#, "x".repeat(HEADER_BYTES_MAX));
        assert_eq!(of(&[&long]), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "[ -~]{0,200}") {
            let _ = of(&[&text]);
            let _ = of(&[&format!("Bearer {text}")]);
        }

        #[test]
        fn what_a_registry_says_is_what_is_read(
            host in "[a-z]{1,10}(\\.[a-z]{2,5}){1,3}",
            service in prop::option::of("[ -~&&[^\"\\\\]]{1,30}"),
            scope in prop::option::of("repository:[a-z0-9/._-]{1,30}:pull(,push)?"),
            other in "(Basic realm=\"x, y\"|Negotiate)?",
        ) {
            let realm = format!("https://{host}/token");
            let mut text = format!("Bearer realm=\"{realm}\"");
            if let Some(service) = &service {
                text += &format!(",service=\"{service}\"");
            }
            if let Some(scope) = &scope {
                text += &format!(",scope=\"{scope}\"");
            }
            let expected = bearer(&realm, service.as_deref(), scope.as_deref());
            prop_assert_eq!(of(&[&other, &text]), expected.clone());
            prop_assert_eq!(of(&[&text, &other]), expected);
        }
    }
}
