//! Any bytes of a peer, cut in any way, against a second reader of frames.

use std::{io::IoSlice, time::Instant};

use super::{
    choices::{Choices, ROLES, connection, cut},
    inflate::Inflater,
    wire::{self, BINARY, CLOSE, CONTINUATION, Header, PING, PONG, Rest, TEXT, mask},
};
use crate::{
    Closed, Config, Connection, DeflateConfig, Event, Fault, Initiator, Machine, ProtocolError, Role,
    buffer::Buffer,
    deflate::{Agreement, Deflater, Half},
};

/// What a peer sends, to both roles. The input is either the bytes as they are, or describes frames, which can then be
/// long. However they are cut, and whether messages are lent, taken, or lent in chunks:
///
/// - The events are those of a second reader, and so are the fault, its close code and the answers; nothing counts
///   behind a fault or a Close frame.
/// - The output is the same, byte for byte.
/// - The memory held is within bounds, in chunks whatever the length of the message.
/// - With the end of TCP the connection has ended, and no deadline outlives it.
pub fn frames(input: &[u8], now: Instant) {
    let mut choices = Choices::new(input);
    let flags = choices.byte();
    let (is_raw, compresses, takeover) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    let config = Config {
        max_frame: choices.one_of(&[1 << 20, 1000, 100, 70_000]),
        max_message: choices.one_of(&[1 << 20, 1500, 100, 140_000]),
        max_pongs_per_read: usize::MAX,
        keepalive: None,
        pong_timeout: None,
        write_timeout: None,
        close_timeout: None,
        ..Config::default()
    };
    let half = Half { takeover, bits: 15 };
    let agreement = compresses.then_some(Agreement { server: half, client: half });
    let cuts = choices.cuts();
    for role in ROLES {
        let bytes = if is_raw { choices.rest().to_vec() } else { described(choices.clone(), role) };
        let run = |pieces: &[&[u8]], way| {
            let deflate = DeflateConfig::default();
            let deflate = agreement.as_ref().map(|agreement| (agreement, &deflate));
            run(connection(role, &config, deflate, now), &config, pieces, way, now)
        };
        // Long inputs byte by byte would take too long.
        let pieces = cut(&bytes, &cuts.map(|len| if bytes.len() > 4000 { 97 * len } else { len }));

        let model = Model::new(role, &config, compresses.then_some(takeover), &bytes);
        let whole = run(&[&bytes], Way::Lent);
        model.check(role, &whole);
        assert_eq!(run(&pieces, Way::Lent), whole, "cut, {role:?}");
        assert_eq!(run(&pieces, Way::Taken), whole, "cut and taken, {role:?}");
        assert_eq!(run(&pieces, Way::Leftover), whole, "left over from the handshake, {role:?}");

        let messages = || whole.events.iter().filter(|event| event.0 < CLOSE);
        let chunks = run(&[&bytes], Way::Chunks);
        assert_eq!(run(&pieces, Way::Chunks), chunks, "cut, in chunks, {role:?}");
        let turns = run(&pieces, Way::Turns(flags));
        assert!(chunks.part.starts_with(&turns.part), "{role:?}");
        for chunks in [&chunks, &turns] {
            assert!(messages().eq(&chunks.events), "messages in chunks, {role:?}");
            assert_eq!(
                (chunks.fault, &chunks.output, &chunks.closed, chunks.last_fault, chunks.shutdown),
                (whole.fault, &whole.output, &whole.closed, whole.last_fault, whole.shutdown),
                "{role:?}"
            );
        }
        if !matches!(model.end, End::Unknown) {
            assert_eq!(chunks.part, model.part, "the piece of a message, {role:?}");
        }
    }
}

/// The frames that a description stands for: their first byte, then how to make the payload.
fn described(mut choices: Choices<'_>, reader: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pattern_at = 0;
    for i in (0..=u8::MAX).cycle() {
        if choices.is_over() || bytes.len() > LONGEST {
            break;
        }
        let (first, kind) = (choices.byte(), choices.byte());
        let payload = match kind {
            // As it stands here.
            0..=125 => choices.bytes(kind.into()).to_vec(),
            126 => {
                let len = choices.short();
                choices.bytes(len.into()).to_vec()
            }
            // Text that goes on where the frame before has stopped.
            127 => {
                let len = 4 * usize::from(choices.short());
                pattern_at = if first & 15 == CONTINUATION { pattern_at } else { 0 };
                let pattern = PATTERN.bytes().cycle().skip(pattern_at % PATTERN.len()).take(len).collect();
                pattern_at += len;
                if first & 0xf0 == 0xc0 { deflated(pattern) } else { pattern }
            }
            // No frame.
            128.. => {
                bytes.extend(choices.bytes(usize::from(kind) - 128));
                continue;
            }
        };
        let key = if i % 4 == 0 { [0; 4] } else { [i, 0xff, i.wrapping_mul(37), 1] };
        wire::write_frame(reader, first, key, &payload, &mut bytes);
    }
    bytes
}

