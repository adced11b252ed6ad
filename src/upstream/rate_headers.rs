//! The headers that speak of limits: `ratelimit-*` and `Retry-After`.
//!
//! Read leniently: what makes no sense says nothing.

use std::time::{Duration, SystemTime};

use headers::Header as _;
use http::HeaderValue;
use http::header::{HeaderMap, RETRY_AFTER};

use super::error::Limit;
use crate::clock::Timestamp;

/// Docker Hub's message about the pull quota names it and links to a page; every other 429 is about
/// the rate of requests.
pub(super) fn kind(headers: &HeaderMap, said: &str) -> Limit {
    let said = said.to_ascii_lowercase();
    let used_up = headers
        .get("ratelimit-remaining")
        .and_then(counted)
        .is_some_and(|(remaining, _)| remaining == 0);
    if used_up || said.contains("pull rate limit") || said.contains("increase-rate-limit") {
        Limit::Quota
    } else {
        Limit::Abuse
    }
}

/// `100;w=21600`: a number, and the window that it counts for.
pub(super) fn counted(value: &HeaderValue) -> Option<(u64, Option<Duration>)> {
    let text = value.to_str().ok()?;
    let mut parts = text.split(';').map(str::trim);
    let count = parts.next()?.split(',').next()?.trim().parse().ok()?;
    let seconds = parts.find_map(|part| part.strip_prefix("w=")?.trim().parse().ok());
    Some((count, seconds.map(Duration::from_secs)))
}

/// How long the answer asks to wait.
pub(super) fn retry_after_of(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?, wall)
}

/// Seconds, a date, or what GHCR sends: a number with a unit and more text behind it.
/// Source: RFC 9110, 10.2.3.
fn retry_after(value: &HeaderValue, wall: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    if digits == 0 {
        let date = headers::Date::decode(&mut std::iter::once(value)).ok()?;
        return Some(Timestamp::from(SystemTime::from(date)).since(wall));
    }
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].split(',').next()?.trim() {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "µs" | "us" => 1e-6,
        "ns" => 1e-9,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_headers_are_read_or_left_alone() {
        let seconds = |text| {
            let value = HeaderValue::from_str(text).unwrap();
            retry_after(&value, Timestamp(1_000)).map(|wait| wait.as_secs_f64())
        };
        assert_eq!(seconds("120"), Some(120.0));
        assert_eq!(seconds("1.5"), Some(1.5));
        assert_eq!(
            seconds("717.365µs, allowed: 44000/minute"),
            Some(717.365e-6)
        );
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:31 GMT"), Some(30.0));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("1e999"), None);
        assert_eq!(seconds(""), None);
        for wrong in ["", "x", "-1", "1.5", ";w=1"] {
            assert_eq!(
                counted(&HeaderValue::from_str(wrong).unwrap()),
                None,
                "{wrong}"
            );
        }
    }
}
