//! Bytes of the peer in, frames and messages out: the receiving half of RFC 6455 sections 5 and 6.2.
//!
//! ```text
//!            recv_space                         whole frame: lent where it lies
//!  socket ───────────────► input ─────────────────────────────────────────────► Event
//!     │                      │ fragments, frames longer than a block                ▲
//!     │                      └──────────────► message ──────────────────────────────┘
//!     └─ the rest of a long frame ───────────────┘
//! ```
//!
//! In chunks, a message is lent from its buffer as it comes, and never collected.
//!
//! It knows nothing of what its findings mean for the connection.

pub(crate) mod text;

use text::TextCheck;

use crate::{
    buffer::Buffer,
    config::{Config, Role},
    deflate::Inflater,
    error::ProtocolError,
    frame::{Header, Mask, Opcode},
    message::{Chunk, Event, Message, Text},
    send::Fragment,
};

/// The receiving half of a connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    role: Role,
    max_frame: usize,
    max_message: usize,
    /// Longest payload with a length of up to 16 bits that both limits allow.
    max_short: usize,
    /// Bytes as they came. A frame that is being taken in place has its header consumed already.
    input: Buffer,
    /// A message that is not in one piece in `input`, as far as it came and was not lent in chunks.
    message: Buffer,
    /// The last call asked for chunks.
    in_chunks: bool,
    /// How much of the message that is open was lent in chunks.
    passed: usize,
    /// Kind of the message that is open, and whether a frame of it ended already.
    open: Option<Kind>,
    /// The message that is open is compressed, and so long on the wire so far.
    compressed: Option<u64>,
    inflater: Option<Box<Inflater>>,
    state: State,
    text: TextCheck,
    /// Length of the frame that was last lent where it lay.
    last_len: usize,
    /// What [`event`](Self::event) lends, unless it was taken; dropped by the next [`advance`](Self::advance).
    lent: Option<(Option<Step>, Place)>,
}

/// Kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

#[derive(Debug)]
enum State {
    /// Between frames, or inside a header.
    Header,
    /// Inside the payload of a frame that will lie whole in `input`; `ready` bytes of it are unmasked and checked.
    InPlace { header: Header, ready: usize },
    /// Inside the payload of a frame that is appended to `message`; `left` bytes of it are still to come, and
    /// those in `message` from `ready` on are raw.
    Appending { mask: Mask, fin: bool, left: u64, ready: usize },
    /// Inside the payload of a compressed frame that is inflated to the end of `message`; `left` bytes of it are still
    /// to come.
    Inflating { mask: Mask, fin: bool, left: u64 },
    /// After the last chunk before a fault.
    Failed(ProtocolError),
    /// After a Close frame or a fault: whatever comes is dropped.
    Discarding,
}

/// Where the payload of an event lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The first bytes pending in `input`, so many.
    Input(usize),
    /// The first bytes pending in `message`, so many.
    Message(usize),
}

/// What the bytes amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A text message is complete.
    Text,
    /// A binary message is complete.
    Binary,
    Ping,
    Pong,
    Close,
    /// Some of a text message is there.
    TextPart,
    /// Some of a binary message is there.
    BinaryPart,
}

