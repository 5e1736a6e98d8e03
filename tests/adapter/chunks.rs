//! Messages piece by piece: received in chunks or by a reader, sent by a writer, whatever their length.

use super::{rt::bytes::AsyncIo, *};

// Receiving

#[test]
fn chunks_are_the_messages() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            for message in short_messages() {
                peer.ping(b"between").await.unwrap();
                peer.send(message).await.unwrap();
            }
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        });
        for message in short_messages() {
            assert_eq!(recv_in_chunks(&mut ws).await.unwrap(), Some(message));
        }
        assert!(ws.recv_chunk().await.unwrap().is_none());
        assert_closed(&ws, 1000, "", true, Initiator::Peer);
        sending.await;
    });
}

#[test]
fn message_is_sent_on_in_chunks_before_it_is_complete() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        peer.send(&[Frame { first: 0x01, payload: b"early ".into() }]).await;
        let chunk = ws.recv_chunk().await.unwrap().unwrap();
        assert_eq!((chunk.as_bytes(), chunk.last), (&b"early "[..], false));
        let (payload, last) = ("early ".to_owned(), chunk.last);
        ws.send_fragment(&*payload, last).await.unwrap();
        assert_eq!(peer.frame().await, Some(Frame { first: 0x01, payload: b"early ".into() }));
        peer.send(&[ping(b"p"), Frame { first: 0x80, payload: b"late".into() }]).await;
        while !ws.recv_chunk().await.unwrap().unwrap().last {}
        ws.send_fragment("late", true).await.unwrap();
        assert_eq!(peer.frame().await, Some(pong(b"p")));
        assert_eq!(peer.frame().await, Some(Frame { first: 0x80, payload: b"late".into() }));
    });
}

#[test]
fn cancelled_recv_chunk_loses_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, mut peer) = pair(role, 3);
            let sending = rt::spawn(async move {
                peer.send_fragment("žlu", false).await.unwrap();
                peer.send_fragment("ťoučký", true).await.unwrap();
                peer
            });
            let (mut all_done, mut seen) = (true, String::new());
            loop {
                let chunk = match cancel_after(polls, ws.recv_chunk()).await {
                    Some(chunk) => chunk.map(|chunk| chunk.map(owned)),
                    None => {
                        all_done = false;
                        ws.recv_chunk().await.map(|chunk| chunk.map(owned))
                    }
                };
                let (bytes, last) = chunk.unwrap().unwrap();
                seen += std::str::from_utf8(&bytes).unwrap();
                if last {
                    break;
                }
            }
            assert_eq!(seen, "žluťoučký");
            sending.await;
            all_done
        })
        .await;
    });
}

#[test]
fn recv_inside_a_message_gives_the_rest_of_it() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        peer.send(&[Frame { first: 0x01, payload: b"begun ".into() }]).await;
        assert!(!ws.recv_chunk().await.unwrap().unwrap().last);
        peer.send(&[Frame { first: 0x80, payload: b"and ended".into() }, text("next")]).await;
        assert_eq!(ws.recv().await.unwrap(), Some("and ended".into()));
        assert_eq!(ws.recv().await.unwrap(), Some("next".into()));
    });
}

#[test]
fn message_past_the_limit_is_an_error_behind_its_chunks() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let config = Config { max_message: 10, ..Config::default() };
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
        peer.send(&[Frame { first: 0x02, payload: vec![7; 10] }, Frame { first: 0x80, payload: vec![7] }])
            .await;
        assert_eq!(ws.recv_chunk().await.unwrap().map(owned), Some((vec![7; 10], false)));
        let receiving = rt::spawn(async move { ws.recv_chunk().await.map(|chunk| chunk.is_some()) });
        assert_eq!(peer.frame().await.unwrap().payload[..2], 1009_u16.to_be_bytes());
        drop(peer);
        assert_matches!(receiving.await, Err(Error::Protocol(ProtocolError::MessageTooLong { limit: 10 })));
    });
}

