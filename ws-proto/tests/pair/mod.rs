//! Helpers of the tests: a frame DSL, `outcomes` (one input, every way to cut it), and [`Pair`] (two connections,
//! a fake clock and a link between them).
//!
//! Frames are written and parsed here independently of the library.

#![allow(dead_code, reason = "each test file is a crate of its own and uses a part of this")]

#[cfg(feature = "deflate")]
pub(crate) mod deflate;
pub(crate) mod head;
pub(crate) mod inflate;

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    sync::LazyLock,
    time::{Duration, Instant},
};

use ws_proto::{Closed, Config, Connection, Event, Fault, Machine, Message, ProtocolError, Role, Timer};

pub(crate) const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// The masking key of the examples in RFC 6455 section 5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a client's masking keys come from.
pub(crate) const SEED: [u8; 32] = [7; 32];

// Time

#[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When every test begins.
pub(crate) fn start() -> Instant {
    *START
}

/// So many milliseconds after [`start`].
pub(crate) fn at_ms(ms: u64) -> Instant {
    start() + Duration::from_millis(ms)
}

/// So many seconds after [`start`].
pub(crate) fn at(secs: u64) -> Instant {
    at_ms(secs * 1000)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

// Frames

/// A frame as the test wants it, legal or not. Also how tests spell events: `ping("x")` is `Event::Ping`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    /// RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) key: Option<[u8; 4]>,
    pub(crate) len: Len,
    pub(crate) payload: Vec<u8>,
}

/// How a header tells the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Len {
    /// The payload's, in the shortest form.
    Minimal,
    /// This one, in 7, 16 or 64 bits.
    Bits7(u8),
    Bits16(u16),
    Bits64(u64),
}

pub(crate) fn text(payload: impl AsRef<[u8]>) -> Frame {
    frame(TEXT, payload)
}

pub(crate) fn binary(payload: impl AsRef<[u8]>) -> Frame {
    frame(BINARY, payload)
}

pub(crate) fn continuation(payload: impl AsRef<[u8]>) -> Frame {
    frame(CONTINUATION, payload)
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Frame {
    frame(PING, payload)
}

pub(crate) fn pong(payload: impl AsRef<[u8]>) -> Frame {
    frame(PONG, payload)
}

pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

pub(crate) fn close_without_code() -> Frame {
    frame(CLOSE, "")
}

pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame { fin: true, rsv: 0, opcode, key: None, len: Len::Minimal, payload: payload.as_ref().to_vec() }
}

impl Frame {
    pub(crate) fn fin(self, fin: bool) -> Self {
        Self { fin, ..self }
    }

    pub(crate) fn rsv(self, rsv: u8) -> Self {
        Self { rsv, ..self }
    }

    pub(crate) fn opcode(self, opcode: u8) -> Self {
        Self { opcode, ..self }
    }

    pub(crate) fn masked(self, key: [u8; 4]) -> Self {
        Self { key: Some(key), ..self }
    }

    pub(crate) fn len_as(self, len: Len) -> Self {
        Self { len, ..self }
    }

    /// Masked if a server is to read it, unless it is masked already.
    pub(crate) fn toward(mut self, reader: Role) -> Self {
        if reader == Role::Server {
            self.key.get_or_insert(KEY);
        }
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mask_bit = if self.key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![if self.fin { 0x80 } else { 0 } | self.rsv << 4 | self.opcode];
        match self.shown_len() {
            Len::Minimal => unreachable!("resolved"),
            Len::Bits7(len) => bytes.push(mask_bit | len),
            Len::Bits16(len) => {
                bytes.push(mask_bit | 126);
                bytes.extend(len.to_be_bytes());
            }
            Len::Bits64(len) => {
                bytes.push(mask_bit | 127);
                bytes.extend(len.to_be_bytes());
            }
        }
        match self.key {
            Some(key) => {
                bytes.extend(key);
                bytes.extend(self.payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
            }
            None => bytes.extend(&self.payload),
        }
        bytes
    }

    fn shown_len(&self) -> Len {
        match (self.len, self.payload.len()) {
            (Len::Minimal, len @ 0..=125) => Len::Bits7(len as u8),
            (Len::Minimal, len @ 126..=0xffff) => Len::Bits16(len as u16),
            (Len::Minimal, len) => Len::Bits64(len as u64),
            (len, _) => len,
        }
    }

    /// The code of a Close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        if self.opcode != CLOSE {
            return None;
        }
        self.payload.first_chunk().map(|&code| u16::from_be_bytes(code))
    }
}

