//! The index's keys and values as bytes.
//!
//! Keys are separated by NUL, which no name has, so that two keys are never mistaken for one another
//! and everything about one target lies together. Values have fixed places; a value of another shape
//! reads as absent.

use crate::clock::Timestamp;
use crate::oci::{Algorithm, Digest, MediaType, Tag, Target};
use crate::store::order::Record;

const SEPARATOR: u8 = 0;
/// Sorts directly behind [`SEPARATOR`]: the end of everything that begins with a separated key.
const BEHIND: u8 = 1;

/// Places in the order that lie in one row of the index: a value of 3 KB, not a page for a handful.
pub(super) const ENTRIES_A_ROW: u64 = 64;

/// What a tag named when it was last asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    pub digest: Digest,
    pub media_type: MediaType,
    /// Of the manifest, in bytes.
    pub length: u64,
    pub checked_at: Timestamp,
}

impl TagRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(128);
        value.extend(self.checked_at.0.to_be_bytes());
        value.extend(self.length.to_be_bytes());
        push_digest(&mut value, &self.digest);
        value.extend(self.media_type.as_str().as_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (checked_at, rest) = value.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (digest, rest) = split_digest(rest)?;
        Some(TagRecord {
            digest,
            media_type: MediaType::new(str::from_utf8(rest).ok()?)?,
            length: u64::from_be_bytes(*length),
            checked_at: Timestamp(u64::from_be_bytes(*checked_at)),
        })
    }
}

/// A row of the order as a key: keys sort as the numbers in them do.
pub(super) fn row_key(row: u64) -> [u8; 8] {
    row.to_be_bytes()
}

