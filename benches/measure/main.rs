//! Measures weir: against its peers, and by the number of its instructions.
//!
//! `benches/peers/run` and `benches/instructions/run` prepare the ground and call this program. It
//! is a bench target only so that `cargo build` leaves it alone; `cargo bench` itself does nothing
//! with it.

mod cold;
mod content;
mod index;
mod instructions;
mod load;
mod marks;
mod peers;
mod process;
mod seed;
mod servers;
mod sheet;
mod size;
mod warm;
mod weir;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use load::{Ask, Plan, Until};
use peers::{Bench, Settings};
use wire::Place;

#[derive(Parser)]
#[command(name = "measure", about = "Measures weir and its peers")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Given by `cargo bench` and `cargo test`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything, measures every row, writes the table.
    Peers {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// One short round.
        #[arg(long)]
        quick: bool,
        #[arg(long, default_value = "/var/tmp/weir-bench")]
        folder: PathBuf,
        /// weir's binary; without one the peers are measured alone.
        #[arg(long)]
        weir: Option<PathBuf>,
        /// Write weir's warm cache to the disk instead of pulling it.
        #[arg(long)]
        seeded: bool,
        /// Only these groups of rows.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Keep the other rows of the table that is there.
        #[arg(long)]
        join: bool,
        #[arg(long, default_value = "target/peers")]
        out: PathBuf,
    },
    /// Counts the instructions of warm requests under callgrind.
    Instructions {
        #[arg(long)]
        weir: PathBuf,
        #[arg(long, default_value = "/var/tmp/weir-bench")]
        folder: PathBuf,
        #[arg(long, default_value = "benches/instructions/baseline.json")]
        baseline: PathBuf,
        /// Write the baseline instead of comparing with it.
        #[arg(long)]
        update: bool,
    },
    /// Asks one plain HTTP server for the same path over and over, and prints what came back.
    Load {
        address: SocketAddr,
        path: String,
        /// What the body has to be long.
        #[arg(long)]
        length: u64,
        #[arg(long, default_value_t = 4)]
        connections: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// So many requests on each connection instead.
        #[arg(long)]
        each: Option<usize>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Some(Command::Peers {
            rounds,
            quick,
            folder,
            weir,
            seeded,
            only,
            join,
            out,
        }) => {
            let settings = Settings {
                rounds: if quick { 1 } else { rounds },
                sample: Duration::from_secs(if quick { 1 } else { 3 }),
                folder,
                weir,
                seeded,
                groups: only,
                join,
                out,
            };
            Bench::start(settings)?.run()
        }
        Some(Command::Instructions {
            weir,
            folder,
            baseline,
            update,
        }) => instructions::run(&instructions::Settings {
            weir,
            folder,
            baseline,
            update,
        }),
        Some(Command::Load {
            address,
            path,
            length,
            connections,
            seconds,
            each,
        }) => {
            let until = match each {
                Some(times) => Until::Each(times),
                None => Until::After(Duration::from_secs_f64(seconds)),
            };
            let place = Place::plain(address);
            let asks = vec![Ask::new(path, length)];
            let report = load::run(&Plan {
                place,
                asks,
                connections,
                until,
            })?;
            println!("{}", serde_json::to_string_pretty(&report)?);
            Ok(())
        }
        None => {
            println!("run benches/peers/run or benches/instructions/run");
            Ok(())
        }
    }
}
