//! From endpoint to endpoint, until one answers or patience ends.
//!
//! Endpoints are asked in their order; one whose breaker is open is passed by. When all have failed
//! in a way that may pass, they are asked again after a pause with jitter, as long as the retry
//! budget and the patience of the question last. What was sent are reads, so asking again is safe.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower::retry::budget::Budget as _;

use super::endpoint::Endpoint;
use super::error::{Away, Error, ErrorKind};
use super::fault::Fault;
use super::registry::Registry;

/// SPEC 4.3: a manifest that is not to be had is answered within 5 s in all, however many hosts take
/// part.
const MANIFEST_WITHIN: Duration = Duration::from_millis(4500);
const MANIFEST_ROUNDS_MAX: u32 = 3;
/// SPEC 4.3: for a blob it is tried on inside for up to 15 s.
const BLOB_WITHIN: Duration = Duration::from_millis(14_000);
const BLOB_ROUNDS_MAX: u32 = 12;
const HEAD_PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MIN: Duration = Duration::from_millis(150);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How long a question may be asked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    deadline: Instant,
    rounds_max: u32,
    pause_min: Duration,
    /// Wait for holds and breakers too, as far as the deadline allows.
    insists: bool,
}

impl Patience {
    /// For what is mostly cached already: without an answer that serves, and at once. One more try
    /// is for connections that were closed while they were idle.
    pub(super) fn head() -> Self {
        Patience {
            deadline: Instant::now() + MANIFEST_WITHIN,
            rounds_max: 2,
            pause_min: HEAD_PAUSE,
            insists: false,
        }
    }

    /// For what a client has a way back from.
    pub(super) fn manifest() -> Self {
        Patience {
            deadline: Instant::now() + MANIFEST_WITHIN,
            rounds_max: MANIFEST_ROUNDS_MAX,
            pause_min: PAUSE_MIN,
            insists: false,
        }
    }

    pub(super) fn end(&self) -> Instant {
        self.deadline
    }

    /// Ends at this time, where that is sooner.
    pub(super) fn until(self, end: Option<Instant>) -> Self {
        let deadline = end.map_or(self.deadline, |end| end.min(self.deadline));
        Patience { deadline, ..self }
    }

    /// For what half of the clients have no way back from.
    pub(super) fn blob() -> Self {
        Patience {
            deadline: Instant::now() + BLOB_WITHIN,
            rounds_max: BLOB_ROUNDS_MAX,
            pause_min: PAUSE_MIN,
            insists: true,
        }
    }
}

/// One question on its way along the endpoints.
#[derive(Debug)]
pub(super) struct Walk {
    registry: Arc<Registry>,
    order: Vec<Arc<Endpoint>>,
    next: usize,
    round: u32,
    patience: Patience,
    worst: Option<Fault>,
    /// The pause that the failures of this round ask for; `None`: asking again is no use.
    pause: Option<Duration>,
}

/// Leave to ask one endpoint. Dropped without a verdict, it says nothing about the endpoint.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) endpoint: Arc<Endpoint>,
    /// Until when it is to answer.
    pub(super) by: Instant,
    /// Until when one that is slow, but answers step by step, is waited for: the end of all patience.
    pub(super) latest: Instant,
    judged: bool,
}

impl Turn {
    /// It answered, whatever it said.
    pub(super) fn well(mut self) {
        self.judged = true;
        self.endpoint.well();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.judged {
            self.endpoint.leave();
        }
    }
}

impl Walk {
    pub(super) fn new(
        registry: Arc<Registry>,
        order: Vec<Arc<Endpoint>>,
        patience: Patience,
    ) -> Self {
        registry.budget.deposit();
        Walk {
            registry,
            order,
            next: 0,
            round: 0,
            patience,
            worst: None,
            pause: None,
        }
    }

    /// The time that is left is shared with the endpoints to come: one that is silent must not use
    /// it up.
    fn share(&self) -> Instant {
        let now = Instant::now();
        let left = self.patience.deadline.saturating_duration_since(now);
        let to_come = self.order.len() - self.next;
        now + left / u32::try_from(to_come + 1).unwrap_or(u32::MAX)
    }

