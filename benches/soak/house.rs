//! weir as a process in front of an upstream, on a directory that outlives it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::load::ask;
use crate::upstream::Upstream;

pub(crate) struct House {
    directory: TempDir,
    weir: PathBuf,
}

/// A running weir; killed with the value.
pub(crate) struct Process {
    child: Child,
    pub(crate) registry: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl House {
    pub(crate) fn new(weir: &Path, upstream: &Upstream, max_size: u64) -> Result<Self> {
        let house = House::empty(weir)?;
        house.configure(&format!(
            r#"
            [cache]
            max_size = "{max_size}"
            [registries."soak.test"]
            endpoints = ["http://{}"]
            default = true
            "#,
            upstream.address
        ))?;
        Ok(house)
    }

    /// A directory, and no configuration yet.
    pub(crate) fn empty(weir: &Path) -> Result<Self> {
        Ok(House {
            directory: TempDir::new()?,
            weir: weir.to_owned(),
        })
    }

    /// A place for files that a configuration names.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the configuration at once; addresses and directory are those of the house.
    pub(crate) fn configure(&self, text: &str) -> Result<()> {
        let of_the_house: toml::Table = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[cache]\ndirectory = {:?}\nmin_free = \"1MiB\"",
            self.path("cache")
        )
        .parse()?;
        let mut table: toml::Table = text.parse()?;
        for (section, keys) in of_the_house {
            let into = table.entry(section).or_insert(toml::Table::new().into());
            if let (Some(into), toml::Value::Table(keys)) = (into.as_table_mut(), keys) {
                into.extend(keys);
            }
        }
        fs::write(self.path("weir.toml.new"), toml::to_string(&table)?)?;
        fs::rename(self.path("weir.toml.new"), self.path("weir.toml"))?;
        Ok(())
    }

    /// Started, and ready to serve.
    pub(crate) fn start(&self) -> Result<Process> {
        self.start_with(&[])
    }

    /// The same, with settings as environment variables.
    pub(crate) fn start_with(&self, settings: &[(&str, &str)]) -> Result<Process> {
        let log = self.directory.path().join("log");
        let mut child = Command::new(&self.weir)
            .env_clear()
            .envs(settings.iter().copied())
            .arg("--config")
            .arg(self.directory.path().join("weir.toml"))
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| self.weir.display().to_string())?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut banner = String::new();
        BufReader::new(stdout).read_line(&mut banner)?;
        let addresses = banner.split("http://").skip(1).filter_map(|rest| {
            let end = rest.find([' ', ',', '\n']).unwrap_or(rest.len());
            rest[..end].parse().ok()
        });
        match addresses.collect::<Vec<SocketAddr>>()[..] {
            [registry, admin] => Ok(Process {
                child,
                registry,
                admin,
            }),
            _ => {
                child.kill()?;
                child.wait()?;
                bail!("no start: {banner}{}", fs::read_to_string(&log)?)
            }
        }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.directory.path().join("cache/blobs/sha256")
    }

    /// Bytes of unfinished files.
    pub(crate) fn staged_bytes(&self) -> u64 {
        let files = fs::read_dir(self.path("cache/staging"));
        let files = files.into_iter().flatten().flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }

    /// Bytes that the cache has on the disk, growing files included.
    pub(crate) fn bytes(&self) -> u64 {
        let folders = [self.blobs(), self.directory.path().join("cache/staging")];
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let files = files.flatten().flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }
}

impl Process {
    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    pub(crate) fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(id.context("a process id")?, signal)?)
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The value of one series.
    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        let (mut body, _) =
            ask(self.admin, "GET", "/metrics").map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
        let mut text = String::new();
        body.read_to_string(&mut text)?;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        Ok(line.context("no such series")?.trim().parse()?)
    }

    /// Private bytes.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }
}

impl Process {
    /// Files that are open, sockets among them.
    pub(crate) fn files(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL; it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
