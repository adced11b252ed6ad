//! Paths of requests: whatever is taken names nothing that could leave its place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::oci::Request;

fuzz_target!(|path: &str| {
    match Request::parse(path) {
        Ok(
            Request::Manifest { name, .. }
            | Request::Blob { name, .. }
            | Request::Tags { name }
            | Request::Referrers { name, .. },
        ) => {
            let name = name.as_str();
            assert!(!name.split('/').any(|part| part.is_empty() || part == "." || part == ".."));
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
        }
        Ok(Request::Ping | Request::Catalog) | Err(_) => {}
    }
});
