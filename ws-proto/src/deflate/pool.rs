//! States of zlib's, shared by connections that need one for a message at a time.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flate2::{Compress, Compression, Decompress};

use super::{MAX_BITS, MIN_BITS};

/// Compressors and decompressors that wait to be used, shared by all clones.
///
/// It holds no more than its budget: states beyond it are freed. One message at a time and thread is worked on, so a
/// few states serve any number of connections that agreed on no context takeover. What compresses messages in pieces,
/// or with context takeover, begins unused, so that nothing shows of what others sent.
#[derive(Clone)]
pub struct DeflatePool(Arc<Shared>);

struct Shared {
    budget: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// With the window and level each was made for.
    deflaters: Vec<(u8, u32, Compress)>,
    inflaters: Vec<Decompress>,
    held: usize,
}

impl DeflatePool {
    /// A pool that holds at most so many bytes of idle states.
    pub fn new(budget: usize) -> Self {
        Self(Arc::new(Shared { budget, idle: Mutex::default() }))
    }

    /// Bytes of idle states it holds, by their measured sizes.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// One for a message alone, in one piece, or else one that was never used: zlib files the last strings of a piece
    /// together with the byte behind them, and a reset leaves in the window what was there. So matches in the next
    /// piece would tell what others sent.
    pub(super) fn take_deflater(&self, bits: u8, level: u32, alone: bool) -> Compress {
        if alone {
            let mut idle = self.lock();
            if let Some(i) = idle.deflaters.iter().position(|&(b, l, _)| (b, l) == (bits, level)) {
                idle.held -= deflater_size(bits);
                return idle.deflaters.swap_remove(i).2;
            }
        }
        Compress::new_with_window_bits(Compression::new(level), false, bits)
    }

    pub(super) fn give_deflater(&self, bits: u8, level: u32, mut deflater: Compress) {
        deflater.reset();
        let mut idle = self.lock();
        if idle.held + deflater_size(bits) <= self.0.budget {
            idle.held += deflater_size(bits);
            idle.deflaters.push((bits, level, deflater));
        }
    }

    /// One with the largest window, which inflates what was compressed with any.
    pub(super) fn take_inflater(&self) -> Decompress {
        let mut idle = self.lock();
        if let Some(inflater) = idle.inflaters.pop() {
            idle.held -= INFLATER_SIZE;
            return inflater;
        }
        drop(idle);
        Decompress::new(false)
    }

    pub(super) fn give_inflater(&self, mut inflater: Decompress) {
        inflater.reset(false);
        let mut idle = self.lock();
        if idle.held + INFLATER_SIZE <= self.0.budget {
            idle.held += INFLATER_SIZE;
            idle.inflaters.push(inflater);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // A panic elsewhere leaves whole states behind.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool of 4 MiB: a dozen compressors.
impl Default for DeflatePool {
    fn default() -> Self {
        Self::new(4 * 1024 * 1024)
    }
}

/// The same pool, not one of the same size.
impl PartialEq for DeflatePool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DeflatePool {}

impl fmt::Debug for DeflatePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeflatePool").field("budget", &self.0.budget).field("held", &self.held()).finish()
    }
}

/// Memory of a compressor, measured: it depends on the window.
fn deflater_size(bits: u8) -> usize {
    debug_assert!((MIN_BITS..=MAX_BITS).contains(&bits));
    KIB_OF_DEFLATER[usize::from(bits - MIN_BITS)] * 1024
}

const KIB_OF_DEFLATER: [usize; 7] = [200, 202, 204, 206, 221, 252, 316];

/// Memory of a decompressor, measured: nearly the same for every window.
const INFLATER_SIZE: usize = 46 * 1024;
