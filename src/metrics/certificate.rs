//! When a certificate expires. Reads as much of X.509 as that takes, and decides nothing by it.

use prometheus::{GaugeVec, Opts, Registry};

use super::register;

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRole {
    /// weir's own, towards clients or an upstream.
    Own,
    /// The one that an upstream showed.
    Upstream,
}

/// `weir_certificate_expiry_timestamp_seconds`, one half of it: two rooms share the name.
pub fn certificate_expiry(registry: &Registry, role: CertificateRole) -> GaugeVec {
    let options = Opts::new(
        "weir_certificate_expiry_timestamp_seconds",
        "When a certificate expires: weir's own, and those that upstreams showed.",
    );
    let role = match role {
        CertificateRole::Own => "own",
        CertificateRole::Upstream => "upstream",
    };
    register(
        registry,
        GaugeVec::new(options.const_label("role", role), &["certificate"]),
    )
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Seconds since the Unix epoch; `None`: this is no certificate. RFC 5280, 4.1.
pub fn expiry_of(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (signed, _) = take(certificate, SEQUENCE)?;
    let rest = take(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = take(rest, INTEGER)?;
    let (_algorithm, rest) = take(rest, SEQUENCE)?;
    let (_issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, _) = take(rest, SEQUENCE)?;
    let (_, not_after) = take_time(validity)?;
    let ((kind, text), _) = take_time(not_after)?;
    seconds(kind, str::from_utf8(text).ok()?)
}

type Tagged<'a> = (u8, &'a [u8]);

fn take_time(from: &[u8]) -> Option<(Tagged<'_>, &[u8])> {
    let kind = *from.first()?;
    let (content, rest) = take(from, kind)?;
    Some(((kind, content), rest))
}

/// The content of the element at the beginning, and what is behind it.
fn take(from: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = from.split_first()?;
    let (short, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*short) {
        length @ 0..=0x7f => (length, rest),
        bytes @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(bytes - 0x80)?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (*first == tag).then(|| rest.split_at_checked(length))?
}

fn seconds(kind: u8, text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let full = match kind {
        // Two digits of a year mean 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", full).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(["weir.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_expiry_is_read_in_both_ways_of_writing_it() {
        assert_eq!(expiry_of(&made(2031)), Some(1_930_348_800));
        assert_eq!(expiry_of(&made(2061)), Some(2_877_120_000));
    }

    #[test]
    fn what_is_cut_or_no_certificate_has_none() {
        let whole = made(2031);
        for length in 0..whole.len().min(200) {
            // Cut anywhere before its end, the outer length does not fit any more.
            assert_eq!(expiry_of(&whole[..length]), None);
        }
        assert_eq!(expiry_of(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
