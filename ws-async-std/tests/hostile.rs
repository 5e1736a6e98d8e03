//! The suite of hostile clients on async-std.

#![cfg(target_os = "linux")]

#[path = "../../tests/hostile.rs"]
mod hostile;

/// What is async-std's own.
mod rt {
    pub(crate) use async_std::task::block_on;
    pub(crate) use ws_async_std as ws;
}
