//! The example `broadcast`, as a process of its own.

mod process;

use process::Process;
use ws_tokio::{CloseCode, Message, connect};

#[tokio::test]
async fn what_one_says_the_others_hear() {
    let server = Process::start(env!("CARGO_BIN_EXE_broadcast"), &["--listen", "127.0.0.1:0"]);
    let (mut first, _) = connect(&server.url).await.unwrap();
    let (mut second, _) = connect(&server.url).await.unwrap();
    assert_eq!(first.recv().await.unwrap(), Some(Message::from("1 is here")));
    second.send("hello").await.unwrap();
    assert_eq!(first.recv().await.unwrap(), Some(Message::from("1: hello")));
    first.send("good morning").await.unwrap();
    let mut heard = second.recv().await.unwrap();
    if heard == Some(Message::from("0 is here")) {
        // The first was told about late.
        heard = second.recv().await.unwrap();
    }
    assert_eq!(heard, Some(Message::from("0: good morning")));
    second.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(first.recv().await.unwrap(), Some(Message::from("1 has left")));
    first.send(Message::from(b"no text".to_vec())).await.unwrap();
    assert_eq!(first.recv().await.unwrap(), None);
    assert_eq!(first.closed().unwrap().code, CloseCode::UNSUPPORTED_DATA);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_closes_all_with_1001() {
    let mut server = Process::start(env!("CARGO_BIN_EXE_broadcast"), &["--listen", "127.0.0.1:0"]);
    let (mut ws, _) = connect(&server.url).await.unwrap();
    server.interrupt();
    assert_eq!(ws.recv().await.unwrap(), None);
    let closed = ws.closed().unwrap();
    assert_eq!((closed.code, &*closed.reason), (CloseCode::GOING_AWAY, "the server is restarted"));
    assert!(server.wait().success());
}
