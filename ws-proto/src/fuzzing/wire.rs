//! Frames on the wire, read without the library (RFC 6455 section 5.2).

use crate::config::Role;

/// A header, legal or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub(super) rsv: u8,
    pub(super) opcode: u8,
    pub(super) masked: bool,
    /// The length as its first seven bits tell it.
    pub(super) short_len: u8,
    /// The rest of the header, once all of it is there.
    pub(super) rest: Option<Rest>,
}

/// What a header says behind its second byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) len: u64,
    pub(super) key: [u8; 4],
    /// Length of the whole header.
    pub(super) header_len: usize,
}

impl Header {
    /// `None` without its first two bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let masked = second & 0x80 != 0;
        let short_len = second & 0x7f;
        let len_end = match short_len {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let header_len = len_end + if masked { 4 } else { 0 };
        let rest = bytes.get(..header_len).map(|header| {
            let len = header[2..len_end].iter().fold(0, |len, &byte| len << 8 | u64::from(byte));
            let len = if len_end == 2 { u64::from(short_len) } else { len };
            let mut key = [0; 4];
            key[..header_len - len_end].copy_from_slice(&header[len_end..]);
            Rest { len, key, header_len }
        });
        Some(Self {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 7,
            opcode: first & 15,
            masked,
            short_len,
            rest,
        })
    }

    pub(super) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// A frame that the library wrote.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) compressed: bool,
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

/// The frame at the start of what `sender` wrote, and its length, if it is whole. It keeps every rule of section 5.
pub(super) fn read_frame(sender: Role, bytes: &[u8]) -> Option<(Frame, usize)> {
    let header = Header::read(bytes)?;
    let Rest { len, key, header_len } = header.rest?;
    assert_eq!(header.masked, sender == Role::Client, "{header:?}");
    assert!(matches!(header.opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG), "{header:?}");
    assert!(header.rsv == 0 || header.rsv == 4 && matches!(header.opcode, TEXT | BINARY), "{header:?}");
    assert!(!header.is_control() || header.fin && header.short_len <= 125, "{header:?}");
    let shortest = match len {
        0..=125 => len as u8,
        126..=0xffff => 126,
        _ => 127,
    };
    assert!(header.short_len == shortest && len >> 63 == 0, "{header:?}");
    let mut payload = bytes.get(header_len..header_len + len as usize)?.to_vec();
    mask(key, &mut payload);
    let frame = Frame { fin: header.fin, compressed: header.rsv == 4, opcode: header.opcode, payload };
    Some((frame, header_len + len as usize))
}

/// What `sender` wrote, which is whole frames.
pub(super) fn read_frames(sender: Role, mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, len) = read_frame(sender, bytes).expect("the output is whole frames");
        frames.push(frame);
        bytes = &bytes[len..];
    }
    frames
}

/// A frame toward `reader`, its length in the shortest form; `first` is its first byte.
pub(super) fn write_frame(reader: Role, first: u8, key: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let mask_bit = if reader == Role::Server { 0x80 } else { 0 };
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(mask_bit | len as u8),
        len @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(mask_bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if reader == Role::Server {
        out.extend(key);
    }
    let start = out.len();
    out.extend(payload);
    if reader == Role::Server {
        mask(key, &mut out[start..]);
    }
}

/// Section 5.3 to the letter.
pub(super) fn mask(key: [u8; 4], payload: &mut [u8]) {
    payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
}

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