/// A whole message compressed on its own.
fn deflated(payload: Vec<u8>) -> Vec<u8> {
    let half = Half { takeover: false, bits: 15 };
    let mut out = Buffer::default();
    let mut deflater = Deflater::new(half, &DeflateConfig::default()).expect("zlib can do so many bits");
    deflater.deflate(&payload, true, &mut out);
    out.pending().to_vec()
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
    /// In chunks; control frames do not show.
    Chunks,
    /// In turns of whole messages and chunks, by these bits.
    Turns(u8),
}

/// What came of the bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Opcode and payload.
    events: Vec<(u8, Vec<u8>)>,
    /// The chunks of a message whose last did not come.
    part: Vec<u8>,
    output: Vec<u8>,
    /// Before the end of TCP.
    fault: Option<Fault>,
    shutdown: bool,
    /// Behind it.
    closed: Closed,
    last_fault: Option<Fault>,
}

fn run(mut connection: Connection, config: &Config, pieces: &[&[u8]], way: Way, now: Instant) -> Outcome {
    let mut reader = Reader { way, turn: 0, events: Vec::new(), part: Vec::new(), output: Vec::new() };
    let mut pieces = pieces.iter();
    if way == Way::Leftover {
        connection = connection.with_leftover(pieces.next().copied().unwrap_or_default());
    }
    reader.look(&mut connection);
    for mut piece in pieces.copied() {
        while !piece.is_empty() {
            assert!(connection.wants_read(), "there is always room after a look");
            let space = connection.recv_space();
            let len = space.len().min(piece.len());
            assert!(len > 0, "there is always room after a look");
            space[..len].copy_from_slice(&piece[..len]);
            connection.handle_input(len, now);
            piece = &piece[len..];
            reader.look(&mut connection);
            let longest = if way == Way::Chunks { Buffer::BLOCK } else { config.max_message };
            // Idle memory of the thread may be lent beyond what is needed: up to 8 MiB.
            let most = if longest > Buffer::BLOCK { 8 << 20 } else { 0 } + 8 * (longest + Buffer::BLOCK);
            assert!(connection.memory() <= most, "{way:?} holds {}", connection.memory());
        }
    }
    let (fault, shutdown) = (connection.fault(), connection.wants_shutdown());
    assert!(connection.closed().is_none() && !connection.is_ended() && connection.wants_read());
    connection.handle_eof(now);
    reader.look(&mut connection);
    assert!(connection.is_ended() && connection.wants_shutdown() && !connection.wants_read());
    assert_eq!(connection.poll_timeout(now), None, "no deadline outlives the connection");
    let closed = connection.closed().expect("it has ended").clone();
    let Reader { events, part, output, .. } = reader;
    Outcome { events, part, output, fault, shutdown, closed, last_fault: connection.fault() }
}

struct Reader {
    way: Way,
    turn: u32,
    events: Vec<(u8, Vec<u8>)>,
    part: Vec<u8>,
    output: Vec<u8>,
}

impl Reader {
    /// Finds all there is, and writes the answers.
    fn look(&mut self, connection: &mut Connection) {
        match self.way {
            Way::Lent | Way::Taken | Way::Leftover => while self.event(connection) {},
            Way::Chunks => while self.chunk(connection) {},
            Way::Turns(bits) => loop {
                self.turn += 1;
                let by_chunk = bits >> (self.turn % 8) & 1 != 0;
                let found =
                    by_chunk && self.chunk(connection) || self.event(connection) || self.chunk(connection);
                if !found {
                    break;
                }
            },
        }
        let mut slices = [IoSlice::new(&[]); 4];
        loop {
            let count = connection.output(&mut slices);
            let before = self.output.len();
            slices[..count].iter().for_each(|slice| self.output.extend_from_slice(slice));
            let len = self.output.len() - before;
            slices = [IoSlice::new(&[]); 4];
            connection.consume(len);
            if len == 0 {
                break;
            }
        }
        assert_eq!(connection.buffered_amount(), 0);
    }

