//! Output that the socket takes in pieces or not at all: what leaves is always whole frames, in order.

mod pair;

use pair::*;
use ws_proto::{Bytes, CloseCode, Config, Connection, Machine, Message, Prepared, Role};

// Any consume pattern

#[test]
fn any_pattern_of_writes_gives_the_same_bytes() {
    for role in ROLES {
        let mut whole = connection(role, &timeless());
        queue_everything(&mut whole);
        let expected = write_all(&mut whole);
        assert_eq!(frames(role, &expected), everything());
        let patterns = [
            (&[1][..], 2),
            (&[3, 1], 1),
            (&[7, 1000], 3),
            (&[7, 1000], 16),
            (&[16_383, 16_384, 16_385], 2),
            (&[65_536], 16),
            (&[100_000], 16),
        ];
        for (pattern, slices) in patterns {
            let mut connection = connection(role, &timeless());
            queue_everything(&mut connection);
            assert_eq!(connection.buffered_amount(), expected.len());
            let output = write_by(&mut connection, pattern, slices);
            assert!(output == expected, "{role:?}, {pattern:?}, {slices} slices");
            assert_eq!(connection.buffered_amount(), 0);
        }
    }
}

#[test]
fn sockets_without_vectored_writes_get_all_in_one_slice() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.set_vectored(false);
        queue_everything(&mut connection);
        let output = write_some(&mut connection, usize::MAX, 16);
        assert_eq!(connection.buffered_amount(), 0, "nothing is left");
        assert_eq!(frames(role, &output), everything());
    }
}

#[test]
fn output_is_lent_until_it_is_consumed() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("same").unwrap();
        let first = write_some(&mut connection, 0, 1);
        assert_eq!(first, b"");
        let before = connection.buffered_amount();
        connection.consume(0);
        assert_eq!(connection.buffered_amount(), before);
        assert_eq!(write_frames(&mut connection), [text("same")]);
    }
}

#[test]
fn wants_write_until_the_last_byte_is_consumed() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        assert!(!connection.wants_write());
        queue_everything(&mut connection);
        while connection.buffered_amount() > 0 {
            assert!(connection.wants_write());
            assert_ne!(write_some(&mut connection, 1000, 1), b"");
        }
        assert!(!connection.wants_write());
    }
}

#[test]
#[should_panic]
fn consume_of_more_than_is_pending_panics() {
    let mut connection = connection(Role::Server, &timeless());
    connection.sender().send_text("x").unwrap();
    connection.consume(4);
}

#[test]
#[should_panic]
fn handle_input_of_more_than_the_space_panics() {
    let mut connection = connection(Role::Server, &timeless());
    let len = connection.recv_space().len() + 1;
    connection.handle_input(len, start());
}

// Shared payloads

#[test]
fn large_messages_of_a_server_leave_where_they_are() {
    let payload = Bytes::from(vec![5; 1 << 20]);
    let mut server = connection(Role::Server, &Config { high_water: usize::MAX, ..timeless() });
    for _ in 0..3 {
        server.sender().send(&Message::Binary(payload.clone())).unwrap();
    }
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let count = server.output(&mut slices);
    let uncopied = slices[..count].iter().filter(|slice| slice.as_ptr() == payload.as_ptr()).count();
    assert_eq!(uncopied, 3);
    assert_eq!(write_frames(&mut server), vec![binary(&payload); 3]);
}

#[test]
fn messages_around_the_threshold_of_sharing_are_the_same_bytes() {
    let threshold = 16 * 1024;
    for role in ROLES {
        for len in [threshold - 1, threshold, threshold + 1] {
            let payload = vec![b'm'; len];
            let message = Message::Binary(payload.clone().into());
            let mut connection = connection(role, &timeless());
            for _ in 0..3 {
                connection.sender().send_text("small").unwrap();
                connection.sender().send(&message).unwrap();
                connection.sender().send(&message).unwrap();
            }
            let round = [text("small"), binary(&payload), binary(&payload)];
            let output = write_by(&mut connection, &[1000, 1, 20_000], 4);
            assert!(
                frames(role, &output) == [round.clone(), round.clone(), round].concat(),
                "{role:?} {len}"
            );
        }
    }
}

#[test]
fn prepared_messages_are_the_same_bytes_as_plain_ones() {
    for role in ROLES {
        for len in [0, 1, 125, 126, 16_383, 16_384, 65_535, 65_536, 200_000] {
            let payload = "p".repeat(len);
            let messages = [Message::from(payload.as_str()), Message::from(payload.as_bytes())];
            for message in messages {
                let [mut plain, mut by_ref, mut prepared] = [(); 3].map(|()| connection(role, &timeless()));
                match &message {
                    Message::Text(text) => plain.sender().send_text(text).unwrap(),
                    Message::Binary(payload) => plain.sender().send_binary(payload).unwrap(),
                }
                by_ref.sender().send(&message).unwrap();
                let encoded = Prepared::new(message);
                assert_eq!((encoded.len(), encoded.is_empty()), (len, len == 0));
                prepared.sender().send_prepared(&encoded).unwrap();
                let expected = write_all(&mut plain);
                assert!(write_all(&mut by_ref) == expected, "{role:?} {len}");
                assert!(write_all(&mut prepared) == expected, "{role:?} {len}");
            }
        }
    }
}

