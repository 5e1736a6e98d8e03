//! RFC 6455 section 5: frames.

mod pair;

use pair::*;
use ws_proto::{Bytes, CloseCode, Config, Machine, Message, Prepared, ProtocolError, Role, SendError};

// Section 5.1: masking by role

#[test]
fn s5_1_unmasked_frame_fails_server() {
    for input in [text("hi"), binary(""), ping("p"), pong(""), close(1000, ""), continuation("x")] {
        let bytes = input.bytes();
        let outcome = outcome_of_bytes(Role::Server, &timeless(), &bytes, &[0]);
        assert_failed(&outcome, &[], ProtocolError::Unmasked);
    }
}

#[test]
fn s5_1_masked_frame_fails_client() {
    for input in [text("hi"), binary(""), ping("p"), pong(""), close(1000, ""), continuation("x")] {
        for key in [KEY, [0; 4]] {
            let outcome = outcome(Role::Client, &timeless(), &[input.clone().masked(key)]);
            assert_failed(&outcome, &[], ProtocolError::Masked);
        }
    }
}

#[test]
fn s5_1_output_is_masked_by_role() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let sender = connection.sender();
        sender.send_text("text").unwrap();
        sender.send_binary(b"binary").unwrap();
        sender.send_fragment("a".into(), false).unwrap();
        sender.ping(b"ping").unwrap();
        sender.pong(b"pong").unwrap();
        sender.send_fragment("b".into(), true).unwrap();
        connection.close(CloseCode::NORMAL, "bye").unwrap();
        // `frames` checks the mask bit of each.
        assert_eq!(
            write_frames(&mut connection),
            [
                text("text"),
                binary("binary"),
                text("a").fin(false),
                ping("ping"),
                pong("pong"),
                continuation("b"),
                close(1000, "bye"),
            ]
        );
    }
}

// Section 5.2: the header

#[test]
fn s5_2_each_reserved_bit_fails_on_each_opcode() {
    for rsv in 1..=7 {
        for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
            check_fails(&[frame(opcode, "").rsv(rsv)], &[], ProtocolError::ReservedBits);
        }
    }
}

#[test]
fn s5_2_reserved_bit_inside_a_message_fails() {
    let input = [text("a").fin(false), continuation("b").rsv(4)];
    check_fails(&input, &[], ProtocolError::ReservedBits);
}

#[test]
fn s5_2_each_reserved_opcode_fails() {
    for opcode in (3..=7).chain(11..=15) {
        let error = ProtocolError::ReservedOpcode(opcode);
        check_fails(&[frame(opcode, "payload")], &[], error);
        check_fails(&[text("a").fin(false), frame(opcode, "")], &[], error);
        check_fails(&[frame(opcode, "").fin(false)], &[], error);
    }
}

#[test]
fn s5_2_faults_of_the_first_two_bytes_need_no_more() {
    let promise = Len::Bits64(1 << 40);
    let cases = [
        (frame(3, "").len_as(promise), ProtocolError::ReservedOpcode(3)),
        (text("").rsv(4).len_as(promise), ProtocolError::ReservedBits),
        (ping("").len_as(Len::Bits7(126)), ProtocolError::ControlTooLong),
        (close_without_code().fin(false), ProtocolError::FragmentedControl),
    ];
    for (input, error) in cases {
        for role in ROLES {
            let bytes = input.clone().toward(role).bytes();
            let outcome = outcome_of_bytes(role, &timeless(), &bytes[..2], &[0]);
            assert_failed(&outcome, &[], error);
        }
    }
}

#[test]
fn s5_2_every_form_of_length_is_read() {
    for len in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 65_537] {
        let input = binary(pattern(len));
        check(&[input.clone(), text("next")], &[input, text("next")], &[]);
    }
}

#[test]
fn s5_2_length_is_sent_in_its_shortest_form() {
    for (len, header) in [(0, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10), (200_000, 10)] {
        for (role, key) in [(Role::Server, 0), (Role::Client, 4)] {
            let payload = pattern(len);
            let mut connection = connection(role, &timeless());
            connection.sender().send_binary(&payload).unwrap();
            assert_eq!(connection.buffered_amount(), header + key + len);
            assert_eq!(write_frames(&mut connection), [binary(&payload)]);
            connection.sender().send(&Message::Binary(Bytes::from(payload.clone()))).unwrap();
            assert_eq!(connection.buffered_amount(), header + key + len);
            assert_eq!(write_frames(&mut connection), [binary(&payload)]);
        }
    }
}

