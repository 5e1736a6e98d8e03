//! Messages as they go and come, and what leaves when.

use super::*;

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
