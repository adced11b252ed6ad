//! Ten thousand connections on which nothing happens, and two hundred that take next to nothing: what
//! a healthy pull notices of them, and what each costs.
//!
//! Rounds without and with the crowd alternate, so that both are measured in the same weather. The
//! mark: a pull takes at most 1.5 times as long.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::client::{Got, Manner, get};
use crate::content::Content;
use crate::house::{House, Process};
use crate::upstream::Upstream;

/// What a healthy client pulls beside its manifest.
const BLOB_BYTES: u64 = 8 << 20;
/// What the slow ones are at.
const SLOW_BLOB_BYTES: u64 = 64 << 20;
const SLOW_RATES: std::ops::Range<u64> = 1 << 10..50 << 10;
/// As little as the kernel allows is received ahead of a slow reader.
const SLOW_BUFFER_BYTES: u32 = 4 << 10;
const PULLS_PER_PHASE: usize = 15;
const RATIO_MAX: f64 = 1.5;
/// Half-sent requests that are to be closed in time, and how long that may take: the default of
/// `server.header_timeout` is 15 s.
const HALF_SENT: usize = 2_000;
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Idle {
    pub(crate) quiet: usize,
    pub(crate) slow: usize,
    pub(crate) rounds: usize,
}

struct Image {
    manifest: String,
    blob: Arc<Content>,
    slow_blob: Arc<Content>,
}

/// What one phase showed.
struct Phase {
    manifest: Duration,
    blob: Duration,
}

pub(crate) fn run(weir: &Path, seed: u64, idle: &Idle) -> Result<()> {
    let blob = Arc::new(Content::new(seed, BLOB_BYTES));
    let slow_blob = Arc::new(Content::new(seed + 1, SLOW_BLOB_BYTES));
    let upstream = Upstream::start([blob.clone(), slow_blob.clone()], None, Vec::new())?;
    let manifest = upstream.put_manifest(manifest(&blob).into_bytes());
    let house = House::new(weir, &upstream, 1 << 30)?;
    let places = (idle.quiet + idle.slow + 1_000).to_string();
    let process = house.start_with(&[
        ("WEIR__SERVER__CONNECTIONS_MAX", &places),
        // So that they stay.
        ("WEIR__SERVER__HEADER_TIMEOUT", "10m"),
    ])?;
    let image = Image {
        manifest,
        blob,
        slow_blob,
    };
    for blob in [&image.blob, &image.slow_blob] {
        ensure!(get(process.registry, blob, Manner::default())? == Got::Whole);
    }
    phase(&process, &image)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut ratios = (Vec::new(), Vec::new());
    for round in 1..=idle.rounds {
        let (memory, files) = (process.anonymous_bytes(), process.files());
        let alone = phase(&process, &image)?;
        let crowd = Crowd::gather(&runtime, process.registry, &image, idle)?;
        let among = phase(&process, &image)?;
        println!(
            "idle, round {round}: manifest {:.2} ms alone, {:.2} ms among {} quiet and {} slow; blob {:.1} ms, {:.1} ms; RssAnon {:.1} -> {:.1} MiB; files {files} -> {}",
            milliseconds(alone.manifest),
            milliseconds(among.manifest),
            idle.quiet,
            idle.slow,
            milliseconds(alone.blob),
            milliseconds(among.blob),
            mib(memory),
            mib(process.anonymous_bytes()),
            process.files(),
        );
        crowd.leave(&process, files)?;
        ratios
            .0
            .push(among.manifest.as_secs_f64() / alone.manifest.as_secs_f64());
        ratios
            .1
            .push(among.blob.as_secs_f64() / alone.blob.as_secs_f64());
    }
    let (manifests, blobs) = (median(ratios.0), median(ratios.1));
    println!("idle: a manifest takes {manifests:.2} x, a blob {blobs:.2} x as long as alone");
    drop(process);
    close_half_sent(&house, &runtime)?;
    ensure!(
        manifests <= RATIO_MAX && blobs <= RATIO_MAX,
        "more than {RATIO_MAX} x"
    );
    Ok(())
}

fn manifest(blob: &Content) -> String {
    let descriptor = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}"#,
        blob.digest, blob.length
    );
    format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#)
}

