//! Messages in chunks: the same bytes however they are cut, text at whole characters, limits over the whole message.

mod pair;

use std::fmt;

use pair::*;
use ws_proto::{Config, Connection, Fault, Fragment, Machine, Message, ProtocolError, Role};

#[test]
fn chunks_are_the_message_at_every_cut() {
    let long = binary(pattern(300));
    let conversations: [&[Frame]; 8] = [
        &[text("hello"), binary([1, 2, 3])],
        &[text(""), binary(""), text("x")],
        &[
            text("žluť ").fin(false),
            ping("1"),
            continuation("🦀").fin(false),
            pong("2"),
            continuation("").fin(false),
            continuation("!"),
        ],
        // A character over three frames, a ping inside it.
        &[
            text(&"a\u{1f980}b".as_bytes()[..2]).fin(false),
            continuation([0x9f]).fin(false),
            ping(""),
            continuation([0xa6, 0x80, b'b']),
        ],
        &[text("").fin(false), continuation("").fin(false), continuation("")],
        &[binary("").fin(false), continuation([0xff; 126]), text("after")],
        &[long.clone(), text("ž".repeat(100)), long],
        &[binary("cut off").fin(false), close(1000, "")],
    ];
    for frames in conversations {
        let expected = whole(frames);
        for role in ROLES {
            every_cut(&|| connection(role, &timeless()), frames, &expected);
        }
    }
}

#[test]
fn chunks_of_long_frames_are_the_message() {
    let lengths = [65_535, 65_536, 128 * 1024, 128 * 1024 + 1, 1_000_000];
    for role in ROLES {
        for len in lengths {
            let long = "a🦀ž".repeat(len / 7);
            let frames = [
                binary(pattern(len)),
                text(&long),
                text(&long.as_bytes()[..len / 2]).fin(false),
                continuation(&long.as_bytes()[len / 2..]),
            ];
            let bytes = join(role, &frames);
            for step in [1000, 4099, 16 * 1024, usize::MAX] {
                let mut connection = connection(role, &timeless());
                let outcome = run(&mut connection, bytes.chunks(step.min(bytes.len())));
                assert!(outcome == whole(&frames), "{role:?} {len} by {step}");
            }
        }
    }
}

#[test]
fn s5_5_2_pings_between_chunks_are_answered() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let frames = [text("a").fin(false), ping("between"), continuation("b")];
        let found = run(&mut connection, [&join(role, &frames)[..]]);
        assert_eq!(found.messages, [(true, b"ab".to_vec(), true)]);
        assert_eq!(write_frames(&mut connection), [pong("between")]);
    }
}

