//! Properties over random inputs: a pair of connections is two queues of messages; how bytes are cut changes
//! nothing; text is what the standard library calls text.

mod pair;

use std::collections::VecDeque;

use pair::{
    head::{Parsed, request},
    *,
};
use proptest::prelude::*;
use ws_proto::{
    Bytes, ClientConfig, CloseCode, Config, Connection, Fault, HandshakeError, HeadLimits, Machine, Message,
    Prepared, ProtocolError, Role, SendError, ServerConfig,
    handshake::{ClientHandshake, ProxyHandshake, Redirects, ServerHandshake, UnixSocket, client_request},
    http::Response,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Section 3: a URL is an error or a request on the wire that says what the URL said, and nothing more.
    #[test]
    fn any_url_is_a_request_or_an_error(url in url()) {
        if let Ok(request) = client_request(&url) {
            let again = client_request(&request.uri().to_string()).unwrap();
            prop_assert_eq!(again.uri(), request.uri());
            let mut handshake = ClientHandshake::new(&request, &ClientConfig::default(), [0; 32], start()).unwrap();
            let sent = String::from_utf8(write_all(&mut handshake)).unwrap();
            prop_assert_eq!(sent.matches("\r\n\r\n").count(), 1, "{}", sent);
            prop_assert!(sent.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')), "{}", sent);
        }
    }

    /// Whatever the `Location`: secrets leave neither the host and port nor TLS.
    #[test]
    fn any_redirect_keeps_secrets(location in url(), secure in any::<bool>()) {
        let base = if secure { "wss://a.example/b/c" } else { "ws://a.example/b/c" };
        let mut request = client_request(base).unwrap();
        request.headers_mut().insert("cookie", "secret".parse().unwrap());
        let response = Response::builder().status(302).header("location", location);
        let Ok(response) = response.body(Bytes::new()) else { return Ok(()) };
        let followed = Redirects::new(1).follow(&request, HandshakeError::Status(Box::new(response)));
        if let Ok(next) = followed {
            let uri = next.uri();
            let default = if uri.scheme_str() == Some("wss") { 443 } else { 80 };
            let stays = uri.host().unwrap().eq_ignore_ascii_case("a.example")
                && uri.port_u16().is_none_or(|port| port == default)
                && (!secure || uri.scheme_str() == Some("wss"))
                && next.extensions().get::<UnixSocket>().is_none();
            prop_assert_eq!(next.headers().contains_key("cookie"), stays, "{}", uri);
        }
    }

    /// Invariants 3 and 5 for the answers of a SOCKS proxy.
    #[test]
    fn any_cut_of_a_proxys_answers_is_judged_the_same(answers in answers(), cuts in cuts()) {
        let judge = |pieces: &[&[u8]]| {
            let request = client_request("ws://a.example/").unwrap();
            let proxy = "socks5://user:password@proxy.example".parse().unwrap();
            let mut handshake = ProxyHandshake::new(&proxy, &request, &HeadLimits::default(), start()).unwrap();
            for mut piece in pieces.iter().copied() {
                while !handshake.advance() && handshake.wants_read() && !piece.is_empty() {
                    let space = handshake.recv_space();
                    let len = space.len().min(piece.len());
                    space[..len].copy_from_slice(&piece[..len]);
                    piece = &piece[len..];
                    handshake.handle_input(len, start());
                }
            }
            (handshake.advance(), format!("{:?}", handshake.error()), write_all(&mut handshake))
        };
        prop_assert_eq!(judge(&cut(&answers, &cuts)), judge(&[&answers]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants 3 and 5: garbage, or frames with a broken byte, give the same events and output however they
    /// are cut, and no panic.
    #[test]
    fn any_cut_of_any_bytes_gives_the_same(input in input(), cuts in cuts(), role in role()) {
        let bytes = input.bytes(role);
        let config = Config { max_message: 2000, max_frame: 1500, ..timeless() };
        let whole = read(role, &config, &[&bytes]);
        let pieces = cut(&bytes, &cuts);
        prop_assert_eq!(read(role, &config, &pieces), whole);
    }

    /// Equal inputs give equal outputs, and what a well-behaved peer sends is no fault.
    #[test]
    fn legal_frames_are_no_fault(frames in prop::collection::vec(message_frames(), 0..8), role in role()) {
        let frames = frames.concat();
        let bytes = join(role, &frames);
        let (events, _, fault) = read(role, &timeless(), &[&bytes]);
        prop_assert_eq!(fault, None);
        let messages = frames.iter().filter(|frame| frame.fin && frame.opcode < 8).count();
        prop_assert_eq!(events.iter().filter(|event| event.opcode < 8).count(), messages);
    }

    /// Section 8.1: the text check agrees with the standard library about the bytes so far, at any cut.
    #[test]
    fn text_is_what_std_says(text in nearly_text(), cuts in cuts(), role in role()) {
        let mut connection = connection(role, &timeless());
        // One frame, which promises one byte more than it brings.
        let mut payload = text.clone();
        payload.push(b'x');
        let frame = pair::text(&payload).toward(role).bytes();
        let header = frame.len() - payload.len();
        feed(&mut connection, &frame[..header]);
        let mut so_far = 0;
        for piece in cut(&text, &cuts) {
            feed(&mut connection, &frame[header + so_far..][..piece.len()]);
            so_far += piece.len();
            let may_be_text = match std::str::from_utf8(&text[..so_far]) {
                Ok(_) => true,
                Err(error) => error.error_len().is_none(),
            };
            prop_assert_eq!(connection.fault().is_none(), may_be_text, "{:02x?} up to {}", &text, so_far);
        }
        let events = feed(&mut connection, &frame[header + so_far..]);
        match std::str::from_utf8(&payload) {
            Ok(valid) => prop_assert_eq!(events, [pair::text(valid)]),
            Err(_) => {
                prop_assert_eq!(events, []);
                prop_assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::InvalidUtf8)));
            }
        }
    }

    /// A pair is two queues: what one side sends the other hears, in order and once, whatever the link does.
    #[test]
    fn pair_is_two_queues(operations in prop::collection::vec(operation(), 0..60), links in links()) {
        let config = Config { high_water: 30_000, ..timeless() };
        let (to_client, to_server) = links;
        let mut pair = Pair::new(&config).with_chunks(&to_client, &to_server).with_latency(secs(1));
        let mut model = Model::default();
        for operation in &operations {
            apply(&mut pair, &mut model, operation);
        }
        pair.server.link.blocked = false;
        pair.client.link.blocked = false;
        pair.settle();
        model.check(&pair)?;
        if model.closed {
            pair.assert_over();
            for end in [&pair.server, &pair.client] {
                prop_assert!(end.connection.closed().is_some_and(|closed| closed.clean));
                prop_assert_eq!(end.connection.fault(), None);
            }
        } else {
            for end in [&pair.server, &pair.client] {
                prop_assert_eq!(end.connection.buffered_amount(), 0);
                prop_assert!(!end.connection.is_ended());
            }
        }
    }

    /// Invariant 6: what a random consumer sees of a random queue is whole frames, and data in its order.
    #[test]
    fn output_is_whole_frames_however_it_is_consumed(
        steps in prop::collection::vec(step(), 1..80),
        role in role(),
    ) {
        let mut connection = connection(role, &Config { high_water: usize::MAX, ..timeless() });
        let mut sent = Vec::new();
        let mut output = Vec::new();
        let mut last_ping = None;
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send(len) => {
                    let message = Message::Binary(vec![i as u8; len].into());
                    connection.sender().send(&message).unwrap();
                    sent.push(Frame::from(message));
                }
                Step::Ping => {
                    feed_frames(&mut connection, &[ping([i as u8])]);
                    last_ping = Some(pong([i as u8]));
                }
                Step::Write(max, slices) => output.extend(write_some(&mut connection, max, slices)),
                Step::Wait => block(&mut connection),
            }
        }
        output.extend(write_all(&mut connection));
        let (pongs, data): (Vec<_>, Vec<_>) =
            frames(role, &output).into_iter().partition(|frame| frame.opcode == PONG);
        prop_assert!(data == sent);
        // One answer a ping at most, and always one to the newest. A newer one may overtake an older.
        prop_assert!(last_ping.is_none_or(|newest| pongs.contains(&newest)));
        let mut answered: Vec<u8> = pongs.iter().map(|pong| pong.payload[0]).collect();
        answered.sort_unstable();
        prop_assert!(answered.is_sorted_by(|a, b| a < b), "{:?}", answered);
    }

    /// Invariant 3 for heads: a request with broken bytes is judged the same however it is cut.
    #[test]
    fn any_cut_of_a_request_is_judged_the_same(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cuts in cuts(),
    ) {
        let mut bytes = request().bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = judge(&[&bytes]);
        prop_assert_eq!(judge(&cut(&bytes, &cuts)), whole);
    }
}

