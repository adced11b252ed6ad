//! How many pulls an account has left, and when to stop asking.
//!
//! A registry that states no limit has none: absent is not zero. After a quota 429 nothing that
//! counts is asked for that account until there is reason to hope; after a 429 against abuse nothing
//! at all for a while. Source: FIELD notes on Docker Hub's `ratelimit-*` headers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::HeaderMap;
use tokio::time::Instant;

use super::credentials::CLIENT;
use super::error::{ErrorKind, Limit};
use super::metrics::RegistryMetrics;
use super::rate_headers::{counted, kind, retry_after_of};
use crate::clock::Timestamp;

/// Accounts that are kept in mind for one registry; with `auth = "client"` each client is one.
const ACCOUNTS_MAX: usize = 1024;
/// No hold lasts longer, whatever a `Retry-After` says: Docker Hub's window.
const HOLD_MAX: Duration = Duration::from_secs(6 * 3600);
/// While pulls are held, a HEAD looks this often whether there are any again.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What a registry says about an account's pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    pub limit: u64,
    pub remaining: u64,
    /// The window rolls, so this is the longest it can take until a pull is free again.
    pub window: Option<Duration>,
    /// Whom the registry counts: an address or an account's id.
    pub counted_as: Option<String>,
    pub seen_at: Timestamp,
}

/// The quota of every account at one endpoint.
#[derive(Debug)]
pub(super) struct Quota {
    inner: Mutex<Inner>,
    metrics: RegistryMetrics,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: BTreeMap<Arc<str>, Account>,
    /// Of all accounts: abuse is counted by address.
    back_off: Option<BackOff>,
}

#[derive(Debug, Default)]
struct Account {
    state: Option<QuotaState>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Hold {
    until: Instant,
    probe_at: Instant,
    said: String,
}

#[derive(Debug)]
struct BackOff {
    until: Instant,
    length: Duration,
    said: String,
}

/// Whether a request may go out now.
#[derive(Debug)]
pub(super) enum Leave {
    Go,
    /// It would count, and pulls are held: look by a HEAD first.
    ProbeFirst,
    Stay(ErrorKind),
}

impl Quota {
    pub(super) fn new(metrics: RegistryMetrics) -> Self {
        Quota {
            inner: Mutex::default(),
            metrics,
        }
    }

    /// Asks for leave; `counts`: the registry will count the request as a pull.
    pub(super) fn leave(&self, account: &Arc<str>, counts: bool) -> Leave {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(back_off) = &inner.back_off
            && now < back_off.until
        {
            return Leave::Stay(limited(Limit::Abuse, back_off.until - now, &back_off.said));
        }
        let account = inner.accounts.get_mut(account);
        match account.and_then(|account| account.hold.as_mut()) {
            Some(hold) if counts && now < hold.until => {
                if now < hold.probe_at {
                    return Leave::Stay(limited(Limit::Quota, hold.until - now, &hold.said));
                }
                hold.probe_at = now + PROBE_INTERVAL;
                Leave::ProbeFirst
            }
            Some(_) | None => Leave::Go,
        }
    }

    /// Notes what an answer says about the quota.
    pub(super) fn observe(&self, account: &Arc<str>, headers: &HeaderMap, now: Timestamp) {
        let limit = headers.get("ratelimit-limit").and_then(counted);
        let remaining = headers.get("ratelimit-remaining").and_then(counted);
        let (Some((limit, window)), Some((remaining, _))) = (limit, remaining) else {
            return;
        };
        let counted_as = headers.get("docker-ratelimit-source");
        let state = QuotaState {
            limit,
            remaining,
            window,
            counted_as: counted_as.and_then(|v| Some(v.to_str().ok()?.chars().take(64).collect())),
            seen_at: now,
        };
        {
            let mut inner = self.lock();
            let entry = inner.account(account);
            if remaining > 0 {
                entry.hold = None;
            }
            entry.state = Some(state);
        }
        self.publish(account, Some((limit, remaining)));
    }

