//! yawc on tokio.
use common::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use yawc::{Frame, OpCode, Options, Role, WebSocket};

fn data(f: &Frame) -> bool {
    matches!(f.opcode(), OpCode::Text | OpCode::Binary)
}

fn main() {
    let args = Args::parse();
    // "tuned" as its own benchmark page: 128 KiB read buffer, 64 KiB write boundary
    let rb = args.opt_usize("read_buffer", 128 * 1024);
    let options = move |d: Deflate| {
        let mut o = Options::default()
            .with_limits(64 << 20, 128 << 20)
            .with_read_buffer_capacity(rb)
            .with_backpressure_boundary(64 * 1024)
            .with_utf8()
            .with_no_delay();
        o = match d {
            Deflate::Off => o.without_compression(),
            Deflate::Takeover => o.with_balanced_compression(),
            Deflate::NoTakeover => {
                o.with_balanced_compression().server_no_context_takeover().client_no_context_takeover()
            }
        };
        o
    };
    if args.bcast {
        let (tx, _) = tokio::sync::broadcast::channel::<bytes::Bytes>(64);
        return serve_send(args, move |mut s: TcpStream, _| {
            let tx = tx.clone();
            async move {
                let mut rx = tx.subscribe();
                if handshake(&mut s, |_| None).await.is_none() {
                    return;
                }
                let Ok(mut ws) = WebSocket::from_stream(s, Role::Server, options(Deflate::Off)) else {
                    return;
                };
                loop {
                    tokio::select! {
                        m = rx.recv() => match m {
                            Ok(m) => if ws.send(Frame::binary(m)).await.is_err() { return },
                            Err(_) => return,
                        },
                        m = ws.next() => match m {
                            Some(f) if data(&f) => { let _ = tx.send(f.into_payload()); }
                            Some(_) => {}
                            _ => return,
                        },
                    }
                }
            }
        });
    }
    serve_send(args, move |mut s: TcpStream, a| async move {
        let ext = match a.deflate {
            Deflate::Off => None,
            Deflate::Takeover => Some("permessage-deflate".to_string()),
            Deflate::NoTakeover => {
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_string())
            }
        };
        let e2 = ext.clone();
        if handshake(&mut s, |_| e2).await.is_none() {
            return;
        }
        let ws = WebSocket::from_stream_with_extensions(s, Role::Server, ext.as_deref(), options(a.deflate));
        let Ok(ws) = ws else { return };
        // its stream yields plain frames and ends on error
        let mut ws = Adapter(ws);
        echo(&mut ws, a.flush, data).await;
    });
}

struct Adapter(WebSocket<TcpStream>);
use futures_util::{Sink, Stream};
use std::pin::Pin;
use std::task::{Context, Poll};
impl Stream for Adapter {
    type Item = Result<Frame, yawc::WebSocketError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_frame(cx).map(Some)
    }
}
impl Sink<Frame> for Adapter {
    type Error = yawc::WebSocketError;
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(cx)
    }
    fn start_send(mut self: Pin<&mut Self>, f: Frame) -> Result<(), Self::Error> {
        self.0.start_send_unpin(f)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(cx)
    }
}
