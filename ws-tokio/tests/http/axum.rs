//! Servers on axum.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tokio::{net::TcpListener, sync::mpsc};
use ws_tokio::{
    AcceptError, Error, HandshakeError, OriginPolicy, ServerConfig,
    axum::{Rejection, WebSocket, WebSocketUpgrade},
    http::{HeaderValue, Request, StatusCode, Version, header},
};

use super::{Client, Server, block_on, echo};

#[test]
fn without_a_configuration_the_default_one_holds() {
    over_versions(any(async |ws: WebSocketUpgrade| ws.on_upgrade(answer)), async |mut client| {
        let request = client.request().header("sec-websocket-protocol", "a");
        let (mut ws, response) = client.open(request).await;
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
        ws.send("hello").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
    });
}

#[test]
fn s4_2_2_subprotocol_of_the_extractor_is_chosen() {
    let handler = async |ws: WebSocketUpgrade| ws.subprotocols(["b", "c"]).on_upgrade(answer);
    over_versions(any(handler), async |mut client| {
        let request = client.request().header("sec-websocket-protocol", "a, c, b");
        let (mut ws, response) = client.open(request).await;
        assert_eq!(response.headers()["sec-websocket-protocol"], "c");
        ws.send("which subprotocol?").await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("c".into()));
    });
}

#[test]
fn answer_is_adapted_in_the_extractor_and_in_the_response() {
    let handler = async |mut ws: WebSocketUpgrade| {
        let acceptance = ws.acceptance().unwrap();
        assert_eq!(acceptance.offered(), ["a", "b"]);
        assert_eq!(acceptance.set_subprotocol(Some("c")), Err(AcceptError::Subprotocol));
        acceptance.set_subprotocol(Some("b")).unwrap();
        acceptance.add_header(header::SET_COOKIE, HeaderValue::from_static("seen=1")).unwrap();
        ([("x-served-by", "axum")], ws.on_upgrade(answer))
    };
    over_versions(any(handler), async |mut client| {
        let request = client.request().header("sec-websocket-protocol", "a, b");
        let (_ws, response) = client.open(request).await;
        assert_eq!(response.headers()["sec-websocket-protocol"], "b");
        assert_eq!(response.headers()["set-cookie"], "seen=1");
        assert_eq!(response.headers()["x-served-by"], "axum");
    });
}

#[test]
fn failed_upgrade_is_told_why_the_configuration_refused() {
    let (failures, mut failed) = mpsc::unbounded_channel();
    let handler = async move |ws: WebSocketUpgrade| {
        let config = ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() };
        let mut ws = ws.config(config);
        assert!(matches!(ws.acceptance(), Err(HandshakeError::Origin)));
        let ws = ws.on_failed_upgrade(move |error| failures.send(error).unwrap());
        ws.on_upgrade(async |_| panic!("it was refused"))
    };
    over_versions(any(handler), async |mut client| {
        let request = client.request().header("origin", "https://evil.example");
        assert_eq!(client.fetch(request).await.status(), StatusCode::FORBIDDEN);
    });
    for _ in 0..2 {
        let error = failed.try_recv().unwrap();
        assert!(matches!(error, Error::Handshake(HandshakeError::Origin)), "{error:?}");
    }
}

#[test]
fn failed_upgrade_is_told_that_the_answer_was_not_sent() {
    block_on(async {
        let (failures, mut failed) = mpsc::unbounded_channel();
        let handler = async move |ws: WebSocketUpgrade| {
            let ws = ws.on_failed_upgrade(move |error| failures.send(error).unwrap());
            drop(ws.on_upgrade(async |_| panic!("it was not accepted")));
            StatusCode::SERVICE_UNAVAILABLE
        };
        let address = serve_router(Router::new().route("/ws", any(handler))).await;
        let mut client = Client::new(address, Version::HTTP_2).await;
        assert_eq!(client.fetch(client.request()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(matches!(failed.recv().await, Some(Error::Io(_))));
    });
}

#[test]
fn one_route_serves_a_page_to_who_asks_for_no_websocket() {
    async fn handler(ws: Result<WebSocketUpgrade, Rejection>) -> Response {
        match ws {
            Ok(ws) => ws.on_upgrade(answer),
            Err(Rejection(HandshakeError::NotUpgrade | HandshakeError::NotConnect)) => {
                "a page".into_response()
            }
            Err(rejection) => rejection.into_response(),
        }
    }
    over_versions(any(handler), async |mut client| {
        assert_eq!(client.fetch(client.get("/ws")).await.body(), "a page");
        let request = client.request().header("sec-websocket-protocol", "?");
        assert_eq!(client.fetch(request).await.status(), StatusCode::BAD_REQUEST);
        client.open(client.request()).await;
    });
}

#[test]
fn rejection_is_the_answer_and_says_why() {
    block_on(async {
        let plain = extract(Request::get("/")).await.unwrap_err();
        assert_eq!(plain.to_string(), "an upgrade to websocket is required");
        let response = plain.into_response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()["upgrade"], "websocket");

        // All is well with the request, but no server is there to hand a stream over.
        let request = Request::get("/")
            .header("host", "example.com")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13");
        assert!(matches!(extract(request).await, Err(Rejection(HandshakeError::NotUpgrade))));
    });
}

// Helpers

pub(super) async fn serve(config: Arc<ServerConfig>) -> Server {
    let (ended, outcomes) = mpsc::unbounded_channel();
    let handler = async |ws: WebSocketUpgrade, State(config): State<Arc<ServerConfig>>| {
        ws.config(config).on_upgrade(async move |ws| drop(ended.send(echo(ws).await)))
    };
    let router = Router::new()
        .route("/", get("a page"))
        .route("/ws", any(handler.clone()))
        .route("/ws/else", any(handler))
        .with_state(config);
    Server { address: serve_router(router).await, outcomes }
}

async fn serve_router(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

/// Runs a test over either version of HTTP, with this at `/ws`.
fn over_versions(route: axum::routing::MethodRouter, test: impl AsyncFn(Client)) {
    block_on(async {
        let address = serve_router(Router::new().route("/ws", route)).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            test(Client::new(address, version).await).await;
        }
    });
}

async fn answer(ws: WebSocket) {
    let _ = echo(ws).await;
}

async fn extract(request: super::Builder) -> Result<WebSocketUpgrade, Rejection> {
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    WebSocketUpgrade::from_request_parts(&mut parts, &()).await
}
