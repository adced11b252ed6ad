//! `weir completions SHELL`: the completion script, on stdout.

use std::process::ExitCode;

use clap_complete::Shell;

use super::print;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "weir", &mut script);
    print::out(&script);
    ExitCode::SUCCESS
}
