//! One run against the peers: everything is started once, then round after round every row is
//! measured on every server in turn.
//!
//! The servers of the warm rows stay up for the whole run; those of the cold rows are started on an
//! empty cache for each sample.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir::oci::{Algorithm, Digest};

use super::cold;
use super::content::{Content, Image};
use super::index;
use super::load::Ask;
use super::process::Process;
use super::seed::Seed;
use super::servers::{Certificate, Server, Site, Static, pull};
use super::sheet::Sheet;
use super::size;
use super::warm;
use super::wire::{Place, Wire};

/// What a run is told.
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// How long one sample of a warm row takes.
    pub(crate) sample: Duration,
    /// Content, caches and logs; the content is kept for the next run.
    pub(crate) folder: PathBuf,
    /// weir's binary; without one the peers are measured alone.
    pub(crate) weir: Option<PathBuf>,
    /// weir's cache of the warm rows is written to the disk instead of pulled.
    pub(crate) seeded: bool,
    /// Only rows whose group is named here, where any is named.
    pub(crate) groups: Vec<String>,
    /// The rows of other groups are taken from the table that is there.
    pub(crate) join: bool,
    /// `table.md` and `table.json` go here.
    pub(crate) out: PathBuf,
}

/// Everything that the rows need.
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    round: Cell<usize>,
    pub(crate) site: Site,
    pub(crate) content: Content,
    pub(crate) upstream: Server,
    pub(crate) nginx: Server,
    pub(crate) nginx_tls: Place,
    pub(crate) throttled: Place,
    pub(crate) distribution: Server,
    pub(crate) weir: Option<Server>,
    pub(crate) weir_tls: Option<Server>,
}

impl Bench {
    pub(crate) fn start(settings: Settings) -> Result<Self> {
        let folder = settings.folder.clone();
        fs::create_dir_all(&folder)?;
        let content = Content::make(&folder)?;
        let site = Site {
            registry_root: content.registry_root.clone(),
            document_root: content.document_root.clone(),
            weir: settings.weir.clone().unwrap_or_default(),
            certificate: Certificate::make(&folder)?,
            folder,
        };
        let upstream = site.upstream()?;
        let Static {
            server: nginx,
            tls: nginx_tls,
            throttled,
        } = site.nginx_static()?;
        let distribution = site.distribution("distribution", &upstream.place)?;
        let has_weir = settings.weir.is_some();
        let seeded = settings.seeded;
        let start_weir = |name: &str, tls: bool| {
            let cache = site.empty_folder(name)?;
            if seeded {
                let seed = Seed::open(&cache)?;
                for image in content.images() {
                    seed.image(image, &content.document_root)?;
                }
                seed.close()?;
            }
            site.weir_on(name, &cache, &upstream.place, tls)
        };
        let weir = has_weir.then(|| start_weir("weir", false)).transpose()?;
        let weir_tls = has_weir.then(|| start_weir("weir-tls", true)).transpose()?;
        let weir_tls = weir_tls.filter(|server| speaks(&server.place));
        Ok(Bench {
            settings,
            round: Cell::new(0),
            site,
            content,
            upstream,
            nginx,
            nginx_tls,
            throttled,
            distribution,
            weir,
            weir_tls,
        })
    }

    /// The servers of the warm rows, by their columns.
    pub(crate) fn warm_servers(&self) -> Vec<(&'static str, &Server)> {
        let weir = self.weir.iter().map(|weir| ("weir", weir));
        weir.chain([("nginx", &self.nginx), ("distribution", &self.distribution)])
            .collect()
    }

    /// The caches, each on an empty one of its own.
    pub(crate) fn cold_server(&self, name: &'static str) -> Result<Server> {
        let upstream = &self.upstream.place;
        match name {
            "weir" => self.site.weir("cold-weir", upstream, false),
            "nginx-cache" => self.site.nginx_cache("cold-nginx-cache", upstream),
            _ => self.site.distribution("cold-distribution", upstream),
        }
    }

