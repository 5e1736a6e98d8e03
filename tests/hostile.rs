//! Clients that mean harm, or behave as if they did, against a real server: compiled by each adapter through `#[path]`.
//!
//! Each test is about a row of the table in `SECURITY.md`, and names the option that bounds the harm. It tells what
//! becomes of the attackers, how the server says they ended, that others are served meanwhile, and that the process
//! never held more than the options allow. So it runs in a process of its own ([`alone`]), with the server in one
//! thread and the attackers, who need no runtime, in others.

use std::{
    any::type_name,
    env, fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::rt::{
    self,
    ws::{Acceptor, Config, Error, Handle, HeadLimits, Server, ServerConfig},
};

// The opening handshake

#[test]
fn heads_that_drip_are_answered_with_408_after_the_head_timeout() {
    alone(|| {
        let head = HeadLimits { timeout: Some(Duration::from_secs(2)), ..HeadLimits::default() };
        let server = Attacked::start(ServerConfig { head: head.clone(), ..ServerConfig::default() });
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.connect()).collect();
        let begun = Instant::now();
        for byte in REQUEST.bytes().take(REQUEST.len() - 1) {
            for attacker in &mut attackers {
                // It may have been answered.
                let _ = attacker.write_all(&[byte]);
            }
            server.assert_serves();
            if begun.elapsed() > Duration::from_secs(2) {
                break;
            }
        }
        for attacker in &mut attackers {
            assert_eq!(status(attacker), "408");
        }
        drop(attackers);
        server.assert_ends(ATTACKERS, "Handshake(Timeout)");
        server.assert_held(ATTACKERS * head.max_len);
    });
}

#[test]
fn heads_without_end_are_answered_with_431_at_max_len() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.connect()).collect();
        let max_len = HeadLimits::default().max_len;
        let begin = "GET / HTTP/1.1\r\nX-Field: ";
        for attacker in &mut attackers {
            attacker.write_all(begin.as_bytes()).unwrap();
            attacker.write_all(&vec![b'x'; max_len - 1 - begin.len()]).unwrap();
        }
        server.assert_serves();
        server.assert_held(ATTACKERS * max_len);
        for attacker in &mut attackers {
            // 100 MiB, of all of them.
            attacker.write_all(&FILLER).unwrap();
        }
        server.assert_serves();
        for attacker in &mut attackers {
            assert_eq!(status(attacker), "431");
        }
        drop(attackers);
        server.assert_ends(ATTACKERS, "Handshake(HeadTooLong)");
        server.assert_held(ATTACKERS * max_len);
    });
}

#[test]
fn request_lines_without_end_are_answered_with_414_at_max_len() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        for _ in 0..10 {
            let mut attacker = server.connect();
            attacker.write_all(b"GET /").unwrap();
            for _ in 0..8 {
                attacker.write_all(&FILLER).unwrap();
            }
            assert_eq!(status(&mut attacker), "414");
            server.assert_serves();
        }
        server.assert_ends(10, "Handshake(TargetTooLong)");
        server.assert_held(HeadLimits::default().max_len);
    });
}

#[test]
fn many_short_fields_are_answered_with_431_above_max_fields() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let end = "\r\n\r\n";
        for (extra, status_code) in [(0, "101"), (1, "431")] {
            let count = HeadLimits::default().max_fields - REQUEST.matches(": ").count() + extra;
            let mut attacker = server.connect();
            attacker.write_all(REQUEST.strip_suffix(end).unwrap().as_bytes()).unwrap();
            attacker.write_all(("\r\na:b".repeat(count) + end).as_bytes()).unwrap();
            attacker.shutdown(Shutdown::Write).unwrap();
            assert_eq!(status(&mut attacker), status_code);
            server.assert_serves();
        }
        server.assert_ended(&["Abnormal", "Handshake(TooManyFields)"]);
        server.assert_held(HeadLimits::default().max_len);
    });
}

#[test]
fn connections_beyond_max_connections_get_503_or_nothing() {
    alone(|| {
        let head = HeadLimits { timeout: Some(Duration::from_secs(2)), ..HeadLimits::default() };
        let server =
            Attacked::start(ServerConfig { head, max_connections: Some(10), ..ServerConfig::default() });
        let mut other = server.upgraded();
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.connect()).collect();
        assert_echoes(&mut other);
        let answers: Vec<_> = attackers.iter_mut().map(status).collect();
        let count = |status| answers.iter().filter(|answer| *answer == status).count();
        assert_eq!((count("408"), count("503"), count("")), (9, 64, ATTACKERS - 9 - 64));
        assert_echoes(&mut other);
        server.assert_held(0);
    });
}

