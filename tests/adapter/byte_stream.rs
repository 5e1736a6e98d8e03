//! A WebSocket as a stream of bytes. The behaviours of `createWebSocketStream`, as far as they have a meaning here, are
//! named in brackets.

use super::{
    rt::{bytes, bytes::AsyncIo, ws::ByteStream},
    *,
};

type Stream = AsyncIo<ByteStream<Link>>;

#[test]
fn bytes_go_both_ways_and_shutdown_is_the_end() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (ws, peer) = open_as(role, mine, theirs).await;
        let (mut mine, mut theirs) = (stream(ws), stream(peer));
        let echo = rt::spawn(async move {
            let mut buf = [0; 100];
            loop {
                let len = bytes::read(&mut theirs, &mut buf).await.unwrap();
                if len == 0 {
                    // The end stays the end.
                    assert_eq!(bytes::read(&mut theirs, &mut buf).await.unwrap(), 0);
                    bytes::shutdown(&mut theirs).await.unwrap();
                    return theirs;
                }
                bytes::write_all(&mut theirs, &buf[..len]).await.unwrap();
                bytes::flush(&mut theirs).await.unwrap();
            }
        });
        for line in ["hello\n", "ž\n", "a line that is longer than a few bytes\n"] {
            bytes::write_all(&mut mine, line.as_bytes()).await.unwrap();
            // Without a flush: what was written leaves before reading waits.
            assert_eq!(bytes::read_line(&mut mine).await.unwrap(), line);
        }
        bytes::shutdown(&mut mine).await.unwrap();
        assert_eq!(bytes::read_to_end(&mut mine).await.unwrap(), b"");
        assert_closed(mine.0.get_ref(), 1000, "", true, Initiator::Local);
        assert_closed(echo.await.0.get_ref(), 1000, "", true, Initiator::Peer);
    });
}

#[test]
fn writes_are_binary_messages() {
    both_roles(async |role| {
        let (ws, mut peer) = raw_pair(role, &Config::default());
        let mut stream = stream(ws);
        bytes::write_all(&mut stream, b"one").await.unwrap();
        bytes::write_all(&mut stream, b"").await.unwrap();
        bytes::write_all(&mut stream, b"two").await.unwrap();
        assert_eq!(peer.arrived(), []);
        bytes::flush(&mut stream).await.unwrap();
        let message = |payload: &[u8]| Frame { first: 0x82, payload: payload.into() };
        assert_eq!(peer.arrived(), [message(b"one"), message(b"two")]);
        assert_eq!(bytes::write(&mut stream, &[7; 65_537]).await.unwrap(), 65_536);
    });
}

#[test]
fn reads_are_the_payloads_of_messages_of_either_kind() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let mut stream = stream(ws);
        let frames = [
            Frame { first: 0x82, payload: b"bin".into() },
            text(""),
            Frame { first: 0x01, payload: b"te".into() },
            ping(b"p"),
            Frame { first: 0x80, payload: b"xt".into() },
            text("!"),
            close(4000, "done"),
        ];
        peer.send(&frames).await;
        let reading = rt::spawn(async move { (bytes::read_to_end(&mut stream).await, stream) });
        assert_eq!(peer.frame().await, Some(pong(b"p")));
        assert_eq!(peer.frame().await, Some(close(4000, "")));
        drop(peer);
        let (read, stream) = reading.await;
        assert_eq!(read.unwrap(), b"bintext!");
        assert_eq!(stream.0.into_inner().closed().unwrap().code.get(), 4000);
    });
}

#[test]
fn reading_goes_on_while_shut_down() {
    // [reads resume in CLOSING]
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (ws, mut peer) = open_as(role, mine, theirs).await;
        let mut stream = stream(ws);
        let sending = rt::spawn(async move {
            for _ in 0..20 {
                // It reads the Close frame meanwhile, and answers behind what it sent before.
                if peer.feed(binary(1000)).await.is_err() {
                    break;
                }
            }
            let _ = peer.flush().await;
            assert_eq!(peer.recv().await.unwrap(), None);
            peer
        });
        settle().await;
        let mut buf = [0; 1];
        assert_eq!(bytes::read(&mut stream, &mut buf).await.unwrap(), 1);
        // Bytes are there that nobody read, so that it cannot wait for the end; none of them are dropped.
        bytes::shutdown(&mut stream).await.unwrap();
        let rest = bytes::read_to_end(&mut stream).await.unwrap();
        assert_eq!((rest.len() + 1) % 1000, 0);
        let expected: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        assert!([&buf[..], &rest].concat().chunks(1000).all(|chunk| chunk == expected));
        bytes::shutdown(&mut stream).await.unwrap();
        assert_closed(stream.0.get_ref(), 1000, "", true, Initiator::Local);
        sending.await;
    });
}

