//! See `ws_proto::fuzzing::frames`.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_proto::fuzzing::frames(input, Instant::now()));
