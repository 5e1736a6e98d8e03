//! RFC 6455 section 7, with sections 5.5.1 and 7.4: how connections end.

mod pair;

use pair::*;
use ws_proto::{
    CloseCode, Closed, Config, Connection, Fault, Initiator, Machine, Prepared, ProtocolError, Role,
    SendError, Timer,
};

// The peer closes first

#[test]
fn s7_1_5_code_is_echoed_and_the_reason_reported() {
    for (reason, code) in [("", 1000), ("bye", 1001), ("κόσμε", 3000), ("x", 4999)] {
        for outcome in outcomes(&timeless(), &[close(code, reason)]) {
            assert_eq!(outcome.frames().len(), 1);
            assert_eq!(outcome.frames()[0].close_code(), Some(code));
            assert_closed(&outcome.closed, code, reason, true, Initiator::Peer);
            assert_eq!(outcome.last_fault, None);
        }
    }
}

#[test]
fn s5_5_1_close_without_code_is_answered_without_code() {
    for outcome in outcomes(&timeless(), &[close_without_code()]) {
        assert_eq!(outcome.frames(), [close_without_code()]);
        assert_closed(&outcome.closed, 1005, "", true, Initiator::Peer);
        assert_eq!(outcome.last_fault, None);
    }
}

#[test]
fn s5_5_1_close_of_one_byte_fails() {
    check_fails(&[frame(CLOSE, [3])], &[], ProtocolError::ClosePayload);
}

#[test]
fn s7_4_codes_that_may_travel_are_taken() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
        check(&[close(code, "")], &[], &[close(code, "")]);
    }
    for code in [3000, 3001, 3999, 4000, 4999] {
        check(&[close(code, "")], &[], &[close(code, "")]);
    }
}

#[test]
fn s7_4_codes_that_must_not_travel_fail() {
    // The first and last of each range that is not for the wire (sections 7.4.1 and 7.4.2).
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535] {
        check_fails(&[close(code, "reason")], &[], ProtocolError::CloseCode(code));
    }
}

#[test]
fn s8_1_reason_that_is_not_utf8_fails() {
    for reason in [&b"\xff"[..], b"ok\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"] {
        check_fails(&[close(1000, reason)], &[], ProtocolError::InvalidUtf8);
    }
}

#[test]
fn s5_5_1_nothing_behind_the_close_counts() {
    check(
        &[text("before"), close(1000, ""), text("after"), ping("p"), frame(3, "").rsv(7), close(1002, "")],
        &[text("before")],
        &[close(1000, "")],
    );
    // Nor does what is no frame at all.
    for role in ROLES {
        let bytes = [join(role, &[close(1000, "")]), b"\x00garbage\xff".repeat(10)].concat();
        let outcome = outcome_of_bytes(role, &timeless(), &bytes, &[0]);
        assert_eq!((outcome.frames(), outcome.last_fault), (vec![close(1000, "")], None));
        assert!(outcome.closed.clean);
    }
}

#[test]
fn s5_5_1_answer_leaves_behind_what_was_queued() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("queued").unwrap();
        feed_frames(&mut connection, &[ping("p"), close(1000, "")]);
        assert_eq!(write_frames(&mut connection), [text("queued"), pong("p"), close(1000, "")]);
    }
}

// This side closes first

#[test]
fn s7_1_2_close_frame_leaves_behind_what_was_sent() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("first").unwrap();
        connection.close(CloseCode::GOING_AWAY, "bye").unwrap();
        assert_eq!(write_frames(&mut connection), [text("first"), close(1001, "bye")]);
        assert!(connection.wants_read() && !connection.wants_shutdown() && !connection.is_ended());
        assert_eq!((connection.closed(), connection.fault()), (None, None));
    }
}

#[test]
fn s5_5_1_close_may_carry_no_code() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close_without_code();
        assert_eq!(write_frames(&mut connection), [close_without_code()]);
    }
}

