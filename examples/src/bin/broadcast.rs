//! A room: whatever one client says, all the others hear; and everybody is told who comes and goes.
//!
//!     cargo run --release --bin broadcast -- --listen 127.0.0.1:9001
//!
//! It shows the set of connected clients (messages are encoded and compressed once), what becomes of clients that do
//! not read, and the end: Ctrl-C closes all connections with 1001, a second Ctrl-C drops them.

use std::time::Duration;

use ws_examples::{Words, fail};
use ws_tokio::{
    Clients, CloseCode, DeflateConfig, Error, Handle, Message, Prepared, Server, ServerConfig, SlowConsumer,
    Transport, WebSocket,
};

const USAGE: &str = "broadcast [--listen ADDR]";

#[tokio::main]
async fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    words.end(USAGE);
    if let Err(error) = run(&listen).await {
        fail(&format!("{listen}: {error}"));
    }
}

async fn run(listen: &str) -> std::io::Result<()> {
    let config = ServerConfig {
        deflate: Some(DeflateConfig::default()),
        slow_consumer: SlowConsumer::Disconnect,
        ..ServerConfig::default()
    };
    let server = Server::bind(listen, config).await?;
    println!("listening on ws://{}/", server.local_addr()?);
    tokio::spawn(stop_on_ctrl_c(server.handle()));
    let clients = server.handle().clients().clone();
    let dropped = server.serve(move |ws, _request| talk(ws, clients.clone())).await;
    println!("{dropped} connections were dropped");
    Ok(())
}

async fn talk(mut ws: WebSocket<Transport>, clients: Clients) -> Result<(), Error> {
    let Some(me) = ws.client() else { return Ok(()) };
    let id = me.id();
    let tell = |what: String| {
        let others = clients.iter().filter(|client| client.id() != id);
        clients.broadcast_to(others, &Prepared::new(what));
    };
    tell(format!("{id} is here"));
    let end = loop {
        match ws.recv().await {
            Ok(Some(Message::Text(text))) => tell(format!("{id}: {text}")),
            Ok(Some(_)) => ws.start_close(CloseCode::UNSUPPORTED_DATA, "text only")?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    tell(format!("{id} has left"));
    end
}

async fn stop_on_ctrl_c(server: Handle) {
    while tokio::signal::ctrl_c().await.is_ok() {
        println!("closing {} connections", server.clients().len());
        server
            .shutdown(CloseCode::GOING_AWAY, "the server is restarted", Duration::from_secs(5))
            .expect("a code and a reason that may be sent");
    }
}