#[test]
fn ten_thousand_connects_and_resets_leave_nothing_behind() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let message = [REQUEST.as_bytes(), &frame(0x82, &[1; 50])].concat();
        let files = open_files();
        for i in 0..10_000 {
            let mut attacker = server.connect();
            // At once, inside the head, after it, and inside a message.
            let sent = [0, 100, REQUEST.len(), message.len() - 10][i % 4];
            attacker.write_all(&message[..sent]).unwrap();
            SockRef::from(&attacker).set_linger(Some(Duration::ZERO)).unwrap();
            drop(attacker);
            if i % 250 == 0 {
                // What came before has been accepted then, so the backlog has room.
                server.assert_serves();
            }
        }
        server.assert_serves();
        server.assert_left(0);
        assert_eventually(|| open_files() <= files);
        server.assert_held(0);
    });
}

// Frames

#[test]
fn pings_without_reading_hold_one_pong_whatever_max_pongs_per_read() {
    alone(|| {
        let connection = Config { max_pongs_per_read: usize::MAX, write_timeout: None, ..Config::default() };
        let server = Attacked::start(ServerConfig { connection, ..ServerConfig::default() });
        let mut attacker = server.upgraded();
        // 64 MiB of pings. As many pongs could not be held.
        let mut flood = Vec::new();
        for i in 0..1000_u32 {
            flood.extend(frame(0x89, &i.to_be_bytes().repeat(31)));
        }
        for i in 0..520 {
            attacker.write_all(&flood).unwrap();
            if i % 100 == 0 {
                server.assert_serves();
            }
        }
        server.assert_held(Config::default().high_water);
        // The newest is answered.
        attacker.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
        let answers = frames(&read_to_end(&mut attacker));
        assert!(answers.len() < 260_000, "{} answers", answers.len());
        let [.., (0x8a, pong), (0x88, close)] = &answers[..] else { panic!("no pong and close") };
        assert_eq!((&pong[..4], &close[..]), (&999_u32.to_be_bytes()[..], &1000_u16.to_be_bytes()[..]));
    });
}

#[test]
fn pings_without_reading_end_with_the_write_timeout() {
    alone(|| {
        let connection = Config { write_timeout: Some(Duration::from_secs(1)), ..Config::default() };
        let server = Attacked::start(ServerConfig { connection, ..ServerConfig::default() });
        let mut attacker = server.deaf();
        let flood = frame(0x89, &[0; 125]).repeat(500);
        thread::scope(|scope| {
            scope.spawn(|| while attacker.write_all(&flood).is_ok() {});
            server.assert_serves();
        });
        server.assert_ends(1, "Timeout(Write)");
        server.assert_held(Config::default().high_water);
    });
}

/// Each queues up to the high-water mark and one message more, and holds a block of what comes next.
#[test]
fn messages_without_reading_are_held_up_at_high_water_and_end_with_the_write_timeout() {
    alone(|| messages_without_reading(ServerConfig::default(), 20));
}

fn messages_without_reading(config: ServerConfig, count: usize) {
    const MESSAGE: usize = 64 * 1024;
    let connection = Config { write_timeout: Some(Duration::from_secs(2)), ..Config::default() };
    let server = Attacked::start(ServerConfig { connection, ..config });
    // Nothing that compresses well.
    let noise = (0..MESSAGE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
    let message = frame(0x82, &noise.collect::<Vec<_>>());
    let attackers: Vec<_> = (0..count).map(|_| server.deaf()).collect();
    thread::scope(|scope| {
        for mut attacker in attackers {
            let message = &message;
            scope.spawn(move || while attacker.write_all(message).is_ok() {});
        }
        server.assert_serves();
    });
    server.assert_ends(count, "Timeout(Write)");
    server.assert_held(count * (Config::default().high_water + MESSAGE + 2 * BLOCK));
}

#[test]
fn a_million_fragments_count_as_their_bytes() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        for payload in [&b""[..], b"x"] {
            let mut attacker = server.upgraded();
            attacker.write_all(&frame(0x02, b"")).unwrap();
            let flood = frame(0x00, payload).repeat(1000);
            for i in 0..1000 {
                attacker.write_all(&flood).unwrap();
                if i % 250 == 0 {
                    server.assert_serves();
                }
            }
            attacker.write_all(&frame(0x80, b"end")).unwrap();
            attacker.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
            let [(0x82, echo), (0x88, _)] = &frames(&read_to_end(&mut attacker))[..] else {
                panic!("no echo")
            };
            assert_eq!(echo.len(), 1_000_000 * payload.len() + 3);
            assert!(echo.ends_with(b"end"));
        }
        server.assert_held(WAITING * 1_000_000);
    });
}

