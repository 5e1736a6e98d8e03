//! Close codes and Close frames: what may be sent, what may be received (RFC 6455 sections 5.5.1 and 7.4).

use std::fmt;

use crate::{
    error::{ProtocolError, SendError},
    message::Utf8Bytes,
};

/// Why a connection is closed: the number in a Close frame (RFC 6455 section 7.4).
///
/// An open registry, so a number with names for the known ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: data of a kind that is not taken here.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the Close frame carried no code. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a message is not what its kind promises, above all text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the message breaks the receiver's rules.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: the message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client needs an extension that the server did not accept.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the sender cannot go on.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: the server is a gateway and got a bad answer from behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never sent.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// A code by its number. Whether it may travel says [`is_sendable`](Self::is_sendable).
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether the code may stand in a Close frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999.
    ///
    /// 1005, 1006 and 1015 are for reports only (section 7.4.1), the rest is not assigned.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The code of the peer's Close frame; [`CloseCode::NO_STATUS`] if it carried none,
    /// [`CloseCode::ABNORMAL`] if there was no such frame.
    pub code: CloseCode,
    /// The reason beside it, empty if there was none.
    pub reason: Utf8Bytes,
    /// Whether a Close frame was both sent and received: the closing handshake of RFC 6455 section 7.1.4.
    pub clean: bool,
    /// Whose Close frame, or whose fault, came first.
    pub initiator: Initiator,
}

/// Who began to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This side: by its command, or because a deadline passed.
    Local,
    /// The other side: by its Close frame, by breaking the protocol, or by closing TCP.
    Peer,
}

/// Longest payload of a control frame in bytes (RFC 6455 section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// The payload of a Close frame: nothing, or a code and a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosePayload {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

impl ClosePayload {
    /// A Close frame without code and reason.
    pub(crate) const EMPTY: Self = Self { bytes: [0; MAX_CONTROL], len: 0 };

    pub(crate) fn new(code: CloseCode, reason: &str) -> Result<Self, SendError> {
        if !code.is_sendable() {
            return Err(SendError::CloseCode(code.get()));
        }
        let len = 2 + reason.len();
        if len > MAX_CONTROL {
            return Err(SendError::ControlTooLong { len: reason.len() });
        }
        let mut bytes = [0; MAX_CONTROL];
        bytes[..2].copy_from_slice(&code.get().to_be_bytes());
        bytes[2..len].copy_from_slice(reason.as_bytes());
        Ok(Self { bytes, len })
    }

    /// A code alone, for one that is known to be sendable.
    pub(crate) fn code(code: CloseCode) -> Self {
        Self::new(code, "").expect("a code of ours may be sent")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads the payload of the peer's Close frame: its code, or 1005, and its reason.
pub(crate) fn parse(payload: &[u8]) -> Result<(CloseCode, &str), ProtocolError> {
    match payload {
        [] => Ok((CloseCode::NO_STATUS, "")),
        [_] => Err(ProtocolError::ClosePayload),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.is_sendable() {
                return Err(ProtocolError::CloseCode(code.get()));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
            Ok((code, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_4_codes_that_may_travel() {
        let sendable = |code: u16| CloseCode::new(code).is_sendable();
        let ranges: Vec<(u16, u16)> =
            (0..=u16::MAX).filter(|&c| sendable(c)).fold(Vec::new(), |mut all, code| {
                match all.last_mut() {
                    Some((_, last)) if *last + 1 == code => *last = code,
                    _ => all.push((code, code)),
                }
                all
            });
        assert_eq!(ranges, [(1000, 1003), (1007, 1014), (3000, 4999)]);
    }

    #[test]
    fn s5_5_1_payload_both_ways() {
        let payload = ClosePayload::new(CloseCode::GOING_AWAY, "bye").unwrap();
        assert_eq!(payload.as_bytes(), b"\x03\xe9bye");
        assert_eq!(parse(payload.as_bytes()), Ok((CloseCode::GOING_AWAY, "bye")));
        assert_eq!(parse(b""), Ok((CloseCode::NO_STATUS, "")));
        assert_eq!(parse(b"\x03"), Err(ProtocolError::ClosePayload));
        assert_eq!(parse(b"\x03\xed"), Err(ProtocolError::CloseCode(1005)));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::InvalidUtf8));
    }

    #[test]
    fn s5_5_reason_fits_in_123_bytes() {
        assert!(ClosePayload::new(CloseCode::NORMAL, &"x".repeat(122)).is_ok());
        assert!(ClosePayload::new(CloseCode::NORMAL, &"x".repeat(123)).is_ok());
        let too_long = ClosePayload::new(CloseCode::NORMAL, &"x".repeat(124));
        assert_eq!(too_long, Err(SendError::ControlTooLong { len: 124 }));
        assert_eq!(ClosePayload::new(CloseCode::ABNORMAL, ""), Err(SendError::CloseCode(1006)));
    }
}
