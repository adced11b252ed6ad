//! Rows about the index: what an operation costs with a million entries, against ten thousand.
//!
//! Only a thousand of the entries have a file, so that it is the index that is measured and not the
//! file system; the others were given one for the moment in which they were noted.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use prometheus::Registry;
use weir::clock::Clock;
use weir::config::{self, Config};
use weir::oci::{Algorithm, Digest, Target};
use weir::store::{Metrics, Store};

use super::peers::Bench;
use super::seed::REGISTRY;
use super::sheet::Sheet;

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;
/// Of one repository.
const LINKS: u64 = 100;
/// Entries with a file of their own.
const FILES: u64 = 1000;
const ENTRY_BYTES: u64 = 4096;
const LOOKUPS: u64 = 20_000;
/// One in so many is evicted; the upkeep makes room for no less.
const EVICTED_SHARE: u64 = 20;

/// Microseconds of one operation each.
struct Costs {
    lookup: f64,
    touch: f64,
    evict: f64,
}

pub(crate) fn operations(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let few = costs(&bench.site.empty_folder("index-few")?, FEW)?;
    let many = costs(&bench.site.empty_folder("index-many")?, MANY)?;
    for (row, times, few, many) in [
        ("index-lookup-us", "index-lookup", few.lookup, many.lookup),
        ("index-touch-us", "index-touch", few.touch, many.touch),
        ("index-evict-us", "index-evict", few.evict, many.evict),
    ] {
        sheet.add(row, "weir", many);
        sheet.add(times, "weir", many / few);
    }
    Ok(())
}

fn costs(directory: &Path, entries: u64) -> Result<Costs> {
    fill(directory, entries)?;
    // The same ones in every run, all over the place; made first, so that they lie in memory as well
    // beside a large index as beside a small one.
    let mut dice = fastrand::Rng::with_seed(7);
    let picks: Vec<_> = (0..LOOKUPS).map(|_| dice.u64(0..entries)).collect();
    let asked: Vec<_> = picks.iter().map(|at| of(*at)).collect::<Result<_>>()?;
    let store = open(directory, u64::MAX)?;
    store.load(&|| true);
    let lookup = micros(LOOKUPS, || {
        for (target, digest) in &asked {
            black_box(store.index().is_linked(target, digest));
        }
        Ok(())
    })?;
    let touched: Vec<_> = (0..FILES).map(|at| entry(at * (entries / FILES))).collect();
    let touch = micros(FILES, || {
        for digest in &touched {
            black_box(store.blob(digest)?);
        }
        Ok(())
    })?;
    let evicted = entries / EVICTED_SHARE;
    let bytes = store.stats().bytes - evicted * ENTRY_BYTES;
    // The upkeep evicts down to nineteen twentieths.
    store.set_limits(&config(directory, bytes / 19 * 20)?.cache);
    let evict = micros(evicted, || {
        store.make_room(&|| true);
        Ok(())
    })?;
    let left = entries as usize - store.stats().objects;
    ensure!(
        left.abs_diff(evicted as usize) <= 2,
        "{left} were evicted, not {evicted}"
    );
    flush(&store)?;
    Ok(Costs {
        lookup,
        touch,
        evict,
    })
}

fn micros(times: u64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / times as f64)
}

fn fill(directory: &Path, entries: u64) -> Result<()> {
    let blobs = directory.join("blobs/sha256");
    let store = open(directory, u64::MAX)?;
    let path = |at| blobs.join(entry(at).hex());
    let passing = directory.join("passing");
    File::create(&passing)?.set_len(ENTRY_BYTES)?;
    for at in 0..entries {
        let (target, digest) = of(at)?;
        let stays = at % (entries / FILES) == 0;
        if stays {
            File::create(path(at))?.set_len(ENTRY_BYTES)?;
        } else {
            fs::rename(&passing, path(at))?;
        }
        store
            .blob(&digest)?
            .context("the file was just put there")?;
        if !stays {
            fs::rename(path(at), &passing)?;
        }
        store.index().link(&target, &mut std::iter::once(digest));
    }
    flush(&store)
}

fn entry(at: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &at.to_be_bytes())
}

fn of(at: u64) -> Result<(Target, Digest)> {
    let repository = format!("many/of-{}", at / LINKS);
    Ok((
        Target::new(REGISTRY.parse()?, repository.parse()?),
        entry(at),
    ))
}

fn open(directory: &Path, max_size: u64) -> Result<Store> {
    let metrics = Metrics::new(&Registry::new());
    let config = config(directory, max_size)?;
    Ok(Store::open(&config.cache, Clock::System, metrics)?)
}

fn config(directory: &Path, max_size: u64) -> Result<Config> {
    let max_size = max_size.min(1 << 50);
    let text = format!(
        "[cache]\ndirectory = '{}'\nmax_size = '{max_size}B'\nmin_free = '0B'\n",
        directory.display()
    );
    match config::load_str(&text, &[]) {
        Ok(config) => Ok(config),
        Err(problems) => bail!("{problems}"),
    }
}

fn flush(store: &Store) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(store.flush());
    Ok(())
}
