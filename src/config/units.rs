//! Durations and sizes as people write them: `30s`, `1h30m`, `50GiB`.
//!
//! What is written by `duration_text` and `size_text` is read back as the same value.

use std::time::Duration;

use bytesize::ByteSize;

/// In the order in which a text may name them, with their milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];
/// The first that leaves no rest is written.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

/// `None`: not a duration.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut millis = 0u64;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let behind = rest[digits..].trim_start();
        let letters = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        // Each unit once, the larger ones first.
        let (_, factor) = units.find(|(unit, _)| *unit == &behind[..letters])?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = behind[letters..].trim_start();
    }
    Some(Duration::from_millis(millis))
}

pub(crate) fn duration_text(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        if millis >= factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    text
}

/// `None`: not a size.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.0)
}

pub(crate) fn size_text(bytes: u64) -> String {
    let fits = |factor: u64| bytes >= factor && bytes.is_multiple_of(factor);
    match SIZE_UNITS.iter().find(|(_, factor)| fits(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => "0B".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("30s", 30_000),
            ("6h", 6 * 3_600_000),
            ("30d", 30 * 86_400_000),
            ("250ms", 250),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("0s", 0),
            ("2 s", 2_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "30 sec",
            "1.5h",
            "-1s",
            "1s1s",
            "30m1h",
            "1é",
            "99999999999999999999s",
            "18446744073709551615d",
            "30S",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("50GiB", 50 << 30),
            ("512MB", 512_000_000),
            ("1 KiB", 1024),
            ("0", 0),
            ("17B", 17),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "1 elephant", "1é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_unit_panic(text: String, digits in "[0-9.eE+-]{1,30} ?[kKMGTPi]{0,3}[Bsmhd]?") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_duration(&digits);
            let _ = parse_size(&digits);
        }

        #[test]
        fn what_is_written_is_read_back(millis in 0u64..u64::MAX / 2, bytes in 0u64..1 << 53) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
            prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
        }
    }
}
