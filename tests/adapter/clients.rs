//! Connections that others send through than the task that owns them.

use super::*;
use crate::rt::ws::{Client, Clients, SlowConsumer};

#[test]
fn set_counts_iterates_and_finds() {
    both_roles(async |role| {
        let clients = Clients::default();
        assert!(clients.is_empty());
        let (mut one, _peer_of_one) = pair(role, 64);
        let (mut two, _peer_of_two) = pair(role, 64);
        let (first, second) = (clients.insert(&mut one), clients.insert(&mut two));
        assert_ne!(first.id(), second.id());
        assert_eq!((clients.len(), clients.is_empty()), (2, false));
        let mut ids: Vec<_> = clients.iter().map(|client| client.id()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [first.id(), second.id()]);
        assert_eq!(clients.get(first.id()).map(|client| client.id()), Some(first.id()));

        drop(one);
        assert_eq!(clients.clone().len(), 1);
        assert!(clients.get(first.id()).is_none());
        let (mut three, _peer_of_three) = pair(role, 64);
        assert!(clients.insert(&mut three).id() > second.id(), "no number comes again");
        drop((two, three));
        assert!(clients.is_empty());
    });
}

#[test]
fn connection_is_in_as_many_sets_as_took_it_in() {
    both_roles(async |role| {
        let (here, there) = (Clients::default(), Clients::default());
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        there.insert(&mut raw_pair(role, &Config::default()).0);
        let first = here.insert(&mut ws);
        let second = there.insert(&mut ws);
        assert_eq!(ws.client().map(|client| client.id()), Some(first.id()), "the first that took it in");
        assert_eq!(there.insert(&mut ws).id(), second.id(), "a set has it once");
        assert_eq!((here.len(), there.len()), (1, 1));
        let mut owner = Box::pin(async move { ws.recv().await });
        assert!(poll_once(&mut owner).is_pending());
        assert_eq!(here.broadcast(&Prepared::new("here")).sent, 1);
        assert_eq!(there.broadcast(&Prepared::new("there")).sent, 1);
        assert_eq!(peer.arrived(), [text("here"), text("there")]);
        drop(owner);
        assert_eq!((here.len(), there.len()), (0, 0));
    });
}

#[test]
fn emptied_waits_for_the_last_connection() {
    both_roles(async |role| {
        let clients = Clients::default();
        assert_eq!(now_or_never(clients.emptied()).await, Some(()));
        let (mut one, _peer_of_one) = pair(role, 64);
        let (mut two, _peer_of_two) = pair(role, 64);
        clients.insert(&mut one);
        clients.insert(&mut two);
        let waiting = [clients.clone(), clients.clone()]
            .map(|clients| rt::spawn(async move { clients.emptied().await }));
        settle().await;
        drop(one);
        assert!(now_or_never(clients.emptied()).await.is_none());
        drop(two);
        for emptied in waiting {
            emptied.await;
        }
    });
}

// Where the owner is meanwhile

#[test]
fn message_leaves_at_once_while_the_owner_waits() {
    both_roles(async |role| {
        for owner in Owner::ALL {
            println!("{owner:?}");
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            let mut owner = Box::pin(owner.run(ws));
            assert!(poll_once(&mut owner).is_pending());
            client.send("at once").unwrap();
            client.send_prepared(&Prepared::new(binary(200))).unwrap();
            // Nothing but the sender has run, unless the owner polls by itself.
            poll_woken(&mut owner);
            let frames = [text("at once"), Frame { first: 0x82, payload: binary(200).into_bytes().into() }];
            assert_eq!(peer.arrived(), frames);
            assert_eq!(client.buffered_amount(), 0);
        }
    });
}

#[test]
fn message_leaves_at_once_without_the_owners_task() {
    both_roles(async |role| {
        for owner in [Owner::Recv, Owner::RecvRef, Owner::RecvSplit] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            let mut owner = Box::pin(owner.run(ws));
            assert!(poll_once(&mut owner).is_pending());
            client.send("at once").unwrap();
            client.send_prepared(&Prepared::new("prepared")).unwrap();
            assert_eq!(peer.arrived(), [text("at once"), text("prepared")]);
            client.close(CloseCode::GOING_AWAY, "bye").unwrap();
            assert_eq!(peer.arrived(), [close(1001, "bye")]);
        }
    });
}

