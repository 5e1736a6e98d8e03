//! Messages in, bytes for the peer out: the sending half of RFC 6455 sections 5 and 6.1.

mod prepared;
mod queue;

use std::{fmt, io::IoSlice};

use chacha20::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use prepared::Frame;
pub use prepared::Prepared;
use queue::Queue;

use crate::{
    buffer::Buffer,
    close::{ClosePayload, MAX_CONTROL},
    config::Config,
    deflate::Deflater,
    error::SendError,
    frame::{First, Opcode},
    message::{Message, Text},
};

/// The sending half of a connection: what an application sends through.
///
/// A call queues whole frames or changes nothing. Queued bytes leave by
/// [`output`](crate::Machine::output) and [`consume`](crate::Machine::consume).
///
/// ```
/// # use std::time::Instant;
/// # use ws_proto::{Config, Connection, SendError};
/// # let mut connection = Connection::server(&Config::default(), Instant::now());
/// let sender = connection.sender();
/// sender.send_text("hello")?;
/// sender.send_fragment("first ".into(), false)?;
/// sender.send_fragment("last".into(), true)?;
/// assert_eq!(sender.buffered_amount(), 2 + 5 + 2 + 6 + 2 + 4);
/// # Ok::<(), SendError>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    queue: Queue,
    high_water: usize,
    /// Source of masking keys; a server has none.
    keys: Option<Box<MaskingKeys>>,
    /// Whether payloads may leave as slices of their own.
    vectored: bool,
    state: SendState,
    /// The kind of the message that is being sent in fragments.
    in_fragment: Option<Opcode>,
    deflater: Option<Box<Deflater>>,
    /// Whether the message that is being sent in fragments, or the next message, may be compressed.
    compressing: bool,
    compression: bool,
    /// The one pong that waits for its turn: the answer to the newest ping (section 5.5.3).
    pong: Option<Box<Control>>,
    /// Pongs queued since the last read, and how many of them go at once.
    pongs: usize,
    max_pongs: usize,
    /// The socket took less than it was offered.
    blocked: bool,
    /// The socket holds back some of what it took.
    held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Open,
    /// A Close frame is queued or sent. Only pongs may follow it (sections 5.5.1 and 5.5.2).
    Closing,
    /// Nothing may follow what is queued.
    Ended,
    /// The socket takes nothing any more.
    Broken,
}

/// The payload of a control frame.
#[derive(Debug)]
struct Control {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

/// Fresh, unpredictable masking keys (RFC 6455 section 5.3): a ChaCha stream over the caller's seed.
pub(crate) struct MaskingKeys(ChaCha12Rng);

/// Nothing of the keys: who reads the log must not foretell them.
impl fmt::Debug for MaskingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskingKeys").finish_non_exhaustive()
    }
}

impl MaskingKeys {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    pub(crate) fn next(&mut self) -> [u8; 4] {
        self.0.next_u32().to_ne_bytes()
    }
}

/// A piece of a message that is sent in fragments: text or binary, as the whole message.
///
/// A piece of text may not cut a character, as it is a `str`; the frames of the peer may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fragment<'a> {
    /// A piece of a text message.
    Text(Text<'a>),
    /// A piece of a binary message.
    Binary(&'a [u8]),
}

impl<'a> Fragment<'a> {
    /// The bytes of the piece, whichever the kind.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(payload) => payload,
        }
    }
}

impl<'a> From<&'a str> for Fragment<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a [u8]> for Fragment<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Self::Binary(payload)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Fragment<'a> {
    fn from(payload: &'a [u8; N]) -> Self {
        Self::Binary(payload)
    }
}

/// Commands: what an application wants to send.
impl Sender {
    /// A client has a source of masking keys, a server has none. `preamble` leaves before any frame.
    pub(crate) fn new(config: &Config, keys: Option<MaskingKeys>, preamble: &[u8]) -> Self {
        Self {
            queue: Queue::new(preamble),
            // An empty queue has room, whatever the mark.
            high_water: config.high_water.max(1),
            keys: keys.map(Box::new),
            vectored: true,
            state: SendState::Open,
            in_fragment: None,
            deflater: None,
            compressing: false,
            compression: true,
            pong: None,
            pongs: 0,
            max_pongs: config.max_pongs_per_read,
            blocked: false,
            held: false,
        }
    }