#[test]
fn fragments_without_end_are_answered_with_1009_at_max_message() {
    alone(|| {
        let connection = Config { max_message: 100_000, ..Config::default() };
        let server = Attacked::start(ServerConfig { connection, ..ServerConfig::default() });
        let mut attacker = server.upgraded();
        attacker.write_all(&frame(0x02, b"")).unwrap();
        attacker.write_all(&frame(0x00, b"x").repeat(100_000)).unwrap();
        server.assert_serves();
        server.assert_left(1);
        attacker.write_all(&frame(0x00, b"x")).unwrap();
        server.assert_serves();
        assert_eq!(close_code(&mut attacker), 1009);
        drop(attacker);
        server.assert_ends(1, "Protocol(MessageTooLong { limit: 100000 })");
        server.assert_held(WAITING * 100_000);
    });
}

#[test]
fn lengths_that_are_never_sent_cost_what_arrived_and_end_with_the_pong_timeout() {
    alone(|| lengths_never_sent(ServerConfig::default(), 0x82, b"hello", 0));
}

/// Each attacker promises as much as may come, and sends little of it, which may cost the server a state.
fn lengths_never_sent(config: ServerConfig, first: u8, arrived: &[u8], state: usize) {
    let connection = Config {
        keepalive: Some(Duration::from_millis(500)),
        pong_timeout: Some(Duration::from_secs(1)),
        ..Config::default()
    };
    let promised = connection.max_message as u64;
    let server = Attacked::start(ServerConfig { connection, ..config });
    let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.upgraded()).collect();
    for attacker in &mut attackers {
        // 3 GiB, of all of them.
        attacker.write_all(&header(first, promised)).unwrap();
        attacker.write_all(arrived).unwrap();
        server.assert_serves();
    }
    for attacker in &mut attackers {
        assert_eq!(close_code(attacker), 1011);
    }
    drop(attackers);
    server.assert_ends(ATTACKERS, "Timeout(Pong)");
    server.assert_held(ATTACKERS * (WAITING * arrived.len() + state));
}

/// By `max_frame`, with 1009.
#[test]
fn a_length_that_is_never_sent_is_refused_by_its_header() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let limit = Config::default().max_frame;
        let mut attacker = server.upgraded();
        attacker.write_all(&header(0x82, limit as u64 + 1)).unwrap();
        server.assert_serves();
        assert_eq!(close_code(&mut attacker), 1009);
        drop(attacker);
        server.assert_ends(1, &format!("Protocol(FrameTooLong {{ len: {}, limit: {limit} }})", limit + 1));
        server.assert_held(0);
    });
}

#[test]
fn a_reset_inside_a_message_ends_the_connection() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let mut attacker = server.upgraded();
        attacker.write_all(&header(0x82, 1024 * 1024)).unwrap();
        attacker.write_all(&FILLER).unwrap();
        server.assert_serves();
        SockRef::from(&attacker).set_linger(Some(Duration::ZERO)).unwrap();
        drop(attacker);
        let end = server.ends.recv_timeout(LIMIT).unwrap();
        assert!(end == "Abnormal" || end.starts_with("Io("), "{end}");
        server.assert_left(0);
        server.assert_serves();
        server.assert_held(1024 * 1024);
    });
}

// Peers that are half there