#[test]
fn s8_1_invalid_text_fails_behind_what_was_good_at_every_cut() {
    let bad: [&[u8]; 6] =
        [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98"];
    let good = "ok ž🦀.";
    for bad in bad {
        for at in (0..=good.len()).filter(|&at| good.is_char_boundary(at)) {
            let payload = [&good.as_bytes()[..at], bad].concat();
            for split in 0..=payload.len() {
                let (first, second) = payload.split_at(split);
                let frames = [text(first).fin(false), continuation(second)];
                let expected = Found {
                    messages: Vec::from_iter((at > 0).then(|| (true, good.as_bytes()[..at].to_vec(), false))),
                    fault: Some(Fault::Protocol(ProtocolError::InvalidUtf8)),
                };
                for role in ROLES {
                    every_cut(&|| connection(role, &timeless()), &frames, &expected);
                    every_cut(&|| connection(role, &timeless()), &[text(&payload)], &expected);
                }
            }
        }
    }
}

#[test]
fn s7_1_7_what_came_before_a_violation_is_lent_before_it() {
    let bad = [
        (text("new"), ProtocolError::InterleavedMessage),
        (frame(3, ""), ProtocolError::ReservedOpcode(3)),
        (continuation("").rsv(2), ProtocolError::ReservedBits),
        (close(1005, ""), ProtocolError::CloseCode(1005)),
        (ping("").fin(false), ProtocolError::FragmentedControl),
    ];
    for (bad, error) in bad {
        let frames = [text("before ž").fin(false), bad];
        let expected =
            Found { messages: vec![(true, "before ž".into(), false)], fault: Some(Fault::Protocol(error)) };
        for role in ROLES {
            every_cut(&|| connection(role, &timeless()), &frames, &expected);
        }
    }
}

#[test]
fn limit_is_over_all_chunks() {
    let limit = 300;
    let config = Config { max_message: limit, ..timeless() };
    for role in ROLES {
        for len in [limit - 1, limit] {
            let frames = [binary(pattern(100)).fin(false), ping(""), continuation(pattern(len - 100))];
            every_cut(&|| connection(role, &config), &frames, &whole(&frames));
        }
        let fault = Some(Fault::Protocol(ProtocolError::MessageTooLong { limit }));
        let frames = [binary(pattern(100)).fin(false), continuation(pattern(limit + 1 - 100))];
        let expected = Found { messages: vec![(false, pattern(100), false)], fault };
        every_cut(&|| connection(role, &config), &frames, &expected);
        // The next message has all of it again.
        let frames = [binary(pattern(200)).fin(false), continuation(pattern(100)), binary(pattern(limit))];
        every_cut(&|| connection(role, &config), &frames, &whole(&frames));
        let config = Config { max_frame: limit, ..timeless() };
        let frames = [binary(pattern(limit)).fin(false), continuation(pattern(limit + 1))];
        let fault = ProtocolError::FrameTooLong { len: limit as u64 + 1, limit };
        let expected =
            Found { messages: vec![(false, pattern(limit), false)], fault: Some(Fault::Protocol(fault)) };
        every_cut(&|| connection(role, &config), &frames, &expected);
    }
}

#[test]
fn a_chunk_is_lent_as_soon_as_it_is_there() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let bytes = text("ž🦀!").toward(role).bytes();
        let header = bytes.len() - "ž🦀!".len();
        let mut seen = Vec::new();
        for byte in &bytes {
            feed_machine(&mut connection, std::slice::from_ref(byte), start(), |connection| {
                while connection.advance_chunk() {
                    let chunk = connection.chunk().unwrap();
                    assert!(
                        matches!(chunk.payload, Fragment::Text(text) if text.len() == chunk.as_bytes().len())
                    );
                    seen.push((String::from_utf8(chunk.as_bytes().into()).unwrap(), chunk.last));
                }
            });
        }
        assert_eq!(header, if role == Role::Server { 6 } else { 2 });
        assert_eq!(seen, [("ž".to_owned(), false), ("🦀".into(), false), ("!".into(), true)]);
    }
}

#[test]
fn a_chunk_is_no_event_and_no_message() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_bytes(&mut connection, &join(role, &[text("some").fin(false)]));
        assert!(connection.advance_chunk());
        assert_eq!(connection.event(), None);
        assert_eq!(connection.take_message(), None);
        assert_eq!(connection.chunk().unwrap().as_bytes(), b"some");
        // It stays lent until the connection goes on.
        assert!(!connection.advance_chunk());
        assert_eq!(connection.chunk(), None);
    }
}

#[test]
fn whole_receiving_inside_a_message_gives_the_rest_of_it() {
    let frames = [
        text("one ž").fin(false),
        ping("p"),
        continuation(" two").fin(false),
        continuation(" three"),
        binary("next"),
    ];
    for role in ROLES {
        let bytes = join(role, &frames);
        for cut in 0..=bytes.len() {
            let mut connection = connection(role, &timeless());
            let mut chunks = Vec::new();
            let mut over = false;
            feed_machine(&mut connection, &bytes[..cut], start(), |connection| {
                while !over && connection.advance_chunk() {
                    let chunk = connection.chunk().unwrap();
                    chunks.extend(chunk.as_bytes());
                    over = chunk.last;
                }
            });
            let mut rest = Vec::new();
            feed_machine(&mut connection, &bytes[cut..], start(), |connection| {
                while connection.advance() {
                    rest.extend(connection.take_message());
                }
            });
            assert_eq!(rest.pop(), Some(Message::Binary((&b"next"[..]).into())), "{role:?} at {cut}");
            let rest: Vec<_> = rest.into_iter().map(Message::into_bytes).collect();
            assert_eq!(rest.len(), usize::from(!over), "{role:?} at {cut}");
            chunks.extend(rest.concat());
            assert_eq!(chunks, "one ž two three".as_bytes(), "{role:?} at {cut}");
            assert_eq!(connection.fault(), None);
        }
    }
}

#[test]
fn chunks_go_on_with_what_was_collected_whole() {
    let frames = [
        text("one ž").fin(false),
        ping("p"),
        continuation(" two").fin(false),
        continuation(" three"),
        binary("next"),
    ];
    for role in ROLES {
        let bytes = join(role, &frames);
        for cut in 0..=bytes.len() {
            let mut connection = connection(role, &timeless());
            let mut all = Found::default();
            feed_machine(&mut connection, &bytes[..cut], start(), |connection| {
                while connection.advance() {
                    if let Some(message) = connection.take_message() {
                        all.push(message.as_text().is_some(), message.as_bytes(), true);
                    }
                }
            });
            feed_machine(&mut connection, &bytes[cut..], start(), |connection| all.look(connection));
            assert_eq!(all, whole(&frames), "{role:?} at {cut}");
        }
    }
}

