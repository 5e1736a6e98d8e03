//! Clients that mean harm, or behave as if they did, against a real server over loopback: each is answered or dropped,
//! and others are served meanwhile.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use ws_tokio::{Acceptor, Error, HandshakeError, HeadLimits, ProtocolError, Server, ServerConfig, connect};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn three_hundred_kilobytes_of_fields_are_answered_with_431() {
    let (url, mut ends) = echo_server(ServerConfig::default()).await;
    let mut client = raw(&url).await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let field = format!("X-Field: {}\r\n", "x".repeat(990));
    for _ in 0..300 {
        client.write_all(field.as_bytes()).await.unwrap();
    }
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 431 "));
    drop(client);
    assert!(matches!(ends.recv().await, Some(Err(Error::Handshake(HandshakeError::HeadTooLong)))));
    assert_serves(&url).await;
}

#[tokio::test]
async fn a_request_line_without_end_is_answered_with_414() {
    let (url, mut ends) = echo_server(ServerConfig::default()).await;
    let mut client = raw(&url).await;
    client.write_all(format!("GET /{}", "x".repeat(20_000)).as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 414 "));
    drop(client);
    assert!(matches!(ends.recv().await, Some(Err(Error::Handshake(HandshakeError::TargetTooLong)))));
    assert_serves(&url).await;
}

#[tokio::test]
async fn a_reset_inside_a_message_ends_the_connection() {
    let (url, mut ends) = echo_server(ServerConfig::default()).await;
    let mut client = raw(&url).await;
    client.write_all(REQUEST).await.unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    // Half of a binary message of 1 MiB.
    client.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]).await.unwrap();
    client.write_all(&vec![0; 512 * 1024]).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(matches!(ends.recv().await, Some(Err(Error::Io(_) | Error::Abnormal))));
    assert_serves(&url).await;
}

#[tokio::test]
async fn a_length_that_is_never_sent_is_refused_by_its_header() {
    let (url, mut ends) = echo_server(ServerConfig::default()).await;
    let mut client = raw(&url).await;
    client.write_all(REQUEST).await.unwrap();
    client.write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let answer = answer_bytes(&mut client).await;
    let close = answer.iter().rposition(|&byte| byte == 0x88).expect("a close frame");
    assert_eq!(&answer[close + 2..close + 4], 1009_u16.to_be_bytes());
    drop(client);
    assert!(matches!(ends.recv().await, Some(Err(Error::Protocol(ProtocolError::FrameTooLong { .. })))));
    assert_serves(&url).await;
}

#[tokio::test]
async fn two_hundred_slow_handshakes_hold_nobody_up() {
    let head = HeadLimits { timeout: Some(Duration::from_secs(3600)), ..HeadLimits::default() };
    let (url, _ends) = echo_server(ServerConfig { head, ..ServerConfig::default() }).await;
    let mut slow = Vec::new();
    for i in 0..200 {
        let mut client = raw(&url).await;
        client.write_all(&REQUEST[..i % REQUEST.len()]).await.unwrap();
        slow.push(client);
    }
    assert_serves(&url).await;
}

/// A server that tells how each of its connections ended.
async fn echo_server(
    config: ServerConfig,
) -> (String, tokio::sync::mpsc::UnboundedReceiver<Result<(), Error>>) {
    let (ends, ended) = tokio::sync::mpsc::unbounded_channel();
    let refused = ends.clone();
    let acceptor = Acceptor::new(config).on_failure(move |failure| {
        if let Error::Handshake(error) = failure.error {
            let _ = refused.send(Err(error.clone().into()));
        }
        None
    });
    let server = Server::bind("127.0.0.1:0", acceptor).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    tokio::spawn(server.serve(move |mut ws, _request| {
        let ends = ends.clone();
        async move {
            let end = async {
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            };
            let _ = ends.send(end.await);
        }
    }));
    (url, ended)
}

async fn raw(url: &str) -> TcpStream {
    TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/')).await.unwrap()
}

async fn answer_bytes(client: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    timeout(Duration::from_secs(20), client.read_to_end(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn answer(client: &mut TcpStream) -> String {
    String::from_utf8(answer_bytes(client).await).unwrap()
}

/// A client that behaves is served as ever.
async fn assert_serves(url: &str) {
    let conversation = async {
        let (mut ws, _) = connect(url).await?;
        ws.send("still there?").await?;
        ws.recv().await
    };
    let message = timeout(Duration::from_secs(20), conversation).await.unwrap().unwrap();
    assert_eq!(message, Some("still there?".into()));
}
