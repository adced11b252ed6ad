//! An answer that gives nothing: status, code, message.
//!
//! Every refusal goes out as the specification's JSON. One with a status of 500 or more carries the
//! request's id, so that the log can tell what the message does not.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::body::Body;
use super::request_id::RequestId;
use crate::metrics::PullStatus;
use crate::oci::{ErrorBody, ErrorCode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    /// Of a range that lies outside: how long the content is.
    pub(super) length: Option<u64>,
    /// How to say who one is.
    pub(super) challenge: Option<HeaderValue>,
    /// How the connection goes on.
    pub(super) then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    KeepOpen,
    /// What the client sent can't be told apart from what may follow it.
    Close,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            retry_after: None,
            length: None,
            challenge: None,
            then: Then::KeepOpen,
        }
    }

    pub(super) fn retry_after(mut self, after: Duration) -> Refusal {
        self.retry_after = Some(after);
        self
    }

    pub(super) fn length(mut self, length: u64) -> Refusal {
        self.length = Some(length);
        self
    }

    pub(super) fn then_close(mut self) -> Refusal {
        self.then = Then::Close;
        self
    }

    /// What this makes of a pull.
    pub(super) fn pull_status(&self) -> PullStatus {
        match (self.code, self.status) {
            (ErrorCode::TooManyRequests, _) => PullStatus::RateLimited,
            (ErrorCode::Unauthorized | ErrorCode::Denied, _) => PullStatus::Denied,
            (_, StatusCode::NOT_FOUND) => PullStatus::NotFound,
            _ => PullStatus::Error,
        }
    }

    pub(super) fn into_response(mut self, id: &RequestId) -> Response<Body> {
        if self.status.is_server_error() {
            self.message += &format!(" (request {})", id.as_str());
        }
        let json = ErrorBody::new(self.code, self.message).to_json();
        let length = HeaderValue::from(json.len());
        let mut response = Response::new(Body::whole(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::CONTENT_LENGTH, length);
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(length) = self.length {
            let range = HeaderValue::from_str(&format!("bytes */{length}"));
            headers.insert(
                header::CONTENT_RANGE,
                range.expect("digits are a header value"),
            );
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if self.then == Then::Close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Rounded up, and never 0, which would mean at once. GHCR states fractions of a millisecond.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_in_whole_seconds_and_never_at_once() {
        for (duration, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(duration)), seconds);
        }
    }
}
