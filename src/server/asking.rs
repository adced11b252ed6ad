//! What the heart is asked for, and how what it gives goes out.
//!
//! Whoever gets here has been let through: each of these takes an [`Ask`], which only the corridor
//! makes, after asking `access`.

use std::sync::Arc;

use http::{Response, header};

use super::body::Body;
use super::corridor::{Walk, identity, text};
use super::family::Family;
use super::query::parameter;
use super::record::Record;
use super::refusal::Refusal;
use super::respond::{self, Asked, Shown};
use super::{answer, listings};
use crate::access::Client;
use crate::metrics::{Kind, Outcome};
use crate::oci::{Digest, Manifest, Reference, Target};
use crate::pull::{self, Answer, Ask, ManifestHead};
use crate::upstream::Identity;

impl Walk<'_> {
    pub(super) async fn manifest(
        &self,
        ask: &Ask,
        reference: &Reference,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let pull = &self.server.pull;
        let failed = |error: pull::Error| {
            let asked = self.asked(Kind::Manifest, ask, Some(reference));
            respond::pull_failed(&error, &asked)
        };
        let (head, bytes) = if self.is_get() {
            let answer = pull.manifest(ask, reference).await.map_err(failed)?;
            let bytes = answer.content.bytes.clone();
            (with_head(answer), Some(bytes))
        } else {
            (
                pull.manifest_head(ask, reference).await.map_err(failed)?,
                None,
            )
        };
        record.digest = Some(head.content.digest);
        note(record, &head);
        Ok(answer::manifest(&head, bytes, &self.parts.headers))
    }

    pub(super) async fn blob(
        &self,
        ask: &Ask,
        digest: &Digest,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let reference = Reference::Digest(*digest);
        let answer = self.server.pull.blob(ask, digest).await.map_err(|error| {
            let asked = self.asked(Kind::Blob, ask, Some(&reference));
            respond::pull_failed(&error, &asked)
        })?;
        note(record, &answer);
        if self.is_get() {
            let outlets = &self.server.outlets;
            let outlet = match self.peer.secure {
                true => outlets.to_reader(),
                false => outlets.to_socket(),
            };
            answer::blob(answer, &self.parts.headers, outlet)
        } else {
            Ok(answer::blob_head(&answer, &self.parts.headers))
        }
    }

    pub(super) async fn tags(
        &self,
        ask: &Ask,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let query = listings::tags_query(self.parts)?;
        let answer = self.server.pull.tags(ask, query).await.map_err(|error| {
            let asked = self.asked(Kind::Tags, ask, None);
            respond::pull_failed(&error, &asked)
        })?;
        note(record, &answer);
        Ok(listings::tags(&answer, self.parts))
    }

    pub(super) async fn referrers(
        &self,
        ask: &Ask,
        digest: &Digest,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let artifact_type = listings::artifact_type(self.parts)?;
        let listing = self
            .server
            .pull
            .referrers(ask, digest, artifact_type.as_deref());
        let answer = listing.await.map_err(|error| {
            let reference = Reference::Digest(*digest);
            let asked = self.asked(Kind::Referrers, ask, Some(&reference));
            respond::pull_failed(&error, &asked)
        })?;
        note(record, &answer);
        Ok(listings::referrers(&answer))
    }

    /// What is cached, of that what this client may pull.
    pub(super) fn catalog(
        &self,
        client: &Client,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let ns = parameter(self.parts.uri.query(), "ns");
        let of = ns.map(|ns| self.front.routes.registry(&ns));
        let of = of.transpose().map_err(|error| respond::unrouted(&error))?;
        let mut targets = self.server.pull.catalog();
        targets.retain(|target| {
            of.is_none_or(|registry| target.registry == *registry) && self.may_see(client, target)
        });
        targets.sort();
        record.outcome = Outcome::Hit;
        listings::catalog(&targets, self.parts)
    }

    /// Whether the client may know that a repository is cached: by the rules and, where the upstream
    /// decides itself, by what it lately said. Nobody is asked for the sake of a list.
    fn may_see(&self, client: &Client, target: &Target) -> bool {
        let access = &self.front.access;
        let shown = access.shown_by(client, target).map(identity);
        access.permits(client, target).is_ok()
            && shown.is_some_and(|identity| self.server.pull.knows_right(target, &identity))
    }

    fn asked<'a>(&self, kind: Kind, ask: &'a Ask, reference: Option<&'a Reference>) -> Asked<'a> {
        Asked {
            kind,
            target: &ask.target,
            reference,
            family: Family::of(text(&self.parts.headers, header::USER_AGENT)),
            shown: match &ask.identity {
                Identity::Stored => Shown::Stored,
                Identity::Client(login) => Shown::Login(&login.username),
                Identity::Nobody => Shown::Nothing,
            },
        }
    }
}

fn with_head(answer: Answer<Arc<Manifest>>) -> Answer<ManifestHead> {
    Answer {
        content: ManifestHead::from(&*answer.content),
        outcome: answer.outcome,
        age: answer.age,
        warning: answer.warning,
        source: answer.source,
        right: answer.right,
    }
}

fn note<T>(record: &mut Record, answer: &Answer<T>) {
    record.source = answer.source.clone();
    record.right = answer.right;
    record.outcome = match answer.outcome {
        pull::Outcome::Hit => Outcome::Hit,
        pull::Outcome::Stale => Outcome::Stale,
        pull::Outcome::Miss => Outcome::Miss,
        pull::Outcome::Joined => Outcome::Joined,
    };
}
