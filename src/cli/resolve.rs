//! `weir resolve IMAGE…`: what an image means to this configuration, which credential applies and
//! why, and whether it is cached. Asks no registry.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::desk::{Desk, DeskError};
use super::print::{self, Style};
use super::{FAILED, WRONG};
use crate::clock::Clock;
use crate::config::Config;
use crate::oci::{ImageName, InvalidImageName, Reference};
use crate::route::{By, Routed, Routes, Unrouted};
use crate::store::{self, OpenError, Store};
use crate::upstream::{self, ANONYMOUS, CredentialOutcome, CredentialTrace, Upstream};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Images as a client names them, such as alpine or ghcr.io/org/app:1
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

pub(super) fn run(all: &super::Arguments, arguments: &Arguments) -> ExitCode {
    let config = match all.load() {
        Ok(config) => config,
        Err(error) => {
            print::err(&print::load_error(&error, Style::for_stderr()));
            return ExitCode::from(WRONG);
        }
    };
    match resolve_all(&config, &arguments.images) {
        Ok(resolved) => {
            let failed = resolved.iter().any(Resolved::is_bad);
            print::out(text_of(&resolved, arguments.json).as_bytes());
            ExitCode::from(if failed { FAILED } else { 0 })
        }
        Err(error) => {
            print::fail(&format_args!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn text_of(resolved: &[Resolved], as_json: bool) -> String {
    if as_json {
        let list: Vec<_> = resolved.iter().map(Resolved::json).collect();
        return format!("{:#}\n", Value::Array(list));
    }
    let style = Style::for_stdout();
    let texts: Vec<_> = resolved.iter().map(|image| image.text(style)).collect();
    texts.join("\n")
}

fn resolve_all(config: &Config, images: &[String]) -> anyhow::Result<Vec<Resolved>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let unseen = prometheus::Registry::new();
        let metrics = upstream::Metrics::new(&unseen);
        let upstream = Upstream::new(config, Clock::System, metrics)?;
        let routes = Routes::new(config);
        let shelf = Shelf::find(config).await;
        let mut resolved = Vec::new();
        for text in images {
            let found = match find(&routes, text) {
                Ok((name, routed)) => {
                    let traces = upstream.explain(&routed.target);
                    let cached = shelf.has(&name, &routed).await;
                    Ok(Found {
                        reference: name.reference(),
                        routed,
                        traces,
                        cached,
                    })
                }
                Err(why) => Err(why),
            };
            resolved.push(Resolved {
                image: text.clone(),
                found,
            });
        }
        Ok(resolved)
    })
}

fn find(routes: &Routes, text: &str) -> Result<(ImageName, Routed), Unresolved> {
    let name: ImageName = text.parse()?;
    let routed = routes.image(&name)?;
    Ok((name, routed))
}

/// Why an image means nothing here.
#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error(transparent)]
    Name(#[from] InvalidImageName),
    #[error(transparent)]
    Unrouted(#[from] Unrouted),
}

/// One image of the command line.
struct Resolved {
    image: String,
    found: Result<Found, Unresolved>,
}

struct Found {
    routed: Routed,
    reference: Reference,
    traces: Vec<CredentialTrace>,
    cached: Cached,
}

enum Cached {
    /// Its manifest is; so much of what it names is missing, where somebody counted.
    Yes {
        digest: String,
        missing: Option<usize>,
    },
    No,
    Unknown(String),
}

/// Who knows what is cached.
enum Shelf<'a> {
    Running(Desk<'a>),
    Directory(Box<Store>),
    /// There is no cache yet.
    Empty,
    Unknown(String),
}

impl<'a> Shelf<'a> {
    async fn find(config: &'a Config) -> Shelf<'a> {
        let desk = Desk(&config.admin.listen);
        let away = match desk.get("/api/v1/status").await {
            Ok(status) if status["cache"]["directory"] == json!(config.cache.directory) => {
                return Shelf::Running(desk);
            }
            Ok(_) => "the weir that runs has another cache.directory".to_owned(),
            Err(error) => error.to_string(),
        };
        // Opening it would begin one.
        if !config.cache.directory.join("oci-layout").exists() {
            return Shelf::Empty;
        }
        let metrics = store::Metrics::new(&prometheus::Registry::new());
        match Store::open(&config.cache, Clock::System, metrics) {
            Ok(store) => Shelf::Directory(Box::new(store)),
            Err(error @ OpenError::InUse { .. }) => Shelf::Unknown(format!("{error}; {away}")),
            Err(error) => Shelf::Unknown(error.to_string()),
        }
    }

    async fn has(&self, name: &ImageName, routed: &Routed) -> Cached {
        match self {
            Shelf::Running(desk) => ask(desk, name).await,
            Shelf::Directory(store) => {
                let digest = match name.reference() {
                    Reference::Digest(digest) => Some(digest),
                    Reference::Tag(tag) => {
                        let record = store.index().tag(&routed.target, &tag);
                        record.map(|record| record.digest)
                    }
                };
                match digest.filter(|digest| store.contains(digest)) {
                    Some(digest) => Cached::Yes {
                        digest: digest.to_string(),
                        missing: None,
                    },
                    None => Cached::No,
                }
            }
            Shelf::Empty => Cached::No,
            Shelf::Unknown(why) => Cached::Unknown(why.clone()),
        }
    }
}

async fn ask(desk: &Desk<'_>, name: &ImageName) -> Cached {
    let told: Result<Value, DeskError> = desk.get(&format!("/api/v1/resolve?image={name}")).await;
    match told {
        Err(error) => Cached::Unknown(error.to_string()),
        Ok(told) => match (told["manifest_cached"].as_bool(), told["digest"].as_str()) {
            (Some(true), Some(digest)) => Cached::Yes {
                digest: digest.to_owned(),
                missing: told["missing"].as_array().map(Vec::len),
            },
            _ => Cached::No,
        },
    }
}

impl Resolved {
    /// It means nothing, or a credential that applies cannot be had.
    fn is_bad(&self) -> bool {
        match &self.found {
            Err(_) => true,
            Ok(found) => found.traces.iter().any(|trace| {
                let used = trace.used().map(|step| &step.outcome);
                matches!(used, Some(CredentialOutcome::Missing { .. }))
            }),
        }
    }

    fn text(&self, style: Style) -> String {
        let mut text = format!("{}\n", style.strong(&self.image));
        // Writing into a String cannot fail.
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<10}  {value}");
        };
        let found = match &self.found {
            Ok(found) => found,
            Err(error) => {
                line("no", &style.bad(error));
                return text;
            }
        };
        let target = &found.routed.target;
        let registry = match found.routed.by {
            By::Default => format!("{} (the default)", target.registry),
            By::Prefix | By::Host | By::Namespace => target.registry.to_string(),
        };
        line("registry", &registry);
        line("repository", target.repository.as_str());
        line("reference", &found.reference.to_string());
        line("cached", &found.cached.text());
        for trace in &found.traces {
            line("endpoint", &trace.endpoint);
            for step in &trace.steps {
                let outcome = match &step.outcome {
                    CredentialOutcome::Used { .. } | CredentialOutcome::ClientsOwn => {
                        style.good(&step.outcome)
                    }
                    CredentialOutcome::WouldAsk => style.careful(&step.outcome),
                    CredentialOutcome::Missing { .. } => style.bad(&step.outcome),
                    CredentialOutcome::Passed { .. } => style.faint(&step.outcome),
                };
                line("", &format!("{}: {outcome}", step.source));
            }
            if trace.used().is_none() {
                line("", &format!("no credential applies: {ANONYMOUS}"));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let found = match &self.found {
            Ok(found) => found,
            Err(error) => return json!({ "image": self.image, "error": error.to_string() }),
        };
        let target = &found.routed.target;
        json!({
            "image": self.image,
            "registry": target.registry.as_str(),
            "repository": target.repository.as_str(),
            "reference": found.reference.to_string(),
            "cached": found.cached.json(),
            "endpoints": found.traces.iter().map(json_of_endpoint).collect::<Vec<_>>(),
        })
    }
}

fn json_of_endpoint(trace: &CredentialTrace) -> Value {
    let steps = trace.steps.iter().map(|step| {
        let applies = !matches!(step.outcome, CredentialOutcome::Passed { .. });
        json!({ "source": step.source, "applies": applies, "why": step.outcome.to_string() })
    });
    json!({
        "url": &*trace.endpoint,
        "credential": trace.used().map_or(ANONYMOUS, |step| &step.source),
        "steps": Vec::from_iter(steps),
    })
}

impl Cached {
    fn text(&self) -> String {
        match self {
            Cached::Yes { digest, missing } => match missing {
                None => format!("its manifest {digest}"),
                Some(0) => format!("all of it, {digest}"),
                Some(count) => format!("{digest}, without {count} of what it names"),
            },
            Cached::No => "no".to_owned(),
            Cached::Unknown(why) => format!("unknown: {why}"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Cached::Yes { digest, missing } => {
                json!({ "manifest": true, "digest": digest, "missing": missing })
            }
            Cached::No => json!({ "manifest": false }),
            Cached::Unknown(why) => json!({ "manifest": null, "why": why }),
        }
    }
}
