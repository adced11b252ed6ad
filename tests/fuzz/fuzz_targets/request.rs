//! Paths of requests. What must hold stands in `src/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|path: &str| weir::fuzzing::request(path));
