//! Applications: each has a connection, and does with it what its seed says.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use ws_proto::{
    Bytes, Chunk, CloseCode, Closed, Error, Event, Fragment, Message, Prepared,
    drive::{MessageReader, ReadBytes, ReadHalf, WebSocket, WriteBytes, WriteHalf, reunite},
};

use crate::{
    books::{End, Failure, Page},
    network::{At, Wire},
    rng::Rng,
    world::{now, say, sleep, spawn, with},
};

/// How an application behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// It does nothing that keeps the connection from a clean end.
    pub(crate) is_calm: bool,
    /// It closes, and does not leave that to the other side.
    pub(crate) closes: bool,
    pub(crate) echoes: bool,
    pub(crate) steps: usize,
    /// Bytes that it sends at most, and in one message.
    pub(crate) volume: usize,
    pub(crate) longest: usize,
    /// What the other side takes.
    pub(crate) limit: usize,
    pub(crate) close_timeout: Duration,
}

/// An application without its connection, which may be in halves.
struct Agent {
    at: At,
    rng: Rng,
    manner: Manner,
    number: usize,
    /// The chunks of a message whose last has not come.
    partial: Vec<u8>,
    pings: usize,
    /// Its half that reads is dropped early, and the other one closes.
    quits: bool,
}

/// What a step came to.
enum Step {
    Done,
    /// Nothing can be sent any more, but something may come.
    Closing,
    /// The end, and why.
    Over(Result<(), Error>),
}

/// Does with a connection what a seed says, to its end.
pub(crate) async fn live(ws: WebSocket<Wire>, mut rng: Rng, manner: Manner) {
    let at = ws.get_ref().at();
    let client = ws.client().map(|client| client.id());
    page(at, |page| (page.end, page.client) = (End::Open, client));
    let guard = Arc::new(Guard(at));
    let is_split = rng.percent(40);
    let quits = rng.percent(15);
    let agent = Agent { at, rng, manner, number: 0, partial: Vec::new(), pings: 0, quits };
    if is_split { agent.live_split(ws, &guard).await } else { agent.live_whole(ws).await }
}

/// An application that is dropped leaves its connection.
struct Guard(At);

impl Drop for Guard {
    fn drop(&mut self) {
        page(self.0, |page| {
            if matches!(page.end, End::Open) {
                (page.end, page.is_deaf) = (End::Left, true);
            }
        });
    }
}

fn page<T>(at: At, act: impl FnOnce(&mut Page) -> T) -> T {
    with(|world| act(world.books.page(at)))
}

// Whole

impl Agent {
    async fn live_whole(mut self, mut ws: WebSocket<Wire>) {
        for _ in 0..self.manner.steps {
            match self.step(&mut ws).await {
                Step::Done => {}
                Step::Closing => break,
                Step::Over(result) => return self.over_whole(ws, result).await,
            }
        }
        if !self.manner.is_calm && self.rng.percent(15) {
            say(self.at, "leaves");
            return;
        }
        let until = now() + Duration::from_secs(self.rng.pick(&[0, 4]));
        while now() < until {
            if let Step::Over(result) = self.recv(&mut ws, Some(until - now())).await {
                return self.over_whole(ws, result).await;
            }
        }
        if self.manner.closes || self.rng.percent(50) {
            let (code, reason) = self.close_code();
            if ws.closed().is_none() {
                page(self.at, |page| page.closes = true);
            }
            say(self.at, format_args!("closes with {code}"));
            match self.rng.below(3) {
                0 => ws.start_close(code, reason).unwrap(),
                1 => ws.start_close_without_code(),
                _ => {
                    page(self.at, |page| page.is_deaf = true);
                    let begun = now();
                    let limit = self.manner.close_timeout + SLACK;
                    let mut result = None;
                    while result.is_none() {
                        let polls = self.polls();
                        result = cancelled(polls, ws.close(code, reason)).await;
                    }
                    assert!(now() - begun <= limit, "closing took {:?} of {limit:?}", now() - begun);
                    return self.over_whole(ws, result.unwrap()).await;
                }
            }
        }
        loop {
            if let Step::Over(result) = self.recv(&mut ws, None).await {
                return self.over_whole(ws, result).await;
            }
        }
    }

