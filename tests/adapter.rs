//! What every adapter does, whatever its runtime: compiled by each of them through `#[path]`.
//!
//! The including file has a `mod rt` beside this one, with all that belongs to the runtime. Peers are of two
//! kinds: another WebSocket of the adapter, or a [`Raw`] stream that the test reads and writes frame by frame.
//! Each test runs in a thread of its own and fails when it takes longer than [`LIMIT`]. The tests are in `adapter/`, a
//! file a subject; here is what they share.

#[path = "adapter/byte_stream.rs"]
mod byte_stream;
#[path = "adapter/chunks.rs"]
mod chunks;
#[path = "adapter/clients.rs"]
mod clients;
#[path = "adapter/closing.rs"]
mod closing;
#[path = "adapter/deadlines.rs"]
mod deadlines;
#[path = "adapter/faults.rs"]
pub(crate) mod faults;
#[path = "adapter/from_request.rs"]
mod from_request;
#[path = "adapter/handshake.rs"]
mod handshake;
#[path = "adapter/messages.rs"]
mod messages;
#[path = "adapter/server.rs"]
mod server;
#[path = "adapter/split.rs"]
mod split;
#[path = "adapter/tasks.rs"]
mod tasks;
#[path = "adapter/ws6_8.rs"]
mod ws6_8;

use std::{
    io,
    pin::pin,
    sync::mpsc::{self, RecvTimeoutError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_util::{
    SinkExt, StreamExt,
    future::{Either, join, ready, select},
};
use ws_proto::{Connection, Role};

use crate::rt::{
    self, Link, SECOND,
    ws::{
        AcceptError, Bytes, Chunk, ClientConfig, CloseCode, Config, Error, Event, Fragment, Handshake,
        HandshakeError, HeadLimits, Initiator, Message, OriginPolicy, Prepared, ProtocolError, SendError,
        Server, ServerConfig, Timer, WebSocket, accept, accept_with, client, client_request, connect,
        connect_with,
        http::{HeaderName, HeaderValue, Request, Response, StatusCode},
    },
};

#[path = "adapter/connect.rs"]
mod connect;
#[cfg(feature = "rustls")]
#[path = "adapter/tls.rs"]
mod tls;
#[cfg(feature = "rustls")]
#[path = "adapter/tls_server.rs"]
mod tls_server;

// Running a test

/// How long a test may take. Much longer than any does; one that hangs fails.
const LIMIT: Duration = Duration::from_secs(20);

/// What carries the bytes between two ends.
#[derive(Clone, Copy, Debug)]
enum Transport {
    /// A pipe in memory that holds so many bytes each way.
    Memory(usize),
    /// A TCP connection on the loopback interface.
    Tcp,
}

use Transport::{Memory, Tcp};

const ALL: [Transport; 5] = [Memory(1), Memory(7), Memory(64), Memory(64 * 1024), Tcp];
const WIDE: [Transport; 2] = [Memory(64 * 1024), Tcp];
const ROLES: [Role; 2] = [Role::Client, Role::Server];

impl Transport {
    async fn links(self) -> (Link, Link) {
        match self {
            Memory(len) => rt::duplex(len),
            Tcp => {
                let listener = rt::Listener::bind().await;
                join(rt::connect(listener.address()), listener.accept()).await
            }
        }
    }
}

fn test(future: impl Future<Output = ()> + Send + 'static) {
    bounded(|| rt::block_on(future));
}

/// As [`test`], for what cannot go to another thread.
fn one_thread(test: impl AsyncFnOnce() + Send + 'static) {
    bounded(|| rt::block_on(async { test().await }));
}

/// As [`test`], with [`SECOND`] as the unit of time.
fn timed(future: impl Future<Output = ()> + Send + 'static) {
    bounded(|| rt::block_on_timed(future));
}

fn over(transports: &[Transport], test: impl AsyncFn(Link, Link) + Clone + Send + 'static) {
    for &transport in transports {
        println!("{transport:?}");
        let test = test.clone();
        bounded(move || {
            rt::block_on(async {
                let (a, b) = transport.links().await;
                test(a, b).await;
            })
        });
    }
}

/// As [`over`], for an endpoint of each role at the first end of the link.
fn over_roles(transports: &[Transport], test: impl AsyncFn(Role, Link, Link) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        over(transports, async move |mine, theirs| test(role, mine, theirs).await);
    }
}

fn both_roles(test: impl AsyncFn(Role) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        bounded(move || rt::block_on(test(role)));
    }
}

