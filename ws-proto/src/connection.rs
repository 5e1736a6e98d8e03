//! [`Connection`]: receiver, sender, closing and timers in one machine.

use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

use crate::{
    close::{self, CloseCode, ClosePayload, Closed, Initiator},
    closing::{Closing, Input},
    config::{Config, Role},
    error::{Error, ProtocolError, SendError},
    machine::Machine,
    message::{Chunk, Event, Message, Utf8Bytes},
    recv::{Receiver, Step},
    send::{MaskingKeys, Sender},
    timer::{Timer, TimerTable},
};

/// An established WebSocket connection, without its socket.
///
/// - *Inputs*, what happened: the `handle_` methods of [`Machine`].
/// - *Commands*, what the application wants: [`sender`](Self::sender) and [`close`](Self::close).
/// - *Outputs*, what the driver must do: the other methods of [`Machine`].
/// - *Events*, what the peer said: [`advance`](Self::advance), then [`event`](Self::event) or
///   [`take_message`](Self::take_message).
///
/// Events are not queued: one is parsed when asked for, and lent. Not asking is back-pressure.
///
/// ```
/// use std::{io::IoSlice, time::Instant};
/// use ws_proto::{Config, Connection, Event, Machine};
///
/// let now = Instant::now();
/// let mut connection = Connection::server(&Config::default(), now);
///
/// // A driver would read from a socket here.
/// let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
/// connection.recv_space()[..frame.len()].copy_from_slice(&frame);
/// connection.handle_input(frame.len(), now);
///
/// while connection.advance() {
///     let (event, sender) = connection.split_mut();
///     if let Some(Event::Text(text)) = event {
///         sender.send_text(text)?;
///     }
/// }
///
/// // And write to it here.
/// let mut slices = [IoSlice::new(&[])];
/// let count = connection.output(&mut slices);
/// assert_eq!((count, &*slices[0]), (1, &[0x81, 2, b'h', b'i'][..]));
/// connection.consume(4);
/// # Ok::<(), ws_proto::SendError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    receiver: Receiver,
    sender: Sender,
    closing: Closing,
    timers: TimerTable,
    role: Role,
    timeouts: Timeouts,
    /// When bytes came last.
    last_input: Instant,
    incoming: Incoming,
    /// How it ended, as far as that is known, and the fault that ended it.
    closed: Option<Closed>,
    fault: Option<Fault>,
    subprotocol: Option<String>,
}

/// The peer's half of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    Open,
    /// Nothing more will come, but what came is not read to its end.
    Ended,
    /// All that came was read.
    Drained,
}

/// The durations of [`Config`].
#[derive(Debug)]
struct Timeouts {
    keepalive: Option<Duration>,
    pong: Option<Duration>,
    write: Option<Duration>,
    close: Option<Duration>,
}

/// Why a connection did not end cleanly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// A deadline passed.
    Timeout(Timer),
    /// The peer closed TCP without a Close frame, or the socket failed.
    Abnormal,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Protocol(error) => Self::Protocol(error),
            Fault::Timeout(timer) => Self::Timeout(timer),
            Fault::Abnormal => Self::Abnormal,
        }
    }
}

/// Constructors.
impl Connection {
    /// The server's side of a connection whose handshake is over, made elsewhere.
    pub fn server(config: &Config, now: Instant) -> Self {
        Self::new(config, None, &[], now)
    }

    /// The client's side of a connection whose handshake is over, made elsewhere.
    ///
    /// Masking keys come from `seed`, which must be random and used once (RFC 6455 section 10.3).
    pub fn client(config: &Config, seed: [u8; 32], now: Instant) -> Self {
        Self::new(config, Some(MaskingKeys::new(seed)), &[], now)
    }

    /// A client has a source of masking keys, a server has none. `preamble` is written before any frame.
    pub(crate) fn new(config: &Config, keys: Option<MaskingKeys>, preamble: &[u8], now: Instant) -> Self {
        let role = if keys.is_some() { Role::Client } else { Role::Server };
        let mut timers = TimerTable::default();
        timers.arm(Timer::KeepAlive, now, config.keepalive);
        Self {
            receiver: Receiver::new(role, config),
            sender: Sender::new(config, keys, preamble),
            closing: Closing::Open,
            timers,
            role,
            timeouts: Timeouts {
                keepalive: config.keepalive,
                pong: config.pong_timeout,
                write: config.write_timeout,
                close: config.close_timeout,
            },
            last_input: now,
            incoming: Incoming::Open,
            closed: None,
            fault: None,
            subprotocol: None,
        }
    }

