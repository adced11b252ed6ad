//! Manifests: what a tag means now, and the bytes behind a digest.
//!
//! A tag that is cached never costs a pull: it is confirmed by `HEAD`, and only a digest that is
//! new is fetched by `GET`. Where the upstream cannot say, the cached one stands in.

use std::sync::Arc;

use tracing::{debug, info, warn};

use super::freshness::Freshness;
use super::joint::Part;
use super::question::{Heard, Known, Question, Told, What};
use super::{Answer, Ask, Error, ManifestHead, Outcome, Pull};
use crate::clock::Timestamp;
use crate::oci::{Digest, MANIFEST_BYTES_MAX, Manifest, Reference, Tag, Target};
use crate::store::TagRecord;
use crate::upstream::{self, Fetched, Head, Remote};

impl Pull {
    /// The manifest itself, for a `GET`.
    pub async fn manifest(
        self: &Arc<Self>,
        ask: &Ask,
        reference: &Reference,
    ) -> Result<Answer<Arc<Manifest>>, Error> {
        let answer = match reference {
            Reference::Digest(digest) => self.manifest_by_digest(ask, digest).await?,
            Reference::Tag(tag) => {
                let answer = self.by_tag(ask, tag, What::Content).await?;
                match &answer.content {
                    Known::Whole(manifest) => {
                        let manifest = Arc::clone(manifest);
                        answer.map(|_| manifest)
                    }
                    // The tag is known and its manifest is not: ask for that by its digest.
                    Known::Head(head) => self.manifest_by_digest(ask, &head.digest).await?,
                }
            }
        };
        if answer.outcome != Outcome::Miss {
            self.metrics.pulls_saved.inc();
        }
        Ok(answer)
    }

    /// What a `HEAD` shows. It never costs a pull.
    pub async fn manifest_head(
        self: &Arc<Self>,
        ask: &Ask,
        reference: &Reference,
    ) -> Result<Answer<ManifestHead>, Error> {
        match reference {
            Reference::Tag(tag) => Ok(self
                .by_tag(ask, tag, What::Digest)
                .await?
                .map(|known| known.head())),
            Reference::Digest(digest) => {
                if let Some(manifest) = self.stored_manifest(digest).await {
                    self.confirm_named(ask, digest).await?;
                    return Ok(Answer::new(ManifestHead::from(&*manifest), Outcome::Hit));
                }
                let answer = self.ask_upstream(ask, reference, What::Digest).await?;
                Ok(answer.map(|known| known.head()))
            }
        }
    }

    async fn manifest_by_digest(
        self: &Arc<Self>,
        ask: &Ask,
        digest: &Digest,
    ) -> Result<Answer<Arc<Manifest>>, Error> {
        if let Some(manifest) = self.stored_manifest(digest).await {
            self.confirm_named(ask, digest).await?;
            return Ok(Answer::new(manifest, Outcome::Hit));
        }
        let reference = Reference::Digest(*digest);
        let answer = self.ask_upstream(ask, &reference, What::Content).await?;
        match &answer.content {
            Known::Whole(manifest) => {
                let manifest = Arc::clone(manifest);
                Ok(answer.map(|_| manifest))
            }
            Known::Head(_) => unreachable!("a question for content is answered with content"),
        }
    }