#[test]
fn write_after_the_end_is_a_broken_pipe() {
    // [write in CLOSING errors; in CLOSED errors]
    both_roles(async |role| {
        let (ws, mut peer) = raw_pair(role, &Config::default());
        let mut mine = stream(ws);
        assert!(now_or_never(bytes::shutdown(&mut mine)).await.is_none());
        let closing = bytes::write(&mut mine, b"late").await.unwrap_err();
        assert_eq!(closing.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.send(&[close(1000, "")]).await;
        drop(peer);
        bytes::shutdown(&mut mine).await.unwrap();
        let closed = bytes::write(&mut mine, b"late").await.unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn violation_is_an_error_and_the_peer_is_told() {
    // [re-emits ws errors (peer sees 1002)]
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let mut stream = stream(ws);
        peer.send(&[text("good"), Frame { first: 0x83, payload: vec![] }]).await;
        let reading = rt::spawn(async move {
            let mut buf = [0; 9];
            assert_eq!(bytes::read(&mut stream, &mut buf).await.unwrap(), 4);
            let error = bytes::read(&mut stream, &mut buf).await.unwrap_err();
            // Once, and then the end.
            assert_eq!(bytes::read(&mut stream, &mut buf).await.unwrap(), 0);
            error
        });
        assert_eq!(peer.frame().await.unwrap().payload[..2], 1002_u16.to_be_bytes());
        drop(peer);
        let error = reading.await;
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().unwrap().downcast_ref::<Error>();
        assert_matches!(inner, Some(Error::Protocol(ProtocolError::ReservedOpcode(3))));
    });
}

#[test]
fn peer_that_vanishes_is_no_end() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let mut stream = stream(ws);
        peer.send(&[text("some")]).await;
        drop(peer);
        let mut buf = [0; 9];
        assert_eq!(bytes::read(&mut stream, &mut buf).await.unwrap(), 4);
        let error = bytes::read(&mut stream, &mut buf).await.unwrap_err();
        assert_matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        );
    });
}

#[test]
fn peer_that_never_answers_the_shutdown_is_left() {
    both_roles_timed(async |role| {
        let (ws, _peer) = raw_pair(role, &config());
        let start = rt::now();
        let error = bytes::shutdown(&mut stream(ws)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_elapsed(start, 10);
    });
}

#[test]
fn dropped_stream_sends_no_close_frame() {
    // [destroy]
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        drop(stream(ws));
        assert_eq!(peer.frame().await, None);
    });
}

#[test]
fn peer_that_is_not_read_is_held_up() {
    // [backpressure 2 and 3]
    both_roles(async |role| {
        let (ws, peer) = raw_pair(role, &Config::default());
        let mut stream = stream(ws);
        let flood = rt::spawn(flood(peer, Frame { first: 0x82, payload: vec![7; 4096] }));
        for _ in 0..10 {
            assert_eq!(bytes::read(&mut stream, &mut [0]).await.unwrap(), 1);
            settle().await;
        }
        drop(stream);
        assert!(flood.await * 4096 < 512 * 1024);
    });
}

#[test]
fn writer_waits_for_a_peer_that_does_not_read() {
    // [backpressure 1]
    both_roles_timed(async |role| {
        let (ws, mut peer) = raw_pair(role, &Config { high_water: 10_000, ..config() });
        let mut stream = stream(ws);
        let mut len = 0;
        while let Some(written) = now_or_never(bytes::write(&mut stream, &[7; 1000])).await {
            len += written.unwrap();
        }
        assert!(len < 64 * 1024 + 12_000, "{len}");
        let writing = rt::spawn(async move { (bytes::write(&mut stream, &[7; 1000]).await, stream) });
        settle().await;
        // Reads until the queue is below the mark.
        let reading = async { while peer.frame().await.is_some() {} };
        match select(pin!(writing), pin!(reading)).await {
            Either::Left(((written, _stream), _)) => assert_eq!(written.unwrap(), 1000),
            Either::Right(_) => panic!("the stream ended"),
        }
    });
}

#[test]
fn tunnel_carries_a_conversation_to_a_target() {
    over_roles(&[Memory(64), Tcp], async |role, mine, theirs| {
        let (ws, peer) = open_as(role, mine, theirs).await;
        let (mut target, mut beyond) = rt::duplex(64);
        let tunnel = rt::spawn(async move { bytes::tunnel(&mut stream(peer), &mut target).await });
        // The target answers each byte with two, and ends when it is at the end.
        let target = rt::spawn(async move {
            let mut buf = [0; 100];
            while let len @ 1.. = rt::read(&mut beyond, &mut buf).await.unwrap() {
                rt::write_all(&mut beyond, &[&buf[..len], &buf[..len]].concat()).await.unwrap();
            }
            rt::shutdown(&mut beyond).await.unwrap();
        });
        let mut stream = stream(ws);
        for len in [1, 50, 500] {
            let written = vec![len as u8; len];
            bytes::write_all(&mut stream, &written).await.unwrap();
            let mut read: Vec<u8> = Vec::new();
            while read.len() < 2 * len {
                let mut buf = [0; 100];
                let len = bytes::read(&mut stream, &mut buf).await.unwrap();
                read.extend(&buf[..len]);
            }
            assert_eq!(read, vec![len as u8; 2 * len]);
        }
        bytes::shutdown(&mut stream).await.unwrap();
        target.await;
        assert_eq!(tunnel.await.unwrap(), (551, 1102));
    });
}

#[test]
fn cancelled_reads_and_writes_lose_and_repeat_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (ws, peer) = pair(role, 3);
            let (mut mine, mut theirs) = (stream(ws), stream(peer));
            let echo = rt::spawn(async move {
                let all = bytes::read_to_end(&mut theirs).await.unwrap();
                bytes::shutdown(&mut theirs).await.unwrap();
                all
            });
            let (mut all_done, mut expected) = (true, Vec::new());
            for i in 0..5 {
                match cancel_after(polls, bytes::write(&mut mine, &[i; 40])).await {
                    Some(written) => expected.extend(&[i; 40][..written.unwrap()]),
                    None => all_done = false,
                }
                all_done &= cancel_after(polls, bytes::flush(&mut mine)).await.is_some();
            }
            all_done &=
                cancel_after(polls, bytes::read(&mut mine, &mut [0; 9])).await.is_some() || polls > 50;
            all_done &= cancel_after(polls, bytes::shutdown(&mut mine)).await.is_some();
            bytes::shutdown(&mut mine).await.unwrap();
            assert_eq!(echo.await, expected);
            all_done
        })
        .await;
    });
}

fn stream(ws: Ws) -> Stream {
    AsyncIo(ByteStream::new(ws))
}