pub(super) fn read_row_key(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// Entries of one row, in the order of their numbers.
pub(super) fn encode_row(entries: &[Record]) -> Vec<u8> {
    let mut value = Vec::with_capacity(entries.len() * 48);
    for entry in entries {
        value.push((entry.number % ENTRIES_A_ROW) as u8);
        value.push(u8::from(entry.main));
        value.push(entry.uses);
        value.extend(entry.last_use.to_be_bytes());
        value.extend(entry.size.to_be_bytes());
        push_digest(&mut value, &entry.digest);
    }
    value
}

/// The entries of a row, as far as they can be read.
pub(super) fn decode_row(key: &[u8], mut value: &[u8]) -> Vec<Record> {
    let Some(row) = read_row_key(key) else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    while let Some((entry, rest)) = split_entry(row, value) {
        entries.push(entry);
        value = rest;
    }
    entries
}

fn split_entry(row: u64, bytes: &[u8]) -> Option<(Record, &[u8])> {
    let ([place, main, uses], rest) = bytes.split_first_chunk()?;
    let (last_use, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (digest, rest) = split_digest(rest)?;
    let entry = Record {
        digest,
        size: u64::from_be_bytes(*size),
        number: row
            .checked_mul(ENTRIES_A_ROW)?
            .checked_add(u64::from(*place))?,
        last_use: u32::from_be_bytes(*last_use),
        uses: *uses,
        main: *main != 0,
    };
    Some((entry, rest))
}

/// Everything about one target begins with this.
pub(super) fn target_key(target: &Target) -> Vec<u8> {
    let registry = target.registry.as_str().as_bytes();
    let repository = target.repository.as_str().as_bytes();
    let mut key = Vec::with_capacity(registry.len() + repository.len() + 2 + 65);
    key.extend(registry);
    key.push(SEPARATOR);
    key.extend(repository);
    key.push(SEPARATOR);
    key
}

/// The first key that lies behind everything about a target; `key` begins with [`target_key`].
pub(super) fn behind_target(key: &[u8]) -> Option<Vec<u8>> {
    let mut separators = key
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == SEPARATOR);
    let (end, _) = separators.nth(1)?;
    let mut behind = key[..end].to_vec();
    behind.push(BEHIND);
    Some(behind)
}

pub(super) fn read_target(key: &[u8]) -> Option<Target> {
    let mut parts = key.splitn(3, |byte| *byte == SEPARATOR);
    let registry = str::from_utf8(parts.next()?).ok()?;
    let repository = str::from_utf8(parts.next()?).ok()?;
    Some(Target {
        registry: registry.parse().ok()?,
        repository: repository.parse().ok()?,
    })
}

pub(super) fn tag_key(target: &Target, tag: &Tag) -> Vec<u8> {
    let mut key = target_key(target);
    key.extend(tag.as_str().as_bytes());
    key
}

/// The tag of a key of [`tag_key`].
pub(super) fn read_tag(key: &[u8]) -> Option<Tag> {
    let tag = key.splitn(3, |byte| *byte == SEPARATOR).nth(2)?;
    str::from_utf8(tag).ok()?.parse().ok()
}

pub(super) fn link_key(target: &Target, digest: &Digest) -> Vec<u8> {
    let mut key = target_key(target);
    push_digest(&mut key, digest);
    key
}

/// The digest of a key of [`link_key`].
pub(super) fn read_link(key: &[u8]) -> Option<Digest> {
    let digest = key.splitn(3, |byte| *byte == SEPARATOR).nth(2)?;
    Some(split_digest(digest)?.0)
}

pub(super) fn encode_seconds(seconds: u32) -> [u8; 4] {
    seconds.to_be_bytes()
}

pub(super) fn decode_seconds(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

pub(super) fn digest_key(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    push_digest(&mut key, digest);
    key
}

fn push_digest(to: &mut Vec<u8>, digest: &Digest) {
    to.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    to.extend(digest.hash());
}

/// The digest at the front, and what stands behind it.
pub(super) fn split_digest(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    let (algorithm, rest) = bytes.split_first()?;
    let algorithm = match algorithm {
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return None,
    };
    let (hash, rest) = rest.split_at_checked(algorithm.len_bytes())?;
    Some((Digest::from_hash(algorithm, hash)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(registry: &str, repository: &str) -> Target {
        Target {
            registry: registry.parse().unwrap(),
            repository: repository.parse().unwrap(),
        }
    }

    #[test]
    fn keys_of_neighbours_differ() {
        let tag: Tag = "c".parse().unwrap();
        let keys = [
            tag_key(&target("a.io", "b"), &tag),
            tag_key(&target("a.io", "b/c"), &tag),
            tag_key(&target("a.io", "bc"), &tag),
            tag_key(&target("a.io:1", "b"), &tag),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(key));
        }
    }

    #[test]
    fn the_end_of_a_target_lies_before_its_neighbours() {
        let tag: Tag = "zzz".parse().unwrap();
        let key = tag_key(&target("a.io", "b"), &tag);
        let end = behind_target(&key).unwrap();
        assert!(key < end);
        for longer in ["b-c", "b.c", "b/c", "b0"] {
            assert!(end < target_key(&target("a.io", longer)), "{longer}");
        }
    }

    proptest! {
        #[test]
        fn a_tag_record_survives_its_bytes(
            content: Vec<u8>, wide: bool, length: u64, checked_at: u64,
            media_type in "[a-z]{1,9}/[a-z.+]{1,20}",
        ) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let record = TagRecord {
                digest: Digest::of(algorithm, &content),
                media_type: MediaType::new(&media_type).unwrap(),
                length,
                checked_at: Timestamp(checked_at),
            };
            prop_assert_eq!(TagRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn a_row_survives_its_bytes(
            row in 0..1_u64 << 50,
            entries in prop::collection::btree_map(
                0..ENTRIES_A_ROW, (any::<bool>(), any::<u64>(), any::<u32>(), any::<u8>(), any::<bool>()), 0..9,
            ),
        ) {
            let record = |(place, rest): (u64, (bool, u64, u32, u8, bool))| {
                let (wide, size, last_use, uses, main) = rest;
                let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
                let digest = Digest::of(algorithm, &size.to_be_bytes());
                Record { digest, size, number: row * ENTRIES_A_ROW + place, last_use, uses, main }
            };
            let entries: Vec<_> = entries.into_iter().map(record).collect();
            prop_assert_eq!(decode_row(&row_key(row), &encode_row(&entries)), entries);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = TagRecord::decode(&bytes);
            let _ = read_target(&bytes);
            let _ = read_tag(&bytes);
            let _ = read_link(&bytes);
            let _ = decode_row(&row_key(u64::MAX), &bytes);
            let _ = behind_target(&bytes);
        }
    }
}
