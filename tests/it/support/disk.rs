//! Looking into a cache directory, as an operator would.

use std::fs;
use std::path::{Path, PathBuf};

use weir::oci::{Algorithm, Digest};

/// Names of the files in a folder, sorted; none where there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = files(folder)
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// Bytes of everything beneath a folder.
pub fn bytes(folder: &Path) -> u64 {
    let lengths = files(folder).into_iter().map(|path| {
        // A file may go between the listing and the look.
        fs::metadata(path).map_or(0, |metadata| metadata.len())
    });
    lengths.sum()
}

/// Files under `blobs/` whose content is not what their name says.
pub fn wrong_files(cache_directory: &Path) -> Vec<PathBuf> {
    let mut wrong = Vec::new();
    for algorithm in Algorithm::ALL {
        let folder = cache_directory.join("blobs").join(algorithm.as_str());
        wrong.extend(files(&folder).into_iter().filter(|path| {
            let content = fs::read(path).expect("a stored file can be read");
            let name = path.file_name().expect("a file has a name");
            Digest::of(algorithm, &content).hex() != name.to_string_lossy()
        }));
    }
    wrong
}

/// All files beneath a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}
