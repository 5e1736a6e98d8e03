//! Bytes on their way in or out, in storage that is lent from a pool while there are any.
//!
//! ```text
//! storage  |  consumed  |      pending      |       spare       |
//!          0          start                end                 len
//! ```
//!
//! The storage is always initialised, so a read goes straight into the spare part: no zeroing, no `unsafe`.

use std::{fmt, io::IoSlice};

use bytes::Bytes;

/// A queue of bytes in one piece of memory.
#[derive(Default)]
pub(crate) struct Buffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the first byte goes that nothing is pending before.
    origin: usize,
}

impl Buffer {
    pub(crate) fn with_origin(origin: usize) -> Self {
        Self { storage: Vec::new(), start: 0, end: 0, origin }
    }

    /// Size of the storage a buffer starts with, in bytes. One read of this size takes in whole batches of small
    /// messages and several large ones: two of 64 KiB, or eight of 16 KiB, with their headers.
    pub(crate) const BLOCK: usize = 132 * 1024;

    /// Appends a piece.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Makes room for `len` more bytes, moving or enlarging as needed, and gives the whole spare part.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> &mut [u8] {
        if self.storage.len() - self.end < len {
            self.make_room(len);
        }
        &mut self.storage[self.end..]
    }

    /// Takes memory for `len` bytes if there is some that nobody uses; nothing is allocated. For bytes that were
    /// promised: they spare the copies of growing, and cost nothing if they do not come.
    pub(crate) fn expect(&mut self, len: usize) {
        if self.is_empty()
            && self.storage.len() < len
            && let Some(storage) = pool::find(len)
        {
            pool::give(std::mem::replace(&mut self.storage, storage));
        }
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        if self.storage.is_empty() {
            self.storage = pool::take((self.origin + len).max(Self::BLOCK));
            return self.clear();
        }
        let pending = self.len();
        let start = if pending == 0 { self.origin } else { 0 };
        let needed = start + pending + len;
        if self.storage.len() < needed {
            // Doubling keeps the work linear; what is lent was used before, so it costs no zeroing.
            let mut storage = pool::take(needed.max(Self::BLOCK).max(2 * pending));
            storage[start..start + pending].copy_from_slice(&self.storage[self.start..self.end]);
            pool::give(std::mem::replace(&mut self.storage, storage));
        } else {
            self.storage.copy_within(self.start..self.end, start);
        }
        (self.start, self.end) = (start, start + pending);
    }

    /// The first `len` bytes of the spare part, which [`reserve`](Self::reserve) gave, are pending now.
    #[inline]
    pub(crate) fn fill(&mut self, len: usize) {
        assert!(len <= self.storage.len() - self.end, "filled more than the spare part");
        self.end += len;
    }

    /// Drops the first `len` pending bytes.
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        assert!(len <= self.len(), "consumed more than is pending");
        self.start += len;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Puts a piece in front of what is pending.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            let pending = self.len();
            self.reserve(bytes.len());
            self.storage.copy_within(self.start..self.end, self.start + bytes.len());
            self.start += bytes.len();
            self.end = self.start + pending;
        }
        self.start -= bytes.len();
        self.storage[self.start..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Drops all but the first `len` pending bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        let origin = self.origin.min(self.storage.len());
        (self.start, self.end) = (origin, origin);
    }

    #[inline]
    pub(crate) fn pending(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    #[inline]
    pub(crate) fn pending_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Moves the first `len` pending bytes out, without a copy unless that would pin much more than twice as many.
    pub(crate) fn take(&mut self, len: usize) -> Bytes {
        if self.storage.len() > 2 * len + len / 8 {
            let bytes = Bytes::copy_from_slice(&self.pending()[..len]);
            self.consume(len);
            return bytes;
        }
        let (start, rest_len) = (self.start, self.len() - len);
        let mut storage = Vec::new();
        if rest_len > 0 {
            storage = pool::take(Self::BLOCK.max(rest_len));
            storage[..rest_len].copy_from_slice(&self.pending()[len..]);
        }
        (self.start, self.end) = (0, rest_len);
        Bytes::from_owner(Taken { storage: std::mem::replace(&mut self.storage, storage), start, len })
    }

    /// What is pending as the only slice of a write.
    #[inline]
    pub(crate) fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match slices.first_mut() {
            Some(slice) if !self.is_empty() => {
                *slice = IoSlice::new(self.pending());
                1
            }
            _ => 0,
        }
    }

    /// Gives back memory that is not needed while nothing happens: all of it if nothing is pending, all but
    /// what is pending if that is little.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.storage.is_empty() {
            return;
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            pool::give(std::mem::take(&mut self.storage));
        } else {
            self.release_rest();
        }
    }

    #[cold]
    fn release_rest(&mut self) {
        if self.storage.len() >= Self::BLOCK && self.len() <= Self::BLOCK / 8 {
            let rest = self.pending().to_vec();
            pool::give(std::mem::take(&mut self.storage));
            (self.start, self.end) = (0, rest.len());
            self.storage = rest;
        }
    }

    /// Memory held, in bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held(&self) -> usize {
        self.storage.len()
    }
}

