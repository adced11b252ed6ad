//! The name of one request, in the log, in the answer, and in the report of whoever had trouble.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use uuid::Builder;

/// Longest id that is taken over from a client.
const ID_BYTES_MAX: usize = 128;

/// Taken from the client where it sent one that is fit for logs and headers, made otherwise.
#[derive(Debug, Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    pub(super) const HEADER: http::HeaderName = http::HeaderName::from_static("x-request-id");

    pub(super) fn of(headers: &http::HeaderMap) -> RequestId {
        match headers.get(RequestId::HEADER) {
            Some(id) if is_fit(id.as_bytes()) => RequestId(id.clone()),
            _ => RequestId::make(),
        }
    }

    fn make() -> RequestId {
        // Nobody has to be unable to guess it, so no system call is spent on it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let id = id.simple().to_string();
        RequestId(
            HeaderValue::from_maybe_shared(Bytes::from(id)).expect("digits are a header value"),
        )
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_fit(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(byte);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &'static [u8]) -> RequestId {
        let mut headers = http::HeaderMap::new();
        headers.insert(RequestId::HEADER, HeaderValue::from_bytes(id).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn a_fit_id_is_kept_and_any_other_replaced() {
        assert_eq!(
            of(b"4bf92f35-77b3/4da6:a3ce").as_str(),
            "4bf92f35-77b3/4da6:a3ce"
        );
        for unfit in [&b""[..], b"a b", b"\"", b"<script>", b"\xff", &[b'a'; 129]] {
            assert_eq!(of(unfit).as_str().len(), 32, "{unfit:?}");
        }
        assert_ne!(RequestId::make().as_str(), RequestId::make().as_str());
    }
}
