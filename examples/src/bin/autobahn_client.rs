//! The client's side of the Autobahn test suite: runs every case of its fuzzing server.
//!
//!     cargo run --release --bin autobahn_client -- ws://127.0.0.1:9002 --agent ws-tokio --runtime tokio
//!
//! `conformance/autobahn client` starts that server, runs this, and reads the reports. It shows a client that is
//! written for any adapter. One that has chosen its own names `ws_tokio::Connector`.

use std::io;

use ws_examples::{Runtime, Words, fail};
use ws_proto::{
    Error, Event,
    drive::{Connect, Connector},
};

const USAGE: &str = "autobahn_client ws://HOST:PORT [--agent NAME] [--runtime tokio|async-std]";

fn main() -> io::Result<()> {
    let mut words = Words::of_process();
    let agent = words.option("--agent").unwrap_or_else(|| "ws".to_owned());
    let runtime = words.option("--runtime").unwrap_or_default();
    let url: String = words.positional().unwrap_or_else(|| fail(USAGE));
    words.end(USAGE);
    let url = url.trim_end_matches('/');
    let run = match runtime {
        Runtime::Tokio => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(&Connector::<ws_tokio::Tokio>::default(), url, &agent))
        }
        Runtime::AsyncStd => {
            async_std::task::block_on(run(&Connector::<ws_async_std::AsyncStd>::default(), url, &agent))
        }
    };
    run.unwrap_or_else(|error| fail(&error.to_string()));
    Ok(())
}

async fn run<C: Connect>(connector: &Connector<C>, url: &str, agent: &str) -> Result<(), Error> {
    for case in 1..=case_count(connector, url).await? {
        // Most cases are about a connection that must fail: how it ends is the suite's to judge.
        let _ = echo(connector, &format!("{url}/runCase?case={case}&agent={agent}")).await;
    }
    echo(connector, &format!("{url}/updateReports?agent={agent}")).await
}

async fn case_count<C: Connect>(connector: &Connector<C>, url: &str) -> Result<u32, Error> {
    let (mut ws, _) = connector.connect(&format!("{url}/getCaseCount")).await?;
    let message = ws.recv().await?;
    let count = message.as_ref().and_then(|message| message.as_text()?.parse().ok());
    Ok(count.unwrap_or_else(|| fail(&format!("no case count: {message:?}"))))
}

async fn echo<C: Connect>(connector: &Connector<C>, url: &str) -> Result<(), Error> {
    let (mut ws, _) = connector.connect(url).await?;
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) => sender.send_binary(payload)?,
            _ => {}
        }
    }
    Ok(())
}