#[test]
fn flush_does_not_collect_what_is_received_in_chunks() {
    // The rest of a message without an end may be read while a flush waits, but only so much of it.
    timed(async {
        let config = Config { max_frame: 1 << 40, max_message: 1 << 40, ..config() };
        let (mut ws, mut peer) = raw_pair(Role::Server, &config);
        let mut header = vec![0x82, 0xff];
        header.extend((1_u64 << 40).to_be_bytes());
        header.extend([0; 4]);
        rt::write_all(&mut peer.link, &header).await.unwrap();
        rt::write_all(&mut peer.link, &[1; 100]).await.unwrap();
        assert_eq!(ws.recv_chunk().await.unwrap().unwrap().as_bytes(), [1; 100]);
        let flood = rt::spawn(async move {
            let mut len = 0;
            while rt::write_all(&mut peer.link, &[1; 4096]).await.is_ok() {
                len += 4096;
            }
            len
        });
        let sent = within(60, ws.send(binary(1 << 20))).await.expect("it has a deadline");
        assert_matches!(sent, Err(Error::Timeout(Timer::Write)));
        drop(ws);
        let len = flood.await;
        assert!(len < 512 * 1024, "{len} bytes were read");
    });
}

#[test]
fn reader_is_one_message_to_its_end() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            for message in short_messages() {
                peer.send(message).await.unwrap();
            }
            peer.send_fragment("a line\nand ", false).await.unwrap();
            peer.ping(b"between").await.unwrap();
            peer.send_fragment("another", true).await.unwrap();
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        });
        for message in short_messages() {
            let mut reader = AsyncIo(ws.recv_reader().await.unwrap().unwrap());
            assert_eq!(reader.0.is_text(), message.as_text().is_some());
            assert_eq!(rt::bytes::read_to_end(&mut reader).await.unwrap(), message.as_bytes());
            // The end stays the end.
            assert_eq!(rt::bytes::read(&mut reader, &mut [0; 9]).await.unwrap(), 0);
        }
        let mut reader = AsyncIo(ws.recv_reader().await.unwrap().unwrap());
        assert_eq!(rt::bytes::read_line(&mut reader).await.unwrap(), "a line\n");
        let mut byte = [0];
        assert_eq!(rt::bytes::read(&mut reader, &mut byte).await.unwrap(), 1);
        assert_eq!(byte, *b"a");
        assert_eq!(rt::bytes::read_to_end(&mut reader).await.unwrap(), b"nd another");
        drop(reader);
        assert!(ws.recv_reader().await.unwrap().is_none());
        sending.await;
    });
}

#[test]
fn reader_that_is_dropped_skips_the_rest_of_its_message() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let sending = rt::spawn(async move {
            for i in 0..6 {
                peer.send_fragment(&[7; 100_000][..], false).await.unwrap();
                peer.send_fragment(&[8; 100_000][..], true).await.unwrap();
                peer.send(binary(i)).await.unwrap();
            }
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        });
        for i in 0..6 {
            let mut reader = AsyncIo(ws.recv_reader().await.unwrap().unwrap());
            let mut bytes = [0; 10];
            assert!(rt::bytes::read(&mut reader, &mut bytes[..i + 1]).await.unwrap() > 0);
            drop(reader);
            let message = match i % 4 {
                0 => ws.recv().await.unwrap().unwrap(),
                1 => ws.recv_ref().await.unwrap().unwrap().to_message().unwrap(),
                2 => ws.recv_split().await.unwrap().unwrap().0.to_message().unwrap(),
                _ => recv_in_chunks(&mut ws).await.unwrap().unwrap(),
            };
            assert_eq!(message, binary(i));
        }
        assert_eq!(ws.recv().await.unwrap(), None);
        sending.await;
    });
}