#[test]
fn message_follows_that_of_an_owner_who_waits_for_the_peer_to_read() {
    both_roles(async |role| {
        for via_sink in [false, true] {
            let (mine, theirs) = rt::duplex(64);
            let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
            let client = Clients::default().insert(&mut ws);
            let owner = rt::spawn(async move {
                if via_sink {
                    SinkExt::send(&mut ws, binary(1000)).await.unwrap();
                } else {
                    ws.send(binary(1000)).await.unwrap();
                }
                ws.recv().await
            });
            settle().await;
            assert!(client.buffered_amount() >= 1000 - 64);
            client.send("behind it").unwrap();
            assert_eq!(peer.frame().await.unwrap().payload.len(), 1000);
            assert_eq!(peer.frame().await, Some(text("behind it")));
            drop(peer);
            assert_matches!(owner.await, Err(Error::Abnormal));
        }
    });
}

#[test]
fn message_reaches_the_peer_of_an_owner_who_splits() {
    both_roles(async |role| {
        for own in [true, false] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            // By this crate, and as any stream that is a sink, too.
            let (mut sink, mut stream) = if own {
                let (reader, writer) = ws.split();
                (Either::Left(writer), Either::Left(reader))
            } else {
                let (sink, stream) = StreamExt::split(ws);
                (Either::Right(sink), Either::Right(stream))
            };
            let reading = rt::spawn(async move { stream.next().await.is_none() });
            settle().await;
            // The writer was the last to ask, and has its answer.
            let _sink = rt::spawn(async move {
                SinkExt::<Message>::send(&mut sink, "mine".into()).await.unwrap();
                sink
            })
            .await;
            assert_eq!(peer.arrived(), [text("mine")]);
            client.send("theirs").unwrap();
            assert_eq!(peer.frame().await, Some(text("theirs")));
            client.terminate();
            assert!(!reading.await, "an error before the end");
        }
    });
}

#[test]
fn mail_goes_before_the_close_of_a_half() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        client.send("accepted").unwrap();
        ws.send_fragment("begun", false).await.unwrap();
        let (mut reader, mut writer) = ws.split();
        client.send("never").unwrap();
        // What cannot be sent changes nothing.
        assert_matches!(writer.start_close(CloseCode::NO_STATUS, ""), Err(Error::Send(_)));
        assert!(client.is_open());
        writer.start_close(CloseCode::NORMAL, "").unwrap();
        assert!(!client.is_open());
        let reading = rt::spawn(async move { reader.recv().await });
        let begun = Frame { first: 0x01, payload: b"begun".to_vec() };
        for frame in [text("accepted"), begun, close(1000, "")] {
            assert_eq!(peer.frame().await, Some(frame));
        }
        drop(peer);
        assert_matches!(reading.await, Err(Error::Abnormal));
    });
}

#[test]
fn message_waits_for_the_next_call_of_a_busy_owner() {
    both_roles(async |role| {
        for call in Call::ALL {
            println!("{call:?}");
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            client.send("early").unwrap();
            client.send_prepared(&Prepared::new("bird")).unwrap();
            assert!(client.buffered_amount() >= 9);
            settle().await;
            assert_eq!(peer.arrived(), []);
            let mut call = Box::pin(call.run(ws));
            let _ = poll_once(&mut call);
            let arrived = peer.arrived();
            assert_eq!(arrived[..2], [text("early"), text("bird")]);
        }
    });
}

#[test]
fn owner_in_another_task_is_woken_for_what_it_has_to_see_to() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let owner = rt::spawn(async move { (ws.recv().await, ws.recv().await) });
        settle().await;
        client.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.send(&[text("one more"), close(1000, "")]).await;
        peer.leave(role).await;
        let (message, end) = owner.await;
        assert_eq!((message.unwrap(), end.unwrap()), (Some("one more".into()), None));
    });
}

#[test]
fn senders_need_no_runtime() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let owner = rt::spawn(async move { ws.recv().await });
        settle().await;
        thread::spawn(move || {
            client.send("from a thread").unwrap();
            client.close(CloseCode::NORMAL, "").unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(peer.frame().await, Some(text("from a thread")));
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        drop(peer);
        assert_matches!(owner.await, Err(Error::Abnormal));
    });
}

#[test]
fn one_task_reaches_more_than_its_share_of_others() {
    both_roles(async |role| {
        let clients = Clients::default();
        let mut links = Vec::new();
        for _ in 0..1000 {
            let (mut ws, peer) = raw_pair(role, &Config::default());
            clients.insert(&mut ws);
            let mut owner = Box::pin(async move { ws.recv().await });
            assert!(poll_once(&mut owner).is_pending());
            links.push((owner, peer));
        }
        let reached = clients.broadcast(&Prepared::new("news"));
        assert_eq!((reached.sent, reached.skipped, reached.disconnected), (1000, 0, 0));
        for (_, peer) in &mut links {
            assert_eq!(peer.frame().await, Some(text("news")));
        }
    });
}

