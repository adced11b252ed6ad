//! weir as a process of its own: for what a process does when it is killed, and how it ends.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
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
        let mut command = command(config, &["serve"]);
        command.stderr(File::create(&log).expect("a log file"));
        self.serving(command, log).await
    }

    /// The same with sockets that listen already, by their names: what a service manager does.
    pub async fn spawn_with<const N: usize>(&self, sockets: [(&str, OwnedFd); N]) -> Process {
        let log = self.file("log", "");
        let command = self.command_with(sockets, &log);
        self.serving(command, log).await
    }

    /// Ends because of these sockets; what it said.
    pub async fn refused_with<const N: usize>(&self, sockets: [(&str, OwnedFd); N]) -> String {
        let log = self.file("log", "");
        let mut command = self.command_with(sockets, &log);
        let ended = command.stdout(Stdio::null()).status().await;
        let ended = ended.expect("the binary runs");
        let said = std::fs::read_to_string(&log).expect("a log file");
        assert_eq!(ended.code(), Some(1), "{said}");
        assert_eq!(said.matches("weir: ").count(), 1, "{said}");
        said
    }

    /// A shell gives the sockets the numbers that the protocol wants, and becomes weir.
    fn command_with<const N: usize>(&self, sockets: [(&str, OwnedFd); N], log: &Path) -> Command {
        let config = self.file("weir.toml", &self.config_text());
        let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
        let names = names.join(":");
        let mut ways = sockets.into_iter().map(|(_, socket)| Stdio::from(socket));
        let script = "exec 3<&0 4<&2 </dev/null 2>\"$0\"; export LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command
            .env_clear()
            .env("LISTEN_FDS", N.to_string())
            .env("LISTEN_FDNAMES", names)
            .args(["-c", script])
            .arg(log)
            .arg(env!("CARGO_BIN_EXE_weir"))
            .arg("--config")
            .arg(config)
            .arg("serve")
            .stdin(ways.next().unwrap_or_else(Stdio::null))
            .stderr(ways.next().unwrap_or_else(Stdio::null));
        assert!(ways.next().is_none(), "there are two ways only");
        command
    }

    async fn serving(&self, mut command: Command, log: PathBuf) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
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