    async fn over_whole(self, mut ws: WebSocket<Wire>, result: Result<(), Error>) {
        self.over(result, ws.closed().cloned());
        assert!(matches!(ws.recv().await, Ok(None)), "something comes after the end");
        assert!(ws.send("late").await.is_err(), "something can be sent after the end");
        assert!(ws.close(CloseCode::NORMAL, "").await.is_ok(), "the end is told twice");
    }

    fn over(&self, result: Result<(), Error>, closed: Option<Closed>) {
        say(self.at, format_args!("is over: {result:?}, {closed:?}"));
        let failure = result.as_ref().err().map(Failure::from);
        let closed = closed.expect("it has ended");
        page(self.at, |page| page.end = End::Over { failure, closed });
    }

    async fn step(&mut self, ws: &mut WebSocket<Wire>) -> Step {
        match self.rng.below(14) {
            0..=3 => self.send(ws).await,
            4 => self.send_fragments(ws).await,
            5 => self.write(ws).await,
            6 => {
                self.pings += 1;
                let payload = format!("ping {}", self.pings);
                let polls = self.polls();
                step(cancelled(polls, ws.ping(payload.as_bytes())).await)
            }
            7 => {
                let polls = self.polls();
                step(cancelled(polls, ws.flush()).await)
            }
            8 => {
                sleep(self.pause()).await;
                Step::Done
            }
            _ => {
                let limit = self.pause();
                self.recv(ws, Some(limit)).await
            }
        }
    }

    async fn send(&mut self, ws: &mut WebSocket<Wire>) -> Step {
        let Some(message) = self.message() else { return Step::Done };
        let number = self.sends(&message);
        let polls = self.polls_of(&message);
        let result = match self.rng.below(5) {
            0 => cancelled(polls, ws.feed(message)).await,
            1 => cancelled(polls, ws.send_prepared(&Prepared::new(message))).await,
            2 => {
                let room = cancelled(polls, poll_fn(|cx| Pin::new(&mut *ws).poll_ready(cx))).await;
                match room {
                    Some(Ok(())) => Some(Pin::new(&mut *ws).start_send(message)),
                    room => room,
                }
            }
            _ => cancelled(polls, ws.send(message)).await,
        };
        self.sent(number, result)
    }

