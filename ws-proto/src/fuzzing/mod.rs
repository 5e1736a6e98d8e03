//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics if a promise is broken.
//!
//! What the library should do is said here once more, in the slowest and plainest way: a second reader of frames
//! (`frames`) and of heads (`handshake`), two queues (`pair`), an inflater of bits (`inflate`).

mod choices;
mod deflate;
mod extensions;
mod frames;
mod handshake;
#[path = "../../tests/pair/inflate.rs"]
mod inflate;
mod pair;
mod wire;

use std::time::Instant;

pub use deflate::deflate;
pub use extensions::extensions;
pub use frames::frames;
pub use handshake::{client_handshake, server_handshake};
pub use pair::pair;

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8], Instant));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("client_handshake", client_handshake),
    ("deflate", deflate),
    ("extensions", extensions),
    ("frames", frames),
    ("pair", pair),
    ("server_handshake", server_handshake),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn promises_hold_over_the_corpus() {
        let now = Instant::now();
        for (name, target) in TARGETS {
            let corpus = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
            let mut count = 0;
            for entry in std::fs::read_dir(&corpus).unwrap() {
                let path = entry.unwrap().path();
                println!("{}", path.display()); // shown if the body panics
                target(&std::fs::read(path).unwrap(), now);
                count += 1;
            }
            assert!(count > 0, "{corpus} is empty");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn promises_hold_over_noise() {
        let now = Instant::now();
        let mut noise = choices::noise(1);
        for (_, target) in TARGETS {
            for len in (0..400).cycle().step_by(7).take(150) {
                let input: Vec<u8> = noise.by_ref().take(len).collect();
                target(&input, now);
            }
        }
    }
}