#[test]
fn messages_keep_their_order_whatever_the_owner_does() {
    over_roles(&[Memory(64), Memory(64 * 1024), Tcp], async |role, mine, theirs| {
        let (mut ws, mut peer) = open_as(role, mine, theirs).await;
        let client = Clients::default().insert(&mut ws);
        let collecting = rt::spawn(async move { collect(&mut peer).await.unwrap() });
        let (stop, stopped) = futures_util::future::abortable(std::future::pending::<()>());
        let owner = rt::spawn(async move {
            let mut turns = 0;
            let mut stop = pin!(stop);
            while poll_once(&mut stop).is_pending() {
                match turns % 4 {
                    0 => drop(now_or_never(ws.recv()).await),
                    1 => ws.send("mine").await.unwrap(),
                    2 => rt::yield_now().await,
                    _ => ws.flush().await.unwrap(),
                }
                turns += 1;
            }
            ws.close(CloseCode::NORMAL, "").await.unwrap();
        });
        for i in 0..500 {
            while client.send(i.to_string()).is_err() {
                rt::yield_now().await;
            }
            if i % 3 == 0 {
                rt::yield_now().await;
            }
        }
        stopped.abort();
        owner.await;
        let mut messages = collecting.await;
        messages.retain(|message| *message != "mine".into());
        assert_eq!(messages, (0..500).map(|i| i.to_string().into()).collect::<Vec<Message>>());
    });
}

// Back-pressure

#[test]
fn queue_is_full_at_the_mark_and_not_before() {
    both_roles(async |role| {
        const MARK: usize = 1000;
        for queued in [MARK - 1, MARK, MARK + 1] {
            let (mine, theirs) = rt::duplex(64);
            let config = Config { high_water: MARK, ..Config::default() };
            let (mut ws, mut peer) = raw_peer(role, mine, theirs, &config);
            let client = Clients::default().insert(&mut ws);
            let owner = rt::spawn(async move { ws.recv().await });
            settle().await;
            let head = if role == Role::Client { 8 } else { 4 };
            client.send(binary(64 - head + 2)).unwrap(); // all of the pipe
            client.send(binary(queued - head)).unwrap();
            assert_eq!(client.buffered_amount(), queued);
            let sent = client.send("more");
            assert_eq!(sent, if queued < MARK { Ok(()) } else { Err(SendError::Full) });
            assert_eq!(client.send_prepared(&Prepared::new("more")), Err(SendError::Full));

            let more = usize::from(sent.is_ok());
            for _ in 0..2 + more {
                peer.frame().await.unwrap();
            }
            settle().await;
            assert_eq!(client.buffered_amount(), 0);
            client.send("again").unwrap();
            assert_eq!(peer.frame().await, Some(text("again")));
            drop(peer);
            assert_matches!(owner.await, Err(Error::Abnormal));
        }
    });
}

#[test]
fn mail_for_a_busy_owner_is_bounded() {
    both_roles(async |role| {
        for message in [Message::from(""), "x".into(), binary(10_000)] {
            let config = Config { high_water: 100_000, ..Config::default() };
            let (mut ws, mut peer) = raw_pair(role, &config);
            let client = Clients::default().insert(&mut ws);
            let mut count = 0;
            while client.send(message.clone()) == Ok(()) {
                count += 1;
                assert!(count <= 100_000 / 2, "no end of {} bytes", message.len());
            }
            assert_eq!(client.send(message.clone()), Err(SendError::Full));
            assert!((100_000..=110_000).contains(&client.buffered_amount()));

            let owner = rt::spawn(async move { ws.recv().await });
            for _ in 0..count {
                assert_eq!(peer.frame().await.unwrap().payload, message.as_bytes());
            }
            settle().await;
            assert_eq!(client.buffered_amount(), 0);
            client.send("again").unwrap();
            assert_eq!(peer.frame().await, Some(text("again")));
            drop(peer);
            assert_matches!(owner.await, Err(Error::Abnormal));
        }
    });
}