    /// Takes bytes that were read together with a handshake made elsewhere, before anything else is read.
    pub fn with_leftover(mut self, bytes: &[u8]) -> Self {
        self.receiver.push_input(bytes);
        self
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn with_deflate(
        mut self,
        deflater: Option<crate::deflate::Deflater>,
        inflater: Option<crate::deflate::Inflater>,
    ) -> Self {
        self.sender.set_deflater(deflater);
        self.receiver.set_inflater(inflater);
        self
    }

    pub(crate) fn with_subprotocol(mut self, subprotocol: Option<String>) -> Self {
        self.subprotocol = subprotocol;
        self
    }
}

/// Commands: the application wants something.
impl Connection {
    /// What messages are sent through.
    #[inline]
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The event that [`advance`](Self::advance) stopped at, and the sender beside it: for an answer made from
    /// the lent payload.
    #[inline(always)] // as `event` of the receiver
    pub fn split_mut(&mut self) -> (Option<Event<'_>>, &mut Sender) {
        (self.receiver.event(), &mut self.sender)
    }

    /// Starts the closing handshake: queues a Close frame behind everything that was sent (RFC 6455 section
    /// 7.1.2).
    ///
    /// Messages of the peer still arrive until its Close frame does. Closing a connection that is closing
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCode`] for a code that must not travel, [`SendError::ControlTooLong`] for a reason of
    /// more than 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        let payload = ClosePayload::new(code, reason)?;
        self.step_closing(Input::Close, &payload);
        Ok(())
    }

    /// As [`close`](Self::close), with a Close frame that carries no code.
    pub fn close_without_code(&mut self) {
        self.step_closing(Input::Close, &ClosePayload::EMPTY);
    }
}

/// The end, without asking the peer.
impl Connection {
    /// Ends the connection as it stands: nothing more is sent or received, and it counts as
    /// [`Fault::Abnormal`] unless it has ended already.
    pub fn terminate(&mut self) {
        if self.closing != Closing::Ended {
            self.fault.get_or_insert(Fault::Abnormal);
            self.closed = Some(self.abnormal(Initiator::Local));
            self.sender.break_off();
            self.step_closing(Input::Deadline, &ClosePayload::EMPTY);
        }
    }
}

/// What the socket can do.
impl Connection {
    /// Tells whether the socket writes several slices in one call; if not, all output comes in one.
    pub fn set_vectored(&mut self, vectored: bool) {
        self.sender.set_vectored(vectored);
    }
}

/// Outputs: what the peer said.
impl Connection {
    /// Goes on to the next event; `false` if there is none until more bytes come.
    ///
    /// Control frames are answered on the way. When the peer breaks the protocol the answer is queued, nothing
    /// more is delivered, and [`fault`](Self::fault) tells.
    #[inline]
    pub fn advance(&mut self) -> bool {
        // Before a wait it is asked more than once.
        let nothing_came = self.receiver.is_drained() && self.incoming == Incoming::Open;
        !nothing_came && self.advance_any()
    }

    fn advance_any(&mut self) -> bool {
        loop {
            match self.receiver.advance() {
                Ok(Some(Step::Text | Step::Binary | Step::Pong)) => return true,
                found => {
                    if let Some(stops) = self.settle(found) {
                        return stops;
                    }
                }
            }
        }
    }

    /// Goes on to the next [`chunk`](Self::chunk) of a message, without waiting for the rest of it; `false` if there
    /// is none until more bytes come. However long a message is, it takes no more memory than a few reads.
    ///
    /// Control frames are answered on the way, and skipped. [`Config::max_message`] holds for the sum of the chunks:
    /// raise it for messages that are longer than memory. [`advance`](Self::advance) may take turns with this; in the
    /// middle of a message it goes on to what is left of it, as one message, and this goes on with what was collected
    /// of it.
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use ws_proto::{Config, Connection, Machine};
    /// # let now = Instant::now();
    /// # let mut connection = Connection::client(&Config::default(), [0; 32], now);
    /// # let mut arrives = |connection: &mut Connection, bytes: &[u8]| {
    /// #     connection.recv_space()[..bytes.len()].copy_from_slice(bytes);
    /// #     connection.handle_input(bytes.len(), now);
    /// # };
    /// // The first seven bytes of a frame that holds "hello world".
    /// arrives(&mut connection, b"\x81\x0bhello");
    /// while connection.advance_chunk() {
    ///     let chunk = connection.chunk().expect("it stopped at one");
    ///     assert_eq!((chunk.as_bytes(), chunk.last), (&b"hello"[..], false));
    /// }
    /// arrives(&mut connection, b" world");
    /// assert!(connection.advance_chunk());
    /// assert_eq!(connection.chunk().map(|chunk| chunk.last), Some(true));
    /// ```
    pub fn advance_chunk(&mut self) -> bool {
        loop {
            let found = self.receiver.advance_chunk();
            match self.settle(found) {
                Some(true) if self.chunk().is_some() => return true,
                Some(false) => return false,
                // A ping or pong, or nothing to stop at.
                Some(true) | None => {}
            }
        }
    }

