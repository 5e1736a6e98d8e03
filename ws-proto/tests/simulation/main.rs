//! A server and many clients on one thread, over a network and by a clock of the test's own. A seed decides all that
//! happens: latencies, cuts, stalls, resets, who sends what when and who stops caring, which futures are dropped where.
//!
//! What holds whatever the seed:
//!
//! - nothing panics, and nobody waits for what never comes;
//! - a message that one side took comes once, in its order, or the other side is told that it got not all;
//! - every connection ends within its deadlines;
//! - what an end says of the close is what RFC 6455 says of the frames that went over the wire;
//! - every frame is one that RFC 6455 allows;
//! - no payload, waker or socket is kept.
//!
//! `SIMULATION_SEEDS=100000 cargo test --release -p ws-proto --test simulation` tries so many seeds,
//! `SIMULATION_SEED=4711 cargo test -p ws-proto --test simulation -- --nocapture` shows what one of them does.

mod agent;
mod books;
mod faults;
mod network;
mod rng;
mod rogue;
mod scene;
mod tap;
mod world;

use std::{panic::resume_unwind, thread};

#[test]
fn every_seed_keeps_what_was_promised() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let _ = run(seed, true);
        return;
    }
    for seed in 0..variable("SIMULATION_SEEDS").unwrap_or(SEEDS) {
        let _ = run(seed, false);
    }
}

#[test]
fn a_seed_does_the_same_each_time() {
    for seed in 0..SEEDS / 3 {
        assert_eq!(run(seed, false), run(seed, false), "{}", replay(seed));
    }
}

/// Plays a seed to its end: what happened, as a number.
///
/// In a thread of its own, as how much is read at once depends on the memory that a thread keeps.
fn run(seed: u64, is_loud: bool) -> u64 {
    let play = || {
        let trace = world::run(seed, is_loud, scene::play);
        assert_eq!(agent::held(), 0, "payloads are kept");
        trace
    };
    let played = thread::scope(|scope| scope.spawn(play).join());
    played.unwrap_or_else(|panic| {
        eprintln!("{}", replay(seed));
        resume_unwind(panic);
    })
}

fn replay(seed: u64) -> String {
    format!(
        "to see it: SIMULATION_SEED={seed} cargo test -p ws-proto --test simulation -- --nocapture every_seed"
    )
}

#[allow(clippy::disallowed_methods, reason = "the protocol has no environment; its test has")]
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Seeds that are tried if nobody says how many.
const SEEDS: u64 = 300;
