//! The examples that drive the core themselves: `std_blocking`, `epoll` and `in_memory`.

mod process;

use std::{process::Command, time::Duration};

use process::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use ws_tokio::{CloseCode, Error, Event, HandshakeError, Message, connect, http::StatusCode};

const STD_BLOCKING: &str = env!("CARGO_BIN_EXE_std_blocking");
const EPOLL: &str = env!("CARGO_BIN_EXE_epoll");
const SERVERS: [&str; 2] = [STD_BLOCKING, EPOLL];

#[tokio::test]
async fn messages_of_any_length_come_back() {
    for (program, deflate) in
        SERVERS.into_iter().flat_map(|program| [(program, "off"), (program, "takeover")])
    {
        let server = start(program, &["--deflate", deflate]);
        let (mut ws, _) = connect(&server.url).await.unwrap();
        for len in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            for message in [Message::from("a".repeat(len)), Message::from(vec![7; len])] {
                // Sending waits for room, as the server does, so both go on at a time.
                ws.send(message.clone()).await.unwrap();
                assert!(ws.recv().await.unwrap().unwrap() == message, "{program} {len}");
            }
        }
        ws.close(CloseCode::NORMAL, "bye").await.unwrap();
        assert!(ws.closed().unwrap().clean, "{program}");
    }
}