    /// Does what a finding asks for; whether it is an event, or `None` to look for another one.
    #[inline]
    fn settle(&mut self, found: Result<Option<Step>, ProtocolError>) -> Option<bool> {
        match found {
            Ok(Some(Step::Text | Step::Binary | Step::TextPart | Step::BinaryPart | Step::Pong)) => {
                return Some(true);
            }
            Ok(Some(Step::Ping)) => {
                self.sender.queue_pong(self.receiver.payload());
                return Some(true);
            }
            Ok(Some(Step::Close)) => self.peer_closes(),
            Ok(None) => {
                self.sender.place_pong();
                if self.incoming != Incoming::Open {
                    self.incoming = Incoming::Drained;
                    self.end_if_drained();
                }
                return Some(false);
            }
            Err(error) => self.fail(error),
        }
        None
    }

    /// The event that [`advance`](Self::advance) stopped at, lent until the next call that changes anything.
    #[inline(always)]
    pub fn event(&self) -> Option<Event<'_>> {
        self.receiver.event()
    }

    /// The piece of a message that [`advance_chunk`](Self::advance_chunk) stopped at, lent until the next call that
    /// changes anything.
    pub fn chunk(&self) -> Option<Chunk<'_>> {
        self.receiver.chunk()
    }

    /// The message that [`advance`](Self::advance) stopped at, as its own: moved where it can be, copied where
    /// it must be. `None` for a ping or pong.
    pub fn take_message(&mut self) -> Option<Message> {
        self.receiver.take_message()
    }

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref().filter(|_| self.closing == Closing::Ended)
    }

    /// What ended the connection, if it was no closing handshake. A fault of the protocol is known as soon as
    /// it happens, before the connection has ended.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Which side this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The subprotocol that the handshake agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Bytes that wait to be written, framing included.
    pub fn buffered_amount(&self) -> usize {
        self.sender.buffered_amount()
    }
}

impl Machine for Connection {
    #[inline]
    fn recv_space(&mut self) -> &mut [u8] {
        self.receiver.recv_space()
    }

    #[inline]
    fn handle_input(&mut self, len: usize, now: Instant) {
        self.receiver.handle_input(len);
        self.sender.handle_input();
        self.last_input = now;
        if self.timers.is_set(Timer::Pong) {
            self.timers.stop(Timer::Pong);
            self.timers.arm(Timer::KeepAlive, now, self.timeouts.keepalive);
        }
        // A peer that never pauses must not outrun the deadlines.
        self.arm(now);
        self.handle_timeout(now);
    }

    fn handle_eof(&mut self, _now: Instant) {
        // Not the end yet: `advance` finds it behind the events that came before.
        self.incoming = Incoming::Ended;
        self.timers.stop(Timer::KeepAlive);
        self.timers.stop(Timer::Pong);
    }

    fn handle_write_error(&mut self, _now: Instant) {
        self.sender.break_off();
        self.timers.stop(Timer::Write);
        self.end_if_drained();
    }

    fn handle_held(&mut self, held: bool) {
        self.sender.handle_held(held);
        self.end_if_drained();
    }

    #[inline]
    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::KeepAlive => self.keep_alive(now),
                Timer::Pong | Timer::Write | Timer::Close => {
                    self.end(Input::Deadline, Fault::Timeout(timer), Initiator::Local);
                }
                Timer::Handshake => {}
            }
        }
    }

    #[inline]
    fn wants_write(&self) -> bool {
        self.sender.buffered_amount() > 0
    }

    #[inline]
    fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.sender.output(slices)
    }

    #[inline]
    fn consume(&mut self, len: usize) {
        self.sender.consume(len);
        if len > 0 {
            self.timers.stop(Timer::Write);
        }
        self.end_if_drained();
    }

    #[inline]
    fn poll_timeout(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        self.sender.handle_wait();
        self.receiver.release();
        self.arm(now);
        self.timers.next()
    }

    #[inline]
    fn wants_read(&self) -> bool {
        self.incoming == Incoming::Open && self.closing != Closing::Ended && self.receiver.wants_read()
    }

    fn wants_shutdown(&self) -> bool {
        let role_shuts = match self.closing {
            Closing::Open | Closing::Sent => false,
            // Section 7.1.1: the server closes TCP first.
            Closing::Done => self.role == Role::Server || self.incoming != Incoming::Open,
            Closing::Failed | Closing::Ended => true,
        };
        role_shuts && self.sender.is_written()
    }

    fn is_ended(&self) -> bool {
        self.closing == Closing::Ended
    }
}

