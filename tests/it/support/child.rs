//! weir as a process of its own: for what a process does when it is killed, and how it ends.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::client::Client;
use super::house::House;
use super::scrape::Scrape;

/// A running `weir serve`. Dies with the value.
pub struct Process {
    child: Child,
    /// Keeps the directory.
    house: House,
    registry: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl House {
    /// `weir serve` on this configuration, ready to serve.
    pub async fn spawn(&self) -> Process {
        let config = self.file("weir.toml", &self.config_text());
        self.spawn_from(&config).await
    }

    /// The same with a config file that lies elsewhere.
    pub async fn spawn_from(&self, config: &Path) -> Process {
        let log = self.file("log", "");
        let stderr = File::create(&log).expect("a log file");
        let mut child = command(config, &["serve"])
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut banner = String::new();
        let read = BufReader::new(stdout).read_line(&mut banner).await;
        read.expect("the process says what it bound");
        let ports = addresses(&banner);
        let [registry, admin] = ports[..] else {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("weir does not serve: {banner}{log}");
        };
        Process {
            child,
            house: self.clone(),
            registry,
            admin,
            log,
        }
    }

    /// Runs the binary with these arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let config = self.file("weir.toml", &self.config_text());
        let output = command(&config, arguments).output().await;
        output.expect("the binary runs")
    }
}

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .env_clear()
        .arg("--config")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Every address in the line that says what was bound.
fn addresses(banner: &str) -> Vec<SocketAddr> {
    let urls = banner.split("http://").skip(1);
    urls.filter_map(|rest| {
        let end = rest.find([' ', ',', '\n']).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
    .collect()
}

impl Process {
    pub fn client(&self) -> Client {
        Client::new(self.registry)
    }

    pub fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    /// Writes the configuration anew, as another house has it, by the way of an editor: beside it,
    /// and then over it.
    pub fn rewrite_config(&self, text: &str) {
        let beside = self.house.file("weir.toml.new", text);
        let config = beside.with_file_name("weir.toml");
        std::fs::rename(beside, config).expect("a file can be renamed");
    }

    pub async fn metrics(&self) -> Scrape {
        let answer = self.admin().get("/metrics").await;
        Scrape::parse(&String::from_utf8_lossy(answer.whole(200)))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log file")
    }

    /// SIGKILL: no handler, no flush, no farewell.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the process can be killed");
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: the configuration is to be read again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the process runs");
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        let id = id.expect("a process id");
        kill_process(id, signal).expect("the process can be told");
    }

    pub async fn wait(&mut self) -> ExitStatus {
        self.child.wait().await.expect("the process ends")
    }
}
