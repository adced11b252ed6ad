//! SIGTERM under load: readiness goes first, no body is cut within the deadline, what cannot be finished
//! is parked and taken up by the next start, and the end is status 0.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::house::{House, Process};
use crate::load::{Load, Place, Trouble, ask, exchange, read};
use crate::site::{Image, Scheme, Site};

const DRAIN: Duration = Duration::from_secs(8);
/// Of the upstream, for each transfer, and of each client: a layer takes two seconds.
const RATE: u64 = 2 << 20;
const LAYER_BYTES: u64 = 4 << 20;
/// Would take longer than anybody waits.
const LONG_BYTES: u64 = 100 << 20;
const COLD: usize = 8;
const WARM: usize = 8;
/// Before somebody says stop.
const LOAD_FOR: Duration = Duration::from_secs(4);

pub(crate) fn run(weir: &Path, seed: u64) -> Result<()> {
    let house = House::empty(weir)?;
    let site = Site::start(Scheme::Bearer, "first", Some(RATE))?;
    house.configure(&format!(
        "[server]\ndrain_timeout = \"{}s\"\n[registries.\"term.test\"]\nendpoints = [\"http://{}\"]\n[[registries.\"term.test\".credentials]]\nusername = \"bot\"\npassword = \"first\"\n",
        DRAIN.as_secs(),
        site.addresses[0],
    ))?;
    let mut process = house.start()?;
    let warm = vec![Image::new("warm/1", 100_000_000 + seed, LAYER_BYTES)];
    let long = Image::new("long/1", 200_000_000 + seed, LONG_BYTES);
    site.push(&long);
    let place = Place {
        registry: "term.test",
        site: site.clone(),
        warm,
    };
    let mut load = Load::new(process.registry, vec![place], LAYER_BYTES);
    load.rate = Some(RATE);
    if let Err(trouble) = load.warm_up() {
        anyhow::bail!("before the end: {trouble}");
    }
    begin_long(process.registry, &long)?;
    let seen = thread::scope(|scope| {
        (0..COLD).for_each(|_| drop(scope.spawn(|| load.pull_cold())));
        (0..WARM).for_each(|_| drop(scope.spawn(|| load.pull_warm())));
        thread::sleep(LOAD_FOR);
        let seen = stop(&mut process);
        load.end();
        seen
    })?;
    report(&load, &seen)?;
    // The next process goes on with what was parked.
    let parked = house.staged_bytes();
    let again = house.start()?;
    begin_long(again.registry, &long)?;
    let resumed = site.resumed_at();
    println!(
        "term: {:.1} MiB of an unfinished layer were parked; the next start asked for the rest from byte {}",
        parked as f64 / f64::from(1 << 20),
        resumed.last().context("nothing was resumed")?
    );
    ensure!(parked > 0, "nothing was parked");
    Ok(())
}

/// A client that asks for the long layer, sees that it comes, and leaves.
fn begin_long(weir: SocketAddr, long: &Image) -> Result<()> {
    let path = |rest: &str| format!("/v2/term.test/{}/{rest}", long.repository);
    let asked = ask(weir, "GET", &path("manifests/1")).and_then(|_| {
        let layer = &long.blobs[1];
        let (body, _) = ask(weir, "GET", &path(&format!("blobs/{}", layer.digest)))?;
        read(body, layer, 1 << 20, None)
    });
    asked.map_err(|trouble| anyhow::anyhow!("{trouble}"))
}

struct Seen {
    told: Instant,
    not_ready: Option<Duration>,
    refused: Option<Duration>,
    ended: Duration,
    code: Option<i32>,
    /// The address took nobody any more while readiness still said yes.
    late: bool,
}

/// Tells it to stop, and looks at it until it has.
fn stop(process: &mut Process) -> Result<Seen> {
    process.terminate()?;
    let told = Instant::now();
    let (mut not_ready, mut refused, mut late) = (None, None, false);
    let status = loop {
        let takes = TcpStream::connect(process.registry).is_ok();
        let ready = exchange(process.admin, "GET", "/readyz").map(|(status, ..)| status);
        if let Ok(503) = ready {
            not_ready.get_or_insert_with(|| told.elapsed());
        }
        if !takes {
            refused.get_or_insert_with(|| told.elapsed());
            late |= matches!(ready, Ok(200));
        }
        if let Some(status) = process.ended()? {
            break status;
        }
        ensure!(
            told.elapsed() < DRAIN + Duration::from_secs(30),
            "it does not end"
        );
        thread::sleep(Duration::from_millis(1));
    };
    Ok(Seen {
        told,
        not_ready,
        refused,
        ended: told.elapsed(),
        code: status.code(),
        late,
    })
}

fn report(load: &Load, seen: &Seen) -> Result<()> {
    let failed = load.failures();
    let cut = failed
        .iter()
        .filter(|(_, trouble)| matches!(trouble, Trouble::Cut));
    let cut = cut.count();
    // Clients that come when weir does not take them any more go elsewhere.
    let other: Vec<_> = failed
        .iter()
        .filter(|(at, trouble)| match trouble {
            Trouble::NoAnswer(_) => *at < seen.told,
            Trouble::Cut => false,
            Trouble::Status(..) | Trouble::Wrong => true,
        })
        .map(|(_, trouble)| trouble.to_string())
        .collect();
    let ms = |moment: Option<Duration>| {
        moment.map_or("never".into(), |m| format!("{} ms", m.as_millis()))
    };
    println!(
        "term: SIGTERM under {COLD} cold and {WARM} warm clients: not ready after {}, connections refused after {}, ended after {:.1} s of {} s with status {:?}; {} bodies whole, {cut} cut, {} other failures",
        ms(seen.not_ready),
        ms(seen.refused),
        seen.ended.as_secs_f64(),
        DRAIN.as_secs(),
        seen.code,
        load.counts.bodies.load(Ordering::SeqCst),
        other.len(),
    );
    ensure!(cut == 0, "bodies were cut");
    ensure!(other.is_empty(), "{other:?}");
    ensure!(
        !seen.late,
        "no connection was taken while weir said that it is ready"
    );
    ensure!(seen.not_ready.is_some(), "readiness did not go off");
    ensure!(seen.code == Some(0), "it did not end in order");
    Ok(())
}
