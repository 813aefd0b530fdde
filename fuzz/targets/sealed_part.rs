//! Fuzzes `sealed_part`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shard_fuzz::run("sealed_part", input));