impl Receiver {
    pub(crate) fn new(role: Role, config: &Config) -> Self {
        Self {
            role,
            max_frame: config.max_frame,
            max_message: config.max_message,
            max_short: 0xffff.min(config.max_frame).min(config.max_message),
            input: Buffer::default(),
            message: Buffer::default(),
            in_chunks: false,
            passed: 0,
            open: None,
            compressed: None,
            inflater: None,
            state: State::Header,
            text: TextCheck::default(),
            last_len: 0,
            lent: None,
        }
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn set_inflater(&mut self, inflater: Option<Inflater>) {
        self.inflater = inflater.map(Box::new);
    }

    /// Takes bytes that were read before there was a receiver.
    pub(crate) fn push_input(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// Where the next read goes. Never empty while [`wants_read`](Self::wants_read).
    #[inline]
    pub(crate) fn recv_space(&mut self) -> &mut [u8] {
        if let Some(left) = self.reads_directly() {
            // Memory follows what arrived, not what the header promised: little is asked for, and a buffer doubles.
            let spare = self.message.reserve(DIRECT_READ.min(left));
            let len = spare.len().min(left);
            return &mut spare[..len];
        }
        let rest_of_frame = match self.state {
            State::InPlace { header, .. } => (header.len as usize).saturating_sub(self.input.len()),
            State::Header
            | State::Appending { .. }
            | State::Inflating { .. }
            | State::Failed(_)
            | State::Discarding => 0,
        };
        let spare = self.input.reserve(rest_of_frame.max(SHORTEST_READ));
        if self.last_len < DIRECT_READ {
            return spare;
        }
        // Of long frames as many as are likely to be whole: the begin of one more would have to be moved.
        let frame_len = self.last_len + Header::MAX_LEN;
        let whole = spare.len().saturating_sub(rest_of_frame) / frame_len * frame_len;
        match rest_of_frame + whole {
            0 => spare,
            len => &mut spare[..len],
        }
    }

    /// The first `len` bytes of [`recv_space`](Self::recv_space) were filled by a read.
    #[inline]
    pub(crate) fn handle_input(&mut self, len: usize) {
        match self.state {
            State::Discarding => {}
            _ if self.reads_directly().is_some() => self.message.fill(len),
            _ => self.input.fill(len),
        }
    }

    /// How much of a long frame's payload may be read straight to the end of the message.
    #[inline]
    fn reads_directly(&self) -> Option<usize> {
        match self.state {
            State::Appending { left, ready, .. } if self.input.is_empty() => {
                let left = left as usize - (self.message.len() - ready);
                // A short rest is better read together with what follows it.
                (left >= DIRECT_READ).then_some(left)
            }
            _ => None,
        }
    }

    /// Whether more bytes can be taken. Always so when [`advance`](Self::advance) asked for more; else until
    /// half a block of them waits.
    pub(crate) fn wants_read(&self) -> bool {
        self.input.len() <= IN_PLACE && !(self.in_chunks && self.message.len() > IN_PLACE)
    }

    /// Goes on to the next event, which [`event`](Self::event) then lends; `None` needs more bytes.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<Option<Step>, ProtocolError> {
        self.drop_lent();
        if let Some(step) = self.advance_short() {
            return step.map(Some);
        }
        self.in_chunks = false;
        if self.is_drained() { Ok(None) } else { self.advance_any() }
    }

    /// Whether nothing came since [`advance`](Self::advance) found nothing.
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.lent.is_none() && !self.in_chunks && self.input.is_empty() && matches!(self.state, State::Header)
    }

    /// As [`advance`](Self::advance), but does not wait for a message to be complete: what is there of it is a step,
    /// too. Text is lent up to its last whole character.
    ///
    /// What came before a fault is lent before it, however the bytes are cut.
    pub(crate) fn advance_chunk(&mut self) -> Result<Option<Step>, ProtocolError> {
        self.drop_lent();
        self.in_chunks = true;
        match self.advance_any() {
            Ok(None) => Ok(self.lend_part()),
            Err(error) => self.lend_before(error),
            step => step,
        }
    }

    #[inline]
    fn drop_lent(&mut self) {
        match self.lent.take() {
            Some((_, Place::Input(len))) => self.input.consume(len),
            Some((_, Place::Message(len))) => self.drop_message(len),
            None => {}
        }
    }

    /// Drops what was lent of the message; the rest of it is still to come, if it is open.
    #[cold]
    fn drop_message(&mut self, len: usize) {
        self.message.consume(len);
        if self.open.is_some() {
            self.passed += len;
        }
        if let State::Appending { ready, .. } = &mut self.state {
            *ready -= len;
        }
    }

    /// Lends what is there of the message that is open, if anything is; not a character that is cut.
    fn lend_part(&mut self) -> Option<Step> {
        let kind = self.open?;
        let len = self.message.len() - self.text.partial_len();
        let step = if kind == Kind::Text { Step::TextPart } else { Step::BinaryPart };
        (len > 0).then(|| self.lend(step, Place::Message(len)))
    }

    /// Lends what is good of the message that is open, and has the fault come next.
    #[cold]
    fn lend_before(&mut self, error: ProtocolError) -> Result<Option<Step>, ProtocolError> {
        let Some(kind) = self.open else { return Err(error) };
        self.message.truncate(self.max_message - self.passed);
        if kind == Kind::Text {
            self.message.truncate(text::valid_len(self.message.pending()));
        }
        self.text = TextCheck::default();
        let part = self.lend_part();
        self.state = State::Failed(error);
        part.map(Some).ok_or(error)
    }