// Inputs

#[derive(Clone, Debug)]
enum Input {
    Garbage(Vec<u8>),
    /// Frames, with some of their bytes changed.
    Frames(Vec<Frame>, Vec<(prop::sample::Index, u8)>),
}

impl Input {
    fn bytes(&self, reader: Role) -> Vec<u8> {
        match self {
            Self::Garbage(bytes) => bytes.clone(),
            Self::Frames(frames, damage) => {
                let mut bytes = join(reader, frames);
                for (at, byte) in damage.iter().filter(|_| !frames.is_empty()) {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                bytes
            }
        }
    }
}

fn input() -> impl Strategy<Value = Input> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    let frames = prop::collection::vec(prop_oneof![5 => message_frames(), 1 => any_frame()], 0..6);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Input::Garbage),
        4 => (frames, damage).prop_map(|(frames, damage)| Input::Frames(frames.concat(), damage)),
    ]
}

/// Something between a URL and noise.
fn url() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "ws://|wss://|http://|https://|ws\\+unix:|ftp://|//",
        "a\\.example|A\\.EXAMPLE|b|localhost|127\\.0\\.0\\.1|\\[::1\\]",
        "[:@/?#%.&=\\[\\]]|:80|:443|:65536|\\.\\.|%20|%zz|user:pw@",
        "[ -~]",
        "\\PC",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Something between the answers of a SOCKS proxy and noise.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(vec![5, 0]),
        3 => Just(vec![5, 2, 1, 0]),
        3 => Just(vec![5, 0, 0, 1, 1, 2, 3, 4, 0, 80]),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(&ROLES)
}