fn both_roles_timed(test: impl AsyncFn(Role) + Clone + Send + 'static) {
    for role in ROLES {
        println!("{role:?}");
        let test = test.clone();
        bounded(move || rt::block_on_timed(test(role)));
    }
}

/// Runs it in a thread of its own, no longer than [`LIMIT`].
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (running, finished) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _running = running;
        test();
    });
    assert_eq!(finished.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected), "it hangs");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            other => panic!("{other:?} is not {}", stringify!($pattern $(if $guard)?)),
        }
    };
}
use assert_matches;

/// The output of a future that is made again and raced with a ready one until it wins.
macro_rules! raced {
    ($future:expr) => {
        loop {
            match now_or_never($future).await {
                Some(output) => break output,
                None => rt::yield_now().await,
            }
        }
    };
}
use raced;

/// Races a future with one that is ready: polls it once and drops it.
async fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), ready(())).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Waits no longer than so many seconds for a future, and drops it then.
async fn within<T>(seconds: u32, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(rt::sleep(seconds * SECOND))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Polls a future so many times, without a waker, and drops it. In between the other tasks run.
async fn cancel_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        rt::yield_now().await;
    }
    None
}

/// Has a conversation in which a future is dropped after 0, 1, 2, ... polls, until it was complete before.
async fn at_every_poll(mut conversation: impl AsyncFnMut(usize) -> bool) {
    let mut polls = 0;
    while !conversation(polls).await {
        polls += 1;
    }
    assert!(polls > 1, "it never waited");
}

/// Lets the other tasks run until they wait.
async fn settle() {
    rt::settle().await;
}

/// So many seconds have passed, and not many more.
#[track_caller]
fn assert_elapsed(start: Instant, seconds: u32) {
    let elapsed = rt::now() - start;
    let expected = seconds * SECOND;
    assert!((expected..expected + rt::LATE).contains(&elapsed), "{elapsed:?}, not {expected:?}");
}

// Endpoints

type Ws = WebSocket<Link>;

/// The default configuration in units of [`SECOND`].
fn config() -> Config {
    let mut config = Config::default();
    let Config { keepalive, pong_timeout, write_timeout, close_timeout, .. } = &mut config;
    for timeout in [keepalive, pong_timeout, write_timeout, close_timeout] {
        *timeout = timeout.map(|timeout| SECOND * timeout.as_secs() as u32);
    }
    config
}

fn server_config() -> ServerConfig {
    ServerConfig { connection: config(), ..ServerConfig::default() }
}

fn head_limits() -> HeadLimits {
    HeadLimits { timeout: Some(10 * SECOND), ..HeadLimits::default() }
}

/// Client and server after a handshake.
async fn open(client: Link, server: Link) -> (Ws, Ws) {
    open_with(client, server, ClientConfig::default(), ServerConfig::default()).await
}

async fn open_with(
    client_link: Link,
    server_link: Link,
    config: ClientConfig,
    served: ServerConfig,
) -> (Ws, Ws) {
    let accepting = rt::spawn(accept_with(server_link, served));
    let request = client_request("ws://localhost/").unwrap();
    let (client, _response) = client(client_link, &request, &config).await.unwrap();
    let (server, _request) = accepting.await.unwrap();
    (client, server)
}

