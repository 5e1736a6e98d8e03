//! One conversation, had once undisturbed and then again for each call of a socket that it made, which fails, waits or
//! carries one byte; and for each future that it awaited, dropped after each of its polls.

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use futures_core::Stream;
use ws_proto::{
    ClientConfig, CloseCode, Closed, Config, Error, HeadLimits, Message, Prepared, ServerConfig,
    drive::{Handshake, ReadHalf, WebSocket, WriteHalf, client},
    handshake::client_request,
};

use crate::{
    agent::{Got, cancelled, fragment, join, message, read_some},
    books::{End, Failure},
    network::{At, CLIENT, Call, SERVER, Twist, Twisted, Weather, Wire},
    world::{run, spawn, with},
};

#[test]
fn each_call_that_waits_or_carries_one_byte_changes_nothing() {
    for (setting, undisturbed) in settings() {
        for twist in [Twist::Waits, Twist::OneByte, Twist::Pauses] {
            each_call(&undisturbed, &CALLS, twist, |twisted| {
                let outcome = have(&setting, Some(twisted), None);
                assert_eq!(outcome.told, undisturbed.told, "{twisted:?} {setting:?}");
            });
        }
    }
}

#[test]
fn each_call_that_fails_is_told_and_nothing_else_is_lost() {
    for (setting, undisturbed) in settings() {
        each_call(&undisturbed, &SOCKET_CALLS, Twist::Fails, |twisted| {
            // What was taken and did not come is told: the books say so.
            let outcome = have(&setting, Some(twisted), None);
            for (came, all) in outcome.told.iter().zip(&undisturbed.told) {
                assert!(all.starts_with(came), "{twisted:?} {setting:?}");
            }
        });
    }
}

#[test]
fn each_call_that_never_comes_back_ends_by_a_deadline() {
    for (setting, undisturbed) in settings() {
        // Where nothing is held back, a flush that hangs keeps nothing from anybody.
        let calls = if setting.weather.holds {
            &SOCKET_CALLS[..]
        } else {
            &[Call::Read, Call::Write, Call::Shutdown]
        };
        each_call(&undisturbed, calls, Twist::Hangs, |twisted| {
            let outcome = have(&setting, Some(twisted), None);
            assert!(outcome.elapsed <= LONGEST, "{twisted:?} {setting:?}: {:?}", outcome.elapsed);
        });
    }
}

#[test]
fn timer_that_never_fires_changes_nothing_while_the_peer_is_there() {
    for (setting, undisturbed) in settings() {
        each_call(&undisturbed, &[Call::Sleep], Twist::Hangs, |twisted| {
            let outcome = have(&setting, Some(twisted), None);
            assert_eq!(outcome.told, undisturbed.told, "{twisted:?} {setting:?}");
        });
    }
}

#[test]
fn each_future_can_be_dropped_after_each_poll() {
    for (setting, undisturbed) in settings() {
        for side in [CLIENT, SERVER] {
            let mut drops = 0;
            for future in 0..undisturbed.futures[side] {
                for polls in 1.. {
                    let outcome = have(&setting, None, Some(Dropped { side, future, polls }));
                    if !outcome.was_dropped {
                        break;
                    }
                    drops += 1;
                }
            }
            assert!(drops > 0, "none of side {side} had to wait: {setting:?}");
        }
    }
}

/// How the conversation is had.
#[derive(Clone, Debug)]
struct Setting {
    weather: Weather,
    in_halves: bool,
    /// The client waits for the end, and drops what still comes.
    is_deaf: bool,
    #[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "there is no compression"))]
    deflates: bool,
}

/// A future that is dropped after so many polls: the so-and-so-manyth of one side.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    side: usize,
    future: usize,
    polls: usize,
}

#[derive(Debug, Default)]
struct Outcome {
    /// The messages that came to either side.
    told: [Vec<Message>; 2],
    calls: [[usize; 5]; 2],
    futures: [usize; 2],
    was_dropped: bool,
    elapsed: Duration,
}

