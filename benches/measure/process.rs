//! Processes under measurement: started, read from `/proc`, ended.
//!
//! A process is always ended through the handle that started it, never by its name.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};

/// How long a server may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server with its children.
pub(crate) struct Process {
    name: String,
    child: Child,
}

/// What a server has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Private bytes: not backed by a file.
    pub(crate) anonymous: u64,
    /// Everything that is mapped and resident, page cache included.
    pub(crate) resident: u64,
}

impl Process {
    /// Starts the command with its output in `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Process {
            name: name.to_owned(),
            child,
        })
    }

    /// Asks every millisecond until `ready` says so.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while it started: {status}", self.name);
            }
            ensure!(
                Instant::now() < deadline,
                "{} is not ready after {PATIENCE:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds of the process and its children, user and kernel.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks: u64 = self.family().iter().filter_map(|pid| cpu_ticks(*pid)).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    pub(crate) fn memory(&self) -> Memory {
        let mut sum = Memory {
            anonymous: 0,
            resident: 0,
        };
        for pid in self.family() {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
                continue;
            };
            sum.anonymous += status_kib(&status, "RssAnon:") << 10;
            sum.resident += status_kib(&status, "VmRSS:") << 10;
        }
        sum
    }

    /// Asks it to end and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may be gone already, which is what is wanted.
        let _gone = rustix::process::kill_process(pid, signal);
    }

    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.stop().is_err() {
            self.signal(Signal::KILL);
            let _reaped = self.child.wait();
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second one, the name, may hold spaces.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields
        .split(' ')
        .skip(11)
        .map_while(|field| field.parse::<u64>().ok());
    Some(fields.next()? + fields.next()?)
}

fn status_kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}
