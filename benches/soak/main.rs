//! Long and rough use of weir as a process: a crowd at one cold blob, a cache that is too small, a
//! hundred kills, ten thousand connections on which nothing happens, and what operators do while it
//! serves: new passwords, new configurations, the end.
//!
//! `cargo bench --bench soak -- herd` (or `churn`, `kills`, `idle`, `rotate`, `reload`, `term`) runs one
//! of them and prints its numbers;
//! it fails when a promise is broken. `cargo bench` itself does nothing with it.

mod churn;
mod client;
mod content;
mod herd;
mod house;
mod idle;
mod kills;
mod load;
mod reload;
mod rotate;
mod site;
mod term;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "soak", about = "Uses weir roughly, for long")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// weir's binary.
    #[arg(long, global = true, default_value = env!("CARGO_BIN_EXE_weir"))]
    weir: PathBuf,
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench` and `cargo test`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Many clients come over ten seconds for one cold blob; some are slow, some leave.
    Herd {
        /// Of the blob.
        #[arg(long, default_value_t = 512)]
        mib: u64,
        #[arg(long, default_value_t = 200)]
        clients: usize,
        /// Of those, how many leave in the middle.
        #[arg(long, default_value_t = 20)]
        leaving: usize,
        /// Of those, how many read a MiB a second.
        #[arg(long, default_value_t = 20)]
        slow: usize,
        /// What the upstream gives in a second.
        #[arg(long, default_value_t = 100)]
        upstream_mib: u64,
        #[arg(long, default_value_t = 3)]
        breaks: u64,
    },
    /// A trace of image pulls through a cache that is too small for it.
    Churn {
        /// Of the cache.
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// Of all that is asked for.
        #[arg(long, default_value_t = 10 * 1024)]
        trace_mib: u64,
    },
    /// Quiet and slow connections, and what a healthy pull notices of them.
    Idle {
        /// Half of them asked for something once, the others sent half a request or nothing.
        #[arg(long, default_value_t = 10_000)]
        quiet: usize,
        /// Those that read 1 to 50 KiB a second.
        #[arg(long, default_value_t = 200)]
        slow: usize,
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// SIGKILL, again and again, in the middle of pulls and evictions.
    Kills {
        #[arg(long, default_value_t = 100)]
        kills: usize,
    },
    /// Passwords that change at the registry and in their files while clients pull.
    Rotate {
        #[arg(long, default_value_t = 15)]
        rotations: usize,
        /// For how long the registry takes the old password too.
        #[arg(long, default_value_t = 2000)]
        grace_ms: u64,
    },
    /// Another configuration every second while clients pull.
    Reload {
        #[arg(long, default_value_t = 60)]
        reloads: usize,
    },
    /// SIGTERM while clients pull.
    Term,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (weir, seed) = (&arguments.weir, arguments.seed);
    match arguments.command {
        None => Ok(()),
        Some(Command::Herd {
            mib,
            clients,
            leaving,
            slow,
            upstream_mib,
            breaks,
        }) => herd::run(
            weir,
            seed,
            &herd::Herd {
                bytes: mib << 20,
                clients,
                leaving,
                slow,
                upstream_rate: upstream_mib << 20,
                breaks,
            },
        ),
        Some(Command::Churn { mib, trace_mib }) => {
            churn::run(weir, seed, mib << 20, trace_mib << 20)
        }
        Some(Command::Idle {
            quiet,
            slow,
            rounds,
        }) => idle::run(
            weir,
            seed,
            &idle::Idle {
                quiet,
                slow,
                rounds,
            },
        ),
        Some(Command::Kills { kills }) => kills::run(weir, seed, kills),
        Some(Command::Rotate {
            rotations,
            grace_ms,
        }) => rotate::run(weir, rotations, Duration::from_millis(grace_ms)),
        Some(Command::Reload { reloads }) => reload::run(weir, reloads),
        Some(Command::Term) => term::run(weir, seed),
    }
}
