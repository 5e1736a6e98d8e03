//! A WebSocket in two halves: whichever is polled does what the connection needs, and neither waits in vain.

use std::future::poll_fn;

use ws_proto::{
    SlowConsumer,
    drive::{Clients, ReadHalf, WriteHalf, reunite},
};

use super::*;

type Reader = ReadHalf<rt::Socket>;
type Writer = WriteHalf<rt::Socket>;

// Two tasks

#[test]
fn halves_work_in_two_tasks_through_full_pipes() {
    over_roles(&[Memory(7), Memory(64), Tcp], async |role, mine, theirs| {
        const COUNT: usize = 100;
        let (ws, peer) = open_as(role, mine, theirs).await;
        // Each side sends in one task and receives in another; nobody waits for the other side to read first.
        let sides = [ws, peer].map(|ws| {
            let (mut reader, mut writer) = ws.split();
            let sending = rt::spawn(async move {
                for i in 0..COUNT {
                    writer.send(binary(i * 3)).await.unwrap();
                }
                writer
            });
            let receiving = rt::spawn(async move {
                for i in 0..COUNT {
                    assert_eq!(reader.recv().await.unwrap(), Some(binary(i * 3)));
                }
                reader
            });
            join(sending, receiving)
        });
        let [mine, theirs] = sides;
        let ((mut writer, mut reader), (_peer_writer, mut peer_reader)) = join(mine, theirs).await;
        let closing = join(writer.close(CloseCode::NORMAL, ""), reader.recv());
        let ((closed, received), answered) = join(closing, peer_reader.recv()).await;
        closed.unwrap();
        assert_matches!((received, answered), (Ok(None), Ok(None)));
        assert!(reader.closed().unwrap().clean);
    });
}

#[test]
fn both_sides_send_long_messages_through_a_full_pipe() {
    over_roles(&[Memory(64), Tcp], async |role, mine, theirs| {
        let (ws, peer) = open_as(role, mine, theirs).await;
        let [mine, theirs] = [ws, peer].map(|ws| {
            let (mut reader, mut writer) = ws.split();
            let sending = rt::spawn(async move { writer.send(binary(300_000)).await.map(|()| writer) });
            let receiving = rt::spawn(async move { (reader.recv().await, reader) });
            join(sending, receiving)
        });
        for (sent, (received, _reader)) in <[_; 2]>::from(join(mine, theirs).await) {
            let _writer = sent.unwrap();
            assert!(received.unwrap() == Some(binary(300_000)));
        }
    });
}

#[test]
fn halves_need_nothing_of_their_stream() {
    // Neither `Send` nor `'static` is asked for where no other task is.
    async fn converse<K: ws_proto::drive::Socket>(ws: ws_proto::drive::WebSocket<K>) {
        let (mut reader, mut writer) = ws.split();
        let (sent, received) = join(writer.send("hello"), reader.recv()).await;
        sent.unwrap();
        assert_eq!(received.unwrap(), Some("hello".into()));
    }
    both_roles(async |role| {
        let (ws, mut peer) = pair(role, 64);
        join(converse(ws), async {
            let message = peer.recv().await.unwrap().unwrap();
            peer.send(message).await.unwrap();
        })
        .await;
    });
}

// No lost wake-up

#[test]
fn writer_goes_on_while_the_reader_is_parked_first() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64);
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        settle().await;
        let sending = rt::spawn(async move { (writer.send(binary(1000)).await, writer) });
        settle().await;
        let frame = within(10, peer.frame()).await.expect("it was woken");
        assert_eq!(frame, Some(Frame { first: 0x82, payload: binary(1000).into_bytes().into() }));
        let (sent, _writer) = within(10, sending).await.expect("it was woken");
        sent.unwrap();
        peer.send(&[text("hello")]).await;
        let (received, _reader) = within(10, receiving).await.expect("it was woken");
        assert_eq!(received.unwrap(), Some("hello".into()));
    });
}