/// The frames of one message, with control frames between them.
fn message_frames() -> impl Strategy<Value = Vec<Frame>> {
    let pieces = prop::collection::vec(("[a-zé€😀]{0,40}", prop::option::of(control())), 1..5);
    let message = (any::<bool>(), pieces).prop_map(|(is_text, pieces)| {
        let count = pieces.len();
        let frames = pieces.into_iter().enumerate().flat_map(|(i, (payload, control))| {
            let opcode = if i > 0 {
                CONTINUATION
            } else if is_text {
                TEXT
            } else {
                BINARY
            };
            [Some(frame(opcode, payload).fin(i + 1 == count)), control]
        });
        frames.flatten().collect()
    });
    let large = (100_usize..3000).prop_map(|len| vec![binary(vec![7; len])]);
    prop_oneof![4 => message, 1 => large]
}

fn control() -> impl Strategy<Value = Frame> {
    (prop::sample::select(&[PING, PONG]), prop::collection::vec(any::<u8>(), 0..=125))
        .prop_map(|(opcode, payload)| frame(opcode, payload))
}

/// A frame that is likely to break a rule.
fn any_frame() -> impl Strategy<Value = Vec<Frame>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (0_u8..16, any::<bool>(), prop::sample::select(&[0_u8, 0, 0, 4, 1]), payload)
        .prop_map(|(opcode, fin, rsv, payload)| vec![frame(opcode, payload).fin(fin).rsv(rsv)])
}

