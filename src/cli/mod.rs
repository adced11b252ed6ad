//! The command line: one file per command.
//!
//! A command reads its arguments, asks the other rooms, and prints. It returns how the process ends:
//! 0 done, 1 the check or the work failed, 2 wrong usage or invalid configuration.

mod check;
mod completions;
mod desk;
mod print;
mod resolve;
mod serve;
mod setup;
mod sockets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, LoadError};
use crate::logging;
use print::Style;

/// The work failed.
const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
const WRONG: u8 = 2;

/// A pull-through caching proxy for container registries
#[derive(Parser)]
#[command(
    name = "weir",
    version,
    after_help = "Without a command, weir serves. Exit status: 0 done, 1 the check or the work failed, \
                  2 wrong usage or invalid configuration."
)]
struct Arguments {
    /// Configuration file [default: $WEIR_CONFIG, ./weir.toml, /etc/weir/weir.toml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<logging::Format>,
    /// A level, or directives such as "info,weir::upstream=debug" [default: $RUST_LOG, info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy; so does no command at all
    Serve,
    /// Read the configuration and report every problem with its key and the cure
    Check(check::Arguments),
    /// Say what images mean here: registry, endpoints, credentials and why, cached or not
    Resolve(resolve::Arguments),
    /// Print the files that make a client use this weir, ready to install
    Setup(setup::Arguments),
    /// Print the completion script for a shell
    Completions(completions::Arguments),
}

/// Does what the command line says.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too. Nobody is left to tell when this cannot print.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG));
        }
    };
    match &arguments.command {
        None | Some(Command::Serve) => serve::run(&arguments),
        Some(Command::Check(check)) => check::run(&arguments, check),
        Some(Command::Resolve(resolve)) => resolve::run(&arguments, resolve),
        Some(Command::Setup(setup)) => setup::run(&arguments, setup),
        Some(Command::Completions(completions)) => {
            completions::run(completions, &mut Arguments::command())
        }
    }
}

impl Arguments {
    fn load(&self) -> Result<Config, LoadError> {
        load(self.config.as_deref())
    }

    /// Sets up the log.
    fn start_log(&self) -> Result<(), logging::Error> {
        let from_environment = std::env::var("RUST_LOG")
            .ok()
            .filter(|text| !text.is_empty());
        let level = self.log_level.as_deref().or(from_environment.as_deref());
        logging::start(self.log_format, level, Style::for_stderr().is_coloured())
    }
}

/// Reads the configuration as it is now.
fn load(file: Option<&Path>) -> Result<Config, LoadError> {
    // A variable that is no text cannot be a key either.
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    config::load(file, variables)
}
