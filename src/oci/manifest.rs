//! Manifests and indexes: what they name, and of what kind they are.
//!
//! A manifest is passed on byte for byte and is never written anew; it is read here only to learn
//! which digests belong to its repository. The reader is lenient on purpose: fields that are not
//! needed are not looked at, because registries hold artifacts of every kind.
//! Source: OCI Image Specification 1.1; Docker Image Manifest V2, Schema 2.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::Digest;

/// Largest manifest that is taken, as the specification asks of registries at least.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_SIGNED_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A media type as the upstream sent it: printable and short, so that it can be a header again.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// `None` where the text could not be a header's value.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=255).contains(&text.len())
            && text.contains('/')
            && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| MediaType(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A manifest as it goes out: the upstream's bytes under the upstream's media type.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

impl Manifest {
    /// The media type that the bytes themselves tell, for a manifest whose header is not known.
    /// A config or a layer that is asked for as a manifest is none, JSON or not.
    pub fn sniff_media_type(bytes: &[u8]) -> Result<MediaType, InvalidManifest> {
        let document = Document::parse(bytes)?;
        if let Some(told) = document.media_type.as_deref().and_then(MediaType::new) {
            return Ok(told);
        }
        let by_shape = match &document {
            Document {
                manifests: Some(_), ..
            } => OCI_INDEX,
            Document {
                fs_layers: Some(_), ..
            } => DOCKER_SIGNED_SCHEMA_1,
            Document {
                layers: Some(_), ..
            } => OCI_MANIFEST,
            Document { .. } => return Err(InvalidManifest::Shape),
        };
        Ok(MediaType::new(by_shape).expect("the constants are media types"))
    }

    /// Everything that this manifest names.
    pub fn children(&self) -> Result<Children, InvalidManifest> {
        Children::parse(&self.bytes)
    }
}

/// The content that a manifest or index names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// Of an index: the manifests, one a platform.
    pub manifests: Vec<Descriptor>,
    pub config: Option<Descriptor>,
    /// Layers, or the blobs of an artifact.
    pub layers: Vec<Descriptor>,
    pub subject: Option<Descriptor>,
}

impl Children {
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let document = Document::parse(bytes)?;
        let mut layers = document.layers.unwrap_or_default();
        layers.extend(document.blobs.unwrap_or_default());
        for layer in document.fs_layers.unwrap_or_default() {
            layers.push(RawDescriptor {
                digest: layer.blob_sum,
                ..RawDescriptor::default()
            });
        }
        let checked = |raw: Vec<RawDescriptor>| -> Result<Vec<_>, _> {
            raw.into_iter().map(RawDescriptor::check).collect()
        };
        Ok(Children {
            manifests: checked(document.manifests.unwrap_or_default())?,
            config: document.config.map(RawDescriptor::check).transpose()?,
            layers: checked(layers)?,
            subject: document.subject.map(RawDescriptor::check).transpose()?,
        })
    }

    /// Everything that a client may ask for next: child manifests, config, layers. Not the subject:
    /// that is the content's parent, and naming it proves nothing.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests
            .iter()
            .chain(&self.config)
            .chain(&self.layers)
    }
}

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub digest: Digest,
    /// In bytes; 0 where the manifest does not say (schema 1).
    pub size: u64,
    pub media_type: Option<MediaType>,
    pub platform: Option<Platform>,
}

/// What a manifest of an index runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvalidManifest {
    #[error("it is not the JSON of a manifest: {0}")]
    Json(Arc<serde_json::Error>),
    #[error("it has neither manifests nor layers")]
    Shape,
    #[error("it names content by an invalid digest: {0}")]
    Digest(#[from] super::InvalidDigest),
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    blobs: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<Vec<FsLayer>>,
}

impl Document {
    fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        serde_json::from_slice(bytes).map_err(|error| InvalidManifest::Json(Arc::new(error)))
    }
}

#[derive(Deserialize)]
struct FsLayer {
    #[serde(rename = "blobSum")]
    blob_sum: String,
}

#[derive(Default, Deserialize)]
struct RawDescriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    platform: Option<Platform>,
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, InvalidManifest> {
        Ok(Descriptor {
            digest: self.digest.parse()?,
            size: self.size,
            media_type: self.media_type.as_deref().and_then(MediaType::new),
            platform: self.platform,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(of: &str) -> Digest {
        Digest::of(super::super::Algorithm::Sha256, of.as_bytes())
    }

    #[test]
    fn an_index_names_its_manifests() {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":7,"mediaType":"{OCI_MANIFEST}",
               "platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}]}}"#,
            digest("a")
        );
        let children = Children::parse(index.as_bytes()).unwrap();
        let child = &children.manifests[0];
        assert_eq!((child.digest, child.size), (digest("a"), 7));
        assert_eq!(
            child.platform.as_ref().unwrap().to_string(),
            "linux/arm64/v8"
        );
        assert_eq!(
            Manifest::sniff_media_type(index.as_bytes())
                .unwrap()
                .as_str(),
            OCI_INDEX
        );
    }

    #[test]
    fn an_image_names_config_and_layers_but_not_its_subject() {
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}}],
               "subject":{{"digest":"{}"}},"annotations":{{"x":"y"}}}}"#,
            digest("config"),
            digest("layer"),
            digest("subject")
        );
        let children = Children::parse(image.as_bytes()).unwrap();
        let named: Vec<_> = children.iter().map(|child| child.digest).collect();
        assert_eq!(named, [digest("config"), digest("layer")]);
        assert_eq!(
            Manifest::sniff_media_type(image.as_bytes())
                .unwrap()
                .as_str(),
            OCI_MANIFEST
        );
    }

    #[test]
    fn html_is_no_manifest() {
        assert!(matches!(
            Children::parse(b"<html>Sign in to the hotel network</html>"),
            Err(InvalidManifest::Json(_))
        ));
        assert!(matches!(
            Children::parse(br#"{"layers":[{"digest":"../../etc/passwd"}]}"#),
            Err(InvalidManifest::Digest(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Children::parse(&bytes);
            let _ = Manifest::sniff_media_type(&bytes);
        }
    }
}
