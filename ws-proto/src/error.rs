//! What can go wrong, by whose fault: the peer's frames ([`ProtocolError`]), the caller's commands
//! ([`SendError`]), the opening handshake ([`HandshakeError`](crate::HandshakeError)), or the road between
//! ([`Error`], which holds them all).

use std::{fmt, io};

use crate::{close::CloseCode, handshake::HandshakeError, timer::Timer};

/// The peer broke the protocol, or passed a limit.
///
/// The connection answers with a Close frame that carries [`close_code`](Self::close_code) and ends
/// (RFC 6455 section 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set that no extension defined, or the one for compression where it has no place (section
    /// 5.2; RFC 7692 section 6).
    ReservedBits,
    /// The opcode is one of the reserved: 3 to 7 or 11 to 15 (section 5.2).
    ReservedOpcode(u8),
    /// A client's frame is not masked (section 5.1).
    Unmasked,
    /// A server's frame is masked (section 5.1).
    Masked,
    /// The length is not in its shortest form (section 5.2).
    NonMinimalLength,
    /// The top bit of a 64-bit length is set (section 5.2).
    LengthOverflow,
    /// A control frame is fragmented (section 5.5).
    FragmentedControl,
    /// A control frame's payload is longer than 125 bytes (section 5.5).
    ControlTooLong,
    /// A continuation frame without a message to continue (section 5.4).
    UnexpectedContinuation,
    /// A text or binary frame while a fragmented message is unfinished (section 5.4).
    InterleavedMessage,
    /// A Close frame with one byte of payload: too short for a code (section 5.5.1).
    ClosePayload,
    /// A close code that must not travel (section 7.4).
    CloseCode(u16),
    /// Text, or the reason of a Close frame, is not UTF-8 (section 8.1).
    InvalidUtf8,
    /// A compressed message does not inflate (RFC 7692 section 7.2.2).
    Deflate,
    /// A frame is longer than [`Config::max_frame`](crate::Config::max_frame).
    FrameTooLong {
        /// The length in the frame's header.
        len: u64,
        /// The limit it passed.
        limit: usize,
    },
    /// A message is longer than [`Config::max_message`](crate::Config::max_message).
    MessageTooLong {
        /// The limit it passed.
        limit: usize,
    },
}

impl ProtocolError {
    /// The close code that tells the peer.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooLong { .. } | Self::MessageTooLong { .. } => CloseCode::TOO_BIG,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::ClosePayload
            | Self::CloseCode(_) => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("reserved bits are set"),
            Self::ReservedOpcode(opcode) => write!(f, "opcode {opcode} is reserved"),
            Self::Unmasked => f.write_str("client's frame is not masked"),
            Self::Masked => f.write_str("server's frame is masked"),
            Self::NonMinimalLength => f.write_str("payload length is not in its shortest form"),
            Self::LengthOverflow => f.write_str("payload length has its top bit set"),
            Self::FragmentedControl => f.write_str("control frame is fragmented"),
            Self::ControlTooLong => f.write_str("control frame is longer than 125 bytes"),
            Self::UnexpectedContinuation => f.write_str("continuation frame without a message"),
            Self::InterleavedMessage => f.write_str("data frame inside a fragmented message"),
            Self::ClosePayload => f.write_str("close frame with one byte of payload"),
            Self::CloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::InvalidUtf8 => f.write_str("text is not UTF-8"),
            Self::Deflate => f.write_str("compressed message does not inflate"),
            Self::FrameTooLong { len, limit } => {
                write!(f, "frame of {len} bytes passes the limit of {limit}")
            }
            Self::MessageTooLong { limit } => write!(f, "message passes the limit of {limit} bytes"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A command of the caller could not be taken. Nothing was queued and nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The output queue is at its high-water mark; try again once some of it was written.
    Full,
    /// A Close frame was sent or the connection has ended: nothing can follow (RFC 6455 section 5.5.1).
    Closed,
    /// The payload of a control frame is longer than 125 bytes (section 5.5), or the reason of a Close frame
    /// longer than 123.
    ControlTooLong {
        /// The length that was asked for.
        len: usize,
    },
    /// This close code must not travel (section 7.4).
    CloseCode(u16),
    /// A message is being sent in fragments; no other can start before its last (section 5.4).
    InFragment,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("output queue is full"),
            Self::Closed => f.write_str("connection is closing or closed"),
            Self::ControlTooLong { len } => write!(f, "{len} bytes do not fit a control frame"),
            Self::CloseCode(code) => write!(f, "close code {code} must not be sent"),
            Self::InFragment => f.write_str("a fragmented message is unfinished"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why a connection could not be made or did not end cleanly: what the adapters report.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol. It was told why.
    Protocol(ProtocolError),
    /// The caller asked for what cannot be sent. The connection goes on.
    Send(SendError),
    /// The opening handshake failed.
    Handshake(HandshakeError),
    /// A deadline passed.
    Timeout(Timer),
    /// The peer closed TCP without a Close frame (close code 1006).
    Abnormal,
    /// The socket failed.
    Io(io::Error),
}

impl Error {
    /// Whether connecting again would change nothing, as [`HandshakeError::is_permanent`] says. No other error is
    /// permanent: networks, names and certificates change.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Handshake(error) => error.is_permanent(),
            Self::Protocol(_) | Self::Send(_) | Self::Timeout(_) | Self::Abnormal | Self::Io(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => write!(f, "peer broke the protocol: {error}"),
            Self::Send(error) => write!(f, "cannot send: {error}"),
            Self::Handshake(error) => write!(f, "handshake failed: {error}"),
            Self::Timeout(timer) => write!(f, "{timer}"),
            Self::Abnormal => f.write_str("peer closed the connection without a close frame"),
            Self::Io(error) => write!(f, "socket: {error}"),
        }
    }
}

/// Without a source: what is inside is part of the text.
impl std::error::Error for Error {}

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

/// Where only an [`io::Error`] will do: an [`Error::Io`] as it is, any other inside one of the kind that fits.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Io(error) => return error,
            Error::Protocol(_) => io::ErrorKind::InvalidData,
            Error::Send(SendError::Closed) => io::ErrorKind::BrokenPipe,
            Error::Send(_) => io::ErrorKind::InvalidInput,
            Error::Handshake(_) => io::ErrorKind::Other,
            Error::Timeout(_) => io::ErrorKind::TimedOut,
            Error::Abnormal => io::ErrorKind::UnexpectedEof,
        };
        Self::new(kind, error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_4_1_each_fault_has_its_close_code() {
        use ProtocolError::*;
        for (code, faults) in [
            (
                1002,
                &[ReservedBits, ReservedOpcode(3), Unmasked, Masked, NonMinimalLength, LengthOverflow][..],
            ),
            (1002, &[FragmentedControl, ControlTooLong, UnexpectedContinuation, InterleavedMessage]),
            (1002, &[ClosePayload, CloseCode(1005)]),
            (1007, &[InvalidUtf8, Deflate]),
            (1009, &[FrameTooLong { len: 2, limit: 1 }, MessageTooLong { limit: 1 }]),
        ] {
            for fault in faults {
                assert_eq!(fault.close_code().get(), code, "{fault}");
            }
        }
    }
}