impl From<Event<'_>> for Frame {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(payload) => text(payload.as_bytes()),
            Event::Binary(payload) => binary(payload),
            Event::Ping(payload) => ping(payload),
            Event::Pong(payload) => pong(payload),
            other => panic!("an event that the tests do not know: {other:?}"),
        }
    }
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(payload) => text(payload),
            Message::Binary(payload) => binary(payload),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opcode {
            CONTINUATION => f.write_str("continuation")?,
            TEXT => f.write_str("text")?,
            BINARY => f.write_str("binary")?,
            CLOSE => f.write_str("close")?,
            PING => f.write_str("ping")?,
            PONG => f.write_str("pong")?,
            other => write!(f, "frame_{other}")?,
        }
        let shown = &self.payload[..self.payload.len().min(32)];
        write!(f, "(\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.payload.len() {
            write!(f, "..{} bytes", self.payload.len())?;
        }
        f.write_str(")")?;
        if !self.fin {
            f.write_str(".fin(false)")?;
        }
        if self.rsv != 0 {
            write!(f, ".rsv({})", self.rsv)?;
        }
        if self.len != Len::Minimal {
            write!(f, ".len_as({:?})", self.len)?;
        }
        self.key.map_or(Ok(()), |key| write!(f, ".masked({key:02x?})"))
    }
}

/// The frame at the start of `bytes`, still with its key, and its length; `None` if it is not whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut rest = bytes;
    let mut take = |n: usize| rest.split_off(..n);
    let &[first, second] = take(2)? else { unreachable!() };
    let len = match second & 0x7f {
        126 => {
            let len = u64::from(u16::from_be_bytes(*take(2)?.first_chunk()?));
            assert!(len > 125, "length {len} in 16 bits");
            len
        }
        127 => {
            let len = u64::from_be_bytes(*take(8)?.first_chunk()?);
            assert!((0x1_0000..1 << 63).contains(&len), "length {len} in 64 bits");
            len
        }
        len => u64::from(len),
    };
    let key = if second & 0x80 == 0 { None } else { Some(*take(4)?.first_chunk()?) };
    let mut payload = take(usize::try_from(len).ok()?)?.to_vec();
    if let Some(key) = key {
        payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
    }
    let fin = first & 0x80 != 0;
    let frame = Frame { fin, rsv: first >> 4 & 7, opcode: first & 15, key, len: Len::Minimal, payload };
    Some((frame, bytes.len() - rest.len()))
}

/// What `sender` wrote, as frames without their keys; each must be whole, and masked if a client sent it.
pub(crate) fn frames(sender: Role, mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let Some((frame, n)) = parse(bytes) else { panic!("a frame is cut: {}", bytes.escape_ascii()) };
        assert_eq!(frame.key.is_some(), sender == Role::Client, "masking of {sender:?}: {frame:?}");
        frames.push(Frame { key: None, ..frame });
        bytes = &bytes[n..];
    }
    frames
}

/// The masking keys of what a client wrote.
pub(crate) fn keys(mut bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut keys = Vec::new();
    while let Some((frame, n)) = parse(bytes) {
        keys.push(frame.key.expect("a client masks"));
        bytes = &bytes[n..];
    }
    keys
}

// Machines

pub(crate) fn connection(role: Role, config: &Config) -> Connection {
    match role {
        Role::Server => Connection::server(config, start()),
        Role::Client => Connection::client(config, SEED, start()),
    }
}

/// No keepalive and no other deadline.
pub(crate) fn timeless() -> Config {
    Config {
        keepalive: None,
        pong_timeout: None,
        write_timeout: None,
        close_timeout: None,
        ..Config::default()
    }
}

