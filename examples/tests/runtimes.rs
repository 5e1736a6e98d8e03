//! The example `echo` on each runtime, and `futures_any` on none.

mod process;

use std::process::Command;

use process::Process;
use ws_tokio::{CloseCode, Message, connect};

const RUNTIMES: [&str; 2] = ["tokio", "async-std"];

#[tokio::test]
async fn echo_runs_on_each_runtime() {
    for runtime in RUNTIMES {
        let server = echo(&["--runtime", runtime]);
        let (mut ws, _) = connect(&server.url).await.unwrap();
        for message in [Message::from("hello"), Message::from(vec![7; 100_000])] {
            ws.send(message.clone()).await.unwrap();
            assert_eq!(ws.recv().await.unwrap(), Some(message));
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
    }
}

#[tokio::test]
async fn echo_broadcasts_on_each_runtime() {
    for runtime in RUNTIMES {
        let server = echo(&["--runtime", runtime, "--mode", "broadcast"]);
        let (mut first, _) = connect(&server.url).await.unwrap();
        let (mut second, _) = connect(&server.url).await.unwrap();
        // Its answer tells that it is among the clients.
        first.send("1").await.unwrap();
        assert_eq!(first.recv().await.unwrap(), Some("1".into()));
        second.send("2").await.unwrap();
        assert_eq!(first.recv().await.unwrap(), Some("2".into()));
        loop {
            match second.recv().await.unwrap() {
                // It may have come in time for the other's.
                Some(message) if message == "1".into() => {}
                other => break assert_eq!(other, Some("2".into())),
            }
        }
    }
}

#[test]
fn futures_any_needs_no_runtime() {
    let run = Command::new(env!("CARGO_BIN_EXE_futures_any")).output().unwrap();
    assert!(run.status.success());
    let output = String::from_utf8(run.stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "server: a client asks for /echo",
            "client: 101 Switching Protocols",
            "server: Text(\"hello\") came",
            "client: Some(Text(\"hello\")) came back",
        ]
    );
    assert!(lines[4].starts_with("server: Some(Closed") && lines[4].contains("\"bye\""), "{}", lines[4]);
    assert_eq!(lines.len(), 5);
}

fn echo(args: &[&str]) -> Process {
    Process::start(env!("CARGO_BIN_EXE_echo"), &[&["--listen", "127.0.0.1:0"], args].concat())
}
