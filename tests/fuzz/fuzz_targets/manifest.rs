//! Manifests as strangers send them: read without panic, and every child has a real digest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::oci::{Children, Digest, Manifest};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(children) = Children::parse(bytes) {
        for child in children.iter() {
            assert_eq!(child.digest.to_string().parse::<Digest>(), Ok(child.digest));
        }
    }
    let _ = Manifest::sniff_media_type(bytes);
});
