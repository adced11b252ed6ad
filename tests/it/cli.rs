//! The program as a person meets it: what it prints where, and how it ends.
//!
//! Each test runs the real binary in a directory and an environment of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const EVERY_PORT: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A directory to run weir in.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Desk { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// weir with these arguments; nothing of the tester's own environment reaches it.
    fn weir(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("XDG_CACHE_HOME", self.path("caches"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.weir(arguments).output().expect("weir runs"))
    }

    /// `weir check` with this configuration.
    fn check(&self, text: &str, arguments: &[&str]) -> Ended {
        self.write("weir.toml", text);
        self.run(&[&["check"], arguments].concat())
    }

    fn serve(&self, text: &str) -> Serving {
        let file = self.write("serving.toml", text);
        let mut command = self.weir(&["--config", text_of(&file), "serve"]);
        Serving::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// A weir that should refuse to serve. One that serves all the same does not hang the test.
    fn refused(&self, arguments: &[&str]) -> Ended {
        let mut command = self.weir(arguments);
        let serving = Serving::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        assert_eq!(serving.banner, "", "it serves");
        serving.ended()
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// What a finished weir left behind.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("weir prints text"),
            err: String::from_utf8(output.stderr).expect("weir prints text"),
        }
    }
}

impl Ended {
    /// It ended like that, and said why in one line.
    fn with_one_line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert_eq!(self.out, "");
        self.err.trim()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect("it is JSON")
    }
}

/// A weir that serves, until the end of the test at the latest.
struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first line, which it prints when it is ready.
    banner: String,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("weir runs");
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut banner = String::new();
        out.read_line(&mut banner).expect("its stdout can be read");
        Serving { child, out, banner }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = Pid::from_raw(id).expect("no process has id 0");
        kill_process(id, signal).expect("weir is running");
    }

    /// Waits for the end, and gives back what else it printed.
    fn ended(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut err).expect("its stderr is text");
        }
        self.out
            .read_to_string(&mut out)
            .expect("its stdout is text");
        let code = self.child.wait().expect("weir ends").code();
        Ended { code, out, err }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It is gone already where a test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_says_its_version_and_what_it_can_do() {
    let desk = Desk::new();
    let version = desk.run(&["--version"]);
    let expected = format!("weir {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.out), (Some(0), expected));
    let help = desk.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "serve",
        "check",
        "completions",
        "--config",
        "--log-format",
        "--log-level",
    ] {
        assert!(help.out.contains(word), "{word} is not in\n{}", help.out);
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let desk = Desk::new();
    for arguments in [
        &["frobnicate"][..],
        &["--frobnicate"],
        &["check", "--frobnicate"],
        &["completions"],
        &["completions", "tcsh"],
        &["--log-format", "xml"],
        &["--config"],
    ] {
        let ended = desk.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    let level = desk.run(&["--log-level", "inof"]);
    assert!(level.with_one_line(2).contains("\"inof\" is no log level"));
}

#[test]
fn each_shell_gets_its_completions() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = desk.run(&["completions", shell]);
        assert_eq!(ended.code, Some(0), "{shell}");
        assert!(ended.out.contains("check"), "{shell}");
    }
}

#[test]
fn check_shows_what_applies() {
    let text = r#"
[server]
listen = ["127.0.0.1:5000", "unix:/run/weir.sock"]
[cache]
directory = "/srv/weir"
max_size = "10GiB"
[registries."ghcr.io"]
hosts = "ghcr.mirror"
credentials = [{ username = "bot", password = "hunter2" }, { for = "acme/", helper = "gh" }]
[registries."r.example"]
default = true
endpoints = ["https://one.example", "https://two.example/base"]
[registries."quay.io"]
auth = "client"
right_held_for = "10m"
"#;
    let desk = Desk::new();
    let ended = desk.check(text, &[]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert_eq!(ended.err, "");
    let lines: Vec<_> = ended.out.lines().map(str::trim_end).collect();
    for line in [
        "file        weir.toml",
        "listens on  http://127.0.0.1:5000, unix:/run/weir.sock",
        "admin       http://127.0.0.1:5001",
        "cache       /srv/weir, at most 10GiB, 1GiB of the file system kept free",
        "tags        fresh for 1m, served up to 30d later when the upstream cannot answer",
        "access      everybody who reaches weir, everything",
        "registries  10",
        "  docker.io            https://registry-1.docker.io, anonymous",
        "  ghcr.io              https://ghcr.io, bot by password; acme/* as docker-credential-gh, also as ghcr.mirror",
        "  quay.io              https://quay.io, the client's own login, whose right is known for 1m and held for 10m while the registry is away",
        "  r.example            https://one.example, https://two.example/base, anonymous (default)",
        "ok",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in\n{}", ended.out);
    }
    let json = desk.check(text, &["--json"]).json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["listen"][1], "unix:/run/weir.sock");
    assert_eq!(json["registries"][7]["name"], "r.example");
    assert_eq!(json["registries"][7]["default"], true);
}