    /// The common case on its own: a masked message in one frame that came whole, with a length of 7 or 16 bits.
    /// Anything else, and any fault but that of the text, is left to [`advance_any`](Self::advance_any).
    #[inline]
    fn advance_short(&mut self) -> Option<Result<Step, ProtocolError>> {
        if !matches!(self.state, State::Header) || self.open.is_some() || self.role == Role::Client {
            return None;
        }
        let bytes = self.input.pending_mut();
        let &mut [first, second, third, fourth, ..] = bytes else { return None };
        let step = match first {
            0x81 => Step::Text,
            0x82 => Step::Binary,
            _ => return None,
        };
        let (header_len, len) = match second {
            0x80..=0xfd => (6, usize::from(second - 0x80)),
            0xfe => (8, usize::from(u16::from_be_bytes([third, fourth]))),
            _ => return None,
        };
        if len > self.max_short || header_len == 8 && len < 126 {
            return None;
        }
        let (header, payload) = bytes.split_at_mut_checked(header_len)?;
        let payload = payload.get_mut(..len)?;
        let key = *header.last_chunk().expect("a header ends with its key");
        let is_ascii = Mask::new(key).apply(payload);
        if step == Step::Text
            && let Err(error) = text::check(payload, is_ascii)
        {
            return Some(Err(error));
        }
        self.input.consume(header_len);
        Some(Ok(self.lend(step, Place::Input(len))))
    }

