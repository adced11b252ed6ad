//! What must hold of every reader of other people's bytes, whatever the bytes are.
//!
//! One function a fuzz target of `tests/fuzz`, which brings the bytes; the test below replays what
//! was found there once. Compiled for these two only.

use crate::oci::{Children, Digest, ImageName, Manifest, Name, Reference, RegistryName};
use crate::oci::{Repository, Request};
use crate::{config, server, upstream};

/// Image names, references and registry names: what is taken survives its own text.
pub fn reference(text: &str) {
    if let Ok(image) = text.parse::<ImageName>() {
        assert_eq!(image.to_string().parse::<ImageName>().as_ref(), Ok(&image));
    }
    if let Ok(registry) = text.parse::<RegistryName>() {
        let again = registry.as_str().parse::<RegistryName>();
        assert_eq!(again.as_ref(), Ok(&registry));
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.as_str(), text);
        assert!(text.parse::<Name>().is_ok(), "every repository is a name");
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
}

/// Paths of requests: whatever is taken names nothing that could leave its place.
pub fn request(path: &str) {
    match Request::parse(path) {
        Ok(
            Request::Manifest { name, .. }
            | Request::Blob { name, .. }
            | Request::Tags { name }
            | Request::Referrers { name, .. },
        ) => {
            let name = name.as_str();
            let leads_away = |part: &str| part.is_empty() || part == "." || part == "..";
            assert!(!name.split('/').any(leads_away));
            let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
            assert!(name.bytes().all(is_plain));
        }
        Ok(Request::Ping | Request::Catalog) | Err(_) => {}
    }
}

/// Manifests as strangers send them: read without panic, and every child has a real digest.
pub fn manifest(bytes: &[u8]) {
    if let Ok(children) = Children::parse(bytes) {
        for child in children.iter() {
            assert_eq!(child.digest.to_string().parse::<Digest>(), Ok(child.digest));
        }
    }
    // Whether it is a manifest does not matter here.
    drop(Manifest::sniff_media_type(bytes));
}

/// `WWW-Authenticate`, each line a header of its own.
pub fn challenge(bytes: &[u8]) {
    upstream::challenge_holds(bytes);
}

/// `Range` of a client and `Content-Range` of an upstream: eight bytes of length, then the text.
pub fn range(bytes: &[u8]) {
    let Some((length, header)) = bytes.split_first_chunk() else {
        return;
    };
    let Ok(header) = std::str::from_utf8(header) else {
        return;
    };
    server::range_holds(header, u64::from_le_bytes(*length));
    upstream::content_range_holds(header);
}

/// Configurations: what is taken can be shown, what is not says what is wrong.
pub fn config(text: &str) {
    match config::load_str(text, &[]) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every file of a target's corpus.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let files = std::fs::read_dir(root.join(target)).expect("the target has a corpus");
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            std::fs::read(file.expect("an entry").path()).expect("a file")
        };
        let all: Vec<_> = files.map(read).collect();
        assert!(all.len() > 5, "{target}: {} files", all.len());
        all
    }

    fn replay_text(target: &str, holds: fn(&str)) {
        for bytes in corpus(target) {
            if let Ok(text) = std::str::from_utf8(&bytes) {
                holds(text);
            }
        }
    }

    #[test]
    fn what_fuzzing_found_interesting_still_holds() {
        replay_text("reference", reference);
        replay_text("request", request);
        replay_text("config", config);
        corpus("manifest").iter().for_each(|bytes| manifest(bytes));
        corpus("challenge")
            .iter()
            .for_each(|bytes| challenge(bytes));
        corpus("range").iter().for_each(|bytes| range(bytes));
    }
}
