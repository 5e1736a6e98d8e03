//! WebSockets over streams of smol's, on its executor: nothing of async-std has to run.

use std::time::Duration;

use smol::{
    LocalExecutor,
    future::zip,
    net::{TcpListener, TcpStream},
};
use ws_async_std::{
    ClientConfig, CloseCode, Config, Error, Event, Message, ServerConfig, Timer, WebSocket, accept_with,
    client, client_request,
};

#[test]
fn messages_and_close_over_a_stream_of_smol() {
    smol::block_on(async {
        let (mut ws, mut peer) = open(Config::default()).await;
        let serving = async {
            while let Some(message) = peer.recv().await? {
                peer.send(message).await?;
            }
            Ok::<_, Error>(peer.closed().cloned())
        };
        let asking = async {
            for message in [Message::from("hello"), vec![7; 1 << 20].into()] {
                ws.send(message.clone()).await?;
                assert_eq!(ws.recv().await?, Some(message));
            }
            ws.close(CloseCode::NORMAL, "bye").await
        };
        let (served, asked) = zip(serving, asking).await;
        asked.unwrap();
        let closed = served.unwrap().unwrap();
        assert_eq!((closed.code, &*closed.reason, closed.clean), (CloseCode::NORMAL, "bye", true));
    });
}

#[test]
fn halves_of_a_stream_of_smol_are_of_two_tasks_of_one_executor() {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let (ws, mut peer) = open(Config::default()).await;
        let (mut read, mut write) = ws.split();
        let sending = executor.spawn(async move {
            for i in 0..100 {
                write.send(i.to_string()).await?;
            }
            write.close(CloseCode::NORMAL, "").await
        });
        let receiving = executor.spawn(async move { while let Ok(Some(_)) = read.recv().await {} });
        for i in 0..100 {
            assert_eq!(peer.recv().await.unwrap(), Some(i.to_string().into()));
        }
        assert_eq!(peer.recv().await.unwrap(), None);
        sending.await.unwrap();
        receiving.await;
    }));
}

#[test]
fn timers_run_under_smol() {
    smol::block_on(async {
        let some = Some(Duration::from_millis(20));
        let (mut ws, mut peer) =
            open(Config { keepalive: some, pong_timeout: some, ..Config::default() }).await;
        // Who sees the ping, and does not go on, does not answer it.
        let (received, seen) = zip(ws.recv(), peer.recv_ref()).await;
        assert!(matches!(received, Err(Error::Timeout(Timer::Pong))));
        assert!(matches!(seen.unwrap(), Some(Event::Ping(_))));
    });
}

/// A client with this configuration, and its server.
async fn open(connection: Config) -> (WebSocket<TcpStream>, WebSocket<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opening = async {
        let stream = TcpStream::connect(address).await?;
        let request = client_request(&format!("ws://{address}/"))?;
        client(stream, &request, &ClientConfig { connection, ..ClientConfig::default() }).await
    };
    let accepting = async { accept_with(listener.accept().await?.0, ServerConfig::default()).await };
    let (opened, accepted) = zip(opening, accepting).await;
    (opened.unwrap().0, accepted.unwrap().0)
}
