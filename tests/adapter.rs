//! What every adapter does, whatever its runtime: compiled by each of them through `#[path]`.
//!
//! The including file has a `mod rt` beside this one, with all that belongs to the runtime. Peers are of two
//! kinds: another WebSocket of the adapter, or a [`Raw`] stream that the test reads and writes frame by frame.
//! Each test runs in a thread of its own and fails when it takes longer than [`LIMIT`].

#[path = "adapter/byte_stream.rs"]
mod byte_stream;
#[path = "adapter/chunks.rs"]
mod chunks;
#[path = "adapter/clients.rs"]
mod clients;
#[path = "adapter/from_request.rs"]
mod from_request;
#[path = "adapter/server.rs"]
mod server;
#[path = "adapter/split.rs"]
mod split;
#[path = "adapter/ws6_8.rs"]
mod ws6_8;

use std::{
    io,
    pin::pin,
    sync::mpsc::{self, RecvTimeoutError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_util::{
    SinkExt, StreamExt,
    future::{Either, join, ready, select},
};
use ws_proto::{Connection, Role};

use crate::rt::{
    self, Link, SECOND,
    ws::{
        AcceptError, Bytes, Chunk, ClientConfig, CloseCode, Config, Error, Event, Fragment, Handshake,
        HandshakeError, HeadLimits, Initiator, Message, OriginPolicy, Prepared, ProtocolError, SendError,
        Server, ServerConfig, Timer, WebSocket, accept, accept_with, client, client_request, connect,
        connect_with,
        http::{HeaderName, HeaderValue, Request, Response, StatusCode},
    },
};

#[path = "adapter/connect.rs"]
mod connect;
#[cfg(feature = "rustls")]
#[path = "adapter/tls.rs"]
mod tls;
#[cfg(feature = "rustls")]
#[path = "adapter/tls_server.rs"]
mod tls_server;

// Messages

#[test]
fn s5_6_short_messages_come_back() {
    over(&ALL, async |client, server| {
        let (mut client, mut server) = open(client, server).await;
        let echo = rt::spawn(async move { echo(&mut server).await });
        converse_and_close(&mut client, &short_messages()).await;
        echo.await.unwrap();
    });
}

#[test]
fn s5_6_long_messages_come_back() {
    over(&[Memory(64), Memory(64 * 1024), Tcp], async |client, server| {
        let (mut client, mut server) = open(client, server).await;
        let echo = rt::spawn(async move { echo(&mut server).await });
        let lengths = [65_535, 65_536, 70_000, 200_000, 1024 * 1024];
        converse(&mut client, &lengths.map(binary)).await;
        converse_and_close(&mut client, &["ž🦀".repeat(30_000).into()]).await;
        echo.await.unwrap();
    });
}

#[test]
fn s5_6_message_at_the_limit_of_16_mib_comes_back() {
    over(&WIDE, async |client, server| {
        let (mut client, mut server) = open(client, server).await;
        let echo = rt::spawn(async move { echo(&mut server).await });
        converse_and_close(&mut client, &[binary(16 * 1024 * 1024)]).await;
        echo.await.unwrap();
    });
}

#[test]
fn s5_6_messages_come_back_through_recv_split() {
    over(&ALL, async |client, server| {
        let (mut client, mut server) = open(client, server).await;
        let echo = rt::spawn(async move { echo_split(&mut server).await });
        converse_and_close(&mut client, &short_messages()).await;
        echo.await.unwrap();
    });
}

#[test]
fn take_message_owns_what_was_lent_once() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let messages = || [binary(10), binary(1 << 20), "text".into(), "t".repeat(1 << 20).into()];
        let peer = rt::spawn(async move {
            for message in messages() {
                peer.feed(message).await.unwrap();
            }
            peer.ping(b"no message").await.unwrap();
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        });
        for message in messages() {
            assert!(ws.recv_ref().await.unwrap().is_some());
            assert_eq!(ws.take_message(), Some(message));
            assert_eq!(ws.take_message(), None);
        }
        assert!(matches!(ws.recv_ref().await.unwrap(), Some(Event::Ping(_))));
        assert_eq!(ws.take_message(), None);
        assert!(ws.recv_ref().await.unwrap().is_none());
        peer.await;
    });
}

#[test]
fn s5_6_fed_messages_come_back_in_order() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let echo = rt::spawn(async move { echo_fed(&mut peer).await });
        for message in short_messages() {
            ws.feed(message).await.unwrap();
        }
        for message in short_messages() {
            assert_eq!(ws.recv().await.unwrap(), Some(message));
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        echo.await.unwrap();
    });
}

#[test]
fn s5_5_2_recv_ref_sees_pings_and_pongs() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move {
            peer.ping(b"are you there").await.unwrap();
            assert_eq!(see(&mut peer).await, Some(Seen::Pong(b"are you there".into())));
            peer.send("yes").await.unwrap();
            peer.room().await.unwrap().pong(b"unasked").unwrap();
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        });
        assert_eq!(see(&mut ws).await, Some(Seen::Ping(b"are you there".into())));
        assert_eq!(see(&mut ws).await, Some(Seen::Message("yes".into())));
        assert_eq!(see(&mut ws).await, Some(Seen::Pong(b"unasked".into())));
        assert_eq!(see(&mut ws).await, None);
        peer.await;
    });
}

#[test]
fn s5_5_2_recv_answers_pings_and_skips_them() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move { (ws.recv().await, ws.recv().await, ws) });
        peer.send(&[ping(b"1"), pong(b"unasked"), text("hello")]).await;
        assert_eq!(peer.frame().await, Some(pong(b"1")));
        peer.send(&[text("bye")]).await;
        let (first, second, _ws) = app.await;
        assert_eq!(first.unwrap(), Some("hello".into()));
        assert_eq!(second.unwrap(), Some("bye".into()));
    });
}

#[test]
fn s5_5_ping_of_126_bytes_is_refused_and_nothing_changes() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        assert_matches!(ws.ping(&[0; 126]).await, Err(Error::Send(SendError::ControlTooLong { len: 126 })));
        ws.ping(&[0; 125]).await.unwrap();
        assert_eq!(peer.frame().await, Some(ping(&[0; 125])));
    });
}

#[test]
fn s5_4_fragments_arrive_as_one_message_with_a_ping_between() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            ws.send_fragment("one ", false).await.unwrap();
            ws.ping(b"between").await.unwrap();
            assert_matches!(ws.send("whole").await, Err(Error::Send(SendError::InFragment)));
            ws.send_fragment("", false).await.unwrap();
            ws.send_fragment("message", true).await.unwrap();
            ws.send_fragment(b"bin", true).await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();
        });
        assert_eq!(see(&mut peer).await, Some(Seen::Ping(b"between".into())));
        assert_eq!(see(&mut peer).await, Some(Seen::Message("one message".into())));
        assert_eq!(see(&mut peer).await, Some(Seen::Message(b"bin".into())));
        assert_eq!(see(&mut peer).await, None);
        sending.await;
    });
}

#[test]
fn s5_prepared_message_goes_to_many() {
    let lengths = [0, 1, 125, 126, 16 * 1024 - 1, 16 * 1024, 70_000];
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async move |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let (mut other, mut other_peer) = pair(role, 1024);
        let sending = rt::spawn(async move {
            for prepared in lengths.map(|len| Prepared::new(binary(len))) {
                let (sent, also_sent) =
                    join(ws.send_prepared(&prepared), other.send_prepared(&prepared)).await;
                sent.and(also_sent).unwrap();
            }
            (ws, other)
        });
        for message in lengths.map(binary) {
            let (got, also_got) = join(peer.recv(), other_peer.recv()).await;
            assert!(got.unwrap() == Some(message.clone()));
            assert!(also_got.unwrap() == Some(message));
        }
        sending.await;
    });
}

// What leaves when

#[test]
fn feed_leaves_nothing_until_flush() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        ws.feed("one").await.unwrap();
        ws.feed("two").await.unwrap();
        assert_eq!(peer.arrived(), []);
        assert!(ws.buffered_amount() >= 10);
        ws.flush().await.unwrap();
        assert_eq!(ws.buffered_amount(), 0);
        assert_eq!(peer.arrived(), [text("one"), text("two")]);
    });
}

#[test]
fn feed_leaves_when_recv_would_wait_and_not_before() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        peer.send(&[text("a"), text("b")]).await;
        assert_eq!(ws.recv().await.unwrap(), Some("a".into()));
        ws.feed("answer").await.unwrap();
        // "b" came with "a": no reason to wait, so no reason to write.
        assert_eq!(ws.recv().await.unwrap(), Some("b".into()));
        assert_eq!(peer.arrived(), []);
        assert!(now_or_never(ws.recv()).await.is_none());
        assert_eq!(peer.arrived(), [text("answer")]);
    });
}

#[test]
fn feed_leaves_at_the_mark() {
    both_roles(async |role| {
        let config = Config { high_water: 1000, ..Config::default() };
        let (mut ws, mut peer) = raw_pair(role, &config);
        for _ in 0..9 {
            ws.feed(binary(100)).await.unwrap();
        }
        assert_eq!(peer.arrived(), []);
        for _ in 0..9 {
            ws.feed(binary(100)).await.unwrap();
            assert!(ws.buffered_amount() <= 1000 + 100 + 14);
        }
        let arrived = peer.arrived().len();
        assert!((9..18).contains(&arrived), "{arrived} messages arrived");
    });
}

