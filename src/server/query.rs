//! The query of a URL: the few parameters that the specification knows.

use std::borrow::Cow;
use std::fmt::Write;

/// The first value of `name`, with its percent-encoding undone; as it stands where that is broken,
/// so that it counts as given and means nothing.
pub(super) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    let pairs = query?.split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decode(value).unwrap_or(Cow::Borrowed(value)))
}

fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// Everything but what RFC 3986 calls unreserved is percent-encoded.
pub(super) fn encode(to: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(byte.into());
        } else {
            write!(to, "%{byte:02X}").expect("a String takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_clients_send() {
        for (query, value) in [
            ("ns=docker.io", Some("docker.io")),
            ("n=5&ns=localhost%3A5000&last=x", Some("localhost:5000")),
            (
                "ns=https%3a%2f%2findex.docker.io%2Fv1%2F",
                Some("https://index.docker.io/v1/"),
            ),
            ("ns=a&ns=b", Some("a")),
            ("ns=", Some("")),
            ("ns", Some("")),
            ("nsx=a&xns=b", None),
            ("ns=%", Some("%")),
            ("ns=%4", Some("%4")),
            ("ns=%ff", Some("%ff")),
            ("", None),
        ] {
            let found = parameter(Some(query), "ns");
            assert_eq!(found.as_deref(), value, "{query}");
        }
        assert_eq!(parameter(None, "ns"), None);
    }

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(query: String) {
            let _ = parameter(Some(&query), "ns");
        }
    }
}
