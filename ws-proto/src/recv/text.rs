//! UTF-8 checked piece by piece (RFC 6455 section 8.1): fails at the first bad byte, however the text is cut.

use crate::error::ProtocolError;

/// Checks a text that comes in pieces, in time linear in its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextCheck {
    /// The start of a character whose rest is still to come.
    partial: [u8; 4],
    partial_len: usize,
}

impl TextCheck {
    /// Checks the next piece, which may be known to be ASCII.
    pub(crate) fn push(&mut self, mut piece: &[u8], is_ascii: bool) -> Result<(), ProtocolError> {
        if is_ascii && self.partial_len == 0 {
            return Ok(());
        }
        while self.partial_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.partial[self.partial_len] = byte;
            self.partial_len += 1;
            match std::str::from_utf8(&self.partial[..self.partial_len]) {
                Ok(_) => self.partial_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(ProtocolError::InvalidUtf8),
            }
        }
        // A character that the piece's end may cut starts in its last three bytes.
        let cut =
            piece.len() - piece.iter().rev().take(3).position(|&byte| byte >= 0xc0).map_or(0, |i| i + 1);
        let (whole, last) = piece.split_at(cut);
        simdutf8::basic::from_utf8(whole).map_err(|_| ProtocolError::InvalidUtf8)?;
        match std::str::from_utf8(last) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let start = &last[error.valid_up_to()..];
                self.partial[..start.len()].copy_from_slice(start);
                self.partial_len = start.len();
                Ok(())
            }
            Err(_) => Err(ProtocolError::InvalidUtf8),
        }
    }

    /// Checks that the text does not end inside a character, and is ready for the next one.
    pub(crate) fn finish(&mut self) -> Result<(), ProtocolError> {
        match std::mem::take(&mut self.partial_len) {
            0 => Ok(()),
            _ => Err(ProtocolError::InvalidUtf8),
        }
    }
}

impl TextCheck {
    /// How many bytes at the end are the start of a character whose rest is still to come.
    pub(crate) fn partial_len(&self) -> usize {
        self.partial_len
    }
}

/// How many bytes at the start are whole characters.
pub(crate) fn valid_len(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len)
}

/// Checks a text that is there as a whole, and may be known to be ASCII.
#[inline]
pub(crate) fn check(text: &[u8], is_ascii: bool) -> Result<(), ProtocolError> {
    if is_ascii {
        return Ok(());
    }
    simdutf8::basic::from_utf8(text).map(drop).map_err(|_| ProtocolError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[&[u8]] = &[
        b"",
        b"plain",
        "κόσμε".as_bytes(),
        "aé€𐍈z".as_bytes(),
        "\u{10ffff}".as_bytes(),
        "\u{d7ff}\u{e000}".as_bytes(),
        b"\x80",
        b"abc\xc0\xa0",
        b"\xc3",
        b"\xe0\x80\xa0",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbfz",
        b"\xf0\x80\x80\xa0",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"ok\xe2\x82",
        b"ok\xe2\x28\xa1",
        b"\xff\xfe",
        b"\xf0\x9f\x98",
        b"long enough to leave the tail behind \xf0\x9f\x98\x80 and go on \xc3",
    ];

    /// What the standard library says of the bytes so far: whether more can make them text, and whether they are.
    fn oracle(bytes: &[u8]) -> (bool, bool) {
        match std::str::from_utf8(bytes) {
            Ok(_) => (true, true),
            Err(error) => (error.error_len().is_none(), false),
        }
    }

    #[test]
    fn s8_1_agrees_with_std_at_every_cut_in_three() {
        for &sample in SAMPLES {
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let mut text = TextCheck::default();
                    let mut so_far = 0;
                    let mut failed = false;
                    for end in [first, second, sample.len()] {
                        let piece = &sample[so_far..end];
                        failed = failed || text.push(piece, piece.is_ascii()).is_err();
                        so_far = end;
                        assert_eq!(!failed, oracle(&sample[..end]).0, "{sample:x?} up to {end}");
                    }
                    assert_eq!(!failed && text.finish().is_ok(), oracle(sample).1, "{sample:x?}");
                }
            }
        }
    }

    #[test]
    fn s8_1_fails_at_the_first_bad_byte() {
        for &sample in SAMPLES {
            let mut text = TextCheck::default();
            for end in 1..=sample.len() {
                let result = text.push(&sample[end - 1..end], false);
                assert_eq!(result.is_ok(), oracle(&sample[..end]).0, "{sample:x?} up to {end}");
                if result.is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn s8_1_is_ready_for_the_next_text() {
        let mut text = TextCheck::default();
        assert!(text.push(b"\xc3", false).is_ok() && text.finish().is_err());
        assert!(text.push(b"ok", true).is_ok() && text.finish().is_ok());
    }
}