    /// A message in fragments, each queued as soon as there is room.
    async fn send_fragments(&mut self, ws: &mut WebSocket<Wire>) -> Step {
        let Some(message) = self.message() else { return Step::Done };
        let number = self.sends(&message);
        let mut parts = self.parts(&message).into_iter().peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            // Without room nothing is queued, so this can be dropped and asked again.
            let room = loop {
                let polls = self.polls();
                if let Some(room) = cancelled(polls, ws.room()).await {
                    break room.map(drop);
                }
            };
            let result = match room {
                Ok(()) => ws.room().await.unwrap().send_fragment(fragment(&part), last).map_err(Error::from),
                Err(error) => Err(error),
            };
            if last || result.is_err() {
                return self.sent(number, Some(result));
            }
            let polls = self.polls();
            if let Step::Closing = step(cancelled(polls, ws.flush()).await) {
                return Step::Closing;
            }
        }
        unreachable!("there is a last part")
    }

    /// A message by a writer of bytes.
    async fn write(&mut self, ws: &mut WebSocket<Wire>) -> Step {
        let Some(message) = self.message() else { return Step::Done };
        let number = self.sends(&message);
        let mut writer = if message.as_text().is_some() { ws.text_writer() } else { ws.binary_writer() };
        let mut bytes = message.as_bytes();
        // Each write is a fragment, and many of them make a message longer than the limit once they are compressed.
        let mut most = self.rng.between(0, bytes.len());
        while !bytes.is_empty() {
            match poll_fn(|cx| writer.poll_write(cx, &bytes[..most.max(1)])).await {
                Ok(len) => (bytes, most) = (&bytes[len..], bytes.len() - len),
                // It is no whole message, so it is as if it were refused.
                Err(_) => return Step::Closing,
            }
        }
        let result = writer.finish().await;
        self.sent(number, Some(result))
    }

    /// Receives something, if it comes within this time.
    async fn recv(&mut self, ws: &mut WebSocket<Wire>, limit: Option<Duration>) -> Step {
        let patience = Patience { polls: self.polls(), limit };
        let got = match self.rng.below(7) {
            0 => Got::message(patience.wait(ws.recv()).await),
            1 => match patience.wait(ws.recv_ref()).await {
                Some(Ok(Some(event))) => Got::event(event),
                other => Got::other(other),
            },
            2 => match patience.wait(ws.recv_split()).await {
                Some(Ok(Some((event, sender)))) => {
                    assert!(!sender.is_open() || !sender.is_full(), "there is no room for an answer");
                    Got::event(event)
                }
                other => Got::other(other),
            },
            3 => match patience.wait(ws.recv_chunk()).await {
                Some(Ok(Some(chunk))) => Got::chunk(chunk),
                other => Got::other(other),
            },
            4 if self.partial.is_empty() => match patience.wait(ws.recv_reader()).await {
                Some(Ok(Some(reader))) => read_some(reader, self.rng.below(4)).await,
                other => Got::other(other),
            },
            _ => {
                let next = poll_fn(|cx| Pin::new(&mut *ws).poll_next(cx));
                Got::message(patience.wait(next).await.map(Option::transpose))
            }
        };
        match self.gets(got) {
            Ok(None) => Step::Done,
            Ok(Some(message)) if self.manner.echoes && message.len() <= self.manner.limit => {
                let message = echo(message);
                let number = self.sends(&message);
                let result = ws.send(message).await;
                self.sent(number, Some(result))
            }
            Ok(Some(_)) => Step::Done,
            Err(over) => Step::Over(over),
        }
    }
}

/// What came of receiving.
pub(crate) enum Got {
    /// Nothing yet, or nothing of interest.
    Nothing,
    /// A message, or the beginning of one whose rest is skipped.
    Message(Message, bool),
    Chunk(Vec<u8>, Option<bool>),
    Over(Result<(), Error>),
}

impl Got {
    pub(crate) fn message(result: Option<Result<Option<Message>, Error>>) -> Self {
        match result {
            Some(Ok(Some(message))) => Self::Message(message, true),
            other => Self::other(other),
        }
    }

    pub(crate) fn event(event: Event<'_>) -> Self {
        event.to_message().map_or(Self::Nothing, |message| Self::Message(message, true))
    }

    pub(crate) fn chunk(chunk: Chunk<'_>) -> Self {
        let is_text = matches!(chunk.payload, Fragment::Text(_));
        Self::Chunk(chunk.as_bytes().to_vec(), chunk.last.then_some(is_text))
    }

    pub(crate) fn other<T>(result: Option<Result<Option<T>, Error>>) -> Self {
        match result {
            None => Self::Nothing,
            Some(Ok(_)) => Self::Over(Ok(())),
            Some(Err(error)) => Self::Over(Err(error)),
        }
    }
}

/// Reads a message, or so much of it that it is known which it is; its rest is skipped then.
pub(crate) async fn read_some(mut reader: MessageReader<'_, Wire>, reads: usize) -> Got {
    let mut bytes = Vec::new();
    let mut left = reads;
    while left > 0 || bytes.len() < NAMED {
        let mut buf = [0; 700];
        match poll_fn(|cx| reader.poll_read(cx, &mut buf)).await {
            Ok(0) => return Got::Message(message(bytes, reader.is_text()), true),
            Ok(len) => bytes.extend(&buf[..len]),
            Err(error) => match error.downcast::<Error>() {
                Ok(error) => return Got::Over(Err(error)),
                // The peer closed in the middle of its message; the next call that receives says so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Got::Nothing,
                Err(error) => return Got::Over(Err(error.into())),
            },
        }
        left = left.saturating_sub(1);
    }
    if reader.is_text() {
        let len = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        bytes.truncate(len);
    }
    Got::Message(message(bytes, reader.is_text()), false)
}

