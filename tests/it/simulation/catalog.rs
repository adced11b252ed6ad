//! What the upstream of a simulated life holds, and what weir may be expected to know of it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use weir::oci::Digest;

use crate::support::content::Family;
use crate::support::{Content, Image, Upstream};

const REPOSITORIES: [&str; 3] = ["acme/app", "acme/tool", "other/app"];
/// Nobody who asks for this in another repository may get it there.
pub(super) const SECRET: &str = "acme/secret";
const TAGS: [&str; 2] = ["1", "latest"];
/// Below the distance at which ranges get requests of their own, so that bytes can be counted
/// exactly.
const LAYER_BYTES_MAX: usize = 120_000;

pub(super) struct Catalog {
    /// By `repository:tag`.
    pub(super) tags: BTreeMap<String, Tagged>,
    /// Layers that several repositories share.
    shared: Vec<Content>,
    seed: u64,
    /// Tags that weir answered about since it lost its index, while nothing was wrong.
    pub(super) known: BTreeSet<String>,
}

pub(super) struct Tagged {
    /// What the tag meant, in order; the last is what it means.
    pub(super) images: Vec<Image>,
    pub(super) is_there: bool,
}

impl Tagged {
    pub(super) fn now(&self) -> &Image {
        self.images.last().expect("a tag has an image")
    }
}

impl Catalog {
    pub(super) fn fill(upstream: &Upstream, random: &mut Rng) -> Self {
        let mut catalog = Catalog {
            tags: BTreeMap::new(),
            shared: Vec::new(),
            seed: random.u64(..) >> 8,
            known: BTreeSet::new(),
        };
        catalog.shared = (0..3).map(|_| catalog.layer(random)).collect();
        for repository in REPOSITORIES.into_iter().chain([SECRET]) {
            for tag in TAGS {
                catalog.push(upstream, &format!("{repository}:{tag}"), random);
            }
        }
        catalog
    }

    /// Gives the tag an image that never was before.
    pub(super) fn push(&mut self, upstream: &Upstream, name: &str, random: &mut Rng) {
        let mut layers: Vec<_> = (0..random.usize(1..=2))
            .map(|_| self.layer(random))
            .collect();
        if !name.starts_with(SECRET) {
            layers.push(self.shared[random.usize(..self.shared.len())].clone());
        }
        let image = Image::of(Family::Oci, "amd64", layers);
        upstream.push(name, &image);
        let tagged = self.tags.entry(name.to_owned()).or_insert(Tagged {
            images: Vec::new(),
            is_there: true,
        });
        tagged.images.push(image);
        tagged.is_there = true;
    }

    fn layer(&mut self, random: &mut Rng) -> Content {
        self.seed += 1;
        Content::noise(self.seed, random.usize(500..LAYER_BYTES_MAX))
    }

    pub(super) fn a_name(&self, random: &mut Rng) -> String {
        let names: Vec<_> = self.tags.keys().collect();
        names[random.usize(..names.len())].clone()
    }

    /// A blob, and a repository that has it.
    pub(super) fn a_blob(&self, random: &mut Rng) -> (String, Content) {
        let name = self.a_name(random);
        let blobs: Vec<_> = self.tags[&name].now().blobs().collect();
        let blob = blobs[random.usize(..blobs.len())].clone();
        (repository(&name).to_owned(), blob)
    }

    /// A blob that only the secret repository has.
    pub(super) fn a_secret(&self, random: &mut Rng) -> Content {
        let name = format!("{SECRET}:{}", TAGS[random.usize(..TAGS.len())]);
        let image = self.tags[&name].now();
        image.layers[0].clone()
    }

    /// Length of everything that ever was, by digest.
    pub(super) fn blobs(&self) -> BTreeMap<Digest, Content> {
        let images = self.tags.values().flat_map(|tagged| &tagged.images);
        let blobs = images.flat_map(Image::blobs);
        blobs.map(|blob| (blob.digest, blob.clone())).collect()
    }
}

pub(super) fn repository(name: &str) -> &str {
    name.rsplit_once(':').expect("a name is repository:tag").0
}

pub(super) fn tag(name: &str) -> &str {
    name.rsplit_once(':').expect("a name is repository:tag").1
}
