//! The suite of hostile clients on tokio.

#![cfg(target_os = "linux")]

#[path = "../../tests/hostile.rs"]
mod hostile;

/// What is tokio's own.
mod rt {
    pub(crate) use ws_tokio as ws;

    pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }
}
