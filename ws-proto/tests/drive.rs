//! [`Driver`] over a scripted socket with a clock of its own.
//!
//! A whole conversation is had once undisturbed, and then again for each call of the socket that it made, which
//! fails, waits, or carries one byte only.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake},
    time::{Duration, Instant},
};

use ws_proto::{
    Bytes, ClientConfig, CloseCode, Closed, Config, Connection, Error, Event, Fault, HandshakeError, Machine,
    Message, Role, SendError, ServerConfig, Timer,
    drive::{ByteStream, Driver, ReadBytes, Socket, WebSocket, WriteBytes},
    handshake::{ClientHandshake, ServerHandshake, check, client_request},
    http::{HeaderName, Request},
};

// A whole conversation

#[test]
fn undisturbed_conversation() {
    for role in ROLES {
        let Run { outcome, socket } = converse(role, None);
        assert!(outcome.messages == conversation());
        assert_eq!(outcome.events, conversation().len() + 2);
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.closed.map(|closed| (closed.code.get(), closed.clean)), Some((1000, true)));

        let state = socket.0.borrow();
        let expected = [vec![WELCOME.into()], conversation()].concat();
        assert!(messages_of(&state.frames()) == expected);
        assert_eq!(controls_of(&state.frames()), [(0x8a, b"ping".to_vec()), (0x88, vec![0x03, 0xe8])]);
        assert_eq!(state.shutdowns, 1);
        assert_eq!(state.unflushed, 0);
    }
}

#[test]
fn each_call_that_waits_once_changes_nothing() {
    each_call(Twist::Waits, assert_same);
}

#[test]
fn each_call_that_carries_one_byte_changes_nothing() {
    each_call(Twist::OneByte, assert_same);
}

#[test]
fn each_call_that_is_interrupted_changes_nothing() {
    each_call(Twist::Fails(ErrorKind::Interrupted), |role, at, run, undisturbed| {
        // `AsyncWrite` forbids it for the others.
        if matches!(at.call, Call::Read | Call::Write) {
            assert_same(role, at, run, undisturbed);
        }
    });
}

#[test]
fn every_call_waits_first_and_nothing_changes() {
    for role in ROLES {
        for call in CALLS {
            let at = At { call, count: None, twist: Twist::Waits };
            assert_same(role, at, &converse(role, Some(at)), &converse(role, None));
        }
    }
}

#[test]
fn every_call_carries_one_byte_and_nothing_changes() {
    for role in ROLES {
        for call in [Call::Read, Call::Write] {
            let at = At { call, count: None, twist: Twist::OneByte };
            assert_same(role, at, &converse(role, Some(at)), &converse(role, None));
        }
    }
}

#[test]
fn each_read_that_fails_is_the_error_unless_the_peer_has_closed() {
    each_call(Twist::Fails(ErrorKind::ConnectionReset), |role, at, run, undisturbed| {
        if at.call != Call::Read {
            return;
        }
        let Run { outcome, .. } = run;
        if at.count > Some(undisturbed.socket.0.borrow().last_read_with_bytes) {
            assert_same(role, at, run, undisturbed);
        } else {
            assert_eq!(outcome.error, Some(Ending::Io(ErrorKind::ConnectionReset)), "{role:?} {at:?}");
            assert!(conversation().starts_with(&outcome.messages), "{role:?} {at:?}");
            assert!(outcome.closed.as_ref().is_none_or(|closed| !closed.clean), "{role:?} {at:?}");
        }
    });
}

#[test]
fn each_write_that_fails_loses_nothing_that_can_be_read() {
    each_call(Twist::Fails(ErrorKind::BrokenPipe), |role, at, run, _| {
        if !matches!(at.call, Call::Write | Call::Flush) {
            return;
        }
        let Run { outcome, socket } = run;
        // The client's request is its first write; without it the answer is none to this client.
        let in_handshake = role == Role::Client && at.count == Some(0);
        if !in_handshake {
            assert!(outcome.messages == conversation(), "{role:?} {at:?}");
        }
        let told = outcome.error.iter().chain(&outcome.flush_errors);
        for error in told {
            assert!(matches!(error, Ending::Io(ErrorKind::BrokenPipe) | Ending::Abnormal), "{role:?} {at:?}");
        }
        // Nothing follows the write that failed, so no frame is torn.
        let written = messages_of(&socket.0.borrow().frames());
        assert!([vec![WELCOME.into()], conversation()].concat().starts_with(&written), "{role:?} {at:?}");
    });
}

#[test]
fn each_write_that_takes_nothing_is_an_error_and_no_endless_loop() {
    each_call(Twist::TakesNothing, |role, at, run, _| {
        if at.call == Call::Write && at.count > Some(0) {
            assert!(run.outcome.messages == conversation(), "{role:?} {at:?}");
        }
    });
}

#[test]
fn shutdown_that_fails_changes_nothing() {
    each_call(Twist::Fails(ErrorKind::NotConnected), |role, at, run, undisturbed| {
        if at.call == Call::Shutdown {
            assert_same(role, at, run, undisturbed);
        }
    });
}

