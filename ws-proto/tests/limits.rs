//! Each limit at one less, at itself and at one more, for both roles.

mod pair;

use pair::{
    head::{Parsed, answer, request},
    *,
};
use ws_proto::{
    ClientConfig, CloseCode, Config, Connection, HandshakeError, HeadLimits, Machine, Message, Prepared,
    ProtocolError, Role, SendError, ServerConfig,
    handshake::{ClientHandshake, ServerHandshake, client_request},
};

// Frames and messages of the peer

#[test]
fn s10_4_frame_limit() {
    for limit in [0, 1, 125, 126, 1000, 65_535, 65_536, 100_000] {
        let config = Config { max_frame: limit, ..timeless() };
        for len in [limit.saturating_sub(1), limit] {
            let frame = binary(vec![b'x'; len]);
            check_with(&config, &[frame.clone(), frame.clone()], &[frame.clone(), frame], &[]);
        }
        let error = ProtocolError::FrameTooLong { len: limit as u64 + 1, limit };
        check_fails_with(&config, &[text(""), text(vec![b'x'; limit + 1])], &[text("")], error);
    }
}

#[test]
fn s10_4_frame_limit_holds_for_each_fragment() {
    let config = Config { max_frame: 10, ..timeless() };
    let fragments = [text("0123456789").fin(false), continuation("0123456789")];
    check_with(&config, &fragments, &[text("01234567890123456789")], &[]);
    let fragments = [text("0").fin(false), continuation("0123456789x")];
    check_fails_with(&config, &fragments, &[], ProtocolError::FrameTooLong { len: 11, limit: 10 });
}

#[test]
fn s10_4_message_limit_over_fragments() {
    let limit = 1000;
    let config = Config { max_message: limit, ..timeless() };
    for len in [limit - 1, limit] {
        let whole = binary(vec![1; len]);
        let pieces = [
            binary(vec![1; 400]).fin(false),
            continuation(vec![1; len - 400]).fin(false),
            ping("between"),
            continuation(""),
        ];
        let twice = [pieces.clone(), pieces].concat();
        let events = [ping("between"), whole.clone()];
        check_with(&config, &twice, &[events.clone(), events].concat(), &[pong("between"), pong("between")]);
    }
    let error = ProtocolError::MessageTooLong { limit };
    check_fails_with(&config, &[binary(vec![1; limit + 1])], &[], error);
    let fragments = [binary(vec![1; limit]).fin(false), continuation("").fin(false), continuation("x")];
    check_fails_with(&config, &fragments, &[], error);
}

#[test]
fn s10_4_limits_do_not_count_control_frames() {
    let config = Config { max_message: 4, max_frame: 4, ..timeless() };
    let long = ping("longer than four");
    let pongs = [pong("longer than four"), pong("longer than four"), close(1000, "")];
    check_with(
        &config,
        &[text("ab").fin(false), long.clone(), continuation("cd"), long.clone(), close(1000, "long reason")],
        &[long.clone(), text("abcd"), long],
        &pongs,
    );
}

#[test]
fn s10_4_limits_are_checked_on_the_header() {
    for role in ROLES {
        for len in [100_001, 1 << 32, 1 << 40, (1 << 63) - 1] {
            let config = Config { max_frame: 100_000, ..timeless() };
            let bytes = binary("").len_as(Len::Bits64(len)).toward(role).bytes();
            let outcome = outcome_of_bytes(role, &config, &bytes, &[0]);
            assert_failed(&outcome, &[], ProtocolError::FrameTooLong { len, limit: 100_000 });
            assert_eq!(outcome.frames()[0].close_code(), Some(CloseCode::TOO_BIG.get()));
        }
    }
}

