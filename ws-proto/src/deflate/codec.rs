//! Messages compressed and inflated (RFC 7692 section 7.2), straight from and to the buffers they live in.

use std::fmt;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{DeflateConfig, DeflatePool, MIN_BITS, negotiate::Half};
use crate::{buffer::Buffer, error::ProtocolError};

/// Compresses the messages of one connection.
pub(crate) struct Deflater {
    half: Half,
    threshold: usize,
    level: u32,
    pool: DeflatePool,
    state: Option<Compress>,
    /// Something was compressed since [`rest`](Self::rest) last looked.
    used: bool,
}

impl Deflater {
    /// `None` where the agreed window is smaller than zlib's smallest: not to compress keeps every agreement.
    pub(crate) fn new(half: Half, config: &DeflateConfig) -> Option<Self> {
        (half.bits >= MIN_BITS).then(|| Self {
            half,
            threshold: config.threshold,
            level: config.level.min(9),
            pool: config.pool.clone(),
            state: None,
            used: false,
        })
    }

    /// Whether a message of this length, or that begins with a fragment of this length, is to be compressed.
    #[inline]
    pub(crate) fn wants(&self, len: usize) -> bool {
        self.half.takeover || len >= self.threshold
    }

    /// Whether each message is compressed on its own.
    pub(crate) fn is_independent(&self) -> bool {
        !self.half.takeover
    }

    /// Appends a message's payload, or a fragment's, compressed; `last` ends the message.
    pub(crate) fn deflate(&mut self, payload: &[u8], last: bool, out: &mut Buffer) {
        self.used = true;
        let start = out.len();
        if !payload.is_empty() || self.state.is_some() {
            let alone = last && !self.half.takeover;
            let state =
                self.state.get_or_insert_with(|| self.pool.take_deflater(self.half.bits, self.level, alone));
            run(state, payload, out);
        }
        if last {
            // Section 7.2.1: the empty block that a flush ends with is left out; where there is none because there was
            // nothing to flush, the header of one stands for an empty message.
            if out.len() - start >= TAIL.len() && out.pending().ends_with(&TAIL) {
                out.truncate(out.len() - TAIL.len());
            }
            if out.len() == start {
                out.push(&[0]);
            }
            if !self.half.takeover {
                self.reset();
            }
        }
    }

    /// Compresses a whole message on its own, for any connection with at least this window.
    pub(crate) fn deflate_alone(&self, payload: &[u8], out: &mut Buffer) {
        let half = Half { takeover: false, ..self.half };
        let mut alone = Self { half, pool: self.pool.clone(), state: None, ..*self };
        alone.deflate(payload, true, out);
    }

    /// Forgets what was compressed, so that what follows does not refer to it.
    pub(crate) fn reset(&mut self) {
        if let Some(state) = self.state.take() {
            self.pool.give_deflater(self.half.bits, self.level, state);
        }
    }

    /// Gives the state back if it was not used since the last call: a compressor may forget at any time.
    pub(crate) fn rest(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.reset();
        }
    }

    /// Parameters on which the compressed form of a message depends.
    pub(crate) fn class(&self) -> u8 {
        self.half.bits
    }
}

/// Compresses a piece and flushes.
fn run(state: &mut Compress, mut piece: &[u8], out: &mut Buffer) {
    loop {
        // Enough for most messages at once; more is taken in rounds.
        let space = out.reserve(piece.len() / 2 + 64);
        let len = space.len();
        let (taken, given) = (state.total_in(), state.total_out());
        let status = state.compress(piece, space, FlushCompress::Sync);
        debug_assert!(status.is_ok(), "compressing does not depend on the input");
        piece = &piece[(state.total_in() - taken) as usize..];
        let given = (state.total_out() - given) as usize;
        out.fill(given);
        // Everything is out once there was space left; each other round made progress, as it filled its space.
        if given < len {
            return;
        }
    }
}

/// Inflates the messages of one connection.
pub(crate) struct Inflater {
    takeover: bool,
    pool: DeflatePool,
    state: Option<Decompress>,
    progress: Progress,
}