#[test]
fn reader_goes_on_while_the_writer_is_parked_first() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64);
        let sending = rt::spawn(async move { (writer.send(binary(1000)).await, writer) });
        settle().await;
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        settle().await;
        peer.send(&[text("hello")]).await;
        let (received, _reader) = within(10, receiving).await.expect("it was woken");
        assert_eq!(received.unwrap(), Some("hello".into()));
        assert!(within(10, peer.frame()).await.expect("it was woken").is_some());
        let (sent, _writer) = within(10, sending).await.expect("it was woken");
        sent.unwrap();
    });
}

#[test]
fn parked_reader_gets_what_the_writer_read() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64);
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        settle().await;
        peer.send(&[text("hello")]).await;
        // The flush has something to wait for, and reads before the reader's task is run.
        let sent = now_or_never(writer.send(binary(1000))).await;
        assert!(sent.is_none());
        let (received, _reader) = within(10, receiving).await.expect("it was woken");
        assert_eq!(received.unwrap(), Some("hello".into()));
    });
}

#[test]
fn s5_5_2_pings_are_answered_whichever_half_is_polled() {
    both_roles(async |role| {
        let (mut reader, writer, mut peer) = split_over(role, 64 * 1024);
        peer.send(&[ping(b"to the reader")]).await;
        assert!(now_or_never(reader.recv()).await.is_none());
        assert_eq!(peer.arrived(), [pong(b"to the reader")]);
        // The writer alone: it closes, and answers on the way.
        drop(reader);
        let mut writer = writer;
        peer.send(&[ping(b"to the writer")]).await;
        assert!(now_or_never(writer.close(CloseCode::NORMAL, "")).await.is_none());
        assert_eq!(peer.arrived(), [close(1000, ""), pong(b"to the writer")]);
    });
}

#[test]
fn fed_messages_leave_when_the_reader_waits() {
    both_roles(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64 * 1024);
        writer.feed("fed").await.unwrap();
        assert_eq!(peer.arrived(), []);
        assert!(writer.buffered_amount() > 3);
        assert!(now_or_never(reader.recv()).await.is_none());
        assert_eq!(peer.arrived(), [text("fed")]);
        assert_eq!(writer.buffered_amount(), 0);
    });
}

#[test]
fn everything_that_is_sent_arrives() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (_reader, mut writer) = ws.split();
        writer.send("message").await.unwrap();
        writer.send_prepared(&Prepared::new("prepared")).await.unwrap();
        writer.send_fragment("frag", false).await.unwrap();
        writer.ping(b"ping").await.unwrap();
        assert_matches!(writer.send("no").await, Err(Error::Send(SendError::InFragment)));
        writer.send_fragment("ment", true).await.unwrap();
        let expected = [
            text("message"),
            text("prepared"),
            Frame { first: 0x01, payload: b"frag".into() },
            ping(b"ping"),
            Frame { first: 0x80, payload: b"ment".into() },
        ];
        for frame in expected {
            assert_eq!(peer.frame().await, Some(frame));
        }
        assert_matches!(
            writer.ping(&[0; 126]).await,
            Err(Error::Send(SendError::ControlTooLong { len: 126 }))
        );
    });
}

#[test]
fn reader_sees_events_and_chunks() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (mut reader, _writer) = ws.split();
        peer.send(&[pong(b"unasked"), text("hello"), Frame { first: 0x01, payload: b"ch".into() }]).await;
        assert_eq!(
            reader.recv_with(|event| Seen::from(event)).await.unwrap(),
            Some(Seen::Pong(b"unasked".into()))
        );
        assert_eq!(
            reader.recv_with(|event| Seen::from(event)).await.unwrap(),
            Some(Seen::Message("hello".into()))
        );
        let mut seen = Vec::new();
        let see = |chunk: Chunk<'_>| (chunk.as_bytes().to_vec(), chunk.last);
        seen.push(reader.recv_chunk_with(see).await.unwrap().unwrap());
        peer.send(&[Frame { first: 0x80, payload: b"unk".into() }]).await;
        while !seen.last().unwrap().1 {
            seen.push(reader.recv_chunk_with(see).await.unwrap().unwrap());
        }
        assert_eq!(seen.into_iter().flat_map(|(bytes, _)| bytes).collect::<Vec<_>>(), b"chunk");
        peer.send(&[close(1000, "")]).await;
        drop(peer);
        assert_eq!(reader.recv_chunk_with(see).await.unwrap(), None);
    });
}

