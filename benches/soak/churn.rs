//! A trace of image pulls through a cache that is too small for it: what it takes on the disk, and how
//! often it has what is asked for, beside LRU.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use fastrand::Rng;

use crate::client::{Got, Manner, get};
use crate::content::Content;
use crate::house::House;
use crate::upstream::Upstream;

const AT_ONCE: usize = 2;
const IMAGES: usize = 150;
const BASES: usize = 8;
/// Share of pulls of images that nobody asks for twice.
const ONCE: f64 = 0.25;

pub(crate) fn run(weir: &Path, seed: u64, cache_bytes: u64, trace_bytes: u64) -> Result<()> {
    let trace = Arc::new(trace(seed, trace_bytes));
    let blobs: BTreeMap<_, _> = trace.iter().map(|blob| (&blob.digest, blob)).collect();
    let largest = blobs.values().map(|blob| blob.length).max().unwrap_or(0);
    let different: u64 = blobs.values().map(|blob| blob.length).sum();
    let upstream = Upstream::start(blobs.into_values().cloned(), None, Vec::new())?;
    let house = Arc::new(House::new(weir, &upstream, cache_bytes)?);
    let process = house.start()?;
    let done = Arc::new(AtomicBool::new(false));
    let (watched, watching) = (Arc::clone(&house), Arc::clone(&done));
    let watch = thread::spawn(move || {
        let mut peak = 0;
        while !watching.load(Ordering::SeqCst) {
            peak = peak.max(watched.bytes());
            thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let (next, failed) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(blob) = trace.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let got = get(process.registry, blob, Manner::default());
                    if !matches!(got, Ok(Got::Whole)) {
                        eprintln!("{}: {got:?}", blob.digest);
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    done.store(true, Ordering::SeqCst);
    let peak = watch
        .join()
        .map_err(|_| anyhow::anyhow!("the watch panicked"))?;
    let asks = trace.len() as f64;
    let bytes: u64 = trace.iter().map(|blob| blob.length).sum();
    let hits = 1.0 - upstream.transfers.load(Ordering::SeqCst) as f64 / asks;
    let byte_hits = 1.0 - upstream.sent.load(Ordering::SeqCst) as f64 / bytes as f64;
    let (lru_hits, lru_byte_hits) = lru(&trace, cache_bytes);
    let over = peak.saturating_sub(cache_bytes);
    println!(
        "churn: {} asks of {} MiB ({} MiB different) through {} MiB: hit ratio {:.1} % of asks, {:.1} % of bytes; LRU {:.1} % and {:.1} %; most on the disk {} KiB above the limit, largest blob {} KiB, {AT_ONCE} at once",
        trace.len(),
        bytes >> 20,
        different >> 20,
        cache_bytes >> 20,
        100.0 * hits,
        100.0 * byte_hits,
        100.0 * lru_hits,
        100.0 * lru_byte_hits,
        over >> 10,
        largest >> 10,
    );
    ensure!(failed.into_inner() == 0, "some pulls failed");
    ensure!(over <= AT_ONCE as u64 * largest, "above the limit");
    Ok(())
}

/// Images of a base layer that others share and some layers of their own; popular ones again and
/// again, and some only once.
fn trace(seed: u64, bytes: u64) -> Vec<Arc<Content>> {
    let mut random = Rng::with_seed(seed);
    let mut known: HashMap<u64, Arc<Content>> = HashMap::new();
    let mut trace = Vec::new();
    let mut asked = 0;
    let mut pull = 0;
    while asked < bytes {
        pull += 1;
        let image = if random.f64() < ONCE {
            1_000_000 + pull
        } else {
            // Popularity falls with the rank.
            (IMAGES as f64).powf(random.f64()) as u64
        };
        let mut own = Rng::with_seed(image);
        let base = (own.u64(..BASES as u64), 12 << 20);
        let layers = (0..own.u64(2..=4)).map(|number| {
            // Most layers are small, a few are most of the bytes.
            let length = 2_f64.powf(14.0 + 10.5 * own.f64()) as u64;
            (1_000 + image * 8 + number, length)
        });
        for (name, length) in std::iter::once(base).chain(layers.collect::<Vec<_>>()) {
            let blob = known.entry(name);
            let blob = blob.or_insert_with(|| Arc::new(Content::new(name + 7, length)));
            asked += blob.length;
            trace.push(Arc::clone(blob));
        }
    }
    trace
}

/// Hit ratios of asks and bytes.
fn lru(trace: &[Arc<Content>], capacity: u64) -> (f64, f64) {
    let mut used: HashMap<&str, (usize, u64)> = HashMap::new();
    let mut by_use: BTreeMap<usize, &str> = BTreeMap::new();
    let (mut held, mut hits, mut hit_bytes, mut bytes) = (0, 0, 0, 0);
    for (at, blob) in trace.iter().enumerate() {
        bytes += blob.length;
        by_use.insert(at, &blob.digest);
        match used.insert(&blob.digest, (at, blob.length)) {
            Some((before, _)) => {
                by_use.remove(&before);
                hits += 1;
                hit_bytes += blob.length;
            }
            None => held += blob.length,
        }
        while held > capacity
            && let Some((_, oldest)) = by_use.pop_first()
            && let Some((_, length)) = used.remove(oldest)
        {
            held -= length;
        }
    }
    (
        f64::from(hits) / trace.len() as f64,
        hit_bytes as f64 / bytes as f64,
    )
}
