//! `Range` of clients and `Content-Range` of upstreams. What must hold stands in `src/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir::fuzzing::range(bytes));
