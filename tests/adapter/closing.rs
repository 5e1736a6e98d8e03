//! How connections end.

use super::*;

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
        // No deadline does it.
        let config = Config { close_timeout: None, ..Config::default() };
        let (mut server, mut peer) = raw_pair(Role::Server, &config);
        let app = rt::spawn(async move { server.recv().await });
        peer.send(&[close(1000, "")]).await;
        assert_eq!(peer.rest().await, [close(1000, "")]);
        drop(peer);
        assert_eq!(app.await.unwrap(), None);

        let (mut client, mut peer) = raw_pair(Role::Client, &config);
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
