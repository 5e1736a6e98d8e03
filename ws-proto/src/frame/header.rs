//! The header of a frame, both ways (RFC 6455 section 5.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
//! |I|S|S|S|  (4)  |A|     (7)     |             (16/64)           |
//! |N|V|V|V|       |S|             |   (if payload len==126/127)   |
//! | |1|2|3|       |K|             |                               |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! ```

use super::Mask;
use crate::{close::MAX_CONTROL, config::Role, error::ProtocolError};

/// What a frame is. The reserved opcodes do not get this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Control frames are about the connection, not about a message (section 5.5).
    pub(crate) fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }
}

impl TryFrom<u8> for Opcode {
    type Error = ProtocolError;

    #[inline]
    fn try_from(opcode: u8) -> Result<Self, ProtocolError> {
        match opcode {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(ProtocolError::ReservedOpcode(opcode)),
        }
    }
}

/// A frame's header, checked by every rule that needs no more than the header and the receiver's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    /// The bit that marks the first frame of a compressed message (RFC 7692 section 6).
    pub(crate) rsv1: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Mask,
    /// Length of the payload in bytes.
    pub(crate) len: u64,
}

impl Header {
    /// Longest header: two bytes, a 64-bit length, a masking key.
    pub(crate) const MAX_LEN: usize = 14;

    /// Reads the header at the start of `bytes`, for a receiver of role `role`: the header and its length, or
    /// `None` if more bytes are needed.
    ///
    /// What the first two bytes forbid is an error as soon as they are there. `compression` was agreed on or not.
    #[inline]
    pub(crate) fn decode(
        bytes: &[u8],
        role: Role,
        compression: bool,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        // Section 5.2: reserved bits are 0 unless an extension defines them.
        let rsv1 = first & RSV1 != 0;
        if first & (RSV2 | RSV3) != 0 || rsv1 && !compression {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode = Opcode::try_from(first & 0x0f)?;
        // RFC 7692 section 6: it belongs to a message, and to its first frame.
        if rsv1 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & FIN != 0;
        let short_len = second & 0x7f;
        // Section 5.5: control frames are short and whole.
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if usize::from(short_len) > MAX_CONTROL {
                return Err(ProtocolError::ControlTooLong);
            }
        }
        // Section 5.1: a client masks all its frames, a server none.
        let masked = second & MASK != 0;
        match role {
            Role::Server if !masked => return Err(ProtocolError::Unmasked),
            Role::Client if masked => return Err(ProtocolError::Masked),
            Role::Server | Role::Client => {}
        }
        let (len, rest, before_key) = match short_len {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), rest, 4)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), rest, 10)
            }
            len => (u64::from(len), rest, 2),
        };
        // Section 5.2: the shortest form of the length is the only one.
        if before_key == 10 && len >> 63 != 0 {
            return Err(ProtocolError::LengthOverflow);
        }
        if before_key == 4 && len < 126 || before_key == 10 && len < 1 << 16 {
            return Err(ProtocolError::NonMinimalLength);
        }
        if !masked {
            return Ok(Some((Self { fin, rsv1, opcode, mask: Mask::NONE, len }, before_key)));
        }
        let Some((key, _)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Self { fin, rsv1, opcode, mask: Mask::new(*key), len }, before_key + 4)))
    }
}

/// The first byte of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First(u8);

impl First {
    /// Of a frame that is a whole message, or a control frame.
    #[inline]
    pub(crate) fn whole(opcode: Opcode) -> Self {
        Self(FIN | opcode as u8)
    }

    /// Of one frame of a message.
    #[inline]
    pub(crate) fn of(fin: bool, rsv1: bool, opcode: Opcode) -> Self {
        Self(if fin { FIN } else { 0 } | if rsv1 { RSV1 } else { 0 } | opcode as u8)
    }
}

/// Writes a header, with the shortest form of the length, into `out`; gives its length.
#[inline]
pub(crate) fn encode(
    first: First,
    len: usize,
    key: Option<[u8; 4]>,
    out: &mut [u8; Header::MAX_LEN],
) -> usize {
    out[0] = first.0;
    let mask_bit = if key.is_some() { MASK } else { 0 };
    let before_key = if len < 126 {
        out[1] = mask_bit | len as u8;
        2
    } else if let Ok(len) = u16::try_from(len) {
        out[1] = mask_bit | 126;
        out[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        out[1] = mask_bit | 127;
        out[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        10
    };
    let Some(key) = key else { return before_key };
    out[before_key..before_key + 4].copy_from_slice(&key);
    before_key + 4
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const MASK: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn s5_2_header_survives_both_ways() {
        let lens = [0, 1, 125, 126, 127, 65_535, 65_536, 16 << 20];
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Continuation] {
            for (fin, len) in [true, false].into_iter().flat_map(|fin| lens.map(|len| (fin, len))) {
                let rsv1 = opcode != Opcode::Continuation;
                for (role, key) in [(Role::Client, None), (Role::Server, Some(KEY))] {
                    let mut out = [0; Header::MAX_LEN];
                    let n = encode(First::of(fin, rsv1, opcode), len, key, &mut out);
                    let mask = key.map_or(Mask::NONE, Mask::new);
                    let header = Header { fin, rsv1, opcode, mask, len: len as u64 };
                    assert_eq!(Header::decode(&out[..n], role, true), Ok(Some((header, n))));
                    for cut in 0..n {
                        assert_eq!(Header::decode(&out[..cut], role, true), Ok(None), "{cut} of {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn s5_2_length_takes_its_shortest_form() {
        for (len, n) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(
                encode(First::whole(Opcode::Binary), len, None, &mut [0; Header::MAX_LEN]),
                n,
                "{len}"
            );
        }
    }

    #[test]
    fn s5_faults_of_a_header() {
        use ProtocolError::*;
        let client: &[(&[u8], ProtocolError)] = &[
            (&[0xc1, 0x00], ReservedBits),
            (&[0xa1, 0x00], ReservedBits),
            (&[0x91, 0x00], ReservedBits),
            (&[0x83, 0x00], ReservedOpcode(3)),
            (&[0x87, 0x00], ReservedOpcode(7)),
            (&[0x8b, 0x00], ReservedOpcode(11)),
            (&[0x8f, 0x00], ReservedOpcode(15)),
            (&[0x09, 0x00], FragmentedControl),
            (&[0x89, 0x7e], ControlTooLong),
            (&[0x88, 0x7f], ControlTooLong),
            (&[0x81, 0x80], Masked),
            (&[0x82, 0x7e, 0x00, 0x7d], NonMinimalLength),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], NonMinimalLength),
            (&[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], LengthOverflow),
        ];
        for &(bytes, error) in client {
            assert_eq!(Header::decode(bytes, Role::Client, false), Err(error), "{bytes:x?}");
        }
        assert_eq!(Header::decode(&[0x81, 0x00], Role::Server, false), Err(Unmasked));
    }

    #[test]
    fn s7692_6_rsv1_is_for_the_first_frame_of_a_message() {
        let decode = |first| Header::decode(&[first, 0x00], Role::Client, true);
        for first in [0xc1, 0xc2, 0x41, 0x42] {
            assert!(decode(first).unwrap().unwrap().0.rsv1, "{first:x}");
        }
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca, 0xe1, 0xd1] {
            assert_eq!(decode(first), Err(ProtocolError::ReservedBits), "{first:x}");
        }
    }
}