// The end

#[test]
fn s7_1_2_writer_closes_while_the_reader_waits() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (ws, mut peer) = open_as(role, mine, theirs).await;
        let (mut reader, mut writer) = ws.split();
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        let peer = rt::spawn(async move { (collect(&mut peer).await, peer) });
        settle().await;
        writer.feed("last").await.unwrap();
        writer.close(CloseCode::new(4001), "bye").await.unwrap();
        let (received, reader) = receiving.await;
        assert_eq!(received.unwrap(), None);
        assert_eq!(reader.closed(), writer.closed());
        let closed = reader.closed().unwrap();
        assert_eq!((closed.code.get(), closed.clean, closed.initiator), (4001, true, Initiator::Local));
        assert_matches!(writer.send("late").await, Err(Error::Send(SendError::Closed)));
        let (collected, peer) = peer.await;
        assert_eq!(collected.unwrap(), ["last".into()]);
        assert_closed(&peer, 4001, "bye", true, Initiator::Peer);
    });
}

#[test]
fn s7_1_2_halves_of_one_task_close_in_either_order() {
    // They share a waker, so that what one finds for the other has to wake the task that is running.
    both_roles_timed(async |role| {
        for writer_first in [true, false] {
            let (ws, mut peer) = pair(role, 64);
            let (mut reader, mut writer) = ws.split();
            let closing = async {
                if writer_first {
                    let (closed, received) = join(writer.close(CloseCode::NORMAL, ""), reader.recv()).await;
                    (closed, received)
                } else {
                    let (received, closed) = join(reader.recv(), writer.close(CloseCode::NORMAL, "")).await;
                    (closed, received)
                }
            };
            let ((closed, received), answered) =
                within(5, join(closing, peer.recv())).await.expect("no deadline has to pass");
            closed.unwrap();
            assert_matches!((received, answered), (Ok(None), Ok(None)));
        }
    });
}

#[test]
fn s5_5_1_messages_still_arrive_while_the_writer_closes() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64 * 1024);
        let closing = rt::spawn(async move { writer.close(CloseCode::NORMAL, "").await });
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.send(&[text("one"), text("two"), close(1000, "")]).await;
        let leaving = rt::spawn(peer.leave(role));
        settle().await;
        // Nobody dropped them meanwhile.
        assert_eq!(reader.recv().await.unwrap(), Some("one".into()));
        assert_eq!(reader.recv().await.unwrap(), Some("two".into()));
        assert_eq!(reader.recv().await.unwrap(), None);
        within(5, closing).await.expect("it was woken").unwrap();
        leaving.await;
    });
}

#[test]
fn s7_1_2_writer_closes_alone_once_the_reader_is_dropped() {
    both_roles_timed(async |role| {
        let (reader, mut writer, mut peer) = split_over(role, 64 * 1024);
        let closing = rt::spawn(async move { (writer.close(CloseCode::NORMAL, "").await, writer) });
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.send(&[text("unread"), close(1000, "")]).await;
        let leaving = rt::spawn(peer.leave(role));
        settle().await;
        drop(reader);
        let (closed, writer) = within(5, closing).await.expect("it was woken");
        closed.unwrap();
        assert!(writer.closed().unwrap().clean);
        leaving.await;
    });
}

#[test]
fn start_close_leaves_through_the_parked_reader() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64 * 1024);
        let start = rt::now();
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        settle().await;
        writer.start_close_without_code();
        assert_eq!(
            within(5, peer.frame()).await.expect("it was woken"),
            Some(Frame { first: 0x88, payload: vec![] })
        );
        // And the deadline runs.
        let (received, _reader) = within(15, receiving).await.expect("it was woken");
        assert_matches!(received, Err(Error::Timeout(Timer::Close)));
        assert_elapsed(start, 10);
    });
}

