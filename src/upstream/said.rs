//! What an upstream said, made fit for a log line and an error message.
//!
//! One line of at most 200 printable characters, without any secret that was sent along and without
//! the query of any URL, where signatures stand: some servers quote the request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

const CHARACTERS_MAX: usize = 200;
/// What is read of the body of an error.
const BODY_BYTES_MAX: usize = 16 << 10;
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A shorter text is no secret worth looking for; replacing it would only garble the message.
const SECRET_BYTES_MIN: usize = 4;

/// Reads the start of an error's body; empty where there is none to be had.
pub(super) async fn body(body: Incoming) -> Bytes {
    let collecting = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(READ_TIMEOUT, collecting).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_broken_or_too_long)) => Bytes::new(),
        Err(_elapsed) => Bytes::new(),
    }
}

/// The one line that tells most: the message of a registry's error, else the first line with text.
pub(super) fn line(body: &[u8], secrets: &[&SecretString]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_slice(body).ok().and_then(Told::message);
    let first = || text.lines().map(str::trim).find(|line| !line.is_empty());
    let line = match &message {
        Some(message) => message.as_str(),
        None => first().unwrap_or_default(),
    };
    let mut line = line.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        if secret.len() >= SECRET_BYTES_MIN {
            line = line.replace(secret, "[secret]");
        }
    }
    let line = without_queries(&line);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    line.chars().map(printable).take(CHARACTERS_MAX).collect()
}

/// What follows the `?` of a URL, or of a path that is quoted from one, up to the next space or
/// quotation mark is left out.
fn without_queries(line: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"'<>".contains(c);
    let mut kept = String::with_capacity(line.len());
    for word in line.split_inclusive(is_end) {
        match word.split_once('?') {
            Some((path, query)) if path.contains('/') && query.contains('=') => {
                kept += path;
                kept += "?[left out]";
                kept.extend(query.chars().last().filter(|&last| is_end(last)));
            }
            Some(_) | None => kept += word,
        }
    }
    kept
}

/// The shapes in which registries and token services say what is wrong.
#[derive(Deserialize)]
struct Told {
    errors: Option<Vec<ToldEntry>>,
    error_description: Option<String>,
    message: Option<String>,
    details: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct ToldEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Told {
    fn message(self) -> Option<String> {
        let entry = self.errors.and_then(|errors| errors.into_iter().next());
        if let Some(ToldEntry { code, message }) = entry {
            return Some(match (code.is_empty(), message.is_empty()) {
                (_, true) => code,
                (true, false) => message,
                (false, false) => format!("{code}: {message}"),
            });
        }
        self.error_description
            .or(self.details)
            .or(self.message)
            .or(self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_an_error_is_found_in_every_shape() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#,
                "DENIED: no access",
            ),
            (r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, "UNAUTHORIZED"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            (r#"{"error":"x","error_description":"y"}"#, "y"),
            ("\n\n  Too many requests\nmore", "Too many requests"),
            ("", ""),
            ("{}", "{}"),
        ] {
            assert_eq!(
                line(body.as_bytes(), &[]),
                expected.trim_matches('\u{0}'),
                "{body}"
            );
        }
    }

    #[test]
    fn a_line_is_short_printable_and_keeps_the_secret() {
        let secret = SecretString::from("hunter2hunter2");
        let told = line(b"bad password hunter2hunter2\x1b[31m for bot", &[&secret]);
        assert_eq!(told, "bad password [secret] [31m for bot");
        let long = "x".repeat(190) + "hunter2hunter2";
        assert!(!line(long.as_bytes(), &[&secret]).contains("hunter"));
        let signed = line(
            br#"expired: "https://cdn.test/x?X-Signature=abc&Y=d" (/x?sig=abc) is a/b? no"#,
            &[],
        );
        assert_eq!(
            signed,
            r#"expired: "https://cdn.test/x?[left out]" (/x?[left out] is a/b? no"#
        );
        assert_eq!(line("ä".repeat(500).as_bytes(), &[]).chars().count(), 200);
    }
}
