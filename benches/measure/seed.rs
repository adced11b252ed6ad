//! Caches that are there already when weir starts, as weir itself would have left them.
//!
//! Content goes straight under its digest, because its digest is known to be right; the index is
//! written by weir's own store.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use prometheus::Registry;
use weir::clock::Clock;
use weir::config;
use weir::oci::{Algorithm, Digest, MediaType, RegistryName, Target};
use weir::store::{Metrics, Store, TagRecord};

use super::content::{Image, MANIFEST_TYPE};

/// The registry that the bench's content belongs to.
pub(crate) const REGISTRY: &str = "bench.test";

/// A cache directory that is being filled.
pub(crate) struct Seed {
    store: Store,
    blobs: std::path::PathBuf,
}

impl Seed {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let text = format!("[cache]\ndirectory = '{}'\n", directory.display());
        let config = match config::load_str(&text, &[]) {
            Ok(config) => config,
            Err(problems) => bail!("{problems}"),
        };
        let store = Store::open(&config.cache, Clock::System, Metrics::new(&Registry::new()))?;
        Ok(Seed {
            store,
            blobs: directory.join("blobs/sha256"),
        })
    }

    /// An image whose parts lie in `document_root` under the paths they are asked for by.
    pub(crate) fn image(&self, image: &Image, document_root: &Path) -> Result<()> {
        let (target, tag) = target_of(&image.by_tag.path)?;
        let media_type = MediaType::new(MANIFEST_TYPE).context("media type")?;
        for item in image.layers.iter().chain([&image.by_digest]) {
            let served = item.file_in(document_root);
            fs::hard_link(served, self.blobs.join(hex(&item.digest)))?;
        }
        let manifest = &image.by_digest;
        let layers = image.layers.iter().map(|layer| layer.digest);
        let index = self.store.index();
        index.link(&target, &mut layers.chain([manifest.digest]));
        index.set_media_type(&manifest.digest, &media_type);
        let checked_at = Clock::System.now();
        let (digest, length) = (manifest.digest, manifest.length);
        let record = TagRecord {
            digest,
            media_type,
            length,
            checked_at,
        };
        index.set_tag(&target, &tag.parse()?, &record);
        Ok(())
    }

    /// So many blobs of a few bytes, a hundred to a repository.
    pub(crate) fn many(&self, blobs: u32) -> Result<()> {
        for repository in 0..blobs / 100 {
            let target = target(&format!("many/of-{repository}"))?;
            let mut digests = Vec::with_capacity(100);
            for number in 0..100 {
                let text = format!("blob {number} of {repository}");
                let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
                fs::write(self.blobs.join(hex(&digest)), text)?;
                digests.push(digest);
            }
            self.store.index().link(&target, &mut digests.into_iter());
        }
        Ok(())
    }

    pub(crate) fn close(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(self.store.flush());
        Ok(())
    }
}

fn hex(digest: &Digest) -> String {
    let text = digest.to_string();
    text.split_once(':')
        .map_or(String::new(), |(_, hex)| hex.to_owned())
}

fn target(repository: &str) -> Result<Target> {
    let registry: RegistryName = REGISTRY.parse()?;
    Ok(Target::new(registry, repository.parse()?))
}

/// Repository and tag of `/v2/<repository>/manifests/<tag>`.
fn target_of(path: &str) -> Result<(Target, &str)> {
    let parts = path.trim_start_matches("/v2/").split_once("/manifests/");
    let (repository, tag) = parts.context("a manifest's path")?;
    Ok((target(repository)?, tag))
}