#[test]
fn send_is_on_the_wire_before_it_returns() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        ws.send("text").await.unwrap();
        assert_eq!(peer.frame().await, Some(text("text")));
        ws.send_prepared(&Prepared::new("prepared")).await.unwrap();
        assert_eq!(peer.frame().await, Some(text("prepared")));
        ws.send_fragment("part", false).await.unwrap();
        assert_eq!(peer.frame().await, Some(Frame { first: 0x01, payload: b"part".into() }));
        ws.ping(b"ping").await.unwrap();
        assert_eq!(peer.frame().await, Some(ping(b"ping")));
        assert_eq!(ws.buffered_amount(), 0);
    });
}

// Closing

#[test]
fn s7_1_2_closing_handshake_is_told_on_both_sides() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        assert_eq!(ws.closed(), None);
        let peer = rt::spawn(async move {
            assert_eq!(peer.recv().await.unwrap(), None);
            assert_eq!(peer.recv().await.unwrap(), None);
            peer
        });
        ws.close(CloseCode::new(4001), "bye").await.unwrap();
        let peer = peer.await;
        assert_closed(&ws, 4001, "", true, Initiator::Local);
        assert_closed(&peer, 4001, "bye", true, Initiator::Peer);
    });
}

#[test]
fn s7_1_2_both_sides_close_at_once() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move {
            peer.start_close(CloseCode::GOING_AWAY, "peer").unwrap();
            assert_eq!(peer.recv().await.unwrap(), None);
            peer
        });
        ws.start_close(CloseCode::NORMAL, "ws").unwrap();
        assert_eq!(ws.recv().await.unwrap(), None);
        let peer = peer.await;
        // Whose Close frame was the first depends on who reads when, the codes do not.
        assert_eq!(
            ws.closed().map(|closed| (closed.code, closed.clean)),
            Some((CloseCode::GOING_AWAY, true))
        );
        assert_eq!(peer.closed().map(|closed| (closed.code, closed.clean)), Some((CloseCode::NORMAL, true)));
    });
}

#[test]
fn s5_5_1_close_frame_without_code_is_1005_and_answered_alike() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move {
            assert_eq!(ws.recv().await.unwrap(), None);
            ws
        });
        peer.send(&[Frame { first: 0x88, payload: vec![] }]).await;
        assert_eq!(peer.frame().await, Some(Frame { first: 0x88, payload: vec![] }));
        drop(peer);
        assert_closed(&app.await, 1005, "", true, Initiator::Peer);
    });
}

#[test]
fn s5_5_1_close_delivers_what_was_fed_before() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { collect(&mut peer).await });
        for message in short_messages() {
            ws.feed(message).await.unwrap();
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        assert_eq!(peer.await.unwrap(), short_messages());
    });
}

#[test]
fn s5_5_1_messages_still_arrive_after_start_close() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move {
            ws.start_close(CloseCode::NORMAL, "enough").unwrap();
            (collect(&mut ws).await.unwrap(), ws)
        });
        assert_eq!(peer.frame().await, Some(close(1000, "enough")));
        peer.send(&[text("late"), text("later"), close(1000, ""), text("too late")]).await;
        peer.leave(role).await;
        let (messages, ws) = app.await;
        assert_eq!(messages, ["late".into(), "later".into()]);
        assert_closed(&ws, 1000, "", true, Initiator::Local);
    });
}

#[test]
fn s5_5_1_close_drops_messages_that_still_arrive() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move {
            ws.close(CloseCode::NORMAL, "enough").await.unwrap();
            (ws.recv().await, ws)
        });
        assert_eq!(peer.frame().await, Some(close(1000, "enough")));
        peer.send(&[text("late"), close(1000, "")]).await;
        peer.leave(role).await;
        let (received, ws) = app.await;
        assert_eq!(received.unwrap(), None);
        assert_closed(&ws, 1000, "", true, Initiator::Local);
    });
}

#[test]
fn s5_5_1_nothing_can_be_sent_after_close() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { collect(&mut peer).await });
        ws.start_close(CloseCode::NORMAL, "").unwrap();
        assert_nothing_can_be_sent(&mut ws).await;
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_nothing_can_be_sent(&mut ws).await;
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(peer.await.unwrap(), []);
    });
}

#[test]
fn s7_4_close_with_what_must_not_travel_changes_nothing() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let refused = ws.close(CloseCode::NO_STATUS, "").await;
        assert_matches!(refused, Err(Error::Send(SendError::CloseCode(1005))));
        let refused = ws.start_close(CloseCode::new(2999), "");
        assert_matches!(refused, Err(Error::Send(SendError::CloseCode(2999))));
        let refused = ws.close(CloseCode::NORMAL, &"x".repeat(124)).await;
        assert_matches!(refused, Err(Error::Send(SendError::ControlTooLong { len: 124 })));
        ws.send("still open").await.unwrap();
        assert_eq!(peer.frame().await, Some(text("still open")));
    });
}

#[test]
fn s7_1_1_server_closes_tcp_first() {
    test(async {
        let (mut server, mut peer) = raw_pair(Role::Server, &Config::default());
        let app = rt::spawn(async move { server.recv().await });
        peer.send(&[close(1000, "")]).await;
        assert_eq!(peer.rest().await, [close(1000, "")]);
        drop(peer);
        assert_eq!(app.await.unwrap(), None);

        let (mut client, mut peer) = raw_pair(Role::Client, &Config::default());
        peer.send(&[close(1000, "")]).await;
        assert!(now_or_never(client.recv()).await.is_none());
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        // Only after the server has.
        assert!(now_or_never(peer.fill()).await.is_none());
        rt::shutdown(&mut peer.link).await.unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
        assert_eq!(peer.rest().await, []);
    });
}

#[test]
fn s7_1_5_peer_that_vanishes_is_an_error_once() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { peer.send("last words").await.map(|()| peer.terminate()) });
        assert_eq!(ws.recv().await.unwrap(), Some("last words".into()));
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_closed(&ws, 1006, "", false, Initiator::Peer);
        peer.await.unwrap();
    });
}

#[test]
fn s7_1_5_peer_that_vanishes_inside_a_frame_is_an_error_once() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let bytes = text("never complete").encode(peer.masked);
        let peer = rt::spawn(async move { rt::write_all(&mut peer.link, &bytes[..bytes.len() - 1]).await });
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_closed(&ws, 1006, "", false, Initiator::Peer);
        peer.await.unwrap();
    });
}

#[test]
fn s7_1_5_nothing_can_be_sent_once_the_peer_has_vanished() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, peer) = open_as(role, mine, theirs).await;
        peer.terminate();
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_nothing_can_be_sent(&mut ws).await;
    });
}

#[test]
fn s7_1_5_failed_write_loses_nothing_that_arrived() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        peer.send(&[text("one"), text("two")]).await;
        drop(peer);
        assert_matches!(ws.send("into the void").await, Err(Error::Io(_)));
        assert_eq!(ws.recv().await.unwrap(), Some("one".into()));
        assert_eq!(ws.recv().await.unwrap(), Some("two".into()));
        assert_matches!(ws.recv().await, Err(Error::Io(_) | Error::Abnormal));
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_nothing_can_be_sent(&mut ws).await;
    });
}

#[test]
fn s7_1_7_violation_puts_close_on_the_wire_and_ends_in_one_recv() {
    over_roles(&ALL, async |role, mine, theirs| {
        // One link for each violation but the first.
        let mut links = Some((mine, theirs));
        for (violation, error) in violations() {
            let (mine, theirs) = links.take().unwrap_or_else(|| rt::duplex(64));
            let config = Config { max_message: 1024, ..Config::default() };
            let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
            let app = rt::spawn(async move { (ws.recv().await, ws.recv().await, ws) });

            peer.send(&[violation]).await;
            let [answer] = &peer.rest().await[..] else { panic!("one frame for {error:?}") };

            assert_eq!(answer.first, 0x88);
            assert_eq!(answer.payload[..2], error.close_code().get().to_be_bytes(), "{error:?}");
            drop(peer);
            let (first, second, ws) = app.await;
            assert_matches!(first, Err(Error::Protocol(found)) if found == error);
            assert_matches!(second, Ok(None));
            assert_closed(&ws, 1006, "", false, Initiator::Peer);
        }
    });
}

#[test]
fn s5_1_wrong_masking_puts_1002_on_the_wire() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move { ws.recv().await });
        peer.masked = !peer.masked;
        peer.send(&[text("hello")]).await;
        let answers = peer.rest().await;
        assert_eq!(answers[0].payload[..2], 1002_u16.to_be_bytes());
        drop(peer);
        let error = if role == Role::Server { ProtocolError::Unmasked } else { ProtocolError::Masked };
        assert_matches!(app.await, Err(Error::Protocol(found)) if found == error);
    });
}

#[test]
fn s7_1_7_messages_before_a_violation_are_delivered() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let app = rt::spawn(async move {
            let messages = [ws.recv().await.unwrap(), ws.recv().await.unwrap()];
            (messages, ws.recv().await, ws.recv().await)
        });
        peer.send(&[text("one"), text("two"), Frame { first: 0x83, payload: vec![] }, text("three")]).await;
        assert_eq!(peer.rest().await.len(), 1);
        drop(peer);
        let (messages, error, end) = app.await;
        assert_eq!(messages, [Some("one".into()), Some("two".into())]);
        assert_matches!(error, Err(Error::Protocol(ProtocolError::ReservedOpcode(3))));
        assert_matches!(end, Ok(None));
    });
}

#[test]
fn s7_1_1_peer_that_closes_and_keeps_sending_is_left() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let config = Config { close_timeout: Some(Duration::from_millis(100)), ..Config::default() };
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
        let app = rt::spawn(async move { (ws.recv().await, ws.closed().cloned()) });
        peer.send(&[close(1000, "")]).await;
        let flood = rt::spawn(async move { while peer.try_send(&[text("still here")]).await.is_ok() {} });
        let (received, closed) = app.await;
        assert_eq!(received.unwrap(), None);
        assert_eq!(closed.map(|closed| (closed.code, closed.clean)), Some((CloseCode::NORMAL, true)));
        flood.await;
    });
}