/// Lengths only: the storage is full of what others received.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("pending", &self.len()).field("storage", &self.storage.len()).finish()
    }
}

/// Bytes of storage that went to the application; it comes back with the last of them.
struct Taken {
    storage: Vec<u8>,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        &self.storage[self.start..][..self.len]
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.storage));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool::give(std::mem::take(&mut self.storage));
    }
}

/// Initialised memory, kept by the thread that used it last: in any moment a thread works on few connections,
/// so few pieces serve thousands. What is in it never shows: only bytes that were filled or pushed are pending.
mod pool {
    use std::cell::RefCell;

    use super::Buffer;

    /// Most bytes a thread keeps.
    const KEPT: usize = 8 * 1024 * 1024;

    #[derive(Default)]
    struct Pool {
        blocks: Vec<Vec<u8>>,
        large: Vec<Vec<u8>>,
        kept: usize,
    }

    thread_local! {
        static POOL: RefCell<Pool> = const { RefCell::new(Pool { blocks: Vec::new(), large: Vec::new(), kept: 0 }) };
    }

    /// Storage of at least `len` bytes.
    pub(super) fn take(len: usize) -> Vec<u8> {
        find(len).unwrap_or_else(|| vec![0; len])
    }

    /// Storage of at least `len` bytes that is there.
    pub(super) fn find(len: usize) -> Option<Vec<u8>> {
        let lent = POOL.try_with(|pool| {
            let pool = &mut *pool.borrow_mut();
            let storage = if len <= Buffer::BLOCK {
                pool.blocks.pop()
            } else {
                let fitting = pool.large.iter().position(|storage| storage.len() >= len);
                fitting.map(|i| pool.large.swap_remove(i))
            };
            pool.kept -= storage.as_ref().map_or(0, Vec::len);
            storage
        });
        lent.ok().flatten()
    }

    /// Takes storage back, to be lent again or freed.
    #[inline]
    pub(super) fn give(storage: Vec<u8>) {
        if storage.len() >= Buffer::BLOCK {
            keep(storage);
        }
    }