#[test]
fn s5_2_length_in_more_bytes_than_needed_fails() {
    for len in [Len::Bits16(0), Len::Bits16(125), Len::Bits64(0), Len::Bits64(126), Len::Bits64(65_535)] {
        check_fails(&[binary("").len_as(len)], &[], ProtocolError::NonMinimalLength);
    }
}

#[test]
fn s5_2_top_bit_of_a_64_bit_length_fails() {
    for len in [1 << 63, 1 << 63 | 5, u64::MAX, u64::MAX - 13] {
        let input = [text("before"), binary("").len_as(Len::Bits64(len))];
        check_fails(&input, &[text("before")], ProtocolError::LengthOverflow);
    }
}

#[test]
fn s5_2_nothing_is_delivered_after_a_fault() {
    let input = [text("a").rsv(1), text("b"), ping("c"), close(1000, ""), frame(3, "")];
    check_fails(&input, &[], ProtocolError::ReservedBits);
}

// Section 5.3: masking

#[test]
fn s5_3_every_masking_key_unmasks() {
    for key in [[0; 4], [0xff; 4], KEY, [0, 0, 0, 1], [0x81, 0x85, 0, 0]] {
        for len in [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 127, 1000] {
            let payload = pattern(len);
            let outcome = outcome(Role::Server, &timeless(), &[binary(&payload).masked(key)]);
            assert_eq!(outcome.events, [binary(payload)]);
        }
    }
}

#[test]
fn s5_3_each_frame_has_its_own_masking_key() {
    const COUNT: usize = 1000;
    let mut client = connection(Role::Client, &timeless());
    for _ in 0..COUNT {
        client.sender().send_text("the same").unwrap();
    }
    let mut keys = keys(&write_all(&mut client));
    assert_eq!(keys.len(), COUNT);
    keys.sort_unstable();
    keys.dedup();
    // Two of a thousand random keys are the same once in ten thousand runs; the seed is fixed.
    assert_eq!(keys.len(), COUNT);
}

// Section 5.4: fragmentation

#[test]
fn s5_4_fragments_make_one_message() {
    check(
        &[text("one ").fin(false), continuation("two ").fin(false), continuation("three")],
        &[text("one two three")],
        &[],
    );
    check(&[binary([1, 2]).fin(false), continuation([3])], &[binary([1, 2, 3])], &[]);
}

#[test]
fn s5_4_fragments_may_be_empty() {
    check(&[text("").fin(false), continuation("")], &[text("")], &[]);
    check(&[text("").fin(false), continuation("a").fin(false), continuation("")], &[text("a")], &[]);
    check(
        &[binary("").fin(false), continuation("").fin(false), continuation("").fin(false), continuation("z")],
        &[binary("z")],
        &[],
    );
}

#[test]
fn s5_4_messages_may_be_empty() {
    check(&[text(""), binary(""), text("")], &[text(""), binary(""), text("")], &[]);
}

#[test]
fn s5_4_kind_is_that_of_the_first_frame() {
    check(
        &[text("a").fin(false), continuation("b"), binary("c").fin(false), continuation("d"), text("e")],
        &[text("ab"), binary("cd"), text("e")],
        &[],
    );
}

#[test]
fn s5_4_continuation_without_a_start_fails() {
    let error = ProtocolError::UnexpectedContinuation;
    check_fails(&[continuation("a")], &[], error);
    check_fails(&[continuation("a").fin(false)], &[], error);
    check_fails(&[text("whole"), continuation("a")], &[text("whole")], error);
    let input = [text("a").fin(false), continuation("b"), continuation("c")];
    check_fails(&input, &[text("ab")], error);
    check_fails(&[ping("p"), continuation("")], &[ping("p")], error);
}

#[test]
fn s5_4_interleaved_data_frame_fails() {
    let error = ProtocolError::InterleavedMessage;
    for next in [text("b"), binary("b"), text("b").fin(false), binary("").fin(false)] {
        check_fails(&[text("a").fin(false), next.clone()], &[], error);
        check_fails(&[binary("").fin(false), ping("p"), next], &[ping("p")], error);
    }
}

