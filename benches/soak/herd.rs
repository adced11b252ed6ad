//! Many clients at one cold blob: early, late, slow and leaving, while the upstream breaks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;

use crate::client::{Got, Manner, get};
use crate::content::Content;
use crate::house::House;
use crate::upstream::Upstream;

/// How long they keep coming.
const ARRIVALS: Duration = Duration::from_secs(10);
const SLOW_RATE: u64 = 1 << 20;
const STACK_BYTES: usize = 1 << 20;

pub(crate) struct Herd {
    pub(crate) bytes: u64,
    pub(crate) clients: usize,
    pub(crate) leaving: usize,
    pub(crate) slow: usize,
    pub(crate) upstream_rate: u64,
    pub(crate) breaks: u64,
}

pub(crate) fn run(weir: &Path, seed: u64, herd: &Herd) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let blob = Arc::new(Content::new(seed, herd.bytes));
    let breaks = (1..=herd.breaks).map(|number| herd.bytes * number / (herd.breaks + 1));
    let upstream = Upstream::start([blob.clone()], Some(herd.upstream_rate), breaks.collect())?;
    let house = House::new(weir, &upstream, 2 * herd.bytes)?;
    let process = house.start()?;
    let (registry, began) = (process.registry, Instant::now());
    let clients: Vec<_> = (0..herd.clients)
        .map(|number| {
            let blob = Arc::clone(&blob);
            let comes_at = ARRIVALS.mul_f64(random.f64());
            let manner = Manner {
                leaves_after: (number < herd.leaving).then(|| random.u64(1..herd.bytes)),
                rate: (herd.leaving..herd.leaving + herd.slow)
                    .contains(&number)
                    .then_some(SLOW_RATE),
            };
            let client = thread::Builder::new().stack_size(STACK_BYTES);
            client.spawn(move || {
                thread::sleep(comes_at);
                (get(registry, &blob, manner), began.elapsed())
            })
        })
        .collect::<Result<_, _>>()?;
    let done = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&done);
    let watch = thread::spawn(move || {
        let mut peak = 0;
        while !watched.load(Ordering::SeqCst) {
            peak = peak.max(process.anonymous_bytes());
            thread::sleep(Duration::from_millis(50));
        }
        peak
    });
    let (mut whole, mut left, mut other, mut last) = (0, 0, Vec::new(), Duration::ZERO);
    for client in clients {
        let (got, after) = client
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))?;
        last = last.max(after);
        match got {
            Ok(Got::Whole) => whole += 1,
            Ok(Got::Left) => left += 1,
            failed => other.push(failed),
        }
    }
    done.store(true, Ordering::SeqCst);
    let peak = watch
        .join()
        .map_err(|_| anyhow::anyhow!("the watch panicked"))?;
    let sent = upstream.sent.load(Ordering::SeqCst) as f64 / herd.bytes as f64;
    println!(
        "herd: {whole} whole and right, {left} left, {} failed; upstream bytes {sent:.4} x the blob in {} transfers; peak anonymous memory {:.1} MiB; last client done after {:.1} s",
        other.len(),
        upstream.transfers.load(Ordering::SeqCst),
        peak as f64 / f64::from(1 << 20),
        last.as_secs_f64(),
    );
    ensure!(other.is_empty(), "{other:?}");
    ensure!(sent <= 1.01, "more than one transfer");
    Ok(())
}
