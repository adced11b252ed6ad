//! Tags that an upstream said it does not have, remembered for a short while, for whom it said so:
//! to others it may say something else. Never digests: a blob or manifest that is missing now may be
//! there after the push that a client waits for.

use std::time::Duration;

use super::standing::Who;
use crate::clock::Timestamp;
use crate::oci::{Tag, Target};

/// Entries at most; a client that asks for made-up tags pushes out its own.
const ENTRIES_MAX: u64 = 10_000;

pub(super) struct Missing {
    until: moka::sync::Cache<(Who, Target, Tag), Timestamp>,
}

impl Missing {
    pub(super) fn new() -> Self {
        Missing {
            until: moka::sync::Cache::new(ENTRIES_MAX),
        }
    }

    pub(super) fn remember(
        &self,
        who: Who,
        target: &Target,
        tag: &Tag,
        now: Timestamp,
        missing_for: Duration,
    ) {
        if !missing_for.is_zero() {
            self.until
                .insert((who, target.clone(), tag.clone()), now.plus(missing_for));
        }
    }

    pub(super) fn is_remembered(
        &self,
        who: Who,
        target: &Target,
        tag: &Tag,
        now: Timestamp,
    ) -> bool {
        let key = (who, target.clone(), tag.clone());
        match self.until.get(&key) {
            Some(until) if now < until => true,
            Some(_) => {
                self.until.invalidate(&key);
                false
            }
            None => false,
        }
    }
}