#[test]
fn s5_3_client_masks_a_prepared_message_anew_each_time() {
    let news = Prepared::new("the same for all");
    let mut client = connection(Role::Client, &timeless());
    for _ in 0..10 {
        client.sender().send_prepared(&news).unwrap();
    }
    let mut keys = keys(&write_all(&mut client));
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 10);
}

// Pongs while writing is blocked (section 5.5.3)

#[test]
fn s5_5_3_only_the_newest_pong_is_kept_while_blocked() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("queued").unwrap();
        write_some(&mut connection, 1, 1);
        block(&mut connection);
        for i in 0..100 {
            assert_eq!(feed_frames(&mut connection, &[ping([i])]), [ping([i])]);
        }
        let output = write_rest(&mut connection, role, "queued");
        assert_eq!(output, [text("queued"), pong([99])]);
    }
}

#[test]
fn s5_5_3_pong_overtakes_queued_data_and_never_splits_a_frame() {
    for role in ROLES {
        let header = if role == Role::Server { 2 } else { 6 };
        let frame_len = header + 5;
        // Wherever inside or between frames the socket stopped.
        for taken in 0..=3 * frame_len {
            for shared in [false, true] {
                let mut connection = connection(role, &timeless());
                for message in ["first", "other", "third"] {
                    connection.sender().send_text(message).unwrap();
                }
                if shared {
                    connection.sender().send(&large()).unwrap();
                }
                connection.sender().send_text("last").unwrap();
                let mut output = write_some(&mut connection, taken, 16);
                block(&mut connection);
                feed_frames(&mut connection, &[ping("old"), ping("new")]);
                output.extend(write_by(&mut connection, &[1, 3, 10_000], 16));
                let mut expected = vec![text("first"), text("other"), text("third")];
                expected.extend(shared.then(|| large().into()));
                expected.push(text("last"));
                // Behind the frame that had begun to leave.
                expected.insert(taken.div_ceil(frame_len), pong("new"));
                let output = frames(role, &output);
                let pongs = output.iter().filter(|frame| frame.opcode == PONG).count();
                if taken % frame_len == 0 && pongs == 2 {
                    // Between frames the first pong begins at once, and the newest follows it.
                    expected.insert(taken / frame_len, pong("old"));
                }
                assert_eq!(output, expected, "{taken} bytes were taken, {role:?}");
            }
        }
    }
}

#[test]
fn s5_5_3_pong_waits_for_the_end_of_a_shared_payload() {
    let mut server = connection(Role::Server, &timeless());
    server.sender().send(&large()).unwrap();
    server.sender().send_text("behind").unwrap();
    let expected = [large().into(), pong("p"), text("behind")];
    for taken in [1, 3, 4, 5, 1000, 39_999] {
        let mut server = connection(Role::Server, &timeless());
        server.sender().send(&large()).unwrap();
        server.sender().send_text("behind").unwrap();
        let mut output = write_some(&mut server, taken, 1);
        while output.len() < taken {
            output.extend(write_some(&mut server, taken - output.len(), 1));
        }
        block(&mut server);
        feed_frames(&mut server, &[ping("p")]);
        output.extend(write_by(&mut server, &[777], 2));
        assert_eq!(frames(Role::Server, &output), expected, "{taken} bytes were taken");
    }
}

#[test]
fn s5_5_3_blocked_writer_answers_at_most_two_pings() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("first").unwrap();
        connection.sender().send_text("second").unwrap();
        block(&mut connection);
        for i in 0..50 {
            feed_frames(&mut connection, &[ping([i]), text("and data"), ping([i, i])]);
            block(&mut connection);
        }
        let output = write_frames(&mut connection);
        let pongs: Vec<&Frame> = output.iter().filter(|frame| frame.opcode == PONG).collect();
        assert!((1..=2).contains(&pongs.len()), "{pongs:?}");
        assert_eq!(*pongs[pongs.len() - 1], pong([49, 49]), "the newest is among them, and last");
        let data: Vec<&Frame> = output.iter().filter(|frame| frame.opcode != PONG).collect();
        assert_eq!(data, [&text("first"), &text("second")]);
    }
}

