//! What the tests of `ws` for Node expect of a connection once it is open, as far as no other file has it.

use super::*;
#[cfg(feature = "deflate")]
use crate::rt::ws::DeflateConfig;

// What waits to be written

#[test]
fn ws6_8_buffered_amount_grows_and_drains() {
    both_roles(async |role| {
        let (mine, theirs) = rt::duplex(10);
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        assert_eq!(ws.buffered_amount(), 0);
        let frame = if role == Role::Client { 2 + 4 + 3 } else { 2 + 3 };
        for count in 1..=3 {
            ws.feed("abc").await.unwrap();
            assert_eq!(ws.buffered_amount(), count * frame);
        }
        // As much as the pipe holds, and no more.
        assert!(now_or_never(ws.flush()).await.is_none());
        assert_eq!(ws.buffered_amount(), 3 * frame - 10);
        let reading = rt::spawn(async move { [peer.frame().await, peer.frame().await, peer.frame().await] });
        ws.flush().await.unwrap();
        assert_eq!(ws.buffered_amount(), 0);
        assert_eq!(reading.await, [(); 3].map(|()| Some(text("abc"))));
    });
}

#[test]
fn ws6_8_what_is_refused_while_closing_and_once_closed_is_not_buffered() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { collect(&mut peer).await });
        ws.start_close(CloseCode::NORMAL, "").unwrap();
        let buffered = ws.buffered_amount();
        assert_nothing_can_be_sent(&mut ws).await;
        assert!(ws.buffered_amount() <= buffered);
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_nothing_can_be_sent(&mut ws).await;
        assert_eq!(ws.buffered_amount(), 0);
        assert_eq!(peer.await.unwrap(), []);
    });
}

// Closing

#[test]
fn ws6_8_close_without_code_is_an_empty_frame_and_1005_on_both_sides() {
    over_roles(&WIDE, async |role, mine, mut theirs| {
        let mut ws = endpoint(role, mine, &Config::default());
        ws.start_close_without_code();
        ws.flush().await.unwrap();
        let mut header = [0; 2];
        for byte in header.chunks_mut(1) {
            assert_eq!(rt::read(&mut theirs, byte).await.unwrap(), 1);
        }
        assert_eq!(header, if role == Role::Client { [0x88, 0x80] } else { [0x88, 0x00] });
    });
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { (peer.recv().await, peer) });
        ws.start_close_without_code();
        assert_eq!(ws.recv().await.unwrap(), None);
        let (received, peer) = peer.await;
        assert_eq!(received.unwrap(), None);
        assert_closed(&ws, 1005, "", true, Initiator::Local);
        assert_closed(&peer, 1005, "", true, Initiator::Peer);
    });
}

#[test]
fn ws6_8_close_takes_1013_and_1014() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let mut links = Some((mine, theirs));
        for code in [CloseCode::TRY_AGAIN_LATER, CloseCode::BAD_GATEWAY] {
            let (mine, theirs) = links.take().unwrap_or_else(|| rt::duplex(100));
            let (mut ws, mut peer) = open_as(role, mine, theirs).await;
            let peer = rt::spawn(async move { (peer.recv().await, peer) });
            ws.close(code, "").await.unwrap();
            let (received, peer) = peer.await;
            assert_eq!(received.unwrap(), None);
            assert_closed(&ws, code.get(), "", true, Initiator::Local);
            assert_closed(&peer, code.get(), "", true, Initiator::Peer);
        }
    });
}

#[test]
fn ws6_8_closing_twice_is_closing_once() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let peer = rt::spawn(async move { (collect(&mut peer).await, peer) });
        for message in short_messages() {
            ws.feed(message).await.unwrap();
        }
        ws.start_close(CloseCode::GOING_AWAY, "first").unwrap();
        ws.start_close(CloseCode::NORMAL, "second").unwrap();
        ws.close(CloseCode::NORMAL, "third").await.unwrap();
        ws.close(CloseCode::NORMAL, "once closed").await.unwrap();
        let (messages, peer) = peer.await;
        assert_eq!(messages.unwrap(), short_messages());
        assert_closed(&ws, 1001, "", true, Initiator::Local);
        assert_closed(&peer, 1001, "first", true, Initiator::Peer);
    });
}