#[test]
fn commands_to_a_busy_owner_are_bounded() {
    both_roles(async |role| {
        let (mut ws, _peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        client.close(CloseCode::NORMAL, "").unwrap();
        assert!(!client.is_open());
        assert_eq!(client.close(CloseCode::NORMAL, ""), Err(SendError::Closed));
        assert_eq!(client.send("late"), Err(SendError::Closed));
        client.terminate();
        client.terminate();
        assert_matches!(ws.recv().await, Err(Error::Abnormal));
        assert_eq!(ws.recv().await.unwrap(), None);
    });
}

#[test]
fn mail_and_a_full_queue_together_are_delivered_in_turn() {
    both_roles(async |role| {
        let (mut ws, mut peer, client) = stuck(role, &Config::default()).await;
        let owner = rt::spawn(async move {
            ws.recv().await.unwrap();
            ws.closed().unwrap().clean
        });
        for _ in 0..MAIL {
            client.send("mail").unwrap();
        }
        settle().await;
        assert_eq!(peer.frame().await.unwrap().payload.len(), OWN);
        for _ in 0..MAIL {
            assert_eq!(peer.frame().await, Some(text("mail")));
        }
        peer.send(&[close(1000, "")]).await;
        assert_eq!(peer.frame().await, Some(close(1000, "")));
        peer.leave(role).await;
        assert!(owner.await);
    });
}

// Between fragments

#[test]
fn s5_4_message_waits_for_the_last_fragment_of_the_owner() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        ws.send_fragment("one ", false).await.unwrap();
        assert!(poll_once(&mut Box::pin(ws.recv())).is_pending());
        assert_eq!(client.send("whole"), Ok(()));
        assert!(now_or_never(ws.recv()).await.is_none());
        assert_eq!(client.send("next"), Ok(()));
        assert_eq!(peer.arrived(), [Frame { first: 0x01, payload: b"one ".to_vec() }]);
        ws.send_fragment("message", true).await.unwrap();
        let last = Frame { first: 0x80, payload: b"message".to_vec() };
        assert_eq!(peer.arrived(), [last, text("whole"), text("next")]);
    });
}

#[test]
fn s5_4_close_and_terminate_do_not_wait_for_a_last_fragment() {
    both_roles(async |role| {
        for waits in [false, true] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            ws.send_fragment("one ", false).await.unwrap();
            peer.arrived();
            let owner = rt::spawn(async move { ws.recv().await });
            if waits {
                settle().await;
            }
            client.send("never").unwrap();
            client.close(CloseCode::NORMAL, "").unwrap();
            assert_eq!(peer.frame().await, Some(close(1000, "")));
            client.terminate();
            assert_matches!(owner.await, Err(Error::Abnormal));
        }
    });
}

// The end

#[test]
fn close_by_handle_goes_behind_mail_and_begins_its_deadline() {
    both_roles_timed(async |role| {
        let (mut ws, mut peer, client) = stuck(role, &config()).await;
        let start = rt::now();
        let owner = rt::spawn(async move { ws.recv().await });
        client.send("mail").unwrap();
        client.close(CloseCode::TRY_AGAIN_LATER, "too slow").unwrap();
        assert!(!client.is_open());
        assert_eq!(client.send("late"), Err(SendError::Closed));
        // The peer reads a byte now and then, so that writing never times out.
        let dripping = rt::spawn(async move {
            while rt::read(&mut peer.link, &mut [0]).await.is_ok_and(|len| len > 0) {
                rt::sleep(SECOND).await;
            }
        });
        assert_matches!(owner.await, Err(Error::Timeout(Timer::Close)));
        assert_elapsed(start, 10);
        dripping.await;
    });
}

#[test]
fn close_by_handle_loses_no_mail_of_a_peer_that_reads() {
    both_roles(async |role| {
        let (mut ws, mut peer, client) = stuck(role, &Config::default()).await;
        let owner = rt::spawn(async move { ws.recv().await });
        client.send("mail").unwrap();
        client.close(CloseCode::GOING_AWAY, "").unwrap();
        assert_eq!(peer.frame().await.unwrap().payload.len(), OWN);
        for _ in 0..2 {
            let frame = peer.frame().await;
            if frame == Some(text("mail")) {
                continue;
            }
            assert_eq!(frame, Some(close(1001, "")));
        }
        peer.send(&[close(1001, "")]).await;
        peer.leave(role).await;
        assert_eq!(owner.await.unwrap(), None);
    });
}