#[test]
fn peer_that_never_answers_is_told_to_both_halves() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, _peer) = split_over(role, 64 * 1024);
        let start = rt::now();
        let receiving = rt::spawn(async move { reader.recv().await });
        settle().await;
        assert_matches!(writer.close(CloseCode::NORMAL, "").await, Err(Error::Timeout(Timer::Close)));
        assert_elapsed(start, 10);
        assert_matches!(within(1, receiving).await.unwrap(), Err(Error::Timeout(Timer::Close)));
    });
}

#[test]
fn s7_1_5_peer_that_vanishes_is_told_to_both_halves() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, peer) = split_over(role, 64);
        let sending = rt::spawn(async move { writer.send(binary(1000)).await });
        settle().await;
        let receiving = rt::spawn(async move { reader.recv().await });
        settle().await;
        drop(peer);
        assert_matches!(within(5, sending).await.unwrap(), Err(Error::Io(_) | Error::Abnormal));
        assert_matches!(within(5, receiving).await.unwrap(), Err(Error::Io(_) | Error::Abnormal));
    });
}

#[test]
fn half_that_is_left_goes_on() {
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (reader, mut writer) = ws.split();
        drop(reader);
        writer.send("still").await.unwrap();
        assert_eq!(peer.frame().await, Some(text("still")));
        drop(writer);
        assert_eq!(peer.frame().await, None);
    });
    over_roles(&WIDE, async |role, mine, theirs| {
        let (ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let (mut reader, writer) = ws.split();
        drop(writer);
        peer.send(&[ping(b"1"), text("still"), close(1000, "")]).await;
        assert_eq!(reader.recv().await.unwrap(), Some("still".into()));
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        assert_eq!(peer.frame().await, Some(pong(b"1")));
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        drop(peer);
        assert_eq!(receiving.await.0.unwrap(), None);
    });
}

#[test]
fn peer_is_held_up_while_the_reader_does_not_receive() {
    timed(async {
        let (_reader, mut writer, peer) = split_over(Role::Server, 64 * 1024);
        let flood = rt::spawn(flood(peer, Frame { first: 0x82, payload: vec![7; 4096] }));
        assert_matches!(
            within(60, writer.send(binary(1 << 20))).await.expect("it has a deadline"),
            Err(Error::Timeout(Timer::Write))
        );
        drop((_reader, writer));
        // The pipe, half a block and a read.
        assert!(flood.await * 4096 < 512 * 1024);
    });
}

// Cancelled futures

#[test]
fn cancelled_recv_of_a_half_loses_nothing() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (ws, mut peer) = pair(role, 3);
            let (mut reader, _writer) = ws.split();
            let messages = ["one".into(), binary(0), binary(130), "žluť".into()];
            let sending = rt::spawn({
                let messages = messages.clone();
                async move {
                    for message in messages {
                        peer.send(message).await.unwrap();
                    }
                    peer
                }
            });
            let mut all_done = true;
            for message in messages {
                let received = match cancel_after(polls, reader.recv()).await {
                    Some(received) => received,
                    None => {
                        all_done = false;
                        reader.recv().await
                    }
                };
                assert_eq!(received.unwrap(), Some(message));
            }
            sending.await;
            all_done
        })
        .await;
    });
}

