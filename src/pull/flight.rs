//! Flights: one transfer of one blob, and everybody who reads along.
//!
//! The leader is a task that writes the staged file and moves a counter; every client, the first one
//! too, reads the file behind the counter. There is no special client: each may be early, late, slow
//! or gone. A flight ends exactly once, by its [`Lead`], and its outcome goes to all.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::ahead::Ahead;
use super::{Ask, Error};
use crate::oci::{Digest, Target};
use crate::upstream::{Remote, Source};

/// Other repositories that a flight may go on from, when its own fails.
const OTHERS_MAX: usize = 8;
/// Readers of one flight: the clients before they have an answer, and each body that is read.
const FOLLOWERS_MAX: usize = 10_000;

/// The flights under way, by digest: the same bytes are fetched once, whatever repository they are
/// asked for in.
pub(super) struct Flights {
    limit: AtomicUsize,
    under_way: Mutex<HashMap<Digest, Arc<Flight>>>,
}

impl Flights {
    pub(super) fn new(limit: usize) -> Self {
        Flights {
            limit: AtomicUsize::new(limit),
            under_way: Mutex::default(),
        }
    }

    /// More or fewer may begin from now on; those under way go on.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The flight of `digest`, and the duty to lead it where it is new.
    pub(super) fn board(
        self: &Arc<Self>,
        digest: &Digest,
        ask: &Ask,
    ) -> Result<(Arc<Flight>, Option<Lead>), Error> {
        let mut under_way = self.lock();
        if let Some(flight) = under_way.get(digest) {
            return Ok((Arc::clone(flight), None));
        }
        let limit = self.limit.load(Ordering::Relaxed);
        if under_way.len() >= limit {
            return Err(Error::Busy { limit });
        }
        let flight = Arc::new(Flight {
            progress: watch::Sender::new(Progress::default()),
            ahead: Arc::new(Ahead::new()),
            ask: ask.clone(),
            others: Mutex::default(),
        });
        under_way.insert(*digest, Arc::clone(&flight));
        let lead = Lead {
            digest: *digest,
            flight: Arc::clone(&flight),
            flights: Arc::clone(self),
        };
        Ok((flight, Some(lead)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        // The map is whole between any two statements, so a panic elsewhere leaves nothing half done.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Flight {
    progress: watch::Sender<Progress>,
    pub(super) ahead: Arc<Ahead>,
    /// Whose request began it.
    ask: Ask,
    /// Where else the bytes can be had, by those who joined for another repository.
    others: Mutex<Vec<(Ask, Remote)>>,
}

impl Flight {
    /// Whether the flight asks for just what `ask` may have, as whom it may have it.
    pub(super) fn is_for(&self, ask: &Ask) -> bool {
        self.ask.target == ask.target && self.ask.identity == ask.identity
    }

    /// Where it began.
    pub(super) fn target(&self) -> &Target {
        &self.ask.target
    }

    /// Tells where the flight may go on when it fails where it is.
    pub(super) fn offer(&self, ask: &Ask, remote: Remote) {
        let mut others = self.others();
        if others.len() < OTHERS_MAX && others.iter().all(|(known, _)| known != ask) {
            others.push((ask.clone(), remote));
        }
    }

    fn others(&self) -> MutexGuard<'_, Vec<(Ask, Remote)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads along, as long as there is room for one more.
    pub(super) fn follow(&self) -> Result<watch::Receiver<Progress>, Error> {
        if self.progress.receiver_count() >= FOLLOWERS_MAX {
            return Err(Error::Crowded {
                limit: FOLLOWERS_MAX,
            });
        }
        Ok(self.progress.subscribe())
    }
}

/// How far a flight has come.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) opened: Option<Opened>,
    /// Bytes of the file that are there and may be read.
    pub(super) written: u64,
    /// The digest is right: the end may go out, though the file has not got its name yet.
    pub(super) verified: bool,
    pub(super) end: Option<End>,
}

impl Progress {
    /// How far a reader may go. The last byte stays back until the digest is known to be right, so
    /// that nobody holds a complete body that is wrong.
    pub(super) fn frontier(&self) -> u64 {
        match &self.opened {
            _ if self.verified => self.written,
            Some(Opened {
                length: Some(length),
                ..
            }) => self.written.min(length.saturating_sub(1)),
            // Any byte may be the last.
            Some(_) | None => self.written.saturating_sub(1),
        }
    }
}

/// The upstream answered: there is a file that grows.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    /// Of the whole blob, where the upstream says.
    pub(super) length: Option<u64>,
    pub(super) source: Source,
}

/// How a flight ended.
#[derive(Clone)]
pub(super) enum End {
    /// The bytes are right and stored.
    Landed,
    /// The cache cannot take it: each client has to stream for itself.
    Uncached(Error),
    Failed(Error),
}

/// The right and duty of one task to fill a flight. Dropping it ends the flight.
pub(super) struct Lead {
    digest: Digest,
    flight: Arc<Flight>,
    flights: Arc<Flights>,
}

impl Lead {
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Another place to go on from, where there is one.
    pub(super) fn other(&self) -> Option<Remote> {
        self.flight.others().pop().map(|(_, remote)| remote)
    }

