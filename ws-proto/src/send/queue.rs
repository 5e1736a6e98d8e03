//! The output queue: encoded frames in one buffer, long payloads as shared slices between them.
//!
//! ```text
//! inline  | rest of a frame | header | frame | frame | header |        | frame |
//! shared                            ▲ payload               ▲ payload
//!         └──── boundary ───┘
//! ```
//!
//! Bytes leave at the front, in pieces as the socket takes them; `boundary` tells how many of them still belong
//! to the frame that has begun to leave, so that a control frame can be put behind it.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

use crate::{
    buffer::Buffer,
    frame::{First, Header, Mask, Opcode, encode},
};

#[derive(Debug)]
pub(super) struct Queue {
    inline: Buffer,
    /// Payloads that were not copied, each behind its header in `inline`.
    shared: VecDeque<Shared>,
    /// Bytes in `shared`, and how many of `inline` leave before the last of them.
    shared_len: usize,
    behind_last: usize,
    /// Bytes that still belong to the frame, or to the preamble, that has begun to leave.
    boundary: usize,
}

#[derive(Debug)]
struct Shared {
    /// How many bytes of `inline` leave between the shared piece before (or the front) and this one.
    behind: usize,
    payload: Bytes,
}

impl Queue {
    /// A queue that begins with bytes that are no frame: the answer to the handshake.
    pub(super) fn new(preamble: &[u8]) -> Self {
        let mut inline = Buffer::with_origin(ORIGIN);
        if !preamble.is_empty() {
            inline.push(preamble);
        }
        Self { inline, shared: VecDeque::new(), shared_len: 0, behind_last: 0, boundary: preamble.len() }
    }

    /// Queues a frame, its payload copied, masked if there is a key.
    #[inline]
    pub(super) fn push(&mut self, first: First, payload: &[u8], key: Option<[u8; 4]>) {
        let space = self.inline.reserve(Header::MAX_LEN + payload.len());
        let header = space.first_chunk_mut().expect("there is room for a header");
        let n = encode(first, payload.len(), key, header);
        let copy = &mut space[n..n + payload.len()];
        copy.copy_from_slice(payload);
        if let Some(key) = key {
            Mask::new(key).apply(copy);
        }
        self.inline.fill(n + payload.len());
    }

    /// Queues a frame whose payload is written by `write`, behind what is there; gives the payload's length.
    pub(super) fn push_with(
        &mut self,
        first: First,
        key: Option<[u8; 4]>,
        write: impl FnOnce(&mut Buffer),
    ) -> usize {
        // Room for the header that is most likely; a payload that needs another is moved.
        let start = self.inline.len();
        let room = if key.is_some() { 8 } else { 4 };
        self.inline.push(&[0; 8][..room]);
        write(&mut self.inline);
        let len = self.inline.len() - start - room;
        let mut header = [0; Header::MAX_LEN];
        let n = encode(first, len, key, &mut header);
        if n > room {
            self.inline.push(&[0; Header::MAX_LEN][..n - room]);
        }
        let frame = &mut self.inline.pending_mut()[start..];
        if n != room {
            frame.copy_within(room..room + len, n);
        }
        frame[..n].copy_from_slice(&header[..n]);
        if let Some(key) = key {
            Mask::new(key).apply(&mut frame[n..n + len]);
        }
        self.inline.truncate(start + n + len);
        len
    }

    /// Drops what was queued last, down to a length the queue had before, with nothing but copied frames since.
    pub(super) fn truncate(&mut self, len: usize) {
        self.inline.truncate(len - self.shared_len);
    }

    /// Queues a frame that is encoded already.
    pub(super) fn push_encoded(&mut self, frame: &[u8]) {
        self.inline.push(frame);
    }

    /// Queues an unmasked frame whose payload stays where it is.
    pub(super) fn push_shared(&mut self, first: First, payload: Bytes) {
        let mut header = [0; Header::MAX_LEN];
        let n = encode(first, payload.len(), None, &mut header);
        self.inline.push(&header[..n]);
        let behind = self.inline.len() - self.behind_last;
        self.behind_last += behind;
        self.shared_len += payload.len();
        self.shared.push_back(Shared { behind, payload });
    }

