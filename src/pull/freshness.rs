//! How long an answer about a tag holds. Pure: the rules take the time, they do not look at a clock.

use std::time::Duration;

use globset::GlobMatcher;

use crate::clock::Timestamp;
use crate::config;
use crate::oci::{Tag, Target};

/// The operator's rules about tags.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    fresh_for: Duration,
    revalidate_for: Duration,
    stale_for: Duration,
    pub(super) missing_for: Duration,
    immutable: Vec<GlobMatcher>,
}

/// What may be done with a cached tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Answer without asking.
    Fresh,
    /// Answer, and ask in the background.
    AnswerThenAsk,
    /// Ask; answer with the cached one where the upstream cannot say.
    AskFirst,
    /// Ask; the cached one is too old to stand in.
    Expired,
}

impl Rules {
    pub(super) fn new(tags: &config::Tags) -> Self {
        Rules {
            fresh_for: tags.fresh_for,
            revalidate_for: tags.revalidate_for,
            stale_for: tags.stale_for,
            missing_for: tags.missing_for,
            immutable: tags.immutable.clone(),
        }
    }

    /// Judges a tag that the upstream confirmed at `checked_at`.
    pub(super) fn judge(
        &self,
        target: &Target,
        tag: &Tag,
        checked_at: Timestamp,
        now: Timestamp,
    ) -> Freshness {
        let age = now.since(checked_at);
        if age < self.fresh_for || self.is_immutable(target, tag) {
            Freshness::Fresh
        } else if age < self.fresh_for.saturating_add(self.revalidate_for) {
            Freshness::AnswerThenAsk
        } else if age <= self.fresh_for.saturating_add(self.stale_for) {
            Freshness::AskFirst
        } else {
            Freshness::Expired
        }
    }

    /// Patterns are matched with and without the registry: `*:v[0-9]*`, `library/*:3.*`,
    /// `ghcr.io/acme/*:*`.
    fn is_immutable(&self, target: &Target, tag: &Tag) -> bool {
        if self.immutable.is_empty() {
            return false;
        }
        let short = format!("{}:{tag}", target.repository);
        let full = format!("{}/{short}", target.registry);
        self.immutable
            .iter()
            .any(|pattern| pattern.is_match(&short) || pattern.is_match(&full))
    }
}

#[cfg(test)]
mod tests {
    use globset::Glob;

    use super::*;

    const MINUTE: u64 = 60_000;

    fn rules(immutable: &[&str]) -> Rules {
        Rules {
            fresh_for: Duration::from_millis(MINUTE),
            revalidate_for: Duration::from_millis(MINUTE),
            stale_for: Duration::from_millis(10 * MINUTE),
            missing_for: Duration::ZERO,
            immutable: immutable
                .iter()
                .map(|p| Glob::new(p).unwrap().compile_matcher())
                .collect(),
        }
    }

    fn judge(rules: &Rules, age_millis: u64) -> Freshness {
        let target = Target::new("docker.io".parse().unwrap(), "alpine".parse().unwrap());
        let then = Timestamp(1_000_000);
        rules.judge(
            &target,
            &"v3.20".parse().unwrap(),
            then,
            Timestamp(then.0 + age_millis),
        )
    }

    #[test]
    fn a_tag_ages_from_fresh_to_expired() {
        let rules = rules(&[]);
        for (age_millis, expected) in [
            (0, Freshness::Fresh),
            (MINUTE - 1, Freshness::Fresh),
            (MINUTE, Freshness::AnswerThenAsk),
            (2 * MINUTE, Freshness::AskFirst),
            (11 * MINUTE, Freshness::AskFirst),
            (11 * MINUTE + 1, Freshness::Expired),
        ] {
            assert_eq!(judge(&rules, age_millis), expected, "{age_millis}");
        }
    }

    #[test]
    fn an_immutable_tag_stays_fresh() {
        for pattern in ["*:v[0-9]*", "library/alpine:*", "docker.io/library/*:*"] {
            assert_eq!(
                judge(&rules(&[pattern]), 1000 * MINUTE),
                Freshness::Fresh,
                "{pattern}"
            );
        }
        assert_eq!(judge(&rules(&["*:w*"]), 1000 * MINUTE), Freshness::Expired);
    }

    #[test]
    fn a_clock_that_stepped_back_leaves_a_tag_fresh() {
        let target = Target::new("docker.io".parse().unwrap(), "alpine".parse().unwrap());
        let judged = rules(&[]).judge(
            &target,
            &"v1".parse().unwrap(),
            Timestamp(5000),
            Timestamp(1000),
        );
        assert_eq!(judged, Freshness::Fresh);
    }
}
