//! See `ws_proto::fuzzing::deflate`.
#![no_main]

use std::{sync::LazyLock, time::Instant};

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

libfuzzer_sys::fuzz_target!(|input: &[u8]| ws_proto::fuzzing::deflate(input, *NOW));