#[test]
fn s5_5_1_nothing_is_sent_behind_the_close() {
    for role in ROLES {
        for fragment in [false, true] {
            let mut connection = connection(role, &timeless());
            if fragment {
                connection.sender().send_fragment("open".into(), false).unwrap();
            }
            connection.close(CloseCode::NORMAL, "").unwrap();
            let before = connection.buffered_amount();
            assert_sends_nothing(&mut connection);
            assert_eq!(connection.buffered_amount(), before);
            assert_eq!(write_frames(&mut connection).pop(), Some(close(1000, "")));
            assert_sends_nothing(&mut connection);
        }
    }
}

#[test]
fn s5_5_1_nothing_is_sent_after_the_peers_close() {
    for role in ROLES {
        for input in [close(1000, ""), text("").rsv(1)] {
            let mut connection = connection(role, &timeless());
            feed_frames(&mut connection, &[input]);
            assert_sends_nothing(&mut connection);
            assert_eq!(write_frames(&mut connection).len(), 1);
        }
    }
}

#[test]
fn s7_1_closing_twice_changes_nothing() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close(CloseCode::NORMAL, "first").unwrap();
        connection.close(CloseCode::GOING_AWAY, "second").unwrap();
        connection.close_without_code();
        assert_eq!(write_frames(&mut connection), [close(1000, "first")]);
        // The peer's Close ends it, and there is still nothing to add.
        feed_frames(&mut connection, &[close(1000, "")]);
        connection.close(CloseCode::NORMAL, "third").unwrap();
        assert_eq!(write_frames(&mut connection), []);
    }
}

#[test]
fn s7_4_close_refuses_what_must_not_travel() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            assert_eq!(connection.close(code.into(), ""), Err(SendError::CloseCode(code)));
        }
        let too_long = connection.close(CloseCode::NORMAL, &"x".repeat(124));
        assert_eq!(too_long, Err(SendError::ControlTooLong { len: 124 }));
        assert_eq!(connection.buffered_amount(), 0, "nothing changed");
        connection.sender().send_text("still open").unwrap();
        connection.close(CloseCode::NORMAL, &"x".repeat(123)).unwrap();
        assert_eq!(write_frames(&mut connection), [text("still open"), close(1000, "x".repeat(123))]);
    }
}

#[test]
fn s7_1_2_messages_arrive_until_the_peers_close() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close(CloseCode::NORMAL, "").unwrap();
        write_all(&mut connection);
        let input = [text("a").fin(false), continuation("b"), binary("c"), pong("d"), close(1000, "done")];
        assert_eq!(feed_frames(&mut connection, &input), [text("ab"), binary("c"), pong("d")]);
        assert_eq!(write_frames(&mut connection), [], "the Close was sent already");
        feed_eof(&mut connection);
        assert_closed(connection.closed().unwrap(), 1000, "done", true, Initiator::Local);
        assert_eq!(connection.fault(), None);
    }
}

#[test]
fn s5_5_2_ping_behind_our_close_is_answered_until_the_peers_close() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(write_frames(&mut connection), [close(1000, "")]);
        assert_eq!(feed_frames(&mut connection, &[ping("p")]), [ping("p")]);
        assert_eq!(write_frames(&mut connection), [pong("p")]);
        assert_eq!(feed_frames(&mut connection, &[close(1000, ""), ping("q")]), []);
        assert_eq!(write_frames(&mut connection), []);
    }
}

#[test]
fn s7_1_7_fault_behind_our_close_is_no_second_close() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close(CloseCode::NORMAL, "").unwrap();
        feed_frames(&mut connection, &[text("x").rsv(1), text("y")]);
        assert_eq!(write_frames(&mut connection), [close(1000, "")]);
        assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::ReservedBits)));
        assert!(connection.wants_shutdown());
        feed_eof(&mut connection);
        assert_closed(connection.closed().unwrap(), 1006, "", false, Initiator::Local);
    }
}

// Who closes TCP (section 7.1.1)

#[test]
fn s7_1_1_server_closes_tcp_first_after_the_peers_close() {
    let mut server = connection(Role::Server, &timeless());
    feed_frames(&mut server, &[close(1000, "")]);
    assert!(!server.wants_shutdown(), "the answer is not written");
    write_all(&mut server);
    assert!(server.wants_shutdown() && !server.is_ended() && server.wants_read());
    feed_eof(&mut server);
    assert!(server.is_ended());
}