/// As [`open`], with the role of the first.
async fn open_as(role: Role, mine: Link, theirs: Link) -> (Ws, Ws) {
    match role {
        Role::Client => open(mine, theirs).await,
        Role::Server => {
            let (client, server) = open(theirs, mine).await;
            (server, client)
        }
    }
}

/// An endpoint without a handshake.
fn endpoint(role: Role, link: Link, config: &Config) -> Ws {
    let connection = match role {
        Role::Client => Connection::client(config, [7; 32], rt::now()),
        Role::Server => Connection::server(config, rt::now()),
    };
    WebSocket::from_upgraded(link, connection)
}

/// An endpoint and its peer, without a handshake, over a pipe that holds so many bytes.
fn pair(role: Role, len: usize) -> (Ws, Ws) {
    let (mine, theirs) = rt::duplex(len);
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    (endpoint(role, mine, &Config::default()), endpoint(peer, theirs, &Config::default()))
}

fn raw_peer(role: Role, mine: Link, theirs: Link, config: &Config) -> (Ws, Raw) {
    let peer = Raw { link: theirs, masked: role == Role::Server, unread: Vec::new() };
    (endpoint(role, mine, config), peer)
}

fn raw_pair(role: Role, config: &Config) -> (Ws, Raw) {
    let (mine, theirs) = rt::duplex(64 * 1024);
    raw_peer(role, mine, theirs, config)
}

/// An endpoint over a tiny pipe to a task that collects all messages until the close.
fn collecting_pair(role: Role, config: Config) -> (Ws, impl Future<Output = Vec<Message>>) {
    let (mine, theirs) = rt::duplex(3);
    let peer = if role == Role::Client { Role::Server } else { Role::Client };
    let mut peer = endpoint(peer, theirs, &Config::default());
    let collecting = rt::spawn(async move { collect(&mut peer).await.unwrap() });
    (endpoint(role, mine, &config), collecting)
}

async fn echo<S: rt::Stream>(ws: &mut WebSocket<S>) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

async fn echo_fed(ws: &mut Ws) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.feed(message).await?;
    }
    Ok(())
}

async fn echo_split(ws: &mut Ws) -> Result<(), Error> {
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) => sender.send_binary(payload)?,
            _ => {}
        }
    }
    Ok(())
}

async fn collect<S: rt::Stream>(ws: &mut WebSocket<S>) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = ws.recv().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Sends each message to a peer that echoes.
async fn converse<S: rt::Stream>(ws: &mut WebSocket<S>, messages: &[Message]) {
    for message in messages {
        ws.send(message.clone()).await.unwrap();
        let answer = ws.recv().await.unwrap().unwrap();
        assert!(answer == *message, "{} bytes came back as {}", message.len(), answer.len());
    }
}

async fn converse_and_close<S: rt::Stream>(ws: &mut WebSocket<S>, messages: &[Message]) {
    converse(ws, messages).await;
    ws.close(CloseCode::NORMAL, "").await.unwrap();
}

/// Of each kind, empty, not ASCII, and around the first change of the header's length.
fn short_messages() -> Vec<Message> {
    let texts = ["hello", "", "žluťoučký kůň 🦀", "\0\u{feff}\u{10ffff}"].map(Message::from);
    let binaries = [0, 1, 125, 126, 127, 1000].map(binary);
    [&texts[..], &binaries[..]].concat()
}

fn binary(len: usize) -> Message {
    (0..len).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into()
}

/// An event, owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            event => Self::Message(event.to_message().unwrap()),
        }
    }
}

async fn see(ws: &mut Ws) -> Option<Seen> {
    recv_ref(ws).await.unwrap()
}

async fn recv_message(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv().await?.map(Seen::Message))
}

async fn recv_ref(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv_ref().await?.map(Seen::from))
}

async fn recv_split(ws: &mut Ws) -> Result<Option<Seen>, Error> {
    Ok(ws.recv_split().await?.map(|(event, _sender)| event.into()))
}