/// Has the machine read all of `bytes`, looking at it by `look` before the first read and after each.
pub(crate) fn feed_machine<M: Machine>(
    machine: &mut M,
    mut bytes: &[u8],
    now: Instant,
    mut look: impl FnMut(&mut M),
) {
    look(machine);
    while !bytes.is_empty() {
        let space = machine.recv_space();
        assert!(!space.is_empty(), "there is always room after a look");
        let len = space.len().min(bytes.len());
        space[..len].copy_from_slice(&bytes[..len]);
        machine.handle_input(len, now);
        bytes = &bytes[len..];
        look(machine);
    }
}

/// Has the connection read `bytes`; gives the events.
pub(crate) fn feed_at(connection: &mut Connection, bytes: &[u8], now: Instant) -> Vec<Frame> {
    let mut events = Vec::new();
    feed_machine(connection, bytes, now, |connection| {
        while connection.advance() {
            events.push(connection.event().expect("advance found an event").into());
        }
    });
    events
}

pub(crate) fn feed(connection: &mut Connection, bytes: &[u8]) -> Vec<Frame> {
    feed_at(connection, bytes, start())
}

/// Has the connection read frames of its peer; gives the events.
pub(crate) fn feed_frames(connection: &mut Connection, frames: &[Frame]) -> Vec<Frame> {
    let bytes = join(connection.role(), frames);
    feed(connection, &bytes)
}

/// The end of what the peer sends; gives the events that were found before it.
pub(crate) fn feed_eof(connection: &mut Connection) -> Vec<Frame> {
    connection.handle_eof(start());
    feed(connection, b"")
}

/// Writes at most `max` bytes in one vectored write of at most `slices` slices.
pub(crate) fn write_some<M: Machine>(machine: &mut M, max: usize, slices: usize) -> Vec<u8> {
    let mut storage = [IoSlice::new(&[]); 16];
    let wants_write = machine.wants_write();
    let count = machine.output(&mut storage[..slices]);
    assert_eq!(wants_write, count > 0);
    let mut bytes = Vec::new();
    for slice in &storage[..count] {
        assert!(!slice.is_empty(), "a slice is empty");
        bytes.extend_from_slice(&slice[..slice.len().min(max - bytes.len())]);
    }
    machine.consume(bytes.len());
    bytes
}

/// Writes everything.
pub(crate) fn write_all<M: Machine>(machine: &mut M) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let some = write_some(machine, usize::MAX, 16);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Writes everything; gives the frames.
pub(crate) fn write_frames(connection: &mut Connection) -> Vec<Frame> {
    let bytes = write_all(connection);
    frames(connection.role(), &bytes)
}

/// Writes nothing, and says so the way a driver does: by waiting.
pub(crate) fn block(connection: &mut Connection) {
    connection.poll_timeout(start());
}

/// The bytes of frames toward a reader.
pub(crate) fn join(reader: Role, frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.clone().toward(reader).bytes()).collect()
}

// One input, every way to cut it

/// What came of an input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) role: Role,
    pub(crate) events: Vec<Frame>,
    pub(crate) output: Vec<u8>,
    /// Before the end of TCP.
    pub(crate) fault: Option<Fault>,
    /// Whether the connection wanted its half of TCP shut down, once its output was written.
    pub(crate) shutdown: bool,
    /// Behind the end of TCP.
    pub(crate) closed: Closed,
    pub(crate) last_fault: Option<Fault>,
}

impl Outcome {
    /// The output as frames.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        frames(self.role, &self.output)
    }
}

/// What comes of `input` for both roles, however it is cut: frames without a key are masked for a server.
pub(crate) fn outcomes(config: &Config, input: &[Frame]) -> [Outcome; 2] {
    ROLES.map(|role| outcome(role, config, input))
}

/// What comes of `input`, however it is cut.
pub(crate) fn outcome(role: Role, config: &Config, input: &[Frame]) -> Outcome {
    outcome_with(&|| connection(role, config), input)
}

/// As [`outcome`], of connections that `open` makes.
pub(crate) fn outcome_with(open: &dyn Fn() -> Connection, input: &[Frame]) -> Outcome {
    let role = open().role();
    let bytes = join(role, input);
    let mut boundaries = vec![0];
    for frame in input {
        boundaries.push(boundaries[boundaries.len() - 1] + frame.clone().toward(role).bytes().len());
    }
    every_cut(open, &bytes, &boundaries)
}

