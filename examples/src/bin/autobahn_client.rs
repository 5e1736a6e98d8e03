//! The client's side of the Autobahn test suite: runs every case of its fuzzing server.
//!
//!     cargo run --release --bin autobahn_client -- ws://127.0.0.1:9002 --agent ws-tokio

use ws_examples::{Words, fail};
use ws_tokio::{Error, Event, connect};

const USAGE: &str = "autobahn_client ws://HOST:PORT [--agent NAME]";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut words = Words::of_process();
    let agent = words.option("--agent").unwrap_or_else(|| "ws-tokio".to_owned());
    let url = words.positional().unwrap_or_else(|| fail(USAGE));
    words.end(USAGE);
    if let Err(error) = run(url.trim_end_matches('/'), &agent).await {
        fail(&error.to_string());
    }
}

async fn run(url: &str, agent: &str) -> Result<(), Error> {
    for case in 1..=case_count(url).await? {
        // Most cases are about a connection that must fail: how it ends is the suite's to judge.
        let _ = echo(&format!("{url}/runCase?case={case}&agent={agent}")).await;
    }
    echo(&format!("{url}/updateReports?agent={agent}")).await
}

async fn case_count(url: &str) -> Result<u32, Error> {
    let (mut ws, _) = connect(&format!("{url}/getCaseCount")).await?;
    let message = ws.recv().await?;
    let count = message.as_ref().and_then(|message| message.as_text()?.parse().ok());
    Ok(count.unwrap_or_else(|| fail(&format!("no case count: {message:?}"))))
}

async fn echo(url: &str) -> Result<(), Error> {
    let (mut ws, _) = connect(url).await?;
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) => sender.send_binary(payload)?,
            _ => {}
        }
    }
    Ok(())
}
