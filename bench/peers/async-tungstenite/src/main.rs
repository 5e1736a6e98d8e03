//! async-tungstenite on async-std.
use async_tungstenite::tungstenite::Message;
use common::*;
use futures_util::{FutureExt, StreamExt};

fn main() {
    let args = Args::parse();
    // Spawned, as what `block_on` runs is on a thread of its own.
    async_std::task::block_on(async_std::task::spawn(async move {
        let l = async_std::net::TcpListener::from(args.listen());
        let hub =
            std::sync::Arc::new(std::sync::Mutex::new(Vec::<async_std::channel::Sender<Message>>::new()));
        loop {
            let Ok((s, _)) = l.accept().await else { continue };
            let _ = s.set_nodelay(true);
            let a = args.clone();
            let hub = hub.clone();
            async_std::task::spawn(async move {
                let Ok(mut ws) = async_tungstenite::accept_async(s).await else { return };
                if !a.bcast {
                    return echo(&mut ws, a.flush, |m: &Message| m.is_binary() || m.is_text()).await;
                }
                let (tx, rx) = async_std::channel::bounded(64);
                hub.lock().unwrap().push(tx);
                loop {
                    futures_util::select! {
                        m = rx.recv().fuse() => match m {
                            Ok(m) => if ws.send(m).await.is_err() { return },
                            Err(_) => return,
                        },
                        m = ws.next().fuse() => match m {
                            Some(Ok(m)) if m.is_binary() || m.is_text() => {
                                hub.lock().unwrap().retain(|t| !matches!(t.try_send(m.clone()), Err(e) if e.is_closed()));
                            }
                            Some(Ok(_)) => {}
                            _ => return,
                        },
                    }
                }
            });
        }
    }));
}
