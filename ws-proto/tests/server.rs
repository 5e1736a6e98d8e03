//! Servers over a listener, sockets and a clock that do as they are told: what a real one does once in a month.
//!
//! Futures run only when they were woken, so a wake-up that is lost is a test that fails.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use core::net::SocketAddr;
use ws_proto::{
    CloseCode, Config, Error, HandshakeError, HeadLimits, ServerConfig,
    drive::{Acceptor, Handle, Listen, Peer, Server, Socket, bind_first},
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn errors_of_one_connection_are_no_reason_to_pause() {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    for mode in MODES {
        let mut test = Test::new(mode, ServerConfig::default());
        for kind in [ConnectionAborted, ConnectionReset, Interrupted, ConnectionRefused] {
            test.listener.push(Err(kind.into()));
        }
        let mut client = test.connect();
        run();
        client.upgrade();
        assert_eq!(test.opened(), 1);
        assert_eq!(test.failures().len(), 4);
        assert!(!waits_for_time());
    }
}

#[test]
fn first_address_that_can_be_had_is_the_one() {
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut asked = Vec::new();
    let mut bind = |ports: &[u16]| {
        bind_first(ports.iter().map(|port| address(*port)), |address| {
            asked.push(address.port());
            if address.port() < 3 { Err(io::Error::other(address.port().to_string())) } else { Ok(address) }
        })
    };
    assert_eq!(bind(&[1, 2, 3, 4]).unwrap(), address(3));
    assert_eq!(bind(&[1, 2]).unwrap_err().to_string(), "2");
    assert_eq!(bind(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(asked, [1, 2, 3, 1, 2]);
}

#[test]
fn streams_that_keep_coming_hold_up_no_other_task() {
    for (mode, of_streams) in MODES.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
        let mut test = Test::new(mode, config());
        let script = Arc::clone(&test.listener.0);
        let clients: Vec<_> = (0..if of_streams { 1000 } else { 0 }).map(|_| test.connect()).collect();
        for _ in clients.len()..1000 {
            test.listener.push(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let left = Arc::new(AtomicUsize::new(0));
        Listener::spawn({
            let (script, left) = (Arc::clone(&script), Arc::clone(&left));
            async move { left.store(script.lock().unwrap().streams.len(), Ordering::Relaxed) }
        });
        run();
        assert!(left.load(Ordering::Relaxed) > 500, "{left:?}");
        assert!(script.lock().unwrap().streams.is_empty());
    }
}

#[test]
fn who_waits_for_the_last_client_keeps_one_waker_and_none_when_dropped() {
    let mut test = Test::new(Mode::Serve, config());
    let mut client = test.connect();
    client.upgrade();
    let wakers: [_; 3] = std::array::from_fn(|_| Arc::new(Woken(AtomicBool::new(false))));
    let poll = |future: &mut Pin<Box<dyn Future<Output = ()> + '_>>, waker: &Arc<Woken>| {
        future.as_mut().poll(&mut Context::from_waker(&Arc::clone(waker).into()))
    };
    let counts = || wakers.each_ref().map(Arc::strong_count);
    let mut waiting: [Pin<Box<dyn Future<Output = ()> + '_>>; 2] =
        std::array::from_fn(|_| Box::pin(test.handle.clients().emptied()) as _);
    for waker in [0, 1, 0, 1, 2, 2] {
        assert!(poll(&mut waiting[0], &wakers[waker]).is_pending());
    }
    assert!(counts()[0] == 1 && counts()[1] == 1 && counts()[2] > 1);
    // Two futures of one task.
    assert!(poll(&mut waiting[1], &wakers[2]).is_pending());
    let [first, mut second] = waiting;
    drop(first);
    drop(client);
    run();
    assert!(wakers[2].0.load(Ordering::Relaxed));
    assert!(poll(&mut second, &wakers[2]).is_ready());
    drop(second);
    assert_eq!(counts(), [1; 3]);
}

#[test]
fn hook_that_panics_is_no_reason_to_stop() {
    for mode in MODES {
        let mut test = Test::new(mode, ServerConfig { max_connections: Some(0), ..config() });
        test.listener.push(Err(io::ErrorKind::ConnectionAborted.into()));
        let mut refused: Vec<_> = (0..64).map(|_| test.connect()).collect();
        test.panics.store(true, Ordering::Relaxed);
        let turned_away = test.connect();
        run();
        assert!(turned_away.is_closed());
        assert!(refused.iter_mut().all(|client| client.read().starts_with(b"HTTP/1.1 503 ")));
        assert_eq!((test.failures().len(), test.ended()), (0, None));
    }
}

#[test]
fn lack_of_file_descriptors_is_waited_out() {
    const EMFILE: i32 = 24;
    for mode in MODES {
        let mut test = Test::new(mode, ServerConfig::default());
        let mut early = test.connect();
        run();
        for _ in 0..3 {
            test.listener.push(Err(io::Error::from_raw_os_error(EMFILE)));
        }
        let mut late = test.connect();
        for pause in 1..=3 {
            run();
            assert_eq!(test.failures().len(), 1, "pause {pause}");
            pass(99 * MS);
            assert_eq!(test.failures().len(), 0);
            // Others are served meanwhile.
            if pause == 2 {
                early.upgrade();
                assert_eq!(test.opened(), 1);
            }
            pass(MS);
        }
        late.upgrade();
        assert_eq!(test.opened(), 2);
    }
}

#[test]
fn shutdown_does_not_wait_for_the_pause() {
    for mode in MODES {
        let test = Test::new(mode, ServerConfig::default());
        test.listener.push(Err(io::Error::other("no more")));
        run();
        test.handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        run();
        assert_eq!(test.ended(), Some(0));
        assert!(test.listener.is_dropped());
    }
}

#[test]
fn stream_that_is_never_opened_is_dropped_after_the_timeout() {
    for mode in MODES {
        let head = HeadLimits { timeout: Some(10 * MS), ..HeadLimits::default() };
        let mut test = Test::new(mode, ServerConfig { head, max_connections: Some(1), ..config() });
        test.listener.hold(true);
        let mut slow = test.connect();
        run();
        pass(9 * MS);
        assert!(!slow.is_closed());
        pass(MS);
        assert!(slow.is_closed());
        assert_eq!(slow.read(), b"");
        assert_eq!(test.failures(), [format!("{:?}", io::ErrorKind::TimedOut)]);
        // Its place is free again.
        test.listener.hold(false);
        test.connect().upgrade();
        assert_eq!(test.opened(), 1);
    }
}

#[test]
fn stream_may_take_for_ever_to_open_where_no_timeout_is_set() {
    let head = HeadLimits { timeout: None, ..HeadLimits::default() };
    let mut test = Test::new(Mode::Serve, ServerConfig { head, ..config() });
    test.listener.hold(true);
    let mut slow = test.connect();
    run();
    pass(1_000_000_000 * MS);
    test.listener.hold(false);
    slow.upgrade();
    assert_eq!(test.opened(), 1);
}

#[test]
fn places_run_out_and_come_back() {
    for mode in MODES {
        let mut test = Test::new(mode, ServerConfig { max_connections: Some(2), ..config() });
        let mut open: Vec<_> = (0..2).map(|_| test.connect()).collect();
        open.iter_mut().for_each(Client::upgrade);
        let mut refused: Vec<_> = (0..64).map(|_| test.connect()).collect();
        run();
        for client in &mut refused {
            assert!(client.read().starts_with(b"HTTP/1.1 503 "));
        }
        let mut turned_away = test.connect();
        run();
        assert!(turned_away.is_closed());
        assert_eq!(turned_away.read(), b"");
        let failures = test.failures();
        assert_eq!(failures.len(), 65);
        assert!(failures.iter().all(|failure| failure == "Unavailable"));
        // One leaves, another takes its place, whoever lingers.
        open.pop();
        run();
        test.connect().upgrade();
        assert_eq!(test.opened(), 3);
        // Who lingered is left after the close timeout.
        pass(1000 * MS);
        assert!(refused.iter().all(Client::is_closed));
    }
}

#[test]
fn connections_wait_for_accept_in_the_order_of_their_handshakes() {
    let mut test = Test::new(Mode::Idle, ServerConfig::default());
    let mut clients = [test.connect(), test.connect(), test.connect()];
    // Asked once, it takes all streams; the handshakes go on without it.
    test.accept_once();
    run();
    for client in clients.iter_mut().rev() {
        client.upgrade();
    }
    for _ in 0..3 {
        test.accept_once();
    }
    assert_eq!(test.opened(), 3);
    assert_eq!(test.paths.lock().unwrap().as_slice(), ["/2", "/1", "/0"]);
}

#[test]
fn dropped_server_lets_go_of_what_nobody_will_accept() {
    let mut test = Test::new(Mode::Idle, ServerConfig::default());
    let mut waiting = test.connect();
    let mut slow = test.connect();
    test.accept_once();
    run();
    waiting.upgrade();
    test.server = None;
    assert!(test.listener.is_dropped());
    run();
    // The one whose handshake goes on keeps the list of those that wait.
    slow.upgrade();
    run();
    assert!(slow.is_closed() && waiting.is_closed());
    assert!(test.handle.clients().is_empty());
    assert_eq!(tasks(), 0);
}

#[test]
fn handlers_have_the_grace_to_end_and_no_longer() {
    for (takes, dropped) in [(999, 0), (1001, 2)] {
        let mut test = Test::new(Mode::Serve, config());
        test.handler_takes(takes * MS);
        let mut clients = [test.connect(), test.connect()];
        clients.iter_mut().for_each(Client::upgrade);
        test.handle.shutdown(CloseCode::GOING_AWAY, "bye", 1000 * MS).unwrap();
        run();
        assert!(test.listener.is_dropped());
        for client in &mut clients {
            assert_eq!(client.read(), b"\x88\x05\x03\xe9bye");
        }
        pass(998 * MS);
        assert_eq!(test.ended(), None);
        pass(MS);
        if takes > 1000 {
            assert_eq!(test.ended(), None);
            pass(MS);
        }
        assert_eq!(test.ended(), Some(dropped), "{takes} ms");
        assert_eq!((tasks(), test.handle.clients().len()), (0, 0));
        assert!(clients.iter().all(Client::is_closed));
    }
}

#[test]
fn grace_of_nothing_drops_at_once() {
    let mut test = Test::new(Mode::Serve, config());
    test.handler_takes(Duration::MAX);
    let mut client = test.connect();
    client.upgrade();
    test.handle.shutdown(CloseCode::GOING_AWAY, "", Duration::ZERO).unwrap();
    run();
    assert_eq!((test.ended(), client.is_closed()), (Some(1), true));
}

#[test]
fn second_shutdown_ends_the_grace_and_the_first_code_counts() {
    let mut test = Test::new(Mode::Serve, config());
    test.handler_takes(Duration::MAX);
    let mut client = test.connect();
    client.upgrade();
    test.handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
    run();
    assert_eq!(test.ended(), None);
    test.handle.shutdown(CloseCode::NORMAL, "", Duration::MAX).unwrap();
    test.handle.shutdown(CloseCode::NORMAL, "", Duration::MAX).unwrap();
    run();
    assert_eq!((test.ended(), client.is_closed()), (Some(1), true));
    assert_eq!(client.read(), b"\x88\x02\x03\xe9");
}

#[test]
fn connection_that_opens_as_the_server_shuts_down_is_closed_as_the_others() {
    // The answer is written while nobody knows of the shutdown; it is the client who is slow to take it.
    for mode in MODES {
        let mut test = Test::new(mode, config());
        let mut client = test.connect();
        run();
        client.block(true);
        client.write(&request("/"));
        run();
        test.handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        run();
        client.block(false);
        run();
        let answer = client.read();
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.ends_with(b"\r\n\r\n\x88\x02\x03\xe9"));
    }
}

#[test]
fn shutdown_answers_handshakes_under_way_with_503() {
    for mode in MODES {
        let mut test = Test::new(mode, config());
        let mut silent = test.connect();
        let mut slow = test.connect();
        run();
        slow.write(&request("/")[..20]);
        run();
        test.handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        run();
        assert!(silent.read().starts_with(b"HTTP/1.1 503 "));
        assert!(slow.read().starts_with(b"HTTP/1.1 503 "));
        assert_eq!(test.failures(), ["Unavailable", "Unavailable"]);
        drop((silent, slow));
        run();
        assert_eq!((test.ended(), tasks()), (Some(0), 0));
    }
}

// A server and what it runs on

/// How the server is used.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Serve,
    /// In a loop.
    Accept,
    /// By hand.
    Idle,
}

const MODES: [Mode; 2] = [Mode::Serve, Mode::Accept];

fn config() -> ServerConfig {
    let connection = Config { close_timeout: Some(1000 * MS), ..Config::default() };
    ServerConfig { connection, ..ServerConfig::default() }
}

struct Test {
    listener: Listener,
    handle: Handle,
    server: Option<Server<Listener>>,
    opened: Arc<AtomicUsize>,
    takes: Arc<Mutex<Duration>>,
    paths: Arc<Mutex<Vec<String>>>,
    failures: Arc<Mutex<Vec<String>>>,
    /// The hook does, instead.
    panics: Arc<AtomicBool>,
    ended: Arc<Mutex<Option<usize>>>,
    connected: usize,
}

impl Test {
    fn new(mode: Mode, config: ServerConfig) -> Self {
        WORLD.with_borrow_mut(|world| *world = World::default());
        let failures: Arc<Mutex<Vec<String>>> = Arc::default();
        let panics = Arc::new(AtomicBool::new(false));
        let (seen, hook_panics) = (Arc::clone(&failures), Arc::clone(&panics));
        let acceptor = Acceptor::new(config).on_failure(move |failure| {
            assert!(!hook_panics.load(Ordering::Relaxed), "as the test wants");
            let is_listeners =
                matches!(failure.error, Error::Io(error) if error.kind() != io::ErrorKind::TimedOut);
            assert_eq!(*failure.peer, if is_listeners { Peer::default() } else { client() });
            seen.lock().unwrap().push(match failure.error {
                Error::Handshake(HandshakeError::Unavailable) => "Unavailable".into(),
                Error::Io(error) => format!("{:?}", error.kind()),
                error => format!("{error:?}"),
            });
            None
        });
        let listener = Listener(Arc::default());
        let server = Server::new(Listener(Arc::clone(&listener.0)), acceptor);
        let mut test = Self {
            listener,
            handle: server.handle(),
            server: None,
            opened: Arc::default(),
            takes: Arc::default(),
            paths: Arc::default(),
            failures,
            panics,
            ended: Arc::default(),
            connected: 0,
        };
        let (opened, takes, ended) =
            (Arc::clone(&test.opened), Arc::clone(&test.takes), Arc::clone(&test.ended));
        match mode {
            Mode::Serve => Listener::spawn(async move {
                let late = server.serve(move |mut ws, _request| {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let takes = *takes.lock().unwrap();
                    async move {
                        if takes.is_zero() {
                            while let Ok(Some(_)) = ws.recv().await {}
                        } else {
                            let receiving =
                                std::pin::pin!(async { while let Ok(Some(_)) = ws.recv().await {} });
                            Both(receiving, Box::pin(Listener::sleep(takes))).await;
                        }
                    }
                });
                *ended.lock().unwrap() = Some(late.await);
            }),
            Mode::Accept => Listener::spawn(async move {
                let mut server = server;
                while let Some((mut ws, _request)) = server.accept().await {
                    opened.fetch_add(1, Ordering::Relaxed);
                    Listener::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
                }
                *ended.lock().unwrap() = Some(0);
            }),
            Mode::Idle => test.server = Some(server),
        }
        run();
        test
    }

    fn handler_takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    /// A client whose stream waits to be accepted.
    fn connect(&mut self) -> Client {
        let (ours, theirs) = End::pair();
        self.listener.push(Ok(theirs));
        let path = format!("/{}", self.connected);
        self.connected += 1;
        Client { end: ours, path }
    }

    /// Asks the server once.
    fn accept_once(&mut self) {
        let server = self.server.as_mut().unwrap();
        let accepted = std::pin::pin!(server.accept()).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Some((_ws, request))) = accepted {
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.paths.lock().unwrap().push(request.uri().path().to_owned());
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    fn failures(&self) -> Vec<String> {
        std::mem::take(&mut self.failures.lock().unwrap())
    }

    /// What `serve` gave.
    fn ended(&self) -> Option<usize> {
        *self.ended.lock().unwrap()
    }
}

/// Polls two futures, until the second is ready.
struct Both<'a, S>(Pin<&'a mut (dyn Future<Output = ()> + Send)>, Pin<Box<S>>);

impl<S: Future<Output = ()>> Future for Both<'_, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.1.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Polled again after its end it would panic; that of a connection comes only after the close deadline.
        let _ = self.0.as_mut().poll(cx);
        Poll::Pending
    }
}

fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into()
}

struct Client {
    end: End,
    path: String,
}

impl Client {
    fn upgrade(&mut self) {
        self.write(&request(&self.path));
        run();
        let answer = self.read();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        run();
    }

    fn write(&self, bytes: &[u8]) {
        self.end.outgoing.lock().unwrap().push(bytes);
    }

    fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.end.incoming.lock().unwrap().bytes).into()
    }

    /// Whether the server has dropped its end.
    fn is_closed(&self) -> bool {
        self.end.incoming.lock().unwrap().is_dropped
    }

    /// Takes nothing for a while.
    fn block(&self, blocked: bool) {
        let mut incoming = self.end.incoming.lock().unwrap();
        incoming.is_blocked = blocked;
        incoming.wake();
    }
}

/// One direction of a pipe.
#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    is_ended: bool,
    is_dropped: bool,
    is_blocked: bool,
    waker: Option<Waker>,
}

impl Direction {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One end of a pipe.
#[derive(Debug)]
struct End {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}

impl End {
    fn pair() -> (Self, Self) {
        let (one, two) = (Arc::<Mutex<Direction>>::default(), Arc::<Mutex<Direction>>::default());
        (
            Self { incoming: Arc::clone(&one), outgoing: Arc::clone(&two) },
            Self { incoming: two, outgoing: one },
        )
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.lock().unwrap();
        (outgoing.is_ended, outgoing.is_dropped) = (true, true);
        outgoing.wake();
    }
}

struct Sock(End);

impl Socket for Sock {
    type Stream = End;