/// Receives a conversation, each event first with a future that is dropped after so many polls; whether none was.
async fn cancelled_recv(
    role: Role,
    polls: usize,
    recv: impl AsyncFn(&mut Ws) -> Result<Option<Seen>, Error>,
) -> bool {
    let (mut ws, mut peer) = pair(role, 3);
    let messages = ["one".into(), binary(0), binary(130), "žluť".into()];
    let sending = rt::spawn({
        let messages = messages.clone();
        async move {
            for message in messages {
                peer.ping(b"ping").await.unwrap();
                peer.send(message).await.unwrap();
            }
            peer.close(CloseCode::NORMAL, "").await.unwrap();
        }
    });
    let mut seen = Vec::new();
    let mut all_done = true;
    loop {
        let event = match cancel_after(polls, recv(&mut ws)).await {
            Some(event) => event,
            None => {
                all_done = false;
                recv(&mut ws).await
            }
        };
        let Some(event) = event.unwrap() else { break };
        seen.push(event);
    }
    sending.await;

    let pings = seen.iter().filter(|event| **event == Seen::Ping(b"ping".into())).count();
    assert!(pings == 0 || pings == messages.len(), "{pings} pings");
    seen.retain(|event| matches!(event, Seen::Message(_)));
    assert_eq!(seen, messages.map(Seen::Message));
    all_done
}

#[track_caller]
fn assert_closed(ws: &Ws, code: u16, reason: &str, clean: bool, initiator: Initiator) {
    let closed = ws.closed().expect("it has ended");
    let found = (closed.code.get(), &*closed.reason, closed.clean, closed.initiator);
    assert_eq!(found, (code, reason, clean, initiator));
}

async fn assert_nothing_can_be_sent(ws: &mut Ws) {
    assert_matches!(ws.send("late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.feed("late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.ping(b"late").await, Err(Error::Send(SendError::Closed)));
    assert_matches!(ws.send_fragment("late", true).await, Err(Error::Send(SendError::Closed)));
    let prepared = Prepared::new("late");
    assert_matches!(ws.send_prepared(&prepared).await, Err(Error::Send(SendError::Closed)));
}

/// The methods that send.
#[derive(Clone, Copy, Debug)]
enum Command {
    Send,
    Prepared,
    Fragment,
    Ping,
}

impl Command {
    async fn run(self, ws: &mut Ws) -> Result<(), Error> {
        match self {
            Self::Send => ws.send("x").await,
            Self::Prepared => ws.send_prepared(&Prepared::new("x")).await,
            Self::Fragment => ws.send_fragment("x", true).await,
            Self::Ping => ws.ping(b"x").await,
        }
    }
}

/// Sends a frame over and over and reads nothing, until the other side is gone: how many it took.
async fn flood(mut peer: Raw, frame: Frame) -> usize {
    let mut count = 0;
    while peer.try_send(std::slice::from_ref(&frame)).await.is_ok() {
        count += 1;
    }
    count
}

// Raw peers

/// A stream that is written and read frame by frame, by the rules or against them.
struct Raw {
    link: Link,
    /// Whether its frames are masked, as those of a client.
    masked: bool,
    unread: Vec<u8>,
}

impl Raw {
    async fn send(&mut self, frames: &[Frame]) {
        self.try_send(frames).await.unwrap();
    }

    async fn try_send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(self.masked)).collect();
        rt::write_all(&mut self.link, &bytes).await
    }

    /// The next frame, or none at the end of the stream.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.unread) {
                return Some(frame);
            }
            if !self.fill().await {
                assert_eq!(self.unread, [], "a frame was cut off");
                return None;
            }
        }
    }

    /// All frames until the end of the stream.
    async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Ends the connection when its turn has come, after both Close frames: a server goes first, a client waits
    /// for it (section 7.1.1).
    async fn leave(mut self, role: Role) {
        if role == Role::Server {
            assert_eq!(self.rest().await, []);
        }
    }

    /// The frames that are there already.
    fn arrived(&mut self) -> Vec<Frame> {
        while let Poll::Ready(true) = pin!(self.fill()).poll(&mut Context::from_waker(Waker::noop())) {}
        std::iter::from_fn(|| Frame::take(&mut self.unread)).collect()
    }

    /// Reads once; whether something came.
    async fn fill(&mut self) -> bool {
        let mut buf = [0; 4096];
        let len = rt::read(&mut self.link, &mut buf).await.unwrap();
        self.unread.extend(&buf[..len]);
        len > 0
    }
}