#[test]
fn s5_4_control_frames_between_fragments_are_handled_at_once() {
    check(
        &[
            ping("0"),
            text("a").fin(false),
            ping("1"),
            continuation("b").fin(false),
            pong("2"),
            ping("3"),
            continuation("c"),
            ping("4"),
        ],
        &[ping("0"), ping("1"), pong("2"), ping("3"), text("abc"), ping("4")],
        &[pong("0"), pong("1"), pong("3"), pong("4")],
    );
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let events = feed_frames(&mut connection, &[text("a").fin(false), ping("now")]);
        assert_eq!(events, [ping("now")]);
        assert_eq!(write_frames(&mut connection), [pong("now")]);
    }
}

#[test]
fn s5_4_close_between_fragments_drops_the_message() {
    check(&[text("a").fin(false), close(1000, "")], &[], &[close(1000, "")]);
}

#[test]
fn s5_4_long_fragments_make_one_message() {
    let (first, second, third) = (pattern(70_000), pattern(3), pattern(140_000));
    check(
        &[binary(&first).fin(false), continuation(&second).fin(false), ping("p"), continuation(&third)],
        &[ping("p"), binary([first, second, third].concat())],
        &[pong("p")],
    );
}

// Section 5.5: control frames

#[test]
fn s5_5_control_frames_carry_up_to_125_bytes() {
    for len in [0, 1, 124, 125] {
        let payload = pattern(len);
        check(&[ping(&payload)], &[ping(&payload)], &[pong(&payload)]);
        check(&[pong(&payload)], &[pong(&payload)], &[]);
    }
    let reason = "r".repeat(123);
    check(&[close(1000, &reason)], &[], &[close(1000, "")]);
}

#[test]
fn s5_5_control_frames_over_125_bytes_fail() {
    for opcode in [CLOSE, PING, PONG] {
        for payload in [pattern(126), pattern(127), pattern(65_536)] {
            check_fails(&[frame(opcode, payload)], &[], ProtocolError::ControlTooLong);
        }
        for len in [Len::Bits16(5), Len::Bits64(5)] {
            check_fails(&[frame(opcode, "12345").len_as(len)], &[], ProtocolError::ControlTooLong);
        }
    }
}

#[test]
fn s5_5_fragmented_control_frames_fail() {
    for opcode in [CLOSE, PING, PONG] {
        check_fails(&[frame(opcode, "").fin(false)], &[], ProtocolError::FragmentedControl);
        let input = [text("a").fin(false), frame(opcode, "p").fin(false), continuation("b")];
        check_fails(&input, &[], ProtocolError::FragmentedControl);
    }
}

#[test]
fn s5_5_2_each_ping_is_answered_in_order_while_writing_works() {
    let pings: Vec<Frame> = (0..20).map(|i| ping([i])).collect();
    let pongs: Vec<Frame> = (0..20).map(|i| pong([i])).collect();
    check(&pings, &pings, &pongs);
}

#[test]
fn s5_5_2_pong_is_queued_before_the_event_is_seen() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let bytes = join(role, &[ping("p")]);
        connection.recv_space()[..bytes.len()].copy_from_slice(&bytes);
        connection.handle_input(bytes.len(), start());
        assert!(connection.advance());
        assert_eq!(connection.take_message(), None, "a ping is no message");
        assert_eq!(write_frames(&mut connection), [pong("p")]);
    }
}

#[test]
fn s5_5_3_unsolicited_pong_is_not_answered() {
    check(&[pong(""), pong("x"), text("t")], &[pong(""), pong("x"), text("t")], &[]);
}

#[test]
fn s5_5_commands_send_the_frames_they_name() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().ping(&pattern(125)).unwrap();
        connection.sender().pong(b"").unwrap();
        assert_eq!(write_frames(&mut connection), [ping(pattern(125)), pong("")]);
    }
}

// Section 5.7: the examples of the RFC, byte by byte

#[test]
fn s5_7_examples_toward_a_client() {
    let mut long = vec![0x82, 0x7e, 0x01, 0x00]; // binary, 256 in 16 bits
    long.extend(pattern(256));
    let mut longer = vec![0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]; // binary, 65,536 in 64 bits
    longer.extend(pattern(65_536));
    let fragments = [
        [0x01, 0x03, b'H', b'e', b'l'].as_slice(), // text, not final, 3 bytes
        &[0x80, 0x02, b'l', b'o'],                 // continuation, final, 2 bytes
    ]
    .concat();
    let cases: [(&[u8], Frame); 5] = [
        (b"\x81\x05Hello", text("Hello")),
        (&fragments, text("Hello")),
        (b"\x89\x05Hello", ping("Hello")),
        (&long, binary(pattern(256))),
        (&longer, binary(pattern(65_536))),
    ];
    for (bytes, event) in cases {
        let outcome = outcome_of_bytes(Role::Client, &timeless(), bytes, &[0]);
        assert_eq!((outcome.events, outcome.fault), (vec![event], None));
    }
}

