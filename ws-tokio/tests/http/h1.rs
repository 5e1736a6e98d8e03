//! What is HTTP/1.1's own, on either server.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use ws_tokio::{
    ClientConfig, CloseCode, DeflateConfig, Error, HandshakeError, OriginPolicy, ServerConfig,
    client_request, connect, connect_with,
    http::{HeaderValue, StatusCode, header},
};

use super::{Server, axum, block_on, hyper};

#[test]
fn conversation_with_a_client_of_this_crate_is_compressed() {
    let deflate = Some(DeflateConfig::default());
    let config = ServerConfig { deflate, subprotocols: vec!["chat".into()], ..ServerConfig::default() };
    over_both(config, async |mut server| {
        let config = ClientConfig { subprotocols: vec!["chat".into()], ..ClientConfig::default() };
        let (mut ws, response) = connect_with(client_request(&server.url()).unwrap(), config).await.unwrap();
        assert!(response.headers().contains_key("sec-websocket-extensions"));
        assert_eq!(ws.subprotocol(), Some("chat"));
        for text in ["which subprotocol?", "a", &"a long message ".repeat(10_000)] {
            ws.send(text).await.unwrap();
            let answer = if text.ends_with('?') { "chat" } else { text };
            assert_eq!(ws.recv().await.unwrap(), Some(answer.into()));
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        assert!(server.outcome().await.unwrap().clean);
    });
}

#[test]
fn frames_right_behind_the_request_are_received() {
    over_both(ServerConfig::default(), async |mut server| {
        // Text "hi", close 1000; masked with zeros.
        let frames = b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe8";
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[&request("/ws", ""), &frames[..]].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.ends_with(b"\r\n\r\n\x81\x02hi\x88\x02\x03\xe8"), "{}", answer.escape_ascii());
        drop(stream);
        assert_eq!(server.outcome().await.unwrap().code, CloseCode::NORMAL);
    });
}

#[test]
fn page_and_then_a_websocket_on_one_connection() {
    over_both(ServerConfig::default(), async |_server| {
        let mut stream = TcpStream::connect(_server.address).await.unwrap();
        let both = [&b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"[..], &request("/ws", "")].concat();
        stream.write_all(&both).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") || !answer.windows(12).any(|bytes| bytes == b"HTTP/1.1 101") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(answer.windows(6).any(|bytes| bytes == b"a page"));
    });
}

#[test]
fn s4_2_2_faults_of_an_upgrade_have_their_status() {
    let cases: [(&str, &str, u16); 7] = [
        ("GET", "Upgrade: h2c", 426),
        ("GET", "Connection: close", 426),
        ("GET", "Sec-WebSocket-Key: short", 400),
        ("GET", "Sec-WebSocket-Version: 8", 426),
        ("GET", "Host: user@example.com", 400),
        ("GET", "Content-Length: 5", 400),
        ("POST", "Host: example.com", 405),
    ];
    over_both(ServerConfig::default(), async move |server| {
        for (method, field, expected) in cases {
            let (name, _) = field.split_once(": ").unwrap();
            let head = String::from_utf8(request("/ws", "")).unwrap();
            let lines = head.trim_end().split("\r\n").filter(|line| !line.starts_with(&format!("{name}: ")));
            let head = lines.chain([field, "", "hello"]).collect::<Vec<_>>().join("\r\n");
            assert_eq!(status(server.address, &head.replacen("GET", method, 1)).await, expected, "{field}");
        }
    });
}

#[test]
fn s4_4_version_8_is_taken_where_it_is_allowed() {
    over_both(ServerConfig { version_8: true, ..ServerConfig::default() }, async |server| {
        let head = String::from_utf8(request("/ws", "")).unwrap();
        assert_eq!(status(server.address, &head.replace("Version: 13", "Version: 8")).await, 101);
        assert_eq!(status(server.address, &head.replace("Version: 13", "Version: 9")).await, 426);
    });
}

#[test]
fn s4_1_refusal_is_told_to_a_client_of_this_crate() {
    over_both(ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() }, async |server| {
        let mut request = client_request(&server.url()).unwrap();
        request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        let refused = connect_with(request, ClientConfig::default()).await;
        let Err(Error::Handshake(HandshakeError::Status(response))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.body(), "the origin is not allowed\n");
        assert!(connect(&server.url()).await.is_ok());
    });
}

// Helpers

fn over_both(config: ServerConfig, test: impl AsyncFn(Server)) {
    let config = Arc::new(config);
    block_on(async {
        test(hyper::serve(Arc::clone(&config)).await).await;
        test(axum::serve(config).await).await;
    });
}

impl Server {
    fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }
}

fn request(target: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
    .into_bytes()
}

/// The status of the answer to a request.
async fn status(address: SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}
