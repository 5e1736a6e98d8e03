//! tokio-websockets.
use common::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Limits, Message, ServerBuilder};

fn main() {
    let args = Args::parse();
    let ft = args.opt_usize("flush_threshold", 8 * 1024);
    let mk = move || {
        ServerBuilder::new()
            .config(Config::default().frame_size(usize::MAX).flush_threshold(ft))
            .limits(Limits::unlimited())
    };
    if args.bcast {
        let (tx, _) = tokio::sync::broadcast::channel::<Message>(64);
        return serve_send(args, move |s: TcpStream, _| {
            let tx = tx.clone();
            async move {
                let mut rx = tx.subscribe();
                let Ok((_, mut ws)) = mk().accept(s).await else { return };
                loop {
                    tokio::select! {
                        m = rx.recv() => match m {
                            Ok(m) => if ws.send(m).await.is_err() { return },
                            Err(_) => return,
                        },
                        m = ws.next() => match m {
                            Some(Ok(m)) if m.is_binary() || m.is_text() => { let _ = tx.send(m); }
                            Some(Ok(_)) => {}
                            _ => return,
                        },
                    }
                }
            }
        });
    }
    serve_send(args, move |s: TcpStream, a| async move {
        let Ok((_, mut ws)) = mk().accept(s).await else { return };
        echo(&mut ws, a.flush, |m: &Message| m.is_binary() || m.is_text()).await;
    });
}
