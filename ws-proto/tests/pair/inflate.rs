//! A slow inflater (RFC 1951), bit by bit, that knows what zlib's does not tell: whether the data ends between blocks,
//! and whether a reference stays within a window. zlib-rs inflates with the largest window, whatever it is asked for.

/// Inflates the messages of a connection, one after the other.
pub(crate) struct Inflater {
    /// What came out since the stream began.
    history: Vec<u8>,
    /// The farthest that a reference may reach.
    window: usize,
}

impl Inflater {
    pub(crate) fn new(bits: u8) -> Self {
        Self { history: Vec::new(), window: 1 << bits }
    }

    /// Forgets the messages before.
    pub(crate) fn reset(&mut self) {
        self.history.clear();
    }

    /// Section 7.2.2 of RFC 7692: what a message inflates to. `None` if it is no DEFLATE, reaches beyond the window, or
    /// does not end between blocks.
    pub(crate) fn inflate(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let bytes = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut bits = Bits { bytes: &bytes, at: 0 };
        let mut message = Vec::new();
        loop {
            let before = self.history.len();
            let is_final = bits.take(1)? == 1;
            let is_empty_and_stored = match bits.take(2)? {
                0 => self.stored(&mut bits)? == 0,
                1 => self
                    .coded(&mut bits, &Code::fixed_literals(), &Code::fixed_distances())
                    .map(|()| false)?,
                2 => {
                    let (literals, distances) = codes(&mut bits)?;
                    self.coded(&mut bits, &literals, &distances).map(|()| false)?
                }
                _ => return None,
            };
            message.extend_from_slice(&self.history[before..]);
            if bits.left() == 0 {
                // The octets behind the message are the end of an empty block, and of nothing else.
                if is_final {
                    self.reset();
                }
                return is_empty_and_stored.then_some(message);
            }
            if is_final {
                // Section 7.2.3.4: the next block begins anew, at a whole byte; there may be none.
                bits.align();
                self.reset();
                if bits.left() == 4 * 8 {
                    return Some(message);
                }
            }
        }
    }

    /// Section 3.2.4 of RFC 1951; gives the length of the block.
    fn stored(&mut self, bits: &mut Bits<'_>) -> Option<usize> {
        bits.align();
        let len = bits.take(16)?;
        if bits.take(16)? != !len & 0xffff {
            return None;
        }
        for _ in 0..len {
            self.history.push(bits.take(8)? as u8);
        }
        Some(len)
    }

    /// Section 3.2.5 of RFC 1951.
    fn coded(&mut self, bits: &mut Bits<'_>, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            let len = match literals.decode(bits)? {
                literal @ 0..=255 => {
                    self.history.push(literal as u8);
                    continue;
                }
                256 => return Some(()),
                symbol => {
                    let (base, extra) = *LENS.get(symbol - 257)?;
                    base + bits.take(extra)?
                }
            };
            let (base, extra) = *DISTANCES.get(distances.decode(bits)?)?;
            let distance = base + bits.take(extra)?;
            if distance > self.window {
                return None;
            }
            let from = self.history.len().checked_sub(distance)?;
            for i in from..from + len {
                self.history.push(self.history[i]);
            }
        }
    }
}

/// A Huffman code: how many symbols there are of each length, and the symbols in their order.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    /// `None` if the lengths make no code. It may have a single symbol of one bit, or none.
    fn new(lens: &[usize], is_of_lens: bool) -> Option<Self> {
        let mut counts = [0; 16];
        lens.iter().for_each(|&len| counts[len] += 1);
        counts[0] = 0;
        let mut left = 1_usize;
        for count in &counts[1..] {
            left = (2 * left).checked_sub(*count)?;
        }
        let coded: usize = counts.iter().sum();
        if left > 0 && (is_of_lens || coded > counts[1]) {
            return None;
        }
        let mut symbols: Vec<usize> = (0..lens.len()).filter(|&symbol| lens[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lens[symbol]);
        Some(Self { counts, symbols })
    }

    fn fixed_literals() -> Self {
        let lens: Vec<_> = [(8, 144), (9, 112), (7, 24), (8, 8)]
            .into_iter()
            .flat_map(|(len, count)| std::iter::repeat_n(len, count))
            .collect();
        Self::new(&lens, false).expect("the code of RFC 1951 section 3.2.6")
    }

    fn fixed_distances() -> Self {
        Self::new(&[5; 32], false).expect("all codes of five bits")
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return Some(self.symbols[index + code - first]);
            }
            index += count;
            first = 2 * (first + count);
            code *= 2;
        }
        None
    }
}

/// Section 3.2.7 of RFC 1951: the codes of a block that brings its own.
fn codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let (literals, distances, lens) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    if literals > 286 || distances > 30 {
        return None;
    }
    let mut code = [0; 19];
    for &symbol in &LEN_ORDER[..lens] {
        code[symbol] = bits.take(3)?;
    }
    let code = Code::new(&code, true)?;
    let mut lens = Vec::new();
    while lens.len() < literals + distances {
        let (len, count) = match code.decode(bits)? {
            16 => (*lens.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            len => (len, 1),
        };
        lens.extend(std::iter::repeat_n(len, count));
    }
    if lens.len() > literals + distances || lens[256] == 0 {
        return None;
    }
    Some((Code::new(&lens[..literals], false)?, Code::new(&lens[literals..], false)?))
}

struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits taken.
    at: usize,
}

impl Bits<'_> {
    /// The next bits, the first of them lowest.
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for i in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Some(value)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    fn left(&self) -> usize {
        8 * self.bytes.len() - self.at
    }
}

/// Shortest length and extra bits of the symbols from 257 on.
const LENS: [(usize, usize); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// Shortest distance and extra bits.
const DISTANCES: [(usize, usize); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12_289, 12),
    (16_385, 13),
    (24_577, 13),
];

/// In which order the lengths of the code of lengths come.
const LEN_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