#[test]
fn limit_holds_when_the_rest_is_received_whole() {
    let limit = 300;
    let config = Config { max_message: limit, ..timeless() };
    for role in ROLES {
        for (len, fits) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
            let mut connection = connection(role, &config);
            feed_bytes(&mut connection, &join(role, &[binary(pattern(100)).fin(false)]));
            assert!(connection.advance_chunk());
            let rest = continuation(pattern(len - 100));
            let events = feed_frames(&mut connection, std::slice::from_ref(&rest));
            assert_eq!(events, if fits { vec![binary(rest.payload)] } else { vec![] }, "{len}");
            assert_eq!(connection.fault().is_none(), fits);
        }
    }
}

#[test]
fn reading_stops_while_chunks_wait() {
    let config = Config { max_frame: 1 << 50, max_message: 1 << 50, ..timeless() };
    for role in ROLES {
        let mut connection = connection(role, &config);
        feed_bytes(&mut connection, &binary("").len_as(Len::Bits64(1 << 40)).toward(role).bytes());
        assert!(!connection.advance_chunk());
        // Somebody reads, as far as there is room, and nobody looks.
        let mut len = 0;
        while connection.wants_read() {
            let space = connection.recv_space().len();
            connection.handle_input(space, start());
            len += space;
            assert!(len < 1 << 20, "it never stops");
        }
        let mut lent = 0;
        while connection.advance_chunk() {
            lent += connection.chunk().unwrap().as_bytes().len();
        }
        assert_eq!(lent, len);
        assert!(connection.wants_read());
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use flate2::{Compress, Compression};
    use ws_proto::DeflateConfig;

    use super::{
        pair::deflate::{agreed, compressed, deflate, deflated, flushed, noise, prose},
        *,
    };

    fn open(role: Role, config: &Config) -> Connection {
        let mut connection = agreed(role, config, &DeflateConfig::default(), "");
        write_all(&mut connection);
        connection
    }

    #[test]
    fn compressed_chunks_are_the_message_at_every_cut() {
        let payload = deflated("žluťoučký kůň 🦀🦀🦀🦀");
        let (first, rest) = payload.split_at(7);
        let frames = [
            compressed(TEXT, first).fin(false),
            ping("p"),
            continuation(rest),
            text("plain"),
            compressed(BINARY, deflated([0xff; 400])),
        ];
        let expected = Found {
            messages: vec![
                (true, "žluťoučký kůň 🦀🦀🦀🦀".into(), true),
                (true, b"plain".to_vec(), true),
                (false, vec![0xff; 400], true),
            ],
            fault: None,
        };
        for role in ROLES {
            every_cut(&|| open(role, &timeless()), &frames, &expected);
        }
    }

    #[test]
    fn long_compressed_messages_come_in_chunks() {
        let payloads = [prose(3_000_000).into_bytes(), noise(1_000_000, 1), vec![7; 5_000_000]];
        for role in ROLES {
            let mut compressor = Compress::new(Compression::fast(), false);
            let mut connection = open(role, &timeless());
            for payload in &payloads {
                let frame = compressed(BINARY, deflate(&mut compressor, payload));
                let mut found = Found::default();
                feed_machine(&mut connection, &join(role, &[frame]), start(), |connection| {
                    while connection.advance_chunk() {
                        assert!(connection.chunk().unwrap().as_bytes().len() < 512 * 1024);
                        found.take(connection);
                    }
                });
                assert!(found.messages == [(false, payload.clone(), true)]);
            }
        }
    }

    #[test]
    fn invalid_compressed_text_fails_behind_what_was_good_at_every_cut() {
        let payload = [&b"good \xc5\xbe"[..], b"\xff and more"].concat();
        let fault = Some(Fault::Protocol(ProtocolError::InvalidUtf8));
        let expected = Found { messages: vec![(true, "good ž".into(), false)], fault };
        for role in ROLES {
            every_cut(&|| open(role, &timeless()), &[compressed(TEXT, deflated(&payload))], &expected);
        }
    }

    #[test]
    fn what_does_not_inflate_fails_behind_what_was_good_at_every_cut() {
        let mut compressor = Compress::new(Compression::fast(), false);
        // A block of a reserved type behind a good one.
        let payload = [flushed(&mut compressor, b"good"), vec![0x07, 0, 0]].concat();
        let fault = Some(Fault::Protocol(ProtocolError::Deflate));
        let expected = Found { messages: vec![(false, b"good".into(), false)], fault };
        // And a message that ends inside a block.
        let cut = deflated("good and cut off");
        let cut = &cut[..cut.len() - 4];
        for role in ROLES {
            every_cut(&|| open(role, &timeless()), &[compressed(BINARY, &payload)], &expected);
            let found = run(&mut open(role, &timeless()), [&join(role, &[compressed(BINARY, cut)])[..]]);
            assert_eq!(found.fault, fault);
            every_cut(&|| open(role, &timeless()), &[compressed(BINARY, cut)], &found);
        }
    }

    #[test]
    fn limit_is_over_all_chunks_of_a_compressed_message() {
        let limit = 70_000;
        let config = Config { max_message: limit, ..timeless() };
        for role in ROLES {
            for len in [limit - 1, limit, limit + 1] {
                let frames = [compressed(BINARY, deflated(vec![1; len]))];
                let fits = len <= limit;
                let expected = Found {
                    messages: vec![(false, vec![1; len.min(limit)], fits)],
                    fault: (!fits).then_some(Fault::Protocol(ProtocolError::MessageTooLong { limit })),
                };
                every_cut(&|| open(role, &config), &frames, &expected);
            }
        }
    }
}

/// What was found in chunks: messages as far as they came, whether text and whether to the end, and the fault behind.
#[derive(Clone, Default, PartialEq)]
struct Found {
    messages: Vec<(bool, Vec<u8>, bool)>,
    fault: Option<Fault>,
}

/// Not all of the bytes.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_text, payload, last) in &self.messages {
            let kind = if *is_text { "text" } else { "binary" };
            let shown = &payload[..payload.len().min(32)];
            write!(f, "{kind} of {} \"{}\" to the end: {last}, ", payload.len(), shown.escape_ascii())?;
        }
        write!(f, "{:?}", self.fault)
    }
}