    /// Puts a control frame in front, where a frame begins. It counts as having begun to leave.
    pub(super) fn push_front(&mut self, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
        if self.is_empty() || !self.at_boundary() {
            return self.push(First::whole(opcode), payload, key);
        }
        let mut frame = [0; Header::MAX_LEN + 125];
        let (header, body) = frame.split_first_chunk_mut().expect("a frame is longer than its header");
        let n = encode(First::whole(opcode), payload.len(), key, header);
        body[..payload.len()].copy_from_slice(payload);
        if let Some(key) = key {
            Mask::new(key).apply(&mut body[..payload.len()]);
        }
        frame.copy_within(Header::MAX_LEN..Header::MAX_LEN + payload.len(), n);
        self.boundary = n + payload.len();
        self.inline.prepend(&frame[..self.boundary]);
        if let Some(shared) = self.shared.front_mut() {
            shared.behind += self.boundary;
            self.behind_last += self.boundary;
        }
    }

    /// Slices for one vectored write, from the front; only the rest of the frame that has begun to leave if
    /// `frame_only`.
    #[inline]
    pub(super) fn output<'a>(&'a self, slices: &mut [IoSlice<'a>], frame_only: bool) -> usize {
        if self.shared.is_empty() && !frame_only {
            return self.inline.output(slices);
        }
        let mut left = if frame_only && self.boundary > 0 { self.boundary } else { usize::MAX };
        let mut count = 0;
        for (piece, slot) in self.pieces().zip(slices) {
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            *slot = IoSlice::new(piece);
            left -= piece.len();
            count += 1;
        }
        count
    }

    /// All that is queued, in pieces of memory, none of them empty.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut inline = self.inline.pending();
        let mut shared = self.shared.iter();
        let mut payload = None;
        std::iter::from_fn(move || {
            if let Some(payload) = payload.take() {
                return Some(payload);
            }
            let Some(next) = shared.next() else {
                return (!inline.is_empty()).then(|| std::mem::take(&mut inline));
            };
            let piece = inline.split_off(..next.behind).expect("headers lie in front of their payloads");
            if piece.is_empty() {
                return Some(&next.payload[..]);
            }
            payload = Some(&next.payload[..]);
            Some(piece)
        })
    }

    /// The socket took the first `len` bytes.
    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        assert!(len <= self.len(), "consumed more than is queued");
        if self.shared.is_empty() && len == self.inline.len() {
            self.inline.clear();
            self.boundary = 0;
        } else {
            self.consume_part(len);
        }
    }

    #[cold]
    fn consume_part(&mut self, mut len: usize) {
        self.move_boundary(len);
        while len > 0 {
            let Some(front) = self.shared.front_mut() else {
                self.inline.consume(len);
                return;
            };
            let inline = front.behind.min(len);
            self.inline.consume(inline);
            front.behind -= inline;
            self.behind_last -= inline;
            len -= inline;
            let part = front.payload.len().min(len);
            front.payload.advance(part);
            self.shared_len -= part;
            len -= part;
            if front.behind == 0 && front.payload.is_empty() {
                self.shared.pop_front();
            }
        }
    }

    /// Finds the end of the frame that holds the byte at `len`, before so many are consumed.
    fn move_boundary(&mut self, len: usize) {
        let mut end = self.boundary;
        while end < len {
            end += self.frame_len(end);
        }
        self.boundary = end - len;
    }

    /// Length of the frame that begins `at` bytes behind the front.
    fn frame_len(&self, at: usize) -> usize {
        // A header lies whole in the inline buffer, behind the shared payloads before it.
        let mut inline = at;
        let mut passed = 0;
        for shared in &self.shared {
            passed += shared.behind;
            if inline < passed {
                break;
            }
            inline -= shared.payload.len();
        }
        let frame = &self.inline.pending()[inline..];
        let masked = if frame[1] & 0x80 == 0 { 0 } else { 4 };
        masked
            + match frame[1] & 0x7f {
                126 => 4 + usize::from(u16::from_be_bytes([frame[2], frame[3]])),
                127 => {
                    10 + u64::from_be_bytes(*frame[2..].first_chunk().expect("a header is whole")) as usize
                }
                len => 2 + usize::from(len),
            }
    }

    /// Whether the next byte to leave begins a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.boundary == 0
    }

    /// Bytes queued.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.inline.len() + self.shared_len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.inline.is_empty() && self.shared.is_empty()
    }

    /// Gives back memory that holds nothing.
    #[inline]
    pub(super) fn release(&mut self) {
        self.inline.release();
        self.shared.shrink_to_fit();
    }
}

/// Where the first frame begins in its storage: half a page from where received bytes begin in theirs. Where a load and
/// a store shortly before it differ in nothing but the page, processors have the load wait; copying 4 KiB from the
/// begin of one page to nearly that of another took five times as long.
const ORIGIN: usize = 2048;