#[test]
fn cancelled_sends_of_a_half_are_queued_whole_or_not_at_all() {
    both_roles(async |role| {
        at_every_poll(async |polls| {
            let (ws, peer) = collecting_pair(role, Config { high_water: 1, ..Config::default() });
            let (mut reader, mut writer) = ws.split();
            let prepared = Prepared::new(binary(41));
            let mut done = Vec::new();
            done.push(cancel_after(polls, writer.send(binary(40))).await.is_some());
            done.push(cancel_after(polls, writer.send_prepared(&prepared)).await.is_some());
            done.push(cancel_after(polls, writer.feed(binary(42))).await.is_some());
            done.push(cancel_after(polls, writer.flush()).await.is_some());
            writer.send("after").await.unwrap();
            done.push(cancel_after(polls, writer.close(CloseCode::NORMAL, "")).await.is_some());
            if polls == 0 {
                writer.start_close(CloseCode::NORMAL, "").unwrap();
            }
            assert_eq!(reader.recv().await.unwrap(), None);
            writer.close(CloseCode::NORMAL, "").await.unwrap();
            assert!(reader.closed().unwrap().clean);

            let messages = peer.await;
            assert_eq!(messages.last(), Some(&"after".into()));
            let lengths: Vec<_> = messages.iter().map(Message::len).collect();
            let mut sorted = lengths.clone();
            sorted.pop();
            assert!(
                sorted.is_sorted_by(|a, b| a < b) && sorted.iter().all(|len| (40..43).contains(len)),
                "{lengths:?}"
            );
            for (len, done) in [40, 41, 42].into_iter().zip(&done) {
                assert!(!done || sorted.contains(&len), "{lengths:?}");
            }
            // A close waits for the reader, which comes after it.
            done[..4].iter().all(|done| *done)
        })
        .await;
    });
}

// Others that send

#[test]
fn clients_send_through_halves_whatever_they_do() {
    both_roles_timed(async |role| {
        let clients = Clients::default();
        let (mut ws, mut peer) = raw_pair(role, &config());
        let client = clients.insert(&mut ws);
        client.send("before the split").unwrap();
        let (mut reader, mut writer) = ws.split();
        assert!(client.is_open());
        // Nobody waits: it is written at once.
        client.send("idle").unwrap();
        writer.flush().await.unwrap();
        assert_eq!(peer.arrived(), [text("before the split"), text("idle")]);
        let receiving = rt::spawn(async move { (reader.recv().await, reader) });
        settle().await;
        client.send("parked").unwrap();
        assert_eq!(within(5, peer.frame()).await.expect("it left"), Some(text("parked")));
        // Inside a message of the writer it has to wait, and leaves behind it, though nobody else does anything.
        writer.send_fragment("frag", false).await.unwrap();
        client.send("between").unwrap();
        settle().await;
        assert_eq!(peer.arrived(), [Frame { first: 0x01, payload: b"frag".into() }]);
        writer.send_fragment("ment", true).await.unwrap();
        assert_eq!(
            within(5, peer.frame()).await.unwrap(),
            Some(Frame { first: 0x80, payload: b"ment".into() })
        );
        assert_eq!(within(5, peer.frame()).await.expect("it was woken"), Some(text("between")));

        drop(writer);
        assert_eq!(clients.len(), 1);
        client.close(CloseCode::GOING_AWAY, "").unwrap();
        assert_eq!(within(5, peer.frame()).await.expect("it was woken"), Some(close(1001, "")));
        peer.send(&[close(1001, "")]).await;
        drop(peer);
        let (received, reader) = receiving.await;
        assert_eq!(received.unwrap(), None);
        assert!(!client.is_open());
        drop(reader);
        assert!(clients.is_empty());
        assert_matches!(client.send("late"), Err(SendError::Closed));
    });
}

#[test]
fn mail_wakes_the_half_that_is_parked_though_the_other_was_polled_last() {
    both_roles_timed(async |role| {
        let clients = Clients::new(SlowConsumer::Skip);
        let (mine, theirs) = rt::duplex(64);
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let client = clients.insert(&mut ws);
        let (mut reader, mut writer) = ws.split();
        let receiving = rt::spawn(async move { reader.recv().await.map(|_| reader) });
        settle().await;
        // The writer was the last that asked, and asks no more.
        writer.flush().await.unwrap();
        client.send(binary(1000)).unwrap();
        let frame = within(10, peer.frame()).await.expect("the reader was woken to write it");
        assert_eq!(frame.unwrap().payload.len(), 1000);
        client.terminate();
        assert_matches!(within(5, receiving).await.expect("it was woken"), Err(Error::Abnormal));
    });
}