#[test]
fn s7_1_7_peer_that_breaks_the_protocol_and_keeps_sending_is_left() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let config = Config { close_timeout: Some(Duration::from_millis(100)), ..Config::default() };
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
        let app = rt::spawn(async move { ws.recv().await });
        peer.send(&[Frame { first: 0x83, payload: vec![] }]).await;
        let flood = rt::spawn(async move { while peer.try_send(&[text("still here")]).await.is_ok() {} });
        assert_matches!(app.await, Err(Error::Protocol(ProtocolError::ReservedOpcode(3))));
        flood.await;
    });
}

#[test]
fn s7_1_2_peer_that_never_stops_sending_cannot_hold_up_close() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let config = Config { close_timeout: Some(Duration::from_millis(100)), ..Config::default() };
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
        let flood = rt::spawn(async move { while peer.try_send(&[text("and another")]).await.is_ok() {} });
        let closed = ws.close(CloseCode::NORMAL, "").await;
        assert_matches!(closed, Err(Error::Timeout(Timer::Close)));
        drop(ws);
        flood.await;
    });
}

// The opening handshake, server

#[test]
fn s4_2_2_refusals_are_answered_with_their_status() {
    over(&[Memory(7), Memory(64 * 1024), Tcp], async |client, server| {
        let mut links = Some((client, server));
        for (request, config, status) in refused_requests() {
            let (mut client, server) = links.take().unwrap_or_else(|| rt::duplex(100));
            let accepting = rt::spawn(accept_with(server, config));
            let _ = rt::write_all(&mut client, &request).await;
            let response = read_response(&mut client).await;
            assert_eq!(response.status, status, "{:?}", String::from_utf8_lossy(&request));
            assert_eq!(response.field("connection"), Some("close"));
            assert!(!response.body.is_empty());
            if status == 426 {
                assert_eq!(response.field("upgrade"), Some("websocket"));
                assert_eq!(response.field("sec-websocket-version"), Some("13"));
            }
            drop(client);
            let error = handshake_error(accepting.await);
            assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{error:?}");
        }
    });
}

#[test]
fn s4_2_1_end_at_every_byte_of_the_request_is_no_request() {
    test(async {
        for half_closed in [true, false] {
            for len in 0..UPGRADE.len() {
                let (mut client, server) = rt::duplex(1024);
                rt::write_all(&mut client, &UPGRADE.as_bytes()[..len]).await.unwrap();
                if half_closed {
                    rt::shutdown(&mut client).await.unwrap();
                    assert_matches!(handshake_error(accept(server).await), HandshakeError::Eof);
                    assert_eq!(read_to_end(&mut client).await.unwrap(), b"");
                } else {
                    drop(client);
                    assert_matches!(handshake_error(accept(server).await), HandshakeError::Eof);
                }
            }
        }
    });
}

#[test]
fn s4_2_1_request_may_come_byte_by_byte_and_frames_behind_it() {
    over(&ALL, async |mut client, server| {
        let sending = rt::spawn(async move {
            let mut bytes = UPGRADE.as_bytes().to_vec();
            bytes.extend(text("early").encode(true));
            bytes.extend(close(1000, "").encode(true));
            rt::write_all(&mut client, &bytes).await.unwrap();
            let response = read_head(&mut client).await;
            assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
            assert!(response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{response}");
            Raw { link: client, masked: true, unread: vec![] }.rest().await
        });
        let (mut ws, request) = accept(server).await.unwrap();
        assert_eq!(request.uri().path(), "/chat");
        assert_eq!(ws.recv().await.unwrap(), Some("early".into()));
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(sending.await, [close(1000, "")]);
    });
}

#[test]
fn slow_request_is_answered_with_408() {
    timed(async {
        let (mut client, server) = rt::duplex(1024);
        let start = rt::now();
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { head: head_limits(), ..server_config() }));
        let mut bytes = UPGRADE.bytes();
        let response = loop {
            rt::write_all(&mut client, &[bytes.next().unwrap()]).await.unwrap();
            if let Either::Left((response, _)) =
                select(pin!(read_response(&mut client)), pin!(rt::sleep(SECOND))).await
            {
                break response;
            }
        };
        assert_elapsed(start, 10);
        assert_eq!(response.status, 408);
        drop(client);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Timeout);
    });
}

#[test]
fn silent_client_is_answered_with_408_and_left_behind_after_the_close_timeout() {
    timed(async {
        let (mut client, server) = rt::duplex(1024);
        let start = rt::now();
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { head: head_limits(), ..server_config() }));
        assert_eq!(read_response(&mut client).await.status, 408);
        assert_elapsed(start, 10);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Timeout);
        assert_elapsed(start, 20);
    });
}

#[test]
fn no_reset_overtakes_a_refusal() {
    over(&WIDE, async |mut client, server| {
        let accepting = rt::spawn(accept(server));
        rt::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        for _ in 0..1024 {
            rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        }
        let response = read_response(&mut client).await;
        assert_eq!(response.status, 426);
        // It still reads.
        rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        drop(client);
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
    });
}

#[test]
fn refused_client_that_never_stops_sending_is_left() {
    over(&WIDE, async |mut client, server| {
        let close_timeout = Some(Duration::from_millis(100));
        let connection = Config { close_timeout, ..Config::default() };
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { connection, ..ServerConfig::default() }));
        rt::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let flood = rt::spawn(async move { while rt::write_all(&mut client, &[0; 1024]).await.is_ok() {} });
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
        flood.await;
    });
}

#[test]
fn handshake_is_looked_at_adapted_and_accepted() {
    over(&ALL, async |client_link, server_link| {
        let accepting = rt::spawn(async move {
            let mut handshake = Handshake::new(server_link, ServerConfig::default());
            let request = handshake.request().await.unwrap();
            assert_eq!(request.uri(), "/chat?room=1");
            assert_eq!(request.headers()["x-token"], "secret");
            let mut acceptance = handshake.check().await.unwrap();
            assert_eq!(acceptance.offered(), ["a", "b"]);
            assert_eq!(acceptance.subprotocol(), None);
            assert_eq!(acceptance.set_subprotocol(Some("c")), Err(AcceptError::Subprotocol));
            acceptance.set_subprotocol(Some("b")).unwrap();
            let name = HeaderName::from_static("x-served-by");
            acceptance.add_header(name, HeaderValue::from_static("us")).unwrap();
            let (ws, request) = handshake.accept_with(acceptance).await.unwrap();
            assert_eq!(request.uri(), "/chat?room=1");
            ws
        });
        let mut request = client_request("ws://localhost/chat?room=1").unwrap();
        request.headers_mut().insert("x-token", HeaderValue::from_static("secret"));
        let config = ClientConfig { subprotocols: vec!["a".into(), "b".into()], ..ClientConfig::default() };
        let (client, response) = client(client_link, &request, &config).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["x-served-by"], "us");
        assert_eq!(client.subprotocol(), Some("b"));
        assert_eq!(accepting.await.subprotocol(), Some("b"));
    });
}

#[test]
fn s4_2_2_subprotocol_of_the_configuration_is_chosen() {
    over(&WIDE, async |client, server| {
        let config = ClientConfig { subprotocols: vec!["x".into(), "b".into()], ..ClientConfig::default() };
        let served = ServerConfig { subprotocols: vec!["a".into(), "b".into()], ..ServerConfig::default() };
        let (client, server) = open_with(client, server, config, served).await;
        assert_eq!(client.subprotocol(), Some("b"));
        assert_eq!(server.subprotocol(), Some("b"));
    });
}

#[test]
fn application_refuses_with_its_own_response() {
    over(&ALL, async |client_link, server_link| {
        let refusing = rt::spawn(async move {
            let mut handshake = Handshake::new(server_link, ServerConfig::default());
            handshake.request().await.unwrap();
            let mut response = Response::new(Bytes::from("who are you?\n"));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Basic"));
            handshake.refuse(response).await;
        });
        let request = client_request("ws://localhost/").unwrap();
        let refused = client(client_link, &request, &ClientConfig::default()).await;
        let HandshakeError::Status(response) = handshake_error(refused) else { panic!("a status") };
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Basic");
        assert_eq!(response.body(), "who are you?\n");
        refusing.await;
    });
}

#[test]
fn application_may_refuse_without_looking() {
    over(&ALL, async |mut client, server| {
        let response = Response::builder().status(503).body("full\n").unwrap();
        let refusing = rt::spawn(Handshake::new(server, ServerConfig::default()).refuse(response));
        rt::write_all(&mut client, UPGRADE.as_bytes()).await.unwrap();
        let response = read_response(&mut client).await;
        assert_eq!((response.status, &response.body[..]), (503, "full\n"));
        drop(client);
        refusing.await;
    });
}

#[test]
fn failed_check_has_refused_already() {
    over(&ALL, async |mut client, server| {
        let checking = rt::spawn(async move {
            let mut handshake = Handshake::new(server, ServerConfig::default());
            assert_eq!(handshake.request().await.unwrap().uri(), "/plain");
            (handshake_error(handshake.check().await), handshake_error(handshake.check().await))
        });
        rt::write_all(&mut client, b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(read_response(&mut client).await.status, 426);
        drop(client);
        let (error, again) = checking.await;
        assert_matches!(error, HandshakeError::NotUpgrade);
        assert_matches!(again, HandshakeError::NotUpgrade);
    });
}

#[test]
fn server_accepts_others_while_a_handshake_hangs() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let _slow = rt::connect(address).await;
        let serving = rt::spawn(async move {
            let (mut ws, _request) = server.accept().await.unwrap();
            echo(&mut ws).await
        });
        let (mut ws, _response) = connect(&format!("ws://{address}/")).await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
        serving.await.unwrap();
    });
}

