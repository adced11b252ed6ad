//! Content for a fake registry: noise of any size, images and indexes of both families.
//!
//! Everything is made from a seed, so a failing test fails again with the same bytes.

use bytes::Bytes;
use serde_json::{Value, json};
use weir::oci::{Algorithm, Digest};

/// Noise is made of stamped copies of one block: quick to make, and two blocks that changed places
/// are still noticed.
const BLOCK_BYTES: usize = 64 * 1024;

/// Bytes and their name.
#[derive(Debug, Clone)]
pub struct Content {
    pub digest: Digest,
    pub bytes: Bytes,
}

impl Content {
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Content::named_by(Algorithm::Sha256, bytes)
    }

    pub fn named_by(algorithm: Algorithm, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Content {
            digest: Digest::of(algorithm, &bytes),
            bytes,
        }
    }

    pub fn noise(seed: u64, length: usize) -> Self {
        Content::of(noise(seed, length))
    }

    pub fn length(&self) -> usize {
        self.bytes.len()
    }
}

pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES.min(length)];
    fastrand::Rng::with_seed(seed).fill(&mut block);
    let mut bytes = Vec::with_capacity(length + BLOCK_BYTES);
    for number in 0u64.. {
        if bytes.len() >= length {
            break;
        }
        let from = bytes.len();
        bytes.extend_from_slice(&block);
        let stamp = 8.min(block.len());
        for (byte, mark) in bytes[from..from + stamp]
            .iter_mut()
            .zip(number.to_le_bytes())
        {
            *byte ^= mark;
        }
    }
    bytes.truncate(length);
    bytes
}

/// Which of the two families of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Oci,
    Docker,
}

impl Family {
    pub fn manifest(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.manifest.v1+json",
            Family::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    pub fn index(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.index.v1+json",
            Family::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.config.v1+json",
            Family::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Family::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
            Family::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

impl Manifest {
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let Content { digest, bytes } = Content::of(bytes);
        Manifest {
            digest,
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    /// Written with indentation, as docker does it: a proxy that writes it anew changes the digest.
    fn write(media_type: &str, document: &Value) -> Self {
        let bytes = serde_json::to_vec_pretty(document).expect("a value is JSON");
        Manifest::new(media_type, bytes)
    }
}

#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Manifest,
    pub config: Content,
    pub layers: Vec<Content>,
}

impl Image {
    pub fn of(family: Family, architecture: &str, layers: Vec<Content>) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|l| l.digest.to_string()).collect();
        let config = json!({
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Content::of(serde_json::to_vec(&config).expect("a value is JSON"));
        let descriptor = |media_type: &str, content: &Content| {
            json!({
                "mediaType": media_type,
                "digest": content.digest.to_string(),
                "size": content.length(),
            })
        };
        let layer_descriptors: Vec<_> = layers
            .iter()
            .map(|layer| descriptor(family.layer(), layer))
            .collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": family.manifest(),
            "config": descriptor(family.config(), &config),
            "layers": layer_descriptors,
        });
        Image {
            manifest: Manifest::write(family.manifest(), &document),
            config,
            layers,
        }
    }

    /// Config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A multi-platform image.
#[derive(Debug, Clone)]
pub struct Index {
    pub manifest: Manifest,
    pub images: Vec<Image>,
}

impl Index {
    pub fn of(family: Family, images: Vec<(&str, Image)>) -> Self {
        let manifests: Vec<_> = images
            .iter()
            .map(|(architecture, image)| {
                json!({
                    "mediaType": image.manifest.media_type,
                    "digest": image.manifest.digest.to_string(),
                    "size": image.manifest.bytes.len(),
                    "platform": {"os": "linux", "architecture": architecture},
                })
            })
            .collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": family.index(),
            "manifests": manifests,
        });
        Index {
            manifest: Manifest::write(family.index(), &document),
            images: images.into_iter().map(|(_, image)| image).collect(),
        }
    }
}

/// An artifact that says something about `subject`, such as a signature.
pub fn referrer(subject: &Manifest, artifact_type: &str) -> Manifest {
    Manifest::write(Family::Oci.manifest(), &about(subject, artifact_type))
}

/// A referrer told apart from others by its annotation.
pub fn annotated(subject: &Manifest, artifact_type: &str, name: &str, mark: &str) -> Manifest {
    let mut document = about(subject, artifact_type);
    document["annotations"] = json!({name: mark});
    Manifest::write(Family::Oci.manifest(), &document)
}

fn about(subject: &Manifest, artifact_type: &str) -> Value {
    let empty = Content::of("{}");
    let empty = json!({
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": empty.digest.to_string(),
        "size": 2,
    });
    json!({
        "schemaVersion": 2,
        "mediaType": Family::Oci.manifest(),
        "artifactType": artifact_type,
        "config": empty,
        "layers": [empty],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest.to_string(),
            "size": subject.bytes.len(),
        },
    })
}
