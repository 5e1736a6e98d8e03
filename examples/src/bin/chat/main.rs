//! A chat: names, rooms, who is there, who types, files, and what was said before.
//!
//!     cargo run --release --bin chat
//!
//! Then open http://127.0.0.1:8080/ in two windows.

mod message;
mod room;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
    serve::ListenerExt,
};
use message::{Content, Notice, Request, json};
use room::Rooms;
use serde::Deserialize;
use tokio::net::TcpListener;
use ws_examples::Words;
use ws_tokio::{
    CloseCode, Config, DeflateConfig, Error, Message, OriginPolicy, ServerConfig,
    axum::{WebSocket, WebSocketUpgrade},
};

struct App {
    config: Arc<ServerConfig>,
    rooms: Rooms,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    words.end("chat [--listen ADDR]");

    let config = ServerConfig {
        connection: Config {
            max_message: 8 << 20,
            max_frame: 8 << 20,
            high_water: 4 << 20,
            ..Config::default()
        },
        origins: OriginPolicy::Same,
        deflate: Some(DeflateConfig::default()),
        ..ServerConfig::default()
    };
    let app = Router::new()
        .route("/", get(Html(include_str!("page/page.html"))))
        .route("/page.js", get(([(CONTENT_TYPE, "text/javascript")], include_str!("page/page.js"))))
        .route("/page.css", get(([(CONTENT_TYPE, "text/css")], include_str!("page/page.css"))))
        .route("/health", get("ok"))
        .route("/ws", any(websocket))
        .with_state(Arc::new(App { config: config.into(), rooms: Rooms::default() }));

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), app).await
}

#[derive(Deserialize)]
struct Join {
    room: String,
    name: String,
}

async fn websocket(
    Query(join): Query<Join>,
    State(app): State<Arc<App>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let is_name = |name: &str| (1..=32).contains(&name.chars().count()) && !name.contains(char::is_control);
    let (room, name) = (join.room.trim().to_owned(), join.name.trim().to_owned());
    if !is_name(&room) || !is_name(&name) {
        return (StatusCode::BAD_REQUEST, "A room and a name have 1 to 32 characters.\n").into_response();
    }
    upgrade.config(app.config.clone()).on_upgrade(async move |mut ws| {
        let _ = talk(&app, &mut ws, &room, &name).await;
    })
}

async fn talk(app: &App, ws: &mut WebSocket, room: &str, name: &str) -> Result<(), Error> {
    let (client, name) = app.rooms.join(room, name, ws);
    let end = loop {
        match ws.recv().await {
            Ok(Some(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(Request::Message { text }) => app.rooms.say(room, &name, Content::Message { text }),
                Ok(Request::Typing) => app.rooms.type_in(room, &name, &client),
                Ok(Request::File { .. }) => ws.send(json(&Notice::Error { text: "No files yet." })).await?,
                Err(error) if error.is_data() => {
                    ws.send(json(&Notice::Error { text: "That was not understood." })).await?;
                }
                Err(_) => ws.start_close(CloseCode::INVALID_PAYLOAD, "that is not JSON")?,
            },
            Ok(Some(Message::Binary(_))) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    app.rooms.leave(room, &client);
    end
}