#[test]
fn s5_5_2_each_ping_is_answered_again_once_writing_works() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("stuck").unwrap();
        block(&mut connection);
        feed_frames(&mut connection, &[ping("1"), ping("2")]);
        write_all(&mut connection);
        feed_frames(&mut connection, &[ping("3"), ping("4"), ping("5")]);
        assert_eq!(write_frames(&mut connection), [pong("3"), pong("4"), pong("5")]);
    }
}

#[test]
fn s5_5_1_close_leaves_behind_the_waiting_pong() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("queued").unwrap();
        write_some(&mut connection, 1, 1);
        block(&mut connection);
        feed_frames(&mut connection, &[ping("1"), ping("2")]);
        connection.close(CloseCode::NORMAL, "").unwrap();
        let output = write_rest(&mut connection, role, "queued");
        assert_eq!(output, [text("queued"), pong("2"), close(1000, "")]);
    }
}

// Reading never waits for writing

#[test]
fn reading_goes_on_while_writing_is_blocked() {
    for role in ROLES {
        let mut connection = connection(role, &Config { high_water: 1, ..timeless() });
        connection.sender().send_text("stuck").unwrap();
        block(&mut connection);
        for _ in 0..100 {
            assert!(connection.wants_read());
            assert_eq!(feed_frames(&mut connection, &[text("read")]), [text("read")]);
        }
    }
}

#[test]
fn not_asking_for_events_is_backpressure() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let message = join(role, &[binary([1; 1000])]);
        let mut taken = 0;
        while connection.wants_read() {
            let len = connection.recv_space().len().min(message.len());
            assert_eq!(len, message.len(), "there is room for a small message while reading is wanted");
            connection.recv_space()[..len].copy_from_slice(&message);
            connection.handle_input(len, start());
            taken += 1;
            assert!(taken < 1000, "reading stops");
        }
        // Nothing was lost.
        let events = feed(&mut connection, b"");
        assert_eq!(events.len(), taken);
        assert!(connection.wants_read());
    }
}

#[test]
fn pair_carries_everything_through_narrow_links() {
    let chunks: [&[usize]; 4] = [&[1], &[3, 1, 7], &[1000, 1], &[]];
    for to_client in chunks {
        for to_server in chunks {
            let mut pair = Pair::new(&timeless()).with_chunks(to_client, to_server).with_latency(secs(1));
            for role in ROLES {
                let connection = &mut pair.end(role).connection;
                connection.sender().send_text("first").unwrap();
                connection.sender().send_binary(&[1; 3000]).unwrap();
                connection.sender().send(&large()).unwrap();
                connection.sender().ping(b"p").unwrap();
                connection.sender().send_text("last").unwrap();
            }
            pair.settle();
            for end in [&pair.server, &pair.client] {
                let (pongs, rest): (Vec<_>, _) =
                    end.events.iter().cloned().partition(|frame| frame.opcode == PONG);
                assert_eq!(pongs, [pong("p")]);
                assert_eq!(rest, [text("first"), binary([1; 3000]), large().into(), ping("p"), text("last")]);
            }
        }
    }
}

// Helpers

fn large() -> Message {
    Message::from(vec![b'L'; 40_000])
}

fn queue_everything(connection: &mut Connection) {
    let sender = connection.sender();
    sender.send_text("text").unwrap();
    sender.send(&large()).unwrap();
    sender.send(&large()).unwrap();
    sender.send_fragment("a".into(), false).unwrap();
    sender.ping(b"ping").unwrap();
    sender.send_fragment("b".into(), true).unwrap();
    sender.send_prepared(&Prepared::new(vec![1; 20_000])).unwrap();
    sender.send_prepared(&Prepared::new("prepared")).unwrap();
    sender.send_binary(&[2; 70_000]).unwrap();
    sender.send_text("").unwrap();
    sender.send(&large()).unwrap();
    connection.close(CloseCode::NORMAL, "done").unwrap();
}

/// What [`queue_everything`] queues.
fn everything() -> Vec<Frame> {
    vec![
        text("text"),
        large().into(),
        large().into(),
        text("a").fin(false),
        ping("ping"),
        continuation("b"),
        binary([1; 20_000]),
        text("prepared"),
        binary([2; 70_000]),
        text(""),
        large().into(),
        close(1000, "done"),
    ]
}

/// Writes everything, so many bytes at a time, over and over.
fn write_by(connection: &mut Connection, pattern: &[usize], slices: usize) -> Vec<u8> {
    let mut output = Vec::new();
    for &max in pattern.iter().cycle() {
        let some = write_some(connection, max, slices);
        if some.is_empty() {
            break;
        }
        output.extend(some);
    }
    output
}

/// Everything as frames, where the first byte of the first, a text, was written already.
fn write_rest(connection: &mut Connection, role: Role, first: &str) -> Vec<Frame> {
    let first = text(first).bytes()[0];
    frames(role, &[vec![first], write_all(connection)].concat())
}
