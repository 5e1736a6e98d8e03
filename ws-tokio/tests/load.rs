//! Many connections on one thread: idle ones, slow handshakes and a churn, while one client is served as ever. Memory
//! and file descriptors return to their start.
//!
//! Times are told, not judged, as nobody knows what else a machine does:
//! `cargo test --release -p ws-tokio --test load -- --nocapture`. The last line is the one without a jam.

#![cfg(target_os = "linux")]

use std::{
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    task::{JoinSet, yield_now},
    time::interval,
};
use ws_tokio::{
    Clients, CloseCode, Config, Connection, Handle, HeadLimits, Prepared, Server, ServerConfig, WebSocket,
    connect,
};

/// Connections that say nothing after their handshake.
const IDLE: usize = 2000;

/// Handshakes that stop in the middle.
const SLOW: usize = 200;

/// Connections that come, are answered once, and go, and how many at a time.
const CHURN: usize = 10_000;
const AT_A_TIME: usize = 8;

/// Time between two that come, and between two round trips of the client that is watched.
const PACE: Duration = Duration::from_millis(1);

/// Round trips of that client before the load.
const ROUND_TRIPS: usize = 1000;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text of two bytes and a Close frame, masked with zeros, and what comes back.
const HELLO: &[u8] = b"\x81\x82\0\0\0\0hi";
const BYE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
const ANSWERS: &[u8] = b"\x81\x02hi\x88\x02\x03\xe8";

#[test]
fn load_leaves_nothing_behind_and_holds_nobody_up() {
    let _one = one_at_a_time();
    // What allocators and runtimes keep for good, they have after the first time, or the second: each has threads of
    // its own. What is lost with a connection is lost each time, and a kibibyte of it would be five times as much.
    let scale = scale();
    under_load(scale, AT_A_TIME);
    let files = open_files();
    let grows = |_| {
        let memory = resident();
        under_load(scale, 1);
        assert_eq!(open_files(), files);
        let grown = resident().saturating_sub(memory);
        println!("grew by {grown} bytes");
        grown > 2 * 1024 * 1024
    };
    assert!(!(0..3).all(grows), "it grew each time");
}

#[test]
fn mail_that_was_collected_leaves_nothing_behind() {
    let _one = one_at_a_time();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let clients = Clients::default();
        let mut open = Vec::new();
        let mut before = 0;
        for i in 0..500 {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let connection = Connection::server(&Config::default(), Instant::now());
            let mut ws = WebSocket::from_upgraded(ours, connection);
            let client = clients.insert(&mut ws);
            let mut count = 0;
            while client.send("").is_ok() {
                count += 1;
            }
            let mut frames = vec![0; 2 * count];
            let (flushed, read) = tokio::join!(ws.flush(), theirs.read_exact(&mut frames));
            flushed.unwrap();
            read.unwrap();
            assert_eq!(client.buffered_amount(), 0);
            // It waits, and so gives back what it had for writing.
            tokio::select! {
                biased;
                received = ws.recv() => panic!("{received:?}"),
                () = std::future::ready(()) => {}
            }
            open.push((ws, theirs));
            if i == 100 {
                before = resident();
            }
        }
        // The mail of each was of 256 KiB.
        let grown = resident().saturating_sub(before);
        assert!(grown <= 8 * 1024 * 1024, "grew by {grown} bytes");
    });
}

#[test]
fn long_broadcast_is_held_once_whoever_does_not_read_it() {
    let _one = one_at_a_time();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let clients = Clients::default();
        let mut open = Vec::new();
        for _ in 0..100 {
            let (ours, theirs) = tokio::io::duplex(1024);
            let connection = Connection::server(&Config::default(), Instant::now());
            let mut ws = WebSocket::from_upgraded(ours, connection);
            clients.insert(&mut ws);
            open.push((tokio::spawn(async move { ws.recv().await }), theirs));
        }
        yield_now().await;
        let news = Prepared::new(vec![0; 1024 * 1024]);
        let before = resident();
        assert_eq!(clients.broadcast(&news).sent, 100);
        let grown = resident().saturating_sub(before);
        assert!(grown <= 16 * 1024 * 1024, "grew by {grown} bytes");
    });
}

