//! `weir check`: every problem of the configuration with its key and the cure, or what applies.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::WRONG;
use super::print::{self, Style, warning_text};
use crate::config::{
    Config, Credential, CredentialSource, LoadError, Place, Registry, RegistryAuth, duration_text,
    size_text,
};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

pub(super) fn run(all: &super::Arguments, arguments: &Arguments) -> ExitCode {
    let loaded = all.load();
    let style = Style::for_stdout();
    let text = match (&loaded, arguments.json) {
        (Ok(config), false) => summary(config, style),
        (Err(error), false) => print::load_error(error, style),
        (Ok(config), true) => format!("{:#}\n", json_of(config)),
        (Err(error), true) => format!("{:#}\n", json_of_error(error)),
    };
    print::out(text.as_bytes());
    match loaded {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(WRONG),
    }
}

/// What applies, for a person.
fn summary(config: &Config, style: Style) -> String {
    let mut text = String::new();
    let file = match &config.file {
        Some(file) => file.display().to_string(),
        None => "no configuration file, the built-in defaults apply".to_owned(),
    };
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{}  {value}",
            style.strong(format_args!("{name:<10}"))
        );
    };
    line("file", &file);
    line("listens on", &listens(config));
    line(
        "admin",
        &format!("http://{}", config.admin.listen).replace("http://unix:", "unix:"),
    );
    line("cache", &cache(config));
    line("tags", &tags(config));
    line("access", &access(config));
    line("registries", &format!("{}", config.registries.len()));
    let width = config
        .registries
        .iter()
        .map(|r| r.name.as_str().len())
        .max();
    for registry in &config.registries {
        let _ = writeln!(
            text,
            "  {}",
            registry_line(registry, width.unwrap_or(0), style)
        );
    }
    if !config.warnings.is_empty() {
        let count = match config.warnings.len() {
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        };
        let _ = writeln!(text, "\n{}", style.careful(count));
        for warning in &config.warnings {
            let _ = write!(text, "\n{}", warning_text(warning, style));
        }
    }
    let _ = writeln!(text, "\n{}", style.good("ok"));
    text
}

fn listens(config: &Config) -> String {
    let scheme = match config.server.tls {
        Some(_) => "https",
        None => "http",
    };
    let addresses = config.server.listen.iter();
    let urls = addresses.map(|listen| format!("{scheme}://{listen}"));
    let urls: Vec<_> = urls
        .map(|url| url.replace(&format!("{scheme}://unix:"), "unix:"))
        .collect();
    urls.join(", ")
}

fn cache(config: &Config) -> String {
    let cache = &config.cache;
    let mut text = format!(
        "{}, at most {}, {} of the file system kept free",
        cache.directory.display(),
        size_text(cache.max_size),
        size_text(cache.min_free),
    );
    if let Some(age) = cache.max_age {
        let _ = write!(text, ", nothing older than {}", duration_text(age));
    }
    text
}

fn tags(config: &Config) -> String {
    let tags = &config.tags;
    let mut text = format!(
        "fresh for {}, served up to {} later when the upstream cannot answer",
        duration_text(tags.fresh_for),
        duration_text(tags.stale_for),
    );
    if !tags.immutable.is_empty() {
        let patterns = tags.immutable.iter().map(|pattern| pattern.glob().glob());
        let patterns: Vec<_> = patterns.collect();
        let _ = write!(text, ", never changing: {}", patterns.join(" "));
    }
    text
}

fn access(config: &Config) -> String {
    let access = &config.access;
    let who = if access.anonymous {
        "everybody who reaches weir"
    } else {
        "clients who say who they are"
    };
    match access.rules.len() {
        0 => format!("{who}, everything"),
        1 => format!("{who}, by 1 rule"),
        count => format!("{who}, by {count} rules"),
    }
}