    fn new(stream: End) -> Self {
        Self(stream)
    }

    fn stream(&self) -> &End {
        &self.0
    }

    fn stream_mut(&mut self) -> &mut End {
        &mut self.0
    }

    fn into_stream(self) -> End {
        self.0
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut incoming = self.0.incoming.lock().unwrap();
        if incoming.bytes.is_empty() && !incoming.is_ended {
            incoming.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = incoming.bytes.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(incoming.bytes.drain(..len)) {
            *to = from;
        }
        Poll::Ready(Ok(len))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut outgoing = self.0.outgoing.lock().unwrap();
        if outgoing.is_blocked {
            outgoing.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        slices.iter().for_each(|slice| outgoing.push(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.0.outgoing.lock().unwrap();
        outgoing.is_ended = true;
        outgoing.wake();
        Poll::Ready(Ok(()))
    }

    fn is_vectored(&self) -> bool {
        false
    }

    fn now(&self) -> Instant {
        WORLD.with_borrow(|world| world.start + world.now)
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        WORLD.with_borrow_mut(|world| {
            let deadline = deadline - world.start;
            world.poll_sleep(cx, deadline)
        })
    }
}

/// Who is at the other end of each stream.
fn client() -> Peer {
    Peer::new(Some(SocketAddr::from(([192, 0, 2, 1], 4711))), true)
}

/// Gives the streams and errors that a test puts into it.
struct Listener(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    streams: VecDeque<io::Result<End>>,
    server: Option<Waker>,
    is_dropped: bool,
    /// Streams do not get open.
    holds: bool,
    held: Vec<Waker>,
}

impl Listener {
    fn push(&self, stream: io::Result<End>) {
        let mut script = self.0.lock().unwrap();
        script.streams.push_back(stream);
        if let Some(server) = script.server.take() {
            server.wake();
        }
    }

    fn hold(&self, holds: bool) {
        let mut script = self.0.lock().unwrap();
        script.holds = holds;
        script.held.drain(..).for_each(Waker::wake);
    }

    /// Whether the server has dropped its own.
    fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().is_dropped
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.lock().unwrap().is_dropped = true;
    }
}

impl Listen for Listener {
    type Socket = Sock;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(End, Peer)>> {
        let mut script = self.0.lock().unwrap();
        match script.streams.pop_front() {
            Some(stream) => Poll::Ready(stream.map(|stream| (stream, client()))),
            None => {
                script.server = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn open(&self, stream: End) -> impl Future<Output = io::Result<End>> + Send + 'static {
        let script = Arc::clone(&self.0);
        let mut stream = Some(stream);
        std::future::poll_fn(move |cx| {
            let mut script = script.lock().unwrap();
            if script.holds {
                script.held.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(stream.take().expect("ready once")))
        })
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let until = WORLD.with_borrow(|world| world.now.saturating_add(duration));
        std::future::poll_fn(move |cx| WORLD.with_borrow_mut(|world| world.poll_sleep(cx, until)))
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        WORLD.with_borrow_mut(|world| world.tasks.push_back((Box::pin(future), woken)));
    }
}

/// The executor and the clock of one test.
struct World {
    start: Instant,
    now: Duration,
    tasks: VecDeque<Task>,
    sleeps: Vec<(Duration, Waker)>,
}

type Task = (Pin<Box<dyn Future<Output = ()> + Send>>, Arc<Woken>);

impl Default for World {
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn default() -> Self {
        let (now, tasks, sleeps) = (Duration::ZERO, VecDeque::new(), Vec::new());
        Self { start: Instant::now(), now, tasks, sleeps }
    }
}

impl World {
    fn poll_sleep(&mut self, cx: &Context<'_>, until: Duration) -> Poll<()> {
        if self.now >= until {
            return Poll::Ready(());
        }
        self.sleeps.push((until, cx.waker().clone()));
        Poll::Pending
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Runs everything that was woken, until nothing is.
fn run() {
    for _ in 0..100_000 {
        let task = WORLD.with_borrow_mut(|world| {
            let at = world.tasks.iter().position(|(_, woken)| woken.0.load(Ordering::Relaxed))?;
            world.tasks.remove(at)
        });
        let Some((mut future, woken)) = task else { return };
        woken.0.store(false, Ordering::Relaxed);
        let waker = Arc::clone(&woken).into();
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            WORLD.with_borrow_mut(|world| world.tasks.push_back((future, woken)));
        }
    }
    panic!("it never rests");
}

/// Lets so much time pass, and runs what waited for it.
fn pass(time: Duration) {
    let due = WORLD.with_borrow_mut(|world| {
        world.now += time;
        let now = world.now;
        world.sleeps.extract_if(.., |(until, _)| *until <= now).collect::<Vec<_>>()
    });
    due.into_iter().for_each(|(_, waker)| waker.wake());
    run();
}

/// Whether the listener pauses: nothing else here waits for less than a second.
fn waits_for_time() -> bool {
    WORLD.with_borrow(|world| world.sleeps.iter().any(|(until, _)| *until < world.now + 1000 * MS))
}

/// The futures that have not ended.
fn tasks() -> usize {
    WORLD.with_borrow(|world| world.tasks.len())
}