    /// A good answer to a request for a manifest that says nothing about a quota: there is none.
    pub(super) fn observe_unlimited(&self, account: &Arc<str>) {
        let mut had_one = false;
        if let Some(entry) = self.lock().accounts.get_mut(account) {
            had_one = entry.state.take().is_some();
            entry.hold = None;
        }
        if had_one {
            self.publish(account, None);
        }
    }

    /// Notes a 429 and says what it was about.
    pub(super) fn refused(
        &self,
        account: &Arc<str>,
        headers: &HeaderMap,
        said: &str,
        wall: Timestamp,
    ) -> ErrorKind {
        let asked_to_wait = retry_after_of(headers, wall);
        let limit = kind(headers, said);
        self.metrics.rate_limited(limit);
        let wait = match limit {
            Limit::Quota => self.lock().hold(account, asked_to_wait, said),
            Limit::Abuse => self.lock().back_off(asked_to_wait, said),
        };
        tracing::warn!(
            registry = %self.metrics.registry(), %account, ?limit, seconds = wait.as_secs(), said,
            "the upstream limits requests"
        );
        limited(limit, wait, said)
    }

    /// Whether at most `reserve` pulls are left for this account.
    pub(super) fn is_scarce(&self, account: &Arc<str>, reserve: u64, now: Timestamp) -> bool {
        let held = |entry: &Account| {
            entry
                .hold
                .as_ref()
                .is_some_and(|h| Instant::now() < h.until)
        };
        self.lock().accounts.get(account).is_some_and(|entry| {
            let few = entry
                .current(now)
                .is_some_and(|state| state.remaining < reserve);
            few || held(entry)
        })
    }

    /// What is known, by account.
    pub(super) fn snapshot(&self, now: Timestamp) -> Vec<(Arc<str>, QuotaState)> {
        let inner = self.lock();
        let known = inner.accounts.iter().filter_map(|(account, entry)| {
            Some((Arc::clone(account), entry.current(now)?.clone()))
        });
        known.collect()
    }