#[test]
fn ws6_8_peers_close_is_found_behind_messages_that_nobody_received() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let data = Frame { first: 0x82, payload: vec![0; 16 * 1024] };
        peer.send(&[data, Frame { first: 0x88, payload: vec![] }]).await;
        let app = rt::spawn(async move {
            ws.close(CloseCode::NORMAL, "").await.unwrap();
            ws
        });
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.leave(role).await;
        let ws = app.await;
        assert_eq!(ws.closed().map(|closed| (closed.code.get(), closed.clean)), Some((1005, true)));
    });
}

// Errors

#[test]
fn ws6_8_violation_is_1006_here_and_its_code_at_the_peer() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        // A client must mask, a server must not.
        let peer = rt::spawn(async move {
            let frame = text("a").encode(role == Role::Client);
            rt::write_all(peer.get_mut(), &frame).await.unwrap();
            (peer.recv().await, peer)
        });
        let expected = if role == Role::Server { ProtocolError::Unmasked } else { ProtocolError::Masked };
        assert_matches!(ws.recv().await, Err(Error::Protocol(found)) if found == expected);
        assert_matches!(ws.recv().await, Ok(None));
        assert_closed(&ws, 1006, "", false, Initiator::Peer);
        drop(ws);
        let (received, peer) = peer.await;
        assert_eq!(received.unwrap(), None);
        assert_eq!(peer.closed().unwrap().code, CloseCode::PROTOCOL_ERROR);
    });
}

#[test]
fn ws6_8_both_sides_break_the_protocol_at_once() {
    for closing in [false, true] {
        over_roles(&WIDE, async move |role, mine, theirs| {
            let (ws, peer) = open_as(role, mine, theirs).await;
            let breaks = async |mut ws: Ws| {
                rt::write_all(ws.get_mut(), &[0x85, 0x00]).await.unwrap();
                if closing {
                    ws.start_close(CloseCode::NORMAL, "").unwrap();
                }
                assert_matches!(
                    ws.recv().await,
                    Err(Error::Protocol(ProtocolError::ReservedOpcode(5) | ProtocolError::Unmasked))
                );
                assert_matches!(ws.recv().await, Ok(None));
                assert_eq!(ws.closed().map(|closed| (closed.code.get(), closed.clean)), Some((1006, false)));
            };
            join(breaks(ws), breaks(peer)).await;
        });
    }
}

#[test]
fn ws6_8_error_is_found_behind_messages_that_nobody_received() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let config = Config { max_message: 16 * 1024, ..Config::default() };
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
        let data = |len| Frame { first: 0x82, payload: vec![0; len] };
        peer.send(&[data(16 * 1024), data(16 * 1024 + 1)]).await;
        let app = rt::spawn(async move { (ws.close(CloseCode::NORMAL, "").await, ws) });
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        drop(peer);
        let (closed, ws) = app.await;
        assert_matches!(closed, Err(Error::Protocol(ProtocolError::MessageTooLong { limit: 16_384 })));
        assert_eq!(ws.closed().map(|closed| (closed.code.get(), closed.clean)), Some((1006, false)));
    });
}

#[test]
fn ws6_8_server_that_leaves_behind_its_answer_is_1006() {
    over(&ALL, async |client_link, mut server| {
        let serving = rt::spawn(async move {
            let answer = answer_to(&read_head(&mut server).await);
            rt::write_all(&mut server, answer.as_bytes()).await.unwrap();
        });
        let request = client_request("ws://localhost/").unwrap();
        let (mut ws, _response) = client(client_link, &request, &ClientConfig::default()).await.unwrap();
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_closed(&ws, 1006, "", false, Initiator::Peer);
        serving.await;
    });
}

#[test]
fn ws6_8_limits_and_timeouts_reach_the_connection_of_a_client() {
    timed(async {
        for (len, fails) in [(10, false), (11, true)] {
            let (near, far) = rt::duplex(1024);
            let connection = Config { max_message: 10, close_timeout: Some(3 * SECOND), ..config() };
            let config = ClientConfig { connection, ..ClientConfig::default() };
            let (mut ws, mut server) = open_with(near, far, config, ServerConfig::default()).await;
            server.send(binary(len)).await.unwrap();
            match ws.recv().await {
                Err(Error::Protocol(ProtocolError::MessageTooLong { limit: 10 })) => assert!(fails),
                received => assert!(!fails && received.unwrap() == Some(binary(len))),
            }
            if !fails {
                // Nobody answers.
                let start = rt::now();
                assert_matches!(ws.close(CloseCode::NORMAL, "").await, Err(Error::Timeout(Timer::Close)));
                assert_elapsed(start, 3);
            }
        }
    });
}

