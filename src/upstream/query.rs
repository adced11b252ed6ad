//! The part of a URL behind the question mark, and forms: names and values, percent-encoded.

use http::Uri;

/// A query in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(String);

impl Query {
    /// Goes on from a query that is there.
    pub(super) fn of(query: Option<&str>) -> Self {
        Query(query.unwrap_or_default().to_owned())
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode(name, &mut self.0);
        self.0.push('=');
        encode(value, &mut self.0);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// The URL with this query instead of its own.
    pub(super) fn onto(self, uri: &Uri) -> Uri {
        let path = uri.path();
        let target = match self.0.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", self.0),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = target.parse().ok();
        Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
    }
}

/// The value of a parameter, decoded; `None` where there is none.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    decode(value)
}

fn encode(text: &str, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        // Beside the unreserved ones those that stand in scopes and may stand in a query.
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push('%');
            to.push(char::from(DIGITS[usize::from(byte >> 4)]));
            to.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                decoded.push((high * 16 + low) as u8);
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_realm_keeps_its_own_query() {
        let realm = Uri::from_static("https://a.example/token?account=x");
        let mut query = Query::of(realm.query());
        query.add("service", "my registry");
        query.add("scope", "repository:a/b:pull,push");
        assert_eq!(
            query.onto(&realm).to_string(),
            "https://a.example/token?account=x&service=my%20registry&scope=repository:a/b:pull,push"
        );
    }

    #[test]
    fn broken_encoding_is_no_value() {
        assert_eq!(
            parameter("a=1&last=v1%2e0", "last").as_deref(),
            Some("v1.0")
        );
        assert_eq!(parameter("last=%2", "last"), None);
        assert_eq!(parameter("last=%zz", "last"), None);
        assert_eq!(parameter("", "last"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(value: String) {
            let mut query = Query::default();
            query.add("x", &value);
            prop_assert_eq!(parameter(&query.into_string(), "x"), Some(value));
        }
    }
}
