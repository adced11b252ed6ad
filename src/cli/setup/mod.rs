//! `weir setup CLIENT`: the files that make a client use this weir, ready to install, and what to run
//! afterwards.
//!
//! Nothing here is guessed from the network: what is printed follows from the configuration and the
//! options. A secret never stands in a file, only the place where it belongs.

mod buildkit;
mod containerd;
mod containers;
mod docker;
mod install;
mod k3s;
mod plan;
mod site;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::print::{self, Style};
use super::{FAILED, WRONG};
use crate::config::Config;
use plan::Plan;
use site::{Site, Unusable};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The client to set up
    client: Client,
    /// How clients reach this weir: [https://]HOST[:PORT] [default: an address of server.listen]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The CA certificate that clients need to trust weir's own, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Only this registry; repeat it, or put commas between several [default: all]
    #[arg(long = "registry", value_name = "REGISTRY", value_delimiter = ',')]
    registries: Vec<String>,
    /// Write the files too, below this directory: / or the root of an image
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that have other content
    #[arg(long, requires = "output")]
    force: bool,
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// dockerd
    Docker,
    /// containerd, under Kubernetes or alone; ctr, nerdctl
    Containerd,
    /// podman, buildah and skopeo
    Podman,
    /// CRI-O
    Crio,
    /// buildkitd and docker buildx
    Buildkit,
    /// K3s and RKE2
    K3s,
}

pub(super) fn run(all: &super::Arguments, arguments: &Arguments) -> ExitCode {
    let config = match all.load() {
        Ok(config) => config,
        Err(error) => {
            print::err(&print::load_error(&error, Style::for_stderr()));
            return ExitCode::from(WRONG);
        }
    };
    let (site, plan) = match make(&config, arguments) {
        Ok(made) => made,
        Err(error) => {
            print::fail(&error);
            return ExitCode::from(WRONG);
        }
    };
    let written = match &arguments.output {
        None => Vec::new(),
        Some(root) => match install::install(&plan, root, arguments.force) {
            Ok(written) => written,
            Err(error) => {
                print::fail(&error);
                return ExitCode::from(FAILED);
            }
        },
    };
    let text = if arguments.json {
        format!("{:#}\n", plan.json(&site))
    } else {
        plan.text(&written, Style::for_stdout())
    };
    print::out(text.as_bytes());
    ExitCode::SUCCESS
}

fn make(config: &Config, arguments: &Arguments) -> Result<(Site, Plan), Unusable> {
    let site = Site::of(
        config,
        arguments.address.as_deref(),
        arguments.ca.as_deref(),
        &arguments.registries,
    )?;
    let mut plan = match arguments.client {
        Client::Docker => docker::plan(&site),
        Client::Containerd => containerd::plan(&site),
        Client::Podman => containers::podman(&site),
        Client::Crio => containers::crio(&site),
        Client::Buildkit => buildkit::plan(&site),
        Client::K3s => k3s::plan(&site),
    };
    plan.notes.extend(site.notes());
    Ok((site, plan))
}
