//! SIGKILL at any moment of pulls and evictions: every start succeeds, and no wrong byte is served or
//! kept.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use weir::oci::{Algorithm, Digest};

use crate::client::{Got, Manner, get};
use crate::content::Content;
use crate::house::House;
use crate::upstream::Upstream;

const BLOBS: u64 = 60;
const CACHE_BYTES: u64 = 24 << 20;
const CLIENTS: u64 = 6;

pub(crate) fn run(weir: &Path, seed: u64, kills: usize) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let blobs: Vec<_> = (0..BLOBS)
        .map(|number| {
            Arc::new(Content::new(
                number,
                2_f64.powf(12.0 + 9.0 * random.f64()) as u64,
            ))
        })
        .collect();
    let upstream = Upstream::start(blobs.clone(), Some(40 << 20), Vec::new())?;
    let house = House::new(weir, &upstream, CACHE_BYTES)?;
    let (whole, cut, wrong) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    for number in 0..kills {
        let process = house.start().with_context(|| format!("start {number}"))?;
        let (registry, stop) = (process.registry, AtomicBool::new(false));
        let lives_for = Duration::from_millis(random.u64(1..600));
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut random = Rng::with_seed(seed + client + 1000 * number as u64);
                let (blobs, stop, whole, cut, wrong) = (&blobs, &stop, &whole, &cut, &wrong);
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        let blob = &blobs[random.usize(..blobs.len())];
                        let count = match get(registry, blob, Manner::default()) {
                            Ok(Got::Whole) => whole,
                            Ok(Got::Wrong) => wrong,
                            Ok(Got::Cut | Got::Left | Got::Status(_)) | Err(_) => cut,
                        };
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            thread::sleep(lives_for);
            drop(process);
            stop.store(true, Ordering::SeqCst);
        });
        check_files(&house)?;
    }
    println!(
        "kills: {kills} kills, every start served; {} bodies whole and right, {} cut, or refused while it was down, {} wrong; every file right after each kill",
        whole.into_inner(),
        cut.into_inner(),
        wrong.load(Ordering::SeqCst),
    );
    ensure!(wrong.into_inner() == 0, "wrong bytes were served");
    Ok(())
}

/// Every file under a digest is what its name says.
fn check_files(house: &House) -> Result<()> {
    for file in fs::read_dir(house.blobs())? {
        let file = file?;
        let found = Digest::of(Algorithm::Sha256, &fs::read(file.path())?).hex();
        ensure!(
            *found == *file.file_name(),
            "{} is wrong",
            file.path().display()
        );
    }
    Ok(())
}