    /// Queues a text message, copied from a `&str` or from a received [`Text`].
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] at the high-water mark, [`SendError::InFragment`] inside a fragmented message,
    /// [`SendError::Closed`] once the connection closes.
    #[inline]
    pub fn send_text<'a>(&mut self, text: impl Into<Text<'a>>) -> Result<(), SendError> {
        self.check_message()?;
        self.push_message(Opcode::Text, text.into().as_bytes());
        Ok(())
    }

    /// Queues a binary message, copied.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    #[inline]
    pub fn send_binary(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.check_message()?;
        self.push_message(Opcode::Binary, payload);
        Ok(())
    }

    /// Queues a message. A server does not copy a long one: it leaves by a vectored write from where it is.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    #[inline]
    pub fn send(&mut self, message: &Message) -> Result<(), SendError> {
        self.check_message()?;
        let opcode = match message {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        };
        if self.shares(message.len()) && !self.compresses(message.len()) {
            self.queue.push_shared(First::whole(opcode), message.clone().into_bytes());
        } else {
            self.push_message(opcode, message.as_bytes());
        }
        Ok(())
    }

    /// Queues a message that was encoded beforehand, to be sent to many.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text).
    pub fn send_prepared(&mut self, prepared: &Prepared) -> Result<(), SendError> {
        self.check_message()?;
        let frame = self.choose(prepared);
        if self.shares(frame.payload.len()) {
            self.queue.push_shared(frame.first, frame.payload.clone());
        } else if self.keys.is_none() {
            self.queue.push_encoded(&frame.bytes);
        } else {
            self.push(frame.first, &frame.payload);
        }
        Ok(())
    }

    /// The form of a prepared message that this connection sends.
    fn choose<'a>(&mut self, prepared: &'a Prepared) -> &'a Frame {
        let plain = prepared.plain();
        if self.compresses(plain.payload.len())
            && let Some(deflater) = &mut self.deflater
            && let Some(compressed) = prepared.compressed(deflater)
        {
            // It stands alone, so what follows must not refer to what was before it.
            deflater.reset();
            return compressed;
        }
        plain
    }

    /// The bytes of a prepared message, if they may leave as they are and now, past the queue. What the socket does not
    /// take of them is to be queued by [`queue_rest`](Self::queue_rest).
    pub(crate) fn unqueued<'a>(&mut self, prepared: &'a Prepared) -> Result<Option<&'a [u8]>, SendError> {
        self.check_message()?;
        let may = self.keys.is_none() && self.queue.is_empty() && self.pong.is_none();
        // A long one stays where it is: its rest would be copied for each connection that does not read.
        Ok((may && !self.shares(prepared.len())).then(|| &*self.choose(prepared).bytes))
    }

    /// Queues a frame of which the socket took the first `taken` bytes.
    pub(crate) fn queue_rest(&mut self, frame: &[u8], taken: usize) {
        self.queue.push_encoded(frame);
        self.queue.consume(taken);
    }

    /// Queues one frame of a message that is sent in fragments (section 5.4), copied; `last` ends the message.
    ///
    /// All fragments are of one kind. Pings, pongs and a close may be sent in between, other messages may not.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text); [`SendError::InFragment`] if the message that is being sent is of the other
    /// kind.
    pub fn send_fragment(&mut self, fragment: Fragment<'_>, last: bool) -> Result<(), SendError> {
        self.check_room()?;
        let payload = fragment.as_bytes();
        let opcode = match fragment {
            Fragment::Text(_) => Opcode::Text,
            Fragment::Binary(_) => Opcode::Binary,
        };
        if self.in_fragment.is_some_and(|kind| kind != opcode) {
            return Err(SendError::InFragment);
        }
        if self.in_fragment.is_none() {
            self.compressing =
                self.compression && self.deflater.as_ref().is_some_and(|d| d.wants(payload.len()));
        }
        // RFC 7692 section 6: the first frame of a compressed message is marked.
        let first = match self.in_fragment {
            Some(_) => First::of(last, false, Opcode::Continuation),
            None => First::of(last, self.compressing, opcode),
        };
        match &mut self.deflater {
            Some(deflater) if self.compressing => {
                let key = self.keys.as_mut().map(|keys| keys.next());
                self.queue.push_with(first, key, |out| deflater.deflate(payload, last, out));
            }
            _ => self.push(first, payload),
        }
        self.in_fragment = (!last).then_some(opcode);
        Ok(())
    }

    /// Queues a ping (section 5.5.2).
    ///
    /// # Errors
    ///
    /// [`SendError::ControlTooLong`] over 125 bytes, [`SendError::Full`] at the high-water mark,
    /// [`SendError::Closed`] once the connection closes.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.control(Opcode::Ping, payload)
    }

    /// Queues a pong that answers no ping, which is a one-way heartbeat (section 5.5.3). Pings are answered
    /// without this.
    ///
    /// # Errors
    ///
    /// As [`ping`](Self::ping).
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.control(Opcode::Pong, payload)
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendError> {
        if payload.len() > MAX_CONTROL {
            return Err(SendError::ControlTooLong { len: payload.len() });
        }
        self.check_room()?;
        self.push(First::whole(opcode), payload);
        Ok(())
    }

    /// Switches the compression of the messages that follow off or on; where none was agreed on, nothing changes.
    ///
    /// Off is for secrets that would be compressed together with what an attacker may choose (RFC 7692 section 8).
    pub fn set_compression(&mut self, on: bool) {
        self.compression = on;
    }

    #[inline]
    fn check_message(&self) -> Result<(), SendError> {
        self.check_room()?;
        if self.in_fragment.is_some() { Err(SendError::InFragment) } else { Ok(()) }
    }

    #[inline]
    fn check_room(&self) -> Result<(), SendError> {
        if self.state != SendState::Open {
            Err(SendError::Closed)
        } else if self.is_full() {
            Err(SendError::Full)
        } else {
            Ok(())
        }
    }

    /// Whether a payload of this length leaves as a slice of its own.
    fn shares(&self, len: usize) -> bool {
        self.keys.is_none() && self.vectored && len >= SHARED
    }

    /// Whether a whole message of this length is compressed. An empty one is short as it is.
    fn compresses(&self, len: usize) -> bool {
        self.compression && len > 0 && self.deflater.as_ref().is_some_and(|deflater| deflater.wants(len))
    }

    #[inline]
    fn push_message(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.deflater.is_some() && self.compresses(payload.len()) {
            self.push_deflated(opcode, payload);
        } else {
            self.push(First::whole(opcode), payload);
        }
    }

    #[inline(never)] // the others are faster without its needs
    fn push_deflated(&mut self, opcode: Opcode, payload: &[u8]) {
        let Some(deflater) = &mut self.deflater else { return };
        let key = self.keys.as_mut().map(|keys| keys.next());
        let before = self.queue.len();
        let first = First::of(true, true, opcode);
        let len = self.queue.push_with(first, key, |out| deflater.deflate(payload, true, out));
        // What does not get shorter leaves as it is, unless later messages refer to it.
        if len >= payload.len() && deflater.is_independent() {
            self.queue.truncate(before);
            self.queue.push(First::whole(opcode), payload, key);
        }
    }

    #[inline]
    fn push(&mut self, first: First, payload: &[u8]) {
        match &mut self.keys {
            Some(keys) => push_masked(&mut self.queue, first, payload, keys.next()),
            None => self.queue.push(first, payload, None),
        }
    }
}