// The opening handshake, client

#[test]
fn s4_1_connect_with_sends_the_fields_of_the_application() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let accepting = rt::spawn(async move { server.accept().await });
        let mut request = client_request(&format!("ws://{address}/chat?room=1")).unwrap();
        request.headers_mut().insert("origin", HeaderValue::from_static("https://example.com"));
        let (_ws, response) = connect_with(request, ClientConfig::default()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let (_ws, request) = accepting.await.unwrap();
        assert_eq!(request.uri(), "/chat?room=1");
        assert_eq!(request.headers()["origin"], "https://example.com");
        assert_eq!(request.headers()["host"], address.to_string());
    });
}

#[test]
fn s4_1_frames_right_behind_the_answer_are_received() {
    over(&ALL, async |client_link, mut server| {
        let serving = rt::spawn(async move {
            let mut answer = answer_to(&read_head(&mut server).await).into_bytes();
            answer.extend(text("early").encode(false));
            rt::write_all(&mut server, &answer).await.unwrap();
            server
        });
        let request = client_request("ws://localhost/").unwrap();
        let (mut ws, _) = client(client_link, &request, &ClientConfig::default()).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("early".into()));
        serving.await;
    });
}

#[test]
fn connect_to_a_port_where_nobody_listens_is_an_io_error() {
    test(async {
        let address = rt::Listener::bind().await.address();
        let refused = connect(&format!("ws://{address}/")).await;
        assert_matches!(refused, Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn s3_connect_to_what_is_no_url_of_a_websocket_fails() {
    test(async {
        let urls = ["", "localhost", "//localhost/", "ftp://localhost/", "ws://", "ws:///chat", "ws://:80/"];
        for url in urls.into_iter().chain([
            "ws://local host/",
            "ws://localhost/#top",
            "ws://localhost:x/",
            "ws://localhost:65536/",
        ]) {
            println!("{url}");
            assert_matches!(handshake_error(connect(url).await), HandshakeError::Url(_));
        }
    });
}

#[test]
fn connect_does_not_speak_plaintext_to_wss() {
    test(async {
        let listener = rt::Listener::bind().await;
        let url = format!("wss://{}/", listener.address());
        let first = async {
            let mut byte = [0];
            rt::read(&mut listener.accept().await, &mut byte).await.unwrap();
            byte[0]
        };
        match select(pin!(first), pin!(connect(&url))).await {
            Either::Left((first, _)) => assert_eq!(first, 22, "a handshake of TLS"),
            Either::Right((refused, _)) => {
                let error = handshake_error(refused);
                assert_matches!(error, HandshakeError::Tls(_));
                assert!(error.is_permanent());
            }
        }
    });
}

#[test]
fn s4_1_refusal_is_told_with_its_status_and_body() {
    test(async {
        let listener = rt::Listener::bind().await;
        let url = format!("ws://{}/", listener.address());
        let serving = rt::spawn(async move {
            let mut link = listener.accept().await;
            read_head(&mut link).await;
            let answer = b"HTTP/1.1 403 Forbidden\r\nX-Why: yes\r\nContent-Length: 9\r\n\r\nno entry\n";
            rt::write_all(&mut link, answer).await.unwrap();
            link
        });
        let HandshakeError::Status(response) = handshake_error(connect(&url).await) else {
            panic!("a status");
        };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["x-why"], "yes");
        assert_eq!(response.body(), "no entry\n");
        serving.await;
    });
}

#[test]
fn s4_1_wrong_answers_are_no_websocket() {
    over(&[Memory(7), Memory(64 * 1024), Tcp], async |client_link, server| {
        let mut links = Some((client_link, server));
        for (change, expected) in wrong_answers() {
            let (client_link, mut server) = links.take().unwrap_or_else(|| rt::duplex(100));
            let serving = rt::spawn(async move {
                let answer = change(answer_to(&read_head(&mut server).await));
                rt::write_all(&mut server, answer.as_bytes()).await.unwrap();
            });
            let request = client_request("ws://localhost/").unwrap();
            let error = client(client_link, &request, &ClientConfig::default()).await;
            assert_eq!(format!("{:?}", handshake_error(error)), expected);
            serving.await;
        }
    });
}

#[test]
fn server_that_never_answers_is_a_timeout() {
    timed(async {
        let (client_link, _server) = rt::duplex(1024);
        let config = ClientConfig { head: head_limits(), ..ClientConfig::default() };
        let start = rt::now();
        let silent = client(client_link, &client_request("ws://localhost/").unwrap(), &config).await;
        assert_matches!(handshake_error(silent), HandshakeError::Timeout);
        assert_elapsed(start, 10);
    });
}

#[test]
fn listener_that_never_accepts_is_a_timeout() {
    timed(async {
        let listener = rt::Listener::bind().await;
        let request = client_request(&format!("ws://{}/", listener.address())).unwrap();
        let config = ClientConfig { head: head_limits(), ..ClientConfig::default() };
        assert_matches!(handshake_error(connect_with(request, config).await), HandshakeError::Timeout);
    });
}

// Stream and Sink

#[test]
fn stream_and_sink_carry_a_conversation() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let echo = rt::spawn(async move { echo(&mut peer).await.map(|()| peer) });
        for message in short_messages() {
            SinkExt::send(&mut ws, message.clone()).await.unwrap();
            assert_eq!(ws.next().await.unwrap().unwrap(), message);
        }
        SinkExt::close(&mut ws).await.unwrap();
        assert!(ws.next().await.is_none());
        assert_closed(&ws, 1000, "", true, Initiator::Local);
        assert_closed(&echo.await.unwrap(), 1000, "", true, Initiator::Peer);
    });
}

#[test]
fn stream_ends_after_its_error() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        peer.send(&[text("one")]).await;
        drop(peer);
        assert_eq!(ws.next().await.unwrap().unwrap(), "one".into());
        assert_matches!(ws.next().await, Some(Err(Error::Abnormal)));
        assert!(ws.next().await.is_none());
        assert!(ws.next().await.is_none());
    });
}

#[test]
fn forward_echoes() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, peer) = open_as(role, mine, theirs).await;
        let (sink, stream) = StreamExt::split(peer);
        let echo = rt::spawn(stream.forward(sink));
        converse_and_close(&mut ws, &short_messages()).await;
        echo.await.unwrap();
    });
}

#[test]
fn split_halves_work_in_two_tasks_through_a_full_pipe() {
    over_roles(&[Memory(7), Memory(64), Tcp], async |role, mine, theirs| {
        const COUNT: usize = 100;
        let (ws, peer) = open_as(role, mine, theirs).await;
        let [mine, theirs] = [ws, peer].map(|ws| {
            let (mut sink, mut stream) = StreamExt::split(ws);
            let sending = rt::spawn(async move {
                for i in 0..COUNT {
                    sink.send(binary(i)).await.unwrap();
                }
                sink
            });
            let receiving = rt::spawn(async move {
                for i in 0..COUNT {
                    assert_eq!(stream.next().await.unwrap().unwrap(), binary(i));
                }
                stream
            });
            join(sending, receiving)
        });
        let _halves = join(mine, theirs).await;
    });
}

#[test]
fn split_half_that_flushes_does_not_take_the_waker_of_the_half_that_receives() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(64);
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (mut sink, mut stream) = StreamExt::split(ws);
        let receiving = rt::spawn(async move { stream.next().await });
        settle().await;
        // The pipe is full, so the flush waits, and reads meanwhile.
        let sending = rt::spawn(async move { sink.send(binary(1000)).await.map(|()| sink) });
        settle().await;
        assert_eq!(
            within(10, peer.frame()).await.expect("it was woken"),
            Some(Frame { first: 0x82, payload: binary(1000).into_bytes().into() })
        );
        let _sink = within(10, sending).await.expect("it was woken").unwrap();
        peer.send(&[text("hello")]).await;
        assert_eq!(within(10, receiving).await.expect("it was woken").unwrap().unwrap(), "hello".into());
    });
}

#[test]
fn split_half_that_receives_does_not_take_the_waker_of_the_half_that_flushes() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(64);
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (mut sink, mut stream) = StreamExt::split(ws);
        let sending = rt::spawn(async move { sink.send(binary(1000)).await.map(|()| sink) });
        settle().await;
        let receiving = rt::spawn(async move { stream.next().await.map(|message| (message, stream)) });
        settle().await;
        peer.send(&[text("hello")]).await;
        let (message, _stream) = within(10, receiving).await.expect("it was woken").unwrap();
        assert_eq!(message.unwrap(), "hello".into());
        assert_eq!(
            within(10, peer.frame()).await.expect("it was woken"),
            Some(Frame { first: 0x82, payload: binary(1000).into_bytes().into() })
        );
        let _sink = within(10, sending).await.expect("it was woken").unwrap();
    });
}

#[test]
fn split_half_that_closes_does_not_take_the_waker_of_the_half_that_receives() {
    both_roles_timed(async |role| {
        let (ws, mut peer) = raw_pair(role, &config());
        let (mut sink, mut stream) = StreamExt::split(ws);
        let receiving = rt::spawn(async move { stream.next().await.is_none() });
        settle().await;
        let closing = rt::spawn(async move { sink.close().await.map(|()| sink) });
        assert_eq!(within(5, peer.frame()).await.expect("it was woken"), Some(close(1000, "")));
        peer.send(&[close(1000, "")]).await;
        drop(peer);
        let _sink = within(5, closing).await.expect("it was woken").unwrap();
        assert!(within(5, receiving).await.expect("it was woken"));
    });
}