#[test]
fn s7_1_4_write_that_fails_before_the_close_frame_left_is_not_clean() {
    for role in ROLES {
        let socket = converse(role, None).socket;
        let last_write = socket.0.borrow().count(Call::Write) - 1;
        let twist = Twist::Fails(ErrorKind::BrokenPipe);
        let at = At { call: Call::Write, count: Some(last_write), twist };
        let outcome = converse(role, Some(at)).outcome;
        assert!(outcome.messages == conversation());
        assert!(!outcome.closed.unwrap().clean, "{role:?}: its Close frame was never written");
    }
}

#[test]
fn each_call_disturbed_during_a_refusal_leaves_it_whole_or_ends() {
    let (undisturbed, _) = refuse(None);
    assert!(undisturbed.starts_with(b"HTTP/1.1 426 "));
    for twist in [
        Twist::Waits,
        Twist::OneByte,
        Twist::TakesNothing,
        Twist::Fails(ErrorKind::Interrupted),
        Twist::Fails(ErrorKind::ConnectionReset),
    ] {
        for call in CALLS {
            for count in 0..8 {
                let (output, socket) = refuse(Some(At { call, count: Some(count), twist }));
                match twist {
                    Twist::Waits | Twist::OneByte => {
                        assert_eq!(output, undisturbed);
                        assert_eq!(socket.0.borrow().shutdowns, 1);
                    }
                    Twist::TakesNothing | Twist::Fails(_) => assert!(undisturbed.starts_with(&output)),
                }
            }
        }
    }
}

// What it waits for

#[test]
fn every_wait_is_for_reads_blocked_writes_and_the_deadline_of_the_machine() {
    for role in ROLES {
        for method in METHODS {
            let socket = Scripted::new([]);
            socket.0.borrow_mut().blocked = true;
            let mut connection = connection(role, &socket, &Config { high_water: 1, ..Config::default() });
            connection.sender().send_text("waits").unwrap();
            let mut driver = Driver::new(socket.clone());

            assert!(poll_once(&socket, |cx| method.poll(&mut driver, &mut connection, cx)).is_pending());

            let waits = socket.0.borrow().waits;
            assert!(waits.read && waits.write, "{method:?}: {waits:?}");
            let deadline = connection.poll_timeout(socket.now()).map(|(deadline, _)| deadline);
            assert!(deadline.is_some());
            assert_eq!(waits.sleep, deadline, "{method:?}");
        }
    }
}

#[test]
fn without_deadlines_it_waits_for_the_socket_alone() {
    let config = Config {
        high_water: 1,
        keepalive: None,
        pong_timeout: None,
        write_timeout: None,
        close_timeout: None,
        ..Config::default()
    };
    for role in ROLES {
        for method in METHODS {
            let socket = Scripted::new([]);
            socket.0.borrow_mut().blocked = true;
            let mut connection = connection(role, &socket, &config);
            connection.sender().send_text("waits").unwrap();
            let mut driver = Driver::new(socket.clone());
            assert!(poll_once(&socket, |cx| method.poll(&mut driver, &mut connection, cx)).is_pending());
            assert_eq!(socket.0.borrow().waits, Waits { read: true, write: true, sleep: None }, "{method:?}");
        }
    }
}

#[test]
fn ping_leaves_the_room_that_its_event_comes_with() {
    for role in ROLES {
        for high_water in [1, 9, 10, 11, 100] {
            let pings = [frame(role, 0x89, b"1234"), frame(role, 0x89, b"5678"), frame(role, 0x81, b"text")];
            let socket = Scripted::new([pings.concat()]);
            let mut connection = connection(role, &socket, &Config { high_water, ..Config::default() });
            let mut driver = Driver::new(socket.clone());
            for _ in 0..3 {
                let event = block_on(&socket, poll_fn(|cx| driver.poll_event_with_room(&mut connection, cx)));
                assert!(event.unwrap());
                connection.sender().send_text("answer").unwrap();
            }
            block_on(&socket, poll_fn(|cx| driver.poll_flush(&mut connection, cx))).unwrap();
            assert_eq!(messages_of(&socket.0.borrow().frames()), ["answer"; 3].map(Message::from));
        }
    }
}

#[test]
fn everything_is_written_and_flushed_before_it_waits_for_input() {
    for role in ROLES {
        let socket = Scripted::new([]);
        let mut connection = connection(role, &socket, &Config::default());
        connection.sender().send_text("first").unwrap();
        let mut driver = Driver::new(socket.clone());
        assert!(poll_once(&socket, |cx| driver.poll_event(&mut connection, cx)).is_pending());
        let state = socket.0.borrow();
        assert_eq!(messages_of(&state.frames()), ["first".into()]);
        assert_eq!(state.unflushed, 0);
        assert!(state.waits.read);
    }
}

#[test]
fn nothing_is_written_or_flushed_without_need() {
    let socket = Scripted::new([]);
    let mut connection = connection(Role::Server, &socket, &Config::default());
    let mut driver = Driver::new(socket.clone());
    for _ in 0..3 {
        assert!(poll_once(&socket, |cx| driver.poll_event(&mut connection, cx)).is_pending());
        assert!(poll_once(&socket, |cx| driver.poll_flush(&mut connection, cx)).is_ready());
        assert!(poll_once(&socket, |cx| driver.poll_room(&mut connection, cx)).is_ready());
    }
    let state = socket.0.borrow();
    assert_eq!([state.count(Call::Write), state.count(Call::Flush), state.count(Call::Shutdown)], [0; 3]);
}