/// All settings, each with what comes of it undisturbed.
fn settings() -> Vec<(Setting, Outcome)> {
    let wide = Weather {
        latency: (100, 100),
        capacity: 64 * 1024,
        grain: 64 * 1024,
        hiccups: 0,
        holds: false,
        vectored: true,
        drains: true,
        early: Duration::ZERO,
        late: Duration::ZERO,
    };
    // As many calls for a conversation that is not compressed.
    let scale = if cfg!(feature = "deflate") { 1 } else { 30 };
    let narrow = Weather { capacity: scale * 200, grain: scale * 150, holds: true, vectored: false, ..wide };
    let setting = |weather: &Weather, in_halves, is_deaf, deflates| {
        let setting = Setting { weather: weather.clone(), in_halves, is_deaf, deflates };
        let outcome = have(&setting, None, None);
        assert_eq!(outcome.told[SERVER], messages());
        assert!(is_deaf || outcome.told[CLIENT] == messages());
        (setting, outcome)
    };
    vec![
        setting(&wide, false, false, false),
        setting(&wide, true, false, true),
        setting(&narrow, false, true, true),
        setting(&narrow, true, false, true),
    ]
}

/// Of each length of a header, text and not.
fn messages() -> Vec<Message> {
    vec![
        "o1 žluťoučký kůň".into(),
        message((0..300).map(|i| (i * i % 251) as u8).collect(), false),
        "o3 in fragments".into(),
        "o4 prepared ".repeat(200).into(),
        message(vec![5; 70_000], false),
    ]
}

fn each_call(undisturbed: &Outcome, calls: &[Call], twist: Twist, mut had: impl FnMut(Twisted)) {
    for side in [CLIENT, SERVER] {
        for &call in calls {
            for count in 0..undisturbed.calls[side][call as usize] {
                had(Twisted { side, call, count, twist });
            }
        }
    }
}

/// Has the conversation.
fn have(setting: &Setting, twisted: Option<Twisted>, dropped: Option<Dropped>) -> Outcome {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    // What is seen of a run that fails.
    println!("{twisted:?} {dropped:?} {setting:?}");
    run(1, false, || {
        let [mine, theirs] = with(|world| {
            let wires = world.link(setting.weather.clone(), true);
            world.links[0].twisted = twisted;
            world.links[0].is_hurt = twisted.is_some_and(|twisted| twisted.is_fatal());
            for side in [CLIENT, SERVER] {
                world.books.page((0, side)).is_calm = true;
            }
            wires
        });
        let end =
            |side| Side { at: (0, side), setting: setting.clone(), dropped, outcome: Rc::clone(&outcome) };
        spawn("client", end(CLIENT).ask(mine));
        spawn("server", end(SERVER).answer(theirs));
    });
    Rc::into_inner(outcome).expect("both are done").into_inner()
}

/// One side of the conversation.
struct Side {
    at: At,
    setting: Setting,
    dropped: Option<Dropped>,
    outcome: Rc<RefCell<Outcome>>,
}

// The client

impl Side {
    async fn ask(self, wire: Wire) {
        let request = client_request("ws://localhost/").unwrap();
        let config = ClientConfig {
            connection: config(),
            head: head(),
            #[cfg(feature = "deflate")]
            deflate: self.setting.deflates.then(Default::default),
            ..ClientConfig::default()
        };
        if let Ok((ws, _)) = client::<Wire>(wire, &request, &config, [7; 32]).await {
            if self.setting.in_halves { self.ask_in_halves(ws).await } else { self.ask_whole(ws).await }
        }
        self.over();
    }

    async fn ask_whole(&self, mut ws: WebSocket<Wire>) {
        self.say_all(&mut ws).await;
        if self.setting.is_deaf {
            with(|world| world.books.page(self.at).is_deaf = true);
            self.closes();
            let result = self.retry(async || ws.close(CloseCode::NORMAL, "bye").await).await;
            return self.ended(result, ws.closed());
        }
        if let Some(result) = self.hear(&mut ws, 0).await {
            return self.ended(result, ws.closed());
        }
        self.closes();
        ws.start_close(CloseCode::NORMAL, "bye").unwrap();
        for number in 1.. {
            if let Some(result) = self.hear(&mut ws, number).await {
                return self.ended(result, ws.closed());
            }
        }
    }

    /// Says all messages, each in another way.
    async fn say_all(&self, ws: &mut WebSocket<Wire>) {
        for (number, message) in messages().into_iter().enumerate() {
            self.say(ws, number, message).await;
        }
        let _ = self.retry(async || ws.ping(b"ping").await).await;
        let _ = self.retry(async || ws.flush().await).await;
    }