#[test]
fn split_half_that_flushes_does_not_take_the_timer_of_the_half_that_receives() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(64);
        let (ws, mut peer) = raw_peer(role, mine, theirs, &config());
        let start = rt::now();
        let (mut sink, mut stream) = StreamExt::split(ws);
        let receiving = rt::spawn(async move { stream.next().await });
        settle().await;
        let sending = rt::spawn(async move { sink.send(binary(1000)).await.map(|()| sink) });
        settle().await;
        assert!(peer.frame().await.is_some());
        let _sink = within(10, sending).await.expect("it was woken").unwrap();
        let received = within(60, receiving).await.expect("it was woken");
        assert_matches!(received, Some(Err(Error::Timeout(Timer::Pong))));
        assert_elapsed(start, 40);
    });
}

#[test]
fn split_half_that_waits_to_flush_learns_of_the_end_from_the_half_that_receives() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(64);
        let (ws, peer) = raw_peer(role, mine, theirs, &config());
        let (mut sink, mut stream) = StreamExt::split(ws);
        let sending = rt::spawn(async move { sink.send(binary(1000)).await });
        settle().await;
        let receiving = rt::spawn(async move { stream.next().await });
        settle().await;
        drop(peer);
        let sent = within(5, sending).await.expect("it was woken");
        assert_matches!(sent, Err(Error::Io(_) | Error::Abnormal));
        let received = within(5, receiving).await.expect("it was woken");
        assert_matches!(received, Some(Err(Error::Io(_) | Error::Abnormal)));
    });
}

// Cancelled futures

#[test]
fn cancelled_recv_loses_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| cancelled_recv(role, polls, recv_message).await).await
    });
}

#[test]
fn cancelled_recv_ref_loses_nothing() {
    both_roles(async |role| at_every_poll(async |polls| cancelled_recv(role, polls, recv_ref).await).await);
}

#[test]
fn cancelled_recv_split_loses_nothing() {
    both_roles(async |role| at_every_poll(async |polls| cancelled_recv(role, polls, recv_split).await).await);
}

#[test]
fn cancelled_send_has_queued_its_message_whole() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config::default());
            ws.send("before").await.unwrap();
            let done = cancel_after(polls, ws.send(binary(40))).await;
            ws.send("after").await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();

            let sent = if polls == 0 { vec![] } else { vec![binary(40)] };
            assert_eq!(peer.await, [vec!["before".into()], sent, vec!["after".into()]].concat());
            done.is_some()
        })
        .await;
    });
}

#[test]
fn cancelled_send_that_waited_for_room_has_queued_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config { high_water: 1, ..Config::default() });
            ws.feed(binary(40)).await.unwrap();
            let before = ws.buffered_amount();
            let done = cancel_after(polls, ws.send(binary(200))).await;
            // What is queued is longer than what was queued only if the message is.
            let queued = done.is_some() || ws.buffered_amount() > before;
            ws.send("after").await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();

            let messages = peer.await;
            assert_eq!(messages.first(), Some(&binary(40)));
            assert_eq!(messages.last(), Some(&"after".into()));
            match &messages[1..messages.len() - 1] {
                [] => assert!(!queued),
                [message] => assert_eq!(*message, binary(200)),
                more => panic!("{} messages for one", more.len()),
            }
            done.is_some()
        })
        .await;
    });
}

#[test]
fn cancelled_feed_has_queued_its_message_whole_or_not() {
    both_roles(async |role| {
        let mut outcomes = Vec::new();
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config { high_water: 1, ..Config::default() });
            ws.feed("before").await.unwrap();
            let done = cancel_after(polls, ws.feed(binary(40))).await;
            ws.send("after").await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();

            let sent = if done.is_some() { vec![binary(40)] } else { vec![] };
            assert_eq!(peer.await, [vec!["before".into()], sent, vec!["after".into()]].concat());
            outcomes.push(done.is_some());
            done.is_some()
        })
        .await;
        assert!(outcomes.len() > 2, "it never waited");
    });
}

#[test]
fn cancelled_flush_loses_and_repeats_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config::default());
            let messages = [binary(30), "žluť".into(), binary(0), binary(126)];
            for message in &messages {
                ws.feed(message.clone()).await.unwrap();
            }
            let done = cancel_after(polls, ws.flush()).await;
            ws.feed("after").await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();
            assert_eq!(peer.await, [&messages[..], &["after".into()]].concat());
            done.is_some()
        })
        .await;
    });
}

#[test]
fn cancelled_send_fragment_and_send_prepared_lose_and_repeat_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config::default());
            let prepared = Prepared::new(binary(30));
            let sent = cancel_after(polls, ws.send_prepared(&prepared)).await;
            let fragment = cancel_after(polls, ws.send_fragment("part ", false)).await;
            ws.send_fragment("end", true).await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();
            let expected = if polls == 0 { vec!["end".into()] } else { vec![binary(30), "part end".into()] };
            assert_eq!(peer.await, expected);
            sent.is_some() && fragment.is_some()
        })
        .await;
    });
}

#[test]
fn cancelled_close_goes_on() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config::default());
            ws.feed(binary(40)).await.unwrap();
            let done = cancel_after(polls, ws.close(CloseCode::new(4000), "cancelled")).await;
            if polls == 0 {
                ws.start_close(CloseCode::new(4000), "late").unwrap();
            }
            assert_eq!(ws.recv().await.unwrap(), None);
            ws.close(CloseCode::NORMAL, "again").await.unwrap();
            assert_closed(&ws, 4000, "", true, Initiator::Local);
            assert_eq!(peer.await, [binary(40)]);
            done.is_some()
        })
        .await;
    });
}

#[test]
fn cancelled_handshake_goes_on() {
    test(async {
        at_every_poll(async |polls| {
            let (client_link, server_link) = rt::duplex(3);
            let connecting = rt::spawn(async move {
                let request = client_request("ws://localhost/").unwrap();
                client(client_link, &request, &ClientConfig::default()).await.unwrap().0
            });
            let mut handshake = Handshake::new(server_link, ServerConfig::default());
            let done = cancel_after(polls, async { handshake.request().await.map(drop) }).await;
            let _ = cancel_after(polls, handshake.check()).await;
            let (mut server, _request) = handshake.accept().await.unwrap();
            let echo = rt::spawn(async move { echo(&mut server).await });
            converse_and_close(&mut connecting.await, &["hello".into()]).await;
            echo.await.unwrap();
            done.is_some()
        })
        .await;
    });
}

#[test]
fn every_recv_and_every_flush_is_raced_and_nothing_is_lost() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let echo = rt::spawn(async move {
            while let Some(message) = raced!(peer.recv()).unwrap() {
                peer.feed(message).await.unwrap();
                raced!(peer.flush()).unwrap();
            }
            peer
        });
        for message in short_messages() {
            ws.feed(message.clone()).await.unwrap();
            raced!(ws.flush()).unwrap();
            assert_eq!(raced!(ws.recv()).unwrap(), Some(message));
        }
        raced!(ws.close(CloseCode::NORMAL, "")).unwrap();
        assert_closed(&ws, 1000, "", true, Initiator::Local);
        assert_closed(&echo.await, 1000, "", true, Initiator::Peer);
    });
}

// Back-pressure

/// Largest message of the floods below, and what its frame adds at most.
const FLOOD: usize = 4096;
const OVERHEAD: usize = 14;

#[test]
fn client_that_sends_and_never_reads_is_not_read_and_times_out_in_send() {
    timed(async {
        let (mut server, peer) = raw_pair(Role::Server, &config());
        let start = rt::now();
        let flood = rt::spawn(flood(peer, Frame { first: 0x82, payload: vec![7; FLOOD] }));
        let error = loop {
            let message = server.recv().await.unwrap().unwrap();
            if let Err(error) = server.send(message).await {
                break error;
            }
            assert!(server.buffered_amount() <= config().high_water + FLOOD + OVERHEAD);
        };
        assert_matches!(error, Error::Timeout(Timer::Write));
        assert_elapsed(start, 30);
        assert_closed(&server, 1006, "", false, Initiator::Local);
        drop(server);
        let taken = flood.await;
        assert!(taken < 128, "took {taken} messages of a peer that reads none");
    });
}

#[test]
fn client_that_sends_and_never_reads_is_not_read_and_times_out_in_feed() {
    timed(async {
        let (mut server, peer) = raw_pair(Role::Server, &config());
        let start = rt::now();
        let flood = rt::spawn(flood(peer, Frame { first: 0x82, payload: vec![7; FLOOD] }));
        let error = loop {
            let message = server.recv().await.unwrap().unwrap();
            if let Err(error) = server.feed(message).await {
                break error;
            }
            assert!(server.buffered_amount() <= config().high_water + FLOOD + OVERHEAD);
        };
        assert_matches!(error, Error::Timeout(Timer::Write));
        assert_elapsed(start, 30);
        assert_closed(&server, 1006, "", false, Initiator::Local);
        drop(server);
        let taken = flood.await;
        assert!(taken < 256, "took {taken} messages of a peer that reads none");
    });
}