#[inline(never)] // as `push_deflated`
fn push_masked(queue: &mut Queue, first: First, payload: &[u8], key: [u8; 4]) {
    queue.push(first, payload, Some(key));
}

/// Getters.
impl Sender {
    /// Bytes that wait to be written, framing included.
    #[inline]
    pub fn buffered_amount(&self) -> usize {
        self.queue.len()
    }

    /// Whether the queue is at its high-water mark, so that [`SendError::Full`] is the answer to a message.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.high_water
    }

    pub(crate) fn high_water(&self) -> usize {
        self.high_water
    }

    /// Whether messages may still be sent: no Close frame is queued or sent, and the socket works.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state == SendState::Open
    }
}

/// For the connection.
impl Sender {
    /// Answers a ping: at once while the peer takes what is written, else the newest one only.
    pub(crate) fn queue_pong(&mut self, payload: &[u8]) {
        if !matches!(self.state, SendState::Open | SendState::Closing) {
            return;
        }
        // One that would fill the queue waits: whoever is lent the ping was promised room for an answer.
        let fits = self.queue.len() + CONTROL_HEADER + payload.len() < self.high_water;
        if self.pong.is_none() && !self.blocked && fits && self.pongs < self.max_pongs {
            self.pongs += 1;
            self.push(First::whole(Opcode::Pong), payload);
            return;
        }
        let pong = self.pong.get_or_insert_with(|| Box::new(Control { bytes: [0; MAX_CONTROL], len: 0 }));
        pong.bytes[..payload.len()].copy_from_slice(payload);
        pong.len = payload.len();
    }