#[test]
fn s10_4_no_limit_is_no_overflow() {
    let config = Config { max_frame: usize::MAX, max_message: usize::MAX, ..timeless() };
    for role in ROLES {
        for (first, second) in [(1_u64 << 40, None), ((1 << 63) - 1, None), (0, Some((1_u64 << 63) - 1))] {
            let mut connection = connection(role, &config);
            let frame = binary("").fin(second.is_none());
            let first = if first == 0 { frame } else { frame.len_as(Len::Bits64(first)) };
            feed(&mut connection, &first.toward(role).bytes());
            if let Some(len) = second {
                feed(&mut connection, &continuation("").len_as(Len::Bits64(len)).toward(role).bytes());
            }
            assert_eq!(feed(&mut connection, &[1; 1000]), []);
            assert_eq!(connection.fault(), None);
            assert!((1..1 << 20).contains(&connection.recv_space().len()), "what was promised is not lent");
        }
    }
}

#[test]
fn s10_4_many_fragments_within_the_limit_are_one_message() {
    let fragment = [b'f'; 64];
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let mut bytes = join(role, &[text(fragment).fin(false)]);
        bytes.extend(join(role, &[continuation(fragment).fin(false)]).repeat(65_534));
        bytes.extend(join(role, &[continuation(fragment)]));
        let events = feed(&mut connection, &bytes);
        assert_eq!(events.len(), 1);
        assert!(events[0] == text(vec![b'f'; 4 * 1024 * 1024]));
    }
}

// The output queue

#[test]
fn high_water_refuses_and_changes_nothing() {
    for role in ROLES {
        // A frame of 10 bytes payload takes 12 bytes, 16 if masked.
        let frame_len = if role == Role::Server { 12 } else { 16 };
        for (spare, second_fits) in [(1, true), (0, false), (-1, false)] {
            let high_water = usize::try_from(frame_len + spare).unwrap();
            let mut connection = connection(role, &Config { high_water, ..timeless() });
            connection.sender().send_text("0123456789").unwrap();
            assert_eq!(connection.sender().is_full(), !second_fits);
            if second_fits {
                connection.sender().send_text("any length, whole").unwrap();
                assert!(connection.sender().is_full());
            }
            let before = connection.buffered_amount();
            assert_refuses_everything(&mut connection);
            assert_eq!(connection.buffered_amount(), before, "nothing changed");
            let mut expected = vec![text("0123456789")];
            expected.extend(second_fits.then(|| text("any length, whole")));
            assert_eq!(write_frames(&mut connection), expected);
            assert!(!connection.sender().is_full());
            connection.sender().send_text("room again").unwrap();
        }
    }
}

#[test]
fn high_water_of_zero_takes_one_message_at_a_time() {
    for role in ROLES {
        let mut connection = connection(role, &Config { high_water: 0, ..timeless() });
        for _ in 0..3 {
            connection.sender().send_text("one").unwrap();
            assert_eq!(connection.sender().send_text("two"), Err(SendError::Full));
            assert_eq!(write_frames(&mut connection), [text("one")]);
        }
    }
}

#[test]
fn high_water_counts_shared_payloads() {
    let mut server = connection(Role::Server, &Config { high_water: 100_000, ..timeless() });
    let message = Message::from(vec![7; 60_000]);
    server.sender().send(&message).unwrap();
    server.sender().send(&message).unwrap();
    assert_eq!(server.sender().send(&message), Err(SendError::Full));
    assert_eq!(server.buffered_amount(), 2 * (4 + 60_000));
    // One byte below the mark is room for a message.
    while server.buffered_amount() >= 100_000 {
        assert!(server.sender().is_full());
        write_some(&mut server, 1000, 16);
    }
    server.sender().send(&message).unwrap();
}

#[test]
fn high_water_does_not_hold_back_close_and_the_newest_pong() {
    for role in ROLES {
        let mut connection = connection(role, &Config { high_water: 1, ..timeless() });
        connection.sender().send_text("full").unwrap();
        feed_frames(&mut connection, &[ping("1"), ping("2"), ping("3")]);
        connection.close(CloseCode::NORMAL, "").unwrap();
        let output = write_frames(&mut connection);
        assert_eq!(output.last(), Some(&close(1000, "")));
        assert!(output.contains(&pong("3")) && output.len() <= 4, "{output:?}");
    }
}