#[test]
fn client_that_sends_and_never_reads_is_not_read_and_times_out_in_recv_split() {
    timed(async {
        let (mut server, peer) = raw_pair(Role::Server, &config());
        let start = rt::now();
        let flood = rt::spawn(flood(peer, Frame { first: 0x82, payload: vec![7; FLOOD] }));
        let error = loop {
            match server.recv_split().await {
                Ok(Some((Event::Binary(payload), sender))) => match sender.send_binary(payload) {
                    // What arrived before the end is still delivered, and can no more be answered.
                    Ok(()) | Err(SendError::Closed) => {
                        assert!(sender.buffered_amount() <= config().high_water + FLOOD + OVERHEAD);
                    }
                    Err(error) => panic!("{error:?}"),
                },
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error,
            }
        };
        assert_matches!(error, Error::Timeout(Timer::Write));
        assert_elapsed(start, 30);
        assert_closed(&server, 1006, "", false, Initiator::Local);
        drop(server);
        let taken = flood.await;
        assert!(taken < 256, "took {taken} messages of a peer that reads none");
    });
}

#[test]
fn send_that_waits_for_room_tells_the_write_timeout() {
    for command in [Command::Send, Command::Prepared, Command::Fragment, Command::Ping] {
        timed(async move {
            let (mut server, _peer) = raw_pair(Role::Server, &config());
            // Still above the mark when the pipe is full.
            server.feed(binary(2 * config().high_water)).await.unwrap();
            let start = rt::now();
            let error = command.run(&mut server).await;
            assert_matches!(error, Err(Error::Timeout(Timer::Write)));
            assert_elapsed(start, 30);
        });
    }
}

#[test]
fn client_that_pings_and_never_reads_is_read_and_costs_little() {
    timed(async {
        let (mut server, mut peer) = raw_pair(Role::Server, &config());
        let flood = rt::spawn(async move {
            for i in 0..20_000_u32 {
                peer.send(&[ping(&[&i.to_be_bytes()[..], &[0; 121]].concat())]).await;
            }
            peer.send(&[text("that was all")]).await;
            peer
        });
        let message = loop {
            if let Some(message) = now_or_never(server.recv()).await {
                break message.unwrap();
            }
            // A read's allowance of pongs, the one that was begun, the newest.
            assert!(server.buffered_amount() <= (64 + 2) * 127, "{} bytes", server.buffered_amount());
            rt::yield_now().await;
        };
        assert_eq!(message, Some("that was all".into()));
        let mut peer = flood.await;
        // The newest ping is answered: section 5.5.3.
        let app = rt::spawn(async move { server.recv().await });
        while peer.frame().await.unwrap().payload[..4] != 19_999_u32.to_be_bytes() {}
        drop(peer);
        assert_matches!(app.await, Err(Error::Abnormal));
    });
}

#[test]
fn both_sides_may_flush_at_once_while_there_is_room_to_read() {
    over_roles(&[Memory(64), Memory(4096), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move {
            peer.send(binary(60_000)).await.unwrap();
            assert_eq!(peer.recv().await.unwrap(), Some(binary(60_001)));
            peer
        });
        ws.send(binary(60_001)).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(binary(60_000)));
        peer.await;
    });
}

// Deadlines

#[test]
fn silent_peer_is_pinged_and_left() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        let app = rt::spawn(async move { (ws.recv().await, ws.recv().await, ws) });
        assert_eq!(peer.frame().await, Some(ping(b"")));
        assert_elapsed(start, 20);
        let (error, end, ws) = app.await;
        assert_matches!(error, Err(Error::Timeout(Timer::Pong)));
        assert_elapsed(start, 40);
        assert_matches!(end, Ok(None));
        assert_closed(&ws, 1006, "", false, Initiator::Local);
    });
}

#[test]
fn peer_that_answers_pings_stays() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        let app = rt::spawn(async move { ws.recv().await });
        for i in 1..=5 {
            assert_eq!(peer.frame().await, Some(ping(b"")));
            assert_elapsed(start, 20 * i);
            peer.send(&[pong(b"")]).await;
        }
        peer.send(&[text("hello")]).await;
        assert_eq!(app.await.unwrap(), Some("hello".into()));
    });
}

#[test]
fn any_byte_of_the_peer_is_life() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let app = rt::spawn(async move { ws.recv().await });
        for byte in text("slowly").encode(peer.masked) {
            rt::sleep(15 * SECOND).await;
            rt::write_all(&mut peer.link, &[byte]).await.unwrap();
        }
        assert_eq!(app.await.unwrap(), Some("slowly".into()));
        assert_eq!(peer.rest().await, [], "pinged a peer that was not silent");
    });
}

#[test]
fn pong_that_arrived_while_nobody_looked_counts() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        assert!(within(25, ws.recv()).await.is_none());
        assert_eq!(peer.frame().await, Some(ping(b"")));
        peer.send(&[pong(b"")]).await;
        rt::sleep(100 * SECOND).await;
        assert!(within(1, ws.recv()).await.is_none());
        peer.send(&[text("hello")]).await;
        assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
    });
}

#[test]
fn message_that_arrived_while_nobody_looked_comes_before_any_deadline() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        assert!(within(1, ws.recv()).await.is_none());
        rt::sleep(100 * SECOND).await;
        peer.send(&[text("hello")]).await;
        assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
        peer.send(&[text("again")]).await;
        assert_eq!(ws.recv().await.unwrap(), Some("again".into()));
    });
}

#[test]
fn slow_reader_that_takes_output_is_not_left() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(16);
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config());
        let sending = rt::spawn(async move { ws.send(binary(200)).await });
        let reading = async {
            let mut byte = [0; 8];
            while rt::read(&mut peer.link, &mut byte).await.unwrap() > 0 {
                rt::sleep(15 * SECOND).await;
            }
        };
        let Either::Left((sent, _)) = select(pin!(sending), pin!(reading)).await else {
            panic!("left while the peer was reading");
        };
        sent.unwrap();
    });
}

#[test]
fn peer_that_takes_nothing_is_left_by_flush() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(16);
        let (mut ws, _peer) = raw_peer(role, mine, theirs, &config());
        let start = rt::now();
        assert_matches!(ws.send(binary(200)).await, Err(Error::Timeout(Timer::Write)));
        assert_elapsed(start, 30);
        assert_nothing_can_be_sent(&mut ws).await;
        assert_matches!(ws.recv().await, Err(Error::Timeout(Timer::Write)));
        assert_eq!(ws.recv().await.unwrap(), None);
    });
}

#[test]
fn flush_of_what_the_peer_did_not_take_is_an_error_though_it_has_closed() {
    both_roles_timed(async |role| {
        let (mine, theirs) = rt::duplex(16);
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config());
        peer.send(&[close(1000, "")]).await;
        ws.feed(binary(200)).await.unwrap();
        let start = rt::now();
        assert!(within(5, ws.recv()).await.is_none());
        assert_matches!(ws.flush().await, Err(Error::Timeout(_)));
        assert_elapsed(start, 10);
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_closed(&ws, 1000, "", false, Initiator::Peer);
    });
}

#[test]
fn peer_that_never_answers_close_is_left() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        let error = ws.close(CloseCode::NORMAL, "").await;
        assert_matches!(error, Err(Error::Timeout(Timer::Close)));
        assert_elapsed(start, 10);
        assert_closed(&ws, 1006, "", false, Initiator::Local);
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(peer.arrived(), [close(1000, "")]);
    });
}

#[test]
fn peer_that_never_answers_start_close_is_left_by_recv() {
    both_roles_timed(async |role| {
        let (mut ws, _peer) = raw_pair(role, &config());
        let start = rt::now();
        ws.start_close(CloseCode::NORMAL, "").unwrap();
        assert_matches!(ws.recv().await, Err(Error::Timeout(Timer::Close)));
        assert_elapsed(start, 10);
        assert_eq!(ws.recv().await.unwrap(), None);
    });
}

#[test]
fn s7_1_1_peer_that_never_closes_tcp_is_left_and_the_close_is_clean() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        peer.send(&[close(1000, "done")]).await;
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_elapsed(start, 10);
        assert_closed(&ws, 1000, "done", true, Initiator::Peer);
    });
}

#[test]
fn s7_1_7_peer_that_breaks_the_protocol_and_stays_is_left() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        peer.send(&[Frame { first: 0x83, payload: vec![] }]).await;
        assert_matches!(ws.recv().await, Err(Error::Protocol(ProtocolError::ReservedOpcode(3))));
        assert_elapsed(start, 10);
        assert_eq!(peer.rest().await.len(), 1);
    });
}

#[test]
fn s7_1_1_peer_that_closes_and_drips_is_left() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &config());
        let start = rt::now();
        let app = rt::spawn(async move { (ws.recv().await, ws.closed().cloned()) });
        peer.send(&[close(1000, "")]).await;
        let drip = rt::spawn(async move {
            while peer.try_send(&[text("still here")]).await.is_ok() {
                rt::sleep(SECOND).await;
            }
        });
        let (received, closed) = app.await;
        assert_elapsed(start, 10);
        assert_eq!(received.unwrap(), None);
        assert!(closed.unwrap().clean);
        drip.await;
    });
}

// Running a test

/// How long a test may take. Much longer than any does; one that hangs fails.
const LIMIT: Duration = Duration::from_secs(20);

/// What carries the bytes between two ends.
#[derive(Clone, Copy, Debug)]
enum Transport {
    /// A pipe in memory that holds so many bytes each way.
    Memory(usize),
    /// A TCP connection on the loopback interface.
    Tcp,
}

use Transport::{Memory, Tcp};

const ALL: [Transport; 5] = [Memory(1), Memory(7), Memory(64), Memory(64 * 1024), Tcp];
const WIDE: [Transport; 2] = [Memory(64 * 1024), Tcp];
const ROLES: [Role; 2] = [Role::Client, Role::Server];

