//! Messages encoded once and sent to many.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    frame::{Header, Opcode, encode},
    message::Message,
};

/// A message encoded once, to be sent to many connections. Cloning shares it.
///
/// Servers send the encoded frame as it is; clients must mask it each time (RFC 6455 section 5.3).
///
/// ```
/// use ws_proto::{Config, Connection, Prepared};
/// # use std::time::Instant;
/// # let now = Instant::now();
/// # let mut connections = [(); 3].map(|()| Connection::server(&Config::default(), now));
///
/// let news = Prepared::new("the same for all");
/// for connection in &mut connections {
///     connection.sender().send_prepared(&news)?;
/// }
/// # Ok::<(), ws_proto::SendError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Prepared {
    opcode: Opcode,
    /// Header and payload, unmasked.
    frame: Bytes,
    payload: Bytes,
}

impl Prepared {
    /// Encodes a message.
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let opcode = match message {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        };
        let mut header = [0; Header::MAX_LEN];
        let n = encode(true, opcode, message.len(), None, &mut header);
        let mut frame = BytesMut::with_capacity(n + message.len());
        frame.put_slice(&header[..n]);
        frame.put_slice(message.as_bytes());
        let frame = frame.freeze();
        Self { opcode, payload: frame.slice(n..), frame }
    }

    /// Length of the message's payload in bytes.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    pub(super) fn opcode(&self) -> Opcode {
        self.opcode
    }

    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    pub(super) fn payload(&self) -> &Bytes {
        &self.payload
    }
}