    fn keep(storage: Vec<u8>) {
        // A thread that is ending has no pool: the storage is freed.
        let _ = POOL.try_with(|pool| {
            let pool = &mut *pool.borrow_mut();
            if pool.kept + storage.len() <= KEPT {
                pool.kept += storage.len();
                if storage.len() == Buffer::BLOCK { &mut pool.blocks } else { &mut pool.large }.push(storage);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(bytes);
        buffer
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut buffer = buffer(b"abc");
        buffer.reserve(3)[..3].copy_from_slice(b"def");
        buffer.fill(3);
        assert_eq!(buffer.pending(), b"abcdef");
        buffer.consume(2);
        assert_eq!(buffer.pending(), b"cdef");
        buffer.prepend(b"xyz12");
        assert_eq!(buffer.pending(), b"xyz12cdef");
        assert_eq!(buffer.take(9), &b"xyz12cdef"[..]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn grows_past_a_block_and_keeps_the_order() {
        let mut buffer = Buffer::default();
        let bytes: Vec<u8> = (0..3 * Buffer::BLOCK).map(|i| i as u8 ^ (i >> 8) as u8).collect();
        for piece in bytes.chunks(1000) {
            buffer.push(piece);
        }
        assert_eq!(buffer.pending(), bytes);
        assert!(buffer.held() <= 2 * bytes.len());
    }

    #[test]
    fn moves_up_before_it_grows() {
        let mut buffer = buffer(&vec![7; Buffer::BLOCK]);
        buffer.consume(Buffer::BLOCK - 10);
        assert!(buffer.reserve(1000).len() >= 1000);
        assert_eq!(buffer.pending(), [7; 10]);
        assert_eq!(buffer.held(), Buffer::BLOCK);
    }

    #[test]
    fn begins_at_its_origin_whenever_it_held_nothing() {
        let mut buffer = Buffer::with_origin(100);
        for _ in 0..2 {
            for _ in 0..2 {
                buffer.push(b"abc");
                assert_eq!((buffer.start, buffer.pending()), (100, &b"abc"[..]));
                // In front of it is room.
                buffer.prepend(b"xyz");
                assert_eq!((buffer.start, buffer.pending()), (97, &b"xyzabc"[..]));
                buffer.consume(6);
            }
            buffer.release();
            assert_eq!((buffer.pending(), buffer.held()), (&b""[..], 0));
        }
        // It takes part of the block, and does not count as pending.
        buffer.push(&[7; Buffer::BLOCK - 100]);
        assert_eq!(buffer.held(), Buffer::BLOCK);
        buffer.push(&[7; 101]);
        assert_eq!(buffer.pending(), [7; Buffer::BLOCK + 1]);
        buffer.clear();
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_was_taken_is_moved_if_it_is_long_and_stays_as_it_is() {
        let bytes: Vec<u8> = (0..2 * Buffer::BLOCK).map(|i| i as u8).collect();
        let mut long = buffer(&bytes);
        let place = long.pending().as_ptr();
        let taken = long.take(bytes.len());
        assert_eq!((taken.as_ptr(), long.held()), (place, 0));
        long.push(b"something else");
        assert_eq!(taken, bytes);
        // What follows it stays, elsewhere.
        let half = Buffer::BLOCK / 2;
        let mut more = buffer(&bytes[..half + 5]);
        more.consume(2);
        let place = more.pending().as_ptr();
        let taken = more.take(half);
        assert_eq!((taken.as_ptr(), more.pending()), (place, &bytes[half + 2..half + 5]));
        more.push(b"something else");
        assert_eq!(taken, bytes[2..half + 2]);
        // A short one does not pin a block.
        let mut short = buffer(b"short");
        assert_eq!(short.take(5), &b"short"[..]);
        assert_eq!(short.held(), Buffer::BLOCK);
    }

    #[test]
    fn release_keeps_what_is_pending_and_nothing_more() {
        let mut buffer = buffer(b"abcdef");
        buffer.consume(2);
        buffer.release();
        assert_eq!((buffer.pending(), buffer.held()), (&b"cdef"[..], 4));
        buffer.push(b"g");
        assert_eq!(buffer.pending(), b"cdefg");
        buffer.consume(5);
        buffer.release();
        assert_eq!(buffer.held(), 0);
    }

    #[test]
    #[should_panic(expected = "consumed more than is pending")]
    fn consume_is_bounded() {
        buffer(b"a").consume(2);
    }
}
