//! wtx on tokio.
use common::*;
use tokio::net::TcpStream;
use wtx::collection::Vector;
use wtx::web_socket::compression::{Flate2, WindowBits};
use wtx::web_socket::{DeflateConfig, OpCode, WebSocketAcceptor, WebSocketPayloadOrigin};

macro_rules! echo {
    ($ws:expr) => {{
        let mut ws = $ws;
        let mut buffer = Vector::new();
        let (mut common, mut reader, mut writer) = ws.split_mut();
        loop {
            let Ok(mut frame) =
                reader.read_frame(&mut buffer, &mut common, WebSocketPayloadOrigin::Adaptive).await
            else {
                return;
            };
            match frame.op_code() {
                OpCode::Binary | OpCode::Text => {
                    if writer.write_frame(&mut common, &mut frame).await.is_err() {
                        return;
                    }
                }
                OpCode::Close => return,
                _ => {}
            }
            buffer.clear();
        }
    }};
}

fn main() {
    let args = Args::parse();
    serve(args, |s: TcpStream, a| async move {
        if a.deflate == Deflate::Off {
            let Ok(ws) = WebSocketAcceptor::default().no_masking(false).accept(s).await else { return };
            echo!(ws)
        } else {
            let dc = DeflateConfig {
                client_max_window_bits: WindowBits::Fifteen,
                server_max_window_bits: WindowBits::Fifteen,
                ..Default::default()
            };
            let Ok(ws) =
                WebSocketAcceptor::default().no_masking(false).compression(Flate2::from(dc)).accept(s).await
            else {
                return;
            };
            echo!(ws)
        }
    });
}