#[test]
fn mail_wakes_the_task_that_receives_though_a_sink_was_polled_last() {
    both_roles_timed(async |role| {
        let clients = Clients::default();
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = clients.insert(&mut ws);
        let (mut sink, mut stream) = StreamExt::split(ws);
        let receiving = rt::spawn(async move { stream.next().await.map(|_| stream) });
        settle().await;
        let flushed = rt::spawn(async move { sink.flush().await.map(|()| sink) });
        let _sink = flushed.await.unwrap();
        client.send("mail").unwrap();
        assert_eq!(within(5, peer.frame()).await.expect("it was woken"), Some(text("mail")));
        drop(receiving);
    });
}

// Together again

#[test]
fn reunited_halves_are_the_websocket() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let clients = Clients::default();
        let client = clients.insert(&mut ws);
        let echo = rt::spawn(async move { echo(&mut peer).await });
        for _ in 0..2 {
            let (mut reader, mut writer) = ws.split();
            assert!(reader.is_pair_of(&writer));
            // What is queued, and what a dropped future had begun, stays.
            writer.feed("one").await.unwrap();
            assert!(now_or_never(reader.recv()).await.is_none());
            ws = reunite(reader, writer).unwrap();
            assert_eq!(ws.recv().await.unwrap(), Some("one".into()));
        }
        assert_eq!(clients.len(), 1);
        client.send("through the set").unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("through the set".into()));
        converse_and_close(&mut ws, &short_messages()).await;
        echo.await.unwrap();
        drop(ws);
        assert!(clients.is_empty());
    });
}

#[test]
fn strangers_are_not_reunited_and_come_back() {
    both_roles(async |role| {
        let (one, other) = pair(role, 64 * 1024);
        let (one, other) = (one.split(), other.split());
        assert!(!one.0.is_pair_of(&other.1));
        let error = reunite(one.0, other.1).unwrap_err();
        assert_eq!(error.to_string(), "the halves are not of one WebSocket");
        let mut one = reunite(error.reader, one.1).unwrap();
        let mut other = reunite(other.0, error.writer).unwrap();
        one.send("still there").await.unwrap();
        assert_eq!(other.recv().await.unwrap(), Some("still there".into()));
    });
}

#[test]
fn stream_and_sink_of_halves_carry_a_conversation() {
    over_roles(&ALL, async |role, mine, theirs| {
        let (mut ws, peer) = open_as(role, mine, theirs).await;
        let (reader, writer) = peer.split();
        let echo = rt::spawn(reader.forward(writer));
        converse_and_close(&mut ws, &short_messages()).await;
        echo.await.unwrap();
    });
}

#[test]
fn sink_of_a_half_closes_without_being_polled_on_and_on() {
    both_roles_timed(async |role| {
        let (mut reader, mut writer, mut peer) = split_over(role, 64 * 1024);
        let mut polls = 0;
        let closing = poll_fn(|cx| {
            polls += 1;
            writer.poll_close_unpin(cx)
        });
        let (closed, received, ()) = futures_util::future::join3(closing, reader.recv(), async {
            settle().await;
            assert_eq!(peer.frame().await, Some(close(1000, "")));
            peer.send(&[close(1000, "")]).await;
            peer.leave(role).await;
        })
        .await;
        closed.unwrap();
        assert_eq!(received.unwrap(), None);
        // The settling polls it, as one task does all; what is left over are wakes of its own.
        assert!(polls < 150, "{polls} polls");
    });
}

/// Both halves over a pipe that holds so many bytes, and the peer.
fn split_over(role: Role, len: usize) -> (Reader, Writer, Raw) {
    let (mine, theirs) = rt::duplex(len);
    let (ws, peer) = raw_peer(role, mine, theirs, &config());
    let (reader, writer) = ws.split();
    (reader, writer, peer)
}