    fn event(&mut self, connection: &mut Connection) -> bool {
        if !connection.advance() {
            return false;
        }
        let (opcode, payload) = match connection.event().expect("it stopped at one") {
            Event::Text(text) => (TEXT, text.as_str().as_bytes().to_vec()),
            Event::Binary(payload) => (BINARY, payload.to_vec()),
            Event::Ping(payload) => (PING, payload.to_vec()),
            Event::Pong(payload) => (PONG, payload.to_vec()),
        };
        if self.way == Way::Taken {
            let taken = connection.take_message();
            assert_eq!(taken.is_some(), opcode < CLOSE);
            assert!(taken.is_none_or(|taken| taken.as_bytes() == payload));
        }
        let in_turns = matches!(self.way, Way::Turns(_));
        if opcode < CLOSE {
            let mut message = std::mem::take(&mut self.part);
            message.extend(payload);
            self.events.push((opcode, message));
        } else if !in_turns {
            self.events.push((opcode, payload));
        }
        true
    }

    fn chunk(&mut self, connection: &mut Connection) -> bool {
        if !connection.advance_chunk() {
            return false;
        }
        let chunk = connection.chunk().expect("it stopped at one");
        assert!(chunk.last || !chunk.as_bytes().is_empty(), "only the last chunk may be empty");
        let opcode = match chunk.payload {
            crate::Fragment::Text(text) => {
                assert!(
                    std::str::from_utf8(text.as_bytes()).is_ok(),
                    "a chunk of text ends with a character"
                );
                TEXT
            }
            crate::Fragment::Binary(_) => BINARY,
        };
        self.part.extend_from_slice(chunk.as_bytes());
        if chunk.last {
            self.events.push((opcode, std::mem::take(&mut self.part)));
        }
        true
    }
}

/// What the RFCs say that the bytes are, read all at once.
#[derive(Debug)]
struct Model {
    events: Vec<(u8, Vec<u8>)>,
    /// What there is of a message that is not complete, up to the last whole character of text.
    part: Vec<u8>,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    /// The code and the reason of the peer's Close frame.
    Closed(Option<u16>, String),
    /// One of these rules is broken.
    Failed(Vec<ProtocolError>),
    /// One of these rules may be broken already, by a header that is cut.
    Doubtful(Vec<ProtocolError>),
    /// How soon a compressed message fails depends on the inflater; `events` are those before it.
    Unknown,
}

/// A message whose last frame did not come.
struct Open {
    opcode: u8,
    compressed: bool,
    /// As on the wire.
    payload: Vec<u8>,
    /// How many events were before it.
    before: usize,
}

impl Open {
    /// What can be lent of it.
    fn part(&self) -> &[u8] {
        let valid = match std::str::from_utf8(&self.payload) {
            Err(error) if self.opcode == TEXT => error.valid_up_to(),
            _ => self.payload.len(),
        };
        &self.payload[..valid]
    }
}

impl Model {
    fn new(role: Role, config: &Config, takeover: Option<bool>, bytes: &[u8]) -> Self {
        let mut model = Self { events: Vec::new(), part: Vec::new(), end: End::Open };
        let mut open = None;
        model.end = model.read(role, config, takeover, bytes, &mut open);
        match open {
            Some(open) if open.compressed => {
                model.events.truncate(open.before);
                model.end = End::Unknown;
            }
            Some(open) => model.part = open.part().to_vec(),
            None => {}
        }
        model
    }