// Control frames

#[test]
fn s5_5_control_payload_limit() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let payload = [7; 127];
        for len in [124, 125] {
            connection.sender().ping(&payload[..len]).unwrap();
            connection.sender().pong(&payload[..len]).unwrap();
            assert_eq!(write_frames(&mut connection), [ping(&payload[..len]), pong(&payload[..len])]);
        }
        for len in [126, 127] {
            assert_eq!(connection.sender().ping(&payload[..len]), Err(SendError::ControlTooLong { len }));
            assert_eq!(connection.sender().pong(&payload[..len]), Err(SendError::ControlTooLong { len }));
        }
        assert_eq!(connection.buffered_amount(), 0, "nothing changed");
    }
}

#[test]
fn s5_5_1_close_reason_limit() {
    for (len, fits) in [(122, true), (123, true), (124, false)] {
        for role in ROLES {
            let mut connection = connection(role, &timeless());
            let reason = "r".repeat(len);
            let result = connection.close(CloseCode::NORMAL, &reason);
            if fits {
                assert_eq!(result, Ok(()));
                assert_eq!(write_frames(&mut connection), [close(1000, &reason)]);
            } else {
                assert_eq!(result, Err(SendError::ControlTooLong { len }));
                assert!(connection.sender().is_open() && connection.buffered_amount() == 0);
            }
        }
    }
}

#[test]
fn s5_5_1_close_reason_is_measured_in_bytes() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let result = connection.close(CloseCode::NORMAL, &"é".repeat(62));
        assert_eq!(result, Err(SendError::ControlTooLong { len: 124 }));
    }
}

