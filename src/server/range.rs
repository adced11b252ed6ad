//! What a `Range` header asks for, in bytes of a blob of known length.
//!
//! Whatever is asked, the answer is no longer than the blob: ranges that overlap are joined, and a
//! header with too many of them is refused. Source: RFC 9110, section 14.

use std::ops::Range;

/// Ranges in one header at most. Clients that fetch zstd:chunked layers ask for up to 1,024 at once
/// and ask for fewer after a 400.
const RANGES_MAX: usize = 1024;

/// How much of a blob goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range, or none that has to be understood.
    Whole,
    One(Range<u64>),
    /// In the order asked for; none overlaps another.
    Several(Vec<Range<u64>>),
    /// Nothing of what is asked for is in the blob.
    Unsatisfiable,
    TooMany,
}

impl Wanted {
    /// Reads the value of a `Range` header. A unit other than bytes and broken syntax are ignored,
    /// as the RFC asks.
    pub(super) fn read(header: &str, length: u64) -> Wanted {
        let Some(list) = bytes_unit(header) else {
            return Wanted::Whole;
        };
        let mut ranges = Vec::new();
        for (count, range) in list.split(',').map(str::trim).enumerate() {
            if count >= RANGES_MAX {
                return Wanted::TooMany;
            }
            // RFC 9110, 5.6.1: empty elements of a list are nothing.
            if range.is_empty() {
                continue;
            }
            match Spec::parse(range) {
                Some(spec) => ranges.extend(spec.within(length)),
                None => return Wanted::Whole,
            }
        }
        let mut ranges = joined(ranges);
        match ranges.len() {
            0 => Wanted::Unsatisfiable,
            1 => Wanted::One(ranges.remove(0)),
            _ => Wanted::Several(ranges),
        }
    }
}

/// What must hold of every header: the answer lies within the blob and is no longer than it.
#[cfg(any(test, fuzzing))]
pub(crate) fn holds(header: &str, length: u64) {
    let ranges = match Wanted::read(header, length) {
        Wanted::One(range) => vec![range],
        Wanted::Several(ranges) => {
            assert!((2..=RANGES_MAX).contains(&ranges.len()));
            ranges
        }
        Wanted::Whole | Wanted::Unsatisfiable | Wanted::TooMany => Vec::new(),
    };
    let mut all = 0;
    for range in &ranges {
        assert!(range.start < range.end && range.end <= length);
        all += u128::from(range.end - range.start);
    }
    assert!(all <= u128::from(length), "overlapping ranges are joined");
}

fn bytes_unit(header: &str) -> Option<&str> {
    let (unit, list) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(list)
}

enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix { length: u64 },
}

impl Spec {
    fn parse(text: &str) -> Option<Spec> {
        let (first, last) = text.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", suffix) => Some(Spec::Suffix {
                length: number(suffix)?,
            }),
            (first, "") => Some(Spec::From {
                first: number(first)?,
                last: None,
            }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Spec::From {
                    first,
                    last: Some(last),
                })
            }
        }
    }

    /// `None`: the blob has nothing of it.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Spec::From { first, last } => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                first..end
            }
            Spec::Suffix { length: suffix } => length.saturating_sub(suffix)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Digits only: `u64`'s own parser also takes a plus sign. A number too big for `u64` lies behind
/// the end of every blob.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Leaves ranges as they were asked for, unless some overlap: then all are sorted and joined.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = ranges.clone();
    sorted.sort_by_key(|range| range.start);
    let overlap = sorted.windows(2).any(|pair| pair[1].start < pair[0].end);
    if !overlap {
        return ranges;
    }
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Wanted::*;
    use super::*;

    #[test]
    fn each_form_is_read_as_the_rfc_says() {
        for (header, wanted) in [
            ("bytes=0-0", One(0..1)),
            ("bytes=0-", One(0..100)),
            ("bytes=10-19", One(10..20)),
            ("bytes=90-1000", One(90..100)),
            ("bytes=-10", One(90..100)),
            ("bytes=-1000", One(0..100)),
            ("Bytes = 1 - 2", One(1..3)),
            ("bytes=99-", One(99..100)),
            ("bytes=99-99999999999999999999999999", One(99..100)),
            ("bytes=0-1,,5-6,", Several(vec![0..2, 5..7])),
            ("bytes=50-59, 0-9", Several(vec![50..60, 0..10])),
            ("bytes=0-9, 10-19", Several(vec![0..10, 10..20])),
            ("bytes=0-9, 200-", One(0..10)),
            ("bytes=0-9, 5-19, 15-", One(0..100)),
            ("bytes=50-, 0-9, 60-70", Several(vec![0..10, 50..100])),
            ("bytes=100-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            // What is no range of bytes asks for everything.
            ("bytes", Whole),
            ("lines=0-9", Whole),
            ("bytes=9-0", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=--1", Whole),
            ("bytes=0-9;5", Whole),
        ] {
            assert_eq!(Wanted::read(header, 100), wanted, "{header}");
        }
    }

    #[test]
    fn an_empty_blob_satisfies_no_range() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(Wanted::read(header, 0), Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn a_range_bomb_is_joined_or_refused() {
        let overlapping = format!("bytes={}", vec!["0-"; RANGES_MAX].join(","));
        assert_eq!(Wanted::read(&overlapping, 1 << 40), One(0..1 << 40));
        let many = format!("bytes={}", vec!["0-0"; RANGES_MAX + 1].join(","));
        assert_eq!(Wanted::read(&many, 100), TooMany);
    }

    proptest! {
        #[test]
        fn the_answer_is_never_longer_than_the_blob(
            specs in prop::collection::vec((0u64..200, prop::option::of(0u64..200)), 0..20),
            length in 0u64..150,
        ) {
            let specs: Vec<_> = specs
                .into_iter()
                .map(|(first, last)| match last {
                    Some(last) => format!("{first}-{last}"),
                    None => format!("{first}-"),
                })
                .collect();
            holds(&format!("bytes={}", specs.join(",")), length);
        }

        /// Held against a slow reading: byte by byte.
        #[test]
        fn the_bytes_that_go_out_are_the_ones_asked_for(
            specs in prop::collection::vec((0u64..60, 0u64..60), 1..8),
            length in 1u64..50,
        ) {
            let specs: Vec<_> = specs
                .into_iter()
                .map(|(one, other)| one.min(other)..=one.max(other))
                .collect();
            let text: Vec<_> = specs
                .iter()
                .map(|spec| format!("{}-{}", spec.start(), spec.end()))
                .collect();
            let ranges = match Wanted::read(&format!("bytes={}", text.join(",")), length) {
                One(range) => vec![range],
                Several(ranges) => ranges,
                Whole | Unsatisfiable | TooMany => Vec::new(),
            };
            for byte in 0..length {
                let asked_for = specs.iter().any(|spec| spec.contains(&byte));
                let goes_out = ranges.iter().any(|range| range.contains(&byte));
                prop_assert_eq!(asked_for, goes_out, "byte {}", byte);
            }
        }

        #[test]
        fn no_header_makes_the_reader_panic(header: String, length: u64) {
            let _ = Wanted::read(&header, length);
            let _ = Wanted::read(&format!("bytes={header}"), length);
        }
    }
}