/// Bytes that are text, or would be if it were not for a few of them.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let damaged = ("[a-zé€😀\u{7ff}\u{800}\u{ffff}]{0,60}", any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        "[a-zé€😀\u{7ff}\u{800}\u{ffff}]{0,60}".prop_map(String::into_bytes),
        damaged.prop_map(|(text, at, byte)| {
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        }),
        prop::collection::vec(any::<u8>(), 0..20),
    ]
}

/// Lengths of the pieces that something is cut into, over and over.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::collection::vec(1_usize..20, 1..5),
        prop::collection::vec(1_usize..800, 1..5)
    ]
}

fn cut<'a>(mut bytes: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for len in lens.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        pieces.extend(bytes.split_off(..(*len).min(bytes.len())));
    }
    pieces
}

fn links() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let chunks = || prop_oneof![Just(vec![]), prop::collection::vec(1_usize..3000, 1..4)];
    (chunks(), chunks())
}

/// Events, output and fault.
fn read(role: Role, config: &Config, pieces: &[&[u8]]) -> (Vec<Frame>, Vec<u8>, Option<Fault>) {
    let mut connection = connection(role, config);
    let mut events = Vec::new();
    let mut output = Vec::new();
    for piece in pieces {
        events.extend(feed(&mut connection, piece));
        output.extend(write_all(&mut connection));
    }
    (events, output, connection.fault())
}

/// Whether a server takes the request, and the status of its answer if it gave one.
fn judge(pieces: &[&[u8]]) -> (String, Option<u16>) {
    let mut handshake = ServerHandshake::new(ServerConfig::default().into(), start());
    for piece in pieces {
        feed_machine(&mut handshake, piece, start(), |handshake| _ = handshake.advance());
    }
    let verdict = if handshake.advance() {
        format!("{:?}", handshake.check().map(|acceptance| acceptance.response()))
    } else {
        format!("{:?}", handshake.error())
    };
    let output = write_all(&mut handshake);
    (verdict, (!output.is_empty()).then(|| Parsed::new(&output).status()))
}

/// What happens to one connection.
#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Ping,
    Write(usize, usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0_usize..200, 16_380_usize..16_390, Just(70_000)];
    prop_oneof![
        3 => len.prop_map(Step::Send),
        3 => Just(Step::Ping),
        4 => (1_usize..30_000, 1_usize..5).prop_map(|(max, slices)| Step::Write(max, slices)),
        3 => (1_usize..30, 1_usize..3).prop_map(|(max, slices)| Step::Write(max, slices)),
        3 => Just(Step::Wait),
    ]
}

// Two queues

#[derive(Clone, Debug)]
enum Operation {
    Text(Role, String),
    Binary(Role, usize),
    Shared(Role, usize),
    Prepared(Role, String),
    Fragment(Role, String, bool),
    Ping(Role, Vec<u8>),
    Block(Role, bool),
    Settle,
    Close(Role),
}

fn operation() -> impl Strategy<Value = Operation> {
    let short = "[a-zé€]{0,30}";
    let len = prop_oneof![0_usize..300, 16_380_usize..16_390, 65_530_usize..65_540];
    prop_oneof![
        4 => (role(), short).prop_map(|(role, text)| Operation::Text(role, text)),
        2 => (role(), len.clone()).prop_map(|(role, len)| Operation::Binary(role, len)),
        2 => (role(), len).prop_map(|(role, len)| Operation::Shared(role, len)),
        2 => (role(), short).prop_map(|(role, text)| Operation::Prepared(role, text)),
        4 => (role(), short, any::<bool>()).prop_map(|(role, text, last)| Operation::Fragment(role, text, last)),
        2 => (role(), prop::collection::vec(any::<u8>(), 0..=125))
            .prop_map(|(role, payload)| Operation::Ping(role, payload)),
        2 => (role(), any::<bool>()).prop_map(|(role, blocked)| Operation::Block(role, blocked)),
        4 => Just(Operation::Settle),
        1 => prop::option::weighted(0.2, role()).prop_map(|role| role.map_or(Operation::Settle, Operation::Close)),
    ]
}

