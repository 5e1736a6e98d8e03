//! sockudo-ws on tokio.
use common::*;
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::deflate::{DeflateConfig, negotiate_server_deflate};
use sockudo_ws::stream::CompressedWebSocketStream;
use sockudo_ws::{Config, Message, WebSocketStream};
use tokio::net::TcpStream;

fn data(m: &Message) -> bool {
    m.is_binary() || m.is_text()
}

fn main() {
    let args = Args::parse();
    if args.bcast {
        let (tx, _) = tokio::sync::broadcast::channel::<Message>(64);
        return serve_send(args, move |mut s: TcpStream, _| {
            let tx = tx.clone();
            async move {
                let mut rx = tx.subscribe();
                if handshake(&mut s, |_| None).await.is_none() {
                    return;
                }
                let mut ws = WebSocketStream::server(s, Config::default());
                loop {
                    tokio::select! {
                        m = rx.recv() => match m {
                            Ok(m) => if ws.send(m).await.is_err() { return },
                            Err(_) => return,
                        },
                        m = ws.next() => match m {
                            Some(Ok(m)) if data(&m) => { let _ = tx.send(m); }
                            Some(Ok(_)) => {}
                            _ => return,
                        },
                    }
                }
            }
        });
    }
    serve_send(args, move |mut s: TcpStream, a| async move {
        let cfg = Config::default();
        let nct = a.deflate == Deflate::NoTakeover;
        let dc = DeflateConfig {
            server_no_context_takeover: nct,
            client_no_context_takeover: nct,
            ..Default::default()
        };
        let mut neg = None;
        let ok = handshake(&mut s, |offer| {
            if a.deflate == Deflate::Off {
                return None;
            }
            let n = negotiate_server_deflate(offer?, &dc)?;
            let h = n.to_response_header();
            neg = Some(n.config);
            Some(h)
        })
        .await;
        if ok.is_none() {
            return;
        }
        match neg {
            None => echo(&mut WebSocketStream::server(s, cfg), a.flush, data).await,
            Some(c) => echo(&mut CompressedWebSocketStream::server(s, cfg, c), a.flush, data).await,
        }
    });
}