/// Healthy pulls, one after the other: the medians.
fn phase(process: &Process, image: &Image) -> Result<Phase> {
    let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
    for _ in 0..PULLS_PER_PHASE {
        let began = Instant::now();
        get_manifest(process.registry, &image.manifest)?;
        manifests.push(began.elapsed());
        let began = Instant::now();
        let got = get(process.registry, &image.blob, Manner::default())?;
        ensure!(got == Got::Whole, "{got:?}");
        blobs.push(began.elapsed());
    }
    manifests.sort();
    blobs.sort();
    Ok(Phase {
        manifest: manifests[PULLS_PER_PHASE / 2],
        blob: blobs[PULLS_PER_PHASE / 2],
    })
}

fn get_manifest(registry: SocketAddr, digest: &str) -> Result<()> {
    let mut stream = std::net::TcpStream::connect(registry)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!(
        "GET /v2/soak/blobs/manifests/{digest} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n"
    );
    io::Write::write_all(&mut stream, request.as_bytes())?;
    let mut answer = Vec::new();
    io::Read::read_to_end(&mut stream, &mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// Everybody who is there for nothing.
struct Crowd {
    _quiet: Vec<TcpStream>,
    slow: JoinSet<()>,
    cut: Arc<AtomicUsize>,
}

impl Crowd {
    fn gather(
        runtime: &Runtime,
        registry: SocketAddr,
        image: &Image,
        idle: &Idle,
    ) -> Result<Crowd> {
        runtime.block_on(async {
            let cut = Arc::new(AtomicUsize::new(0));
            let mut slow = JoinSet::new();
            let mut random = Rng::with_seed(1);
            for _ in 0..idle.slow {
                let stream = slow_reader(registry, &image.slow_blob.digest).await?;
                slow.spawn(read_slowly(stream, random.u64(SLOW_RATES), cut.clone()));
            }
            let mut quiet = Vec::with_capacity(idle.quiet);
            for number in 0..idle.quiet {
                quiet.push(quiet_connection(registry, number).await?);
            }
            Ok(Crowd {
                _quiet: quiet,
                slow,
                cut,
            })
        })
    }

    /// All go; returns when weir has seen that.
    fn leave(mut self, process: &Process, files_before: usize) -> Result<()> {
        let cut = self.cut.load(Ordering::SeqCst);
        ensure!(cut == 0, "{cut} slow readers were cut");
        self.slow.abort_all();
        drop(self);
        let deadline = Instant::now() + Duration::from_secs(30);
        while process.files() > files_before + 50 {
            ensure!(
                Instant::now() < deadline,
                "{} files are still open",
                process.files()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

async fn slow_reader(registry: SocketAddr, digest: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    let mut stream = socket.connect(registry).await?;
    let request = format!("GET /v2/soak/blobs/blobs/{digest} HTTP/1.1\r\nhost: weir\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// A second's bytes a second.
async fn read_slowly(mut stream: TcpStream, rate: u64, cut: Arc<AtomicUsize>) {
    let mut piece = vec![0; usize::try_from(rate).unwrap_or(1)];
    loop {
        match stream.read(&mut piece).await {
            Ok(1..) => tokio::time::sleep(Duration::from_secs(1)).await,
            Ok(0) | Err(_) => {
                cut.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// Kept open after an answer, after half a request, or after nothing.
async fn quiet_connection(registry: SocketAddr, number: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(registry).await?;
    match number % 4 {
        0 | 1 => {
            stream
                .write_all(b"GET /v2/ HTTP/1.1\r\nhost: weir\r\n\r\n")
                .await?;
            let mut answer = [0; 1024];
            let read = stream.read(&mut answer).await.context("an answer")?;
            ensure!(answer[..read].starts_with(b"HTTP/1.1 200 "), "no answer");
        }
        2 => stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: we").await?,
        _ => {}
    }
    Ok(stream)
}

/// With the limits that are built in, half a request does not hold its connection for long.
fn close_half_sent(house: &House, runtime: &Runtime) -> Result<()> {
    let process = house.start()?;
    runtime.block_on(async {
        let mut closing = JoinSet::new();
        let began = Instant::now();
        for _ in 0..HALF_SENT {
            let mut stream = quiet_connection(process.registry, 2).await?;
            closing.spawn(async move {
                let mut rest = Vec::new();
                // However it ends.
                let _ = stream.read_to_end(&mut rest).await;
            });
        }
        let all = tokio::time::timeout(CLOSED_WITHIN, closing.join_all()).await;
        if all.is_err() {
            bail!("half-sent requests are still open after {CLOSED_WITHIN:?}");
        }
        println!(
            "idle: {HALF_SENT} half-sent requests were closed after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
