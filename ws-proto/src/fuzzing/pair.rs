//! Two connections, a link and a clock, all driven at random, against two queues of messages.

use std::{
    collections::VecDeque,
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    choices::{Choices, ROLES, connection, noise},
    wire::{self, BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT},
};
use crate::{
    CloseCode, Config, Connection, DeflateConfig, Event, Fault, Fragment, Machine, Message, Prepared,
    ProtocolError, Role, SendError, Sender, Timer,
    buffer::Buffer,
    deflate::{Agreement, Half},
};

/// What two applications do through two connections: the input is a configuration for each and a list of operations.
/// They send messages in every form, fragments, pings and pongs, close, and break off; the link takes and gives as many
/// bytes as it likes, holds them back, ends or fails; time passes or leaps; events are taken whole, lent, or in chunks.
///
/// - What one sends the other hears, in its order and once: each direction is a queue. A command is taken or refused as
///   the state says, and one that is refused changes nothing.
/// - What travels is whole frames that keep the rules of RFC 6455 section 5, with no data behind a Close frame.
/// - A fault has its cause: a deadline that can have passed, an end of TCP, or a message that is too long.
/// - A ping is answered once at most, and the last one always, if nobody closes meanwhile.
/// - The queue holds no more than its mark and a message; what is received, no more than the limit allows.
/// - Handling a deadline leaves all deadlines in the future.
/// - In the end, with the link open, everything was heard; and if anybody closed or broke off, both connections have
///   ended, cleanly if nothing but closing happened, with the code and reason of the other's Close frame.
pub fn pair(input: &[u8], now: Instant) {
    let mut choices = Choices::new(input);
    let mut pair = Pair::new(&mut choices, now);
    while !choices.is_over() {
        pair.step(&mut choices);
        pair.check();
    }
    pair.finish();
}

struct Pair {
    ends: [End; 2],
    now: Instant,
    /// How much time has passed since the start.
    elapsed: Duration,
    /// How many payloads there were, so that each is another.
    count: u16,
}

/// One application, its connection, and the road from it to the other.
struct End {
    role: Role,
    config: Config,
    connection: Connection,
    compresses: bool,
    /// What was sent and not heard yet.
    sent: VecDeque<Sent>,
    /// The kind and the fragments so far of a message.
    in_fragment: Option<(u8, Vec<u8>)>,
    fragments: usize,
    /// The longest frame that was sent, at most.
    longest: usize,
    /// The application has closed.
    closing: bool,
    /// The pings that were sent and not answered.
    pings: Vec<Vec<u8>>,
    /// What was heard of a message in chunks, and whether pings may have been skipped.
    part: Vec<u8>,
    in_chunks: bool,
    /// Bytes on their way, and whether the end of TCP is behind them.
    road: Vec<u8>,
    shut: bool,
    wire: Wire,
    /// The other's end of TCP has arrived, or reading failed.
    eof: bool,
    /// When bytes were read last, and when the socket took some.
    read_at: Instant,
    written_at: Instant,
    /// What may end a connection without a Close frame.
    broken: bool,
    /// A message past the other's limit was sent.
    too_long: bool,
}

/// Something that the other is to hear.
#[derive(Debug, PartialEq)]
struct Sent {
    opcode: u8,
    payload: Vec<u8>,
}

impl Pair {
    fn new(choices: &mut Choices<'_>, now: Instant) -> Self {
        let flags = choices.byte();
        let mut half = || Half { takeover: choices.flag(), bits: 9 + choices.byte() % 7 };
        let agreement = (flags & 1 != 0).then(|| Agreement { server: half(), client: half() });
        let ends = ROLES.map(|role| {
            let config = config(choices);
            let deflate = DeflateConfig {
                threshold: choices.one_of(&[0, 1024, 100]),
                level: choices.one_of(&[5, 1, 0, 9]),
                ..DeflateConfig::default()
            };
            let deflate = agreement.as_ref().map(|agreement| (agreement, &deflate));
            End {
                role,
                connection: connection(role, &config, deflate, now),
                config,
                compresses: agreement.is_some(),
                sent: VecDeque::new(),
                in_fragment: None,
                fragments: 0,
                longest: 0,
                closing: false,
                pings: Vec::new(),
                part: Vec::new(),
                in_chunks: false,
                road: Vec::new(),
                shut: false,
                wire: Wire::default(),
                eof: false,
                read_at: now,
                written_at: now,
                broken: false,
                too_long: false,
            }
        });
        Self { ends, now, elapsed: Duration::ZERO, count: 0 }
    }

