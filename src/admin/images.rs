//! From the name of an image to what of it is stored.

use std::collections::HashSet;

use super::Desk;
use super::answer::Trouble;
use crate::oci::{Children, Digest, ImageName, MANIFEST_BYTES_MAX, Reference, Target};
use crate::route::Routes;
use crate::store;

/// Manifests that are read for one image, at most: an index of indexes ends somewhere.
const MANIFESTS_MAX: usize = 1000;

/// An image as the house knows it.
pub(super) struct Image {
    pub(super) target: Target,
    pub(super) reference: Reference,
    /// What the reference means; `None`: a tag that nobody asked for yet.
    pub(super) digest: Option<Digest>,
}

/// What an image consists of.
#[derive(Default)]
pub(super) struct Parts {
    /// Stored, parents before children.
    pub(super) manifests: Vec<Digest>,
    /// Stored configs and layers.
    pub(super) blobs: Vec<Digest>,
    /// Named by a stored manifest, and not stored.
    pub(super) missing: Vec<Digest>,
}

impl Image {
    pub(super) fn of(desk: &Desk, text: &str) -> Result<Image, Trouble> {
        let name: ImageName = text
            .parse()
            .map_err(|wrong| Trouble::Image(text.to_owned(), wrong))?;
        let target = Routes::new(&desk.config.load()).image(&name)?.target;
        let reference = name.reference();
        let digest = match &reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => {
                let record = desk.store.index().tag(&target, tag);
                record.map(|record| record.digest)
            }
        };
        Ok(Image {
            target,
            reference,
            digest,
        })
    }

    pub(super) async fn parts(&self, desk: &Desk) -> Result<Parts, store::Error> {
        let mut parts = Parts::default();
        let (mut seen, mut wanted) = (HashSet::new(), Vec::from_iter(self.digest));
        while let Some(digest) = wanted.pop() {
            if !seen.insert(digest) || parts.manifests.len() >= MANIFESTS_MAX {
                continue;
            }
            let Some(bytes) = desk.store.read(&digest, MANIFEST_BYTES_MAX).await? else {
                parts.missing.push(digest);
                continue;
            };
            parts.manifests.push(digest);
            let Ok(children) = Children::parse(&bytes) else {
                continue;
            };
            wanted.extend(children.manifests.iter().map(|child| child.digest));
            for blob in children.config.iter().chain(&children.layers) {
                if !seen.insert(blob.digest) {
                    continue;
                }
                let list = match desk.store.contains(&blob.digest) {
                    true => &mut parts.blobs,
                    false => &mut parts.missing,
                };
                list.push(blob.digest);
            }
        }
        Ok(parts)
    }
}