#[test]
fn timer_is_asked_for_each_deadline_in_turn() {
    for role in ROLES {
        let socket = Scripted::new([]);
        let start = socket.now();
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        let result = block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx)));
        assert!(matches!(result, Err(Error::Timeout(Timer::Pong))), "{result:?}");
        let asked: Vec<u64> =
            socket.0.borrow().sleeps.iter().map(|&deadline| (deadline - start).as_secs()).collect();
        assert_eq!(asked, [20, 40]);
        assert_eq!(socket.0.borrow().frames()[0], (0x89, vec![]));
    }
}

#[test]
fn timer_is_asked_for_the_close_deadline() {
    for role in ROLES {
        let socket = Scripted::new([]);
        let start = socket.now();
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        connection.close(CloseCode::NORMAL, "").unwrap();
        let result = block_on(&socket, poll_fn(|cx| driver.poll_end(&mut connection, cx)));
        assert!(matches!(result, Err(Error::Timeout(Timer::Close))), "{result:?}");
        assert_eq!(socket.0.borrow().sleeps, [start + Duration::from_secs(10)]);
    }
}

#[test]
fn timer_that_fires_before_the_clock_says_so_is_no_busy_loop() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.0.borrow_mut().coarse = true;
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        let result = block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx)));
        assert!(matches!(result, Err(Error::Timeout(Timer::Pong))), "{result:?}");
        assert!(socket.0.borrow().sleeps.len() < 10);
    }
}

#[test]
fn bytes_that_came_go_before_a_deadline_that_passed() {
    for role in ROLES {
        let socket = Scripted::new([]);
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        // Pinged, and then not polled for long.
        assert!(poll_once(&socket, |cx| driver.poll_event(&mut connection, cx)).is_pending());
        socket.advance(Duration::from_secs(25));
        assert!(poll_once(&socket, |cx| driver.poll_event(&mut connection, cx)).is_pending());
        assert_eq!(socket.0.borrow().frames(), [(0x89, vec![])]);
        socket.advance(Duration::from_secs(100));
        socket.0.borrow_mut().input.push_back(Input::Bytes(frame(role, 0x81, b"here").into()));
        let event = poll_once(&socket, |cx| driver.poll_event(&mut connection, cx));
        assert!(matches!(event, Poll::Ready(Ok(true))), "{event:?}");
        assert!(poll_once(&socket, |cx| driver.poll_event(&mut connection, cx)).is_pending());
    }
}

// Peers that never pause

#[test]
fn s7_1_1_peer_that_closes_and_never_pauses_is_left() {
    for role in ROLES {
        let socket = Scripted::new([frame(role, 0x88, &[0x03, 0xe8])]);
        socket.flood(frame(role, 0x82, &[0; 100]));
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        let result = block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx)));
        assert!(matches!(result, Ok(false)), "{result:?}");
        assert!(connection.closed().unwrap().clean);
    }
}

#[test]
fn s7_1_7_peer_that_breaks_the_protocol_and_never_pauses_is_left() {
    for role in ROLES {
        let socket = Scripted::new([frame(role, 0x83, b"")]);
        socket.flood(frame(role, 0x82, &[0; 100]));
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        let result = block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx)));
        assert!(matches!(result, Err(Error::Protocol(_))), "{result:?}");
    }
}

#[test]
fn s7_1_2_peer_that_never_pauses_cannot_hold_up_close() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.flood(frame(role, 0x82, &[0; 100]));
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        connection.close(CloseCode::NORMAL, "").unwrap();
        let result = block_on(&socket, poll_fn(|cx| driver.poll_end(&mut connection, cx)));
        assert!(matches!(result, Err(Error::Timeout(Timer::Close))), "{result:?}");
    }
}

#[test]
fn refused_client_that_never_pauses_is_left() {
    let socket = Scripted::new([PLAIN_REQUEST.to_vec()]);
    socket.flood(vec![b'x'; 100]);
    let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), socket.now());
    let mut driver = Driver::new(socket.clone());
    block_on(&socket, poll_fn(|cx| driver.poll_request(&mut handshake, cx))).unwrap();
    let error = handshake.check().unwrap_err();
    handshake.fail(error);
    block_on(&socket, poll_fn(|cx| driver.poll_refusal(&mut handshake, cx)));
    assert!(handshake.is_ended());
}

#[test]
fn client_whose_endless_head_never_pauses_is_refused_and_left() {
    let socket = Scripted::new([b"GET / HTTP/1.1\r\nA: ".to_vec()]);
    socket.flood(vec![b'x'; 100]);
    let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), socket.now());
    let mut driver = Driver::new(socket.clone());
    let result = block_on(&socket, poll_fn(|cx| driver.poll_request(&mut handshake, cx)));
    assert!(matches!(result, Err(Error::Handshake(HandshakeError::HeadTooLong))), "{result:?}");
    assert!(socket.0.borrow().output.starts_with(b"HTTP/1.1 431 "));
}