#[test]
fn check_reports_every_problem_with_its_cure() {
    let desk = Desk::new();
    let text =
        "[tags]\nfresh_fro = \"1m\"\n[cache]\nmax_size = \"big\"\n[admin]\ntoken_file = \"no\"\n";
    let ended = desk.check(text, &[]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(
        ended.out,
        "3 problems in weir.toml\n\
         \n  tags.fresh_fro  line 2\
         \n    there is no such key\
         \n    → did you mean fresh_for?\n\
         \n  cache.max_size  line 4\
         \n    \"big\" is no size\
         \n    → write a number with B, KiB, MiB, GiB, TiB (or kB, MB, GB, TB), such as \"50GiB\"\n\
         \n  admin.token_file  line 6\
         \n    no cannot be read: No such file or directory (os error 2)\
         \n    → check the path, and that the user who runs weir may read it\n"
    );
    let json = desk.check(text, &["--json"]).json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][1]["key"], "cache.max_size");
    assert_eq!(json["problems"][1]["line"], 4);
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(3));
}

#[test]
fn check_warns_of_what_is_dangerous_and_passes() {
    let desk = Desk::new();
    let text = "[admin]\nlisten = \"0.0.0.0:5001\"\n[registries.r]\ninsecure_skip_verify = true\n";
    let ended = desk.check(text, &[]);
    assert_eq!(ended.code, Some(0));
    for line in [
        "2 warnings",
        "  admin.listen  line 2",
        "    → set admin.token_file for changes from other machines, or listen on 127.0.0.1",
        "  registries.r.insecure_skip_verify  line 4",
    ] {
        assert!(
            ended.out.lines().any(|found| found == line),
            "{}",
            ended.out
        );
    }
    let json = desk.check(text, &["--json"]).json();
    assert_eq!(json["warnings"][0]["key"], "admin.listen");
}

#[test]
fn the_environment_is_checked_too() {
    let desk = Desk::new();
    let mut command = desk.weir(&["check", "--json"]);
    command.env("WEIR__TAGS__FRESH_FOR", "soon");
    command.env("WEIR__TAGS__STALE_FRO", "1d");
    command.env(
        "WEIR_CONFIG",
        desk.write("other.toml", "[tags]\nmissing_for = \"1s\"\n"),
    );
    let ended = Ended::from(command.output().expect("weir runs"));
    assert_eq!(ended.code, Some(2));
    let json = ended.json();
    assert!(
        json["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("other.toml"))
    );
    assert_eq!(json["problems"][0]["variable"], "WEIR__TAGS__FRESH_FOR");
    assert_eq!(json["problems"][0]["key"], "tags.fresh_for");
    assert_eq!(json["problems"][1]["variable"], "WEIR__TAGS__STALE_FRO");
    assert_eq!(
        json["problems"][1]["cure"],
        "did you mean WEIR__TAGS__STALE_FOR?"
    );
}

#[test]
fn a_configuration_that_cannot_be_read_ends_with_2() {
    let desk = Desk::new();
    for command in ["check", "serve"] {
        let ended = desk.run(&[command, "--config", "missing.toml"]);
        assert_eq!(ended.code, Some(2), "{command}");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(
            said.contains("missing.toml cannot be read: No such file"),
            "{said}"
        );
    }
    let ended = desk.run(&["check", "--json", "--config", "missing.toml"]);
    assert_eq!(ended.json()["ok"], false);
}

#[test]
fn no_secret_is_printed() {
    let desk = Desk::new();
    let good = "[upstream]\nproxy = \"http://ada:hunter2@proxy:1\"\n[registries.r]\n\
                credentials = [{ username = \"bot\", password = \"hunter2\" }]\n";
    let bad = "[registries.r]\nendpoints = [\"https://ada:hunter2@r\"]\n\
               credentials = [{ helper = \"x\", password = \"hunter2\" }]\n";
    for (text, code) in [(good, 0), (bad, 2)] {
        for arguments in [&[][..], &["--json"]] {
            let ended = desk.check(text, arguments);
            assert_eq!(ended.code, Some(code));
            assert!(!ended.out.contains("hunter2"), "{}", ended.out);
            assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        }
    }
}

#[test]
fn there_is_no_colour_where_a_program_reads() {
    let desk = Desk::new();
    let mut command = desk.weir(&["check"]);
    let ended = Ended::from(command.env("TERM", "xterm").output().expect("weir runs"));
    assert!(!ended.out.contains('\x1b'), "{}", ended.out);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let desk = Desk::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = desk.weir(&["check"]);
    let ended = command.stdout(writer).stderr(Stdio::piped()).spawn();
    let output = ended.and_then(Child::wait_with_output).expect("weir runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn serve_says_where_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let desk = Desk::new();
        let serving = desk.serve(EVERY_PORT);
        let banner = serving.banner.clone();
        let start = format!(
            "weir {} serving registries on http://127.0.0.1:",
            env!("CARGO_PKG_VERSION")
        );
        assert!(banner.starts_with(&start), "{banner}");
        assert!(banner.contains(", admin on http://127.0.0.1:"), "{banner}");
        assert!(!banner.contains("127.0.0.1:0"), "{banner}");
        let cache = format!(", cache {}/weir (50GiB)\n", desk.path("caches").display());
        assert!(banner.ends_with(&cache), "{banner}");
        serving.signal(signal);
        let ended = serving.ended();
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(0), ""),
            "{}",
            ended.err
        );
        for line in ended.err.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("the log is JSON");
            assert!(line["message"].is_string(), "{line}");
        }
    }
}

