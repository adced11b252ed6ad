//! Puts the files of a plan below a root, all of them or, where one is in the way, none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::plan::{Kind, Plan};

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{} is there with other content and nothing was written; --force replaces it", .0.display())]
    Other(PathBuf),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Where they are now.
pub(super) fn install(plan: &Plan, root: &Path, force: bool) -> Result<Vec<PathBuf>, Refused> {
    let whole = plan.files.iter().filter(|file| file.kind == Kind::Whole);
    let files: Vec<_> = whole
        .map(|file| (root.join(file.path.trim_start_matches('/')), &file.content))
        .collect();
    for (path, content) in &files {
        match fs::read(path) {
            Ok(there) if there == content.as_bytes() || force => {}
            Ok(_) => return Err(Refused::Other(path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Refused::Io {
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    for (path, content) in &files {
        write(path, content).map_err(|source| Refused::Io {
            path: path.clone(),
            source,
        })?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// A client that reads meanwhile sees the old file or the new one.
fn write(path: &Path, content: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".weir-new");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}