    async fn say(&self, ws: &mut WebSocket<Wire>, way: usize, message: Message) {
        match way % 5 {
            0 => self.sends(&message, ws.send(message.clone())).await,
            1 => self.sends(&message, ws.feed(message.clone())).await,
            2 => {
                let (first, rest) = message.as_bytes().split_at(5);
                let piece = |bytes: &[u8]| self::message(bytes.to_vec(), message.as_text().is_some());
                if self.retry(async || ws.room().await.map(drop)).await.is_ok() {
                    let _ =
                        ws.room().await.map(|sender| sender.send_fragment(fragment(&piece(first)), false));
                    let _ = self.retry(async || ws.flush().await).await;
                }
                self.sends(&message, ws.send_fragment(fragment(&piece(rest)), true)).await;
            }
            3 => self.sends(&message, ws.send_prepared(&Prepared::new(message.clone()))).await,
            _ => self.sends(&message, ws.send(message.clone())).await,
        }
    }

    async fn ask_in_halves(&self, ws: WebSocket<Wire>) {
        let (mut reader, mut writer) = ws.split();
        let reading = async {
            for number in 0.. {
                if let Some(result) = self.hear_half(&mut reader, number).await {
                    return self.ended(result, reader.closed().as_ref());
                }
            }
        };
        let writing = async {
            for (number, message) in messages().into_iter().enumerate() {
                self.say_half(&mut writer, number, message).await;
            }
            let _ = self.retry(async || writer.ping(b"ping").await).await;
            let _ = self.retry(async || writer.flush().await).await;
            self.closes();
            let _ = self.retry(async || writer.close(CloseCode::NORMAL, "bye").await).await;
        };
        join(reading, writing).await;
    }

    async fn say_half(&self, writer: &mut WriteHalf<Wire>, way: usize, message: Message) {
        match way % 3 {
            0 => self.sends(&message, writer.send(message.clone())).await,
            1 => self.sends(&message, writer.feed(message.clone())).await,
            _ => self.sends(&message, writer.send_prepared(&Prepared::new(message.clone()))).await,
        }
    }
}

// The server

impl Side {
    async fn answer(self, wire: Wire) {
        let config = ServerConfig {
            connection: config(),
            head: head(),
            #[cfg(feature = "deflate")]
            deflate: self.setting.deflates.then(Default::default),
            ..ServerConfig::default()
        };
        let mut handshake = Handshake::<Wire>::new(wire, config);
        let opened = match self.retry(async || handshake.check().await).await {
            Ok(acceptance) => handshake.accept_with(acceptance).await,
            Err(error) => Err(error),
        };
        if let Ok((ws, _)) = opened {
            if self.setting.in_halves { self.echo_in_halves(ws).await } else { self.echo(ws).await }
        }
        self.over();
    }

    async fn echo(&self, mut ws: WebSocket<Wire>) {
        for number in 0.. {
            let before = self.told();
            if let Some(result) = self.hear(&mut ws, number + 3).await {
                return self.ended(result, ws.closed());
            }
            for message in self.told().split_off(before.len()) {
                self.say(&mut ws, number, message).await;
            }
        }
    }

    async fn echo_in_halves(&self, ws: WebSocket<Wire>) {
        let (mut reader, mut writer) = ws.split();
        for number in 0.. {
            let before = self.told();
            if let Some(result) = self.hear_half(&mut reader, number + 3).await {
                return self.ended(result, reader.closed().as_ref());
            }
            for message in self.told().split_off(before.len()) {
                self.say_half(&mut writer, number, message).await;
            }
        }
    }
}

// Both

impl Side {
    /// Receives a message, each in another way; the end, if it has come.
    async fn hear(&self, ws: &mut WebSocket<Wire>, way: usize) -> Option<Result<(), Error>> {
        let mut chunks = Vec::new();
        loop {
            if way % 6 == 5 {
                // Who drops a reader does not want the rest, so only the way to it is dropped.
                let got = match cancelled(self.polls(), ws.recv_reader()).await {
                    Some(Ok(Some(reader))) => read_some(reader, usize::MAX).await,
                    None => {
                        self.outcome.borrow_mut().was_dropped = true;
                        continue;
                    }
                    other => Got::other(other),
                };
                if let Some(done) = self.got(got, &mut chunks) {
                    return done;
                }
                continue;
            }
            let got = self
                .retry(async || match way % 6 {
                    0 => Got::message(Some(ws.recv().await)),
                    1 => match ws.recv_ref().await {
                        Ok(Some(event)) => Got::event(event),
                        other => Got::other(Some(other)),
                    },
                    2 => match ws.recv_split().await {
                        Ok(Some((event, _))) => Got::event(event),
                        other => Got::other(Some(other)),
                    },
                    3 => match ws.recv_chunk().await {
                        Ok(Some(chunk)) => Got::chunk(chunk),
                        other => Got::other(Some(other)),
                    },
                    _ => {
                        Got::message(poll_fn(|cx| Pin::new(&mut *ws).poll_next(cx)).await.transpose().into())
                    }
                })
                .await;
            if let Some(done) = self.got(got, &mut chunks) {
                return done;
            }
        }
    }