#[test]
fn serve_refuses_a_wrong_configuration() {
    let desk = Desk::new();
    desk.write("weir.toml", "[tags]\nfresh_fro = \"1m\"\n");
    for arguments in [&[][..], &["serve"]] {
        let ended = desk.refused(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
        assert!(
            ended.err.contains("did you mean fresh_for?"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn serve_says_in_one_line_why_it_cannot() {
    let desk = Desk::new();
    let busy = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = busy.local_addr().expect("it is bound").to_string();
    let elsewhere = text_of(&desk.write("a-file", "")).to_owned();
    for (text, named) in [
        (
            format!("server.listen = \"{address}\"\nadmin.listen = \"127.0.0.1:0\""),
            &address,
        ),
        (
            format!("admin.listen = \"{address}\"\nserver.listen = \"127.0.0.1:0\""),
            &address,
        ),
        (
            format!("cache.directory = \"{elsewhere}/cache\"\n{EVERY_PORT}"),
            &elsewhere,
        ),
    ] {
        let file = desk.write("weir.toml", &text);
        let ended = desk.refused(&["--config", text_of(&file), "--log-level", "off"]);
        let line = ended.with_one_line(1);
        assert!(
            line.starts_with("weir: ") && line.contains(named.as_str()),
            "{line}"
        );
    }
}

#[test]
fn serve_does_not_share_its_directory() {
    let desk = Desk::new();
    let _first = desk.serve(EVERY_PORT);
    let second = desk.refused(&["--config", "serving.toml", "--log-level", "off"]);
    let line = second.with_one_line(1);
    let directory = desk.path("caches").display().to_string();
    assert!(line.contains(&directory), "{line}");
}

#[test]
fn a_closed_log_stops_nobody() {
    let desk = Desk::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let file = desk.write("weir.toml", EVERY_PORT);
    let mut command = desk.weir(&["--config", text_of(&file), "--log-level", "trace"]);
    let serving = Serving::start(command.stdout(Stdio::piped()).stderr(writer));
    assert!(serving.banner.starts_with("weir "), "{}", serving.banner);
    serving.signal(Signal::TERM);
    assert_eq!(serving.ended().code, Some(0));
}

#[test]
fn the_log_is_for_whom_it_is_asked() {
    let desk = Desk::new();
    let file = desk.write(
        "weir.toml",
        &format!("{EVERY_PORT}\n[registries.r]\ninsecure_skip_verify = true"),
    );
    let mut command = desk.weir(&["--config", text_of(&file), "--log-format", "text"]);
    let serving = Serving::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    serving.signal(Signal::TERM);
    let log = serving.ended().err;
    assert!(log.contains("WARN"), "{log}");
    assert!(
        log.contains("the certificates of r are not checked"),
        "{log}"
    );
    assert!(!log.contains('\x1b') && !log.contains("{\""), "{log}");
}
