//! Configuration files. What must hold stands in `src/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| weir::fuzzing::config(text));
