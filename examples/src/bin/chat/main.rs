//! A chat: names, rooms, who is there, who is typing, files, and what was said before.
//!
//!     cargo run --release --bin chat
//!
//! Then open http://127.0.0.1:8080/ in two windows. It shows a page and WebSockets on one port with axum, rooms that
//! messages are broadcast to (encoded and compressed once), limits for all that people send, and a graceful end: Ctrl-C
//! closes all connections with 1001, a second Ctrl-C drops them.
//!
//!     cargo run --release --bin chat -- --listen 0.0.0.0:8080 --redis redis://127.0.0.1/
//!
//! Servers with one Redis are one chat; put as many as you like behind a load balancer.

mod files;
mod link;
mod message;
mod person;
mod room;
mod session;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{any, get},
    serve::ListenerExt,
};
use files::Files;
use link::Link;
use room::Rooms;
use serde::Deserialize;
use tokio::{net::TcpListener, time::timeout};
use ws_examples::{Words, fail};
use ws_tokio::{
    Clients, CloseCode, Config, DeflateConfig, OriginPolicy, ServerConfig, axum::WebSocketUpgrade,
};

/// The longest message, so the largest file.
const MAX_MESSAGE: usize = 8 << 20;

/// What may wait for who does not read. A welcome with the longest history is shorter.
const HIGH_WATER: usize = 4 << 20;

/// The longest name of a person or room, in characters.
const MAX_NAME: usize = 32;

/// What the page may load: only what is here, whatever people write.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long clients may take to say goodbye.
const GRACE: Duration = Duration::from_secs(5);

struct App {
    config: Arc<ServerConfig>,
    everybody: Clients,
    rooms: Rooms,
    files: Files,
    link: Link,
}

#[tokio::main]
async fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let redis = words.option::<String>("--redis");
    words.end("chat [--listen ADDR] [--redis URL]");
    let redis =
        redis.map(|url| link::client(&url).unwrap_or_else(|error| fail(&format!("--redis: {error}"))));
    if let Err(error) = run(&listen, redis).await {
        fail(&format!("{listen}: {error}"));
    }
}

async fn run(listen: &str, redis: Option<redis::Client>) -> io::Result<()> {
    let connection = Config {
        max_message: MAX_MESSAGE,
        max_frame: MAX_MESSAGE,
        high_water: HIGH_WATER,
        ..Config::default()
    };
    let config = ServerConfig {
        connection,
        origins: OriginPolicy::Same,
        deflate: Some(DeflateConfig::default()),
        ..ServerConfig::default()
    };
    let (link, news) = Link::new();
    let app = Arc::new(App {
        config: config.into(),
        everybody: Clients::default(),
        rooms: Rooms::new(files::random()?, redis.as_ref().map(|_| false)),
        files: Files::default(),
        link: if redis.is_some() { link } else { Link::default() },
    });
    if let Some(client) = redis {
        let app = Arc::clone(&app);
        tokio::spawn(async move { link::run(client, news, &app).await });
    }

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    // Frames are gathered before they are written; waiting for more would only delay them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        axum::serve(listener, routes(Arc::clone(&app))).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());

    interrupted().await;
    println!("closing {} connections", app.everybody.len());
    drop(stop);
    let end = async {
        close_all(&app);
        // Connections that were being opened are open by then.
        let _ = server.await;
        close_all(&app);
        app.everybody.emptied().await;
        app.link.end().await;
    };
    tokio::select! {
        _ = timeout(GRACE, end) => {}
        () = interrupted() => {}
    }
    Ok(())
}

fn routes(app: Arc<App>) -> Router {
    let page = |kind, content| get(([(header::CONTENT_TYPE, kind)], content));
    Router::new()
        .route("/", get(([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("page/page.html")))))
        .route("/page.js", page("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .route("/page.css", page("text/css; charset=utf-8", include_str!("page/page.css")))
        .route("/health", get("ok"))
        .route("/files/{id}", get(file))
        .route("/ws", any(websocket))
        .with_state(app)
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
    let [room, name] = [join.room, join.name].map(|name| name.trim().to_owned());
    if !person::is_name(&room, MAX_NAME) || !person::is_name(&name, MAX_NAME) {
        return (StatusCode::BAD_REQUEST, "A room and a name have 1 to 32 characters.\n").into_response();
    }
    upgrade.config(Arc::clone(&app.config)).on_upgrade(async move |mut ws| {
        // However a connection ends, its person has left.
        let _ = person::serve(&app, &mut ws, &room, &name).await;
    })
}

async fn file(Path(id): Path<String>, State(app): State<Arc<App>>) -> Response {
    let file = match app.files.get(&id) {
        Some(file) => Some(file),
        None => app.link.fetch(&id).await,
    };
    let Some(file) = file else { return StatusCode::NOT_FOUND.into_response() };
    // Only saved, never shown: a page that somebody sent would be a page of this site.
    let disposition = format!("attachment; filename*=UTF-8''{}", percent(&file.name));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_DISPOSITION, &disposition),
    ];
    (headers, file.bytes).into_response()
}

/// As RFC 8187 section 3.2 has it.
fn percent(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn close_all(app: &App) {
    let code = CloseCode::GOING_AWAY;
    app.everybody.close(code, "the server is restarted").expect("a code and a reason that may be sent");
}

/// Waits for Ctrl-C, or to be asked to end.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("a signal that may be listened to");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}