    /// Queues the pong that waits, if its turn has come: in front of everything but the frame that is being
    /// written. So at most two pongs wait for a blocked socket, one begun and the newest.
    #[inline]
    pub(crate) fn place_pong(&mut self) {
        if self.pong.is_some() {
            self.place_waiting_pong();
        }
    }

    fn place_waiting_pong(&mut self) {
        let waits = self.blocked || self.is_full();
        if waits && !self.queue.at_boundary() {
            return;
        }
        if let Some(pong) = self.pong.take() {
            let key = self.keys.as_mut().map(|keys| keys.next());
            if waits {
                self.queue.push_front(Opcode::Pong, &pong.bytes[..pong.len], key);
            } else {
                self.queue.push(First::whole(Opcode::Pong), &pong.bytes[..pong.len], key);
            }
        }
    }

    /// A read brought bytes: its pings have a fresh allowance, and what was not written before is blocked.
    #[inline]
    pub(crate) fn handle_input(&mut self) {
        self.pongs = 0;
        self.blocked = !self.queue.is_empty();
    }

    /// Queues an empty keepalive ping; not if output waits, as then the write deadline watches the peer.
    pub(crate) fn queue_keepalive(&mut self) -> bool {
        let asks = self.state == SendState::Open && self.is_written();
        if asks {
            self.push(First::whole(Opcode::Ping), b"");
        }
        asks
    }

    /// Takes whatever still comes: it is bounded elsewhere, and a Close frame follows.
    pub(crate) fn lift_mark(&mut self) {
        self.high_water = usize::MAX;
    }

    /// Queues the Close frame behind everything; nothing may follow it.
    pub(crate) fn queue_close(&mut self, payload: &ClosePayload) {
        if self.state == SendState::Open {
            if let Some(pong) = self.pong.take() {
                self.push(First::whole(Opcode::Pong), &pong.bytes[..pong.len]);
            }
            self.push(First::whole(Opcode::Close), payload.as_bytes());
            self.state = SendState::Closing;
        }
    }

    /// The connection has ended: nothing can follow what is queued.
    pub(crate) fn end(&mut self) {
        if !self.is_broken() {
            self.state = SendState::Ended;
            self.pong = None;
        }
    }

    /// The socket takes nothing any more: what is queued is lost.
    pub(crate) fn break_off(&mut self) {
        self.state = SendState::Broken;
        self.pong = None;
        self.held = false;
        self.queue = Queue::new(&[]);
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn set_deflater(&mut self, deflater: Option<Deflater>) {
        self.deflater = deflater.map(Box::new);
    }

    /// The connection was silent for a while: gives back a compressor that was not used meanwhile.
    pub(crate) fn rest(&mut self) {
        if let Some(deflater) = &mut self.deflater
            && !(self.in_fragment.is_some() && self.compressing)
        {
            deflater.rest();
        }
    }

    /// Has every payload copied into the one output buffer, for sockets without vectored writes.
    pub(crate) fn set_vectored(&mut self, vectored: bool) {
        self.vectored = vectored;
    }

    /// Before waiting: notes whether the socket left something, else gives back memory.
    #[inline]
    pub(crate) fn handle_wait(&mut self) {
        self.blocked = !self.queue.is_empty();
        if !self.blocked {
            self.queue.release();
        }
    }

    #[inline]
    pub(crate) fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        // With a pong waiting, nothing but the rest of the frame it waits for.
        self.queue.output(slices, self.pong.is_some())
    }

    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        self.queue.consume(len);
        if self.queue.is_empty() {
            self.blocked = false;
        }
        self.place_pong();
    }

    /// Whether the socket still takes what is written.
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.state == SendState::Broken
    }

    /// The socket holds back some of what it took, or has passed it all on.
    pub(crate) fn handle_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether everything that was queued has left.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.queue.is_empty() && !self.held
    }
}

/// Header of a control frame, with its mask.
const CONTROL_HEADER: usize = 2 + 4;

/// Shortest payload that leaves as a slice of its own: below it a copy costs less than what a slice adds to a
/// write.
pub(crate) const SHARED: usize = Buffer::BLOCK / 8;
