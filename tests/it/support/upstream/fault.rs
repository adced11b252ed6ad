//! What can go wrong at an upstream, and the queue that says when.
//!
//! A fault is consumed by the next request of its kind that would otherwise have been answered; a
//! challenge (401 to a request that shows no token) consumes only what was queued for challenges.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Bursts, Gate, On};

#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with a body in the specification's form.
    Status(u16),
    /// Exactly this answer.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// A sign-in page with status 200, as captive portals send it.
    Html,
    /// The connection closes in order after this many bytes of the body.
    CutAfter(usize),
    /// The connection is reset after this many bytes of the body.
    ResetAfter(usize),
    /// The byte at this place of the body is another one.
    CorruptAt(usize),
    /// So many bytes fewer than there should be, and the header agrees.
    TooShort(usize),
    /// So many bytes more than there should be, and the header agrees.
    TooLong(usize),
    /// The header promises so many bytes more than come.
    ClaimsMore(usize),
    /// No length: the end of the body is the last chunk.
    NoLength,
    /// The body never ends.
    Endless,
    /// `Docker-Content-Digest` says this.
    DigestHeader(String),
    /// One header more, or another value for it.
    Header(&'static str, String),
    /// The body goes out as the gate lets it.
    Behind(Gate),
    /// The body goes out in bursts.
    InBursts(Bursts),
    /// Not even the status line leaves before the gate opens.
    SilentBehind(Gate),
    /// The answer comes this much later.
    Delay(Duration),
}

impl Fault {
    /// What Docker Hub answers when the quota of manifest GETs is used up.
    pub fn quota_used_up() -> Self {
        Fault::Answer {
            status: 429,
            headers: vec![("content-type", "application/json".to_owned())],
            body: QUOTA_BODY.to_owned(),
        }
    }

    /// What Docker Hub answers to an address that asks thousands of times a minute.
    pub fn abuse() -> Self {
        Fault::Answer {
            status: 429,
            headers: vec![("content-type", "text/html".to_owned())],
            body: "<html><body>429 Too Many Requests</body></html>".to_owned(),
        }
    }
}

pub(super) const QUOTA_BODY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;

/// The faults that wait for their request.
#[derive(Default)]
pub(super) struct Faults {
    once: Vec<(On, VecDeque<Fault>)>,
    always: Vec<(On, Fault)>,
}

impl Faults {
    pub(super) fn queue(&mut self, on: On, fault: Fault) {
        match self.once.iter_mut().find(|(kind, _)| *kind == on) {
            Some((_, queue)) => queue.push_back(fault),
            None => self.once.push((on, VecDeque::from([fault]))),
        }
    }

    pub(super) fn keep(&mut self, on: On, fault: Fault) {
        self.always.push((on, fault));
    }

    pub(super) fn clear(&mut self) {
        *self = Faults::default();
    }

    pub(super) fn next(&mut self, on: On) -> Option<Fault> {
        for kind in [on, On::Any] {
            let queue = self.once.iter_mut().find(|(queued, _)| *queued == kind);
            if let Some(fault) = queue.and_then(|(_, queue)| queue.pop_front()) {
                return Some(fault);
            }
        }
        let always = self.always.iter();
        let mut fitting = always.filter(|(kind, _)| *kind == on || *kind == On::Any);
        fitting.next().map(|(_, fault)| fault.clone())
    }
}
