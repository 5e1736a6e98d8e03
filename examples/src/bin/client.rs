//! A terminal client: each line typed is sent as a text message, each message is printed as a line.
//!
//!     cargo run --release --bin client -- ws://127.0.0.1:9001/
//!
//! Ctrl-D closes. A line `/ping TEXT` sends a ping.

use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use ws_examples::{Words, fail};
use ws_tokio::{CloseCode, Error, Event, connect};

const USAGE: &str = "client ws://HOST:PORT/";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut words = Words::of_process();
    let url = words.positional().unwrap_or_else(|| fail(USAGE));
    words.end(USAGE);
    if let Err(error) = run(&url).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
    // A read of the terminal that is under way would hold the process.
    std::process::exit(0);
}

async fn run(url: &str) -> Result<(), Error> {
    let (mut ws, _response) = connect(url).await?;
    let mut lines = BufReader::new(stdin()).lines();
    let mut typing = true;
    loop {
        tokio::select! {
            event = ws.recv_ref() => match event? {
                Some(Event::Text(text)) => println!("{text}"),
                Some(Event::Binary(payload)) => println!("[{} bytes]", payload.len()),
                Some(Event::Ping(payload)) => eprintln!("[ping {}]", payload.escape_ascii()),
                Some(Event::Pong(payload)) => eprintln!("[pong {}]", payload.escape_ascii()),
                Some(_) => {}
                None => break,
            },
            line = lines.next_line(), if typing => match line? {
                Some(line) => match line.strip_prefix("/ping") {
                    Some(payload) => ws.ping(payload.trim().as_bytes()).await?,
                    None => ws.send(line).await?,
                },
                // What the server has sent before it sees the Close frame is still printed.
                None => {
                    typing = false;
                    ws.start_close(CloseCode::NORMAL, "")?;
                }
            },
        }
    }
    if let Some(closed) = ws.closed() {
        eprintln!("[closed {} {}]", closed.code, closed.reason);
    }
    Ok(())
}
