//! `weir serve`: runs the proxy until SIGTERM or SIGINT, and drains. SIGHUP reloads.
//!
//! What was bound goes to stdout in one line, so that a script can wait for it and read the ports.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::print::{self, Style};
use super::{FAILED, WRONG, sockets};
use crate::app::{Addresses, App, Because, Handover, Loader, Reloader};
use crate::clock::Clock;
use crate::config::{Config, size_text};

/// However impatient the watchdog is.
const WATCHDOG_MIN: Duration = Duration::from_millis(100);
/// How many tasks a worker serves before it looks which sockets have news. One that sends a blob
/// takes up to a millisecond, and whoever asks for a manifest should not wait for many of them.
const TASKS_PER_LOOK: u32 = 8;

pub(super) fn run(arguments: &super::Arguments) -> ExitCode {
    allow_files();
    let config = match arguments.load() {
        Ok(config) => config,
        Err(error) => {
            print::err(&print::load_error(&error, Style::for_stderr()));
            return ExitCode::from(WRONG);
        }
    };
    if let Err(error) = arguments.start_log() {
        print::fail(&error);
        return ExitCode::from(WRONG);
    }
    // Before there are threads.
    let handover = match sockets::take() {
        Ok(handover) => handover,
        Err(error) => {
            print::fail(&format_args!("{error:#}"));
            return ExitCode::from(FAILED);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TASKS_PER_LOOK)
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let load = loader(arguments.config.clone());
            runtime.block_on(serve(config, load, handover))
        }
        Err(error) => Err(anyhow::Error::new(error).context("no worker threads can be started")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::fail(&format_args!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Every connection and every blob takes a file. The limit that the process starts with is low for
/// the sake of old programs; the one behind it is meant.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it fails, the server finds out how many there are, and says so.
    let _ = setrlimit(Resource::Nofile, raised);
}

fn loader(file: Option<PathBuf>) -> Loader {
    Box::new(move || super::load(file.as_deref()))
}

async fn serve(config: Config, load: Loader, handover: Handover) -> anyhow::Result<()> {
    // Before anything is bound: a signal that comes early is not lost.
    let (mut stops, mut hangup) = (Stops::listen()?, signal(SignalKind::hangup())?);
    say_what_applies(&config);
    let banner = Banner::of(&config);
    // The errors of start and drain already say what happened where; their sources repeat it.
    let app = App::start_reloading(config, load, handover, Clock::System)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    print::out(banner.line(app.addresses()).as_bytes());
    tell_systemd(&[NotifyState::Ready]);

    let stop = CancellationToken::new();
    let reloader = app.reloader();
    let serving = app.serve(stop.clone());
    tokio::pin!(serving);
    let background = async { tokio::join!(reload_on(&mut hangup, &reloader), reassure_systemd()) };
    tokio::select! {
        ended = &mut serving => return ended.map_err(|error| anyhow::anyhow!("{error}")),
        _ = background => {}
        name = stops.next() => {
            tracing::info!("{name}: finishing the requests under way; once more stops at once");
            tell_systemd(&[NotifyState::Stopping]);
            stop.cancel();
        }
    }
    tokio::select! {
        ended = &mut serving => ended.map_err(|error| anyhow::anyhow!("{error}")),
        name = stops.next() => anyhow::bail!("{name} again: stopped with requests under way"),
    }
}

/// The start-up lines of the log: where the configuration comes from and what is dangerous in it.
fn say_what_applies(config: &Config) {
    match &config.file {
        Some(file) => tracing::info!(file = %file.display(), "configuration read"),
        None => tracing::info!("no configuration file, the built-in defaults apply"),
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Never ends.
async fn reload_on(hangup: &mut Signal, reloader: &Arc<Reloader>) {
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_systemd(&[NotifyState::Reloading, now]);
        }
        // It says itself what came of it.
        let _ = reloader.reload(Because::Asked).await;
        tell_systemd(&[NotifyState::Ready]);
    }
}

/// Tells the watchdog of systemd, where there is one, that the workers still turn. Never ends.
async fn reassure_systemd() {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut turns = tokio::time::interval((patience / 2).max(WATCHDOG_MIN));
    loop {
        turns.tick().await;
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

/// For a service of `Type=notify`; without one nothing happens.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd was not told");
    }
}

/// What is printed when the proxy is ready.
struct Banner {
    scheme: &'static str,
    cache: String,
}

impl Banner {
    fn of(config: &Config) -> Self {
        let scheme = match config.server.tls {
            Some(_) => "https",
            None => "http",
        };
        let directory = config.cache.directory.display();
        let size = size_text(config.cache.max_size);
        Banner {
            scheme,
            cache: format!("{directory} ({size})"),
        }
    }

    fn line(&self, addresses: &Addresses) -> String {
        let registry: Vec<_> = addresses
            .registry
            .iter()
            .map(|address| url(self.scheme, address))
            .collect();
        format!(
            "weir {} serving registries on {}, admin on {}, cache {}\n",
            env!("CARGO_PKG_VERSION"),
            registry.join(" and "),
            url("http", &addresses.admin),
            self.cache,
        )
    }
}

fn url(scheme: &str, address: &dyn Display) -> String {
    let address = address.to_string();
    if address.starts_with("unix:") || address.contains("://") {
        address
    } else {
        format!("{scheme}://{address}")
    }
}

/// The signals that ask for the end.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> std::io::Result<Self> {
        Ok(Stops {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