    async fn by_tag(
        self: &Arc<Self>,
        ask: &Ask,
        tag: &Tag,
        what: What,
    ) -> Result<Answer<Known>, Error> {
        let now = self.clock.now();
        let reference = Reference::Tag(tag.clone());
        if self.missing.is_remembered(&ask.target, tag, now) {
            return Err(Error::RememberedMissing {
                target: ask.target.clone(),
                reference,
            });
        }
        let Some(cached) = self.cached_tag(&ask.target, tag, what).await else {
            return self.ask_upstream(ask, &reference, what).await;
        };
        match self
            .rules
            .load()
            .judge(&ask.target, tag, cached.checked_at, now)
        {
            Freshness::Fresh => return Ok(cached.answer(Outcome::Hit, now)),
            Freshness::AnswerThenAsk => {
                self.begin_asking(ask, &reference, what)?;
                return Ok(cached.answer(Outcome::Hit, now));
            }
            Freshness::AskFirst | Freshness::Expired => {}
        }
        match self.ask_upstream(ask, &reference, what).await {
            Ok(answer) => Ok(answer),
            Err(error) if self.may_stand_in(ask, &error) => {
                let judged = self
                    .rules
                    .load()
                    .judge(&ask.target, tag, cached.checked_at, now);
                if judged == Freshness::Expired {
                    return Err(error);
                }
                warn!(target = %ask.target, %tag, %error, "served stale: the upstream could not say");
                let mut answer = cached.answer(Outcome::Stale, now);
                answer.warning = Some(format!("stale, from weir's cache: {}", error.for_clients()));
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the cached tag may be served although asking failed: not when the upstream says that
    /// the tag is gone, and not to a client whose own right the upstream did not confirm.
    pub(super) fn may_stand_in(&self, ask: &Ask, error: &Error) -> bool {
        match error {
            Error::Upstream(error) => match &error.kind {
                upstream::ErrorKind::NotFound => false,
                upstream::ErrorKind::Refused { .. } => ask.identity == upstream::Identity::Stored,
                upstream::ErrorKind::RateLimited { .. }
                | upstream::ErrorKind::Away(_)
                | upstream::ErrorKind::Wrong(_) => true,
            },
            Error::QuotaReserved { .. }
            | Error::Stopping
            | Error::Busy { .. }
            | Error::Crowded { .. }
            | Error::Store(_) => true,
            Error::RememberedMissing { .. }
            | Error::NotNamed { .. }
            | Error::UnknownRegistry(_) => false,
        }
    }

    async fn ask_upstream(
        self: &Arc<Self>,
        ask: &Ask,
        reference: &Reference,
        what: What,
    ) -> Result<Answer<Known>, Error> {
        let (mut answer, part) = self.begin_asking(ask, reference, what)?;
        let told = match answer.wait_for(Option::is_some).await {
            Ok(told) => told.clone().ok_or(Error::Stopping)?,
            Err(_) => return Err(Error::Stopping),
        };
        let heard = told?;
        let outcome = match part {
            _ if heard.confirmed => Outcome::Hit,
            Part::Began => Outcome::Miss,
            Part::Joined => Outcome::Joined,
        };
        let mut answer = Answer::new(heard.known, outcome);
        answer.source = Some(heard.source);
        Ok(answer)
    }

    fn begin_asking(
        self: &Arc<Self>,
        ask: &Ask,
        reference: &Reference,
        what: What,
    ) -> Result<(tokio::sync::watch::Receiver<Option<Told>>, Part), Error> {
        let remote = self.remote(ask)?;
        let question = Question {
            target: ask.target.clone(),
            identity: ask.identity.clone(),
            reference: reference.clone(),
            what,
        };
        let work = || {
            let (pull, question) = (Arc::clone(self), question.clone());
            async move {
                let stop = pull.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => Err(Error::Stopping),
                    told = pull.hear(&question, &remote) => told,
                }
            }
        };
        Ok(self.questions.begin(&self.tasks, question.clone(), work))
    }

    /// Asks, and puts what was heard into the cache.
    async fn hear(self: Arc<Self>, question: &Question, remote: &Remote) -> Told {
        let heard = match &question.reference {
            Reference::Digest(_) => match question.what {
                What::Digest => self.hear_head(question, remote).await,
                What::Content => self.fetch(question, remote, &question.reference).await,
            },
            Reference::Tag(tag) => self.hear_tag(question, remote, tag).await,
        };
        if let (Reference::Tag(tag), Err(Error::Upstream(error))) = (&question.reference, &heard)
            && matches!(error.kind, upstream::ErrorKind::NotFound)
        {
            self.store.index().remove_tag(&question.target, tag);
            let missing_for = self.rules.load().missing_for;
            self.missing
                .remember(&question.target, tag, self.clock.now(), missing_for);
        }
        heard
    }

    async fn hear_tag(self: &Arc<Self>, question: &Question, remote: &Remote, tag: &Tag) -> Told {
        let known_before = self.store.index().tag(&question.target, tag);
        // With nothing to stand in, a client waits for all of it together.
        let remote = &match known_before {
            Some(_) => remote.clone(),
            None => remote.clone().for_one_question(),
        };
        if known_before.is_none() && question.what == What::Content {
            // A GET that nobody can avoid: a HEAD before it would only cost time.
            let heard = self.fetch(question, remote, &question.reference).await?;
            self.remember_tag(&question.target, tag, &heard.known.head());
            return Ok(heard);
        }
        let head = remote.head(&question.reference).await?;
        let Some(digest) = head.digest else {
            // This registry does not say which manifest it means; only a GET tells.
            self.spare_quota(question, remote, known_before.as_ref())
                .await?;
            let heard = self.fetch(question, remote, &question.reference).await?;
            self.remember_tag(&question.target, tag, &heard.known.head());
            return Ok(heard);
        };
        let heard = match self.stored_manifest(&digest).await {
            // Whatever this tag meant before, what it means now is here.
            Some(manifest) => {
                if known_before
                    .as_ref()
                    .is_none_or(|known| known.digest != digest)
                {
                    self.note_children(&question.target, &manifest);
                }
                Heard {
                    known: Known::Whole(manifest),
                    confirmed: true,
                    source: head.source,
                }
            }
            None if question.what == What::Content => {
                self.spare_quota(question, remote, known_before.as_ref())
                    .await?;
                self.fetch_meant(question, remote, digest).await?
            }
            None => match complete_head(&head) {
                Some(known) => Heard {
                    known: Known::Head(known),
                    confirmed: false,
                    source: head.source,
                },
                None => self.fetch_meant(question, remote, digest).await?,
            },
        };
        debug!(target = %question.target, %tag, %digest, confirmed = heard.confirmed, "tag checked");
        self.remember_tag(&question.target, tag, &heard.known.head());
        Ok(heard)
    }

    /// Refuses what counts while only the reserve of pulls is left, where the cache can stand in.
    async fn spare_quota(
        &self,
        question: &Question,
        remote: &Remote,
        known_before: Option<&TagRecord>,
    ) -> Result<(), Error> {
        match known_before {
            Some(record) if self.store.contains(&record.digest) && remote.spares_quota().await => {
                Err(Error::QuotaReserved {
                    target: question.target.clone(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Fetches what a tag means, together with those who ask for it by its digest: it costs one pull.
    async fn fetch_meant(
        self: &Arc<Self>,
        question: &Question,
        remote: &Remote,
        digest: Digest,
    ) -> Told {
        let meant = Question {
            reference: Reference::Digest(digest),
            what: What::Content,
            ..question.clone()
        };
        let work = || {
            let (pull, meant, remote) = (Arc::clone(self), meant.clone(), remote.clone());
            async move { pull.fetch(&meant, &remote, &meant.reference).await }
        };
        let fetched = self.questions.run(&self.tasks, meant.clone(), work).await;
        fetched.map_or(Err(Error::Stopping), |(told, _)| told)
    }

    async fn hear_head(self: &Arc<Self>, question: &Question, remote: &Remote) -> Told {
        let head = remote.head(&question.reference).await?;
        match complete_head(&head) {
            Some(known) => Ok(Heard {
                known: Known::Head(known),
                confirmed: false,
                source: head.source,
            }),
            None => self.fetch(question, remote, &question.reference).await,
        }
    }

    /// Fetches a manifest, stores it, and notes what it names.
    async fn fetch(
        self: &Arc<Self>,
        question: &Question,
        remote: &Remote,
        reference: &Reference,
    ) -> Told {
        let Fetched { manifest, source } = remote.manifest(reference).await?;
        info!(
            "pulled {}{}{} from {} with credential {}",
            question.target,
            match question.reference {
                Reference::Tag(_) => ":",
                Reference::Digest(_) => "@",
            },
            question.reference,
            source.endpoint,
            source.credential
        );
        let manifest = Arc::new(manifest);
        if let Err(error) = self
            .store
            .put(&manifest.digest, manifest.bytes.clone())
            .await
        {
            // It is served from memory all the same; the next one to ask fetches it again.
            self.metrics.not_stored.inc();
            warn!(digest = %manifest.digest, %error, "manifest not stored");
        }
        self.store
            .index()
            .set_media_type(&manifest.digest, &manifest.media_type);
        self.note_children(&question.target, &manifest);
        self.manifests
            .insert(manifest.digest, Arc::clone(&manifest));
        Ok(Heard {
            known: Known::Whole(manifest),
            confirmed: false,
            source,
        })
    }

    /// Which digests this repository may be asked for, because this manifest of it names them.
    pub(super) fn note_children(&self, target: &Target, manifest: &Manifest) {
        match manifest.children() {
            Ok(children) => {
                self.sizes.note(&children);
                let named = children.iter().map(|child| child.digest);
                let mut digests = std::iter::once(manifest.digest).chain(named);
                self.store.index().link(target, &mut digests);
            }
            Err(error) => {
                warn!(%target, digest = %manifest.digest, %error, "manifest names nothing readable");
                self.store
                    .index()
                    .link(target, &mut std::iter::once(manifest.digest));
            }
        }
    }

    fn remember_tag(&self, target: &Target, tag: &Tag, head: &ManifestHead) {
        let record = TagRecord {
            digest: head.digest,
            media_type: head.media_type.clone(),
            length: head.length,
            checked_at: self.clock.now(),
        };
        self.store.index().set_tag(target, tag, &record);
        self.store
            .index()
            .link(target, &mut std::iter::once(head.digest));
    }

    async fn cached_tag(&self, target: &Target, tag: &Tag, what: What) -> Option<CachedTag> {
        let record = self.store.index().tag(target, tag)?;
        let known = match (self.stored_manifest(&record.digest).await, what) {
            (Some(manifest), _) => Known::Whole(manifest),
            (None, What::Content) => return None,
            (None, What::Digest) => Known::Head(ManifestHead {
                digest: record.digest,
                media_type: record.media_type,
                length: record.length,
            }),
        };
        Some(CachedTag {
            known,
            checked_at: record.checked_at,
        })
    }

    /// The manifest from memory or disk. Its media type is the one it came with, else the one that
    /// it tells itself.
    pub(super) async fn stored_manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        if let Some(manifest) = self.manifests.get(digest) {
            return Some(manifest);
        }
        let bytes = match self.store.read(digest, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                warn!(%digest, %error, "stored manifest unreadable; it will be fetched again");
                return None;
            }
        };
        let media_type = match self.store.index().media_type(digest) {
            Some(media_type) => media_type,
            None => Manifest::sniff_media_type(&bytes).ok()?,
        };
        let manifest = Arc::new(Manifest {
            digest: *digest,
            media_type,
            bytes,
        });
        self.manifests.insert(*digest, Arc::clone(&manifest));
        Some(manifest)
    }

    /// Content that is here belongs to whoever has its repository: where no manifest of this
    /// repository named it yet, its registry must say that it has it there.
    async fn confirm_named(&self, ask: &Ask, digest: &Digest) -> Result<(), Error> {
        if self.store.index().is_linked(&ask.target, digest) {
            return Ok(());
        }
        // Boxed, as everywhere on the way of a hit: what is rare must not make every request's future
        // large.
        let (remote, reference) = (self.remote(ask)?, Reference::Digest(*digest));
        Box::pin(remote.head(&reference)).await?;
        if let Some(manifest) = self.manifests.get(digest) {
            self.note_children(&ask.target, &manifest);
        }
        Ok(())
    }
}

struct CachedTag {
    known: Known,
    checked_at: Timestamp,
}

impl CachedTag {
    fn answer(self, outcome: Outcome, now: Timestamp) -> Answer<Known> {
        let mut answer = Answer::new(self.known, outcome);
        answer.age = Some(now.since(self.checked_at));
        answer
    }
}

/// A head is only good for clients with all three: containerd fails on a `HEAD` without length.
fn complete_head(head: &Head) -> Option<ManifestHead> {
    Some(ManifestHead {
        digest: head.digest?,
        media_type: head.media_type.clone()?,
        length: head.length.filter(|&length| length > 0)?,
    })
}