#[test]
fn s7_1_1_server_closes_tcp_first_after_its_own_close() {
    let mut server = connection(Role::Server, &timeless());
    server.close(CloseCode::NORMAL, "").unwrap();
    write_all(&mut server);
    assert!(!server.wants_shutdown(), "the peer's Close is awaited");
    feed_frames(&mut server, &[close(1000, "")]);
    assert!(server.wants_shutdown() && !server.is_ended());
}

#[test]
fn s7_1_1_client_waits_for_the_server_to_close_tcp() {
    for own in [false, true] {
        let mut client = connection(Role::Client, &timeless());
        if own {
            client.close(CloseCode::NORMAL, "").unwrap();
        }
        feed_frames(&mut client, &[close(1000, "")]);
        write_all(&mut client);
        assert!(!client.wants_shutdown() && !client.is_ended() && client.wants_read());
        feed_eof(&mut client);
        assert!(client.wants_shutdown() && client.is_ended());
    }
}

#[test]
fn s7_1_7_either_side_closes_tcp_after_a_fault() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_frames(&mut connection, &[text("").rsv(1)]);
        assert!(!connection.wants_shutdown(), "the Close frame is not written");
        write_all(&mut connection);
        assert!(connection.wants_shutdown() && !connection.is_ended() && connection.wants_read());
    }
}

// The end of TCP in every state (sections 7.1.4 to 7.1.6)

#[test]
fn s7_1_5_eof_while_open_is_abnormal() {
    let in_a_header = &join(Role::Server, &[text("x")])[..1];
    let in_a_key = &join(Role::Server, &[text("x")])[..4];
    let in_a_payload = &join(Role::Server, &[text("xyz")])[..7];
    let in_a_message = &join(Role::Server, &[text("xyz").fin(false)])[..];
    for bytes in [b"", in_a_header, in_a_key, in_a_payload, in_a_message] {
        let outcome = outcome_of_bytes(Role::Server, &timeless(), bytes, &[0]);
        assert!(outcome.events.is_empty() && outcome.output.is_empty() && !outcome.shutdown);
        assert_closed(&outcome.closed, 1006, "", false, Initiator::Peer);
        assert_eq!((outcome.fault, outcome.last_fault), (None, Some(Fault::Abnormal)));
    }
    for outcome in outcomes(&timeless(), &[text("whole")]) {
        assert_closed(&outcome.closed, 1006, "", false, Initiator::Peer);
        assert_eq!(outcome.last_fault, Some(Fault::Abnormal));
    }
}

#[test]
fn s7_1_4_what_came_before_eof_still_counts() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let bytes = join(role, &[text("a"), text("b"), close(1000, "")]);
        connection.recv_space()[..bytes.len()].copy_from_slice(&bytes);
        connection.handle_input(bytes.len(), start());
        connection.handle_eof(start());
        assert!(!connection.is_ended(), "nothing was looked at");
        assert_eq!(feed(&mut connection, b""), [text("a"), text("b")]);
        assert_eq!(write_frames(&mut connection), [close(1000, "")]);
        assert_closed(connection.closed().unwrap(), 1000, "", true, Initiator::Peer);
    }
}

#[test]
fn s7_1_5_eof_after_our_close_is_abnormal_and_ours() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.close(CloseCode::NORMAL, "").unwrap();
        write_all(&mut connection);
        feed_eof(&mut connection);
        assert_closed(connection.closed().unwrap(), 1006, "", false, Initiator::Local);
        assert_eq!(connection.fault(), Some(Fault::Abnormal));
    }
}

#[test]
fn s7_1_4_eof_waits_for_output_that_the_peer_may_still_read() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("last words").unwrap();
        feed_eof(&mut connection);
        assert!(!connection.is_ended() && !connection.wants_read() && !connection.wants_shutdown());
        assert_eq!(connection.closed(), None);
        assert_eq!(write_frames(&mut connection), [text("last words")]);
        assert!(connection.is_ended() && connection.wants_shutdown());
        assert_closed(connection.closed().unwrap(), 1006, "", false, Initiator::Peer);
    }
}

