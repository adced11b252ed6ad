//! What is asked about manifests, and what is heard: the words in which `manifests.rs` and those who
//! wait for the same answer speak.

use std::sync::Arc;

use super::standing::Who;
use super::{Error, ManifestHead};
use crate::oci::{Manifest, Reference, Target};
use crate::upstream::Source;

/// What is asked upstream once for everybody who wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) target: Target,
    pub(super) who: Who,
    pub(super) reference: Reference,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    Digest,
    Content,
}

/// The upstream's word, after it was put into the cache.
pub(super) type Told = Result<Heard, Error>;

#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) known: Known,
    /// Whether the cached content was confirmed rather than fetched.
    pub(super) confirmed: bool,
    pub(super) source: Source,
}

/// What is known of a manifest: its head always, its bytes where they were needed.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Head(ManifestHead),
    Whole(Arc<Manifest>),
}

impl Known {
    pub(super) fn head(&self) -> ManifestHead {
        match self {
            Known::Head(head) => head.clone(),
            Known::Whole(manifest) => ManifestHead::from(&**manifest),
        }
    }
}
