//! Masking (RFC 6455 section 5.3): XOR with a key of four bytes. Applying it twice gives the payload back.

/// A masking key at a position in its frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    /// The key of frames that are not masked: XOR with it changes nothing.
    pub(crate) const NONE: Self = Self([0; 4]);

    pub(crate) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Applies the mask to the next `data.len()` bytes of the payload and moves on behind them.
    #[inline]
    pub(crate) fn apply(&mut self, data: &mut [u8]) {
        if *self == Self::NONE {
            return;
        }
        // A plain loop over words, of the key twice: the compiler makes vectors of it.
        let key = u64::from(u32::from_ne_bytes(self.0));
        let word = key << 32 | key;
        let (words, tail) = data.as_chunks_mut::<8>();
        for chunk in words {
            *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
        }
        let key = word.to_ne_bytes();
        for (byte, key) in tail.iter_mut().zip(key) {
            *byte ^= key;
        }
        // The words are whole turns of the key, so the tail alone moves it.
        let turned = u32::from_be_bytes(self.0).rotate_left(8 * (tail.len() as u32 % 4));
        self.0 = turned.to_be_bytes();
    }
}

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
        for len in 0..70 {
            for offset in 0..4 {
                let data: Vec<u8> = (0..len as u8).map(|i| i.wrapping_mul(37)).collect();
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