#[test]
fn s5_5_3_pings_of_a_peer_that_takes_nothing_and_never_pauses_do_not_fill_the_queue() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.0.borrow_mut().blocked = true;
        socket.flood(frame(role, 0x89, &[0; 125]));
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        // A pong each for more pings than the mark holds, but less time than the write deadline gives.
        for _ in 0..2500 {
            block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx))).unwrap();
            assert!(!connection.sender().is_full(), "{} bytes", connection.buffered_amount());
        }
    }
}

#[test]
fn s5_5_2_peer_that_pings_and_never_pauses_lets_other_tasks_run() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.flood(frame(role, 0x89, &[0; 125]));
        let connection = connection(role, &socket, &Config::default());
        let mut ws = WebSocket::<Scripted>::from_upgraded(socket.clone(), connection);
        let mut recv = pin!(ws.recv());
        let (poll, woken) = poll_flagged(&socket, |cx| recv.as_mut().poll(cx));
        assert!(poll.is_pending() && woken);
    }
}

#[test]
fn s5_4_peer_that_never_ends_a_message_to_be_skipped_lets_other_tasks_run() {
    for role in ROLES {
        let socket = Scripted::new([frame(role, 0x02, b"start")]);
        let config = Config { max_message: usize::MAX, ..Config::default() };
        let connection = connection(role, &socket, &config);
        let mut ws = WebSocket::<Scripted>::from_upgraded(socket.clone(), connection);
        drop(block_on(&socket, ws.recv_reader()).unwrap());
        socket.flood(frame(role, 0x00, &[0; 100]));
        let mut recv = pin!(ws.recv());
        let (poll, woken) = poll_flagged(&socket, |cx| recv.as_mut().poll(cx));
        assert!(poll.is_pending() && woken);
    }
}

#[test]
fn peer_of_a_byte_stream_that_sends_nothing_and_never_pauses_lets_other_tasks_run() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.flood(frame(role, 0x82, b""));
        let connection = connection(role, &socket, &Config::default());
        let mut stream = ByteStream::new(WebSocket::<Scripted>::from_upgraded(socket.clone(), connection));
        let (poll, woken) = poll_flagged(&socket, |cx| stream.poll_read(cx, &mut [0]));
        assert!(poll.is_pending() && woken);
        let (poll, woken) = poll_flagged(&socket, |cx| stream.poll_shutdown(cx));
        assert!(poll.is_pending() && woken);
    }
}

#[test]
fn peer_that_takes_nothing_and_never_pauses_is_left() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.0.borrow_mut().blocked = true;
        socket.flood(frame(role, 0x8a, b"unasked"));
        let mut connection = connection(role, &socket, &Config::default());
        connection.sender().send_text("not taken").unwrap();
        let mut driver = Driver::new(socket.clone());
        let result = block_on(&socket, async {
            loop {
                match poll_fn(|cx| driver.poll_event(&mut connection, cx)).await {
                    Ok(true) => {}
                    end => break end,
                }
            }
        });
        assert!(matches!(result, Err(Error::Timeout(Timer::Write))), "{result:?}");
    }
}

// Slices

#[test]
fn socket_without_vectored_writes_gets_one_slice() {
    for role in ROLES {
        for len in [10, 16 * 1024, 100_000] {
            let socket = Scripted::new([]);
            socket.0.borrow_mut().vectored = false;
            let mut connection = connection(role, &socket, &Config::default());
            for _ in 0..3 {
                connection.sender().send(&Message::from(vec![7; len])).unwrap();
            }
            let mut driver = Driver::new(socket.clone());
            block_on(&socket, poll_fn(|cx| driver.poll_flush(&mut connection, cx))).unwrap();
            let state = socket.0.borrow();
            assert_eq!(state.most_slices, 1);
            assert!(!state.frames().is_empty());
            assert!(messages_of(&state.frames()).iter().all(|message| *message == vec![7; len].into()));
        }
    }
}

#[test]
fn socket_with_vectored_writes_gets_long_payloads_of_a_server_as_they_are() {
    let socket = Scripted::new([]);
    let mut connection = connection(Role::Server, &socket, &Config::default());
    for len in [100_000, 100_001, 3] {
        connection.sender().send(&Message::from(vec![7; len])).unwrap();
    }
    let mut driver = Driver::new(socket.clone());
    block_on(&socket, poll_fn(|cx| driver.poll_flush(&mut connection, cx))).unwrap();
    let state = socket.0.borrow();
    assert_eq!(state.most_slices, 5);
    assert_eq!(state.count(Call::Write), 1);
    assert_eq!(messages_of(&state.frames()), [100_000, 100_001, 3].map(|len| vec![7; len].into()));
}

// After the end