/// One server from its start to its end, with so many at a time that come and go: one comes each [`PACE`], several as
/// fast as they can.
fn under_load(scale: usize, at_a_time: usize) {
    let (address, handle, server) = server();
    let watched = Watched::start(&address);
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut idle = Vec::with_capacity(IDLE);
        for _ in 0..IDLE / scale {
            idle.push(upgraded(&address).await);
        }
        let mut slow = Vec::with_capacity(SLOW);
        for i in 0..SLOW / scale {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(&REQUEST[..i % REQUEST.len()]).await.unwrap();
            slow.push(stream);
        }
        let mut churn = JoinSet::new();
        for _ in 0..at_a_time {
            let address = address.clone();
            churn.spawn(async move {
                let mut pace = interval(PACE);
                for _ in 0..CHURN / at_a_time {
                    if at_a_time == 1 {
                        pace.tick().await;
                    }
                    come_and_go(&address).await;
                }
            });
        }
        watched.mark();
        while let Some(done) = churn.join_next().await {
            done.unwrap();
        }
        watched.mark();
        watched.tell(at_a_time);

        // All that was open still is.
        while handle.clients().len() > IDLE / scale {
            yield_now().await;
        }
        for stream in &mut idle {
            stream.write_all(HELLO).await.unwrap();
        }
        for stream in &mut idle {
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, ANSWERS[..4]);
        }
        drop((idle, slow));
        handle.clients().emptied().await;
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(60)).unwrap();
    });
    server.join().unwrap();
}

/// An echo server on a thread of its own, which ends when it is shut down.
fn server() -> (String, Handle, thread::JoinHandle<()>) {
    let (ready, started) = mpsc::channel();
    let server = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let head = HeadLimits { timeout: Some(Duration::from_secs(3600)), ..HeadLimits::default() };
            let config = ServerConfig { head, ..ServerConfig::default() };
            let server = Server::bind("127.0.0.1:0", config).await.unwrap();
            ready.send((server.local_addr().unwrap().to_string(), server.handle())).unwrap();
            let late = server.serve(|mut ws, _request| async move {
                while let Ok(Some(message)) = ws.recv().await {
                    if ws.send(message).await.is_err() {
                        break;
                    }
                }
            });
            assert_eq!(late.await, 0);
        });
    });
    let (address, handle) = started.recv().unwrap();
    (address, handle, server)
}

/// A client in a thread of its own, which sends and receives at its pace.
struct Watched {
    marks: mpsc::Sender<()>,
    thread: thread::JoinHandle<[Duration; 3]>,
}

impl Watched {
    /// Begins without the load, for a fixed number of round trips.
    fn start(address: &str) -> Self {
        let url = format!("ws://{address}/");
        let (marks, marked) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let (mut ws, _) = connect(&url).await.unwrap();
                let mut phases = [(); 3].map(|()| Vec::with_capacity(100_000));
                let mut phase = 0;
                let mut pace = interval(PACE);
                for i in 0.. {
                    pace.tick().await;
                    let start = Instant::now();
                    ws.send(i.to_string()).await.unwrap();
                    assert_eq!(ws.recv().await.unwrap(), Some(i.to_string().into()));
                    phases[phase].push(start.elapsed());
                    let is_over = if phase == 0 { i == ROUND_TRIPS } else { marked.try_recv().is_ok() };
                    if is_over && phase == 2 {
                        break;
                    }
                    if is_over {
                        ready.send(()).ok();
                        phase += 1;
                    }
                }
                ws.close(CloseCode::NORMAL, "").await.unwrap();
                phases.map(|mut times| {
                    times.sort_unstable();
                    times[times.len() * 99 / 100]
                })
            })
        });
        started.recv().unwrap();
        Self { marks, thread }
    }

    /// The next phase begins.
    fn mark(&self) {
        self.marks.send(()).unwrap();
    }

    fn tell(self, at_a_time: usize) {
        let [alone, opening, churning] = self.thread.join().unwrap();
        println!(
            "p99 of a round trip: {alone:?} alone, {opening:?} while others open, {churning:?} while \
             {CHURN} come and go, {at_a_time} at a time"
        );
    }
}

async fn upgraded(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

async fn come_and_go(address: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[REQUEST, HELLO, BYE].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(ANSWERS));
}

/// By what to divide the idle ones and the slow ones, so that both ends of all fit into this process.
fn scale() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux tells");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there is such a line");
    let soft = line.split_whitespace().nth(3).expect("the soft limit").parse().unwrap_or(usize::MAX);
    (2 * (IDLE + SLOW + AT_A_TIME) + 100).div_ceil(soft)
}

/// What the whole process holds can be told of one test only.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux tells").count()
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there is such a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kibibytes");
    kib * 1024
}
