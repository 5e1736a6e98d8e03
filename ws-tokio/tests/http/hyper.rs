//! Servers on hyper.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::Instant,
};
use ws_tokio::{
    Bytes, ClientConfig, CloseCode, Error, HandshakeError, HeadLimits, ServerConfig, WebSocket, client,
    client_request,
    http::{self, HeaderValue, Request, Response, StatusCode, Upgrade, Version, header},
};

use super::{Client, Server, block_on, echo};

#[test]
fn answer_is_adapted_between_check_and_upgrade() {
    block_on(async {
        let (stream, ws) = served_once(|mut request| async move {
            let mut acceptance = http::check(&request, &ServerConfig::default()).unwrap();
            assert_eq!(acceptance.offered(), ["a", "b"]);
            acceptance.set_subprotocol(Some("b")).unwrap();
            acceptance.add_header(header::SET_COOKIE, HeaderValue::from_static("seen=1")).unwrap();
            http::upgrade_with(&mut request, acceptance, ServerConfig::default())
        });
        let config = ClientConfig { subprotocols: vec!["a".into(), "b".into()], ..ClientConfig::default() };
        let request = client_request("ws://example.com/").unwrap();
        let (ws_client, response) = client(stream, &request, &config).await.unwrap();
        assert_eq!(response.headers()["set-cookie"], "seen=1");
        assert_eq!(ws_client.subprotocol(), Some("b"));
        assert_eq!(ws.await.unwrap().subprotocol(), Some("b"));
    });
}

#[test]
fn client_that_vanishes_before_the_answer_ends_the_upgrade() {
    block_on(async {
        let (mut stream, mut upgrade) = never_answered(ServerConfig::default());
        stream.write_all(REQUEST).await.unwrap();
        let upgrade = upgrade.recv().await.unwrap();
        drop(stream);
        assert!(matches!(upgrade.await, Err(Error::Io(_))));
    });
}

#[test]
fn upgrade_behind_another_response_ends_with_the_connection() {
    block_on(async {
        let (mut stream, ws) = served_once(|mut request| async move {
            let (_, upgrade) = http::upgrade::<_, ()>(&mut request, ServerConfig::default()).unwrap();
            (Response::new(Full::from("a page after all")), upgrade)
        });
        stream.write_all(REQUEST).await.unwrap();
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        drop(stream);
        // hyper hands over what has ended already.
        let mut ws = ws.await.unwrap();
        assert!(matches!(ws.recv().await, Err(Error::Abnormal)));
    });
}

#[test]
fn upgrade_has_its_deadline() {
    block_on(async {
        tokio::time::pause();
        for seconds in [1, 10] {
            let head = HeadLimits { timeout: Some(Duration::from_secs(seconds)), ..HeadLimits::default() };
            let (mut stream, mut upgrade) = never_answered(ServerConfig { head, ..ServerConfig::default() });
            stream.write_all(REQUEST).await.unwrap();
            let upgrade = upgrade.recv().await.unwrap();
            let start = Instant::now();
            assert!(matches!(upgrade.await, Err(Error::Handshake(HandshakeError::Timeout))));
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    });
}

#[test]
fn connection_without_upgrades_ends_the_upgrade() {
    block_on(async {
        let (mut stream, server) = duplex(4096);
        let (upgrades, mut upgrade) = mpsc::unbounded_channel();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (response, upgrade) = http::upgrade(&mut request, ServerConfig::default()).unwrap();
            upgrades.send(upgrade).unwrap();
            async { Ok::<_, Infallible>(response.map(|()| Full::<Bytes>::default())) }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(server), service));
        stream.write_all(REQUEST).await.unwrap();
        assert!(matches!(upgrade.recv().await.unwrap().await, Err(Error::Io(_))));
    });
}

#[test]
fn second_upgrade_of_a_request_is_an_error() {
    block_on(async {
        let (seconds, mut second) = mpsc::unbounded_channel();
        let (stream, ws) = served_once(move |mut request| async move {
            let answer = http::upgrade(&mut request, ServerConfig::default()).unwrap();
            let (_, upgrade) = http::upgrade::<_, ()>(&mut request, ServerConfig::default()).unwrap();
            seconds.send(upgrade).unwrap();
            answer
        });
        let request = client_request("ws://example.com/").unwrap();
        client(stream, &request, &ClientConfig::default()).await.unwrap();
        assert!(ws.await.is_ok());
        assert!(matches!(second.recv().await.unwrap().await, Err(Error::Io(_))));
    });
}

#[test]
fn dropped_upgrade_drops_the_stream() {
    block_on(async {
        let mut stream = serve_stream(|mut request| {
            let (response, _) = http::upgrade(&mut request, ServerConfig::default()).unwrap();
            async { response }
        });
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
    });
}

#[test]
fn rfc8441_s4_client_that_never_reads_is_left_after_the_write_timeout() {
    over_http_2_with_idle_client(async |mut ws| {
        loop {
            if let Err(error) = ws.send(vec![0; 64 * 1024]).await {
                break (error, 30);
            }
        }
    });
}