/// What comes of `bytes`: whole, byte by byte (in small pieces if they are very many), and cut in two, near the
/// boundaries if they are many.
pub(crate) fn outcome_of_bytes(role: Role, config: &Config, bytes: &[u8], boundaries: &[usize]) -> Outcome {
    every_cut(&|| connection(role, config), bytes, boundaries)
}

fn every_cut(open: &dyn Fn() -> Connection, bytes: &[u8], boundaries: &[usize]) -> Outcome {
    let whole = run(open(), &[bytes], Way::Lent);
    let role = whole.role;
    assert_eq!(run(open(), &[bytes], Way::Taken), whole, "taken in place of lent");
    assert_eq!(run(open(), &[bytes], Way::Leftover), whole, "as a leftover of the handshake");
    let single: Vec<&[u8]> = bytes.chunks(if bytes.len() > 20_000 { 97 } else { 1 }).collect();
    assert_eq!(run(open(), &single, Way::Lent), whole, "byte by byte, {role:?}");
    assert_eq!(run(open(), &single, Way::Taken), whole, "byte by byte and taken, {role:?}");
    for cut in cuts(bytes.len(), boundaries) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(run(open(), &[first, second], Way::Lent), whole, "cut at {cut}, {role:?}");
        assert_eq!(run(open(), &[first, second], Way::Leftover), whole, "leftover to {cut}, {role:?}");
    }
    whole
}

/// Where to cut: everywhere, or if that is too often around the boundaries and now and then between.
fn cuts(len: usize, boundaries: &[usize]) -> Vec<usize> {
    const FEW: usize = 300;
    if len <= FEW {
        return (0..=len).collect();
    }
    let near = boundaries.iter().flat_map(|&at| at.saturating_sub(2)..at + 16).filter(|&cut| cut <= len);
    let mut cuts: Vec<usize> = near.chain((0..len).step_by(len / 10)).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let step = (cuts.len() / FEW).max(1);
    cuts.into_iter().step_by(step).collect()
}

/// How [`run`] reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Looks at lent events.
    Lent,
    /// Takes messages as its own.
    Taken,
    /// As `Lent`, but has the first piece from the handshake.
    Leftover,
}

fn run(mut connection: Connection, pieces: &[&[u8]], way: Way) -> Outcome {
    let role = connection.role();
    let mut pieces = pieces.iter();
    if way == Way::Leftover {
        connection = connection.with_leftover(pieces.next().copied().unwrap_or_default());
    }
    let mut events = Vec::new();
    let mut output = Vec::new();
    let mut look = |connection: &mut Connection, output: &mut Vec<u8>| {
        while connection.advance() {
            let lent: Frame = connection.event().expect("advance found an event").into();
            if way == Way::Taken {
                let taken: Option<Frame> = connection.take_message().map(Into::into);
                assert!(taken.is_none_or(|taken| taken == lent), "taken and lent differ");
            }
            events.push(lent);
        }
        output.extend(write_all(connection));
    };
    look(&mut connection, &mut output);
    for piece in pieces {
        feed_machine(&mut connection, piece, start(), |connection| look(connection, &mut output));
    }
    let fault = connection.fault();
    let shutdown = connection.wants_shutdown();
    assert!(
        connection.closed().is_none() && connection.wants_read(),
        "nothing is over before the end of TCP"
    );
    connection.handle_eof(start());
    look(&mut connection, &mut output);
    assert!(connection.is_ended() && connection.wants_shutdown() && !connection.wants_read());
    assert_eq!(connection.poll_timeout(start()), None, "no deadline outlives the connection");
    let closed = connection.closed().expect("the connection has ended").clone();
    Outcome { role, events, output, fault, shutdown, closed, last_fault: connection.fault() }
}

/// Both roles get `events` from `input` and answer with `output`, however the input is cut.
pub(crate) fn check(input: &[Frame], events: &[Frame], output: &[Frame]) {
    check_with(&timeless(), input, events, output);
}