#[test]
fn ended_connection_touches_the_socket_no_more() {
    for role in ROLES {
        let socket = Scripted::new([frame(role, 0x88, &[0x03, 0xe8])]);
        socket.0.borrow_mut().input.push_back(Input::Eof);
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        assert!(!block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx))).unwrap());
        let calls = socket.0.borrow().calls;
        for _ in 0..3 {
            let end = poll_once(&socket, |cx| driver.poll_event(&mut connection, cx));
            assert!(matches!(end, Poll::Ready(Ok(false))), "{end:?}");
            for method in METHODS {
                assert!(poll_once(&socket, |cx| method.poll(&mut driver, &mut connection, cx)).is_ready());
            }
        }
        assert_eq!(socket.0.borrow().calls, calls);
        assert_eq!(socket.0.borrow().shutdowns, 1);
    }
}

#[test]
fn s7_1_4_read_that_fails_behind_the_close_frames_is_told_by_no_method() {
    for role in ROLES {
        for method in METHODS {
            let socket = Scripted::new([frame(role, 0x88, &[0x03, 0xe8])]);
            let twist = Twist::Fails(ErrorKind::ConnectionReset);
            socket.0.borrow_mut().at = Some(At { call: Call::Read, count: Some(2), twist });
            let mut connection = connection(role, &socket, &Config::default());
            let mut driver = Driver::new(socket.clone());
            assert!(!block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx))).unwrap());
            assert!(connection.closed().unwrap().clean);
            let told = poll_once(&socket, |cx| method.poll(&mut driver, &mut connection, cx));
            assert!(matches!(told, Poll::Ready(Ok(()))), "{method:?}: {told:?}");
        }
    }
}

#[test]
fn fault_is_told_once() {
    for role in ROLES {
        let socket = Scripted::new([]);
        socket.0.borrow_mut().input.push_back(Input::Eof);
        let mut connection = connection(role, &socket, &Config::default());
        let mut driver = Driver::new(socket.clone());
        let mut next = || block_on(&socket, poll_fn(|cx| driver.poll_event(&mut connection, cx)));
        assert!(matches!(next(), Err(Error::Abnormal)));
        assert!(matches!(next(), Ok(false)));
        assert!(matches!(next(), Ok(false)));
        assert_eq!(connection.fault(), Some(Fault::Abnormal));
    }
}

// The conversation

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const CALLS: [Call; 4] = [Call::Read, Call::Write, Call::Flush, Call::Shutdown];
const WELCOME: &str = "welcome";
const SEED: [u8; 32] = [7; 32];
const PLAIN_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The messages of the peer, in order.
fn conversation() -> Vec<Message> {
    vec![
        "one".into(),
        vec![3; 300].into(),
        "fragmented".into(),
        vec![4; 70_000].into(),
        "".into(),
        "žluťoučký kůň".into(),
    ]
}

/// The same as the peer writes them, a ping and a pong among them, and a Close frame behind them.
fn conversation_bytes(role: Role) -> Vec<Vec<u8>> {
    let frame = |first, payload: &[u8]| frame(role, first, payload);
    vec![
        [frame(0x81, b"one"), frame(0x82, &[3; 300])].concat(),
        [frame(0x01, b"frag"), frame(0x89, b"ping")].concat(),
        frame(0x80, b"mented"),
        frame(0x82, &[4; 70_000]),
        [frame(0x8a, b"pong"), frame(0x81, b"")].concat(),
        [frame(0x81, "žluťoučký kůň".as_bytes()), frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e'])].concat(),
    ]
}

/// What came of a conversation for the application.
#[derive(Debug, Default)]
struct Outcome {
    messages: Vec<Message>,
    /// Messages, pings and pongs.
    events: usize,
    flush_errors: Vec<Ending>,
    error: Option<Ending>,
    closed: Option<Closed>,
}

#[derive(Debug)]
struct Run {
    outcome: Outcome,
    socket: Scripted,
}

/// An error, as far as it can be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Io(ErrorKind),
    Abnormal,
    Other,
}

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => Self::Io(error.kind()),
            Error::Abnormal => Self::Abnormal,
            _ => Self::Other,
        }
    }
}

/// Has the conversation from the handshake to the end, in this role.
fn converse(role: Role, at: Option<At>) -> Run {
    let opening = match role {
        Role::Client => answer_to(&request_of_the_client()),
        Role::Server => UPGRADE.to_vec(),
    };
    let socket = Scripted::new([vec![opening], conversation_bytes(role)].concat());
    socket.0.borrow_mut().input.push_back(Input::Eof);
    socket.0.borrow_mut().at = at;
    let mut driver = Driver::new(socket.clone());
    let outcome = block_on(&socket, async {
        let opened = match role {
            Role::Client => connect(&mut driver).await,
            Role::Server => accept(&mut driver).await,
        };
        match opened {
            Ok(connection) => talk(&mut driver, connection).await,
            Err(error) => Outcome { error: Some(error.into()), ..Outcome::default() },
        }
    });
    Run { outcome, socket }
}

async fn accept(driver: &mut Driver<Scripted>) -> Result<Connection, Error> {
    let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), driver.socket().now());
    poll_fn(|cx| driver.poll_request(&mut handshake, cx)).await?;
    let acceptance = handshake.check().unwrap();
    Ok(handshake.accept(acceptance, driver.socket().now()).0)
}

