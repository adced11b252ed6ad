//! What a token service answers: a token under one name or another, for a time it may not state.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// A token whose lifetime is not stated holds this long.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
/// No token is kept longer, whatever its service says.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(12 * 3600);

#[derive(Deserialize)]
pub(super) struct Granted {
    token: Option<SecretText>,
    access_token: Option<SecretText>,
    expires_in: Option<serde_json::Value>,
}

/// Becomes a secret before anything can print it.
#[derive(Deserialize)]
#[serde(from = "String")]
struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        SecretText(text.into())
    }
}

impl Granted {
    pub(super) fn token(self) -> Option<SecretString> {
        let tokens = [self.token, self.access_token].into_iter().flatten();
        let mut secrets = tokens.map(|SecretText(secret)| secret);
        secrets.find(|secret| !secret.expose_secret().is_empty())
    }

    /// Some services write the number as text; nothing and zero mean that they do not say.
    pub(super) fn lifetime(&self) -> Duration {
        let seconds = match &self.expires_in {
            Some(serde_json::Value::Number(number)) => number.as_f64(),
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            Some(_) | None => None,
        };
        let stated = seconds.filter(|seconds| *seconds > 0.0);
        let lifetime = stated.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        lifetime.unwrap_or(LIFETIME_DEFAULT).min(LIFETIME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(json: &str) -> (Option<String>, u64) {
        let granted: Granted = serde_json::from_str(json).unwrap();
        let seconds = granted.lifetime().as_secs();
        let token = granted.token().map(|t| t.expose_secret().to_owned());
        (token, seconds)
    }

    #[test]
    fn answers_of_all_kinds_are_read() {
        for (json, token, seconds) in [
            (
                r#"{"token":"a","expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}"#,
                Some("a"),
                300,
            ),
            (r#"{"access_token":"b"}"#, Some("b"), 60),
            (
                r#"{"token":"","access_token":"b","expires_in":"120"}"#,
                Some("b"),
                120,
            ),
            (
                r#"{"token":"a","access_token":"b","expires_in":0}"#,
                Some("a"),
                60,
            ),
            (r#"{"token":"a","expires_in":-5}"#, Some("a"), 60),
            (r#"{"token":"a","expires_in":1e300}"#, Some("a"), 60),
            (
                r#"{"token":"a","expires_in":315360000}"#,
                Some("a"),
                12 * 3600,
            ),
            (r#"{"token":"a","expires_in":null}"#, Some("a"), 60),
            (r#"{}"#, None, 60),
        ] {
            let expected = (token.map(str::to_owned), seconds);
            assert_eq!(granted(json), expected, "{json}");
        }
    }
}