impl Connection {
    /// Memory that buffers of received bytes hold.
    #[cfg(all(feature = "deflate", any(test, feature = "fuzzing")))]
    pub(crate) fn memory(&self) -> usize {
        self.receiver.memory()
    }

    /// Arms the deadlines that begin with a state, not with an input.
    #[inline]
    fn arm(&mut self, now: Instant) {
        if self.closing == Closing::Ended {
            return;
        }
        if !self.sender.is_written() && !self.timers.is_set(Timer::Write) {
            self.timers.arm(Timer::Write, now, self.timeouts.write);
        }
        let ending =
            self.closing != Closing::Open || self.incoming != Incoming::Open || self.sender.is_broken();
        if ending && !self.timers.is_set(Timer::Close) {
            self.timers.arm(Timer::Close, now, self.timeouts.close);
        }
    }

    /// Section 5.5.1: the peer's Close frame is answered with its own code, and nothing behind it counts.
    #[cold]
    fn peer_closes(&mut self) {
        if self.closing == Closing::Ended {
            return self.receiver.discard();
        }
        let (code, reason) = match close::parse(self.receiver.payload()) {
            Ok((code, reason)) => (code, reason.into()),
            Err(error) => return self.fail(error),
        };
        let initiator = if self.closing == Closing::Open { Initiator::Peer } else { Initiator::Local };
        let answer =
            if code == CloseCode::NO_STATUS { ClosePayload::EMPTY } else { ClosePayload::code(code) };
        self.closed = Some(Closed { code, reason, clean: true, initiator });
        self.step_closing(Input::PeerClose, &answer);
    }

    /// Section 7.1.7: the peer broke the protocol, is told with the fitting code, and not listened to any more.
    #[cold]
    fn fail(&mut self, error: ProtocolError) {
        if self.closing == Closing::Ended {
            return self.receiver.discard();
        }
        self.fault = Some(Fault::Protocol(error));
        self.closed = Some(self.abnormal(Initiator::Peer));
        let payload = ClosePayload::new(error.close_code(), &error.to_string());
        self.step_closing(Input::Fault, &payload.expect("codes and texts of ours fit"));
    }

    /// Ends once nothing more comes, unless output waits that the peer may still read.
    fn end_if_drained(&mut self) {
        if self.incoming == Incoming::Drained && self.sender.is_written() {
            self.end(Input::Eof, Fault::Abnormal, Initiator::Peer);
        }
    }

    #[cold]
    fn end(&mut self, input: Input, mut fault: Fault, mut initiator: Initiator) {
        if self.incoming != Incoming::Open || self.sender.is_broken() {
            // The peer left before the deadline came.
            (fault, initiator) = (Fault::Abnormal, Initiator::Peer);
        }
        match &mut self.closed {
            Some(closed) => closed.clean &= !self.sender.is_broken() && self.sender.is_written(),
            None => {
                self.fault = Some(fault);
                self.closed = Some(self.abnormal(initiator));
            }
        }
        self.step_closing(input, &ClosePayload::code(CloseCode::INTERNAL_ERROR));
    }

    /// An end without the peer's Close frame, begun by `initiator` unless it was closing already.
    fn abnormal(&self, initiator: Initiator) -> Closed {
        let initiator = if self.closing == Closing::Open { initiator } else { Initiator::Local };
        Closed { code: CloseCode::ABNORMAL, reason: Utf8Bytes::default(), clean: false, initiator }
    }

    fn step_closing(&mut self, input: Input, payload: &ClosePayload) {
        let (next, effects) = self.closing.next(input);
        if effects.discard {
            self.receiver.discard();
        }
        if effects.send {
            self.sender.queue_close(payload);
        }
        // One close deadline runs from the first step to the last. `poll_timeout` arms it, which has the time.
        if self.closing == Closing::Open || next == Closing::Ended {
            self.timers.stop_all();
        }
        if next == Closing::Ended {
            self.sender.end();
        }
        self.closing = next;
    }

    /// The keepalive timer fired: the peer was silent for the whole interval, or the timer only looked.
    #[cold]
    fn keep_alive(&mut self, now: Instant) {
        let Some(interval) = self.timeouts.keepalive else { return };
        let left = interval.saturating_sub(now.saturating_duration_since(self.last_input));
        if left > Duration::ZERO {
            return self.timers.arm(Timer::KeepAlive, now, Some(left));
        }
        self.sender.rest();
        let asked = self.sender.queue_keepalive();
        match self.timeouts.pong {
            Some(timeout) if asked => self.timers.arm(Timer::Pong, now, Some(timeout)),
            _ => self.timers.arm(Timer::KeepAlive, now, Some(interval)),
        }
    }
}
