//! What memory says of links, against what sled says: always the same, whatever happens to the index.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::clock::Timestamp;
use crate::oci::Algorithm;

use super::*;

const REPOSITORIES: u64 = 20;
const DIGESTS: u64 = 50;
/// Links that memory takes in some of the runs.
const FEW: usize = 400;

/// A repository and a digest, by their numbers.
type Link = (u64, u64);

fn target(number: u64) -> Target {
    let repository = format!("org/app-{number}").parse().unwrap();
    Target::new("ghcr.io".parse().unwrap(), repository)
}

fn digest(number: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &number.to_be_bytes())
}

/// An index with a directory of its own.
struct Place {
    directory: tempfile::TempDir,
    index: Index,
    /// Keeps the lock.
    _layout: Layout,
}

impl Place {
    fn new(directory: tempfile::TempDir, links_max: usize) -> Self {
        let layout = Layout::prepare(directory.path()).unwrap();
        let metrics = Metrics::new(&prometheus::Registry::new());
        let mut index = Index::new(&layout, Clock::System, metrics);
        index.links = Links::new(links_max);
        Place {
            directory,
            index,
            _layout: layout,
        }
    }

    fn link(&self, link: Link) {
        let mut digests = std::iter::once(digest(link.1));
        self.index.link(&target(link.0), &mut digests);
    }

    fn is_filled(&self) -> bool {
        self.index.links.contains(b"").is_some()
    }

    /// What sled has, after a look whether memory says the same of every link there might be.
    fn links(&self) -> HashSet<Link> {
        let mut links = HashSet::new();
        for repository in 0..REPOSITORIES {
            let target = target(repository);
            for number in 0..DIGESTS {
                let digest = digest(number);
                let has = self.index.has_link(&record::link_key(&target, &digest));
                assert_eq!(self.index.is_linked(&target, &digest), has);
                if has {
                    links.insert((repository, number));
                }
            }
        }
        links
    }

    fn prune(&self, stored: &HashSet<u64>) {
        let stored: HashSet<_> = stored.iter().map(|number| digest(*number)).collect();
        let is_stored = |digest: &Digest| stored.contains(digest);
        self.index.prune(Timestamp(u64::MAX), &is_stored, &|| true);
    }

    /// What a loss of power would leave now.
    fn after_power_loss(self, links_max: usize) -> Place {
        let image = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.directory.path().join("."))
            .arg(image.path())
            .status();
        assert!(copied.unwrap().success());
        Place::new(image, links_max)
    }
}

/// One life of an index: links come and go while it is loaded, opened again, lost and cut off.
fn live(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let links_max = if dice.bool() { LINKS_MAX } else { FEW };
    let mut place = Place::new(tempfile::tempdir().unwrap(), links_max);
    let mut links = HashSet::new();
    for _ in 0..40 {
        match dice.u32(..100) {
            0..40 => {
                for _ in 0..dice.u32(..60) {
                    let link = (dice.u64(..REPOSITORIES), dice.u64(..DIGESTS));
                    place.link(link);
                    links.insert(link);
                }
            }
            40..60 => place.index.load_links(&|| true),
            60..70 => {
                let steps = AtomicU32::new(dice.u32(..6));
                let go_on = || steps.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
                place.index.load_links(&|| go_on().is_ok());
            }
            70..80 => {
                let stored = (0..DIGESTS).filter(|_| dice.u32(..10) > 0).collect();
                place.prune(&stored);
                links.retain(|(_, number)| stored.contains(number));
            }
            80..90 => place.index.reopen(),
            90..95 => {
                place.index.damaged.store(true, Relaxed);
                place.index.reopen();
                links.clear();
            }
            _ => {
                if dice.bool() {
                    place.index.flush();
                    place = place.after_power_loss(links_max);
                } else {
                    place = place.after_power_loss(links_max);
                    // What was not brought to the disk may be lost.
                    links = place.links();
                }
            }
        }
        assert_eq!(place.links(), links, "seed {seed}");
    }
    place.index.load_links(&|| true);
    assert_eq!(place.links(), links, "seed {seed}");
    if links_max == LINKS_MAX {
        assert!(place.is_filled(), "seed {seed}");
    }
}

#[test]
fn memory_and_sled_agree_through_every_life_of_an_index() {
    for seed in 0..12 {
        live(seed);
    }
}

#[test]
fn memory_and_sled_agree_after_everybody_changed_links_at_once() {
    for seed in 0..4 {
        let place = Place::new(tempfile::tempdir().unwrap(), LINKS_MAX);
        thread::scope(|threads| {
            for writer in 0..2 {
                let place = &place;
                threads.spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(seed * 2 + writer);
                    for _ in 0..3000 {
                        place.link((dice.u64(..REPOSITORIES), dice.u64(..DIGESTS)));
                    }
                });
            }
            threads.spawn(|| {
                for round in 0..20 {
                    place.prune(&(round..DIGESTS).collect());
                }
            });
            threads.spawn(|| {
                for _ in 0..20 {
                    place.index.load_links(&|| true);
                }
            });
            threads.spawn(|| {
                for _ in 0..3 {
                    place.index.reopen();
                }
            });
        });
        place.index.load_links(&|| true);
        assert!(place.is_filled());
        place.links();
    }
}

#[test]
fn more_links_than_memory_takes_are_asked_of_sled() {
    let place = Place::new(tempfile::tempdir().unwrap(), FEW);
    place.index.load_links(&|| true);
    assert!(place.is_filled());
    for number in 0..1000 {
        place.link((number / DIGESTS, number % DIGESTS));
        assert_eq!(place.is_filled(), number < FEW as u64);
    }
    assert_eq!(place.links().len(), 1000);
    place.index.load_links(&|| true);
    assert!(!place.is_filled());
    // Once there are fewer, they are taken in again.
    place.prune(&(0..10).collect());
    place.index.load_links(&|| true);
    assert!(place.is_filled());
    assert_eq!(place.links().len(), 200);
}