#[test]
fn mail_goes_before_the_close_of_the_owner() {
    both_roles(async |role| {
        for start_only in [true, false] {
            let (mut ws, mut peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            client.send("accepted").unwrap();
            let owner = rt::spawn(async move {
                if start_only {
                    ws.start_close(CloseCode::NORMAL, "").unwrap();
                    ws.recv().await.map(drop)
                } else {
                    ws.close(CloseCode::NORMAL, "").await
                }
            });
            assert_eq!(peer.frame().await, Some(text("accepted")));
            assert_eq!(peer.frame().await, Some(close(1000, "")));
            peer.send(&[close(1000, "")]).await;
            peer.leave(role).await;
            owner.await.unwrap();
        }
    });
}

#[test]
fn terminate_by_handle_ends_whatever_waits() {
    both_roles(async |role| {
        // An owner that waits for a message, for room behind mail, and for the end.
        let (mut ws, peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let owner = rt::spawn(async move { (ws.recv().await, ws.recv().await, ws) });
        settle().await;
        client.terminate();
        let (error, end, ws) = owner.await;
        assert_matches!(error, Err(Error::Abnormal));
        assert_matches!(end, Ok(None));
        assert_closed(&ws, 1006, "", false, Initiator::Local);
        drop(peer);

        let (mut ws, _peer, client) = stuck(role, &Config::default()).await;
        let owner = rt::spawn(async move { ws.send("never").await.and(ws.recv().await) });
        client.send("mail").unwrap();
        settle().await;
        client.terminate();
        assert_matches!(owner.await, Err(Error::Abnormal | Error::Send(SendError::Closed)));

        let (mut ws, _peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let owner = rt::spawn(async move { ws.close(CloseCode::NORMAL, "").await });
        settle().await;
        assert!(!client.is_open());
        assert_eq!(client.send("late"), Err(SendError::Closed));
        assert_eq!(client.close(CloseCode::NORMAL, ""), Err(SendError::Closed));
        client.terminate();
        assert_matches!(owner.await, Err(Error::Abnormal));
    });
}

#[test]
fn s7_4_what_must_not_travel_is_refused_by_handles() {
    both_roles(async |role| {
        let clients = Clients::default();
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = clients.insert(&mut ws);
        let long = "x".repeat(124);
        for close in [&|code, reason: &str| client.close(code, reason), &|code, reason: &str| {
            clients.close(code, reason)
        }] as [&dyn Fn(CloseCode, &str) -> Result<(), SendError>; 2]
        {
            assert_eq!(close(CloseCode::NO_STATUS, ""), Err(SendError::CloseCode(1005)));
            assert_eq!(close(CloseCode::NORMAL, &long), Err(SendError::ControlTooLong { len: 124 }));
        }
        ws.send("still open").await.unwrap();
        assert_eq!(peer.frame().await, Some(text("still open")));
        clients.close(CloseCode::GOING_AWAY, "all of you").unwrap();
        assert!(now_or_never(ws.recv()).await.is_none());
        assert_eq!(peer.frame().await, Some(close_frame(1001, "all of you")));
    });
}

#[test]
fn handles_outlive_the_connection() {
    both_roles(async |role| {
        for ends in End::ALL {
            println!("{ends:?}");
            let (mut ws, peer) = raw_pair(role, &Config::default());
            let clients = Clients::default();
            let client = clients.insert(&mut ws);
            ends.run(ws, peer, &client).await;
            assert!(clients.is_empty());
            assert!(!client.is_open());
            assert_eq!(client.buffered_amount(), 0);
            for _ in 0..3 {
                assert_eq!(client.send("late"), Err(SendError::Closed));
                assert_eq!(client.send_prepared(&Prepared::new("late")), Err(SendError::Closed));
                assert_eq!(client.close(CloseCode::NORMAL, ""), Err(SendError::Closed));
                client.terminate();
            }
        }
    });
}

#[test]
fn ended_connection_takes_nothing_by_handles_before_it_is_dropped() {
    both_roles(async |role| {
        for as_stream in [false, true] {
            let (mut ws, peer) = raw_pair(role, &Config::default());
            let client = Clients::default().insert(&mut ws);
            drop(peer);
            if as_stream {
                assert_matches!(ws.next().await, Some(Err(Error::Abnormal)));
                assert!(ws.next().await.is_none());
            } else {
                assert_matches!(ws.recv().await, Err(Error::Abnormal));
            }
            assert!(!client.is_open());
            assert_eq!(client.send("late"), Err(SendError::Closed));
        }
    });
}

#[test]
fn stream_of_a_dropped_owner_is_closed_though_handles_are_left() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let mut owner = Box::pin(async move { ws.recv().await });
        assert!(poll_once(&mut owner).is_pending());
        client.send("before").unwrap();
        drop(owner);
        assert_eq!(peer.rest().await, [text("before")]);
        assert_eq!(client.send("after"), Err(SendError::Closed));
    });
}

#[test]
fn stream_is_closed_though_a_future_was_forgotten() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        let mut recv = Box::pin(ws.recv());
        assert!(poll_once(&mut recv).is_pending());
        std::mem::forget(recv);
        drop(ws);
        assert_eq!(peer.rest().await, []);
        assert_eq!(client.send("late"), Err(SendError::Closed));
    });
}

#[test]
fn cancelled_recv_leaves_the_connection_to_its_owner() {
    both_roles(async |role| {
        let (mut ws, mut peer) = raw_pair(role, &Config::default());
        let client = Clients::default().insert(&mut ws);
        for i in 0..10 {
            assert!(now_or_never(ws.recv()).await.is_none());
            client.send(i.to_string()).unwrap();
            assert_eq!(peer.arrived(), []);
            assert_eq!(ws.closed(), None);
            peer.send(&[text("in")]).await;
            assert_eq!(raced!(ws.recv()).unwrap(), Some("in".into()));
            assert!(now_or_never(ws.recv()).await.is_none());
            assert_eq!(peer.arrived(), [text(&i.to_string())]);
        }
    });
}