#[test]
fn s7_1_4_eof_twice_is_one_eof() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_eof(&mut connection);
        let closed = connection.closed().cloned();
        feed_eof(&mut connection);
        assert_eq!(connection.closed().cloned(), closed);
    }
}

#[test]
fn s7_1_commands_after_the_end_change_nothing() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_eof(&mut connection);
        assert_sends_nothing(&mut connection);
        connection.close(CloseCode::NORMAL, "").unwrap();
        assert!(connection.is_ended());
        assert_eq!(connection.buffered_amount(), 0, "nothing can be told any more");
    }
}

// Writing fails

#[test]
fn s7_1_after_a_write_error_what_comes_is_still_read() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("lost").unwrap();
        connection.handle_write_error(start());
        assert_eq!(connection.buffered_amount(), 0);
        assert_sends_nothing(&mut connection);
        let input = [text("heard"), ping("p"), close(1000, "why")];
        assert_eq!(feed_frames(&mut connection, &input), [text("heard"), ping("p")]);
        assert_eq!(write_frames(&mut connection), []);
        feed_eof(&mut connection);
        let closed = connection.closed().unwrap();
        assert_eq!((closed.code.get(), &*closed.reason), (1000, "why"));
    }
}

#[test]
fn s7_1_4_a_close_that_could_not_be_answered_is_not_clean() {
    // `Closed::clean`: whether a Close frame was both sent and received.
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.handle_write_error(start());
        feed_frames(&mut connection, &[close(1000, "")]);
        feed_eof(&mut connection);
        assert!(!connection.closed().unwrap().clean, "{role:?} sent no Close frame");
    }
}

// Deadlines

#[test]
fn s7_1_1_close_deadline_ends_every_state() {
    type Step = fn(&mut Connection);
    type End = (u16, bool, Initiator);
    let close_first: Step = |connection| connection.close(CloseCode::NORMAL, "").unwrap();
    let peer_closes: Step = |connection| drop(feed_frames(connection, &[close(1001, "gone")]));
    let fault: Step = |connection| drop(feed_frames(connection, &[text("").rsv(1)]));
    let protocol = Some(Fault::Protocol(ProtocolError::ReservedBits));
    let timeout = Some(Fault::Timeout(Timer::Close));
    let cases: [(&[Step], End, Option<Fault>); 5] = [
        (&[close_first], (1006, false, Initiator::Local), timeout),
        (&[peer_closes], (1001, true, Initiator::Peer), None),
        (&[close_first, peer_closes], (1001, true, Initiator::Local), None),
        (&[fault], (1006, false, Initiator::Peer), protocol),
        (&[close_first, fault], (1006, false, Initiator::Local), protocol),
    ];
    for role in ROLES {
        for &(steps, end, fault) in &cases {
            let mut connection = connection(role, &Config::default());
            steps.iter().for_each(|step| step(&mut connection));
            write_all(&mut connection);
            assert_eq!(deadline(&mut connection, at(0)), Some((secs(10), Timer::Close)));
            assert_eq!(deadline(&mut connection, at(6)), Some((secs(10), Timer::Close)), "it runs once");
            connection.handle_timeout(at_ms(9_999));
            assert!(!connection.is_ended());
            connection.handle_timeout(at(10));
            assert!(connection.is_ended() && connection.wants_shutdown());
            let closed = connection.closed().unwrap();
            assert_eq!((closed.code.get(), closed.clean, closed.initiator), end);
            assert_eq!(connection.fault(), fault);
            assert_eq!(connection.poll_timeout(at(10)), None);
        }
    }
}

#[test]
fn s7_1_1_one_close_deadline_runs_from_the_first_step_to_the_last() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.close(CloseCode::NORMAL, "").unwrap();
        write_all(&mut connection);
        assert_eq!(deadline(&mut connection, at(0)), Some((secs(10), Timer::Close)));
        feed_at(&mut connection, &join(role, &[text("x"), ping(""), close(1000, "")]), at(9));
        assert_eq!(deadline(&mut connection, at(9)), Some((secs(10), Timer::Close)));
    }
}