    /// Does one operation, at the one end or the other.
    fn step(&mut self, choices: &mut Choices<'_>) {
        let choice = choices.byte();
        let (side, now) = (usize::from(choice & 1), self.now);
        let end = &mut self.ends[side];
        match choice >> 1 {
            0..50 => {
                self.count += 1;
                end.command(choices, self.count);
            }
            50..65 => end.write(usize::from(choices.short()) + 1, 1 + usize::from(choices.byte() % 4), now),
            65 => end.write(usize::MAX, 4, self.now),
            66..80 => self.deliver(side, usize::from(choices.short()) + 1),
            80 => self.deliver(side, usize::MAX),
            81..90 => _ = self.hear(side, How::Lent),
            90..95 => _ = self.hear(side, How::Taken),
            95..105 => _ = self.hear(side, How::Chunk),
            105..110 => {
                let ms = choices.one_of(&[1, 10, 999, 1000, 1001, 4999, 20_000, 30_000, 0]);
                self.pass(Duration::from_millis(ms));
            }
            110..114 => _ = end.connection.poll_timeout(now),
            114..118 => {
                end.connection.handle_timeout(now);
                let next = end.connection.poll_timeout(now);
                assert!(next.is_none_or(|(deadline, _)| deadline > now), "{next:?} has passed");
            }
            118 => end.connection.handle_held(choices.flag()),
            119 => end.connection.sender().set_compression(choices.flag()),
            120 => end.connection.set_vectored(choices.flag()),
            121..125 => self.settle(),
            // Once in a while, what breaks a connection off.
            125 => match choices.byte() {
                0 => end.terminate(),
                1 => {
                    end.broken = true;
                    end.connection.handle_write_error(now);
                    end.shut = true;
                }
                2 => {
                    (end.broken, end.eof) = (true, true);
                    end.connection.handle_eof(now);
                }
                _ => {}
            },
            126.. => self.next_deadline(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.elapsed += time;
    }

    /// Lets time pass up to the next deadline, if there is one, and handles it.
    fn next_deadline(&mut self) {
        let now = self.now;
        let next =
            self.ends.iter_mut().filter_map(|end| end.connection.poll_timeout(now)).min_by_key(|next| next.0);
        let Some((deadline, _)) = next else { return };
        self.pass(deadline.saturating_duration_since(now));
        for end in &mut self.ends {
            end.connection.handle_timeout(self.now);
        }
    }

    /// Has one end read up to so many bytes of what the other wrote.
    fn deliver(&mut self, side: usize, max: usize) {
        let [server, client] = &mut self.ends;
        let (reader, writer) = if side == 0 { (server, client) } else { (client, server) };
        let mut left = max;
        while left > 0 && !writer.road.is_empty() && reader.connection.wants_read() {
            let space = reader.connection.recv_space();
            assert!(!space.is_empty(), "there is room while it wants to read");
            let len = space.len().min(left).min(writer.road.len());
            space[..len].copy_from_slice(&writer.road[..len]);
            writer.road.drain(..len);
            reader.read_at = self.now;
            reader.connection.handle_input(len, self.now);
            left -= len;
        }
        if writer.road.is_empty() && writer.shut && !reader.eof {
            reader.eof = true;
            reader.connection.handle_eof(self.now);
        }
    }

    /// Has one end go on to what it hears next; whether there was anything.
    fn hear(&mut self, side: usize, how: How) -> bool {
        let [server, client] = &mut self.ends;
        let (hearer, speaker) = if side == 0 { (server, client) } else { (client, server) };
        let heard = if how == How::Chunk { hearer.hear_chunk() } else { hearer.hear_event(how) };
        match heard {
            None => false,
            Some(None) => true,
            Some(Some(heard)) => {
                if heard.opcode > CLOSE && hearer.is_automatic(&heard, speaker.config.keepalive.is_some()) {
                    return true;
                }
                if hearer.in_chunks {
                    let skipped =
                        speaker.sent.iter().take_while(|sent| sent.opcode > CLOSE && **sent != heard);
                    let count = skipped.count();
                    speaker.sent.drain(..count);
                }
                let sent = speaker.sent.pop_front();
                assert!(
                    sent.as_ref() == Some(&heard),
                    "heard {} for {:?}",
                    heard.show(),
                    sent.map(|s| s.show())
                );
                true
            }
        }
    }

    /// Moves all that can be moved without time passing.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in 0..2 {
                let end = &mut self.ends[side];
                end.connection.handle_held(false);
                while end.connection.buffered_amount() > 0 {
                    end.write(usize::MAX, 4, self.now);
                    moved = true;
                }
                if (end.connection.wants_shutdown() || end.connection.is_ended()) && !end.shut {
                    end.shut = true;
                    moved = true;
                }
                let how = if self.ends[side].in_chunks { How::Chunk } else { How::Lent };
                while self.hear(side, how) || self.hear(side, How::Lent) {
                    moved = true;
                }
                let (road, eof) = (self.ends[1 - side].road.len(), self.ends[side].eof);
                self.deliver(side, usize::MAX);
                if self.ends[side].connection.is_ended() {
                    // The socket is dropped, and what is on its way to it is lost.
                    self.ends[1 - side].road.clear();
                }
                moved |= (self.ends[1 - side].road.len(), self.ends[side].eof) != (road, eof);
                // A Close frame is heard without an event.
                let end = &self.ends[side];
                moved |= end.connection.buffered_amount() > 0 || end.connection.wants_shutdown() && !end.shut;
            }
            if !moved {
                return;
            }
        }
    }

    fn check(&self) {
        for side in 0..2 {
            let (end, other) = (&self.ends[side], &self.ends[1 - side]);
            end.check_bounds();
            match end.connection.fault() {
                None => {}
                Some(Fault::Abnormal) => assert!(end.broken || end.eof),
                Some(Fault::Timeout(timer)) => {
                    let waited = |since| self.now.duration_since(since);
                    let (timeout, waited) = match timer {
                        // The one begins when the other is over.
                        Timer::Pong => {
                            let timeouts = end.config.keepalive.zip(end.config.pong_timeout);
                            (timeouts.map(|(silence, pong)| silence + pong), waited(end.read_at))
                        }
                        Timer::Write => (end.config.write_timeout, waited(end.written_at)),
                        Timer::Close => (end.config.close_timeout, self.elapsed),
                        Timer::KeepAlive | Timer::Handshake => (None, Duration::MAX),
                    };
                    assert!(timeout.is_some_and(|timeout| timeout <= waited), "{timer:?} after {waited:?}");
                }
                Some(Fault::Protocol(ProtocolError::MessageTooLong { limit })) => {
                    assert!(other.too_long && limit == MAX_MESSAGE);
                }
                Some(fault) => panic!("{fault:?} by a peer that keeps the rules"),
            }
        }
    }

    /// Opens the link, and lets what has begun to end come to its end.
    fn finish(&mut self) {
        self.settle();
        self.check();
        let ends = &self.ends;
        let is_ending =
            ends.iter().any(|end| end.closing || end.broken || end.eof || end.connection.fault().is_some());
        if !is_ending {
            for side in 0..2 {
                let (end, other) = (&self.ends[side], &self.ends[1 - side]);
                assert!(!end.connection.is_ended() && end.connection.wants_read());
                assert!(end.is_heard(other.in_chunks), "not heard: {:?}", end.sent);
                let is_answered = |ping: &Vec<u8>| end.in_chunks || !end.pings.contains(ping);
                assert!(end.wire.last_ping.as_ref().is_none_or(is_answered), "the last ping is not answered");
            }
            return;
        }
        let only_closed =
            self.ends.iter().all(|end| !end.broken && !end.too_long && self.elapsed < end.patience());
        for _ in 0..20 {
            self.next_deadline();
            self.settle();
            self.check();
        }
        let now = self.now;
        for side in 0..2 {
            let [end, other] = [side, 1 - side].map(|side| &self.ends[side]);
            assert!(end.connection.is_ended(), "{:?} has not ended: {:?}", end.role, end.connection);
            let closed = end.connection.closed().expect("it has ended");
            if only_closed {
                assert!(
                    closed.clean && end.is_heard(other.in_chunks),
                    "{closed:?}, not heard: {:?}",
                    end.sent
                );
            }
            if closed.clean {
                assert!(end.wire.closed.is_some(), "clean, and no Close frame was sent");
                let (code, reason) = other.wire.closed.as_ref().expect("clean, and none was received");
                assert_eq!((closed.code.get(), &*closed.reason), (*code, &**reason));
            }
            let end = &mut self.ends[side];
            assert!(!end.connection.advance() && end.connection.poll_timeout(now).is_none());
            assert!(end.connection.wants_shutdown() && !end.connection.wants_read());
            assert_eq!(end.connection.sender().send_text("x"), Err(SendError::Closed));
            assert!(end.broken || end.wire.bytes.is_empty(), "a frame is cut");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Lent,
    Taken,
    Chunk,
}

impl End {
    fn command(&mut self, choices: &mut Choices<'_>, count: u16) {
        let kind = choices.byte();
        let is_text = kind & 1 != 0;
        let opcode = if is_text { TEXT } else { BINARY };
        match kind >> 1 {
            // Messages in every form.
            0..70 => {
                let payload = payload(choices, is_text, self.compresses, count);
                let text = || std::str::from_utf8(&payload).expect("it is text");
                let message = || if is_text { Message::from(text()) } else { Message::from(&payload[..]) };
                let form = kind >> 1;
                self.sends(opcode, &payload, false, |sender| match form {
                    0..20 if is_text => sender.send_text(text()),
                    0..20 => sender.send_binary(&payload),
                    20..40 => sender.send(&message()),
                    _ => sender.send_prepared(&Prepared::new(message())),
                });
            }
            70..100 => {
                let (last, payload) = (choices.flag(), payload(choices, is_text, self.compresses, count));
                let text = std::str::from_utf8(&payload).unwrap_or_default();
                let fragment = if is_text { Fragment::from(text) } else { Fragment::Binary(&payload) };
                self.sends_fragment(opcode, &payload, last, |sender| sender.send_fragment(fragment, last));
            }
            100..110 => {
                let payload = control(b'p', count, choices.byte() % 126);
                if self.sends(PING, &payload, true, |sender| sender.ping(&payload)) {
                    self.pings.push(payload);
                }
            }
            110..120 => {
                let payload = control(b'o', count, choices.byte() % 126);
                self.sends(PONG, &payload, true, |sender| sender.pong(&payload));
            }
            120 => {
                let too_long = [0; 126];
                let before = self.connection.buffered_amount();
                let refused = Err(SendError::ControlTooLong { len: 126 });
                assert_eq!(self.connection.sender().ping(&too_long), refused);
                assert_eq!(self.connection.sender().pong(&too_long), refused);
                assert_eq!(
                    self.connection.close(CloseCode::NORMAL, &"x".repeat(124)),
                    Err(SendError::ControlTooLong { len: 124 })
                );
                assert_eq!(self.connection.close(CloseCode::ABNORMAL, ""), Err(SendError::CloseCode(1006)));
                assert_eq!(self.connection.buffered_amount(), before);
            }
            121..125 => {
                let code = CloseCode::new(choices.one_of(&[1000, 1001, 3000, 4999]));
                let reason = &"žluť".repeat(14)[..2 * usize::from(choices.byte() % 40)];
                let reason = if reason.is_char_boundary(reason.len()) { reason } else { "" };
                self.connection.close(code, reason).expect("the code may travel and the reason is short");
                self.closing = true;
            }
            125.. => {
                self.connection.close_without_code();
                self.closing = true;
            }
        }
    }

    /// Sends a whole message or a control frame, which is taken or refused as the state says; whether it was.
    fn sends(
        &mut self,
        opcode: u8,
        payload: &[u8],
        is_control: bool,
        send: impl FnOnce(&mut Sender) -> Result<(), SendError>,
    ) -> bool {
        let in_fragment = !is_control && self.in_fragment.is_some();
        if !self.commands(payload.len(), in_fragment, send) {
            return false;
        }
        self.too_long |= payload.len() > MAX_MESSAGE;
        self.sent.push_back(Sent { opcode, payload: payload.to_vec() });
        true
    }

    fn sends_fragment(
        &mut self,
        opcode: u8,
        payload: &[u8],
        last: bool,
        send: impl FnOnce(&mut Sender) -> Result<(), SendError>,
    ) {
        let other_kind = self.in_fragment.as_ref().is_some_and(|(kind, _)| *kind != opcode);
        if !self.commands(payload.len(), other_kind, send) {
            return;
        }
        let (_, message) = self.in_fragment.get_or_insert_with(|| (opcode, Vec::new()));
        message.extend_from_slice(payload);
        // Each fragment that is compressed ends with an empty block, which counts on the wire.
        self.too_long |= message.len() + 16 * self.fragments > MAX_MESSAGE;
        self.fragments = if last { 0 } else { self.fragments + 1 };
        if last && let Some((opcode, payload)) = self.in_fragment.take() {
            self.sent.push_back(Sent { opcode, payload });
        }
    }

    fn commands(
        &mut self,
        len: usize,
        in_fragment: bool,
        send: impl FnOnce(&mut Sender) -> Result<(), SendError>,
    ) -> bool {
        let before = self.connection.buffered_amount();
        let sender = self.connection.sender();
        let expected = if !sender.is_open() {
            Err(SendError::Closed)
        } else if before >= self.config.high_water.max(1) {
            Err(SendError::Full)
        } else if in_fragment {
            Err(SendError::InFragment)
        } else {
            Ok(())
        };
        assert_eq!(send(sender), expected);
        assert!(!self.closing || expected == Err(SendError::Closed));
        let grown = self.connection.buffered_amount() - before;
        assert_eq!(grown > 0, expected.is_ok());
        // What is compressed may get a little longer.
        assert!(grown <= len + len / 7 + 64, "{grown} bytes for {len}");
        self.longest = self.longest.max(grown);
        expected.is_ok()
    }

    fn terminate(&mut self) {
        let was_ended = self.connection.is_ended();
        self.broken |= !was_ended;
        self.connection.terminate();
        assert!(self.connection.is_ended() && (was_ended || self.connection.buffered_amount() == 0));
        self.shut = true;
    }

    /// One write, of which the socket takes so much.
    fn write(&mut self, max: usize, slices: usize, now: Instant) {
        let mut storage = [IoSlice::new(&[]); 4];
        let count = self.connection.output(&mut storage[..slices]);
        assert_eq!(count > 0, self.connection.buffered_amount() > 0);
        let mut bytes = Vec::new();
        for slice in &storage[..count] {
            assert!(!slice.is_empty(), "a slice is empty");
            bytes.extend_from_slice(&slice[..slice.len().min(max - bytes.len())]);
        }
        let before = self.connection.buffered_amount();
        assert!(bytes.len() <= before);
        if !bytes.is_empty() && !self.connection.is_ended() {
            self.written_at = now;
        }
        self.connection.consume(bytes.len());
        self.wire.push(self.role, self.compresses, &bytes);
        if !self.shut {
            self.road.extend(bytes);
        }
    }

    /// `None` if there is nothing, `Some(None)` for a piece of a message.
    fn hear_event(&mut self, how: How) -> Option<Option<Sent>> {
        if !self.connection.advance() {
            return None;
        }
        let (opcode, payload) = match self.connection.event().expect("it stopped at one") {
            Event::Text(text) => (TEXT, text.as_str().as_bytes().to_vec()),
            Event::Binary(payload) => (BINARY, payload.to_vec()),
            Event::Ping(payload) => (PING, payload.to_vec()),
            Event::Pong(payload) => (PONG, payload.to_vec()),
        };
        if how == How::Taken {
            let taken = self.connection.take_message();
            assert_eq!(taken.is_some(), opcode < CLOSE);
            assert!(taken.is_none_or(|taken| taken.as_bytes() == payload));
        }
        if opcode > CLOSE {
            return Some(Some(Sent { opcode, payload }));
        }
        // What chunks have left of it.
        let mut message = std::mem::take(&mut self.part);
        message.extend(payload);
        Some(Some(Sent { opcode, payload: message }))
    }

    fn hear_chunk(&mut self) -> Option<Option<Sent>> {
        self.in_chunks = true;
        if !self.connection.advance_chunk() {
            return None;
        }
        let chunk = self.connection.chunk().expect("it stopped at one");
        let opcode = match chunk.payload {
            Fragment::Text(text) => {
                assert!(
                    std::str::from_utf8(text.as_bytes()).is_ok(),
                    "a chunk of text ends with a character"
                );
                TEXT
            }
            Fragment::Binary(_) => BINARY,
        };
        assert!(chunk.last || !chunk.as_bytes().is_empty(), "only the last chunk may be empty");
        self.part.extend_from_slice(chunk.as_bytes());
        Some(chunk.last.then(|| Sent { opcode, payload: std::mem::take(&mut self.part) }))
    }

    /// Whether it is a ping of keepalive, or the answer to a ping, which must have been sent.
    fn is_automatic(&mut self, heard: &Sent, keepalive: bool) -> bool {
        match (heard.opcode, heard.payload.first()) {
            (PING, None) => assert!(keepalive, "a ping that nobody sent"),
            (PONG, None) => assert!(self.config.keepalive.is_some(), "a pong that nobody asked for"),
            (PONG, Some(b'p')) => {
                let asked = self.pings.iter().position(|ping| *ping == heard.payload);
                self.pings.remove(asked.expect("an answer to a ping that was not sent, or a second one"));
            }
            _ => return false,
        }
        true
    }

    /// How long it surely waits for the other.
    fn patience(&self) -> Duration {
        let Config { write_timeout, close_timeout, pong_timeout, .. } = self.config;
        [write_timeout, close_timeout, pong_timeout].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    fn check_bounds(&self) {
        // The pong that waits, and a Close frame, come on top.
        let most = self.config.high_water.max(1) + self.longest + 2 * 140;
        let buffered = self.connection.buffered_amount();
        assert!(buffered <= most, "{buffered} bytes are queued of at most {most}");
        assert!(self.connection.memory() <= 8 << 20);
        if self.connection.is_ended() {
            assert!(self.connection.closed().is_some() && !self.connection.wants_read());
        } else {
            assert!(self.connection.closed().is_none());
        }
    }

    /// Whether the other has heard everything, but what it skips in chunks.
    fn is_heard(&self, in_chunks: bool) -> bool {
        self.sent.iter().all(|sent| in_chunks && sent.opcode > CLOSE)
    }
}

impl Sent {
    fn show(&self) -> String {
        let shown = &self.payload[..self.payload.len().min(40)];
        format!("{} of {} bytes: {}", self.opcode, self.payload.len(), shown.escape_ascii())
    }
}

/// What travels one way, read frame by frame.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    in_message: bool,
    last_ping: Option<Vec<u8>>,
    /// Code and reason of the Close frame.
    closed: Option<(u16, String)>,
}

impl Wire {
    fn push(&mut self, sender: Role, compresses: bool, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let mut read = 0;
        while let Some((frame, len)) = wire::read_frame(sender, &self.bytes[read..]) {
            read += len;
            self.check(compresses, frame);
        }
        self.bytes.drain(..read);
    }

    fn check(&mut self, compresses: bool, frame: Frame) {
        assert!(!frame.compressed || compresses, "compressed, but that was not agreed on");
        match frame.opcode {
            CLOSE => {
                assert!(self.closed.is_none(), "a second Close frame");
                self.closed = Some(match &frame.payload[..] {
                    [] => (1005, String::new()),
                    [high, low, reason @ ..] => {
                        let reason = String::from_utf8(reason.to_vec()).expect("a reason is text");
                        (u16::from_be_bytes([*high, *low]), reason)
                    }
                    [_] => panic!("half a code"),
                });
            }
            PING => {
                assert!(self.closed.is_none(), "a ping behind a Close frame");
                self.last_ping = Some(frame.payload);
            }
            PONG => {}
            opcode => {
                assert!(self.closed.is_none(), "data behind a Close frame");
                assert_eq!(opcode == CONTINUATION, self.in_message, "section 5.4");
                self.in_message = !frame.fin;
            }
        }
    }
}

fn config(choices: &mut Choices<'_>) -> Config {
    let flags = choices.byte();
    let timeout = |bit: u8, secs| (flags >> bit & 1 != 0).then(|| Duration::from_secs(secs));
    Config {
        max_message: MAX_MESSAGE,
        max_frame: usize::MAX,
        high_water: choices.one_of(&[30_000, 0, 100, 256 * 1024]),
        max_pongs_per_read: choices.one_of(&[64, 0, 1, usize::MAX]),
        keepalive: timeout(0, 20),
        pong_timeout: timeout(1, 20),
        write_timeout: timeout(2, 30),
        close_timeout: timeout(3, 10),
    }
}

/// A payload of some length, short ones more often; what it holds compresses well, a little, or not.
fn payload(choices: &mut Choices<'_>, is_text: bool, compresses: bool, count: u16) -> Vec<u8> {
    let choice = choices.byte();
    let len = match choice {
        0..200 => usize::from(choice),
        200..240 => usize::from(choices.short() % 8192),
        _ => choices.one_of(&[
            126,
            Buffer::BLOCK / 8 - 1,
            Buffer::BLOCK / 8,
            65_535,
            65_536,
            Buffer::BLOCK / 2 + 1,
            Buffer::BLOCK,
            MAX_MESSAGE,
            MAX_MESSAGE + 1,
        ]),
    };
    // To compress long ones takes most of the time.
    let is_long = compresses && len > 10_000 && choices.byte() != 0;
    let len = if is_long { len % 10_000 } else { len };
    let start = count.to_be_bytes().map(|byte| byte & 0x7f);
    match (choices.byte() % 3, is_text) {
        (0, false) => start.into_iter().chain(noise(count.into())).take(len).collect(),
        (1, false) => start.into_iter().chain(std::iter::repeat(choices.byte())).take(len).collect(),
        _ => {
            let mut text = start.map(char::from).iter().collect::<String>();
            while text.len() < len {
                text += "a🦀ž€ the same again ";
            }
            let end = (0..=len).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
            text.truncate(end);
            text.into_bytes()
        }
    }
}

/// The payload of a control frame, different from all others.
fn control(first: u8, count: u16, len: u8) -> Vec<u8> {
    let [high, low] = count.to_be_bytes();
    [first, high, low]
        .into_iter()
        .chain(std::iter::repeat_n(b'.', usize::from(len).saturating_sub(3)))
        .collect()
}

/// Largest message that either side takes.
const MAX_MESSAGE: usize = 200_000;
