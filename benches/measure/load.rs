//! The load generator: N connections that ask for the same things over and over, and what came back.
//!
//! Every answer's status and length are checked; an answer that is not the expected one counts as
//! an error, never as throughput.

use std::path::PathBuf;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::Advice;
use serde::Serialize;
use tokio::task::JoinSet;

use super::wire::{Place, Times, Wire};

/// A connection that fails this often in a row ends.
const FAILURES_MAX: usize = 5;

/// One thing to ask for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) path: String,
    /// What the body has to be long.
    pub(crate) length: u64,
    /// A file whose pages are thrown out of the page cache before each request.
    pub(crate) evict: Option<PathBuf>,
}

impl Ask {
    pub(crate) fn new(path: impl Into<String>, length: u64) -> Self {
        Ask {
            path: path.into(),
            length,
            evict: None,
        }
    }

    fn request(&self, place: &Place) -> Vec<u8> {
        let Ask { path, .. } = self;
        let host = place.address;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: containerd/1.7.24\r\n\
             Accept: application/vnd.oci.image.manifest.v1+json, */*\r\n\r\n"
        )
        .into_bytes()
    }
}

/// When a connection stops asking.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// All stop together; what is under way is cut.
    After(Duration),
    /// Each asks so often.
    Each(usize),
}

/// Who asks what, how often.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    /// Connection `i` begins with the `i`th and goes round.
    pub(crate) asks: Vec<Ask>,
    pub(crate) connections: usize,
    pub(crate) until: Until,
}

/// What came back.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// From the request to the last byte of the answer.
    pub(crate) latency_ms: Spread,
    /// From the request to the first byte of the body.
    pub(crate) first_byte_ms: Spread,
}

impl Report {
    pub(crate) fn gib(&self) -> f64 {
        self.bytes as f64 / (1u64 << 30) as f64
    }

    pub(crate) fn checked(self) -> Result<Self> {
        let said = self.first_error.as_deref().unwrap_or_default();
        ensure!(
            self.errors == 0,
            "{} errors, the first: {said}",
            self.errors
        );
        Ok(self)
    }
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| match micros.len() {
            0 => 0.0,
            len => f64::from(micros[((len - 1) as f64 * share).round() as usize]) / 1000.0,
        };
        Spread {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

#[derive(Default)]
struct Tally {
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
    latency_micros: Vec<u32>,
    first_byte_micros: Vec<u32>,
    last_done: Option<Instant>,
}

impl Tally {
    fn done(&mut self, times: Times) {
        let micros = |since: Duration| u32::try_from(since.as_micros()).unwrap_or(u32::MAX);
        self.latency_micros.push(micros(times.done - times.sent));
        self.first_byte_micros
            .push(micros(times.first_byte - times.sent));
        self.last_done = Some(times.done);
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    fn add(&mut self, other: Tally) {
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency_micros.extend(other.latency_micros);
        self.first_byte_micros.extend(other.first_byte_micros);
        self.last_done = self.last_done.max(other.last_done);
    }
}

/// Runs the plan on as many threads as there are processors. All connections are open before the
/// first request leaves.
pub(crate) fn run(plan: &Plan) -> Result<Report> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(plan.connections).max(1);
    let gate = Arc::new(Gate {
        barrier: Barrier::new(threads),
        began: OnceLock::new(),
    });
    let tallies = std::thread::scope(|scope| {
        let run_share = |thread: usize| {
            let numbers = (thread..plan.connections).step_by(threads);
            run_connections(plan, numbers, &gate)
        };
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || run_share(thread)))
            .collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
            handle.join().expect("no load thread panics")
        };
        handles
            .into_iter()
            .map(join)
            .collect::<Result<Vec<Tally>>>()
    })?;
    let began = *gate.began.get().context("nothing ran")?;
    let mut tally = Tally::default();
    tallies.into_iter().for_each(|part| tally.add(part));
    let seconds = match plan.until {
        Until::After(duration) => duration.as_secs_f64(),
        Until::Each(_) => tally
            .last_done
            .map_or(0.0, |done| (done - began).as_secs_f64()),
    };
    Ok(Report {
        requests: tally.latency_micros.len() as u64,
        bytes: tally.bytes,
        seconds,
        errors: tally.errors,
        first_error: tally.first_error,
        latency_ms: Spread::of(tally.latency_micros),
        first_byte_ms: Spread::of(tally.first_byte_micros),
    })
}

/// Lets all threads begin at the same moment.
struct Gate {
    barrier: Barrier,
    began: OnceLock<Instant>,
}

fn run_connections(
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
    gate: &Arc<Gate>,
) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut opened = Vec::new();
        for number in numbers {
            opened.push((number, Wire::open(&plan.place).await));
        }
        gate.barrier.wait();
        let began = *gate.began.get_or_init(Instant::now);
        let mut tasks = JoinSet::new();
        for (number, wire) in opened {
            tasks.spawn(run_connection(plan.clone(), number, wire?, began));
        }
        let mut tally = Tally::default();
        while let Some(part) = tasks.join_next().await {
            tally.add(part.context("a connection's task")?);
        }
        Ok(tally)
    })
}

async fn run_connection(plan: Plan, number: usize, wire: Wire, began: Instant) -> Tally {
    let mut tally = Tally::default();
    match plan.until {
        Until::Each(times) => ask_in_turn(&plan, number, wire, times, &mut tally).await,
        Until::After(duration) => {
            let all = ask_in_turn(&plan, number, wire, usize::MAX, &mut tally);
            // Running out of time is the way it ends.
            let _ended = tokio::time::timeout_at((began + duration).into(), all).await;
        }
    }
    tally
}

async fn ask_in_turn(plan: &Plan, number: usize, wire: Wire, times: usize, tally: &mut Tally) {
    let requests: Vec<_> = plan
        .asks
        .iter()
        .map(|ask| (ask, ask.request(&plan.place)))
        .collect();
    let turns = requests
        .iter()
        .cycle()
        .skip(number % requests.len())
        .take(times);
    let (mut wire, mut failures) = (Some(wire), 0);
    for (ask, request) in turns {
        match exchange(&plan.place, wire.take(), ask, request, tally).await {
            Ok((kept, times)) => {
                (wire, failures) = (kept, 0);
                tally.done(times);
            }
            Err(error) => {
                tally.failed(&error);
                failures += 1;
            }
        }
        if failures == FAILURES_MAX {
            return;
        }
    }
}

async fn exchange(
    place: &Place,
    wire: Option<Wire>,
    ask: &Ask,
    request: &[u8],
    tally: &mut Tally,
) -> Result<(Option<Wire>, Times)> {
    if let Some(path) = &ask.evict {
        evict(path)?;
    }
    let mut wire = match wire {
        Some(wire) => wire,
        None => Wire::open(place).await?,
    };
    let sent = Instant::now();
    wire.send(request).await?;
    let (head, mut came) = wire.head().await?;
    let Ask { path, length, .. } = ask;
    ensure!(head.status == 200, "{path}: status {}", head.status);
    ensure!(
        head.length == *length,
        "{path}: {} bytes, not {length}",
        head.length
    );
    tally.bytes += came;
    if came == 0 && *length > 0 {
        came = wire.discard(*length).await?;
        tally.bytes += came;
    }
    let first_byte = Instant::now();
    while came < *length {
        let n = wire.discard(length - came).await?;
        came += n;
        tally.bytes += n;
    }
    let times = Times {
        sent,
        first_byte,
        done: Instant::now(),
    };
    Ok(((!head.closes).then_some(wire), times))
}

/// Throws the pages of a file out of the page cache.
pub(crate) fn evict(path: &std::path::Path) -> Result<()> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(())
}
