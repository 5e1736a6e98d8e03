//! The servers that have pages, too: started, asked for one, and spoken to.

mod process;

use std::time::Duration;

use http_body_util::Empty;
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use process::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use ws_tokio::{
    Bytes, ClientConfig, CloseCode, Error, HandshakeError, client_request, connect, connect_with,
    http::{HeaderValue, Request, StatusCode, Version, header},
};

#[test]
fn hyper_server_serves_a_page_and_a_websocket() {
    serves_a_page_and_a_websocket(env!("CARGO_BIN_EXE_hyper_server"));
}

#[test]
fn axum_server_serves_a_page_and_a_websocket() {
    serves_a_page_and_a_websocket(env!("CARGO_BIN_EXE_axum_server"));
}

#[tokio::main(flavor = "current_thread")]
async fn serves_a_page_and_a_websocket(program: &str) {
    let server = Process::start(program, &["--listen", "127.0.0.1:0"]);
    let address = server.url.strip_prefix("http://").and_then(|url| url.strip_suffix('/')).unwrap();
    let conversation = async {
        let page = page(address).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("new WebSocket("), "{page}");

        let url = format!("ws://{}/ws", address);
        let (mut ws, _) = connect(&url).await.unwrap();
        ws.send("hello").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
        ws.close(CloseCode::NORMAL, "").await.unwrap();

        let mut request = client_request(&url).unwrap();
        request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
        let Err(Error::Handshake(HandshakeError::Status(refused))) =
            connect_with(request, ClientConfig::default()).await
        else {
            panic!("a page of another site is let in");
        };
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);

        assert_eq!(connect_over_http_2(address).await, StatusCode::OK);
    };
    tokio::time::timeout(LIMIT, conversation).await.expect("the server hangs");
}

async fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

async fn connect_over_http_2(address: &str) -> StatusCode {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::connect(format!("http://{address}/ws"))
        .version(Version::HTTP_2)
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new());
    client.send_request(request.unwrap()).await.unwrap().status()
}

const LIMIT: Duration = Duration::from_secs(30);
