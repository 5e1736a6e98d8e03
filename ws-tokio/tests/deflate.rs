//! Compression through the adapter: what both ends agree on, and messages of all sizes over a socket and a pipe.

#![cfg(feature = "deflate")]

use tokio::{
    io::{AsyncRead, AsyncWrite, duplex},
    net::TcpStream,
    task::JoinHandle,
};
use ws_tokio::{
    ClientConfig, CloseCode, DeflateConfig, DeflatePool, Error, Fragment, HandshakeError, Message, Prepared,
    Server, ServerConfig, WebSocket, WindowBits, accept_with, client, client_request, connect, connect_with,
};

#[tokio::test]
async fn messages_are_echoed_compressed() {
    for deflate in [DeflateConfig::default(), no_takeover()] {
        let pool = deflate.pool.clone();
        let independent = deflate.server_no_context_takeover == Some(true);
        let (url, server) = serve(ServerConfig { deflate: Some(deflate), ..ServerConfig::default() }).await;
        let (mut ws, response) = connect(&url).await.unwrap();
        let answer = response.headers()["sec-websocket-extensions"].to_str().unwrap();
        assert!(answer.starts_with("permessage-deflate"), "{answer}");
        assert_eq!(answer.contains("server_no_context_takeover; client_no_context_takeover"), independent);
        talk(&mut ws, 1024 * 1024).await;
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        server.await.unwrap();
        assert!(pool.held() > 0, "the server compressed");
    }
}

#[tokio::test]
async fn either_end_may_do_without() {
    let compressing = ServerConfig { deflate: Some(DeflateConfig::default()), ..ServerConfig::default() };
    let silent = ClientConfig { deflate: None, ..ClientConfig::default() };
    for (server, client) in [
        (ServerConfig::default(), ClientConfig::default()),
        (compressing, silent.clone()),
        (ServerConfig::default(), silent),
    ] {
        let (url, server) = serve(server).await;
        let stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/')).await.unwrap();
        let request = client_request(&url).unwrap();
        let (mut ws, response) = ws_tokio::client(stream, &request, &client).await.unwrap();
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
        talk(&mut ws, 100_000).await;
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_pipe_that_holds_little_carries_compressed_messages() {
    for (server, client_deflate) in [
        (DeflateConfig::default(), DeflateConfig::default()),
        (no_takeover(), DeflateConfig { level: 9, threshold: 0, ..DeflateConfig::default() }),
        (
            DeflateConfig { client_max_window_bits: WindowBits::Max(9), ..DeflateConfig::default() },
            DeflateConfig { server_max_window_bits: WindowBits::Max(9), ..DeflateConfig::default() },
        ),
    ] {
        let (near, far) = duplex(1000);
        let config = ServerConfig { deflate: Some(server), ..ServerConfig::default() };
        let server = tokio::spawn(async move {
            let (ws, _) = accept_with(far, config).await.unwrap();
            echo(ws).await
        });
        let config = ClientConfig { deflate: Some(client_deflate), ..ClientConfig::default() };
        let request = client_request("ws://example.com/").unwrap();
        let (mut ws, _) = client(near, &request, &config).await.unwrap();
        talk(&mut ws, 100_000).await;
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn fragments_and_prepared_messages_are_compressed_as_well() {
    let deflate = Some(DeflateConfig::default());
    let (url, server) = serve(ServerConfig { deflate, ..ServerConfig::default() }).await;
    let (mut ws, _) = connect(&url).await.unwrap();
    let prepared = Prepared::new(prose(3000));
    for _ in 0..3 {
        ws.send_fragment(Fragment::from(&*prose(2000)), false).await.unwrap();
        ws.ping(b"between").await.unwrap();
        ws.send_fragment(Fragment::from(""), false).await.unwrap();
        ws.send_fragment(Fragment::from("end"), true).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(Message::Text((prose(2000) + "end").into())));
        ws.send_prepared(&prepared).await.unwrap();
        ws.send(prose(3000)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(ws.recv().await.unwrap(), Some(Message::Text(prose(3000).into())));
        }
        // A secret, not compressed with what is around it.
        let sender = ws.room().await.unwrap();
        sender.set_compression(false);
        sender.send_text("secret").unwrap();
        sender.set_compression(true);
        ws.flush().await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(Message::Text("secret".into())));
    }
    ws.close(CloseCode::NORMAL, "").await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn connections_of_a_server_share_its_pool() {
    let deflate = DeflateConfig { pool: DeflatePool::new(1024 * 1024), ..no_takeover() };
    let pool = deflate.pool.clone();
    let config = ServerConfig { deflate: Some(deflate), ..ServerConfig::default() };
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    tokio::spawn(server.serve(|ws, _request| echo(ws)));
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(connect(&url).await.unwrap().0);
    }
    assert_eq!(pool.held(), 0, "nothing was sent yet");
    for ws in &mut clients {
        ws.send(prose(5000)).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(Message::Text(prose(5000).into())));
    }
    // One compressor and one decompressor serve all.
    assert!((1..512 * 1024).contains(&pool.held()), "{}", pool.held());
}

#[tokio::test]
async fn a_client_fails_an_answer_that_demands_what_it_does_not_grant() {
    let (url, server) = serve(ServerConfig { deflate: Some(no_takeover()), ..ServerConfig::default() }).await;
    let deflate = DeflateConfig { client_no_context_takeover: Some(false), ..DeflateConfig::default() };
    let config = ClientConfig { deflate: Some(deflate), ..ClientConfig::default() };
    let error = connect_with(client_request(&url).unwrap(), config).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Handshake(HandshakeError::Extension(_))), "{error}");
    server.await.unwrap();
}

// Helpers

/// A server that echoes on one connection, and where it listens.
async fn serve(config: ServerConfig) -> (String, JoinHandle<()>) {
    let mut server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (ws, _) = server.accept().await.unwrap();
        // A client that failed the handshake just leaves.
        _ = echo(ws).await;
    });
    (url, task)
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut ws: WebSocket<S>) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

/// Sends messages of every kind, and hears each again.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(ws: &mut WebSocket<S>, longest: usize) {
    let messages = [
        Message::Text("hello".into()),
        Message::Text("".into()),
        Message::Text("grüße, 世界 🌍".into()),
        Message::Binary(vec![].into()),
        Message::Text(prose(2000).into()),
        Message::Text(prose(100_000).into()),
        Message::Binary(noise(5000).into()),
        Message::Binary(noise(longest).into()),
        Message::Text(prose(longest).into()),
        Message::Text(prose(2000).into()),
        Message::Binary(noise(5000).into()),
    ];
    for message in &messages {
        ws.send(message.clone()).await.unwrap();
        let heard = ws.recv().await.unwrap();
        assert!(heard.as_ref() == Some(message), "{} bytes", message.len());
    }
}

fn no_takeover() -> DeflateConfig {
    DeflateConfig {
        server_no_context_takeover: Some(true),
        client_no_context_takeover: Some(true),
        ..DeflateConfig::default()
    }
}

/// Text that gets shorter.
fn prose(len: usize) -> String {
    let mut text: String =
        (0..len / 16 + 1).map(|i| format!("{{\"id\":{i},\"row\":{}}}\n", i % 97)).collect();
    text.truncate(len);
    text
}

/// Bytes that do not.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
