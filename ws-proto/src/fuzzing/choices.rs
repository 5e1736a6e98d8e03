//! The fuzzer's bytes as choices.

use std::time::Instant;

use crate::{config::Role, connection::Connection, send::MaskingKeys};

/// Choices from the front of the input; zeros once it is used up.
#[derive(Clone, Debug)]
pub(super) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(super) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(super) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    /// At most so many of the bytes that are left.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let len = len.min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }

    /// The bytes up to a separator, which is dropped.
    pub(super) fn until(&mut self, separator: u8) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| byte == separator).unwrap_or(self.0.len());
        let bytes = self.bytes(len);
        self.byte();
        bytes
    }

    /// Two lengths to cut bytes by, in turn.
    pub(super) fn cuts(&mut self) -> [usize; 2] {
        [self.byte(), self.byte()].map(|choice| match choice {
            0..128 => 1 + usize::from(choice),
            128.. => 1 + usize::from(choice & 0x7f) * 1021,
        })
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes in pieces of these lengths, in turn.
pub(super) fn cut<'a>(mut bytes: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &len in lens.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        pieces.extend(bytes.split_off(..len.min(bytes.len())));
    }
    pieces
}

/// Bytes that do not get shorter when they are compressed: xorshift64*.
pub(super) fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
}

/// A connection that compresses and inflates as agreed, if that was agreed on.
pub(super) fn connection(
    role: Role,
    config: &crate::Config,
    deflate: Option<(&crate::deflate::Agreement, &crate::DeflateConfig)>,
    now: Instant,
) -> Connection {
    let keys = (role == Role::Client).then(|| MaskingKeys::new([7; 32]));
    let connection = Connection::new(config, keys, &[], now);
    let Some((agreement, deflate)) = deflate else { return connection };
    let (own, peer) = match role {
        Role::Server => (agreement.server, agreement.client),
        Role::Client => (agreement.client, agreement.server),
    };
    let inflater = crate::deflate::Inflater::new(peer, deflate);
    connection.with_deflate(crate::deflate::Deflater::new(own, deflate), Some(inflater))
}

pub(super) const ROLES: [Role; 2] = [Role::Server, Role::Client];