    fn advance_any(&mut self) -> Result<Option<Step>, ProtocolError> {
        loop {
            match self.state {
                State::Header => {
                    let Some((mut header, n)) =
                        Header::decode(self.input.pending(), self.role, self.inflater.is_some())?
                    else {
                        return Ok(None);
                    };
                    self.check_sequence(&header)?;
                    self.input.consume(n);
                    // A frame that came whole needs no state.
                    let alone =
                        header.fin && self.open.is_none() && !header.rsv1 || header.opcode.is_control();
                    if alone && header.len <= self.input.len() as u64 {
                        let payload = &mut self.input.pending_mut()[..header.len as usize];
                        let is_ascii = header.mask.apply(payload);
                        if header.opcode == Opcode::Text
                            && let Err(error) = text::check(payload, is_ascii)
                        {
                            if self.in_chunks {
                                self.message.push(payload);
                                self.open = Some(Kind::Text);
                            }
                            return Err(error);
                        }
                        return Ok(Some(self.lend(step(header.opcode), Place::Input(header.len as usize))));
                    }
                    let in_place = alone && (header.opcode.is_control() || !self.in_chunks);
                    self.state = if in_place && header.len <= IN_PLACE as u64 {
                        State::InPlace { header, ready: 0 }
                    } else {
                        self.open = self.open.or(Some(match header.opcode {
                            Opcode::Text => Kind::Text,
                            _ => Kind::Binary,
                        }));
                        let Header { mask, fin, len: left, .. } = header;
                        if header.rsv1 {
                            self.compressed = Some(0);
                        }
                        match &mut self.compressed {
                            Some(wire_len) => {
                                *wire_len += left;
                                State::Inflating { mask, fin, left }
                            }
                            None => {
                                if !self.in_chunks {
                                    self.message.expect(left as usize);
                                }
                                State::Appending { mask, fin, left, ready: self.message.len() }
                            }
                        }
                    };
                }
                State::InPlace { mut header, ready } => {
                    let len = header.len as usize;
                    let arrived = self.input.len().min(len);
                    let piece = &mut self.input.pending_mut()[ready..arrived];
                    let is_ascii = header.mask.apply(piece);
                    if header.opcode == Opcode::Text {
                        self.text.push(piece, is_ascii)?;
                    }
                    if arrived < len {
                        self.state = State::InPlace { header, ready: arrived };
                        return Ok(None);
                    }
                    if header.opcode == Opcode::Text {
                        self.text.finish()?;
                    }
                    self.state = State::Header;
                    return Ok(Some(self.lend(step(header.opcode), Place::Input(len))));
                }
                State::Appending { mut mask, fin, left, ready } => {
                    let raw = (self.message.len() - ready) as u64;
                    let arrived = (left - raw).min(self.input.len() as u64) as usize;
                    self.message.push(&self.input.pending()[..arrived]);
                    self.input.consume(arrived);
                    let piece = &mut self.message.pending_mut()[ready..];
                    let is_ascii = mask.apply(piece);
                    if self.open == Some(Kind::Text) {
                        self.text.push(piece, is_ascii)?;
                    }
                    let left = left - piece.len() as u64;
                    if left > 0 {
                        self.state = State::Appending { mask, fin, left, ready: self.message.len() };
                        return Ok(None);
                    }
                    self.state = State::Header;
                    if fin {
                        return self.finish_message().map(Some);
                    }
                    // What the next header amounts to comes behind it.
                    if self.in_chunks
                        && let Some(step) = self.lend_part()
                    {
                        return Ok(Some(step));
                    }
                }
                State::Inflating { mut mask, fin, left } => {
                    let at_once = if self.in_chunks { INFLATED_AT_ONCE } else { usize::MAX };
                    let arrived = left.min(self.input.len().min(at_once) as u64) as usize;
                    let left = left - arrived as u64;
                    let piece = &mut self.input.pending_mut()[..arrived];
                    mask.apply(piece);
                    let checked = self.message.len();
                    let inflater = self.inflater.as_mut().expect("a message was compressed by agreement");
                    let max = self.max_message - self.passed;
                    let inflated = inflater.inflate(piece, &mut self.message, max);
                    self.input.consume(arrived);
                    // What came out before a fault comes first, however the bytes are cut.
                    if self.open == Some(Kind::Text) {
                        let allowed = self.message.len().min(max);
                        self.text.push(&self.message.pending()[checked..allowed], false)?;
                    }
                    inflated.map_err(|error| match error {
                        ProtocolError::MessageTooLong { .. } => {
                            ProtocolError::MessageTooLong { limit: self.max_message }
                        }
                        error => error,
                    })?;
                    if left > 0 {
                        self.state = State::Inflating { mask, fin, left };
                        if self.input.is_empty() {
                            return Ok(None);
                        }
                        if self.message.len() < IN_PLACE {
                            continue;
                        }
                    } else {
                        self.state = State::Header;
                        if fin {
                            inflater.finish(&mut self.message, max)?;
                            self.compressed = None;
                            return self.finish_message().map(Some);
                        }
                    }
                    if self.in_chunks
                        && let Some(step) = self.lend_part()
                    {
                        return Ok(Some(step));
                    }
                }
                State::Failed(error) => return Err(error),
                State::Discarding => {
                    self.input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// The last frame of the message that is open came to its end.
    fn finish_message(&mut self) -> Result<Step, ProtocolError> {
        self.text.finish()?;
        let kind = self.open.take().expect("a frame that is appended belongs to a message");
        self.passed = 0;
        let step = if kind == Kind::Text { Step::Text } else { Step::Binary };
        Ok(self.lend(step, Place::Message(self.message.len())))
    }

    fn lend(&mut self, step: Step, place: Place) -> Step {
        if let Place::Input(len) = place {
            self.last_len = len;
        }
        self.lent = Some((Some(step), place));
        step
    }

    /// The rules that relate a frame to the message it belongs to (section 5.4), and the limits, before any of
    /// its payload is looked at.
    #[inline]
    fn check_sequence(&self, header: &Header) -> Result<(), ProtocolError> {
        match (header.opcode, self.open) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::InterleavedMessage),
            (Opcode::Continuation, Some(_)) | (Opcode::Text | Opcode::Binary, None) => {}
            (Opcode::Close, _) if header.len == 1 => return Err(ProtocolError::ClosePayload),
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
        }
        // Of a compressed message both forms are bounded, as one can be all headers of blocks. What does not get
        // shorter gets longer: with zlib's smallest window by an eighth and a little.
        let compressed = header.rsv1 || self.compressed.is_some();
        let allowed = |limit: usize| {
            let limit = limit as u64;
            if compressed { limit.saturating_add(limit / 7 + 64) } else { limit }
        };
        if header.len > allowed(self.max_frame) {
            return Err(ProtocolError::FrameTooLong { len: header.len, limit: self.max_frame });
        }
        let so_far = self.compressed.unwrap_or((self.passed + self.message.len()) as u64);
        if header.len > allowed(self.max_message) - so_far {
            return Err(ProtocolError::MessageTooLong { limit: self.max_message });
        }
        Ok(())
    }

    #[cfg(all(feature = "deflate", any(test, feature = "fuzzing")))]
    pub(crate) fn memory(&self) -> usize {
        self.input.held() + self.message.held()
    }

    /// Stops reading frames: what came and what comes is dropped (sections 5.5.1 and 7.1.7).
    pub(crate) fn discard(&mut self) {
        self.state = State::Discarding;
        self.lent = None;
        self.open = None;
        self.inflater = None;
        self.input.clear();
        self.message.clear();
        self.release();
    }

    /// Gives back memory that is not needed while nothing arrives.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.lent.is_none() {
            self.input.release();
            self.message.release();
        }
    }