    async fn hear_half(&self, reader: &mut ReadHalf<Wire>, way: usize) -> Option<Result<(), Error>> {
        let mut chunks = Vec::new();
        loop {
            let got = self
                .retry(async || match way % 4 {
                    0 => Got::message(Some(reader.recv().await)),
                    1 => match reader.recv_with(Got::event).await {
                        Ok(Some(got)) => got,
                        other => Got::other(Some(other)),
                    },
                    2 => match reader.recv_chunk_with(Got::chunk).await {
                        Ok(Some(got)) => got,
                        other => Got::other(Some(other)),
                    },
                    _ => {
                        let next = poll_fn(|cx| Pin::new(&mut *reader).poll_next(cx)).await;
                        Got::message(Some(next.transpose()))
                    }
                })
                .await;
            if let Some(done) = self.got(got, &mut chunks) {
                return done;
            }
        }
    }

    /// Whether a message is whole, or the end has come.
    fn got(&self, got: Got, chunks: &mut Vec<u8>) -> Option<Option<Result<(), Error>>> {
        let whole = match got {
            Got::Nothing => return None,
            Got::Over(result) => return Some(Some(result)),
            Got::Message(message, _) => message,
            Got::Chunk(bytes, last) => {
                chunks.extend(bytes);
                let is_text = last?;
                message(std::mem::take(chunks), is_text)
            }
        };
        with(|world| world.books.receives(self.at, &whole, true, world.elapsed()));
        self.outcome.borrow_mut().told[self.at.1].push(whole);
        Some(None)
    }

    fn told(&self) -> Vec<Message> {
        self.outcome.borrow().told[self.at.1].clone()
    }

    /// After how many polls the next future is dropped.
    fn polls(&self) -> usize {
        let number = &mut self.outcome.borrow_mut().futures[self.at.1];
        *number += 1;
        let here = self.dropped.filter(|dropped| (dropped.side, dropped.future + 1) == (self.at.1, *number));
        here.map_or(usize::MAX, |dropped| dropped.polls)
    }

    /// Awaits a future, and makes it anew if it is dropped.
    async fn retry<T>(&self, mut future: impl AsyncFnMut() -> T) -> T {
        match cancelled(self.polls(), future()).await {
            Some(output) => output,
            None => {
                self.outcome.borrow_mut().was_dropped = true;
                future().await
            }
        }
    }

    /// Sends a message by a future that may be dropped, and is not made anew: the message may have been taken.
    async fn sends(&self, message: &Message, future: impl Future<Output = Result<(), Error>>) {
        let number = with(|world| world.books.sends(self.at, message.clone()));
        match cancelled(self.polls(), future).await {
            Some(result) => with(|world| world.books.sent(self.at, number, &result)),
            None => self.outcome.borrow_mut().was_dropped = true,
        }
    }

    fn closes(&self) {
        with(|world| world.books.page(self.at).closes = true);
    }

    fn ended(&self, result: Result<(), Error>, closed: Option<&Closed>) {
        let failure = result.as_ref().err().map(Failure::from);
        let closed = closed.expect("it has ended").clone();
        with(|world| world.books.page(self.at).end = End::Over { failure, closed });
    }

    fn over(&self) {
        let outcome = &mut *self.outcome.borrow_mut();
        with(|world| {
            outcome.calls[self.at.1] = world.links[0].calls[self.at.1];
            outcome.elapsed = world.elapsed();
        });
    }
}

fn config() -> Config {
    Config {
        keepalive: Some(Duration::from_secs(2)),
        pong_timeout: Some(Duration::from_secs(2)),
        write_timeout: Some(Duration::from_secs(3)),
        close_timeout: Some(Duration::from_secs(2)),
        ..Config::default()
    }
}

fn head() -> HeadLimits {
    HeadLimits { timeout: Some(Duration::from_secs(3)), ..HeadLimits::default() }
}

/// What deadlines amount to, one after the other: of a handshake, a silent peer, a closing handshake at either end.
const LONGEST: Duration = Duration::from_secs(12);

const SOCKET_CALLS: [Call; 4] = [Call::Read, Call::Write, Call::Flush, Call::Shutdown];
const CALLS: [Call; 5] = [Call::Read, Call::Write, Call::Flush, Call::Shutdown, Call::Sleep];
