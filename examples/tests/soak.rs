//! The example `soak`, for a few seconds on each runtime.

#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn mixed_load_loses_nothing_and_leaves_nothing_on_tokio() {
    soak("tokio");
}

#[test]
fn mixed_load_loses_nothing_and_leaves_nothing_on_async_std() {
    soak("async-std");
}

fn soak(runtime: &str) {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    let run = soak.args(["--runtime", runtime, "--seconds", "5", "--clients", "8"]).output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{told}{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.ends_with("all messages arrived, and nothing was left behind\n"), "{told}");
    assert!(!told.contains(" 0 messages"), "{told}");
}
