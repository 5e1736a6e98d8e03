//! What is told to the crate `tracing`.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use ws_tokio::{ClientConfig, CloseCode, ServerConfig, accept, accept_with, client, client_request};

#[tokio::test]
async fn connections_that_open_and_close_are_told() {
    let (told, _guard) = listen();
    let (a, b) = duplex(1024);
    let request = client_request("ws://localhost/").unwrap();
    let config = ClientConfig { subprotocols: vec!["chat".into()], ..ClientConfig::default() };
    let server_config = ServerConfig { subprotocols: vec!["chat".into()], ..ServerConfig::default() };
    let (client, server) = tokio::join!(client(a, &request, &config), accept_with(b, server_config));
    let (mut client, mut server) = (client.unwrap().0, server.unwrap().0);
    let (closed, received) = tokio::join!(client.close(CloseCode::NORMAL, "bye"), server.recv());
    closed.unwrap();
    assert_eq!(received.unwrap(), None);
    let told = told.lock().unwrap();
    for line in [
        "DEBUG ws connection open role=Server subprotocol=\"chat\"",
        "DEBUG ws connection open role=Client subprotocol=\"chat\"",
        "DEBUG ws connection closed role=Server code=1000 reason=\"bye\"",
        "DEBUG ws connection closed role=Client code=1000 reason=\"\"",
    ] {
        assert_eq!(told.iter().filter(|told| *told == line).count(), 1, "{line} in {told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[tokio::test]
async fn a_connection_that_breaks_the_protocol_is_told() {
    let (told, _guard) = listen();
    let (mut raw, b) = duplex(1024);
    raw.write_all(REQUEST).await.unwrap();
    raw.write_all(&[0x81, 0x00]).await.unwrap();
    let (mut server, _) = accept(b).await.unwrap();
    let peer = async {
        raw.shutdown().await.unwrap();
        raw.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (received, ()) = tokio::join!(server.recv(), peer);
    let error = received.unwrap_err();
    let told = told.lock().unwrap();
    assert_eq!(told[1], format!("DEBUG ws connection failed role=Server code=1006 error={error}"));
    assert_eq!(told.len(), 2, "{told:#?}");
}

#[tokio::test]
async fn a_refused_request_is_told() {
    let (told, _guard) = listen();
    let (mut raw, b) = duplex(1024);
    raw.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    raw.shutdown().await.unwrap();
    assert!(accept(b).await.is_err());
    let line = "DEBUG ws handshake refused error=an upgrade to websocket is required";
    assert_eq!(*told.lock().unwrap(), [line]);
}

#[tokio::test]
async fn a_client_that_is_refused_is_told() {
    let (told, _guard) = listen();
    let (a, mut raw) = duplex(1024);
    raw.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let request = client_request("ws://localhost/").unwrap();
    let error = client(a, &request, &ClientConfig::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(*told.lock().unwrap(), [format!("DEBUG ws handshake failed error={error}")]);
}

// Helpers

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What this thread tells from here on, a line an event.
fn listen() -> (Arc<Mutex<Vec<String>>>, tracing::subscriber::DefaultGuard) {
    let told = Arc::default();
    let guard = tracing::subscriber::set_default(Listener { told: Arc::clone(&told) });
    (told, guard)
}

struct Listener {
    told: Arc<Mutex<Vec<String>>>,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "ws"
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let line = format!("{} {} {}{}", metadata.level(), metadata.target(), line.message, line.fields);
        self.told.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => write!(self.fields, " {name}={value:?}").unwrap(),
        }
    }
}
