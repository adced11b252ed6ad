//! How many instructions weir spends on one warm request, counted by callgrind.
//!
//! Unlike seconds they are the same on every machine and in every run, nearly, so that a change
//! that makes a request dearer shows: valgrind shows the program the same processor, one with AVX2,
//! whatever else the real one has, and nothing is hashed on the way of a warm request. Counting
//! begins after the start and a warm-up. What the kernel does is not in the counts.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::content::{Image, Item, make_usual};
use super::load::Ask;
use super::seed::Seed;
use super::servers::pull;
use super::weir::Weir;

/// Before anything is counted, so that what happens once has happened.
const WARM_UP: usize = 20;
const MANIFESTS: usize = 400;
const BLOBS: usize = 200;
/// More than this over the baseline fails.
const TOLERANCE: f64 = 1.10;

/// Instructions in user space for one request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Counts {
    manifest_by_digest: u64,
    manifest_by_tag: u64,
    /// Of 2 MiB.
    blob: u64,
}

pub(crate) struct Settings {
    pub(crate) weir: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) baseline: PathBuf,
    /// Write the baseline instead of comparing with it.
    pub(crate) update: bool,
}

/// Counts, then compares with the baseline or replaces it.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    fs::create_dir_all(&settings.folder)?;
    let (image, document_root) = make_usual(&settings.folder)?;
    let cache = settings.folder.join("instructions");
    fresh_cache(&cache, &image, &document_root)?;
    let counts = count(settings, &cache, &image)?;
    println!("{}", serde_json::to_string_pretty(&counts)?);
    let text = match fs::read_to_string(&settings.baseline) {
        Err(error) if error.kind() == ErrorKind::NotFound && settings.update => "{}".to_owned(),
        text => text.with_context(|| settings.baseline.display().to_string())?,
    };
    let mut baselines: BTreeMap<String, Counts> = serde_json::from_str(&text)?;
    if settings.update {
        baselines.insert(ARCH.to_owned(), counts);
        let text = serde_json::to_string_pretty(&baselines)? + "\n";
        return Ok(fs::write(&settings.baseline, text)?);
    }
    let baseline = baselines.get(ARCH);
    compare(
        counts,
        *baseline.with_context(|| format!("no baseline for {ARCH}: write one with --update"))?,
    )
}

fn fresh_cache(cache: &Path, image: &Image, document_root: &Path) -> Result<()> {
    if cache.exists() {
        fs::remove_dir_all(cache)?;
    }
    fs::create_dir_all(cache)?;
    let seed = Seed::open(cache)?;
    seed.image(image, document_root)?;
    seed.close()
}

/// Runs weir under callgrind and counts one kind of request after the other.
fn count(settings: &Settings, cache: &Path, image: &Image) -> Result<Counts> {
    let out = settings.folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--fair-sched=yes"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    // What happens by the clock would be counted by the clock.
    valgrind.env("WEIR__CACHE__SCRUB_RATE", "0B");
    let weir = Weir {
        name: "weir-callgrind",
        folder: &settings.folder,
        cache,
        // Nobody listens there: what is warm needs no upstream.
        upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
        certificate: None,
    };
    let mut server = weir.start({
        valgrind.arg(&settings.weir);
        valgrind
    })?;
    let ask = |item: &Item| Ask::new(item.path.clone(), item.length);
    let kinds = [&image.by_digest, &image.by_tag, &image.layers[0]];
    let warm_up = kinds
        .iter()
        .cycle()
        .take(WARM_UP * kinds.len())
        .map(|item| ask(item));
    pull(&server.place, warm_up.collect())?;
    let control = |what: &str| {
        let mut control = Command::new("callgrind_control");
        let told = control
            .args([what, &server.process.id().to_string()])
            .output()?;
        ensure!(told.status.success(), "callgrind_control {what}: {told:?}");
        anyhow::Ok(())
    };
    let mut part = 0;
    let mut each = |item: &Item, times: usize| {
        control("--zero")?;
        pull(&server.place, vec![ask(item); times])?;
        control("--dump")?;
        part += 1;
        let total = total_of(&out.with_extension(format!("out.{part}")))?;
        anyhow::Ok(total / times as u64)
    };
    let counts = Counts {
        manifest_by_digest: each(&image.by_digest, MANIFESTS)?,
        manifest_by_tag: each(&image.by_tag, MANIFESTS)?,
        blob: each(&image.layers[0], BLOBS)?,
    };
    server.process.stop()?;
    Ok(counts)
}

/// What a dump of callgrind's counted in all.
fn total_of(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals
        .and_then(|total| total.trim().parse().ok())
        .context("no totals in callgrind's output")
}

fn compare(counts: Counts, baseline: Counts) -> Result<()> {
    let pairs = [
        (
            "manifest by digest",
            counts.manifest_by_digest,
            baseline.manifest_by_digest,
        ),
        (
            "manifest by tag",
            counts.manifest_by_tag,
            baseline.manifest_by_tag,
        ),
        ("blob", counts.blob, baseline.blob),
    ];
    let mut dearer = Vec::new();
    for (what, now, before) in pairs {
        let times = now as f64 / before as f64;
        println!("{what}: {now} instructions, {times:.3} × the baseline");
        if times > TOLERANCE {
            dearer.push(what);
        }
    }
    ensure!(
        dearer.is_empty(),
        "more than {TOLERANCE} × the baseline: {}",
        dearer.join(", ")
    );
    Ok(())
}
