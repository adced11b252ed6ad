//! One repository at one registry, as one identity.

use super::{Away, Download, Error, ErrorKind, Fetched, Head, Listing, Source, TagsQuery};
use crate::oci::{Digest, Reference, Target};

/// One repository at one registry as one identity; cheap to make and to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) target: Target,
}

impl Remote {
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks what a tag or digest names now. Never counts as a pull.
    pub async fn head(&self, _reference: &Reference) -> Result<Head, Error> {
        Err(self.away())
    }

    /// Fetches a manifest. Its bytes match the reference's digest, or the one the registry stated.
    pub async fn manifest(&self, _reference: &Reference) -> Result<Fetched, Error> {
        Err(self.away())
    }

    /// Fetches a blob from `offset` on.
    pub async fn blob(&self, _digest: &Digest, _offset: u64) -> Result<Download, Error> {
        Err(self.away())
    }

    /// Fetches the bytes `first..=last` of a blob.
    pub async fn blob_range(&self, _: &Digest, _first: u64, _last: u64) -> Result<Download, Error> {
        Err(self.away())
    }

    /// Whether this repository has the blob: asked by HEAD, and when that says no, by a GET of one
    /// byte, since caches deny what they have not fetched yet.
    pub async fn blob_exists(&self, _digest: &Digest) -> Result<bool, Error> {
        Err(self.away())
    }

    /// Notes that what came from `source` under `digest` was wrong: others are asked first for it.
    pub fn mark_wrong(&self, _digest: &Digest, _source: &Source) {}

    /// Whether so few pulls are left that nothing that counts should be asked for what is cached.
    pub fn spares_quota(&self) -> bool {
        false
    }

    pub async fn tags(&self, _query: &TagsQuery) -> Result<Listing, Error> {
        Err(self.away())
    }

    pub async fn referrers(&self, _: &Digest, _type: Option<&str>) -> Result<Listing, Error> {
        Err(self.away())
    }

    fn away(&self) -> Error {
        Error {
            registry: self.target.registry.clone(),
            endpoint: None,
            kind: ErrorKind::Away(Away::Refused),
        }
    }
}
