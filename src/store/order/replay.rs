//! Traces of image pulls, replayed against this order and against LRU.
//!
//! The traces are made, from a seed: images share base layers, some images are asked for again and
//! again, and continuous integration pulls images that nobody asks for twice.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::oci::Algorithm;

/// One request of a trace.
#[derive(Debug, Clone, Copy)]
struct Ask {
    digest: Digest,
    size: u64,
}

/// How a site pulls.
#[derive(Debug, Clone, Copy)]
struct Site {
    images: usize,
    pulls: usize,
    /// Share of pulls of images that are pulled once.
    once: f64,
    /// Exponent of popularity.
    skew: f64,
    /// After so many pulls the popular images are others.
    drift_every: usize,
}

fn trace(site: Site, seed: u64) -> Vec<Ask> {
    let mut random = fastrand::Rng::with_seed(seed);
    let weights: Vec<f64> = (1..=site.images)
        .map(|rank| (rank as f64).powf(-site.skew))
        .collect();
    let sum: f64 = weights.iter().sum();
    let mut shift = 0;
    let mut asks = Vec::new();
    for pull in 0..site.pulls {
        if pull % site.drift_every == site.drift_every - 1 {
            shift += site.images / 10;
        }
        let image = if random.f64() < site.once {
            1_000_000 + pull
        } else {
            let mut at = random.f64() * sum;
            let rank = weights.iter().position(|weight| {
                at -= weight;
                at <= 0.0
            });
            (rank.unwrap_or(0) + shift) % site.images
        };
        asks.extend(pull_of(image));
    }
    asks
}

/// Index, manifest and configuration; a base layer that 20 images share; three to eight own layers.
fn pull_of(image: usize) -> Vec<Ask> {
    let mut own = fastrand::Rng::with_seed(image as u64);
    let ask = |name: String, size: u64| Ask {
        digest: Digest::of(Algorithm::Sha256, name.as_bytes()),
        size,
    };
    let mut asks: Vec<_> = ["index", "manifest", "config"]
        .map(|kind| ask(format!("{kind} {image}"), 3000))
        .into();
    let base = own.usize(..20);
    asks.push(ask(format!("base {base}"), 30 << 20));
    for layer in 0..own.usize(3..=8) {
        // Log-uniform from 32 KiB to 256 MiB: most layers are small, a few are most of the bytes.
        let size = 2_f64.powf(15.0 + 13.0 * own.f64());
        asks.push(ask(format!("layer {image} {layer}"), size as u64));
    }
    asks
}

#[derive(Debug, Default, Clone, Copy)]
struct Score {
    asks: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
}

impl Score {
    fn note(&mut self, ask: Ask, hit: bool) {
        self.asks += 1;
        self.bytes += ask.size;
        if hit {
            self.hits += 1;
            self.hit_bytes += ask.size;
        }
    }

    /// Percent of requests, and of bytes.
    fn ratios(&self) -> (f64, f64) {
        (
            100.0 * self.hits as f64 / self.asks as f64,
            100.0 * self.hit_bytes as f64 / self.bytes as f64,
        )
    }
}

fn replay(trace: &[Ask], capacity: u64) -> Score {
    let mut order = Order::new();
    let mut score = Score::default();
    for ask in trace {
        let hit = order.touch(&ask.digest, 0);
        score.note(*ask, hit);
        if !hit {
            order.insert(&ask.digest, ask.size, 0);
            while order.totals().bytes > capacity {
                order.victim(|_| false).expect("there is more than fits");
            }
            drop(order.take_changes(usize::MAX));
        }
    }
    score
}

/// Least recently used, weighted by size: what it is measured by.
#[derive(Default)]
struct Lru {
    at: u64,
    bytes: u64,
    entries: HashMap<Digest, (u64, u64)>,
    by_use: BTreeMap<u64, Digest>,
}

impl Lru {
    fn ask(&mut self, ask: Ask, capacity: u64) -> bool {
        self.at += 1;
        let known = self.entries.insert(ask.digest, (self.at, ask.size));
        self.by_use.insert(self.at, ask.digest);
        if let Some((used, _)) = known {
            self.by_use.remove(&used);
            return true;
        }
        self.bytes += ask.size;
        while self.bytes > capacity
            && let Some((_, oldest)) = self.by_use.pop_first()
            && let Some((_, size)) = self.entries.remove(&oldest)
        {
            self.bytes -= size;
        }
        false
    }
}

fn replay_lru(trace: &[Ask], capacity: u64) -> Score {
    let mut lru = Lru::default();
    let mut score = Score::default();
    for ask in trace {
        let hit = lru.ask(*ask, capacity);
        score.note(*ask, hit);
    }
    score
}

const SITE: Site = Site {
    images: 400,
    pulls: 3000,
    once: 0.3,
    skew: 0.9,
    drift_every: 1000,
};

/// Shown by `cargo test replay -- --nocapture`.
#[test]
fn more_hits_than_lru_on_traces_of_pulls() {
    for (name, site) in [
        ("mixed", SITE),
        ("no single pulls", Site { once: 0.0, ..SITE }),
        ("mostly single pulls", Site { once: 0.7, ..SITE }),
        (
            "steady",
            Site {
                drift_every: usize::MAX,
                ..SITE
            },
        ),
    ] {
        let trace = trace(site, 1);
        for capacity in [2 << 30, 16 << 30] {
            let (hits, bytes) = replay(&trace, capacity).ratios();
            let (lru_hits, lru_bytes) = replay_lru(&trace, capacity).ratios();
            let shown = format!(
                "{name}, {} GiB: {hits:.1} % of requests (LRU {lru_hits:.1}), \
                 {bytes:.1} % of bytes (LRU {lru_bytes:.1})",
                capacity >> 30
            );
            println!("{shown}");
            assert!(hits > lru_hits && bytes > lru_bytes, "{shown}");
        }
    }
}

#[test]
fn a_scan_of_cold_images_flushes_nothing_that_is_used() {
    let capacity = 8 << 30;
    let (mut order, mut lru) = (Order::new(), Lru::default());
    let mut ask = |asked: Ask| {
        let hit = order.touch(&asked.digest, 0);
        if !hit {
            order.insert(&asked.digest, asked.size, 0);
            while order.totals().bytes > capacity {
                order.victim(|_| false).expect("there is more than fits");
            }
        }
        (hit, lru.ask(asked, capacity))
    };
    let used: Vec<_> = (0..20).flat_map(pull_of).collect();
    for _ in 0..3 {
        // Something comes in between, so that these are different uses.
        let between = (5000..5010).flat_map(pull_of);
        for asked in used.iter().copied().chain(between) {
            ask(asked);
        }
    }
    for asked in (1000..1400).flat_map(pull_of) {
        ask(asked);
    }
    let (mut score, mut lru_score) = (Score::default(), Score::default());
    for asked in used {
        let (hit, lru_hit) = ask(asked);
        score.note(asked, hit);
        lru_score.note(asked, lru_hit);
    }
    let (hits, bytes) = score.ratios();
    assert!(hits > 95.0 && bytes > 95.0, "{hits} {bytes}");
    assert!(lru_score.ratios().0 < 30.0, "{lru_score:?}");
}