/// What each side should hear.
#[derive(Debug, Default)]
struct Model {
    to_server: Queue,
    to_client: Queue,
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Frame>,
    /// The payload so far of a message in fragments.
    open: Option<String>,
}

impl Model {
    fn from(&mut self, sender: Role) -> &mut Queue {
        match sender {
            Role::Server => &mut self.to_client,
            Role::Client => &mut self.to_server,
        }
    }

    /// Every message was heard, in order. One that crossed the peer's Close may be lost, and all behind it.
    fn check(&self, pair: &Pair) -> Result<(), TestCaseError> {
        for (end, queue) in [(&pair.server, &self.to_server), (&pair.client, &self.to_client)] {
            let heard: Vec<&Frame> = end.events.iter().filter(|event| event.opcode != PONG).collect();
            let sent: Vec<&Frame> = queue.messages.iter().collect();
            prop_assert!(sent.starts_with(&heard), "heard {:?} of {:?}", heard, sent);
            prop_assert!(self.closed || heard.len() == sent.len(), "heard {:?} of {:?}", heard, sent);
        }
        Ok(())
    }
}

/// Does it, in the pair and in the model; the sender may refuse as the model says.
fn apply(pair: &mut Pair, model: &mut Model, operation: &Operation) {
    let (role, result, heard) = match operation {
        Operation::Settle => return pair.settle(),
        Operation::Block(role, blocked) => {
            pair.end(*role).link.blocked = *blocked;
            return;
        }
        Operation::Close(role) => {
            let was_ended = pair.end(*role).connection.is_ended();
            pair.end(*role).connection.close(CloseCode::NORMAL, "").unwrap();
            model.closed = model.closed || !was_ended;
            return;
        }
        Operation::Text(role, payload) => (role, sender(pair, *role).send_text(payload), text(payload)),
        Operation::Binary(role, len) => {
            (role, sender(pair, *role).send_binary(&vec![1; *len]), binary(vec![1; *len]))
        }
        Operation::Shared(role, len) => {
            let message = Message::Binary(Bytes::from(vec![2; *len]));
            (role, sender(pair, *role).send(&message), message.into())
        }
        Operation::Prepared(role, payload) => {
            (role, sender(pair, *role).send_prepared(&Prepared::new(payload.as_str())), text(payload))
        }
        Operation::Ping(role, payload) => {
            let result = sender(pair, *role).ping(payload);
            if result.is_ok() {
                model.from(*role).messages.push_back(ping(payload));
            }
            assert!(matches!(result, Ok(()) | Err(SendError::Full | SendError::Closed)));
            return;
        }
        Operation::Fragment(role, payload, last) => {
            let result = sender(pair, *role).send_fragment(payload.as_str().into(), *last);
            assert!(matches!(result, Ok(()) | Err(SendError::Full | SendError::Closed)));
            if result.is_ok() {
                let queue = model.from(*role);
                let so_far = queue.open.take().unwrap_or_default() + payload;
                if *last {
                    queue.messages.push_back(text(so_far));
                } else {
                    queue.open = Some(so_far);
                }
            }
            return;
        }
    };
    let queue = model.from(*role);
    match result {
        Ok(()) => {
            assert!(queue.open.is_none(), "a message inside a fragmented one");
            queue.messages.push_back(heard);
        }
        Err(SendError::InFragment) => assert!(queue.open.is_some()),
        Err(SendError::Full | SendError::Closed) => {}
        Err(other) => panic!("{other}"),
    }
}

fn sender(pair: &mut Pair, role: Role) -> &mut ws_proto::Sender {
    let connection: &mut Connection = &mut pair.end(role).connection;
    connection.sender()
}
