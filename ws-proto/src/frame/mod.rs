//! One frame on the wire (RFC 6455 section 5.2): its header and its mask. Knows nothing of messages.

mod header;
mod mask;

pub(crate) use header::{First, Header, Opcode, encode};
pub(crate) use mask::Mask;