    fn read(
        &mut self,
        role: Role,
        config: &Config,
        takeover: Option<bool>,
        mut bytes: &[u8],
        open: &mut Option<Open>,
    ) -> End {
        let mut inflater = Inflater::new(15);
        while let Some(header) = Header::read(bytes) {
            let mut faults = faults_of_two_bytes(role, takeover.is_some(), &header);
            let Some(Rest { len, key, header_len }) = header.rest else {
                let cut = vec![ProtocolError::LengthOverflow, ProtocolError::NonMinimalLength];
                return if faults.is_empty() { End::Doubtful(cut) } else { End::Failed(faults) };
            };
            faults.extend(faults_of_header(config, open.as_ref(), &header, len));
            if !faults.is_empty() {
                return End::Failed(faults);
            }
            bytes = &bytes[header_len..];
            let mut payload = bytes[..bytes.len().min(len as usize)].to_vec();
            let is_whole = payload.len() as u64 == len;
            bytes = &bytes[payload.len()..];
            mask(key, &mut payload);
            if header.is_control() {
                match header.opcode {
                    _ if !is_whole => return End::Open,
                    CLOSE => return close(&payload),
                    opcode => self.events.push((opcode, payload)),
                }
                continue;
            }
            let message = open.get_or_insert_with(|| Open {
                opcode: header.opcode,
                compressed: header.rsv != 0,
                payload: Vec::new(),
                before: self.events.len(),
            });
            message.payload.extend(payload);
            let ends = is_whole && header.fin;
            if message.compressed {
                if ends && message.payload.len() < SLOW {
                    let Some(inflated) = inflate(&mut inflater, &message.payload) else { return End::Open };
                    let is_good = message.opcode == BINARY || std::str::from_utf8(&inflated).is_ok();
                    if inflated.len() > config.max_message || !is_good {
                        return End::Open;
                    }
                    self.events.push((message.opcode, inflated));
                    *open = None;
                    if takeover != Some(true) {
                        inflater.reset();
                    }
                } else if ends || !is_whole {
                    return End::Open;
                }
                continue;
            }
            if message.opcode == TEXT
                && let Err(error) = std::str::from_utf8(&message.payload)
                && (ends || error.error_len().is_some())
            {
                return End::Failed(vec![ProtocolError::InvalidUtf8]);
            }
            if ends && let Some(Open { opcode, payload, .. }) = open.take() {
                self.events.push((opcode, payload));
            }
        }
        End::Open
    }

    fn check(&self, role: Role, outcome: &Outcome) {
        let fault = match outcome.fault {
            Some(Fault::Protocol(error)) => Some(error),
            None => None,
            other => panic!("{other:?}, but TCP is open and there are no deadlines"),
        };
        if let End::Unknown = self.end {
            let (known, rest) = outcome.events.split_at(self.events.len());
            assert_eq!(known, self.events);
            assert!(rest.iter().all(|event| event.0 > CLOSE), "a message that does not inflate");
        } else {
            assert_eq!(outcome.events, self.events);
        }
        match (&self.end, fault) {
            (End::Open | End::Closed(..), fault) => assert_eq!(fault, None),
            (End::Failed(faults), fault) => {
                assert!(fault.is_some_and(|fault| faults.contains(&fault)), "{fault:?} of {faults:?}");
            }
            (End::Doubtful(faults), fault) => assert!(fault.is_none_or(|fault| faults.contains(&fault))),
            (End::Unknown, _) => {}
        }
        self.check_answers(role, outcome, fault);
        self.check_end(role, outcome, fault);
    }

    /// Sections 5.5.1 to 5.5.3 and 7.1.7: a pong for each ping, and one Close frame if it comes to that.
    fn check_answers(&self, role: Role, outcome: &Outcome, fault: Option<ProtocolError>) {
        let mut output = wire::read_frames(role, &outcome.output).into_iter();
        for (_, ping) in outcome.events.iter().filter(|event| event.0 == PING) {
            let pong = output.next().expect("each ping is answered");
            assert_eq!((pong.opcode, &pong.payload), (PONG, ping));
        }
        let close = match (&self.end, fault) {
            (End::Closed(code, _), _) => Some(*code),
            (_, Some(fault)) => Some(Some(code(fault))),
            _ => None,
        };
        match (close, output.next()) {
            (None, None) => {}
            (Some(code), Some(frame)) => {
                assert_eq!(frame.opcode, CLOSE);
                match (code, &frame.payload[..]) {
                    (None, []) => {}
                    (Some(code), [high, low, reason @ ..]) => {
                        assert_eq!(u16::from_be_bytes([*high, *low]), code);
                        assert!(std::str::from_utf8(reason).is_ok());
                    }
                    (code, payload) => panic!("{payload:?} answers {code:?}"),
                }
            }
            // A compressed message may hide a Close frame behind it.
            (None, Some(frame)) => assert!(frame.opcode == CLOSE && matches!(self.end, End::Unknown)),
            (Some(code), None) => panic!("no Close frame with {code:?}"),
        }
        assert!(output.next().is_none(), "nothing follows the Close frame");
    }

    fn check_end(&self, role: Role, outcome: &Outcome, fault: Option<ProtocolError>) {
        assert_eq!(outcome.closed.initiator, Initiator::Peer);
        match &self.end {
            End::Closed(code, reason) => {
                assert_eq!(outcome.closed.code.get(), code.unwrap_or(1005));
                assert_eq!(&*outcome.closed.reason, reason);
                assert_eq!((outcome.closed.clean, outcome.last_fault), (true, None));
                // Section 7.1.1: the server closes TCP first.
                assert_eq!(outcome.shutdown, role == Role::Server);
            }
            End::Unknown => {}
            End::Open | End::Failed(_) | End::Doubtful(_) => {
                assert_eq!((outcome.closed.code.get(), outcome.closed.clean), (1006, false));
                assert!(outcome.closed.reason.is_empty());
                assert_eq!(outcome.last_fault, Some(fault.map_or(Fault::Abnormal, Fault::Protocol)));
                assert_eq!(outcome.shutdown, fault.is_some());
            }
        }
    }
}