// What both have in common

impl Agent {
    /// Books what came; a message to be answered, or the end.
    fn gets(&mut self, got: Got) -> Result<Option<Message>, Result<(), Error>> {
        let (whole, is_whole) = match got {
            Got::Nothing => return Ok(None),
            Got::Over(result) => return Err(result),
            Got::Chunk(bytes, None) => {
                self.partial.extend(bytes);
                return Ok(None);
            }
            Got::Chunk(bytes, Some(is_text)) => {
                self.partial.extend(bytes);
                (message(std::mem::take(&mut self.partial), is_text), true)
            }
            Got::Message(rest, is_whole) if self.partial.is_empty() => (rest, is_whole),
            Got::Message(rest, is_whole) => {
                let mut bytes = std::mem::take(&mut self.partial);
                bytes.extend(rest.as_bytes());
                (message(bytes, rest.as_text().is_some()), is_whole)
            }
        };
        say(self.at, format_args!("got {} bytes, {is_whole}", whole.len()));
        with(|world| world.books.receives(self.at, &whole, is_whole, world.elapsed()));
        Ok(is_whole.then_some(whole))
    }

    fn sends(&self, message: &Message) -> usize {
        say(self.at, format_args!("sends {} bytes", message.len()));
        with(|world| world.books.sends(self.at, message.clone()))
    }

    fn sent(&self, number: usize, result: Option<Result<(), Error>>) -> Step {
        if let Some(result) = &result {
            with(|world| world.books.sent(self.at, number, result));
        }
        step(result)
    }

    /// The next message; none if enough was sent.
    fn message(&mut self) -> Option<Message> {
        let Manner { volume, longest, limit, is_calm, .. } = self.manner;
        let len = match self.rng.below(12) {
            0 => 0,
            1 => self.rng.between(1, 10),
            2 => self.rng.between(124, 128),
            3 => limit,
            4 => limit - 1,
            5 if !is_calm && limit == longest => limit + 1,
            6 => self.rng.between(16_300, 16_500),
            7 => self.rng.between(65_530, 65_540),
            _ => self.rng.between(NAMED, 1000),
        };
        let len = if len > longest && len != limit + 1 { self.rng.between(0, longest) } else { len };
        if len > volume {
            return None;
        }
        if len > limit {
            page(self.at, |page| page.provokes = Some(1009));
        }
        self.manner.volume -= len;
        self.number += 1;
        // Each begins with its number, so that none can be taken for another.
        let mut text = format!("o{:06} ", self.number);
        let filler = self.rng.pick(&["x", "lorem ipsum ", "žluťoučký kůň ", "🦀"]);
        while text.len() + filler.len() <= len {
            text.push_str(filler);
        }
        while text.len() < len {
            text.push('.');
        }
        text.truncate(len);
        let is_text = self.rng.percent(50);
        Some(if is_text { text.into() } else { message(text.into_bytes(), false) })
    }

    /// After how many polls the sending of a message is dropped. One that is like others is not: it could not be said
    /// which of them came.
    fn polls_of(&mut self, message: &Message) -> usize {
        if message.len() < NAMED { usize::MAX } else { self.polls() }
    }

    /// After how many polls a future is dropped.
    fn polls(&mut self) -> usize {
        if self.rng.percent(25) { self.rng.between(1, 4) } else { usize::MAX }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_micros(self.rng.pick(&[0, 500, 20_000, 200_000]))
    }