#[test]
fn rfc8441_s4_client_that_never_answers_close_is_left_after_the_close_timeout() {
    over_http_2_with_idle_client(async |mut ws| (ws.close(CloseCode::NORMAL, "").await.unwrap_err(), 10));
}

#[test]
fn refusal_of_what_no_server_answers_is_an_internal_error() {
    let response: Response<Bytes> = http::refusal(&HandshakeError::Eof);
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let response: Response<Bytes> = http::refusal(&HandshakeError::Refused(StatusCode::IM_A_TEAPOT));
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
}

// Helpers

pub(super) async fn serve(config: Arc<ServerConfig>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, outcomes) = mpsc::unbounded_channel();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let response: Response<Full<Bytes>> = if request.uri().path() == "/" {
            Response::new(Full::from("a page"))
        } else {
            match http::upgrade(&mut request, Arc::clone(&config)) {
                Ok((response, upgrade)) => {
                    let ended = ended.clone();
                    tokio::spawn(async move {
                        let outcome = async { echo(upgrade.await?).await }.await;
                        let _ = ended.send(outcome);
                    });
                    response
                }
                Err(error) => http::refusal(&error),
            }
        };
        async { Ok::<_, Infallible>(response) }
    });
    tokio::spawn(async move {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http2().enable_connect_protocol();
        loop {
            let stream = TokioIo::new(listener.accept().await.unwrap().0);
            let (http, service) = (http.clone(), service.clone());
            tokio::spawn(async move { http.serve_connection_with_upgrades(stream, service).await });
        }
    });
    Server { address, outcomes }
}

/// The client's end of a connection to a server that accepts a request and never sends its answer: and the upgrade.
fn never_answered(config: ServerConfig) -> (DuplexStream, mpsc::UnboundedReceiver<Upgrade>) {
    let (upgrades, upgrade) = mpsc::unbounded_channel();
    let config = Arc::new(config);
    let stream = serve_stream(move |mut request| {
        let (response, upgrade) = http::upgrade(&mut request, Arc::clone(&config)).unwrap();
        upgrades.send(upgrade).unwrap();
        async {
            let _: Response<Full<Bytes>> = response;
            pending().await
        }
    });
    (stream, upgrade)
}

/// Holds a conversation over HTTP/2 with a client that does nothing. It ends with a timeout, after so many seconds.
fn over_http_2_with_idle_client<F>(
    conversation: impl Fn(WebSocket<http::Upgraded>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = (Error, u64)> + Send + 'static,
{
    block_on(async {
        tokio::time::pause();
        let (stream, server) = duplex(64 * 1024);
        let (outcomes, mut outcome) = mpsc::unbounded_channel();
        let conversation = Arc::new(conversation);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (response, upgrade) = http::upgrade(&mut request, ServerConfig::default()).unwrap();
            let (outcomes, conversation) = (outcomes.clone(), Arc::clone(&conversation));
            tokio::spawn(async move {
                let ws = upgrade.await.unwrap();
                let start = Instant::now();
                let (error, seconds) = conversation(ws).await;
                outcomes.send((error, seconds, start.elapsed())).unwrap();
            });
            async { Ok::<_, Infallible>(response.map(|()| Full::<Bytes>::default())) }
        });
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.enable_connect_protocol();
        tokio::spawn(http.serve_connection(TokioIo::new(server), service));
        let mut client = Client::over(stream, Version::HTTP_2).await;
        let _open = client.open(client.request()).await;
        let (error, seconds, elapsed) = outcome.recv().await.unwrap();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
        assert_eq!(elapsed.as_secs(), seconds);
    });
}

/// The client's end of a connection to a server that answers like this.
fn serve_stream<F>(answer: impl Fn(Request<Incoming>) -> F + Send + 'static) -> DuplexStream
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let (client, server) = duplex(4096);
    let service = service_fn(move |request| {
        let response = answer(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(connection.with_upgrades());
    client
}

/// As [`serve_stream`], for one request: and what becomes of its upgrade.
fn served_once<F>(
    answer: impl FnOnce(Request<Incoming>) -> F + Send + 'static,
) -> (DuplexStream, impl Future<Output = Result<WebSocket<http::Upgraded>, Error>>)
where
    F: Future<Output = (Response<Full<Bytes>>, Upgrade)> + Send + 'static,
{
    let (upgrades, upgrade) = oneshot::channel();
    let once = Mutex::new(Some((answer, upgrades)));
    let stream = serve_stream(move |request| {
        let (answer, upgrades) = once.lock().unwrap().take().expect("one request");
        let answer = answer(request);
        async {
            let (response, upgrade) = answer.await;
            assert!(upgrades.send(upgrade).is_ok());
            response
        }
    });
    (stream, async { upgrade.await.unwrap().await })
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