impl Transport {
    async fn links(self) -> (Link, Link) {
        match self {
            Memory(len) => rt::duplex(len),
            Tcp => {
                let listener = rt::Listener::bind().await;
                join(rt::connect(listener.address()), listener.accept()).await
            }
        }
    }
}

fn test(future: impl Future<Output = ()> + Send + 'static) {
    bounded(|| rt::block_on(future));
}

/// As [`test`], for what cannot go to another thread.
fn one_thread(test: impl AsyncFnOnce() + Send + 'static) {
    bounded(|| rt::block_on(async { test().await }));
}

/// As [`test`], with [`SECOND`] as the unit of time.
fn timed(future: impl Future<Output = ()> + Send + 'static) {
    bounded(|| rt::block_on_timed(future));
}

fn over(transports: &[Transport], test: impl AsyncFn(Link, Link) + Clone + Send + 'static) {
    for &transport in transports {
        println!("{transport:?}");
        let test = test.clone();
        bounded(move || {
            rt::block_on(async {
                let (a, b) = transport.links().await;
                test(a, b).await;
            })
        });
    }
}

/// As [`over`], for an endpoint of each role at the first end of the link.
fn over_roles(transports: &[Transport], test: impl AsyncFn(Role, Link, Link) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        over(transports, async move |mine, theirs| test(role, mine, theirs).await);
    }
}

fn both_roles(test: impl AsyncFn(Role) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        bounded(move || rt::block_on(test(role)));
    }
}

fn both_roles_timed(test: impl AsyncFn(Role) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        bounded(move || rt::block_on_timed(test(role)));
    }
}

/// Runs it in a thread of its own, no longer than [`LIMIT`].
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (running, finished) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _running = running;
        test();
    });
    assert_eq!(finished.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected), "it hangs");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!("{other:?} is not {}", stringify!($pattern $(if $guard)?)),
        }
    };
}
use assert_matches;

/// The output of a future that is made again and raced with a ready one until it wins.
macro_rules! raced {
    ($future:expr) => {
        loop {
            match now_or_never($future).await {
                Some(output) => break output,
                None => rt::yield_now().await,
            }
        }
    };
}
use raced;

/// Races a future with one that is ready: polls it once and drops it.
async fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), ready(())).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Waits no longer than so many seconds for a future, and drops it then.
async fn within<T>(seconds: u32, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(rt::sleep(seconds * SECOND))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Polls a future so many times, without a waker, and drops it. In between the other tasks run.
async fn cancel_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        rt::yield_now().await;
    }
    None
}

/// Has a conversation in which a future is dropped after 0, 1, 2, ... polls, until it was complete before.
async fn at_every_poll(mut conversation: impl AsyncFnMut(usize) -> bool) {
    let mut polls = 0;
    while !conversation(polls).await {
        polls += 1;
    }
    assert!(polls > 1, "it never waited");
}

/// Lets the other tasks run until they wait.
async fn settle() {
    for _ in 0..100 {
        rt::yield_now().await;
    }
}

/// So many seconds have passed, and not many more.
#[track_caller]
fn assert_elapsed(start: Instant, seconds: u32) {
    let elapsed = rt::now() - start;
    assert!((seconds * SECOND..(seconds + 4) * SECOND).contains(&elapsed), "{elapsed:?}, not {seconds} s");
}

// Endpoints

type Ws = WebSocket<Link>;

/// The default configuration in units of [`SECOND`].
fn config() -> Config {
    let mut config = Config::default();
    let Config { keepalive, pong_timeout, write_timeout, close_timeout, .. } = &mut config;
    for timeout in [keepalive, pong_timeout, write_timeout, close_timeout] {
        *timeout = timeout.map(|timeout| SECOND * timeout.as_secs() as u32);
    }
    config
}

fn server_config() -> ServerConfig {
    ServerConfig { connection: config(), ..ServerConfig::default() }
}

fn head_limits() -> HeadLimits {
    HeadLimits { timeout: Some(10 * SECOND), ..HeadLimits::default() }
}

/// Client and server after a handshake.
async fn open(client: Link, server: Link) -> (Ws, Ws) {
    open_with(client, server, ClientConfig::default(), ServerConfig::default()).await
}

async fn open_with(
    client_link: Link,
    server_link: Link,
    config: ClientConfig,
    served: ServerConfig,
) -> (Ws, Ws) {
    let accepting = rt::spawn(accept_with(server_link, served));
    let request = client_request("ws://localhost/").unwrap();
    let (client, _response) = client(client_link, &request, &config).await.unwrap();
    let (server, _request) = accepting.await.unwrap();
    (client, server)
}

/// As [`open`], with the role of the first.
async fn open_as(role: Role, mine: Link, theirs: Link) -> (Ws, Ws) {
    match role {
        Role::Client => open(mine, theirs).await,
        Role::Server => {
            let (client, server) = open(theirs, mine).await;
            (server, client)
        }
    }
}

/// An endpoint without a handshake.
fn endpoint(role: Role, link: Link, config: &Config) -> Ws {
    let connection = match role {
        Role::Client => Connection::client(config, [7; 32], rt::now()),
        Role::Server => Connection::server(config, rt::now()),
    };
    WebSocket::from_upgraded(link, connection)
}

/// An endpoint and its peer, without a handshake, over a pipe that holds so many bytes.
fn pair(role: Role, len: usize) -> (Ws, Ws) {
    let (mine, theirs) = rt::duplex(len);
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    (endpoint(role, mine, &Config::default()), endpoint(peer, theirs, &Config::default()))
}

fn raw_peer(role: Role, mine: Link, theirs: Link, config: &Config) -> (Ws, Raw) {
    let peer = Raw { link: theirs, masked: role == Role::Server, unread: Vec::new() };
    (endpoint(role, mine, config), peer)
}

fn raw_pair(role: Role, config: &Config) -> (Ws, Raw) {
    let (mine, theirs) = rt::duplex(64 * 1024);
    raw_peer(role, mine, theirs, config)
}

/// An endpoint over a tiny pipe to a task that collects all messages until the close.
fn collecting_pair(role: Role, config: Config) -> (Ws, impl Future<Output = Vec<Message>>) {
    let (mine, theirs) = rt::duplex(3);
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    let mut peer = endpoint(peer, theirs, &Config::default());
    let collecting = rt::spawn(async move { collect(&mut peer).await.unwrap() });
    (endpoint(role, mine, &config), collecting)
}

async fn echo<S: rt::Stream>(ws: &mut WebSocket<S>) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

async fn echo_fed(ws: &mut Ws) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.feed(message).await?;
    }
    Ok(())
}

async fn echo_split(ws: &mut Ws) -> Result<(), Error> {
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) => sender.send_binary(payload)?,
            _ => {}
        }
    }
    Ok(())
}

async fn collect<S: rt::Stream>(ws: &mut WebSocket<S>) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = ws.recv().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Sends each message to a peer that echoes.
async fn converse<S: rt::Stream>(ws: &mut WebSocket<S>, messages: &[Message]) {
    for message in messages {
        ws.send(message.clone()).await.unwrap();
        let answer = ws.recv().await.unwrap().unwrap();
        assert!(answer == *message, "{} bytes came back as {}", message.len(), answer.len());
    }
}

async fn converse_and_close<S: rt::Stream>(ws: &mut WebSocket<S>, messages: &[Message]) {
    converse(ws, messages).await;
    ws.close(CloseCode::NORMAL, "").await.unwrap();
}

/// Of each kind, empty, not ASCII, and around the first change of the header's length.
fn short_messages() -> Vec<Message> {
    let texts = ["hello", "", "žluťoučký kůň 🦀", "\0\u{feff}\u{10ffff}"].map(Message::from);
    let binaries = [0, 1, 125, 126, 127, 1000].map(binary);
    [&texts[..], &binaries[..]].concat()
}

fn binary(len: usize) -> Message {
    (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into()
}

/// An event, owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            event => Self::Message(event.to_message().unwrap()),
        }
    }
}

async fn see(ws: &mut Ws) -> Option<Seen> {
    recv_ref(ws).await.unwrap()
}

async fn recv_message(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv().await?.map(Seen::Message))
}

async fn recv_ref(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv_ref().await?.map(Seen::from))
}

async fn recv_split(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv_split().await?.map(|(event, _sender)| event.into()))
}

/// Receives a conversation, each event first with a future that is dropped after so many polls; whether none was.
async fn cancelled_recv(
    role: Role,
    polls: usize,
    recv: impl AsyncFn(&mut Ws) -> Result<Option<Seen>, Error>,
) -> bool {
    let (mut ws, mut peer) = pair(role, 3);
    let messages = ["one".into(), binary(0), binary(130), "žluť".into()];
    let sending = rt::spawn({
        let messages = messages.clone();
        async move {
            for message in messages {
                peer.ping(b"ping").await.unwrap();
                peer.send(message).await.unwrap();
            }
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        }
    });
    let mut seen = Vec::new();
    let mut all_done = true;
    loop {
        let event = match cancel_after(polls, recv(&mut ws)).await {
            Some(event) => event,
            None => {
                all_done = false;
                recv(&mut ws).await
            }
        };
        let Some(event) = event.unwrap() else { break };
        seen.push(event);
    }
    sending.await;

    let pings = seen.iter().filter(|event| **event == Seen::Ping(b"ping".into())).count();
    assert!(pings == 0 || pings == messages.len(), "{pings} pings");
    seen.retain(|event| matches!(event, Seen::Message(_)));
    assert_eq!(seen, messages.map(Seen::Message));
    all_done
}