async fn connect(driver: &mut Driver<Scripted>) -> Result<Connection, Error> {
    let mut handshake = client_handshake(driver.socket().now());
    poll_fn(|cx| driver.poll_answer(&mut handshake, cx)).await?;
    Ok(handshake.into_connection(driver.socket().now()).0)
}

/// Welcomes the peer and echoes what it says.
async fn talk(driver: &mut Driver<Scripted>, mut connection: Connection) -> Outcome {
    let mut outcome = Outcome::default();
    connection.sender().send_text(WELCOME).unwrap();
    if let Err(error) = poll_fn(|cx| driver.poll_flush(&mut connection, cx)).await {
        outcome.flush_errors.push(error.into());
    }
    loop {
        match poll_fn(|cx| driver.poll_event_with_room(&mut connection, cx)).await {
            Ok(true) => outcome.events += 1,
            Ok(false) => break,
            Err(error) => {
                outcome.error = Some(error.into());
                break;
            }
        }
        let (event, sender) = connection.split_mut();
        let Some(message) = event.as_ref().and_then(Event::to_message) else { continue };
        match sender.send(&message) {
            // A socket that failed does not keep the peer from talking.
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
        outcome.messages.push(message);
    }
    let end = poll_fn(|cx| driver.poll_event(&mut connection, cx)).await;
    assert!(matches!(end, Ok(false)), "{end:?} after the end");
    assert!(connection.is_ended());
    outcome.closed = connection.closed().cloned();
    outcome
}

/// Refuses a plain request: what was written, and the socket.
fn refuse(at: Option<At>) -> (Vec<u8>, Scripted) {
    let socket = Scripted::new([PLAIN_REQUEST.to_vec(), b"and more".to_vec()]);
    socket.0.borrow_mut().input.push_back(Input::Eof);
    socket.0.borrow_mut().at = at;
    let mut driver = Driver::new(socket.clone());
    let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), socket.now());
    block_on(&socket, async {
        if poll_fn(|cx| driver.poll_request(&mut handshake, cx)).await.is_ok() {
            let error = handshake.check().unwrap_err();
            handshake.fail(error);
            poll_fn(|cx| driver.poll_refusal(&mut handshake, cx)).await;
        }
    });
    let output = socket.0.borrow().output.clone();
    (output, socket)
}

/// Has the conversation again for each call of the socket, with a twist at this call.
fn each_call(twist: Twist, judge: impl Fn(Role, At, &Run, &Run)) {
    for role in ROLES {
        let undisturbed = converse(role, None);
        for call in CALLS {
            let calls = undisturbed.socket.0.borrow().count(call);
            assert!(calls > 0);
            for count in 0..calls {
                let at = At { call, count: Some(count), twist };
                judge(role, at, &converse(role, Some(at)), &undisturbed);
            }
        }
    }
}

fn assert_same(role: Role, at: At, run: &Run, undisturbed: &Run) {
    let (outcome, expected) = (&run.outcome, &undisturbed.outcome);
    assert!(outcome.messages == expected.messages, "{role:?} {at:?}");
    assert_eq!(outcome.events, expected.events, "{role:?} {at:?}");
    assert_eq!(outcome.error, None, "{role:?} {at:?}");
    assert_eq!(outcome.flush_errors, [], "{role:?} {at:?}");
    assert_eq!(outcome.closed, expected.closed, "{role:?} {at:?}");

    // A pong may overtake data that waits; the rest is as it was.
    let (state, expected) = (run.socket.0.borrow(), undisturbed.socket.0.borrow());
    let (frames, expected) = (state.frames(), expected.frames());
    assert!(messages_of(&frames) == messages_of(&expected), "{role:?} {at:?}");
    assert_eq!(controls_of(&frames), controls_of(&expected), "{role:?} {at:?}");
    assert_eq!(frames.last(), expected.last(), "{role:?} {at:?}");
    assert_eq!(state.shutdowns, 1, "{role:?} {at:?}");
}

fn client_handshake(now: Instant) -> ClientHandshake {
    let request = client_request("ws://localhost/chat").unwrap();
    ClientHandshake::new(&request, &ClientConfig::default(), SEED, now).unwrap()
}

fn request_of_the_client() -> Vec<u8> {
    let handshake = client_handshake(start());
    let mut slices = [IoSlice::new(&[])];
    assert_eq!(handshake.output(&mut slices), 1);
    slices[0].to_vec()
}

/// The right answer to a request.
fn answer_to(request: &[u8]) -> Vec<u8> {
    let head = std::str::from_utf8(request).unwrap();
    let mut request = Request::new(());
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let response = check(&request, &ServerConfig::default()).unwrap().response();
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in response.headers() {
        answer.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    answer.extend(b"\r\n");
    answer
}

/// The request of RFC 6455 section 1.2.
const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A frame as the peer of this role writes it.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let masked = role == Role::Server;
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len @ 126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(KEY);
    }
    let key = if masked { KEY } else { [0; 4] };
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A connection without a handshake.
fn connection(role: Role, socket: &Scripted, config: &Config) -> Connection {
    let mut connection = match role {
        Role::Client => Connection::client(config, SEED, socket.now()),
        Role::Server => Connection::server(config, socket.now()),
    };
    connection.set_vectored(socket.is_vectored());
    connection
}