// Broadcasts

#[test]
fn broadcast_skips_slow_clients() {
    both_roles(async |role| {
        let clients = Clients::new(SlowConsumer::Skip);
        let (slow, mut slow_peer) = crowd(&clients, role, 3, 64).await;
        let (_quick, mut quick_peers) = crowd(&clients, role, 2, 1024 * 1024).await;
        let news = Prepared::new(binary(MORE));
        let reached = clients.broadcast(&news);
        assert_eq!((reached.sent, reached.skipped, reached.disconnected), (5, 0, 0));
        for _ in 0..100 {
            let reached = clients.broadcast(&news);
            assert_eq!((reached.sent, reached.skipped, reached.disconnected), (2, 3, 0));
            for peer in &mut quick_peers {
                peer.frame().await.unwrap();
            }
        }
        for client in &slow {
            assert!(client.is_open());
            assert!(client.buffered_amount() <= MORE + 14);
        }
        // Who reads again is sent to again.
        assert_eq!(slow_peer[0].frame().await.unwrap().payload.len(), MORE);
        settle().await;
        assert_eq!(clients.broadcast(&news).sent, 3);
    });
}

#[test]
fn broadcast_disconnects_slow_clients() {
    both_roles_timed(async |role| {
        let clients = Clients::new(SlowConsumer::Disconnect);
        let (slow, mut slow_peers) = crowd(&clients, role, 3, 64).await;
        let (_quick, _quick_peers) = crowd(&clients, role, 2, 1024 * 1024).await;
        let start = rt::now();
        let news = Prepared::new(binary(MORE));
        assert_eq!(clients.broadcast(&news).sent, 5);
        let reached = clients.broadcast(&news);
        assert_eq!((reached.sent, reached.skipped, reached.disconnected), (2, 0, 3));
        let reached = clients.broadcast(&news);
        assert_eq!((reached.sent, reached.skipped, reached.disconnected), (2, 0, 0));
        assert!(slow.iter().all(|client| !client.is_open()));
        // One reads up to the Close frame after all, the others do not.
        let reader = &mut slow_peers[0];
        assert_eq!(reader.frame().await.unwrap().payload.len(), MORE);
        assert_eq!(reader.frame().await, Some(close(1013, "too slow")));
        reader.send(&[close(1013, "")]).await;
        while clients.len() > 2 {
            rt::sleep(SECOND).await;
        }
        assert_elapsed(start, 10);
    });
}

#[test]
fn busy_owner_whose_peer_has_read_all_is_not_slow() {
    both_roles(async |role| {
        let clients = Clients::new(SlowConsumer::Disconnect);
        let (mine, theirs) = rt::duplex(64);
        let (mut ws, mut peer) = raw_peer(role, mine, theirs, &Config::default());
        let client = clients.insert(&mut ws);
        let owner = rt::spawn(async move {
            ws.send(binary(OWN)).await.unwrap();
            ws
        });
        assert_eq!(peer.frame().await.unwrap().payload.len(), OWN);
        let _busy = owner.await;
        assert_eq!(client.buffered_amount(), 0);
        assert_eq!(clients.broadcast(&Prepared::new("news")).sent, 1);
    });
}

#[test]
fn broadcast_disconnects_a_busy_owner_once() {
    both_roles(async |role| {
        let clients = Clients::new(SlowConsumer::Disconnect);
        let config = Config { high_water: MARK, ..Config::default() };
        let (mut ws, _peer) = raw_pair(role, &config);
        let _client = clients.insert(&mut ws);
        let news = Prepared::new(binary(MORE));
        let counts = [(); 4].map(|()| clients.broadcast(&news)).map(|r| (r.sent, r.disconnected));
        assert_eq!(counts, [(1, 0), (0, 1), (0, 0), (0, 0)]);
    });
}

#[test]
fn broadcast_to_some_leaves_the_others_out() {
    both_roles(async |role| {
        let clients = Clients::default();
        let (members, mut peers) = crowd(&clients, role, 3, 1024).await;
        let author = members[1].id();
        let others = clients.iter().filter(|client| client.id() != author);
        assert_eq!(clients.broadcast_to(others, &Prepared::new("hello")).sent, 2);
        let got: Vec<_> = peers.iter_mut().map(|peer| peer.arrived().len()).collect();
        assert_eq!(got, [1, 0, 1]);
    });
}