#[test]
fn peers_that_vanished_end_with_the_pong_timeout() {
    alone(|| {
        let connection = Config {
            keepalive: Some(Duration::from_millis(500)),
            pong_timeout: Some(Duration::from_secs(1)),
            ..Config::default()
        };
        let server = Attacked::start(ServerConfig { connection, ..ServerConfig::default() });
        let files = open_files();
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| server.upgraded()).collect();
        server.assert_serves();
        server.assert_ends(ATTACKERS, "Timeout(Pong)");
        // Their own ends are left.
        assert_eventually(|| open_files() <= files + attackers.len());
        server.assert_held(0);
    });
}

#[test]
fn peers_that_close_half_of_tcp_end_at_once() {
    alone(|| {
        let server = Attacked::start(ServerConfig::default());
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.upgraded()).collect();
        for attacker in &mut attackers {
            attacker.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(attacker), b"");
        }
        server.assert_serves();
        server.assert_ends(ATTACKERS, "Abnormal");
        server.assert_held(0);
    });
}

#[test]
fn peers_that_do_not_finish_the_close_end_with_the_close_timeout() {
    alone(|| {
        let connection = Config { close_timeout: Some(Duration::from_secs(1)), ..Config::default() };
        let server = Attacked::start(ServerConfig { connection, ..ServerConfig::default() });
        let files = open_files();
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.upgraded()).collect();
        for attacker in &mut attackers {
            // A reserved opcode: the server closes, and waits for the end of TCP.
            attacker.write_all(&frame(0x83, b"")).unwrap();
        }
        let begun = Instant::now();
        server.assert_serves();
        assert_eventually(|| open_files() <= files + attackers.len());
        assert!(begun.elapsed() >= Duration::from_millis(500), "it did not wait");
        server.assert_ends(ATTACKERS, "Protocol(ReservedOpcode(3))");
        server.assert_held(0);
    });
}

#[cfg(feature = "deflate")]
mod compressed {
    use super::*;
    use crate::rt::ws::DeflateConfig;

    #[test]
    fn bombs_are_answered_with_1009_at_max_message() {
        alone(|| {
            let connection = Config { max_message: 1024 * 1024, ..Config::default() };
            let server = Attacked::start(ServerConfig { connection, ..takeover() });
            // 256 MiB each, in one frame and in many.
            let bomb = zeros(256 * 1024 * 1024 / 258);
            for len in [bomb.len(), 1000, 10] {
                let mut attacker = server.upgraded();
                let mut first = 0x42;
                for piece in bomb.chunks(len) {
                    // It is refused in the middle.
                    if attacker.write_all(&frame(first, piece)).is_err() {
                        break;
                    }
                    first = 0x00;
                }
                server.assert_serves();
                assert_eq!(close_code(&mut attacker), 1009);
            }
            server.assert_ends(3, "Protocol(MessageTooLong { limit: 1048576 })");
            server.assert_held(WAITING * 1024 * 1024);
        });
    }

    #[test]
    fn messages_without_reading_are_held_up_at_high_water_and_end_with_the_write_timeout() {
        // Compressing takes its time without optimisation.
        let deflate = DeflateConfig { level: 0, ..DeflateConfig::default() };
        let config = ServerConfig { deflate: Some(deflate), ..ServerConfig::default() };
        alone(|| messages_without_reading(config, 2));
    }

    #[test]
    fn lengths_that_are_never_sent_cost_a_state_each_and_end_with_the_pong_timeout() {
        alone(|| lengths_never_sent(takeover(), 0xc2, &zeros(8)[..10], DECOMPRESSOR));
    }

    /// Stored blocks of zeros, a byte a frame.
    #[test]
    fn a_hundred_thousand_fragments_count_as_their_bytes() {
        alone(|| {
            let server = Attacked::start(takeover());
            let mut attacker = server.upgraded();
            let block = [&[0, 0xff, 0xff, 0, 0][..], &[0; 0xffff]].concat();
            attacker.write_all(&frame(0x42, b"")).unwrap();
            for block in [&block, &block] {
                let flood: Vec<_> = block.iter().flat_map(|&byte| frame(0x00, &[byte])).collect();
                attacker.write_all(&flood).unwrap();
                server.assert_serves();
            }
            attacker.write_all(&frame(0x80, b"\0")).unwrap();
            attacker.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
            let [(0xc2, echo), (0x88, _)] = &frames(&read_to_end(&mut attacker))[..] else {
                panic!("no echo")
            };
            assert!(echo.len() < 1000, "{} bytes of zeros", echo.len());
            server.assert_held(WAITING * 2 * 0xffff + COMPRESSOR + DECOMPRESSOR);
        });
    }