impl Found {
    fn push(&mut self, is_text: bool, payload: &[u8], last: bool) {
        match self.messages.last_mut() {
            Some((text, message, over)) if !*over => {
                assert_eq!(*text, is_text);
                message.extend(payload);
                *over = last;
            }
            _ => self.messages.push((is_text, payload.into(), last)),
        }
    }

    /// The chunk that the connection stopped at.
    fn take(&mut self, connection: &Connection) {
        let chunk = connection.chunk().expect("it stopped at one");
        assert!(chunk.last || !chunk.as_bytes().is_empty(), "an empty chunk");
        let is_text = match chunk.payload {
            Fragment::Text(text) => {
                assert_eq!(text.as_str().as_bytes(), chunk.as_bytes());
                true
            }
            _ => false,
        };
        self.push(is_text, chunk.as_bytes(), chunk.last);
    }

    fn look(&mut self, connection: &mut Connection) {
        while connection.advance_chunk() {
            self.take(connection);
        }
    }
}

/// What is to be found of frames by the rules.
fn whole(frames: &[Frame]) -> Found {
    let mut found = Found::default();
    for frame in frames {
        match frame.opcode {
            TEXT | BINARY => {
                found.messages.push((frame.opcode == TEXT, frame.payload.clone(), frame.fin));
            }
            CONTINUATION => {
                let (_, message, last) = found.messages.last_mut().expect("a message goes on");
                message.extend(&frame.payload);
                *last = frame.fin;
            }
            _ => {}
        }
    }
    found.messages.retain(|(_, payload, last)| *last || !payload.is_empty());
    found
}

fn run<'a>(connection: &mut Connection, pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
    let mut found = Found::default();
    for piece in pieces {
        feed_machine(connection, piece, start(), |connection| found.look(connection));
    }
    found.fault = connection.fault();
    found
}

/// Whole, byte by byte, and cut in two everywhere, it is the same.
fn every_cut(open: &dyn Fn() -> Connection, frames: &[Frame], expected: &Found) {
    let role = open().role();
    let bytes = join(role, frames);
    assert_eq!(run(&mut open(), [&bytes[..]]), *expected, "whole, {role:?}");
    assert_eq!(run(&mut open(), bytes.chunks(1)), *expected, "byte by byte, {role:?}");
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(run(&mut open(), [first, second]), *expected, "cut at {cut}, {role:?}");
    }
}

/// Has the connection take bytes without a look at it.
fn feed_bytes(connection: &mut Connection, bytes: &[u8]) {
    connection.recv_space()[..bytes.len()].copy_from_slice(bytes);
    connection.handle_input(bytes.len(), start());
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8)) as u8).collect()
}