fn registry_line(registry: &Registry, width: usize, style: Style) -> String {
    let endpoints: Vec<_> = registry
        .endpoints
        .iter()
        .map(|e| e.uri.to_string())
        .collect();
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|uri| uri.trim_end_matches('/'))
        .collect();
    let mut text = format!(
        "{:<width$}  {}, {}",
        registry.name.as_str(),
        endpoints.join(", "),
        credentials(registry),
    );
    if registry.default {
        text.push_str(&style.faint(" (default)"));
    }
    if !registry.hosts.is_empty() {
        let _ = write!(text, ", also as {}", registry.hosts.join(", "));
    }
    text
}

fn credentials(registry: &Registry) -> String {
    match registry.auth {
        RegistryAuth::Client => {
            return format!(
                "the client's own login, whose right is known for {} and held for {} while the \
                 registry is away",
                duration_text(registry.right_for),
                duration_text(registry.right_held_for),
            );
        }
        RegistryAuth::Stored if registry.credentials.is_empty() => return "anonymous".into(),
        RegistryAuth::Stored => {}
    }
    let all = registry.credentials.iter().map(credential);
    all.collect::<Vec<_>>().join("; ")
}

/// Who and from where; never what.
fn credential(credential: &Credential) -> String {
    let source = match &credential.source {
        CredentialSource::Password { username, .. } => format!("{username} by password"),
        CredentialSource::PasswordFile { username, file } => {
            format!("{username} by password in {}", file.display())
        }
        CredentialSource::PasswordEnv { username, variable } => {
            format!("{username} by password in ${variable}")
        }
        CredentialSource::IdentityTokenFile { file, .. } => {
            format!("identity token in {}", file.display())
        }
        CredentialSource::Helper { name } => format!("docker-credential-{name}"),
    };
    if credential.prefix.is_empty() {
        source
    } else {
        format!("{}* as {source}", credential.prefix)
    }
}

fn json_of(config: &Config) -> Value {
    let warnings = config.warnings.iter().map(|warning| {
        let (what, cure) = (warning.danger.to_string(), warning.danger.cure());
        entry(&warning.key, &warning.place, &what, cure)
    });
    let registries = config.registries.iter().map(|registry| {
        let endpoints = registry.endpoints.iter().map(|e| e.uri.to_string());
        let credentials = registry.credentials.iter().map(credential);
        json!({
            "name": registry.name.as_str(),
            "default": registry.default,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "hosts": registry.hosts,
            "credentials": credentials.collect::<Vec<_>>(),
        })
    });
    let listen = config.server.listen.iter().map(ToString::to_string);
    json!({
        "ok": true,
        "file": config.file,
        "problems": [],
        "warnings": warnings.collect::<Vec<_>>(),
        "listen": listen.collect::<Vec<_>>(),
        "tls": config.server.tls.is_some(),
        "admin": config.admin.listen.to_string(),
        "cache": {
            "directory": config.cache.directory,
            "max_size": config.cache.max_size,
            "min_free": config.cache.min_free,
        },
        "registries": registries.collect::<Vec<_>>(),
    })
}

fn json_of_error(error: &LoadError) -> Value {
    let (file, problems) = match error {
        LoadError::Invalid(all) => {
            let problems = all.problems.iter().map(|problem| {
                let (what, cure) = (problem.wrong.to_string(), problem.cure());
                entry(&problem.key, &problem.place, &what, &cure)
            });
            (all.file.clone(), problems.collect())
        }
        LoadError::Unreadable { path, .. }
        | LoadError::TooLarge { path, .. }
        | LoadError::NotText { path } => {
            let cure = "name a configuration file that weir can read";
            let problem = entry("", &Place::Unwritten, &error.to_string(), cure);
            (Some(path.clone()), vec![problem])
        }
    };
    json!({ "ok": false, "file": file, "problems": problems, "warnings": [] })
}

fn entry(key: &str, place: &Place, what: &str, cure: &str) -> Value {
    let (line, variable) = match place {
        Place::Line(line) => (Some(line), None),
        Place::Variable(name) => (None, Some(name)),
        Place::Unwritten => (None, None),
    };
    json!({ "key": key, "line": line, "variable": variable, "what": what, "cure": cure })
}