#[cfg(feature = "deflate")]
#[test]
fn broadcast_reaches_whatever_compression_was_agreed_on() {
    use crate::rt::ws::{DeflateConfig, WindowBits};
    test(async {
        let clients = Clients::default();
        let offer = |bits, no_takeover| {
            Some(DeflateConfig {
                server_max_window_bits: WindowBits::Max(bits),
                server_no_context_takeover: Some(no_takeover),
                threshold: 0,
                ..DeflateConfig::default()
            })
        };
        let offers =
            [None, offer(15, false), offer(15, true), offer(9, false), offer(9, true), offer(15, false)];
        let mut ends = Vec::new();
        for deflate in offers {
            let (mine, theirs) = rt::duplex(64 * 1024);
            let served = ServerConfig { deflate: offer(15, false), ..ServerConfig::default() };
            let client = ClientConfig { deflate, ..ClientConfig::default() };
            let (client, mut server) = open_with(mine, theirs, client, served).await;
            clients.insert(&mut server);
            ends.push((client, rt::spawn(async move { server.recv().await })));
        }
        settle().await;
        for i in 0..20 {
            let message: Message =
                format!("news {i}: {}", "the same for everybody ".repeat(200 * (i % 3))).into();
            assert_eq!(clients.broadcast(&Prepared::new(message.clone())).sent, 6);
            // What is sent to one has its place between what is sent to all.
            for client in clients.iter() {
                client.send("to you alone").unwrap();
            }
            for (client, _) in &mut ends {
                assert_eq!(client.recv().await.unwrap(), Some(message.clone()));
                assert_eq!(client.recv().await.unwrap(), Some("to you alone".into()));
            }
        }
    });
}

// Many threads

#[test]
fn hammered_from_many_threads_nothing_is_lost_doubled_or_reordered() {
    const SENDERS: usize = 4;
    const COUNT: usize = 2000;
    for (role, len) in [(Role::Server, 100), (Role::Client, 64 * 1024), (Role::Server, 64 * 1024)] {
        bounded(move || {
            rt::block_on_threads(async move {
                let (mine, theirs) = rt::duplex(len);
                let (mut ws, mut peer) = open_as(role, mine, theirs).await;
                let client = Clients::default().insert(&mut ws);
                let owner = rt::spawn(async move { echo(&mut ws).await });
                let senders: Vec<_> = (0..SENDERS)
                    .map(|sender| {
                        let client = client.clone();
                        rt::spawn(async move {
                            for i in 0..COUNT {
                                while let Err(error) = client.send(format!("{sender} {i}")) {
                                    assert_eq!(error, SendError::Full);
                                    rt::yield_now().await;
                                }
                            }
                        })
                    })
                    .collect();
                let mut next = [0; SENDERS];
                let mut echoes = 0;
                while next.iter().sum::<usize>() < SENDERS * COUNT || echoes < COUNT / 10 {
                    let Some(Message::Text(message)) = peer.recv().await.unwrap() else { panic!("text") };
                    if &*message == "echo" {
                        echoes += 1;
                        continue;
                    }
                    let (sender, i) = message.split_once(' ').unwrap();
                    let next = &mut next[sender.parse::<usize>().unwrap()];
                    assert_eq!(i.parse::<usize>().unwrap(), *next);
                    *next += 1;
                    if *next % 40 == 0 {
                        peer.send("echo").await.unwrap();
                    }
                }
                for sender in senders {
                    sender.await;
                }
                assert_eq!(next, [COUNT; SENDERS]);
                assert_eq!(echoes, SENDERS * COUNT / 40);
                peer.close(CloseCode::NORMAL, "").await.unwrap();
                owner.await.unwrap();
                assert!(!client.is_open());
            });
        });
    }
}

// Helpers

const MARK: usize = 10_000;

/// Bytes of a message that fills a queue, whatever the pipe takes of it.
const MORE: usize = MARK + 64;

/// How many messages of four bytes are posted in [`stuck`]'s wake.
const MAIL: usize = 10;

/// Bytes of the owner's message in [`stuck`].
const OWN: usize = 300_000;

/// An owner whose queue is past its mark, with a peer that has not read, and mail that found no room in the queue.
async fn stuck(role: Role, config: &Config) -> (Ws, Raw, Client) {
    let (mine, theirs) = rt::duplex(64);
    let (mut ws, peer) = raw_peer(role, mine, theirs, config);
    let client = Clients::default().insert(&mut ws);
    ws.room().await.unwrap().send(&binary(OWN)).unwrap();
    (ws, peer, client)
}

/// So many members, each in a task that waits for events, over a pipe that holds so many bytes.
async fn crowd(clients: &Clients, role: Role, count: usize, len: usize) -> (Vec<Client>, Vec<Raw>) {
    let config = Config { high_water: MARK, ..config() };
    let mut members = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..count {
        let (mine, theirs) = rt::duplex(len);
        let (mut ws, peer) = raw_peer(role, mine, theirs, &config);
        members.push(clients.insert(&mut ws));
        peers.push(peer);
        let _running = rt::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
    }
    settle().await;
    (members, peers)
}