/// Section 7.2.2 of RFC 7692. A message without a byte is none of the grammar's, but taken as empty.
fn inflate(inflater: &mut Inflater, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.is_empty() { Some(Vec::new()) } else { inflater.inflate(payload) }
}

fn faults_of_two_bytes(role: Role, compression: bool, header: &Header) -> Vec<ProtocolError> {
    let is_message = matches!(header.opcode, TEXT | BINARY);
    let rules = [
        (header.rsv & 3 != 0 || header.rsv == 4 && !(compression && is_message), ProtocolError::ReservedBits),
        (matches!(header.opcode, 3..=7 | 11..), ProtocolError::ReservedOpcode(header.opcode)),
        (header.is_control() && !header.fin, ProtocolError::FragmentedControl),
        (header.is_control() && header.short_len > 125, ProtocolError::ControlTooLong),
        (header.masked && role == Role::Client, ProtocolError::Masked),
        (!header.masked && role == Role::Server, ProtocolError::Unmasked),
    ];
    broken(rules)
}

fn faults_of_header(config: &Config, open: Option<&Open>, header: &Header, len: u64) -> Vec<ProtocolError> {
    let &Config { max_frame, max_message, .. } = config;
    let is_message = matches!(header.opcode, TEXT | BINARY);
    let is_data = is_message || header.opcode == CONTINUATION;
    let compressed = header.rsv == 4 || open.is_some_and(|open| open.compressed);
    let allowed = |limit: usize| (limit + if compressed { limit / 7 + 64 } else { 0 }) as u64;
    let so_far = open.map_or(0, |open| open.payload.len()) as u64;
    let rules = [
        (len >> 63 != 0, ProtocolError::LengthOverflow),
        (header.short_len == 126 && len < 126, ProtocolError::NonMinimalLength),
        (header.short_len == 127 && len <= 0xffff, ProtocolError::NonMinimalLength),
        (header.opcode == CONTINUATION && open.is_none(), ProtocolError::UnexpectedContinuation),
        (is_message && open.is_some(), ProtocolError::InterleavedMessage),
        (header.opcode == CLOSE && len == 1, ProtocolError::ClosePayload),
        (is_data && len > allowed(max_frame), ProtocolError::FrameTooLong { len, limit: max_frame }),
        (
            is_data && len.saturating_add(so_far) > allowed(max_message),
            ProtocolError::MessageTooLong { limit: max_message },
        ),
    ];
    broken(rules)
}

fn broken(rules: impl IntoIterator<Item = (bool, ProtocolError)>) -> Vec<ProtocolError> {
    rules.into_iter().filter_map(|(is_broken, error)| is_broken.then_some(error)).collect()
}

/// Sections 5.5.1 and 7.4.
fn close(payload: &[u8]) -> End {
    let &[high, low, ref reason @ ..] = payload else { return End::Closed(None, String::new()) };
    let code = u16::from_be_bytes([high, low]);
    let may_travel = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    match std::str::from_utf8(reason) {
        Ok(reason) if may_travel => End::Closed(Some(code), reason.to_owned()),
        Ok(_) => End::Failed(vec![ProtocolError::CloseCode(code)]),
        Err(_) if may_travel => End::Failed(vec![ProtocolError::InvalidUtf8]),
        Err(_) => End::Failed(vec![ProtocolError::CloseCode(code), ProtocolError::InvalidUtf8]),
    }
}

/// Section 7.4.1; RFC 7692 leaves its own to us.
fn code(error: ProtocolError) -> u16 {
    match error {
        ProtocolError::InvalidUtf8 | ProtocolError::Deflate => 1007,
        ProtocolError::FrameTooLong { .. } | ProtocolError::MessageTooLong { .. } => 1009,
        _ => 1002,
    }
}

/// Text with characters of every length.
const PATTERN: &str = "a\u{1f980}\u{17e}\u{20ac}";

/// How many described bytes are enough.
const LONGEST: usize = 400_000;

/// Compressed messages from this length on are not inflated bit by bit.
const SLOW: usize = 2000;
