//! WebSockets on servers of hyper and axum, over HTTP/1.1 and HTTP/2.
//!
//! The tests of this file run on either server over either version of HTTP, with hyper as the client; `h1.rs` has what
//! is HTTP/1.1's own, with the client of this crate, and `hyper.rs` and `axum.rs` what is the server's own. A test
//! fails when it takes longer than [`LIMIT`].

mod axum;
mod h1;
mod hyper;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    ext::Protocol,
};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use ws_proto::Connection;
use ws_tokio::{
    Bytes, CloseCode, Closed, Config, DeflateConfig, Error, Event, Message, OriginPolicy, ServerConfig,
    WebSocket,
    http::{Method, Request, Response, StatusCode, Upgraded, Version, request::Builder},
};

// What is accepted

#[test]
fn s5_6_messages_come_back() {
    over_all(ServerConfig::default(), async |_server, mut client| {
        let (mut ws, _) = client.open(client.request()).await;
        let long = [Message::from("ž🦀".repeat(100_000)), vec![7; 1024 * 1024].into()];
        for message in
            ["".into(), "hello".into(), vec![0; 125].into(), vec![1; 70_000].into()].into_iter().chain(long)
        {
            ws.send(message.clone()).await.unwrap();
            assert_eq!(ws.recv().await.unwrap(), Some(message));
        }
    });
}

#[test]
fn s5_5_2_pings_are_answered() {
    over_all(ServerConfig::default(), async |_server, mut client| {
        let (mut ws, _) = client.open(client.request()).await;
        ws.ping(b"are you there").await.unwrap();
        assert!(matches!(ws.recv_ref().await, Ok(Some(Event::Pong(b"are you there")))));
    });
}

#[test]
fn s7_1_2_closing_handshake_is_told_on_both_sides() {
    over_all(ServerConfig::default(), async |mut server, mut client| {
        let (mut ws, _) = client.open(client.request()).await;
        ws.close(CloseCode::from(4000), "enough").await.unwrap();
        let closed = server.outcome().await.unwrap();
        assert_eq!((closed.code, &*closed.reason), (CloseCode::from(4000), "enough"));
        assert!(closed.clean && ws.closed().unwrap().clean);
    });
}

#[test]
fn s7_1_5_client_that_vanishes_is_an_error() {
    over_all(ServerConfig::default(), async |mut server, mut client| {
        let (mut ws, _) = client.open(client.request()).await;
        ws.send("last words").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("last words".into()));
        drop(ws);
        assert!(matches!(server.outcome().await, Err(Error::Abnormal | Error::Io(_))));
    });
}

#[test]
fn s4_2_2_subprotocol_of_the_configuration_is_chosen() {
    let config = ServerConfig { subprotocols: vec!["b".into(), "c".into()], ..ServerConfig::default() };
    over_all(config, async |_server, mut client| {
        let request = client.request().header("sec-websocket-protocol", "a, c, b");
        let (mut ws, response) = client.open(request).await;
        assert_eq!(response.headers()["sec-websocket-protocol"], "c");
        ws.send("which subprotocol?").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("c".into()));
    });
}

#[test]
fn rfc7692_s7_compression_is_agreed_on() {
    let config = ServerConfig { deflate: Some(DeflateConfig::default()), ..ServerConfig::default() };
    over_all(config, async |_server, mut client| {
        let request = client.request().header("sec-websocket-extensions", "permessage-deflate");
        let (_ws, response) = client.open(request).await;
        let field = response.headers()["sec-websocket-extensions"].to_str().unwrap();
        assert!(field.starts_with("permessage-deflate"), "{field}");
    });
}

#[test]
fn rfc8441_s5_answer_has_the_fields_of_its_version_of_http() {
    over_all(ServerConfig::default(), async |_server, mut client| {
        let (_ws, response) = client.open(client.request()).await;
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert_eq!(response.headers().contains_key(name), client.is_1(), "{name}");
        }
        assert!(!response.headers().contains_key("content-length"));
        assert!(!response.headers().contains_key("transfer-encoding"));
    });
}

#[test]
fn rfc8441_s5_end_of_the_stream_is_the_end_of_tcp() {
    // Without deadlines: only the end of the other side's stream ends a connection.
    let connection = Config { close_timeout: None, ..Config::default() };
    over_all(ServerConfig { connection, ..ServerConfig::default() }, async |mut server, mut client| {
        let mut stream = client.open(client.request()).await.0.into_inner();
        // Close 1000, masked with zeros.
        stream.write_all(b"\x88\x82\0\0\0\0\x03\xe8").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"\x88\x02\x03\xe8");
        stream.shutdown().await.unwrap();
        assert!(server.outcome().await.unwrap().clean);
    });
}

#[test]
fn rfc8441_s4_one_connection_serves_pages_and_websockets() {
    over_all(ServerConfig::default(), async |mut server, mut client| {
        assert_eq!(client.page().await, "a page");
        let (mut one, _) = client.open(client.request()).await;
        if client.is_1() {
            client = Client::new(server.address, Version::HTTP_11).await;
        }
        let (mut two, _) = client.open(client.request()).await;
        for _ in 0..3 {
            one.send("1").await.unwrap();
            two.send("2").await.unwrap();
            assert_eq!(one.recv().await.unwrap(), Some("1".into()));
            assert_eq!(two.recv().await.unwrap(), Some("2".into()));
            if !client.is_1() {
                assert_eq!(client.page().await, "a page");
            }
        }
        one.close(CloseCode::NORMAL, "").await.unwrap();
        server.outcome().await.unwrap();
        two.send("still here").await.unwrap();
        assert_eq!(two.recv().await.unwrap(), Some("still here".into()));
    });
}

// What is refused