#[test]
fn s7_1_5_eof_with_output_that_nobody_takes_ends_by_the_close_deadline_of_the_peer() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.sender().send_text("stuck").unwrap();
        feed_eof(&mut connection);
        let (when, _) = deadline(&mut connection, at(0)).expect("something bounds the wait");
        connection.handle_timeout(start() + when);
        assert!(connection.is_ended());
        // `Initiator::Peer`: by its Close frame, by breaking the protocol, or by closing TCP.
        assert_closed(connection.closed().unwrap(), 1006, "", false, Initiator::Peer);
    }
}

// Two connections

#[test]
fn s7_1_pair_closes_cleanly_whoever_begins() {
    for role in ROLES {
        for latency in [0, 1, 100] {
            let mut pair = Pair::new(&Config::default()).with_latency(secs(latency) / 1000);
            pair.end(role).connection.sender().send_text("before").unwrap();
            pair.end(role).connection.close(CloseCode::GOING_AWAY, "bye").unwrap();
            pair.settle();
            pair.assert_over();
            for end in [&pair.server, &pair.client] {
                let connection = &end.connection;
                let (initiator, reason) =
                    if connection.role() == role { (Initiator::Local, "") } else { (Initiator::Peer, "bye") };
                assert_closed(connection.closed().unwrap(), 1001, reason, true, initiator);
                assert_eq!(connection.fault(), None);
            }
        }
    }
}

#[test]
fn s7_1_both_sides_close_at_once() {
    let mut pair = Pair::new(&Config::default()).with_latency(secs(1)).with_chunks(&[1], &[1]);
    pair.server.connection.close(CloseCode::GOING_AWAY, "server").unwrap();
    pair.client.connection.close(CloseCode::NORMAL, "client").unwrap();
    pair.settle();
    pair.assert_over();
    assert_closed(pair.server.connection.closed().unwrap(), 1000, "client", true, Initiator::Local);
    assert_closed(pair.client.connection.closed().unwrap(), 1001, "server", true, Initiator::Local);
}

#[test]
fn s7_1_data_crosses_the_close() {
    let mut pair = Pair::new(&Config::default()).with_latency(secs(1));
    pair.server.connection.close(CloseCode::NORMAL, "").unwrap();
    pair.client.connection.sender().send_text("on its way").unwrap();
    pair.settle();
    pair.assert_over();
    assert_eq!(pair.server.events, [text("on its way")]);
    assert!(pair.server.connection.closed().unwrap().clean);
}

#[test]
fn s7_1_1_peer_that_never_answers_is_left_after_the_deadline() {
    for role in ROLES {
        let mut pair = Pair::new(&Config::default());
        let peer = if role == Role::Server { Role::Client } else { Role::Server };
        pair.end(peer).link.blocked = true;
        pair.end(role).connection.close(CloseCode::NORMAL, "").unwrap();
        pair.run_for(secs(9));
        assert!(!pair.end(role).connection.is_ended());
        pair.run_for(secs(1));
        let connection = &pair.end(role).connection;
        assert_eq!(connection.fault(), Some(Fault::Timeout(Timer::Close)));
        assert_closed(connection.closed().unwrap(), 1006, "", false, Initiator::Local);
    }
}

#[track_caller]
fn assert_closed(closed: &Closed, code: u16, reason: &str, clean: bool, initiator: Initiator) {
    assert_eq!(
        (closed.code.get(), &*closed.reason, closed.clean, closed.initiator),
        (code, reason, clean, initiator)
    );
}

#[track_caller]
fn assert_sends_nothing(connection: &mut Connection) {
    let sender = connection.sender();
    assert!(!sender.is_open());
    assert_eq!(sender.send_text("x"), Err(SendError::Closed));
    assert_eq!(sender.send_binary(b"x"), Err(SendError::Closed));
    assert_eq!(sender.send(&"x".into()), Err(SendError::Closed));
    assert_eq!(sender.send_prepared(&Prepared::new("x")), Err(SendError::Closed));
    assert_eq!(sender.send_fragment("x".into(), true), Err(SendError::Closed));
    assert_eq!(sender.ping(b""), Err(SendError::Closed));
    assert_eq!(sender.pong(b""), Err(SendError::Closed));
}
