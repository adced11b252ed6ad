//! weir as a process in front of an upstream, on a directory that outlives it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::upstream::Upstream;

pub(crate) struct House {
    directory: TempDir,
    weir: PathBuf,
}

/// A running weir; killed with the value.
pub(crate) struct Process {
    child: Child,
    pub(crate) registry: SocketAddr,
}

impl House {
    pub(crate) fn new(weir: &Path, upstream: &Upstream, max_size: u64) -> Result<Self> {
        let directory = TempDir::new()?;
        let config = format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            [cache]
            directory = {:?}
            max_size = "{max_size}"
            min_free = "1MiB"
            [registries."soak.test"]
            endpoints = ["http://{}"]
            default = true
            "#,
            directory.path().join("cache"),
            upstream.address
        );
        fs::write(directory.path().join("weir.toml"), config)?;
        Ok(House {
            directory,
            weir: weir.to_owned(),
        })
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
        let address = banner.split("http://").nth(1).and_then(|rest| {
            let end = rest.find([' ', ',', '\n']).unwrap_or(rest.len());
            rest[..end].parse().ok()
        });
        match address {
            Some(registry) => Ok(Process { child, registry }),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("no start: {banner}{}", fs::read_to_string(&log)?)
            }
        }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.directory.path().join("cache/blobs/sha256")
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