#[track_caller]
fn assert_closed(ws: &Ws, code: u16, reason: &str, clean: bool, initiator: Initiator) {
    let closed = ws.closed().expect("it has ended");
    let found = (closed.code.get(), &*closed.reason, closed.clean, closed.initiator);
    assert_eq!(found, (code, reason, clean, initiator));
}

async fn assert_nothing_can_be_sent(ws: &mut Ws) {
    assert_matches!(ws.send("late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.feed("late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.ping(b"late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.send_fragment("late", true).await, Err(Error::Send(SendError::Closed)));
    let prepared = Prepared::new("late");
    assert_matches!(ws.send_prepared(&prepared).await, Err(Error::Send(SendError::Closed)));
}

/// The methods that send.
#[derive(Clone, Copy, Debug)]
enum Command {
    Send,
    Prepared,
    Fragment,
    Ping,
}

impl Command {
    async fn run(self, ws: &mut Ws) -> Result<(), Error> {
        match self {
            Self::Send => ws.send("x").await,
            Self::Prepared => ws.send_prepared(&Prepared::new("x")).await,
            Self::Fragment => ws.send_fragment("x", true).await,
            Self::Ping => ws.ping(b"x").await,
        }
    }
}

/// Sends a frame over and over and reads nothing, until the other side is gone: how many it took.
async fn flood(mut peer: Raw, frame: Frame) -> usize {
    let mut count = 0;
    while peer.try_send(std::slice::from_ref(&frame)).await.is_ok() {
        count += 1;
    }
    count
}

// Raw peers

/// A stream that is written and read frame by frame, by the rules or against them.
struct Raw {
    link: Link,
    /// Whether its frames are masked, as those of a client.
    masked: bool,
    unread: Vec<u8>,
}

impl Raw {
    async fn send(&mut self, frames: &[Frame]) {
        self.try_send(frames).await.unwrap();
    }

    async fn try_send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(self.masked)).collect();
        rt::write_all(&mut self.link, &bytes).await
    }

    /// The next frame, or none at the end of the stream.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.unread) {
                return Some(frame);
            }
            if !self.fill().await {
                assert_eq!(self.unread, [], "a frame was cut off");
                return None;
            }
        }
    }

    /// All frames until the end of the stream.
    async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Ends the connection when its turn has come, after both Close frames: a server goes first, a client waits
    /// for it (section 7.1.1).
    async fn leave(mut self, role: Role) {
        if role == Role::Server {
            assert_eq!(self.rest().await, []);
        }
    }

    /// The frames that are there already.
    fn arrived(&mut self) -> Vec<Frame> {
        while let Poll::Ready(true) = pin!(self.fill()).poll(&mut Context::from_waker(Waker::noop())) {}
        std::iter::from_fn(|| Frame::take(&mut self.unread)).collect()
    }

    /// Reads once; whether something came.
    async fn fill(&mut self) -> bool {
        let mut buf = [0; 4096];
        let len = rt::read(&mut self.link, &mut buf).await.unwrap();
        self.unread.extend(&buf[..len]);
        len > 0
    }
}

/// A frame: FIN, reserved bits and opcode as on the wire, and the unmasked payload.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
}

fn text(text: &str) -> Frame {
    Frame { first: 0x81, payload: text.into() }
}

fn ping(payload: &[u8]) -> Frame {
    Frame { first: 0x89, payload: payload.into() }
}

fn pong(payload: &[u8]) -> Frame {
    Frame { first: 0x8a, payload: payload.into() }
}

fn close(code: u16, reason: &str) -> Frame {
    Frame { first: 0x88, payload: [&code.to_be_bytes(), reason.as_bytes()].concat() }
}

impl Frame {
    fn encode(&self, masked: bool) -> Vec<u8> {
        const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
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
            bytes.extend(self.payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Takes a frame from the front, if it is whole.
    fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (at, len) = match second & 0x7f {
            126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            len => (2, usize::from(len)),
        };
        let (key, at) = match second & 0x80 {
            0 => ([0; 4], at),
            _ => (*bytes.get(at..)?.first_chunk()?, at + 4),
        };
        let payload = bytes.get(at..at + len)?.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        let frame = Self { first, payload: payload.collect() };
        bytes.drain(..at + len);
        Some(frame)
    }
}

/// What breaks the protocol in one frame, where a message may have 1024 bytes.
fn violations() -> Vec<(Frame, ProtocolError)> {
    let frame = |first, payload: &[u8]| Frame { first, payload: payload.into() };
    vec![
        (frame(0x81, b"\xff"), ProtocolError::InvalidUtf8),
        (frame(0x81, b"cut \xc5"), ProtocolError::InvalidUtf8),
        (frame(0xc1, b"rsv1"), ProtocolError::ReservedBits),
        (frame(0x83, b""), ProtocolError::ReservedOpcode(3)),
        (frame(0x8f, b""), ProtocolError::ReservedOpcode(15)),
        (frame(0x80, b"nothing to continue"), ProtocolError::UnexpectedContinuation),
        (frame(0x09, b"fragment of a ping"), ProtocolError::FragmentedControl),
        (frame(0x89, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(0x88, b"\x03"), ProtocolError::ClosePayload),
        (close(1005, ""), ProtocolError::CloseCode(1005)),
        (close(999, ""), ProtocolError::CloseCode(999)),
        (frame(0x88, b"\x03\xe8\xff"), ProtocolError::InvalidUtf8),
        (frame(0x82, &[0; 1025]), ProtocolError::MessageTooLong { limit: 1024 }),
    ]
}

// Raw heads

/// The request of RFC 6455 section 1.2.
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Requests that are refused, by which configuration, and with which status.
fn refused_requests() -> Vec<(Vec<u8>, ServerConfig, u16)> {
    let any = ServerConfig::default;
    let with = |field: &str| UPGRADE.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n")).into_bytes();
    let replaced = |from: &str, to: &str| {
        assert!(UPGRADE.contains(from));
        UPGRADE.replace(from, to).into_bytes()
    };
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    vec![
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), any(), 426),
        (replaced("Version: 13", "Version: 12"), any(), 426),
        (UPGRADE.into(), ServerConfig { path: Some("/other".into()), ..any() }, 404),
        (with("Origin: http://evil.example"), ServerConfig { origins: OriginPolicy::Same, ..any() }, 403),
        (replaced("GET", "POST"), any(), 405),
        (replaced("HTTP/1.1", "HTTP/1.0"), any(), 505),
        (replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), any(), 400),
        (with("Content-Length: 5"), any(), 400),
        (with(&format!("Cookie: {}", "x".repeat(17 * 1024))), any(), 431),
        (with(&"A: b\r\n".repeat(128)[..128 * 6 - 2]), any(), 431),
        (replaced("/chat", &format!("/{}", "x".repeat(17 * 1024))), any(), 414),
        (b"\0\x01\x02garbage\r\n\r\n".to_vec(), any(), 400),
        (tls_hello.to_vec(), any(), 400),
        // What waits for the end of a line that never comes.
        (tls_hello[..6].to_vec(), any(), 400),
    ]
}

fn head_of(mut link_bytes: Vec<u8>) -> (String, Vec<u8>) {
    let end = link_bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let body = link_bytes.split_off(end);
    (String::from_utf8(link_bytes).unwrap(), body)
}

/// An answer as a client reads it.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Reads a refusal until the end of the stream, which must be a whole one.
async fn read_response(link: &mut Link) -> Answer {
    let (head, body) = head_of(read_to_end(link).await.unwrap());
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let answer = Answer { status, head, body: String::from_utf8(body).unwrap() };
    assert_eq!(answer.field("content-length"), Some(&*answer.body.len().to_string()));
    answer
}

async fn read_to_end(link: &mut Link) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buf = [0; 1024];
    loop {
        match rt::read(link, &mut buf).await? {
            0 => return Ok(bytes),
            len => bytes.extend(&buf[..len]),
        }
    }
}

/// Reads a head and nothing behind it.
async fn read_head(link: &mut Link) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(rt::read(link, &mut byte).await.unwrap(), 1, "the head was cut off");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The right answer to a client's request.
fn answer_to(head: &str) -> String {
    let mut request = Request::new(());
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = ws_proto::handshake::check(&request, &ServerConfig::default()).unwrap().response();
    let mut answer = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in response.headers() {
        answer += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    answer + "\r\n"
}

/// Changes to the right answer that make it wrong, and what a client says to that.
#[expect(clippy::type_complexity, reason = "a table")]
fn wrong_answers() -> Vec<(fn(String) -> String, &'static str)> {
    vec![
        (|answer| answer.replace("=\r\n", "A=\r\n").replace("accept: ", "accept: A"), "Accept"),
        (|answer| answer.replace("sec-websocket-accept", "x"), "Accept"),
        (|answer| answer.replace("upgrade: websocket\r\n", ""), "UpgradeField"),
        (|answer| answer.replace("connection: Upgrade", "connection: close"), "ConnectionField"),
        (|answer| answer.replace("1.1", "1.0"), "HttpVersion"),
        (
            |answer| answer.replace("\r\n\r\n", "\r\nsec-websocket-protocol: chat\r\n\r\n"),
            "Subprotocol(Some(\"chat\"))",
        ),
        (
            |answer| answer.replace("\r\n\r\n", "\r\nsec-websocket-extensions: x-unasked\r\n\r\n"),
            "Extension(\"x-unasked\")",
        ),
        (|answer| answer[..answer.len() - 1].to_owned(), "Eof"),
        (|_| String::new(), "Eof"),
    ]
}

#[track_caller]
fn handshake_error<T: std::fmt::Debug>(result: Result<T, Error>) -> HandshakeError {
    match result {
        Err(Error::Handshake(error)) => error,
        other => panic!("{other:?} is no error of the handshake"),
    }
}
