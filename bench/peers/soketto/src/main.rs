//! soketto on tokio.
use common::*;
use futures::io::{BufReader, BufWriter};
use soketto::handshake::{Server, server::Response};
use std::task::Poll;
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

fn main() {
    let args = Args::parse();
    serve_send(args, |s: TcpStream, a| async move {
        // buffer sizes as in its own echo example
        let io = BufReader::with_capacity(
            a.opt_usize("read_buffer", 8 * 1024),
            BufWriter::with_capacity(16 * 1024, s.compat()),
        );
        let mut server = Server::new(io);
        if a.deflate != Deflate::Off {
            let d = soketto::extension::deflate::Deflate::new(soketto::Mode::Server);
            server.add_extension(Box::new(d));
        }
        let key = match server.receive_request().await {
            Ok(r) => r.key(),
            Err(_) => return,
        };
        if server.send_response(&Response::Accept { key, protocol: None }).await.is_err() {
            return;
        }
        let (mut tx, mut rx) = server.into_builder().finish();
        let mut msg = Vec::new();
        loop {
            msg.clear();
            let got = {
                // its futures must not be dropped half way, so this one is kept
                let mut f = std::pin::pin!(rx.receive_data(&mut msg));
                match futures_util::poll!(f.as_mut()) {
                    Poll::Ready(r) => r,
                    Poll::Pending => {
                        if a.flush != Flush::Each && tx.flush().await.is_err() {
                            return;
                        }
                        f.await
                    }
                }
            };
            let r = match got {
                Ok(soketto::Data::Binary(_)) => tx.send_binary_mut(&mut msg).await,
                Ok(soketto::Data::Text(_)) => match std::str::from_utf8(&msg) {
                    Ok(t) => tx.send_text(t).await,
                    Err(_) => return,
                },
                Err(_) => return,
            };
            if r.is_err() || (a.flush == Flush::Each && tx.flush().await.is_err()) {
                return;
            }
        }
    });
}