/// A frame: FIN, reserved bits and opcode as on the wire, and the unmasked payload.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
}

fn text(text: &str) -> Frame {
    Frame { first: 0x81, payload: text.into() }
}

fn ping(payload: &[u8]) -> Frame {
    Frame { first: 0x89, payload: payload.into() }
}

fn pong(payload: &[u8]) -> Frame {
    Frame { first: 0x8a, payload: payload.into() }
}

fn close(code: u16, reason: &str) -> Frame {
    Frame { first: 0x88, payload: [&code.to_be_bytes(), reason.as_bytes()].concat() }
}

impl Frame {
    fn encode(&self, masked: bool) -> Vec<u8> {
        const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            len @ 0..126 => bytes.push(mask | len as u8),
            len @ 126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(mask | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend(KEY);
            bytes.extend(self.payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Takes a frame from the front, if it is whole.
    fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (at, len) = match second & 0x7f {
            126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            len => (2, usize::from(len)),
        };
        let (key, at) = match second & 0x80 {
            0 => ([0; 4], at),
            _ => (*bytes.get(at..)?.first_chunk()?, at + 4),
        };
        let payload = bytes.get(at..at + len)?.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        let frame = Self { first, payload: payload.collect() };
        bytes.drain(..at + len);
        Some(frame)
    }
}

/// What breaks the protocol in one frame, where a message may have 1024 bytes.
fn violations() -> Vec<(Frame, ProtocolError)> {
    let frame = |first, payload: &[u8]| Frame { first, payload: payload.into() };
    vec![
        (frame(0x81, b"\xff"), ProtocolError::InvalidUtf8),
        (frame(0x81, b"cut \xc5"), ProtocolError::InvalidUtf8),
        (frame(0xc1, b"rsv1"), ProtocolError::ReservedBits),
        (frame(0x83, b""), ProtocolError::ReservedOpcode(3)),
        (frame(0x8f, b""), ProtocolError::ReservedOpcode(15)),
        (frame(0x80, b"nothing to continue"), ProtocolError::UnexpectedContinuation),
        (frame(0x09, b"fragment of a ping"), ProtocolError::FragmentedControl),
        (frame(0x89, &[0; 126]), ProtocolError::ControlTooLong),
        (frame(0x88, b"\x03"), ProtocolError::ClosePayload),
        (close(1005, ""), ProtocolError::CloseCode(1005)),
        (close(999, ""), ProtocolError::CloseCode(999)),
        (frame(0x88, b"\x03\xe8\xff"), ProtocolError::InvalidUtf8),
        (frame(0x82, &[0; 1025]), ProtocolError::MessageTooLong { limit: 1024 }),
    ]
}

// Raw heads

/// The request of RFC 6455 section 1.2.
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Requests that are refused, by which configuration, and with which status.
fn refused_requests() -> Vec<(Vec<u8>, ServerConfig, u16)> {
    let any = ServerConfig::default;
    let with = |field: &str| UPGRADE.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n")).into_bytes();
    let replaced = |from: &str, to: &str| {
        assert!(UPGRADE.contains(from));
        UPGRADE.replace(from, to).into_bytes()
    };
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    vec![
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), any(), 426),
        (replaced("Version: 13", "Version: 12"), any(), 426),
        (UPGRADE.into(), ServerConfig { path: Some("/other".into()), ..any() }, 404),
        (with("Origin: http://evil.example"), ServerConfig { origins: OriginPolicy::Same, ..any() }, 403),
        (replaced("GET", "POST"), any(), 405),
        (replaced("HTTP/1.1", "HTTP/1.0"), any(), 505),
        (replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), any(), 400),
        (with("Content-Length: 5"), any(), 400),
        (with(&format!("Cookie: {}", "x".repeat(17 * 1024))), any(), 431),
        (with(&"A: b\r\n".repeat(128)[..128 * 6 - 2]), any(), 431),
        (replaced("/chat", &format!("/{}", "x".repeat(17 * 1024))), any(), 414),
        (b"\0\x01\x02garbage\r\n\r\n".to_vec(), any(), 400),
        (tls_hello.to_vec(), any(), 400),
        // What waits for the end of a line that never comes.
        (tls_hello[..6].to_vec(), any(), 400),
    ]
}

