//! Rows about how much room weir takes, and how fast it is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::{self, Ask, Plan, Until};
use super::peers::Bench;
use super::process::Process;
use super::seed::Seed;
use super::sheet::Sheet;

const DOWNLOADS: usize = 1000;
const MANY_BLOBS: u32 = 100_000;
const MIB: f64 = (1u64 << 20) as f64;

/// Anonymous memory while a thousand blobs go out at once, and memory of a server that has just
/// started.
pub(crate) fn memory(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let idle = bench.cold_names();
    for name in idle {
        let server = bench.cold_server(name)?;
        thread::sleep(Duration::from_millis(500));
        let memory = server.process.memory();
        sheet.add("memory-idle", name, memory.resident as f64 / MIB);
        sheet.add("memory-idle-anonymous", name, memory.anonymous as f64 / MIB);
    }
    let layers = bench.content.eight.layers.iter();
    let asks: Vec<_> = layers
        .map(|layer| Ask::new(layer.path.clone(), layer.length))
        .collect();
    for (name, server) in bench.warm_servers() {
        let plan = Plan {
            place: server.place.clone(),
            asks: asks.clone(),
            connections: DOWNLOADS,
            until: Until::After(bench.settings.sample),
        };
        let most = most_memory(&server.process, || load::run(&plan)?.checked())?;
        sheet.add("memory", name, most as f64 / MIB);
    }
    Ok(())
}

/// The most anonymous memory seen while `work` runs.
fn most_memory<T: Send>(process: &Process, work: impl FnOnce() -> Result<T> + Send) -> Result<u64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(process.memory().anonymous);
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let most = watch.join().expect("the watch does not panic");
        done.map(|_| most)
    })
}

/// The size of the binary as it is shipped, and how long it takes to be there.
pub(crate) fn binary_and_start(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let Some(weir) = &bench.settings.weir else {
        return Ok(());
    };
    sheet.add(
        "binary",
        "weir",
        std::fs::metadata(weir)?.len() as f64 / MIB,
    );
    let cache = bench.site.folder.join("many");
    let complete = cache.join("complete");
    if !complete.exists() {
        let cache = bench.site.empty_folder("many")?;
        let seed = Seed::open(&cache)?;
        seed.many(MANY_BLOBS)?;
        seed.close()?;
        std::fs::write(complete, "")?;
    }
    let began = Instant::now();
    let upstream = &bench.upstream.place;
    let server = bench.site.weir_on("weir-many", &cache, upstream, false)?;
    sheet.add("start", "weir", began.elapsed().as_secs_f64() * 1000.0);
    drop(server);
    Ok(())
}