    fn close_code(&mut self) -> (CloseCode, &'static str) {
        let code = self.rng.pick(&[1000, 1001, 1003, 1008, 1011, 3000, 4999]);
        (code.into(), self.rng.pick(&["", "bye", "žluťoučký kůň"]))
    }

    fn parts(&mut self, whole: &Message) -> Vec<Message> {
        let mut parts = Vec::new();
        let mut rest = whole.as_bytes();
        for _ in 0..self.rng.below(4) {
            let mut len = self.rng.between(0, rest.len());
            while whole.as_text().is_some() && std::str::from_utf8(&rest[..len]).is_err() {
                len -= 1;
            }
            parts.push(message(rest[..len].to_vec(), whole.as_text().is_some()));
            rest = &rest[len..];
        }
        parts.push(message(rest.to_vec(), whole.as_text().is_some()));
        parts
    }
}

/// What the result of a command means.
fn step(result: Option<Result<(), Error>>) -> Step {
    match result {
        None | Some(Ok(())) => Step::Done,
        Some(Err(_)) => Step::Closing,
    }
}

pub(crate) fn fragment(part: &Message) -> Fragment<'_> {
    match part {
        Message::Text(text) => text.as_str().into(),
        Message::Binary(bytes) => (&bytes[..]).into(),
    }
}

pub(crate) fn message(bytes: Vec<u8>, is_text: bool) -> Message {
    if is_text {
        Message::from(String::from_utf8(bytes).expect("it was text"))
    } else {
        HELD.set(HELD.get() + 1);
        Message::Binary(Bytes::from_owner(Held(bytes)))
    }
}

/// As it came, but that no echo is taken for a post.
fn echo(whole: Message) -> Message {
    let mut bytes = whole.as_bytes().to_vec();
    if let Some(first @ b'h') = bytes.first_mut() {
        *first = b'e';
    }
    message(bytes, whole.as_text().is_some())
}

