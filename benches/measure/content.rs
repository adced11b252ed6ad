//! The content that every server serves: images of noise, made once.
//!
//! They are written in the layout of the distribution registry's file system storage, which the
//! upstream reads, and hard-linked into a document root, which nginx serves: the same inodes, so
//! the same page cache.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use weir::oci::{Algorithm, Digest, Hasher};

const MIB: u64 = 1 << 20;
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const TAG: &str = "latest";

/// A blob or manifest of one image.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) path: String,
}

impl Item {
    /// The file that nginx serves.
    pub(crate) fn file_in(&self, document_root: &Path) -> PathBuf {
        document_root.join(self.path.trim_start_matches('/'))
    }
}

/// An image as it can be pulled.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) by_tag: Item,
    pub(crate) by_digest: Item,
    pub(crate) layers: Vec<Item>,
}

/// Everything that is served.
pub(crate) struct Content {
    /// Storage of the upstream registry.
    pub(crate) registry_root: PathBuf,
    /// Document root of nginx.
    pub(crate) document_root: PathBuf,
    /// One layer of 64 MiB.
    pub(crate) warm: Image,
    /// Eight layers of 64 MiB.
    pub(crate) eight: Image,
    /// One layer of 512 MiB.
    pub(crate) large: Image,
    /// One layer of 256 MiB.
    pub(crate) throttled: Image,
    /// Sixteen layers of 2 MiB; its manifest is as long as most are.
    pub(crate) usual: Image,
}

impl Content {
    /// Makes what is not there yet.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let maker = Maker::new(folder);
        Ok(Content {
            warm: maker.image("bench/warm", &[64 * MIB])?,
            eight: maker.image("bench/eight", &[64 * MIB; 8])?,
            large: maker.image("bench/large", &[512 * MIB])?,
            throttled: maker.image("bench/throttled", &[256 * MIB])?,
            usual: maker.usual()?,
            registry_root: maker.registry_root,
            document_root: maker.document_root,
        })
    }

    pub(crate) fn images(&self) -> [&Image; 4] {
        [&self.warm, &self.eight, &self.large, &self.usual]
    }
}

/// The usual image alone, and the document root that it lies in.
pub(crate) fn make_usual(folder: &Path) -> Result<(Image, PathBuf)> {
    let maker = Maker::new(folder);
    Ok((maker.usual()?, maker.document_root))
}

struct Maker {
    registry_root: PathBuf,
    document_root: PathBuf,
}

impl Maker {
    fn new(folder: &Path) -> Self {
        Maker {
            registry_root: folder.join("registry"),
            document_root: folder.join("www"),
        }
    }

    fn usual(&self) -> Result<Image> {
        self.image("bench/usual", &[2 * MIB; 16])
    }

    fn image(&self, repository: &str, layers: &[u64]) -> Result<Image> {
        let known = self
            .registry_root
            .join(format!("{}.digests", repository.replace('/', "-")));
        let digests: Vec<Digest> = match fs::read_to_string(&known) {
            Ok(text) => text.lines().map(str::parse).collect::<Result<_, _>>()?,
            Err(_) => self.write_layers(repository, layers)?,
        };
        let config = self.write_blob(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}")?;
        let parts: Vec<_> = digests
            .iter()
            .copied()
            .zip(layers.iter().copied())
            .collect();
        let manifest = manifest(config, &parts);
        let digest = self.write_blob(&manifest)?;
        self.link(
            repository,
            &format!("_manifests/revisions/sha256/{}", hex(&digest)),
            &digest,
        )?;
        self.link(
            repository,
            &format!("_manifests/tags/{TAG}/current"),
            &digest,
        )?;
        let index = format!("_manifests/tags/{TAG}/index/sha256/{}", hex(&digest));
        self.link(repository, &index, &digest)?;
        for layer in digests.iter().chain([&config]) {
            self.link(repository, &format!("_layers/sha256/{}", hex(layer)), layer)?;
            self.serve(repository, "blobs", &layer.to_string(), layer)?;
        }
        self.serve(repository, "manifests", &digest.to_string(), &digest)?;
        self.serve(repository, "manifests", TAG, &digest)?;
        let text: Vec<String> = digests.iter().map(ToString::to_string).collect();
        fs::write(known, text.join("\n"))?;
        let item = |kind: &str, name: &str, digest, length| Item {
            digest,
            length,
            path: format!("/v2/{repository}/{kind}/{name}"),
        };
        let length = manifest.len() as u64;
        let layer =
            |(digest, length): (Digest, u64)| item("blobs", &digest.to_string(), digest, length);
        Ok(Image {
            by_tag: item("manifests", TAG, digest, length),
            by_digest: item("manifests", &digest.to_string(), digest, length),
            layers: parts.into_iter().map(layer).collect(),
        })
    }

    fn write_layers(&self, repository: &str, lengths: &[u64]) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for (number, length) in lengths.iter().enumerate() {
            let seed = Digest::of(
                Algorithm::Sha256,
                format!("{repository} {number}").as_bytes(),
            );
            let digest = self.write_noise(*length, seed.hash())?;
            digests.push(digest);
        }
        Ok(digests)
    }

    /// Bytes that do not compress, the same ones for the same seed.
    fn write_noise(&self, length: u64, seed: &[u8]) -> Result<Digest> {
        let folder = self.registry_root.join("docker/registry/v2");
        fs::create_dir_all(&folder)?;
        let growing = folder.join("growing");
        let mut file = fs::File::create(&growing)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut state = u64::from_le_bytes(seed[..8].try_into()?) | 1;
        let mut piece = vec![0u8; MIB as usize];
        for _ in 0..length / MIB {
            for word in piece.chunks_exact_mut(8) {
                // xorshift64*, by Sebastiano Vigna.
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                word.copy_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
            }
            hasher.update(&piece);
            file.write_all(&piece)?;
        }
        // Only clean pages can be thrown out of the page cache later.
        file.sync_data()?;
        let digest = hasher.finish();
        let path = self.data(&digest);
        fs::create_dir_all(path.parent().expect("data has a folder"))?;
        fs::rename(growing, path)?;
        Ok(digest)
    }

    fn write_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let path = self.data(&digest);
        fs::create_dir_all(path.parent().expect("data has a folder"))?;
        fs::write(path, bytes)?;
        Ok(digest)
    }

    fn data(&self, digest: &Digest) -> PathBuf {
        let hex = hex(digest);
        let blobs = self.registry_root.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    fn link(&self, repository: &str, place: &str, digest: &Digest) -> Result<()> {
        let folder = self.registry_root.join("docker/registry/v2/repositories");
        let folder = folder.join(repository).join(place);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("link"), digest.to_string())?;
        Ok(())
    }

    fn serve(&self, repository: &str, kind: &str, name: &str, digest: &Digest) -> Result<()> {
        let folder = self.document_root.join("v2").join(repository).join(kind);
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        if !path.exists() {
            fs::hard_link(self.data(digest), path)?;
        }
        Ok(())
    }
}

fn hex(digest: &Digest) -> String {
    let text = digest.to_string();
    text.split_once(':')
        .map_or(String::new(), |(_, hex)| hex.to_owned())
}

fn manifest(config: Digest, layers: &[(Digest, u64)]) -> Vec<u8> {
    let layer = |(digest, length): &(Digest, u64)| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": digest.to_string(),
            "size": length,
        })
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.to_string(),
            "size": 37,
        },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    document.to_string().into_bytes()
}