#[test]
fn reader_that_is_dropped_skips_a_rest_that_came_already() {
    both_roles(async |role| {
        for lent in [false, true] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let frame = |first, payload: &[u8]| Frame { first, payload: payload.into() };
            peer.send(&[frame(0x01, b"some"), frame(0x80, b"rest"), frame(0x81, b"next")]).await;
            drop(ws.recv_reader().await.unwrap().unwrap());
            let message = match lent {
                false => ws.recv_split().await.unwrap().unwrap().0.to_message(),
                true => ws.recv_ref().await.unwrap().unwrap().to_message(),
            };
            assert_eq!(message, Some("next".into()));
        }
    });
}

#[test]
fn reader_tells_a_message_that_was_cut_off() {
    over_roles(&WIDE, async |role, mine, theirs| {
        for (end, kind) in [
            (None, io::ErrorKind::UnexpectedEof),
            (Some(close(1000, "")), io::ErrorKind::UnexpectedEof),
            (Some(Frame { first: 0x80, payload: b"\xff".into() }), io::ErrorKind::InvalidData),
        ] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            peer.send(&[Frame { first: 0x01, payload: b"some".into() }]).await;
            peer.send(end.as_slice()).await;
            drop(peer);
            let mut reader = AsyncIo(ws.recv_reader().await.unwrap().unwrap());
            let mut bytes = [0; 9];
            assert_eq!(rt::bytes::read(&mut reader, &mut bytes).await.unwrap(), 4);
            assert_eq!(rt::bytes::read(&mut reader, &mut bytes).await.unwrap_err().kind(), kind);
            drop(reader);
            // What comes after it is the end, without a panic.
            assert!(ws.recv().await.unwrap().is_none());
        }
        drop((mine, theirs));
    });
}

// Sending

#[test]
fn writer_makes_one_message_and_control_frames_pass() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let receiving = rt::spawn(async move {
            peer.ping(b"in between").await.unwrap();
            let messages = collect(&mut peer).await.unwrap();
            assert_closed(&peer, 1000, "", true, Initiator::Peer);
            messages
        });
        let mut writer = AsyncIo(ws.binary_writer());
        for _ in 0..300 {
            rt::bytes::write_all(&mut writer, &[7; 1000]).await.unwrap();
        }
        rt::bytes::flush(&mut writer).await.unwrap();
        rt::bytes::shutdown(&mut writer).await.unwrap();
        // Nothing follows the end, and a second one is none.
        rt::bytes::shutdown(&mut writer).await.unwrap();
        let late = rt::bytes::write(&mut writer, b"late").await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
        AsyncIo(ws.binary_writer()).0.finish().await.unwrap();
        ws.send("whole").await.unwrap();
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        assert!(receiving.await == [vec![7; 300_000].into(), binary(0), "whole".into()]);
    });
}

#[test]
fn s8_1_text_writer_takes_characters_that_are_cut_and_nothing_else() {
    both_roles(async |role| {
        let text = "žluťoučký 🦀!";
        for step in 1..6 {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let mut writer = AsyncIo(ws.text_writer());
            for piece in text.as_bytes().chunks(step) {
                rt::bytes::write_all(&mut writer, piece).await.unwrap();
            }
            rt::bytes::shutdown(&mut writer).await.unwrap();
            let frames = peer.arrived();
            assert!(frames.iter().all(|frame| std::str::from_utf8(&frame.payload).is_ok()), "{frames:?}");
            assert_eq!(
                frames.iter().flat_map(|frame| frame.payload.clone()).collect::<Vec<_>>(),
                text.as_bytes()
            );
        }
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let mut writer = AsyncIo(ws.text_writer());
        let invalid = rt::bytes::write_all(&mut writer, b"ok\xffno").await.unwrap_err();
        assert_eq!(invalid.kind(), io::ErrorKind::InvalidData);
        rt::bytes::write_all(&mut writer, b"\xc5").await.unwrap();
        let cut = rt::bytes::shutdown(&mut writer).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        rt::bytes::write_all(&mut writer, b"\xbe").await.unwrap();
        writer.0.finish().await.unwrap();
        let payloads: Vec<_> = peer.arrived().into_iter().flat_map(|frame| frame.payload).collect();
        assert_eq!(payloads, "okž".as_bytes());
    });
}

