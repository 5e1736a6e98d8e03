//! See `ws_proto::fuzzing::deflate`.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_proto::fuzzing::deflate(input, Instant::now()));
