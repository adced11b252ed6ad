//! Pulling as real clients do it, with every digest checked.

use std::fmt::Display;

use weir::oci::{Algorithm, Children, Digest};

use super::client::{Answer, Client};

impl Client {
    pub async fn manifest(&self, repository: &str, reference: impl Display) -> Answer {
        self.get(&manifest_path(repository, reference)).await
    }

    pub async fn manifest_head(&self, repository: &str, reference: impl Display) -> Answer {
        self.head(&manifest_path(repository, reference)).await
    }

    pub async fn blob(&self, repository: &str, digest: &Digest) -> Answer {
        self.get(&blob_path(repository, digest)).await
    }

    /// A whole image as docker and containerd pull it: HEAD of the tag, then everything by digest,
    /// of an index all platforms. Gives the digests in the order in which they came.
    pub async fn pull(&self, repository: &str, tag: &str) -> Vec<Digest> {
        let head = self.manifest_head(repository, tag).await;
        head.whole(200);
        let digest = head.header("docker-content-digest").expect("a digest");
        let mut wanted = vec![digest.parse().expect("a digest")];
        let mut pulled = Vec::new();
        while let Some(digest) = wanted.pop() {
            let manifest = self.manifest(repository, digest).await;
            assert_content(&digest, &manifest);
            pulled.push(digest);
            let children = Children::parse(&manifest.bytes).expect("a manifest");
            wanted.extend(children.manifests.iter().map(|child| child.digest));
            for blob in children.config.iter().chain(&children.layers) {
                assert_content(&blob.digest, &self.blob(repository, &blob.digest).await);
                pulled.push(blob.digest);
            }
        }
        pulled
    }
}

pub fn manifest_path(repository: &str, reference: impl Display) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

pub fn blob_path(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

#[track_caller]
fn assert_content(digest: &Digest, answer: &Answer) {
    let found = Digest::of(Algorithm::Sha256, answer.whole(200));
    assert_eq!(found, *digest);
}