    /// With context takeover each connection keeps its states.
    #[test]
    fn states_of_many_connections_are_as_large_as_documented() {
        alone(|| states(takeover(), ATTACKERS * (COMPRESSOR + DECOMPRESSOR)));
    }

    /// Without, all share those of the pool, and its budget.
    #[test]
    fn states_of_many_connections_are_shared_without_context_takeover() {
        let deflate = DeflateConfig {
            server_no_context_takeover: Some(true),
            client_no_context_takeover: Some(true),
            threshold: 0,
            ..DeflateConfig::default()
        };
        let config = ServerConfig { deflate: Some(deflate), ..ServerConfig::default() };
        alone(|| states(config, 4 * 1024 * 1024));
    }

    fn states(config: ServerConfig, bound: usize) {
        let server = Attacked::start(config);
        let mut attackers: Vec<_> = (0..ATTACKERS).map(|_| server.upgraded()).collect();
        for attacker in &mut attackers {
            attacker.write_all(&frame(0xc2, &zeros(8))).unwrap();
        }
        for attacker in &mut attackers {
            // Its answer has come, compressed, and it stays.
            attacker.read_exact(&mut [0; 5]).unwrap();
        }
        server.assert_serves();
        server.assert_left(ATTACKERS);
        server.assert_held(bound);
    }

    /// A compressed message of zeros: one, and 258 for each of so many matches.
    fn zeros(matches: usize) -> Vec<u8> {
        // A block of fixed codes: a literal, lengths of 258 at a distance of 1, the end; and the empty block, whose
        // last bytes are left out.
        let (begin, copy, end) = (&b"01000110000"[..], &b"1100010100000"[..], &b"0000000000"[..]);
        let bits = begin.iter().chain(std::iter::repeat_n(copy, matches).flatten()).chain(end);
        let mut bytes = Vec::with_capacity(matches * copy.len() / 8 + 4);
        for (i, bit) in bits.enumerate() {
            if i % 8 == 0 {
                bytes.push(0);
            }
            bytes[i / 8] |= (bit - b'0') << (i % 8);
        }
        bytes
    }

    /// The memory of states, as documented at `DeflateConfig`.
    const COMPRESSOR: usize = 316 * 1024;
    const DECOMPRESSOR: usize = 46 * 1024;

    /// Compresses for every client that offers it, and keeps the states.
    fn takeover() -> ServerConfig {
        ServerConfig { deflate: Some(DeflateConfig::default()), ..ServerConfig::default() }
    }
}

// The server

/// An echo server in a thread of its own, and what the process held before it was attacked.
struct Attacked {
    address: SocketAddr,
    handle: Handle,
    /// How connections and handshakes ended that did not end well.
    ends: mpsc::Receiver<String>,
    before: usize,
}

