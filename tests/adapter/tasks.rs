//! What tasks do with a connection: as stream and sink, cancelled anywhere, held back.

use super::*;

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
            let start = rt::now();
            // Still above the mark when the pipe is full.
            server.feed(binary(2 * config().high_water)).await.unwrap();
            let error = command.run(&mut server).await;
            assert_matches!(error, Err(Error::Timeout(Timer::Write)));
            assert_elapsed(start, 30);
        });
    }
}

#[test]
fn client_that_pings_and_never_reads_is_read_and_costs_little() {
    test(async {
        let (mut server, mut peer) = raw_pair(Role::Server, &Config::default());
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
