//! Fuzzes `storage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shard_fuzz::run("storage", input));