impl Attacked {
    fn start(config: ServerConfig) -> Self {
        let (ready, started) = mpsc::channel();
        let (tell, ends) = mpsc::channel();
        thread::spawn(move || {
            rt::block_on(async {
                let failed = tell.clone();
                let acceptor = Acceptor::new(config).on_failure(move |failure| {
                    let _ = failed.send(format!("{:?}", failure.error));
                    None
                });
                let server = Server::bind("127.0.0.1:0", acceptor).await.unwrap();
                ready.send((server.local_addr().unwrap(), server.handle())).unwrap();
                let serving = server.serve(move |mut ws, _request| {
                    let tell = tell.clone();
                    async move {
                        let ended: Result<(), Error> = async {
                            while let Some(message) = ws.recv().await? {
                                ws.feed(message).await?;
                            }
                            Ok(())
                        }
                        .await;
                        if let Err(error) = ended {
                            let _ = tell.send(format!("{error:?}"));
                        }
                    }
                });
                serving.await;
            });
        });
        let (address, handle) = started.recv().unwrap();
        let mut server = Self { address, handle, ends, before: 0 };
        server.assert_serves();
        server.before = memory("VmRSS:");
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client that has done its handshake, and offered compression.
    fn upgraded(&self) -> TcpStream {
        self.upgraded_by(
            &REQUEST.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        )
    }

    fn upgraded_by(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream
    }

    /// A client that is not going to read, nor is the system to do it in its place.
    fn deaf(&self) -> TcpStream {
        let stream = self.upgraded();
        SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
        stream
    }

    /// A client that behaves is served as ever.
    fn assert_serves(&self) {
        let mut other = self.upgraded_by(REQUEST);
        assert_echoes(&mut other);
        other.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
        assert_eq!(close_code(&mut other), 1000);
    }

    /// So many connections ended in this way, and none in another.
    fn assert_ends(&self, count: usize, how: &str) {
        self.assert_ended(&vec![how; count]);
    }

    fn assert_ended(&self, ends: &[&str]) {
        for (i, end) in ends.iter().enumerate() {
            assert_eq!(self.ends.recv_timeout(LIMIT).as_deref(), Ok(*end), "after {i}");
        }
        assert!(self.ends.try_recv().is_err());
    }

    /// So many connections are open.
    fn assert_left(&self, count: usize) {
        assert_eventually(|| self.handle.clients().len() == count);
    }

    /// The process never held more than so many bytes beyond what it held before, and what any server holds.
    fn assert_held(&self, bound: usize) {
        let grown = memory("VmHWM:") - self.before;
        println!("grew by {} KiB of {}", grown / 1024, (bound + WORKING) / 1024);
        assert!(grown <= bound + WORKING, "grew by {grown} bytes, not {bound} + {WORKING}");
    }
}

/// What the thread of a server keeps to lend, and as much for tasks, sockets and the attackers.
const WORKING: usize = 16 * 1024 * 1024;

/// How much a connection that waits may hold of what arrived ([`Config::max_message`]).
const WAITING: usize = 8;

/// What a connection is lent to read into, and to write from.
const BLOCK: usize = 132 * 1024;

/// More than the server can be expected to mind.
const ATTACKERS: usize = 200;

/// How long to wait for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static FILLER: [u8; 512 * 1024] = [b'x'; 512 * 1024];

// The attackers

/// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(payload);
    frame
}

fn header(first: u8, len: u64) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..126 => header.push(0x80 | len as u8),
        126..0x1_0000 => {
            header.push(0xfe);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0xff);
            header.extend(len.to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

/// The server's frames, each with its first byte and its payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            _ => (usize::from(*len), rest),
        };
        let (payload, rest) = rest.split_at(len);
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// What still comes, up to the end or to a reset.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    bytes
}

/// The status that a handshake was answered with; empty if it was not.
fn status(stream: &mut TcpStream) -> String {
    let answer = String::from_utf8(read_to_end(stream)).unwrap();
    answer.strip_prefix("HTTP/1.1 ").unwrap_or_default().chars().take(3).collect()
}

/// The code of the Close frame that comes last.
fn close_code(stream: &mut TcpStream) -> u16 {
    match frames(&read_to_end(stream)).pop() {
        Some((0x88, payload)) => u16::from_be_bytes([payload[0], payload[1]]),
        last => panic!("{last:?} is no close"),
    }
}

fn assert_echoes(stream: &mut TcpStream) {
    stream.write_all(&frame(0x81, b"still there?")).unwrap();
    let mut echo = [0; 14];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x81\x0cstill there?");
}

// What is told of the process

/// Runs a test in a process of its own.
fn alone<F: FnOnce()>(test: F) {
    const ALONE: &str = "WS_HOSTILE_ALONE";
    if env::var_os(ALONE).is_some() {
        return test();
    }
    // The crate, the path of the test, and what was given.
    let (_crate, path) = type_name::<F>().split_once("::").unwrap();
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", path.trim_end_matches("::{{closure}}")])
        .env(ALONE, "")
        // What a thread keeps is told of one.
        .env("ASYNC_STD_THREAD_COUNT", "1")
        .output()
        .unwrap();
    let [told, complained] = [&run.stdout, &run.stderr].map(|output| String::from_utf8_lossy(output));
    assert!(run.status.success() && told.contains("1 passed"), "{told}{complained}");
    println!("{told}");
}

fn assert_eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(10));
    }
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux tells").count()
}

/// Resident memory in bytes: `VmRSS:`, or the most that it ever was, `VmHWM:`.
fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("there is such a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kibibytes");
    kib * 1024
}