    /// The next endpoint to ask; the most telling of the failures when there is none.
    pub(super) async fn next(&mut self) -> Result<Turn, Error> {
        loop {
            let started = self.next > 0 || self.round > 0;
            if started && Instant::now() >= self.patience.deadline {
                return Err(self.give_up());
            }
            let Some(endpoint) = self.order.get(self.next).cloned() else {
                self.begin_again().await?;
                continue;
            };
            self.next += 1;
            match endpoint.enter() {
                Ok(()) => {
                    return Ok(Turn {
                        endpoint,
                        by: self.share(),
                        latest: self.patience.deadline,
                        judged: false,
                    });
                }
                Err(shut) => {
                    let retry_in = shut.retry_in;
                    let because = shut.because;
                    let kind = ErrorKind::Away(Away::BreakerOpen { retry_in, because });
                    let at = Some(Arc::clone(&endpoint.origin));
                    self.note(Fault { at, kind });
                }
            }
        }
    }

    /// The endpoint failed. An error: nobody else would answer otherwise.
    pub(super) fn failed(&mut self, mut turn: Turn, fault: Fault) -> Result<(), Error> {
        turn.judged = true;
        if fault.kind.is_illness() {
            turn.endpoint.ill(&fault.kind.to_string());
        } else if fault.kind.is_answer() {
            turn.endpoint.well();
        } else {
            turn.endpoint.leave();
        }
        tracing::debug!(
            registry = %self.registry.name(), endpoint = %turn.endpoint.origin,
            at = fault.at.as_deref(), why = %fault.kind, "no answer that can be used"
        );
        if !fault.kind.moves_on() {
            return Err(fault.into_error(self.registry.name()));
        }
        self.note(fault);
        Ok(())
    }

    fn note(&mut self, fault: Fault) {
        let pause = self.pause_after(&fault.kind);
        self.pause = match (self.pause, pause) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        // Among denials the last word counts: endpoints stand in the order mirror, registry.
        let tells_more = self.worst.as_ref().is_none_or(|worst| {
            let (new, old) = (fault.kind.telling(), worst.kind.telling());
            new > old || (new == 0 && old == 0)
        });
        if tells_more {
            self.worst = Some(fault);
        }
    }

    /// How long to wait before asking again makes sense; `None`: it does not.
    fn pause_after(&self, kind: &ErrorKind) -> Option<Duration> {
        let growing = self
            .patience
            .pause_min
            .saturating_mul(1 << self.round.min(6))
            .min(PAUSE_MAX);
        let growing = self.registry.jittered(growing);
        match kind {
            ErrorKind::RateLimited { retry_after, .. } if self.patience.insists => {
                Some(retry_after.unwrap_or_default() + growing)
            }
            ErrorKind::Away(Away::BreakerOpen { retry_in, .. }) if self.patience.insists => {
                Some(*retry_in + growing)
            }
            ErrorKind::RateLimited { .. } => None,
            ErrorKind::NotFound
            | ErrorKind::Refused { .. }
            | ErrorKind::Away(_)
            | ErrorKind::Wrong(_) => kind.is_passing().then_some(growing),
        }
    }

    async fn begin_again(&mut self) -> Result<(), Error> {
        let Some(pause) = self.pause.take() else {
            return Err(self.give_up());
        };
        let too_late = Instant::now() + pause >= self.patience.deadline;
        if too_late || self.round + 1 >= self.patience.rounds_max {
            return Err(self.give_up());
        }
        if !self.registry.budget.withdraw() {
            tracing::debug!(registry = %self.registry.name(), "the retry budget is used up");
            return Err(self.give_up());
        }
        tokio::time::sleep(pause).await;
        self.round += 1;
        self.next = 0;
        Ok(())
    }

    fn give_up(&mut self) -> Error {
        let worst = self.worst.take().unwrap_or_else(|| Fault {
            at: None,
            kind: ErrorKind::Away(Away::Protocol {
                why: "no endpoint could be asked".to_owned(),
            }),
        });
        worst.into_error(self.registry.name())
    }
}
