//! See `ws_proto::fuzzing::extensions`.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_proto::fuzzing::extensions(input, Instant::now()));
