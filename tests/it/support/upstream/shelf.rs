//! What an upstream holds: repositories with tags, manifests and blobs. It changes while it runs.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};
use weir::oci::Digest;

use super::content::{Content, Family, Manifest};

#[derive(Default)]
pub(super) struct Shelf {
    repositories: HashMap<String, Repository>,
}

#[derive(Default)]
pub(super) struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: HashMap<Digest, Manifest>,
    blobs: HashMap<Digest, Bytes>,
}

impl Shelf {
    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    pub(super) fn put_blob(&mut self, repository: &str, blob: &Content) {
        let repository = self.make(repository);
        repository.blobs.insert(blob.digest, blob.bytes.clone());
    }

    pub(super) fn put_manifest(&mut self, repository: &str, manifest: &Manifest) {
        let repository = self.make(repository);
        repository
            .manifests
            .insert(manifest.digest, manifest.clone());
    }

    pub(super) fn tag(&mut self, repository: &str, tag: &str, digest: Digest) {
        self.make(repository).tags.insert(tag.to_owned(), digest);
    }

    pub(super) fn untag(&mut self, repository: &str, tag: &str) {
        self.make(repository).tags.remove(tag);
    }

    /// Forgets content everywhere.
    pub(super) fn remove(&mut self, digest: &Digest) {
        for repository in self.repositories.values_mut() {
            repository.blobs.remove(digest);
            repository.manifests.remove(digest);
        }
    }

    fn make(&mut self, repository: &str) -> &mut Repository {
        self.repositories.entry(repository.to_owned()).or_default()
    }
}

impl Repository {
    pub(super) fn manifest(&self, reference: &str) -> Option<&Manifest> {
        let digest = match self.tags.get(reference) {
            Some(digest) => *digest,
            None => reference.parse().ok()?,
        };
        self.manifests.get(&digest)
    }

    pub(super) fn blob(&self, digest: &str) -> Option<&Bytes> {
        self.blobs.get(&digest.parse().ok()?)
    }

    /// The tags behind `last`, at most `n` of them, and whether there are more.
    pub(super) fn tags(&self, last: Option<&str>, n: usize) -> (Vec<&str>, bool) {
        let behind = self.tags.keys().map(String::as_str);
        let mut behind = behind.filter(|tag| last.is_none_or(|last| *tag > last));
        let page: Vec<_> = behind.by_ref().take(n).collect();
        (page, behind.next().is_some())
    }

    /// The index of what says something about `subject`.
    pub(super) fn referrers(&self, subject: &str, artifact_type: Option<&str>) -> Value {
        let mut found: Vec<_> = self
            .manifests
            .values()
            .filter_map(|manifest| {
                let document: Value = serde_json::from_slice(&manifest.bytes).ok()?;
                let kind = document["artifactType"].as_str()?.to_owned();
                let fits = document["subject"]["digest"] == subject
                    && artifact_type.is_none_or(|wanted| wanted == kind);
                fits.then(|| {
                    let mut entry = json!({
                        "mediaType": manifest.media_type,
                        "digest": manifest.digest.to_string(),
                        "size": manifest.bytes.len(),
                        "artifactType": kind,
                    });
                    if let Some(annotations) = document.get("annotations") {
                        entry["annotations"] = annotations.clone();
                    }
                    entry
                })
            })
            .collect();
        found.sort_by_key(|entry| entry["digest"].to_string());
        json!({
            "schemaVersion": 2,
            "mediaType": Family::Oci.index(),
            "manifests": found,
        })
    }
}
