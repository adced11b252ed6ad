//! Manifests: what a tag means now, and the bytes behind a digest.
//!
//! A tag that is cached never costs a pull: it is confirmed by `HEAD`, and only a digest that is
//! new is fetched by `GET`. Where the upstream cannot say, the cached one stands in.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::freshness::Freshness;
use super::joint::Part;
use super::question::{Heard, Known, Question, Told, What};
use super::rights::{Evidence, Right};
use super::standing::Standing;
use super::{Answer, Ask, Error, ManifestHead, Outcome, Pull};
use crate::oci::{Digest, Manifest, Reference, Tag};
use crate::store::TagRecord;
use crate::upstream::{self, Fetched, Head, Remote};

impl Pull {
    /// The manifest itself, for a `GET`.
    pub async fn manifest(
        self: &Arc<Self>,
        ask: &Ask,
        reference: &Reference,
    ) -> Result<Answer<Arc<Manifest>>, Error> {
        self.check_not_refused(ask)?;
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
        self.check_not_refused(ask)?;
        match reference {
            Reference::Tag(tag) => Ok(self
                .by_tag(ask, tag, What::Digest)
                .await?
                .map(|known| known.head())),
            Reference::Digest(digest) => {
                if let Some(manifest) = self.stored_manifest(digest).await {
                    let right = self.confirm_named(ask, digest).await?;
                    let head = ManifestHead::from(&*manifest);
                    return Ok(Answer::new(head, Outcome::Hit).by(right));
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
            let right = self.confirm_named(ask, digest).await?;
            return Ok(Answer::new(manifest, Outcome::Hit).by(right));
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
        let who = self.rights.who(&ask.identity);
        let standing = self.rights.to_content(&ask.target, &ask.identity);
        let standing = standing.as_ref();
        if self.missing.is_remembered(who, &ask.target, tag, now) {
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
            Freshness::Fresh => {
                let evidence = Evidence::Manifest(reference.clone());
                let right = self.prove_right(ask, evidence).await?;
                // That the tag means this is the upstream's word.
                self.rights.place(&ask.target, &cached.known.head().digest);
                return Ok(cached.answer(Outcome::Hit, now).by(right));
            }
            Freshness::AnswerThenAsk if self.is_known(standing) => {
                self.begin_asking(ask, &reference, what)?;
                let right = standing.map(|_| Right::Known);
                return Ok(cached.answer(Outcome::Hit, now).by(right));
            }
            // Asking about the tag asks for the right as well.
            Freshness::AnswerThenAsk | Freshness::AskFirst | Freshness::Expired => {}
        }
        match self.ask_upstream(ask, &reference, what).await {
            Ok(answer) => Ok(answer),
            Err(error) if self.may_stand_in(standing, &error) => {
                let judged = self
                    .rules
                    .load()
                    .judge(&ask.target, tag, cached.checked_at, now);
                if judged == Freshness::Expired {
                    return Err(error);
                }
                warn!(target = %ask.target, %tag, %error, "served stale: the upstream could not say");
                let right = standing.map(|_| Right::Held);
                let mut answer = cached.answer(Outcome::Stale, now).by(right);
                answer.warning = Some(format!("stale, from weir's cache: {}", error.for_clients()));
                Ok(answer)
            }
            Err(error) => Err(error),
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
        let asked = (ask.identity != upstream::Identity::Stored).then_some(Right::Asked);
        let mut answer = Answer::new(heard.known, outcome).by(asked);
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
            who: self.rights.who(&ask.identity),
            reference: reference.clone(),
            what,
        };
        let work = || {
            let (pull, question) = (Arc::clone(self), question.clone());
            let standing = self.rights.to_content(&ask.target, &ask.identity);
            async move {
                let stop = pull.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => Err(Error::Stopping),
                    told = pull.hear(&question, standing.as_ref(), &remote) => told,
                }
            }
        };
        Ok(self.questions.begin(&self.tasks, question.clone(), work))
    }

    /// Asks, and puts what was heard into the cache.
    async fn hear(
        self: Arc<Self>,
        question: &Question,
        standing: Option<&Standing>,
        remote: &Remote,
    ) -> Told {
        let asked_at = Instant::now();
        let known_before = self.is_known(standing);
        let heard = match &question.reference {
            Reference::Digest(_) => match question.what {
                What::Digest => self.hear_head(question, remote).await,
                What::Content => self.fetch(question, remote, &question.reference).await,
            },
            Reference::Tag(tag) => self.hear_tag(question, standing, remote, tag).await,
        };
        if let Some(standing) = standing {
            self.note_right(standing, asked_at, heard.as_ref().map(|_| ()));
        }
        if let Ok(heard) = &heard {
            self.rights
                .place(&question.target, &heard.known.head().digest);
        }
        if let (Reference::Tag(tag), Err(Error::Upstream(error))) = (&question.reference, &heard)
            && matches!(error.kind, upstream::ErrorKind::NotFound)
        {
            // To somebody who may not see the tag it may be said as well.
            if known_before {
                self.store.index().remove_tag(&question.target, tag);
            }
            let (missing_for, now) = (self.rules.load().missing_for, self.clock.now());
            self.missing
                .remember(question.who, &question.target, tag, now, missing_for);
        }
        heard
    }

    async fn hear_tag(
        self: &Arc<Self>,
        question: &Question,
        standing: Option<&Standing>,
        remote: &Remote,
        tag: &Tag,
    ) -> Told {
        let asked_at = Instant::now();
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
        if let Some(standing) = standing.filter(|_| head.answered) {
            // Whatever becomes of the rest.
            self.rights.grant(standing, asked_at);
        }
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
}

/// A head is only good for clients with all three: containerd fails on a `HEAD` without length.
fn complete_head(head: &Head) -> Option<ManifestHead> {
    Some(ManifestHead {
        digest: head.digest?,
        media_type: head.media_type.clone()?,
        length: head.length.filter(|&length| length > 0)?,
    })
}