// Compression

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compression_switch_changes_no_message() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let mut links = Some((mine, theirs));
        for agreed in [true, false] {
            let (mine, theirs) = links.take().unwrap_or_else(|| rt::duplex(64 * 1024));
            let (mut ws, mut peer) = if agreed {
                open_compressed(role, mine, theirs).await
            } else {
                open_as(role, mine, theirs).await
            };
            for on in [false, true, false] {
                ws.room().await.unwrap().set_compression(on);
                for message in [prose(), binary(1000), "".into()] {
                    ws.send(message.clone()).await.unwrap();
                    assert_eq!(peer.recv().await.unwrap(), Some(message));
                }
            }
        }
    });
}

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compressed_messages_that_are_queued_go_before_the_close() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_compressed(role, mine, theirs).await;
        let peer = rt::spawn(async move { (collect(&mut peer).await, peer) });
        for _ in 0..MANY {
            ws.feed(prose()).await.unwrap();
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        let (messages, peer) = peer.await;
        assert!(messages.unwrap() == vec![prose(); MANY]);
        assert_closed(&peer, 1000, "", true, Initiator::Peer);
    });
}

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compressed_messages_that_are_queued_go_before_the_answer_to_a_close() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_compressed(role, mine, theirs).await;
        for _ in 0..10 {
            ws.feed(prose()).await.unwrap();
        }
        peer.start_close(CloseCode::NORMAL, "").unwrap();
        peer.flush().await.unwrap();
        let (messages, received) = join(collect(&mut peer), ws.recv()).await;
        assert!(messages.unwrap() == vec![prose(); 10]);
        assert_eq!(received.unwrap(), None);
        assert_closed(&peer, 1000, "", true, Initiator::Local);
        assert_closed(&ws, 1000, "", true, Initiator::Peer);
    });
}

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compressed_messages_before_an_abrupt_end_are_delivered() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_compressed(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            for _ in 0..MANY {
                peer.feed(prose()).await.unwrap();
            }
            peer.flush().await.unwrap();
            peer.terminate();
        });
        for _ in 0..MANY {
            assert!(ws.recv().await.unwrap() == Some(prose()));
        }
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_matches!(ws.recv().await, Ok(None));
        assert_closed(&ws, 1006, "", false, Initiator::Peer);
        sending.await;
    });
}

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compressed_messages_still_arrive_after_start_close() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_compressed(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            for _ in 0..MANY {
                peer.feed(prose()).await.unwrap();
            }
            peer.flush().await.unwrap();
            (peer.recv().await, peer)
        });
        assert!(ws.recv().await.unwrap() == Some(prose()));
        ws.start_close(CloseCode::NORMAL, "").unwrap();
        // Written when nothing more is there to be received.
        assert!(collect(&mut ws).await.unwrap() == vec![prose(); MANY - 1]);
        let (received, peer) = sending.await;
        assert_eq!(received.unwrap(), None);
        assert_closed(&ws, 1000, "", true, Initiator::Local);
        assert_closed(&peer, 1000, "", true, Initiator::Peer);
    });
}

// Helpers

/// More than the buffers on the way hold at once, as they are inflated.
#[cfg(feature = "deflate")]
const MANY: usize = 343;

/// Client and server that agreed on compression, with the role of the first.
#[cfg(feature = "deflate")]
async fn open_compressed(role: Role, mine: Link, theirs: Link) -> (Ws, Ws) {
    let served = ServerConfig { deflate: Some(DeflateConfig::default()), ..ServerConfig::default() };
    match role {
        Role::Client => open_with(mine, theirs, ClientConfig::default(), served).await,
        Role::Server => {
            let (client, server) = open_with(theirs, mine, ClientConfig::default(), served).await;
            (server, client)
        }
    }
}

/// Text that gets shorter.
#[cfg(feature = "deflate")]
fn prose() -> Message {
    "All happy families are alike; each unhappy family is unhappy in its own way. ".repeat(50).into()
}
