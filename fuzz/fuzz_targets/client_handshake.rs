//! See `ws_proto::fuzzing::client_handshake`.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_proto::fuzzing::client_handshake(input, Instant::now()));
