//! What is kept of manifests and tags: put there with what it names, and taken out for those whose
//! repository has it.
//!
//! That bytes are here makes them nobody's: it takes a manifest of the repository that names them, or
//! the word of its registry.

use std::sync::Arc;

use tracing::warn;

use super::question::{Known, What};
use super::rights::{Evidence, Right};
use super::{Answer, Ask, Error, ManifestHead, Outcome, Pull};
use crate::clock::Timestamp;
use crate::oci::{Digest, MANIFEST_BYTES_MAX, Manifest, Reference, Tag, Target};
use crate::store::TagRecord;

impl Pull {
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

    pub(super) fn remember_tag(&self, target: &Target, tag: &Tag, head: &ManifestHead) {
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

    pub(super) async fn cached_tag(
        &self,
        target: &Target,
        tag: &Tag,
        what: What,
    ) -> Option<CachedTag> {
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
    /// repository named it yet, its registry must say that it has it there. Where that registry
    /// decides who has it, it must say both.
    pub(super) async fn confirm_named(
        self: &Arc<Self>,
        ask: &Ask,
        digest: &Digest,
    ) -> Result<Option<Right>, Error> {
        let evidence = Evidence::Manifest(Reference::Digest(*digest));
        if let Some(right) = self.prove_right(ask, evidence.clone()).await? {
            self.prove_place(ask, evidence, digest).await?;
            return Ok(Some(right));
        }
        if self.store.index().is_linked(&ask.target, digest) {
            return Ok(None);
        }
        // Boxed, as everywhere on the way of a hit: what is rare must not make every request's future
        // large.
        let (remote, reference) = (self.remote(ask)?, Reference::Digest(*digest));
        Box::pin(remote.head(&reference)).await?;
        if let Some(manifest) = self.manifests.get(digest) {
            self.note_children(&ask.target, &manifest);
        }
        Ok(None)
    }
}

/// What a tag meant when the upstream was last asked.
pub(super) struct CachedTag {
    pub(super) known: Known,
    pub(super) checked_at: Timestamp,
}

impl CachedTag {
    pub(super) fn answer(self, outcome: Outcome, now: Timestamp) -> Answer<Known> {
        let mut answer = Answer::new(self.known, outcome);
        answer.age = Some(now.since(self.checked_at));
        answer
    }
}
