//! The trace that a request belongs to (W3C Trace Context): taken from the client, handed on to the
//! registry as it is, never made up.

use http::{HeaderMap, HeaderName, HeaderValue};

/// `traceparent`, well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(HeaderValue);

/// `00-` trace `-` span `-` flags.
const PARTS: [usize; 4] = [2, 32, 16, 2];

impl TraceParent {
    pub(super) const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// `None` where the client sent none, or one that nobody could follow.
    pub fn of(headers: &HeaderMap) -> Option<TraceParent> {
        let value = headers.get(Self::HEADER)?;
        is_well_formed(value.to_str().ok()?).then(|| TraceParent(value.clone()))
    }

    /// What is common to everything that belongs to the trace.
    pub fn trace_id(&self) -> &str {
        let text = self.0.to_str().unwrap_or_default();
        text.split('-').nth(1).unwrap_or_default()
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_well_formed(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    let parts: Vec<_> = text.split('-').collect();
    // Later versions may have more parts.
    let is_known = parts.len() == PARTS.len() || parts.first() != Some(&"00");
    parts.len() >= PARTS.len()
        && is_known
        && parts[0] != "ff"
        && parts
            .iter()
            .zip(PARTS)
            .all(|(part, length)| part.len() == length && is_hex(part))
        && !is_zero(parts[1])
        && !is_zero(parts[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_followed_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = HeaderMap::from_iter([(TraceParent::HEADER, good.parse().unwrap())]);
        let trace = TraceParent::of(&headers).unwrap();
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(TraceParent::of(&HeaderMap::new()), None);
        assert!(is_well_formed(&format!("01{}-more", &good[2..])));
        for bad in [
            "",
            "00",
            &good[1..],
            &good.to_uppercase(),
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
