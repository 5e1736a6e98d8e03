//! A page and a WebSocket on one port, on axum.
//!
//!     cargo run --release --bin axum_server -- --listen 127.0.0.1:9001
//!
//! Then open http://127.0.0.1:9001/ in a browser. It shows the extractor with a configuration from the state. The route
//! takes any method, as a WebSocket begins with GET over HTTP/1.1 and with CONNECT over HTTP/2.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::{Html, Response},
    routing::{any, get},
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use ws_examples::Words;
use ws_tokio::{
    Error, OriginPolicy, ServerConfig,
    axum::{WebSocket, WebSocketUpgrade},
};

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    words.end("axum_server [--listen ADDR]");

    let config = ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() };
    let app = Router::new()
        .route("/", get(Html(include_str!("../page.html"))))
        .route("/ws", any(websocket))
        .with_state(Arc::new(config));

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    // Frames are gathered before they are written; waiting for more would only delay them.
    axum::serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), app).await
}

async fn websocket(upgrade: WebSocketUpgrade, State(config): State<Arc<ServerConfig>>) -> Response {
    upgrade.config(config).on_upgrade(async |ws| {
        if let Err(error) = echo(ws).await {
            eprintln!("{error}");
        }
    })
}

async fn echo(mut ws: WebSocket) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