/// The methods of [`Driver`] that a connection with blocked output waits in.
#[derive(Clone, Copy, Debug)]
enum Method {
    Event,
    EventWithRoom,
    Room,
    Flush,
    End,
}

const METHODS: [Method; 5] = [Method::Event, Method::EventWithRoom, Method::Room, Method::Flush, Method::End];

impl Method {
    fn poll(
        self,
        driver: &mut Driver<Scripted>,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        match self {
            Self::Event => driver.poll_event(connection, cx).map_ok(drop),
            Self::EventWithRoom => driver.poll_event_with_room(connection, cx).map_ok(drop),
            Self::Room => driver.poll_room(connection, cx),
            Self::Flush => driver.poll_flush(connection, cx),
            Self::End => driver.poll_end(connection, cx),
        }
    }
}

/// Messages among frames, fragments not expected.
fn messages_of(frames: &[Frame]) -> Vec<Message> {
    let message = |(first, payload): &Frame| match first {
        0x81 => Some(Message::from(std::str::from_utf8(payload).unwrap())),
        0x82 => Some(payload.clone().into()),
        _ => None,
    };
    frames.iter().filter_map(message).collect()
}

fn controls_of(frames: &[Frame]) -> Vec<Frame> {
    frames.iter().filter(|(first, _)| first & 0x08 != 0).cloned().collect()
}

// The socket

/// A method of the socket.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Read,
    Write,
    Flush,
    Shutdown,
}

/// What is different about a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twist {
    Fails(ErrorKind),
    /// It is pending, and wakes at once.
    Waits,
    /// A read or write carries one byte.
    OneByte,
    /// A write is ready, and takes nothing.
    TakesNothing,
}

/// Which call is twisted: the so-and-so-manyth of its kind, or each, where one that waits is followed by one
/// that does not.
#[derive(Clone, Copy, Debug)]
struct At {
    call: Call,
    count: Option<usize>,
    twist: Twist,
}

#[derive(Debug)]
enum Input {
    Bytes(Bytes),
    /// Pending once, and woken.
    Gap,
    Eof,
}

/// What the pending calls of one poll wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Waits {
    read: bool,
    write: bool,
    sleep: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Scripted(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    now: Instant,
    input: VecDeque<Input>,
    /// What comes for ever behind the input; time passes with each read of it.
    flood: Option<Vec<u8>>,
    output: Vec<u8>,
    unflushed: usize,
    /// Writes wait for ever.
    blocked: bool,
    /// The timer fires a little before the clock says so.
    coarse: bool,
    vectored: bool,
    at: Option<At>,
    calls: [usize; 4],
    last_read_with_bytes: usize,
    most_slices: usize,
    shutdowns: usize,
    /// The deadlines that were waited for.
    sleeps: Vec<Instant>,
    waits: Waits,
}

impl Scripted {
    /// Each piece comes in one read if it fits, with a gap behind it; behind all of them it is silent.
    fn new(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let input = pieces.into_iter().flat_map(|piece| [Input::Bytes(piece.into()), Input::Gap]).collect();
        Self(Rc::new(RefCell::new(State {
            now: start(),
            input,
            flood: None,
            output: Vec::new(),
            unflushed: 0,
            blocked: false,
            coarse: false,
            vectored: true,
            at: None,
            calls: [0; 4],
            last_read_with_bytes: 0,
            most_slices: 0,
            shutdowns: 0,
            sleeps: Vec::new(),
            waits: Waits::default(),
        })))
    }

    /// From the first byte on nothing waits any more.
    fn flood(&self, bytes: Vec<u8>) {
        let state = &mut *self.0.borrow_mut();
        state.input.retain(|input| !matches!(input, Input::Gap));
        state.flood = Some(bytes);
    }

    fn advance(&self, time: Duration) {
        self.0.borrow_mut().now += time;
    }
}

impl State {
    /// Counts a call and tells its twist.
    fn call(&mut self, call: Call) -> Option<Twist> {
        let count = self.calls[call as usize];
        self.calls[call as usize] += 1;
        assert!(self.calls.iter().sum::<usize>() < MAX_CALLS, "a loop without an end");
        let at = self.at.filter(|at| at.call == call)?;
        let hit = match at.count {
            Some(at) => at == count,
            None => at.twist != Twist::Waits || count.is_multiple_of(2),
        };
        hit.then_some(at.twist)
    }

    fn count(&self, call: Call) -> usize {
        self.calls[call as usize]
    }

    /// The frames that were written behind the head, if there is one; the last one may be incomplete.
    fn frames(&self) -> Vec<Frame> {
        let head = self.output.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let mut bytes =
            if self.output.first() < Some(&0x80) { &self.output[head..] } else { &self.output[..] };
        let mut frames = Vec::new();
        while let Some((frame, rest)) = take_frame(bytes) {
            frames.push(frame);
            bytes = rest;
        }
        frames
    }
}

/// FIN, reserved bits and opcode as on the wire, and the unmasked payload.
type Frame = (u8, Vec<u8>);

