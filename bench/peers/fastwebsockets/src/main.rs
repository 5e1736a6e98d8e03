//! fastwebsockets on tokio.
use common::*;
use fastwebsockets::*;
use tokio::net::TcpStream;

fn main() {
    let args = Args::parse();
    if args.bcast {
        let (tx, _) = tokio::sync::broadcast::channel::<bytes::Bytes>(64);
        return serve_send(args, move |mut s: TcpStream, _| {
            let tx = tx.clone();
            async move {
                let mut rx = tx.subscribe();
                if handshake(&mut s, |_| None).await.is_none() {
                    return;
                }
                let (r, w) = s.into_split();
                let (r, mut w) = after_handshake_split(r, w, Role::Server);
                w.set_writev(true);
                let mut r = FragmentCollectorRead::new(r);
                let wt = tokio::spawn(async move {
                    while let Ok(m) = rx.recv().await {
                        if w.write_frame(Frame::binary(Payload::Borrowed(&m))).await.is_err() {
                            return;
                        }
                    }
                });
                loop {
                    let f = r.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await;
                    match f {
                        Ok(f) if matches!(f.opcode, OpCode::Binary | OpCode::Text) => {
                            let _ = tx.send(bytes::Bytes::copy_from_slice(&f.payload));
                        }
                        Ok(f) if f.opcode == OpCode::Close => break,
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                wt.abort();
            }
        });
    }
    serve_send(args, |mut s: TcpStream, a| async move {
        if handshake(&mut s, |_| None).await.is_none() {
            return;
        }
        if a.flush == Flush::Idle {
            // not in its documents: a BufWriter below the write half, flushed
            // when the read half would wait
            let (r, w) = s.into_split();
            let w = tokio::io::BufWriter::with_capacity(64 * 1024, w);
            let (r, mut w) = after_handshake_split(r, w, Role::Server);
            let mut r = FragmentCollectorRead::new(r);
            loop {
                let f = {
                    let mut none = |_: Frame<'_>| async { Ok::<(), WebSocketError>(()) };
                    let mut fut = std::pin::pin!(r.read_frame::<_, WebSocketError>(&mut none));
                    match futures_util::poll!(fut.as_mut()) {
                        std::task::Poll::Ready(f) => f,
                        std::task::Poll::Pending => {
                            if w.flush().await.is_err() {
                                return;
                            }
                            fut.await
                        }
                    }
                };
                match f {
                    Ok(f) if matches!(f.opcode, OpCode::Text | OpCode::Binary) => {
                        if w.write_frame(f).await.is_err() {
                            return;
                        }
                    }
                    Ok(f) if f.opcode != OpCode::Close => {}
                    _ => return,
                }
            }
        }
        let mut ws = WebSocket::after_handshake(s, Role::Server);
        ws.set_writev(a.opt("writev") != Some("off"));
        if let Some(t) = a.opt("writev_threshold") {
            ws.set_writev_threshold(t.parse().unwrap());
        }
        ws.set_auto_close(true);
        ws.set_auto_pong(true);
        ws.set_max_message_size(64 << 20);
        let mut ws = FragmentCollector::new(ws);
        while let Ok(f) = ws.read_frame().await {
            match f.opcode {
                OpCode::Close => break,
                OpCode::Text | OpCode::Binary => {
                    if ws.write_frame(f).await.is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
}
