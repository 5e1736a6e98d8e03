//! A server that sends every message back, or to everybody, on either runtime.
//!
//!     cargo run --release --bin echo -- --listen 127.0.0.1:9001 --runtime tokio
//!
//! It shows the lent path (`recv_split`), which copies nothing out and writes all answers to one read together, in
//! `--mode broadcast` the set of connected clients, and how a program is written for any adapter. One that has chosen
//! its own names `ws_tokio::Server` and `ws_tokio::WebSocket`.

use std::io;

use ws_examples::{Runtime, SERVER_OPTIONS, Words, fail};
use ws_proto::{
    Error, Event, Prepared, ServerConfig,
    drive::{Bind, Clients, Listen, Server, Socket, WebSocket},
};

fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let runtime = words.option("--runtime").unwrap_or_default();
    let threads = words.option("--threads").unwrap_or(1);
    let mode = words.option("--mode").unwrap_or_else(|| "echo".to_owned());
    let broadcast = match mode.as_str() {
        "echo" => false,
        "broadcast" => true,
        _ => fail(&format!("--mode {mode}: echo or broadcast")),
    };
    let config = words.server_config();
    words.end(&format!(
        "echo [--listen ADDR] [--runtime tokio|async-std] [--threads N] [--mode echo|broadcast] {SERVER_OPTIONS}"
    ));

    let served = match runtime {
        Runtime::Tokio => {
            let mut runtime = match threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = runtime.worker_threads(threads).enable_all().build();
            runtime
                .and_then(|runtime| runtime.block_on(serve::<ws_tokio::Listener>(&listen, config, broadcast)))
        }
        // Its threads are one for all, of whom `ASYNC_STD_THREAD_COUNT` tells the number.
        Runtime::AsyncStd => {
            async_std::task::block_on(serve::<ws_async_std::Listener>(&listen, config, broadcast))
        }
    };
    if let Err(error) = served {
        fail(&format!("{listen}: {error}"));
    }
}

async fn serve<L>(listen: &str, config: ServerConfig, broadcast: bool) -> io::Result<()>
where
    L: Listen<Socket: Send + 'static> + for<'a> Bind<&'a str>,
{
    let server = Server::<L>::bind(listen, config).await?;
    println!("listening on ws://{}/", server.local_addr()?);
    let clients = server.handle().clients().clone();
    server
        .serve(move |ws, _request| {
            let clients = broadcast.then(|| clients.clone());
            async move {
                match clients {
                    None => echo(ws).await,
                    Some(clients) => share(ws, &clients).await,
                }
            }
        })
        .await;
    Ok(())
}

async fn echo<K: Socket>(mut ws: WebSocket<K>) -> Result<(), Error> {
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) if payload.len() <= LONG => sender.send_binary(payload)?,
            Event::Binary(_) => {
                if let Some(message) = ws.take_message() {
                    ws.feed(message).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn share<K: Socket>(mut ws: WebSocket<K>, clients: &Clients) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        clients.broadcast(&Prepared::new(message));
    }
    Ok(())
}

/// Up to this length a message is answered with a copy, so that several leave in one write; a longer one with its own
/// memory.
const LONG: usize = 64 * 1024;