    /// The payload of what [`advance`](Self::advance) found.
    #[inline]
    pub(crate) fn payload(&self) -> &[u8] {
        match self.lent {
            Some((_, Place::Input(len))) => &self.input.pending()[..len],
            Some((_, Place::Message(len))) => &self.message.pending()[..len],
            None => &[],
        }
    }

    /// What [`advance`](Self::advance) found, but for a Close frame, which is the connection's to report.
    #[inline(always)] // a call would hand it over in memory, in halves that cannot be read as one at once
    pub(crate) fn event(&self) -> Option<Event<'_>> {
        let (step, _) = self.lent?;
        let payload = self.payload();
        match step? {
            Step::Text => Some(Event::Text(Text::checked(payload))),
            Step::Binary => Some(Event::Binary(payload)),
            Step::Ping => Some(Event::Ping(payload)),
            Step::Pong => Some(Event::Pong(payload)),
            Step::TextPart | Step::BinaryPart | Step::Close => None,
        }
    }

    /// What [`advance_chunk`](Self::advance_chunk) found, if it is of a message.
    pub(crate) fn chunk(&self) -> Option<Chunk<'_>> {
        let (step, _) = self.lent?;
        let payload = self.payload();
        let step = step?;
        let payload = match step {
            Step::Text | Step::TextPart => Fragment::Text(Text::checked(payload)),
            Step::Binary | Step::BinaryPart => Fragment::Binary(payload),
            Step::Ping | Step::Pong | Step::Close => return None,
        };
        Some(Chunk { payload, last: matches!(step, Step::Text | Step::Binary) })
    }

    /// The message that [`advance`](Self::advance) found, as its own: moved if it fills half of its buffer.
    pub(crate) fn take_message(&mut self) -> Option<Message> {
        let (step, place) = self.lent.as_mut()?;
        let (step, place) = (step.take_if(|step| !matches!(step, Step::TextPart | Step::BinaryPart))?, place);
        let payload = match place {
            Place::Input(len) => self.input.take(std::mem::take(len)),
            Place::Message(len) => self.message.take(std::mem::take(len)),
        };
        match step {
            Step::Text => Some(Message::Text(payload.try_into().expect("checked as it arrived"))),
            Step::Binary => Some(Message::Binary(payload)),
            Step::TextPart | Step::BinaryPart | Step::Ping | Step::Pong | Step::Close => None,
        }
    }
}

/// What a whole frame of this opcode amounts to.
#[inline]
fn step(opcode: Opcode) -> Step {
    match opcode {
        Opcode::Text => Step::Text,
        Opcode::Binary => Step::Binary,
        Opcode::Ping => Step::Ping,
        Opcode::Pong => Step::Pong,
        Opcode::Close => Step::Close,
        Opcode::Continuation => unreachable!("a continuation does not stand alone"),
    }
}

/// Longest frame that waits in the input until it is whole; longer ones move on to the message as they come.
const IN_PLACE: usize = Buffer::BLOCK / 2;

/// How much of a compressed message is inflated before a chunk is seen to be long enough: 1032 times as much may come
/// out.
const INFLATED_AT_ONCE: usize = 256;

/// Least room for a read, so that bytes near the end of a block do not come in small pieces.
const SHORTEST_READ: usize = Buffer::BLOCK / 4;

/// Shortest rest of a frame that gets a read of its own.
const DIRECT_READ: usize = 16 * 1024;
