//! Messages encoded once and sent to many.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    buffer::Buffer,
    deflate::Deflater,
    frame::{First, Header, Opcode, encode},
    message::Message,
};

/// A message encoded once, to be sent to many connections. Cloning shares it.
///
/// Servers send the encoded frame as it is; clients must mask it each time (RFC 6455 section 5.3). It is compressed
/// when a connection first asks for it, once for each size of window, and kept.
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
pub struct Prepared(Arc<Forms>);

#[derive(Debug)]
struct Forms {
    opcode: Opcode,
    plain: Frame,
    /// By the bits of the window, from 9 on; `None` where it does not get shorter.
    compressed: [OnceLock<Option<Frame>>; 7],
}

/// An encoded frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) first: First,
    /// Header and payload, unmasked.
    pub(super) bytes: Bytes,
    pub(super) payload: Bytes,
}

impl Frame {
    fn new(first: First, payload: &[u8]) -> Self {
        let mut header = [0; Header::MAX_LEN];
        let n = encode(first, payload.len(), None, &mut header);
        let mut bytes = BytesMut::with_capacity(n + payload.len());
        bytes.put_slice(&header[..n]);
        bytes.put_slice(payload);
        let bytes = bytes.freeze();
        Self { first, payload: bytes.slice(n..), bytes }
    }
}

impl Prepared {
    /// Encodes a message.
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let opcode = match message {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        };
        let plain = Frame::new(First::whole(opcode), message.as_bytes());
        Self(Arc::new(Forms { opcode, plain, compressed: Default::default() }))
    }

    /// Length of the message's payload in bytes.
    pub fn len(&self) -> usize {
        self.0.plain.payload.len()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn plain(&self) -> &Frame {
        &self.0.plain
    }

    /// The frame compressed on its own, in a way that a connection with this compressor may send; `None` if it does not
    /// get shorter.
    pub(super) fn compressed(&self, deflater: &Deflater) -> Option<&Frame> {
        let form = self.0.compressed.get(usize::from(deflater.class() - 9))?;
        let form = form.get_or_init(|| {
            let mut payload = Buffer::default();
            deflater.deflate_alone(&self.0.plain.payload, &mut payload);
            let shorter = payload.len() < self.len();
            shorter.then(|| Frame::new(First::of(true, true, self.0.opcode), payload.pending()))
        });
        form.as_ref()
    }
}