thread_local! {
    /// Payloads that somebody has.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A payload that is counted.
struct Held(Vec<u8>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// How many payloads somebody still has.
pub(crate) fn held() -> usize {
    HELD.get()
}

// In halves

impl Agent {
    async fn live_split(mut self, ws: WebSocket<Wire>, guard: &Arc<Guard>) {
        let (reader, writer) = ws.split();
        let other = Self {
            at: self.at,
            rng: self.rng.fork(),
            manner: self.manner.clone(),
            number: 0,
            partial: Vec::new(),
            pings: 0,
            quits: self.quits,
        };
        if self.rng.percent(50) {
            let guard = Arc::clone(guard);
            spawn("reader", async move {
                other.live_reading(reader).await;
                drop(guard);
            });
            self.live_writing(writer).await;
        } else {
            let (reader, writer) = join(other.live_reading(reader), self.live_writing(writer)).await;
            if let (Some(reader), Some(writer)) = (reader, writer) {
                let ws = reunite(reader, writer).expect("they are of one");
                assert!(ws.closed().is_some());
            }
        }
    }

    async fn live_reading(mut self, mut reader: ReadHalf<Wire>) -> Option<ReadHalf<Wire>> {
        for steps in 0.. {
            if self.quits && steps > 3 {
                say(self.at, "does not listen any more");
                page(self.at, |page| page.is_deaf = true);
                return None;
            }
            if self.rng.percent(10) {
                sleep(self.pause()).await;
            }
            let polls = self.polls();
            let got = match self.rng.below(4) {
                0 => Got::message(cancelled(polls, reader.recv()).await),
                1 => match cancelled(polls, reader.recv_with(Got::event)).await {
                    Some(Ok(Some(got))) => got,
                    other => Got::other(other),
                },
                2 => match cancelled(polls, reader.recv_chunk_with(Got::chunk)).await {
                    Some(Ok(Some(got))) => got,
                    other => Got::other(other),
                },
                _ => {
                    let next = poll_fn(|cx| Pin::new(&mut reader).poll_next(cx));
                    Got::message(cancelled(polls, next).await.map(Option::transpose))
                }
            };
            if let Err(result) = self.gets(got) {
                self.over(result, reader.closed());
                assert!(matches!(reader.recv().await, Ok(None)), "something comes after the end");
                break;
            }
        }
        Some(reader)
    }

    async fn live_writing(mut self, mut writer: WriteHalf<Wire>) -> Option<WriteHalf<Wire>> {
        for _ in 0..self.manner.steps {
            match self.step_writing(&mut writer).await {
                Step::Done => {}
                Step::Closing | Step::Over(_) => break,
            }
        }
        if !self.manner.is_calm && !self.manner.closes && self.rng.percent(15) {
            return None;
        }
        if self.quits {
            // Until nobody listens.
            sleep(Duration::from_millis(300)).await;
        }
        if self.manner.closes || self.quits || self.rng.percent(50) {
            let (code, reason) = self.close_code();
            if writer.closed().is_none() {
                page(self.at, |page| page.closes = true);
            }
            say(self.at, format_args!("closes with {code}"));
            match self.rng.below(3) {
                0 if !self.quits => writer.start_close(code, reason).unwrap(),
                1 if !self.quits => writer.start_close_without_code(),
                _ => {
                    let begun = now();
                    let limit = self.manner.close_timeout + SLACK;
                    let mut result = None;
                    while result.is_none() {
                        let polls = self.polls();
                        result = cancelled(polls, writer.close(code, reason)).await;
                    }
                    assert!(now() - begun <= limit, "closing took {:?} of {limit:?}", now() - begun);
                    assert!(writer.closed().is_some());
                    // The half that reads tells of the end, if it is there.
                    if page(self.at, |page| page.is_deaf) {
                        self.over(result.unwrap(), writer.closed());
                    }
                }
            }
        }
        Some(writer)
    }

    async fn step_writing(&mut self, writer: &mut WriteHalf<Wire>) -> Step {
        let polls = self.polls();
        match self.rng.below(10) {
            0 => {
                sleep(self.pause()).await;
                Step::Done
            }
            1 => step(cancelled(polls, writer.flush()).await),
            2 => step(cancelled(polls, writer.ping(b"ping of a half")).await),
            3 => {
                let Some(message) = self.message() else { return Step::Done };
                let number = self.sends(&message);
                let parts = self.parts(&message);
                for (i, part) in parts.iter().enumerate() {
                    let last = i + 1 == parts.len();
                    let result = writer.send_fragment(fragment(part), last).await;
                    if last || result.is_err() {
                        return self.sent(number, Some(result));
                    }
                }
                unreachable!("there is a last part")
            }
            way => {
                let Some(message) = self.message() else { return Step::Done };
                let number = self.sends(&message);
                let polls = self.polls_of(&message);
                let result = match way {
                    4 => cancelled(polls, writer.send_prepared(&Prepared::new(message))).await,
                    5 => cancelled(polls, writer.feed(message)).await,
                    _ => cancelled(polls, writer.send(message)).await,
                };
                self.sent(number, result)
            }
        }
    }
}

// Futures

/// Polls a future so many times, and drops it then.
pub(crate) async fn cancelled<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Waits so long for a future, and drops it then.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep(limit)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Two futures as one task.
pub(crate) async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            of_b = Some(output);
        }
        if of_a.is_some() && of_b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (of_a.expect("it is ready"), of_b.expect("it is ready"))
}

/// How one waits for something: for so many polls, and so long.
struct Patience {
    polls: usize,
    limit: Option<Duration>,
}

impl Patience {
    async fn wait<T>(self, future: impl Future<Output = T>) -> Option<T> {
        let future = cancelled(self.polls, future);
        match self.limit {
            Some(limit) => within(limit, future).await.flatten(),
            None => future.await,
        }
    }
}

/// A message of so many bytes says which it is.
const NAMED: usize = 8;

/// Late timers, and calls that wait for no reason.
const SLACK: Duration = Duration::from_millis(5);