#[tokio::test]
async fn messages_sent_at_once_come_back_in_order() {
    for program in SERVERS {
        let server = start(program, &[]);
        let (mut ws, _) = connect(&server.url).await.unwrap();
        // More than one read takes, less than the sockets hold.
        for i in 0..1000 {
            ws.feed(format!("{i} {}", "x".repeat(100))).await.unwrap();
        }
        ws.flush().await.unwrap();
        for i in 0..1000 {
            let message = ws.recv().await.unwrap().unwrap();
            assert!(message.as_text().unwrap().starts_with(&format!("{i} x")), "{program} {i}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_websocket_is_refused() {
    for program in SERVERS {
        let server = start(program, &["--path", "/chat"]);
        let Err(Error::Handshake(HandshakeError::Status(refused))) = connect(&server.url).await else {
            panic!("{program} serves another path");
        };
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{program}");
        let answer = answer_to(&server, "GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 426 "), "{program}: {answer}");
    }
}

#[tokio::test]
async fn a_peer_that_is_silent_is_not_waited_for() {
    for program in SERVERS {
        let server = start(program, &["--handshake-timeout", "0.1", "--keepalive", "0.1"]);
        let answer = answer_to(&server, "GET / HTTP/1.1\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{program}: {answer}");
        let (mut ws, _) = connect(&server.url).await.unwrap();
        assert!(matches!(within(ws.recv_ref()).await.unwrap(), Some(Event::Ping(b""))), "{program}");
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_left() {
    for program in SERVERS {
        let server = start(program, &["--close-timeout", "0.1"]);
        let (mut ws, _) = connect(&server.url).await.unwrap();
        ws.get_mut().write_all(&[0xff; 2]).await.unwrap();
        assert_eq!(within(ws.recv()).await.unwrap(), None, "{program}");
        assert_eq!(ws.closed().unwrap().code, CloseCode::PROTOCOL_ERROR, "{program}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_not_read_from_and_delays_nobody() {
    for program in SERVERS {
        let server = start(program, &[]);
        let (mut ws, _) = connect(&server.url).await.unwrap();
        // Short ones, so that some are left in the server's buffer when nothing more comes.
        let message = Message::from(vec![7; 1024]);
        let mut count = 0;
        // A second in which nothing moves; the rest of the message stays queued.
        while timeout(Duration::from_secs(1), ws.send(message.clone())).await.is_ok() {
            count += 1;
            assert!(count < 128 * 1024, "{program} takes what it cannot give back");
        }
        let (mut other, _) = connect(&server.url).await.unwrap();
        other.send("hello").await.unwrap();
        assert_eq!(within(other.recv()).await.unwrap(), Some(Message::from("hello")), "{program}");
        for _ in 0..count {
            assert!(within(ws.recv()).await.unwrap().unwrap() == message, "{program}");
        }
    }
}

#[tokio::test]
async fn at_the_limit_of_connections_the_next_is_served_when_one_has_left() {
    for program in SERVERS {
        let server = start(program, &["--max-connections", "2"]);
        let (first, _) = connect(&server.url).await.unwrap();
        let (mut second, _) = connect(&server.url).await.unwrap();
        let url = server.url.clone();
        let third = tokio::spawn(async move { connect(&url).await.map(|(ws, _)| ws) });
        for _ in 0..100 {
            second.send("hello").await.unwrap();
            assert_eq!(second.recv().await.unwrap(), Some(Message::from("hello")));
        }
        assert!(!third.is_finished(), "{program}");
        drop(first);
        let mut third = within(third).await.unwrap().unwrap();
        third.send("hello").await.unwrap();
        assert_eq!(third.recv().await.unwrap(), Some(Message::from("hello")));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    for program in SERVERS {
        let limited = format!("ulimit -n 20 && exec {program} --listen 127.0.0.1:0");
        let server = Process::start("sh", &["-c", &limited]);
        let (mut first, _) = connect(&server.url).await.unwrap();
        let mut others = Vec::new();
        for _ in 0..30 {
            others.push(TcpStream::connect(address(&server)).await.unwrap());
        }
        first.send("hello").await.unwrap();
        assert_eq!(within(first.recv()).await.unwrap(), Some(Message::from("hello")), "{program}");
        drop(others);
        let (mut last, _) = within(connect(&server.url)).await.unwrap();
        last.send("hello").await.unwrap();
        assert_eq!(within(last.recv()).await.unwrap(), Some(Message::from("hello")), "{program}");
    }
}

#[tokio::test]
async fn epoll_serves_hundreds_of_connections_at_once() {
    let server = start(EPOLL, &[]);
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(connect(&server.url).await.unwrap().0);
    }
    for _ in 0..3 {
        for (i, ws) in clients.iter_mut().enumerate() {
            ws.send(format!("I am {i}")).await.unwrap();
        }
        for (i, ws) in clients.iter_mut().enumerate() {
            assert_eq!(ws.recv().await.unwrap(), Some(Message::from(format!("I am {i}"))));
        }
        // Others take the places of some.
        clients.drain(..100);
        for _ in 0..100 {
            clients.push(connect(&server.url).await.unwrap().0);
        }
    }
}

#[test]
fn in_memory_shows_a_connection_from_its_handshake_to_its_end() {
    let runs = [(); 2].map(|()| Command::new(env!("CARGO_BIN_EXE_in_memory")).output().unwrap());
    assert!(runs[0].status.success());
    assert_eq!(runs[0].stdout, runs[1].stdout, "every run is the same");
    let output = String::from_utf8(runs[0].stdout.clone()).unwrap();
    let mut lines = output.lines();
    for expected in [
        " 0.01 s  client > server  GET /chat HTTP/1.1",
        " 0.02 s  client < server  HTTP/1.1 101 Switching Protocols",
        " 0.03 s  Server is told Text(\"hello\")",
        " 0.04 s  Client is told Text(\"hello\")",
        "20.03 s  KeepAlive: the peer was silent",
        "20.04 s  Client is told Ping([])",
        "20.07 s  client < server  [end]",
        "20.07 s  Client closed: 1000 \"\"",
        "20.07 s  Server closed: 1000 \"bye\"",
    ] {
        assert!(
            lines.any(|line| line.trim_start().starts_with(expected.trim_start())),
            "{expected}\n{output}"
        );
    }
}

fn start(program: &str, args: &[&str]) -> Process {
    Process::start(program, &[&["--listen", "127.0.0.1:0"], args].concat())
}

fn address(server: &Process) -> &str {
    server.url.strip_prefix("ws://").and_then(|url| url.strip_suffix('/')).unwrap()
}

/// What the server says to these bytes up to its end, while the sending half stays open.
async fn answer_to(server: &Process, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address(server)).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn within<F: Future>(future: F) -> F::Output {
    // Less than the keepalive, as its pings would wake a server that forgot to go on.
    timeout(Duration::from_secs(15), future).await.expect("the server hangs")
}