pub(crate) fn check_with(config: &Config, input: &[Frame], events: &[Frame], output: &[Frame]) {
    for outcome in outcomes(config, input) {
        assert_eq!(outcome.events, events, "events of {:?} for {input:?}", outcome.role);
        assert_eq!(outcome.frames(), output, "output of {:?} for {input:?}", outcome.role);
        assert_eq!(outcome.fault, None, "{input:?}");
    }
}

/// Both roles get `events` from `input`, then find `error` and tell it.
pub(crate) fn check_fails(input: &[Frame], events: &[Frame], error: ProtocolError) {
    check_fails_with(&timeless(), input, events, error);
}

pub(crate) fn check_fails_with(config: &Config, input: &[Frame], events: &[Frame], error: ProtocolError) {
    for outcome in outcomes(config, input) {
        assert_failed(&outcome, events, error);
    }
}

/// The outcome is `events`, an answer to each ping among them, and the failure.
pub(crate) fn assert_failed(outcome: &Outcome, events: &[Frame], error: ProtocolError) {
    let role = outcome.role;
    assert_eq!(outcome.fault, Some(Fault::Protocol(error)), "{role:?}");
    assert_eq!(outcome.events, events, "{role:?}");
    let mut output = outcome.frames();
    let last = output.pop().expect("the peer is told");
    assert_eq!(last.close_code(), Some(error.close_code().get()), "{role:?}: {last:?}");
    assert!(last.payload.len() <= 125 && std::str::from_utf8(&last.payload[2..]).is_ok(), "{last:?}");
    let pings = events.iter().filter(|event| event.opcode == PING);
    assert_eq!(output, pings.map(|ping| pong(&ping.payload)).collect::<Vec<_>>(), "{role:?}");
    // RFC 6455 section 7.1.7: either side closes TCP after it failed the connection.
    assert!(outcome.shutdown, "{role:?}");
    assert_eq!((outcome.closed.code.get(), outcome.closed.clean), (1006, false), "{role:?}");
    assert_eq!(outcome.closed.initiator, ws_proto::Initiator::Peer, "{role:?}");
    assert_eq!(outcome.last_fault, Some(Fault::Protocol(error)), "{role:?}");
}

// Two connections

/// A server and a client, the link between them, and the time.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) server: End,
    pub(crate) client: End,
    pub(crate) now: Instant,
}

/// One end of a [`Pair`].
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) connection: Connection,
    /// What it heard.
    pub(crate) events: Vec<Frame>,
    /// What it sends through.
    pub(crate) link: Link,
}

/// One direction of the road.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    /// How many bytes each write takes and each read gives, over and over; empty: all there is.
    pub(crate) chunks: Vec<usize>,
    /// Takes nothing.
    pub(crate) blocked: bool,
    uses: usize,
    /// Bytes and when they arrive.
    in_flight: VecDeque<(Instant, Vec<u8>)>,
    /// When the end arrives, and whether it did.
    end: Option<(Instant, bool)>,
}

impl Link {
    fn chunk(&mut self) -> usize {
        self.uses += 1;
        self.chunks.get(self.uses % self.chunks.len().max(1)).copied().unwrap_or(usize::MAX)
    }

    /// When something arrives next.
    fn next_arrival(&self) -> Option<Instant> {
        let end = self.end.filter(|&(_, arrived)| !arrived).map(|(at, _)| at);
        self.in_flight.front().map(|&(at, _)| at).or(end)
    }
}

impl Pair {
    pub(crate) fn new(config: &Config) -> Self {
        Self::of(connection(Role::Server, config), connection(Role::Client, config))
    }

    pub(crate) fn of(server: Connection, client: Connection) -> Self {
        let end = |connection| End { connection, events: Vec::new(), link: Link::default() };
        Self { server: end(server), client: end(client), now: start() }
    }

    pub(crate) fn with_latency(mut self, latency: Duration) -> Self {
        self.server.link.latency = latency;
        self.client.link.latency = latency;
        self
    }

    pub(crate) fn with_chunks(mut self, to_client: &[usize], to_server: &[usize]) -> Self {
        self.server.link.chunks = to_client.to_vec();
        self.client.link.chunks = to_server.to_vec();
        self
    }