fn take_frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (at, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        len => (2, usize::from(len)),
    };
    let (key, at) = match second & 0x80 {
        0 => ([0; 4], at),
        _ => (*bytes.get(at..)?.first_chunk()?, at + 4),
    };
    let payload = bytes.get(at..at + len)?.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    Some(((first, payload.collect()), &bytes[at + len..]))
}

impl Socket for Scripted {
    type Stream = Self;

    fn new(stream: Self) -> Self {
        stream
    }

    fn stream(&self) -> &Self {
        self
    }

    fn stream_mut(&mut self) -> &mut Self {
        self
    }

    fn into_stream(self) -> Self {
        self
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        let count = state.count(Call::Read);
        assert!(!buf.is_empty(), "a read into nothing is taken for the end");
        let most = match state.call(Call::Read) {
            Some(Twist::Fails(kind)) => return Poll::Ready(Err(kind.into())),
            Some(Twist::Waits) => return wake(cx),
            Some(Twist::OneByte) => 1,
            Some(Twist::TakesNothing) | None => buf.len(),
        };
        let len = match state.input.front_mut() {
            Some(Input::Bytes(bytes)) => {
                let len = bytes.len().min(most).min(buf.len());
                buf[..len].copy_from_slice(&bytes[..len]);
                *bytes = bytes.split_off(len);
                state.last_read_with_bytes = count;
                if bytes.is_empty() {
                    state.input.pop_front();
                }
                len
            }
            Some(Input::Gap) => {
                state.input.pop_front();
                return wake(cx);
            }
            Some(Input::Eof) => 0,
            None => {
                let Some(flood) = &state.flood else {
                    state.waits.read = true;
                    return Poll::Pending;
                };
                state.now += Duration::from_millis(10);
                let len = flood.len().min(buf.len());
                buf[..len].copy_from_slice(&flood[..len]);
                len
            }
        };
        Poll::Ready(Ok(len))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        assert!(slices.iter().all(|slice| !slice.is_empty()), "an empty slice");
        assert_eq!(state.shutdowns, 0, "written after the shutdown");
        state.most_slices = state.most_slices.max(slices.len());
        let most = match state.call(Call::Write) {
            Some(Twist::Fails(kind)) => return Poll::Ready(Err(kind.into())),
            Some(Twist::Waits) => return wake(cx),
            Some(Twist::OneByte) => 1,
            Some(Twist::TakesNothing) => 0,
            None => usize::MAX,
        };
        if state.blocked {
            state.waits.write = true;
            return Poll::Pending;
        }
        let mut len = 0;
        for slice in slices {
            let taken = slice.len().min(most - len);
            state.output.extend_from_slice(&slice[..taken]);
            len += taken;
        }
        state.unflushed += len;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        match state.call(Call::Flush) {
            Some(Twist::Fails(kind)) => return Poll::Ready(Err(kind.into())),
            Some(Twist::Waits) => return wake(cx),
            Some(Twist::OneByte | Twist::TakesNothing) | None => {}
        }
        state.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        let twist = state.call(Call::Shutdown);
        if twist == Some(Twist::Waits) {
            return wake(cx);
        }
        state.shutdowns += 1;
        match twist {
            Some(Twist::Fails(kind)) => Poll::Ready(Err(kind.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn is_vectored(&self) -> bool {
        self.0.borrow().vectored
    }

    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn poll_sleep(&mut self, _cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let state = &mut *self.0.borrow_mut();
        let early = if state.coarse { Duration::from_micros(500) } else { Duration::ZERO };
        if state.now + early >= deadline {
            return Poll::Ready(());
        }
        state.waits.sleep = Some(deadline);
        Poll::Pending
    }
}

fn wake<T>(cx: &mut Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Polls until it is ready. A poll that is pending was woken, or waits for the timer, to which the clock jumps.
fn block_on<T>(socket: &Scripted, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..MAX_CALLS {
        let (poll, woken) = poll_flagged(socket, |cx| future.as_mut().poll(cx));
        if let Poll::Ready(output) = poll {
            return output;
        }
        if !woken {
            let state = &mut *socket.0.borrow_mut();
            let deadline = state.waits.sleep.expect("pending without anything to wait for");
            assert!(deadline > state.now, "a deadline that has passed");
            state.sleeps.push(deadline);
            state.now = deadline - if state.coarse { Duration::from_micros(300) } else { Duration::ZERO };
        }
    }
    panic!("polled without an end");
}

/// Polls once, noting what it waits for.
fn poll_once<T>(socket: &Scripted, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll_flagged(socket, poll).0
}

/// The same, and whether it was woken meanwhile.
fn poll_flagged<T>(socket: &Scripted, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> (Poll<T>, bool) {
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    socket.0.borrow_mut().waits = Waits::default();
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let poll = poll(&mut Context::from_waker(&flag.clone().into()));
    (poll, flag.0.load(Ordering::Relaxed))
}

#[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
fn start() -> Instant {
    Instant::now()
}

/// More calls than any conversation here needs, byte by byte.
const MAX_CALLS: usize = 1_000_000;