    pub(super) fn opened(&self, opened: Opened, written: u64) {
        self.flight.ahead.begin_at(written);
        self.flight.progress.send_modify(|progress| {
            progress.opened = Some(opened);
            progress.written = written;
        });
    }

    pub(super) fn advance(&self, written: u64) {
        self.flight
            .progress
            .send_modify(|progress| progress.written = written);
    }

    pub(super) fn verified(&self, written: u64) {
        self.flight.progress.send_modify(|progress| {
            progress.written = written;
            progress.verified = true;
        });
    }

    pub(super) fn end(self, end: End) {
        // Out of the map first: whoever comes from here on finds the stored blob, or begins anew.
        self.flights.lock().remove(&self.digest);
        self.flight
            .progress
            .send_modify(|progress| progress.end = Some(end));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights
            .lock()
            .retain(|_, flight| !Arc::ptr_eq(flight, &self.flight));
        self.flight.progress.send_if_modified(|progress| {
            let abandoned = progress.end.is_none();
            if abandoned {
                progress.end = Some(End::Failed(Error::Stopping));
            }
            abandoned
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;
    use crate::upstream::Identity;

    fn ask() -> Ask {
        Ask {
            target: Target::new("docker.io".parse().unwrap(), "alpine".parse().unwrap()),
            identity: Identity::Stored,
            trace: None,
        }
    }

    fn digest(of: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, of)
    }

    #[test]
    fn there_is_one_lead_for_a_digest() {
        let flights = Arc::new(Flights::new(8));
        let (_, lead) = flights.board(&digest(b"a"), &ask()).unwrap();
        assert!(lead.is_some());
        assert!(flights.board(&digest(b"a"), &ask()).unwrap().1.is_none());
        assert!(flights.board(&digest(b"b"), &ask()).unwrap().1.is_some());
    }

    #[test]
    fn a_lead_that_is_dropped_ends_the_flight_for_all() {
        let flights = Arc::new(Flights::new(8));
        let (flight, lead) = flights.board(&digest(b"a"), &ask()).unwrap();
        let follower = flight.follow().unwrap();
        drop(lead);
        assert!(matches!(
            follower.borrow().end,
            Some(End::Failed(Error::Stopping))
        ));
        assert!(
            flights.board(&digest(b"a"), &ask()).unwrap().1.is_some(),
            "the next one begins anew"
        );
    }

    #[test]
    fn more_followers_than_may_are_refused_until_one_leaves() {
        let flights = Arc::new(Flights::new(8));
        let (flight, _lead) = flights.board(&digest(b"a"), &ask()).unwrap();
        let mut followers: Vec<_> = (0..FOLLOWERS_MAX).map(|_| flight.follow()).collect();
        assert!(followers.iter().all(Result::is_ok));
        assert!(matches!(flight.follow(), Err(Error::Crowded { .. })));
        followers.pop();
        assert!(flight.follow().is_ok());
    }

    #[test]
    fn more_flights_than_allowed_are_refused() {
        let flights = Arc::new(Flights::new(1));
        let (_, lead) = flights.board(&digest(b"a"), &ask()).unwrap();
        assert!(matches!(
            flights.board(&digest(b"b"), &ask()),
            Err(Error::Busy { limit: 1 })
        ));
        assert!(
            flights.board(&digest(b"a"), &ask()).is_ok(),
            "joining is no new flight"
        );
        drop(lead);
        assert!(flights.board(&digest(b"b"), &ask()).is_ok());
    }
}
