//! Image names, references and registry names. What must hold stands in `src/fuzzing.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| weir::fuzzing::reference(text));