fn head_of(mut link_bytes: Vec<u8>) -> (String, Vec<u8>) {
    let end = link_bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let body = link_bytes.split_off(end);
    (String::from_utf8(link_bytes).unwrap(), body)
}

/// An answer as a client reads it.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Reads a refusal until the end of the stream, which must be a whole one.
async fn read_response(link: &mut Link) -> Answer {
    let (head, body) = head_of(read_to_end(link).await.unwrap());
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let answer = Answer { status, head, body: String::from_utf8(body).unwrap() };
    assert_eq!(answer.field("content-length"), Some(&*answer.body.len().to_string()));
    answer
}

async fn read_to_end(link: &mut Link) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buf = [0; 1024];
    loop {
        match rt::read(link, &mut buf).await? {
            0 => return Ok(bytes),
            len => bytes.extend(&buf[..len]),
        }
    }
}

/// Reads a head and nothing behind it.
async fn read_head(link: &mut Link) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(rt::read(link, &mut byte).await.unwrap(), 1, "the head was cut off");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The right answer to a client's request.
fn answer_to(head: &str) -> String {
    let mut request = Request::new(());
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = ws_proto::handshake::check(&request, &ServerConfig::default()).unwrap().response();
    let mut answer = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in response.headers() {
        answer += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    answer + "\r\n"
}

/// Changes to the right answer that make it wrong, and what a client says to that.
#[expect(clippy::type_complexity, reason = "a table")]
fn wrong_answers() -> Vec<(fn(String) -> String, &'static str)> {
    vec![
        (|answer| answer.replace("=\r\n", "A=\r\n").replace("accept: ", "accept: A"), "Accept"),
        (|answer| answer.replace("sec-websocket-accept", "x"), "Accept"),
        (|answer| answer.replace("upgrade: websocket\r\n", ""), "UpgradeField"),
        (|answer| answer.replace("connection: Upgrade", "connection: close"), "ConnectionField"),
        (|answer| answer.replace("1.1", "1.0"), "HttpVersion"),
        (
            |answer| answer.replace("\r\n\r\n", "\r\nsec-websocket-protocol: chat\r\n\r\n"),
            "Subprotocol(Some(\"chat\"))",
        ),
        (
            |answer| answer.replace("\r\n\r\n", "\r\nsec-websocket-extensions: x-unasked\r\n\r\n"),
            "Extension(\"x-unasked\")",
        ),
        (|answer| answer[..answer.len() - 1].to_owned(), "Eof"),
        (|_| String::new(), "Eof"),
    ]
}

#[track_caller]
fn handshake_error<T: std::fmt::Debug>(result: Result<T, Error>) -> HandshakeError {
    match result {
        Err(Error::Handshake(error)) => error,
        other => panic!("{other:?} is no error of the handshake"),
    }
}