/// Where in its message an inflater stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No byte of the message, or none since a final block.
    AtStart,
    Inside,
}

impl Inflater {
    pub(crate) fn new(half: Half, config: &DeflateConfig) -> Self {
        Self { takeover: half.takeover, pool: config.pool.clone(), state: None, progress: Progress::AtStart }
    }

    /// Appends what a piece of a message inflates to, as long as `out` stays within `max` bytes.
    pub(crate) fn inflate(
        &mut self,
        piece: &[u8],
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), ProtocolError> {
        if piece.is_empty() {
            return Ok(());
        }
        let state = self.state.get_or_insert_with(|| self.pool.take_inflater());
        self.progress = feed(state, piece, out, max)?;
        Ok(())
    }

    /// Ends a message, which must be complete: nothing more comes out of it.
    pub(crate) fn finish(&mut self, out: &mut Buffer, max: usize) -> Result<(), ProtocolError> {
        if let (Some(state), Progress::Inside) = (&mut self.state, self.progress) {
            // Section 7.2.2: the flush's empty block is complete again. What follows it tells whether the message ended
            // there: inside a block it would make output or nonsense, or vanish in the lengths of its codes.
            let before = out.len();
            let at_end = if self.takeover {
                feed(state, &TAIL_AND_EMPTY_BLOCKS, out, max).is_ok()
            } else {
                feed(state, &TAIL_AND_FINAL_BLOCK, out, max) == Ok(Progress::AtStart)
            };
            if !at_end || out.len() > before {
                out.truncate(before);
                return Err(ProtocolError::Deflate);
            }
        }
        self.progress = Progress::AtStart;
        if !self.takeover {
            self.release();
        }
        Ok(())
    }

    fn release(&mut self) {
        if let Some(state) = self.state.take() {
            self.pool.give_inflater(state);
        }
    }
}

fn feed(
    state: &mut Decompress,
    mut piece: &[u8],
    out: &mut Buffer,
    max: usize,
) -> Result<Progress, ProtocolError> {
    let mut progress = Progress::Inside;
    loop {
        // One byte more than is allowed tells that there is more.
        let allowed = (max - out.len()).saturating_add(1);
        let spare = out.reserve(allowed.min((4 * piece.len()).max(MIN_SPACE)));
        let len = spare.len().min(allowed);
        let space = &mut spare[..len];
        let (taken, given) = (state.total_in(), state.total_out());
        let status = state.decompress(piece, space, FlushDecompress::Sync);
        let taken = (state.total_in() - taken) as usize;
        let given = (state.total_out() - given) as usize;
        piece = &piece[taken..];
        if taken > 0 {
            progress = Progress::Inside;
        }
        out.fill(given);
        if out.len() > max {
            return Err(ProtocolError::MessageTooLong { limit: max });
        }
        match status.map_err(|_| ProtocolError::Deflate)? {
            // Section 7.2.3.4: a final block ends the stream, not the message.
            Status::StreamEnd => {
                state.reset(false);
                progress = Progress::AtStart;
                if piece.is_empty() {
                    return Ok(progress);
                }
            }
            // Space was left, so nothing is held back but what needs more input.
            Status::Ok | Status::BufError if given < len => {
                return if piece.is_empty() { Ok(progress) } else { Err(ProtocolError::Deflate) };
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        self.reset();
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("half", &self.half).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("takeover", &self.takeover).finish_non_exhaustive()
    }
}

/// What a flush ends with: the body of an empty stored block, left out on the wire.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// That, and an empty block that ends the stream.
const TAIL_AND_FINAL_BLOCK: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// That, and empty stored blocks that keep the stream as it is: more bytes than the longest lengths of a block's codes,
/// which are 316 of 7 bits each.
const TAIL_AND_EMPTY_BLOCKS: [u8; 4 + 300] = {
    let mut bytes = [0; 4 + 300];
    let mut i = 2;
    while i < bytes.len() {
        bytes[i] = 0xff;
        bytes[i + 1] = 0xff;
        i += 5;
    }
    bytes
};

/// Least space to inflate into.
const MIN_SPACE: usize = 4096;