#[test]
fn s4_2_2_refusals_are_answered_with_their_status_and_say_why() {
    let config = ServerConfig {
        path: Some("/ws".into()),
        origins: OriginPolicy::List(vec!["https://example.com".into()]),
        ..ServerConfig::default()
    };
    type Fault = fn(Builder) -> Builder;
    let faults: [(Fault, u16, u16, &str); 5] = [
        (|request| request.header("sec-websocket-version", "13"), 426, 400, "Sec-WebSocket-Version is"),
        (|request| request.uri("http://example.com/ws/else"), 404, 404, "nothing at this path"),
        (|request| request.header("sec-websocket-protocol", "a, a"), 400, 400, "Sec-WebSocket-Protocol is"),
        (|request| request.header("sec-websocket-extensions", "a;"), 400, 400, "Sec-WebSocket-Extensions is"),
        (|request| request.header("origin", "https://evil.example"), 403, 403, "the origin is not allowed"),
    ];
    over_all(config, async move |_server, mut client| {
        for (fault, status_1, status_2, why) in faults {
            let response = client.fetch(fault(client.request())).await;
            let status = if client.is_1() { status_1 } else { status_2 };
            assert_eq!(response.status(), status, "{response:?}");
            assert!(std::str::from_utf8(response.body()).unwrap().contains(why), "{response:?}");
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
            if status == 426 || status == 400 && why.contains("Version") {
                assert_eq!(response.headers()["sec-websocket-version"], "13");
            }
        }
        // The connection goes on, if it may.
        assert_eq!(client.page().await, "a page");
    });
}

#[test]
fn s4_2_2_ordinary_request_is_told_what_is_there() {
    over_all(ServerConfig::default(), async |_server, mut client| {
        let response = client.fetch(client.get("/ws")).await;
        if client.is_1() {
            assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
            assert_eq!(response.headers()["upgrade"], "websocket");
        } else {
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()["allow"], "CONNECT");
        }
    });
}

#[test]
fn rfc8441_s4_connect_with_another_protocol_is_not_implemented() {
    over_all(ServerConfig::default(), async |_server, mut client| {
        if !client.is_1() {
            let request = client.request().extension(Protocol::from_static("connect-udp"));
            assert_eq!(client.fetch(request).await.status(), StatusCode::NOT_IMPLEMENTED);
        }
    });
}

// Servers

/// A server with a page at `/` and an echo at `/ws`, which also answers what its subprotocol is.
struct Server {
    address: SocketAddr,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
}

/// How a WebSocket of the server ended.
type Outcome = Result<Closed, Error>;

impl Server {
    /// How the next WebSocket ended that did.
    async fn outcome(&mut self) -> Outcome {
        self.outcomes.recv().await.expect("the server runs")
    }
}

async fn echo(mut ws: WebSocket<Upgraded>) -> Outcome {
    while let Some(message) = ws.recv().await? {
        let answer = match &message {
            Message::Text(text) if text == "which subprotocol?" => ws.subprotocol().unwrap_or("none").into(),
            _ => message,
        };
        ws.send(answer).await?;
    }
    Ok(ws.closed().expect("it has ended").clone())
}

// Clients

enum Client {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn new(address: SocketAddr, version: Version) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), version).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, version: Version) -> Self {
        let io = TokioIo::new(stream);
        if version == Version::HTTP_11 {
            let (client, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Self::One(client)
        } else {
            let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Two(client)
        }
    }

    fn is_1(&self) -> bool {
        matches!(self, Self::One(_))
    }

    fn get(&self, path: &str) -> Builder {
        match self {
            Self::One(_) => Request::get(path).header("host", "example.com"),
            Self::Two(_) => Request::get(format!("http://example.com{path}")).version(Version::HTTP_2),
        }
    }

    /// A request for the WebSocket.
    fn request(&self) -> Builder {
        let request = self.get("/ws").header("sec-websocket-version", "13");
        match self {
            Self::One(_) => request
                .header("upgrade", "websocket")
                .header("connection", "Upgrade")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            Self::Two(_) => request.method(Method::CONNECT).extension(Protocol::from_static("websocket")),
        }
    }

    async fn send(&mut self, request: Builder) -> Response<Incoming> {
        let request = request.body(Empty::new()).unwrap();
        match self {
            Self::One(client) => {
                client.ready().await.unwrap();
                client.send_request(request).await.unwrap()
            }
            Self::Two(client) => {
                client.ready().await.unwrap();
                client.send_request(request).await.unwrap()
            }
        }
    }

    async fn fetch(&mut self, request: Builder) -> Response<Bytes> {
        let (head, body) = self.send(request).await.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn page(&mut self) -> Bytes {
        let response = self.fetch(self.get("/")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    }

    async fn open(&mut self, request: Builder) -> (WebSocket<Upgraded>, Response<()>) {
        let mut response = self.send(request).await;
        let status = if self.is_1() { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
        assert_eq!(response.status(), status);
        let stream = TokioIo::new(::hyper::upgrade::on(&mut response).await.unwrap());
        let connection = Connection::client(&Config::default(), [7; 32], Instant::now());
        (WebSocket::from_upgraded(stream, connection), response.map(drop))
    }
}

// Harness

/// Runs a test on either server over either version of HTTP.
fn over_all(config: ServerConfig, test: impl AsyncFn(Server, Client)) {
    let config = Arc::new(config);
    block_on(async {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let server = hyper::serve(Arc::clone(&config)).await;
            let client = Client::new(server.address, version).await;
            test(server, client).await;
            let server = axum::serve(Arc::clone(&config)).await;
            let client = Client::new(server.address, version).await;
            test(server, client).await;
        }
    });
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("the test hangs") });
}

const LIMIT: Duration = Duration::from_secs(60);
