//! Tokens, kept for as long as they hold.
//!
//! By realm, service, scope and identity; asked for by one request at a time for each, whose result
//! all who wait get; renewed in the background before they expire, as long as they are used; dropped
//! when the registry refuses them. Lifetimes are measured by our own clock from the moment of the
//! request: what the service says about the time of day is not looked at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{Away, Phase};
use super::fault::Fault;
use super::token_service::{TokenAsk, TokenService};

/// Tokens that are kept for one registry; a token is for one repository as one identity.
const TOKENS_MAX: u64 = 10_000;
/// A token is not used in the last part of its life, since the request takes its time.
const MARGIN_MAX: Duration = Duration::from_secs(10);

/// After a renewal in the background failed, the next is tried no sooner.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Permission to pull, for a while.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    pub(super) header: HeaderValue,
    usable_until: Instant,
    refresh_at: Instant,
}

impl Token {
    /// A token that was asked for at `asked_at`.
    pub(super) fn new(
        secret: SecretString,
        header: HeaderValue,
        asked_at: Instant,
        lifetime: Duration,
    ) -> Self {
        let usable = lifetime - MARGIN_MAX.min(lifetime / 4);
        Token {
            secret,
            header,
            usable_until: asked_at + usable,
            refresh_at: asked_at + usable / 10 * 9,
        }
    }
}

/// What a token is good for. The identity is the credential's fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
    identity: Option<u64>,
}

impl Key {
    fn of(ask: &TokenAsk) -> Self {
        Key {
            realm: ask.realm.to_string(),
            service: ask.service.clone(),
            scope: ask.scope.clone(),
            identity: ask.credential.as_ref().map(|c| c.fingerprint),
        }
    }
}

/// The tokens for one registry.
#[derive(Debug)]
pub(super) struct Tokens {
    slots: moka::sync::Cache<Key, Arc<Slot>>,
    service: TokenService,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Arc<Token>>>,
    /// Held by the one who asks; the failure of the last round, for those who waited for it.
    asking: tokio::sync::Mutex<Option<Fault>>,
    rounds: AtomicU64,
    refreshing: AtomicBool,
}

/// A token, and whether it was granted just now.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) token: Arc<Token>,
    pub(super) is_new: bool,
}

impl Tokens {
    /// `before`: whose tokens are taken over.
    pub(super) fn new(
        service: TokenService,
        before: Option<&Tokens>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let slots = before.map(|before| before.slots.clone());
        Tokens {
            slots: slots.unwrap_or_else(|| moka::sync::Cache::new(TOKENS_MAX)),
            service,
            tasks,
            stop,
        }
    }

    /// The token for what is asked: the one that is there, or a new one.
    pub(super) async fn get(&self, ask: &TokenAsk, by: Instant) -> Result<Held, Fault> {
        let slot = self.slots.get_with(Key::of(ask), Arc::default);
        if let Some(token) = slot.usable() {
            self.refresh_in_time(&slot, &token, ask);
            return Ok(Held {
                token,
                is_new: false,
            });
        }
        let seen = slot.rounds.load(Ordering::Acquire);
        let started = Instant::now();
        let asking = tokio::time::timeout_at(by, slot.asking.lock()).await;
        let mut asking = asking.map_err(|_elapsed| {
            let (during, after) = (Phase::Headers, started.elapsed());
            Fault::away(&ask.realm, Away::Timeout { during, after })
        })?;
        if let Some(token) = slot.usable() {
            return Ok(Held {
                token,
                is_new: true,
            });
        }
        let waited_for_a_round = slot.rounds.load(Ordering::Acquire) != seen;
        if let (true, Some(fault)) = (waited_for_a_round, &*asking) {
            return Err(fault.clone());
        }
        let granted = self.service.ask(ask, by).await;
        slot.rounds.fetch_add(1, Ordering::Release);
        match granted {
            Ok(token) => {
                *asking = None;
                let token = slot.set(token);
                Ok(Held {
                    token,
                    is_new: true,
                })
            }
            Err(fault) => {
                *asking = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// The registry refused it: nobody gets it any more.
    pub(super) fn drop_token(&self, ask: &TokenAsk, refused: &Arc<Token>) {
        if let Some(slot) = self.slots.get(&Key::of(ask)) {
            let mut current = slot.lock();
            if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, refused)) {
                *current = None;
            }
        }
    }

    /// Its life is nearly over and it is still in use: the next is fetched before anybody waits.
    fn refresh_in_time(&self, slot: &Arc<Slot>, token: &Token, ask: &TokenAsk) {
        let due = Instant::now() >= token.refresh_at;
        if !due || self.stop.is_cancelled() || slot.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (slot, ask, service) = (Arc::clone(slot), ask.clone(), self.service.clone());
        let stop = self.stop.clone();
        let refresh = async move {
            let by = Instant::now() + service.patience();
            tokio::select! {
                () = stop.cancelled() => {}
                granted = service.ask(&ask, by) => match granted {
                    Ok(token) => {
                        slot.set(token);
                    }
                    // The service has said why; it is not asked by every request meanwhile.
                    Err(_) => tokio::time::sleep(REFRESH_INTERVAL).await,
                },
            }
            slot.refreshing.store(false, Ordering::Release);
        };
        self.tasks.spawn(refresh);
    }
}

impl Slot {
    fn usable(&self) -> Option<Arc<Token>> {
        let now = Instant::now();
        self.lock().clone().filter(|token| now < token.usable_until)
    }

    fn set(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        *self.lock() = Some(Arc::clone(&token));
        token
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