#[test]
fn writer_that_is_dropped_leaves_its_message_open() {
    both_roles(async |role| {
        let (mut ws, mut peer) = pair(role, 64 * 1024);
        // One that wrote nothing has begun nothing.
        drop(ws.binary_writer());
        ws.send("before").await.unwrap();
        rt::bytes::write_all(&mut AsyncIo(ws.text_writer()), b"begun ").await.unwrap();
        assert_matches!(ws.send("whole").await, Err(Error::Send(SendError::InFragment)));
        let other = rt::bytes::write(&mut AsyncIo(ws.binary_writer()), b"x").await.unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::InvalidInput);
        rt::bytes::write_all(&mut AsyncIo(ws.text_writer()), b"and ").await.unwrap();
        ws.send_fragment("ended", true).await.unwrap();
        ws.send("whole").await.unwrap();
        for message in ["before", "begun and ended", "whole"] {
            assert_eq!(peer.recv().await.unwrap(), Some(message.into()));
        }
    });
}

#[test]
fn writer_waits_for_a_peer_that_does_not_read_and_times_out() {
    both_roles_timed(async |role| {
        let config = Config { high_water: 10_000, ..config() };
        let (mut ws, _peer) = raw_pair(role, &config);
        let start = rt::now();
        let mut writer = AsyncIo(ws.binary_writer());
        let mut len = 0;
        let error = loop {
            match rt::bytes::write(&mut writer, &[7; 1000]).await {
                Ok(written) => len += written,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_elapsed(start, 30);
        // The pipe and the queue.
        assert!(len < 64 * 1024 + 12_000, "{len}");
    });
}

#[test]
fn cancelled_writes_are_taken_or_not() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (mut ws, peer) = collecting_pair(role, Config { high_water: 1, ..Config::default() });
            let mut writer = AsyncIo(ws.binary_writer());
            let mut all_done = true;
            let mut expected = Vec::new();
            for i in 0..4 {
                match cancel_after(polls, rt::bytes::write(&mut writer, &[i; 30])).await {
                    Some(written) => {
                        assert_eq!(written.unwrap(), 30);
                        expected.extend([i; 30]);
                    }
                    None => all_done = false,
                }
                all_done &= cancel_after(polls, rt::bytes::flush(&mut writer)).await.is_some();
            }
            all_done &= cancel_after(polls, rt::bytes::shutdown(&mut writer)).await.is_some();
            rt::bytes::shutdown(&mut writer).await.unwrap();
            ws.send("after").await.unwrap();
            ws.close(CloseCode::NORMAL, "").await.unwrap();
            assert_eq!(peer.await, [expected.into(), "after".into()]);
            all_done
        })
        .await;
    });
}

#[test]
fn long_write_is_taken_in_part() {
    both_roles(async |role| {
        let (mut ws, mut peer) = pair(role, 1024 * 1024);
        let written = rt::bytes::write(&mut AsyncIo(ws.binary_writer()), &[7; 1 << 20]).await.unwrap();
        assert_eq!(written, 64 * 1024);
        assert_eq!(rt::bytes::write(&mut AsyncIo(ws.binary_writer()), &[]).await.unwrap(), 0);
        ws.binary_writer().finish().await.unwrap();
        assert_eq!(peer.recv().await.unwrap().map(|message| message.len()), Some(64 * 1024));
    });
}

/// The next message, put together of its chunks.
async fn recv_in_chunks(ws: &mut Ws) -> Result<Option<Message>, Error> {
    let mut message = Vec::new();
    while let Some(chunk) = ws.recv_chunk().await? {
        message.extend(chunk.as_bytes());
        if chunk.last {
            return Ok(Some(match chunk.payload {
                Fragment::Text(_) => String::from_utf8(message).unwrap().into(),
                _ => message.into(),
            }));
        }
    }
    assert!(message.is_empty(), "it ended inside a message");
    Ok(None)
}

fn owned(chunk: Chunk<'_>) -> (Vec<u8>, bool) {
    (chunk.as_bytes().into(), chunk.last)
}