#[test]
fn s5_7_examples_toward_a_server() {
    let cases = [
        (0x81, text("Hello")), // text, final
        (0x8a, pong("Hello")), // pong
    ];
    for (first, event) in cases {
        let bytes = [
            first, //
            0x85,  // masked, 5 bytes
            0x37, 0xfa, 0x21, 0x3d, // key
            0x7f, 0x9f, 0x4d, 0x51, 0x58, // "Hello", masked
        ];
        let outcome = outcome_of_bytes(Role::Server, &timeless(), &bytes, &[0]);
        assert_eq!((outcome.events, outcome.fault), (vec![event], None));
    }
}

// What the sending half refuses

#[test]
fn s5_4_other_messages_wait_for_the_last_fragment() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        let sender = connection.sender();
        sender.send_fragment(b"1".into(), false).unwrap();
        let before = sender.buffered_amount();
        assert_eq!(sender.send_text("x"), Err(SendError::InFragment));
        assert_eq!(sender.send_binary(b"x"), Err(SendError::InFragment));
        assert_eq!(sender.send(&"x".into()), Err(SendError::InFragment));
        assert_eq!(sender.send_prepared(&Prepared::new("x")), Err(SendError::InFragment));
        assert_eq!(sender.buffered_amount(), before, "nothing changed");
        sender.ping(b"").unwrap();
        sender.send_fragment(b"".into(), false).unwrap();
        sender.send_fragment(b"2".into(), true).unwrap();
        sender.send_text("free").unwrap();
        assert_eq!(
            write_frames(&mut connection),
            [binary("1").fin(false), ping(""), continuation("").fin(false), continuation("2"), text("free")]
        );
    }
}

#[test]
fn s5_6_text_is_not_continued_by_bytes() {
    // A text message of any bytes would break section 8.1.
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let sender = connection.sender();
        sender.send_fragment("text".into(), false).unwrap();
        let before = sender.buffered_amount();
        assert!(sender.send_fragment(b"\xff".into(), true).is_err());
        assert_eq!(sender.buffered_amount(), before, "nothing changed");
        sender.send_fragment(" goes on".into(), true).unwrap();
        assert_eq!(write_frames(&mut connection), [text("text").fin(false), continuation(" goes on")]);
    }
}

// Events

#[test]
fn s6_2_an_event_is_lent_until_the_next_advance() {
    for role in ROLES {
        for payload in [pattern(5), pattern(100_000)] {
            let mut connection = connection(role, &timeless()).with_leftover(&join(role, &[text("hi")]));
            assert_eq!(connection.event(), None, "nothing was asked for");
            assert!(connection.advance());
            assert_eq!(connection.event(), connection.event());
            assert!(!connection.advance());
            assert_eq!(connection.event(), None);
            assert_eq!(connection.take_message(), None);

            let mut connection = pair::connection(role, &timeless());
            let bytes = join(role, &[binary(&payload), text("next")]);
            let mut messages = Vec::new();
            feed_machine(&mut connection, &bytes, start(), |connection| {
                while connection.advance() {
                    messages.extend(connection.take_message());
                    assert!(connection.take_message().is_none_or(|message| messages.contains(&message)));
                }
            });
            assert_eq!(messages, [Message::from(payload), Message::from("next")]);
        }
    }
}

#[test]
fn s6_2_answer_is_made_from_the_lent_payload() {
    for role in ROLES {
        let input = [text("a"), binary("b"), binary(pattern(100_000))];
        let mut connection = connection(role, &timeless());
        feed_machine(&mut connection, &join(role, &input), start(), |connection| {
            while connection.advance() {
                let (event, sender) = connection.split_mut();
                match event.expect("advance found an event") {
                    ws_proto::Event::Text(payload) => sender.send_text(payload).unwrap(),
                    ws_proto::Event::Binary(payload) => sender.send_binary(payload).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(write_frames(&mut connection), input);
    }
}

/// Bytes whose order shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}
