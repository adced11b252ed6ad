//! From files and environment to a checked [`Config`].

use std::io::Read;
use std::path::{Path, PathBuf};

use super::checked::Config;
use super::crossing::{Crossing, Outcome};
use super::document;
use super::problem::Problems;
use super::{registries, sections};

/// Names the config file.
const FILE_VARIABLE: &str = "WEIR_CONFIG";
/// Where a config file is looked for when nothing names one.
const FILE_PLACES: [&str; 2] = ["weir.toml", "/etc/weir/weir.toml"];
/// A config file is text that a person reads.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the configuration {path} cannot be read: {source}", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the configuration {path} has more than {max} bytes: is it the right file?", path = path.display())]
    TooLarge { path: PathBuf, max: u64 },
    #[error("the configuration {path} is not UTF-8 text: is it the right file?", path = path.display())]
    NotText { path: PathBuf },
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// Reads the configuration: `path` where one is given, else `$WEIR_CONFIG`, `./weir.toml`,
/// `/etc/weir/weir.toml`, or nothing but the defaults; over that, the variables `WEIR__…` of
/// `environment`, which is the whole environment of the process.
pub fn load(
    path: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, LoadError> {
    let environment: Vec<_> = environment.collect();
    let Some(path) = find(path, &environment) else {
        return Ok(cross("", &environment, None)?);
    };
    let text = read(&path)?;
    Ok(cross(&text, &environment, Some(&path))?)
}

/// Reads a configuration that is not in a file.
pub fn load_str(text: &str, environment: &[(String, String)]) -> Result<Config, Problems> {
    cross(text, environment, None)
}

/// The config file that applies, if any. One that is named is taken whether it exists or not.
fn find(path: Option<&Path>, environment: &[(String, String)]) -> Option<PathBuf> {
    if let Some(path) = path {
        return Some(path.to_owned());
    }
    let named = environment
        .iter()
        .find(|(name, text)| name == FILE_VARIABLE && !text.is_empty());
    if let Some((_, path)) = named {
        return Some(path.into());
    }
    let places = FILE_PLACES.iter().map(PathBuf::from);
    places.into_iter().find(|path| path.exists())
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let path = || path.to_owned();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let (path, max) = (path(), FILE_BYTES_MAX);
        return Err(LoadError::TooLarge { path, max });
    }
    String::from_utf8(bytes).map_err(|_| LoadError::NotText { path: path() })
}

fn cross(
    text: &str,
    environment: &[(String, String)],
    file: Option<&Path>,
) -> Result<Config, Problems> {
    let (config, outcome) = read_all(text, environment, file);
    if outcome.problems.is_empty() {
        Ok(config)
    } else {
        let (file, problems) = (file.map(Path::to_owned), outcome.problems);
        Err(Problems { file, problems })
    }
}

/// The configuration with its problems: it may be used only where there are none.
pub(super) fn read_all(
    text: &str,
    environment: &[(String, String)],
    file: Option<&Path>,
) -> (Config, Outcome) {
    let base = file.and_then(Path::parent).map(Path::to_owned);
    let crossing = Crossing::new(environment, base);
    if let Some(file) = file {
        crossing.note_file(file.to_owned());
    }
    let (table, mut problems) = document::parse(text);
    let mut config = {
        let root = crossing.root(table);
        let server = sections::server(&root);
        let admin = sections::admin(&root, &server);
        let access = sections::access(&root, &server);
        let reach = registries::Reach {
            open_at: sections::open_address(&server, &access),
            clear_at: sections::clear_address(&server),
        };
        Config {
            cache: sections::cache(&root),
            tags: sections::tags(&root),
            upstream: sections::upstream(&root),
            credentials: sections::credentials(&root, reach.open_at),
            registries: registries::registries(&root, reach),
            server,
            admin,
            access,
            files: Vec::new(),
            file: file.map(Path::to_owned),
            warnings: Vec::new(),
        }
    };
    let mut outcome = crossing.finish();
    problems.append(&mut outcome.problems);
    problems.sort_by(|one, other| one.place.cmp(&other.place));
    outcome.problems = problems;
    config.files.append(&mut outcome.files);
    config.warnings.append(&mut outcome.warnings);
    (config, outcome)
}