#[test]
fn s5_5_3_pongs_per_read() {
    for limit in [0, 1, 5, 64] {
        let config = Config { max_pongs_per_read: limit, ..timeless() };
        for role in ROLES {
            for count in [limit.saturating_sub(1), limit, limit + 1, limit + 10] {
                let mut connection = connection(role, &config);
                let pings: Vec<Frame> = (0..count).map(|i| ping([i as u8])).collect();
                for _ in 0..2 {
                    // Each read has a fresh allowance; past it only the newest ping is answered.
                    assert_eq!(feed_frames(&mut connection, &pings), pings);
                    let answered = (0..count.min(limit)).chain((count > limit).then(|| count - 1));
                    let pongs: Vec<Frame> = answered.map(|i| pong([i as u8])).collect();
                    assert_eq!(
                        write_frames(&mut connection),
                        pongs,
                        "{count} pings, limit {limit}, {role:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn s5_5_3_a_flood_of_pings_cannot_fill_the_queue() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        block(&mut connection);
        for _ in 0..1000 {
            feed_frames(&mut connection, &vec![ping([0; 125]); 100]);
            connection.poll_timeout(start());
        }
        // One read's worth at most, and the newest.
        assert!(connection.buffered_amount() <= 66 * 131, "{}", connection.buffered_amount());
    }
}

// Heads

#[test]
fn s9112_2_3_head_length_limit_of_a_server() {
    let bytes = request().bytes();
    for (max_len, fits) in [(bytes.len() + 1, true), (bytes.len(), true), (bytes.len() - 1, false)] {
        for reads in [bytes.len(), 1] {
            let error = serve(HeadLimits { max_len, ..HeadLimits::default() }, &bytes, reads);
            if fits {
                assert!(error.is_none(), "{error:?}");
            } else {
                let (error, status) = error.expect("it is too long");
                assert!(matches!(error, HandshakeError::HeadTooLong), "{error:?}");
                assert_eq!(status, 431);
            }
        }
    }
}

#[test]
fn s9112_3_request_line_over_the_limit_is_414() {
    let limits = HeadLimits { max_len: 100, ..HeadLimits::default() };
    let bytes = request().target(&format!("/{}", "x".repeat(200))).bytes();
    for reads in [bytes.len(), 1] {
        let (error, status) = serve(limits.clone(), &bytes, reads).unwrap();
        assert!(matches!(error, HandshakeError::TargetTooLong));
        assert_eq!(status, 414);
    }
}

#[test]
fn s9112_2_2_empty_lines_before_the_request_count() {
    let bytes = b"\r\n".repeat(10_000);
    let (_, status) = serve(HeadLimits::default(), &bytes, 4000).expect("they are bounded");
    assert!(status == 414 || status == 431);
}

#[test]
fn s9112_5_field_count_limit_of_a_server() {
    // The request has five fields.
    for (max_fields, fits) in [(6, true), (5, true), (4, false), (0, false)] {
        let error = serve(HeadLimits { max_fields, ..HeadLimits::default() }, &request().bytes(), 1000);
        if fits {
            assert!(error.is_none(), "{error:?}");
        } else {
            let (error, status) = error.expect("there are too many");
            assert!(matches!(error, HandshakeError::TooManyFields), "{error:?}");
            assert_eq!(status, 431);
        }
    }
}

#[test]
fn s9112_head_limits_of_a_client() {
    let key = Parsed::new(&write_all(&mut client(&ClientConfig::default())));
    let bytes = answer(key.only("Sec-WebSocket-Key")).bytes();
    let judge = |head: HeadLimits| {
        let mut handshake = client(&ClientConfig { head, ..ClientConfig::default() });
        let mut accepted = false;
        feed_machine(&mut handshake, &bytes, start(), |handshake| accepted = handshake.advance());
        assert_eq!(accepted, handshake.error().is_none());
        handshake.error().cloned()
    };
    for (max_len, fits) in [(bytes.len() + 1, true), (bytes.len(), true), (bytes.len() - 1, false)] {
        let error = judge(HeadLimits { max_len, ..HeadLimits::default() });
        assert_eq!(error.is_none(), fits);
        assert!(error.is_none_or(|error| matches!(error, HandshakeError::HeadTooLong)));
    }
    // The answer has three fields.
    for (max_fields, fits) in [(4, true), (3, true), (2, false)] {
        let error = judge(HeadLimits { max_fields, ..HeadLimits::default() });
        assert_eq!(error.is_none(), fits);
        assert!(error.is_none_or(|error| matches!(error, HandshakeError::TooManyFields)));
    }
}

// Work that is linear in what came. Were it quadratic, these would take hours.

#[test]
fn s9112_2_a_long_head_costs_its_bytes_however_it_drips() {
    let long = "x".repeat(1 << 20);
    let limits = HeadLimits { max_len: usize::MAX, ..HeadLimits::default() };
    assert!(serve(limits.clone(), &request().add("X-Long", &long).bytes(), 1).is_none());
    let mut handshake = client(&ClientConfig { head: limits, ..ClientConfig::default() });
    let key = Parsed::new(&write_all(&mut handshake));
    let bytes = answer(key.only("Sec-WebSocket-Key")).add("X-Long", &long).bytes();
    for byte in bytes.chunks(1) {
        feed_machine(&mut handshake, byte, start(), |handshake| _ = handshake.advance());
    }
    assert!(handshake.advance());
}

#[test]
fn s9110_5_6_1_long_lists_cost_their_bytes() {
    const COUNT: usize = 200_000;
    let list = |element: fn(usize) -> String| (0..COUNT).map(element).collect::<Vec<_>>().join(",");
    let head = request()
        .add("Sec-WebSocket-Protocol", &list(|i| format!("p{i}")))
        .add("Sec-WebSocket-Extensions", &list(|i| format!("x{i}; a=\"\\{}\"", i % 10)))
        .add("Connection", &list(|_| String::new()));
    let bytes = head.bytes();
    let head = HeadLimits { max_len: usize::MAX, ..HeadLimits::default() };
    let mut handshake =
        ServerHandshake::new(ServerConfig { head, ..ServerConfig::default() }.into(), start());
    feed_machine(&mut handshake, &bytes, start(), |handshake| _ = handshake.advance());
    assert_eq!(handshake.check().unwrap().offered().len(), COUNT);
}

// Every combination of settings is valid

#[test]
fn zeros_and_maxima_are_valid_settings() {
    let zero = Config {
        max_message: 0,
        max_frame: 0,
        high_water: 0,
        max_pongs_per_read: 0,
        pong_timeout: Some(secs(0)),
        keepalive: Some(secs(0)),
        write_timeout: Some(secs(0)),
        close_timeout: Some(secs(0)),
    };
    let max = Config {
        max_message: usize::MAX,
        max_frame: usize::MAX,
        high_water: usize::MAX,
        max_pongs_per_read: usize::MAX,
        pong_timeout: Some(std::time::Duration::MAX),
        keepalive: Some(std::time::Duration::MAX),
        write_timeout: Some(std::time::Duration::MAX),
        close_timeout: Some(std::time::Duration::MAX),
    };
    for config in [&zero, &max] {
        for role in ROLES {
            let mut connection = connection(role, config);
            connection.sender().send_text("").unwrap();
            connection.poll_timeout(start());
            feed_frames(&mut connection, &[ping("p"), text(""), binary("").fin(false), close(1000, "")]);
            connection.handle_timeout(at(1));
            write_all(&mut connection);
            feed_eof(&mut connection);
            assert!(connection.is_ended());
        }
    }
}

#[test]
fn zeros_and_maxima_are_valid_settings_of_a_head() {
    let zero = HeadLimits { max_len: 0, max_fields: 0, timeout: Some(secs(0)) };
    let (_, status) = serve(zero, &request().bytes(), 1000).expect("nothing fits");
    assert_eq!(status, 414);
    let max =
        HeadLimits { max_len: usize::MAX, max_fields: usize::MAX, timeout: Some(std::time::Duration::MAX) };
    assert!(serve(max, &request().bytes(), 1000).is_none());
}

#[test]
fn deadlines_of_zero_come_to_an_end() {
    for pong_timeout in [None, Some(secs(0))] {
        let config = Config { keepalive: Some(secs(0)), pong_timeout, ..Config::default() };
        for role in ROLES {
            let mut connection = connection(role, &config);
            connection.handle_timeout(at(1));
            assert!(connection.poll_timeout(at(1)).is_none_or(|(deadline, _)| deadline > at(1)));
        }
    }
}

// Helpers

fn assert_refuses_everything(connection: &mut Connection) {
    let sender = connection.sender();
    assert_eq!(sender.send_text("x"), Err(SendError::Full));
    assert_eq!(sender.send_binary(b""), Err(SendError::Full));
    assert_eq!(sender.send(&Message::from("x")), Err(SendError::Full));
    assert_eq!(sender.send(&Message::from(vec![0; 100_000])), Err(SendError::Full));
    assert_eq!(sender.send_prepared(&Prepared::new("x")), Err(SendError::Full));
    assert_eq!(sender.send_fragment("x".into(), false), Err(SendError::Full));
    assert_eq!(sender.ping(b"x"), Err(SendError::Full));
    assert_eq!(sender.pong(b"x"), Err(SendError::Full));
}

/// Why a server with these limits refuses, and the status of its answer.
fn serve(head: HeadLimits, bytes: &[u8], read: usize) -> Option<(HandshakeError, u16)> {
    let config = ServerConfig { head, ..ServerConfig::default() };
    let mut handshake = ServerHandshake::new(config.into(), start());
    for piece in bytes.chunks(read) {
        feed_machine(&mut handshake, piece, start(), |handshake| _ = handshake.advance());
    }
    let error = handshake.error().cloned();
    assert_eq!(error.is_none(), handshake.advance());
    error.map(|error| (error, Parsed::new(&write_all(&mut handshake)).status()))
}

fn client(config: &ClientConfig) -> ClientHandshake {
    ClientHandshake::new(&client_request("ws://example.com").unwrap(), config, SEED, start()).unwrap()
}