    pub(crate) fn end(&mut self, role: Role) -> &mut End {
        match role {
            Role::Server => &mut self.server,
            Role::Client => &mut self.client,
        }
    }

    /// Carries bytes, and lets time pass for them, until both ends wait for something else than bytes.
    pub(crate) fn settle(&mut self) {
        while self.carry() || self.pass_to(self.next_arrival()) {}
    }

    /// As [`settle`](Self::settle), and fires each timer in its turn, for this long.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            while self.carry() {}
            let deadlines = ROLES.map(|role| {
                let now = self.now;
                self.end(role).connection.poll_timeout(now).map(|(deadline, _)| deadline)
            });
            let next = deadlines.into_iter().chain([self.next_arrival()]).flatten().min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            assert!(self.pass_to(Some(next)), "a deadline has passed and is still there");
            self.server.connection.handle_timeout(next);
            self.client.connection.handle_timeout(next);
        }
        self.now = end;
    }

    /// Both ends ended, with nothing left to write or to wait for.
    pub(crate) fn assert_over(&mut self) {
        for role in ROLES {
            let now = self.now;
            let end = self.end(role);
            assert!(end.connection.is_ended(), "{role:?}: {end:?}");
            assert_eq!(end.connection.buffered_amount(), 0, "{role:?}");
            assert_eq!(end.connection.poll_timeout(now), None, "{role:?}");
            assert!(end.link.in_flight.is_empty(), "{role:?}");
        }
    }

    fn next_arrival(&self) -> Option<Instant> {
        [&self.server.link, &self.client.link].into_iter().filter_map(Link::next_arrival).min()
    }

    fn pass_to(&mut self, time: Option<Instant>) -> bool {
        let later = time.filter(|&time| time > self.now);
        self.now = later.unwrap_or(self.now);
        later.is_some()
    }

    /// Moves what can be moved at this time; whether anything was.
    fn carry(&mut self) -> bool {
        let now = self.now;
        let (server, client) = (&mut self.server, &mut self.client);
        let wrote = server.write(now) | client.write(now);
        let read = server.read(&mut client.link, now) | client.read(&mut server.link, now);
        wrote | read
    }
}

impl End {
    fn write(&mut self, now: Instant) -> bool {
        let mut wrote = false;
        while !self.link.blocked {
            let max = self.link.chunk();
            let bytes = write_some(&mut self.connection, max, 16);
            if bytes.is_empty() {
                break;
            }
            assert!(self.link.end.is_none(), "written behind the shutdown");
            self.link.in_flight.push_back((now + self.link.latency, bytes));
            wrote = true;
        }
        if self.link.end.is_none() && self.connection.wants_shutdown() {
            self.link.end = Some((now + self.link.latency, false));
            wrote = true;
        }
        wrote
    }

    fn read(&mut self, from: &mut Link, now: Instant) -> bool {
        let mut read = false;
        self.look();
        while let Some((_, bytes)) = from.in_flight.front().filter(|(at, _)| *at <= now).cloned() {
            from.in_flight.pop_front();
            let mut rest = &bytes[..];
            while !rest.is_empty() && self.connection.wants_read() {
                let len = from.chunk().min(rest.len());
                feed_machine(&mut self.connection, &rest[..len], now, |_| {});
                self.look();
                rest = &rest[len..];
            }
            read = true;
        }
        if from.in_flight.is_empty() && from.end.is_some_and(|(at, arrived)| at <= now && !arrived) {
            from.end = Some((now, true));
            self.connection.handle_eof(now);
            self.look();
            read = true;
        }
        if self.connection.is_ended() {
            // The socket is dropped: what is on its way to it is lost.
            from.in_flight.clear();
        }
        read
    }

    fn look(&mut self) {
        while self.connection.advance() {
            self.events.push(self.connection.event().expect("advance found an event").into());
        }
    }
}

/// The earliest deadline of a connection, as time since [`start`].
pub(crate) fn deadline<M: Machine>(machine: &mut M, now: Instant) -> Option<(Duration, Timer)> {
    machine.poll_timeout(now).map(|(deadline, timer)| (deadline - start(), timer))
}

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