    /// Accounts of clients have no label of their own: there is no end to them.
    fn publish(&self, account: &Arc<str>, quota: Option<(u64, u64)>) {
        let lowest = {
            let inner = self.lock();
            let states = inner
                .accounts
                .values()
                .filter_map(|entry| entry.state.as_ref());
            states.map(|state| state.remaining).min()
        };
        self.metrics.quota_lowest(lowest);
        if !account.starts_with(CLIENT) {
            self.metrics.quota(account, quota);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn account(&mut self, account: &Arc<str>) -> &mut Account {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(account) {
            self.accounts.pop_first();
        }
        self.accounts.entry(Arc::clone(account)).or_default()
    }

    fn hold(&mut self, account: &Arc<str>, asked: Option<Duration>, said: &str) -> Duration {
        let now = Instant::now();
        let entry = self.account(account);
        let window = entry.state.as_ref().and_then(|state| state.window);
        let wait = asked.or(window).unwrap_or(HOLD_MAX).min(HOLD_MAX);
        entry.hold = Some(Hold {
            until: now + wait,
            probe_at: now + PROBE_INTERVAL.min(wait),
            said: said.to_owned(),
        });
        wait
    }

    /// Twice as long as the last time, unless that was long ago.
    fn back_off(&mut self, asked: Option<Duration>, said: &str) -> Duration {
        let now = Instant::now();
        let last = self.back_off.take();
        let last = last.filter(|last| now < last.until + BACK_OFF_MAX);
        let length = last.map_or(BACK_OFF_MIN, |last| match now < last.until {
            // Several answers to requests that were sent together.
            true => last.length,
            false => (2 * last.length).min(BACK_OFF_MAX),
        });
        let wait = asked.unwrap_or_default().clamp(length, HOLD_MAX);
        self.back_off = Some(BackOff {
            until: now + wait,
            length,
            said: said.to_owned(),
        });
        wait
    }
}

impl Account {
    /// The state, while its window lasts: what was true then says nothing after it.
    fn current(&self, now: Timestamp) -> Option<&QuotaState> {
        let window = |state: &QuotaState| state.window.unwrap_or(HOLD_MAX);
        self.state
            .as_ref()
            .filter(|state| now.since(state.seen_at) <= window(state))
    }
}

fn limited(limit: Limit, wait: Duration, said: &str) -> ErrorKind {
    ErrorKind::RateLimited {
        limit,
        retry_after: Some(wait),
        said: said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const HUB_SAID: &str = "TOOMANYREQUESTS: You have reached your unauthenticated pull rate limit. \
         https://www.docker.com/increase-rate-limit";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    fn quota() -> (Quota, Arc<str>) {
        let registry = prometheus::Registry::new();
        let metrics = super::super::Metrics::new(&registry);
        let hub = crate::oci::RegistryName::docker_hub();
        (Quota::new(metrics.of(&hub)), "anonymous".into())
    }

    #[tokio::test(start_paused = true)]
    async fn absent_is_not_zero() {
        let (quota, account) = quota();
        quota.observe(&account, &HeaderMap::new(), Timestamp(0));
        assert!(quota.snapshot(Timestamp(0)).is_empty());
        assert!(!quota.is_scarce(&account, 10, Timestamp(0)));
        let told = headers(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "7;w=21600"),
            ("docker-ratelimit-source", "192.0.2.1"),
        ]);
        quota.observe(&account, &told, Timestamp(0));
        let (_, state) = quota.snapshot(Timestamp(0)).remove(0);
        assert_eq!((state.limit, state.remaining), (100, 7));
        assert_eq!(state.window, Some(Duration::from_secs(21600)));
        assert!(quota.is_scarce(&account, 10, Timestamp(0)));
        assert!(!quota.is_scarce(&account, 7, Timestamp(0)));
        assert!(!quota.is_scarce(&account, 10, Timestamp(21_600_001)));
        quota.observe_unlimited(&account);
        assert!(quota.snapshot(Timestamp(0)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_429_holds_what_counts_until_a_head_brings_hope() {
        let (quota, account) = quota();
        let refused = quota.refused(&account, &HeaderMap::new(), HUB_SAID, Timestamp(0));
        assert!(matches!(
            refused,
            ErrorKind::RateLimited {
                limit: Limit::Quota,
                ..
            }
        ));
        assert!(matches!(quota.leave(&account, true), Leave::Stay(_)));
        assert!(matches!(quota.leave(&account, false), Leave::Go));
        tokio::time::advance(PROBE_INTERVAL).await;
        assert!(matches!(quota.leave(&account, true), Leave::ProbeFirst));
        assert!(matches!(quota.leave(&account, true), Leave::Stay(_)));
        let none = headers(&[
            ("ratelimit-limit", "100;w=60"),
            ("ratelimit-remaining", "0;w=60"),
        ]);
        quota.observe(&account, &none, Timestamp(0));
        assert!(matches!(quota.leave(&account, true), Leave::Stay(_)));
        let some = headers(&[
            ("ratelimit-limit", "100;w=60"),
            ("ratelimit-remaining", "1;w=60"),
        ]);
        quota.observe(&account, &some, Timestamp(0));
        assert!(matches!(quota.leave(&account, true), Leave::Go));
    }

    #[tokio::test(start_paused = true)]
    async fn an_abuse_429_holds_everything_for_a_while_that_grows() {
        let (quota, account) = quota();
        for seconds in [1, 2, 4] {
            let tiny = headers(&[("retry-after", "0.412ms, allowed: 44000/minute")]);
            let kind = quota.refused(&account, &tiny, "Too many requests", Timestamp(0));
            let expected = Some(Duration::from_secs(seconds));
            assert!(matches!(
                kind,
                ErrorKind::RateLimited { limit: Limit::Abuse, retry_after, .. } if retry_after == expected
            ));
            assert!(matches!(quota.leave(&account, false), Leave::Stay(_)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(matches!(quota.leave(&account, true), Leave::Go));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_when_the_registry_said_it_would() {
        let (quota, account) = quota();
        quota.refused(
            &account,
            &headers(&[("retry-after", "30")]),
            HUB_SAID,
            Timestamp(0),
        );
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(matches!(quota.leave(&account, true), Leave::Go));
    }
}
