//! Where log lines go, and how they look: text for a person at a terminal, JSON for a program.
//!
//! Lines go to stderr, and a stderr that nobody reads any more ends nothing.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const LEVEL_DEFAULT: &str = "info";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line for a person
    Text,
    /// One JSON object a line
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{text:?} is no log level; write off, error, warn, info, debug or trace, or directives such \
         as \"info,weir::upstream=debug\""
    )]
    Level {
        text: String,
        source: Option<ParseError>,
    },
    #[error("another log is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up the log of the process. No format: text where stderr is a terminal, else JSON. `level` is
/// a level for weir, or the directives of `RUST_LOG`.
pub fn start(format: Option<Format>, level: Option<&str>, colour: bool) -> Result<(), Error> {
    let filter = filter(level.unwrap_or(LEVEL_DEFAULT))?;
    let by_reader = || {
        if std::io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        }
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Complaining about a closed stderr would write to it, and panic.
        .log_internal_errors(false);
    match format.unwrap_or_else(by_reader) {
        Format::Text => lines
            .with_ansi(colour)
            .with_target(false)
            .finish()
            .try_init()?,
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .try_init()?,
    }
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, Error> {
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let wrong = |source| Error::Level {
        text: text.to_owned(),
        source,
    };
    let mut words = text.split(',').map(str::trim);
    // A misspelt level would be read as the name of a module, and silence everything else.
    if text.trim().is_empty()
        || words.any(|word| !word.contains(['=', '[', ':']) && !is_level(word))
    {
        return Err(wrong(None));
    }
    let directives = match text.trim().to_ascii_lowercase().as_str() {
        // The libraries' own steps would bury weir's.
        level @ ("debug" | "trace") => format!("info,weir={level}"),
        _ => text.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| wrong(Some(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken() {
        for (text, filter_text) in [
            ("info", "info"),
            ("WARN", "warn"),
            ("debug", "weir=debug,info"),
            ("off", "off"),
            ("info,weir::upstream=trace", "weir::upstream=trace,info"),
        ] {
            assert_eq!(filter(text).unwrap().to_string(), filter_text, "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for text in ["", "inof", "info,debgu", "weir=loud", "info,"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
