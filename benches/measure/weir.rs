//! weir as a server under measurement, under whatever it is run by.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::process::Process;
use super::seed::REGISTRY;
use super::servers::{Certificate, Server, answers, free_address};
use super::wire::Place;

/// How one weir is set up.
pub(crate) struct Weir<'a> {
    pub(crate) name: &'a str,
    /// Configuration and log go here.
    pub(crate) folder: &'a Path,
    pub(crate) cache: &'a Path,
    pub(crate) upstream: SocketAddr,
    /// With one it speaks TLS only.
    pub(crate) certificate: Option<&'a Certificate>,
}

impl Weir<'_> {
    /// Runs `command`, the binary as such or behind a tool, and waits until weir is ready.
    pub(crate) fn start(&self, mut command: Command) -> Result<Server> {
        let Weir {
            name,
            folder,
            cache,
            upstream,
            certificate,
        } = self;
        let (address, admin) = (free_address()?, free_address()?);
        let tls = certificate.map(Certificate::section).unwrap_or_default();
        let text = format!(
            "builtin_registries = false\n\
             [server]\nlisten = '{address}'\n{tls}\
             [admin]\nlisten = '{admin}'\n\
             [cache]\ndirectory = '{}'\nmin_free = '64MiB'\n\
             [tags]\nfresh_for = '1h'\n\
             [registries.'{REGISTRY}']\nendpoints = ['http://{upstream}']\ndefault = true\n",
            cache.display(),
        );
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, text)?;
        let log = folder.join(format!("{name}.log"));
        command.arg("--config").arg(&config);
        command.args(["--log-level", "warn", "serve"]);
        let mut process = Process::start(name, &mut command, &log)?;
        process
            .wait_until(|| answers(admin, "/readyz"))
            .with_context(|| format!("see {}", log.display()))?;
        let tls = certificate.map(|certificate| Arc::clone(&certificate.client));
        Ok(Server {
            process,
            place: Place { address, tls },
            cache: cache.to_path_buf(),
        })
    }
}