/// What an owner may wait in.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Recv,
    RecvRef,
    RecvSplit,
    Stream,
    Select,
}

impl Owner {
    const ALL: [Self; 5] = [Self::Recv, Self::RecvRef, Self::RecvSplit, Self::Stream, Self::Select];

    async fn run(self, mut ws: Ws) {
        match self {
            Self::Recv => drop(ws.recv().await),
            Self::RecvRef => drop(ws.recv_ref().await.map(|event| event.is_some())),
            Self::RecvSplit => drop(ws.recv_split().await.map(|event| event.is_some())),
            Self::Stream => drop(ws.next().await),
            Self::Select => loop {
                let other = async {
                    rt::yield_now().await;
                    rt::yield_now().await;
                };
                match select(pin!(ws.recv()), pin!(other)).await {
                    Either::Left(_) => break,
                    Either::Right(_) => {}
                }
            },
        }
    }
}

/// What an owner may call next.
#[derive(Clone, Copy, Debug)]
enum Call {
    Recv,
    RecvRef,
    RecvSplit,
    Send,
    Ping,
    Flush,
    Close,
    Stream,
    SinkSend,
    SinkClose,
}

impl Call {
    const ALL: [Self; 10] = [
        Self::Recv,
        Self::RecvRef,
        Self::RecvSplit,
        Self::Send,
        Self::Ping,
        Self::Flush,
        Self::Close,
        Self::Stream,
        Self::SinkSend,
        Self::SinkClose,
    ];

    async fn run(self, mut ws: Ws) {
        match self {
            Self::Recv => drop(ws.recv().await),
            Self::RecvRef => drop(ws.recv_ref().await.map(|event| event.is_some())),
            Self::RecvSplit => drop(ws.recv_split().await.map(|event| event.is_some())),
            Self::Send => ws.send("mine").await.unwrap(),
            Self::Ping => ws.ping(b"mine").await.unwrap(),
            Self::Flush => ws.flush().await.unwrap(),
            Self::Close => drop(ws.close(CloseCode::NORMAL, "").await),
            Self::Stream => drop(ws.next().await),
            Self::SinkSend => SinkExt::send(&mut ws, "mine".into()).await.unwrap(),
            Self::SinkClose => drop(SinkExt::close(&mut ws).await),
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Dropped,
    DroppedWithMail,
    DroppedWithOutput,
    DroppedWhileWaiting,
    PeerGone,
    ClosedByPeer,
    Terminated,
    TakenApart,
}

impl End {
    const ALL: [Self; 8] = [
        Self::Dropped,
        Self::DroppedWithMail,
        Self::DroppedWithOutput,
        Self::DroppedWhileWaiting,
        Self::PeerGone,
        Self::ClosedByPeer,
        Self::Terminated,
        Self::TakenApart,
    ];

    async fn run(self, mut ws: Ws, mut peer: Raw, client: &Client) {
        match self {
            Self::Dropped => drop(ws),
            Self::DroppedWithMail => {
                client.send("mail").unwrap();
                drop(ws);
            }
            Self::DroppedWithOutput => {
                ws.feed(binary(1000)).await.unwrap();
                assert!(now_or_never(ws.recv()).await.is_none());
                ws.feed(binary(1000)).await.unwrap();
                drop(ws);
            }
            Self::DroppedWhileWaiting => {
                let mut owner = Box::pin(async move { ws.recv().await });
                assert!(poll_once(&mut owner).is_pending());
                client.send("last").unwrap();
                client.terminate();
                drop(owner);
            }
            Self::PeerGone => {
                drop(peer);
                assert_matches!(ws.recv().await, Err(Error::Abnormal));
            }
            Self::ClosedByPeer => {
                let owner = rt::spawn(async move { ws.recv().await });
                peer.send(&[close(1000, "")]).await;
                assert_eq!(peer.frame().await, Some(close(1000, "")));
                drop(peer);
                assert_eq!(owner.await.unwrap(), None);
            }
            Self::Terminated => {
                client.terminate();
                assert_matches!(ws.recv().await, Err(Error::Abnormal));
            }
            Self::TakenApart => drop(ws.into_inner()),
        }
    }
}

/// Polls once, with a waker that does nothing.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls as a runtime does that was told to.
fn poll_woken<F: Future + Unpin>(future: &mut F) {
    for _ in 0..3 {
        assert!(poll_once(future).is_pending());
    }
}

fn close_frame(code: u16, reason: &str) -> Frame {
    close(code, reason)
}