    /// Each round begins with another one: the first to write pays for memory that its host has to
    /// give back.
    pub(crate) fn cold_names(&self) -> Vec<&'static str> {
        let weir = self.weir.iter().map(|_| "weir");
        let mut names: Vec<_> = weir.chain(["nginx-cache", "distribution"]).collect();
        let first = self.round.get() % names.len();
        names.rotate_left(first);
        names
    }

    /// Brings the images of the warm rows into every cache, and those of the cold rows into the page
    /// cache.
    fn warm_up(&self) -> Result<()> {
        let tls = self
            .weir_tls
            .iter()
            .map(|server| ("weir-tls", &server.place));
        let plain = self
            .warm_servers()
            .into_iter()
            .map(|(name, server)| (name, &server.place));
        let places: Vec<_> = plain.chain(tls).collect();
        let Content {
            warm,
            eight,
            large,
            usual,
            ..
        } = &self.content;
        for (image, groups) in [
            (warm, &["blobs", "tls"][..]),
            (eight, &["busy", "memory"]),
            (usual, &["manifests", "busy"]),
        ] {
            if !groups.iter().any(|group| self.wants(group)) {
                continue;
            }
            for (name, place) in &places {
                if !(self.settings.seeded && name.starts_with("weir")) {
                    pull_image(place, image).with_context(|| format!("pull through {name}"))?;
                }
            }
        }
        self.share_pages()?;
        for image in [large, usual] {
            pull_image(&self.upstream.place, image).context("pull from the upstream")?;
        }
        // Only clean pages leave the page cache when told to.
        rustix::fs::sync();
        Ok(())
    }

    /// Lets every server read the very file that nginx does. What pages cost to read depends on where
    /// in the host's memory they happen to lie, by a third and more.
    fn share_pages(&self) -> Result<()> {
        let images = [&self.content.warm, &self.content.eight];
        let servers = [&self.distribution].into_iter();
        for server in servers.chain(&self.weir).chain(&self.weir_tls) {
            for layer in images.iter().flat_map(|image| &image.layers) {
                // Not every group of rows wants every image.
                let Some(cached) = warm::cached(server, layer) else {
                    continue;
                };
                let linked = fs::remove_file(&cached).and_then(|()| {
                    fs::hard_link(layer.file_in(&self.content.document_root), &cached)
                });
                linked.with_context(|| cached.display().to_string())?;
            }
        }
        Ok(())
    }

    fn wants(&self, group: &str) -> bool {
        let Settings { groups, .. } = &self.settings;
        groups.is_empty() || groups.iter().any(|wanted| wanted == group)
    }

    /// All rounds, then the table.
    pub(crate) fn run(self) -> Result<()> {
        self.warm_up()?;
        let mut sheet = Sheet::of_build(self.build()?);
        let earlier = self.earlier()?;
        for round in 1..=self.settings.rounds {
            eprintln!("round {round} of {}", self.settings.rounds);
            self.round.set(round);
            let mut part = |group: &str, measure: fn(&Bench, &mut Sheet) -> Result<()>| {
                if !self.wants(group) {
                    return Ok(());
                }
                eprintln!("  {group}");
                measure(&self, &mut sheet).with_context(|| format!("rows of group {group}"))
            };
            part("blobs", warm::blobs)?;
            part("tls", warm::blobs_over_tls)?;
            part("manifests", warm::manifests)?;
            part("busy", warm::manifests_beside_cold_reads)?;
            part("first-byte", cold::first_byte)?;
            part("cold", cold::one_client)?;
            part("throttled", cold::throttled)?;
            part("herd", cold::herd)?;
            part("memory", size::memory)?;
            part("size", size::binary_and_start)?;
            part("index", index::operations)?;
            // What is measured is kept, also where the run is cut short.
            let mut joined = sheet.clone();
            joined.join(&earlier["rows"]);
            self.write(&joined)?;
        }
        sheet.join(&earlier["rows"]);
        println!("{}", sheet.markdown());
        Ok(())
    }

    /// The table that this run goes on with.
    fn earlier(&self) -> Result<Value> {
        let Settings { join, out, .. } = &self.settings;
        if !join {
            return Ok(Value::Null);
        }
        let text = fs::read_to_string(out.join("table.json"));
        let text = text.context("--join wants a table that is there")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The beginning of the digest of weir's binary.
    fn build(&self) -> Result<String> {
        let Some(weir) = &self.settings.weir else {
            return Ok("none".to_owned());
        };
        let digest = Digest::of(Algorithm::Sha256, &fs::read(weir)?);
        Ok(digest.hex()[..12].to_owned())
    }

    fn write(&self, sheet: &Sheet) -> Result<()> {
        let Settings {
            out,
            sample,
            rounds,
            ..
        } = &self.settings;
        fs::create_dir_all(out)?;
        let about = json!({
            "rounds": rounds,
            "sample_seconds": sample.as_secs_f64(),
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            "rows": sheet.json(),
        });
        fs::write(
            out.join("table.json"),
            serde_json::to_string_pretty(&about)?,
        )?;
        fs::write(out.join("table.md"), sheet.markdown())?;
        Ok(())
    }
}

/// Whether a connection can be opened, its TLS handshake included.
fn speaks(place: &Place) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.is_ok_and(|runtime| runtime.block_on(Wire::open(place)).is_ok())
}

/// The manifest by tag and by digest, then every layer, as a client would.
pub(crate) fn pull_image(place: &Place, image: &Image) -> Result<()> {
    let items = [&image.by_tag, &image.by_digest]
        .into_iter()
        .chain(&image.layers);
    pull(
        place,
        items
            .map(|item| Ask::new(item.path.clone(), item.length))
            .collect(),
    )?;
    Ok(())
}

/// CPU seconds of a server while `work` runs, beside what it gives.
pub(crate) fn with_cpu<T>(process: &Process, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let before = process.cpu_seconds();
    let done = work()?;
    Ok((done, process.cpu_seconds() - before))
}
