//! Masking (RFC 6455 section 5.3): XOR with a key of four bytes. Applying it twice gives the payload back.

use fearless_simd::{Level, dispatch};

/// A masking key at a position in its frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    /// The key of frames that are not masked: XOR with it changes nothing.
    pub(crate) const NONE: Self = Self([0; 4]);

    pub(crate) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Applies the mask to the next `data.len()` bytes of the payload and moves on behind them. Whether it saw that
    /// what came out is ASCII; it looks at long data only.
    #[inline]
    pub(crate) fn apply(&mut self, data: &mut [u8]) -> bool {
        if *self == Self::NONE {
            return false;
        }
        if data.len() >= LONG {
            return self.apply_long(data);
        }
        xor(data, self.word());
        self.move_on(data.len());
        false
    }

    /// With the widest vectors that the processor has, where memory is aligned for them.
    #[inline(never)]
    fn apply_long(&mut self, data: &mut [u8]) -> bool {
        let (head, body) = data.split_at_mut(data.as_ptr().align_offset(CACHE_LINE).min(data.len()));
        let mut seen = xor(head, self.word());
        self.move_on(head.len());
        let word = self.word();
        seen |= dispatch!(Level::new(), _simd => xor(body, word));
        self.move_on(body.len());
        seen & 0x8080_8080_8080_8080 == 0
    }

    /// The key twice.
    #[inline]
    fn word(self) -> u64 {
        let key = u64::from(u32::from_ne_bytes(self.0));
        key << 32 | key
    }

    #[inline]
    fn move_on(&mut self, len: usize) {
        self.0 = u32::from_be_bytes(self.0).rotate_left(8 * (len as u32 % 4)).to_be_bytes();
    }
}

/// A plain loop over words: the compiler makes vectors of it, as wide as the caller may use. All bytes that came out,
/// one over the other.
#[inline(always)]
fn xor(data: &mut [u8], word: u64) -> u64 {
    let mut seen = 0;
    let (words, tail) = data.as_chunks_mut::<8>();
    for chunk in words {
        let unmasked = u64::from_ne_bytes(*chunk) ^ word;
        *chunk = unmasked.to_ne_bytes();
        seen |= unmasked;
    }
    for (byte, key) in tail.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen
}

/// Shortest payload that is worth asking what the processor can do, in bytes.
const LONG: usize = 2048;

const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 5.3 to the letter.
    fn naive(key: [u8; 4], offset: usize, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte ^= key[(offset + i) % 4];
        }
    }

    #[test]
    fn s5_3_agrees_with_the_naive_loop_at_every_length_and_offset() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in (0..70).chain(LONG - 1..LONG + 2 * CACHE_LINE) {
            for offset in 0..4 {
                let data: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
                let (mut expected, mut got) = (data.clone(), data);
                naive(key, offset, &mut expected);
                let mut mask = Mask::new(key);
                mask.apply(&mut vec![0; offset]);
                mask.apply(&mut got);
                assert_eq!(got, expected, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn s5_3_begins_anywhere_in_memory_and_goes_on_behind() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let storage: Vec<u8> = (0..LONG + 2 * CACHE_LINE).map(|i| (i * 37) as u8).collect();
        for start in 0..CACHE_LINE {
            let mut got = storage[start..].to_vec();
            let mut expected = storage.clone();
            naive(key, 0, &mut expected[start..]);
            let mut in_place = storage.clone();
            let mut mask = Mask::new(key);
            let (long, rest) = in_place[start..].split_at_mut(LONG + start);
            mask.apply(long);
            mask.apply(rest);
            Mask::new(key).apply(&mut got);
            assert_eq!(in_place, expected, "from {start}");
            assert_eq!(got, expected[start..], "from {start}, elsewhere");
        }
    }

    #[test]
    fn sees_every_byte_that_is_not_ascii() {
        let key = [0x80, 0xff, 0x7f, 0x01];
        for len in [LONG, LONG + 77] {
            let mut ascii = vec![b'a'; len];
            Mask::new(key).apply(&mut ascii);
            assert!(Mask::new(key).apply(&mut ascii.clone()), "{len} bytes");
            for at in 0..len {
                let mut data = ascii.clone();
                data[at] ^= 0x80;
                assert!(!Mask::new(key).apply(&mut data), "{len} bytes, the one at {at}");
            }
        }
        assert!(!Mask::new([0; 4]).apply(&mut [b'a'; LONG]), "it did not look");
    }

    #[test]
    fn s5_3_goes_on_where_it_stopped() {
        let key = [1, 2, 3, 4];
        let mut expected = vec![0; 100];
        naive(key, 0, &mut expected);
        for cut in 0..=100 {
            let mut got = vec![0; 100];
            let mut mask = Mask::new(key);
            let (head, tail) = got.split_at_mut(cut);
            mask.apply(head);
            mask.apply(tail);
            assert_eq!(got, expected, "cut at {cut}");
        }
    }
}
