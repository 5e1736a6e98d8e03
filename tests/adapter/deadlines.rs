//! Deadlines, on a clock that jumps where the runtime has one.

use super::*;

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
