//! tokio-tungstenite.
use common::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

fn main() {
    let args = Args::parse();
    let rb = args.opt_usize("read_buffer", 128 * 1024);
    let cfg = move || WebSocketConfig::default().read_buffer_size(rb);
    if args.bcast {
        let (tx, _) = tokio::sync::broadcast::channel::<Message>(64);
        return serve_send(args, move |s: TcpStream, _| {
            let tx = tx.clone();
            async move {
                let mut rx = tx.subscribe();
                let Ok(mut ws) = tokio_tungstenite::accept_async_with_config(s, Some(cfg())).await else {
                    return;
                };
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
        let Ok(mut ws) = tokio_tungstenite::accept_async_with_config(s, Some(cfg())).await else { return };
        echo(&mut ws, a.flush, |m: &Message| m.is_binary() || m.is_text()).await;
    });
}
