//! Codec costs without sockets: take masked client frames, unmask, make the echo frames.
//!
//! `codec bench ROUNDS` prints ns a message, a line of JSON each; `codec once CODEC SIZE KIND N` runs N messages for an
//! instruction counter. A new codec is one more arm in `make`.

mod floor;
mod mem;

use futures::{Sink, Stream};
use mem::*;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Echoes at least `n` messages, returns how many it did.
type Run = Box<dyn FnMut(usize) -> usize>;

pub const CHUNK: usize = 64 * 1024;

fn frames(size: usize, kind: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut x = 0x2545_F491_4F6C_DD1Du64;
    let n = (256 * 1024 / (size + 8)).clamp(2, 512);
    for _ in 0..n {
        let mut p = Vec::with_capacity(size + 8);
        while p.len() < size {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            match kind {
                "binary" => p.extend_from_slice(&x.to_le_bytes()),
                "text" => p.push(b'a' + (x % 26) as u8),
                _ => {
                    let c = ['é', 'ж', '中', '文', '日', '한', '€', '😀'][(x % 8) as usize];
                    if p.len() + c.len_utf8() > size {
                        p.resize(size, b'.');
                    } else {
                        p.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
        }
        p.truncate(size);
        out.push(0x80 | if kind == "binary" { 2 } else { 1 });
        match size {
            n if n < 126 => out.push(0x80 | n as u8),
            n if n < 65536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        let key = ((x as u32) | 0x0101_0101).to_le_bytes();
        out.extend_from_slice(&key);
        out.extend(p.iter().enumerate().map(|(i, b)| b ^ key[i & 3]));
    }
    out
}

/// Polls until ready; "would block" costs one more poll.
fn spin<F: Future>(f: F) -> F::Output {
    let mut f = pin!(f);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(r) = f.as_mut().poll(&mut cx) {
            return r;
        }
    }
}

fn stream_sink<S, M, E>(mut ws: S) -> Run
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin + 'static,
    E: std::fmt::Debug,
{
    Box::new(move |n| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut done = 0;
        loop {
            match Pin::new(&mut ws).poll_next(&mut cx) {
                Poll::Ready(m) => {
                    let m = m.expect("open").expect("message");
                    while Pin::new(&mut ws).poll_ready(&mut cx).is_pending() {}
                    Pin::new(&mut ws).start_send(m).expect("send");
                    done += 1;
                }
                Poll::Pending => {
                    while Pin::new(&mut ws).poll_flush(&mut cx).is_pending() {}
                    if done >= n {
                        return done;
                    }
                }
            }
        }
    })
}

struct Yawc(yawc::WebSocket<Mem>);
impl Stream for Yawc {
    type Item = Result<yawc::Frame, yawc::WebSocketError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_frame(cx).map(Some)
    }
}
impl Sink<yawc::Frame> for Yawc {
    type Error = yawc::WebSocketError;
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }
    fn start_send(mut self: Pin<&mut Self>, f: yawc::Frame) -> Result<(), Self::Error> {
        Pin::new(&mut self.0).start_send(f)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

const LIBS: &[&str] = &[
    "floor: copy in",
    "floor: copy in + XOR",
    "floor: in-place echo",
    "ws-proto",
    "tungstenite",
    "fastwebsockets",
    "tokio-websockets",
    "soketto",
    "sockudo-ws (stream)",
    "sockudo-ws (protocol)",
    "yawc",
];

fn make(lib: &str, src: Arc<Vec<u8>>, size: usize, kind: &str) -> Run {
    let io = Mem::new(src, CHUNK);
    match lib {
        "floor: copy in" => floor::copy(io, size),
        "floor: copy in + XOR" => floor::copy_xor(io, size),
        "floor: in-place echo" => floor::in_place(io, kind != "binary"),
        "ws-proto" => {
            use std::io::{IoSlice, Write};
            use ws_proto::{Config, Connection, Event, Machine};
            let now = Instant::now();
            let (mut ws, mut io) = (Connection::server(&Config::default(), now), io);
            // As the example `echo`: long messages are answered with their own memory.
            Box::new(move |n| {
                let mut done = 0;
                loop {
                    let Some(len) = io.fill(ws.recv_space()) else {
                        ws.poll_timeout(now);
                        if done >= n {
                            return done;
                        }
                        continue;
                    };
                    ws.handle_input(len, now);
                    while ws.advance() {
                        let (event, sender) = ws.split_mut();
                        match event {
                            Some(Event::Text(text)) => sender.send_text(text).expect("send"),
                            Some(Event::Binary(payload)) if payload.len() <= CHUNK => {
                                sender.send_binary(payload).expect("send");
                            }
                            _ => {
                                let message = ws.take_message().expect("message");
                                ws.sender().send(&message).expect("send");
                            }
                        }
                        done += 1;
                    }
                    loop {
                        let mut slices = [IoSlice::new(&[]); 16];
                        let count = ws.output(&mut slices);
                        if count == 0 {
                            break;
                        }
                        let len = io.write_vectored(&slices[..count]).expect("write");
                        ws.consume(len);
                    }
                }
            })
        }
        "tungstenite" => {
            use tungstenite::protocol::{Role, WebSocket};
            let mut ws = WebSocket::from_raw_socket(io, Role::Server, None);
            Box::new(move |n| {
                let mut done = 0;
                loop {
                    match ws.read() {
                        Ok(m) => {
                            ws.write(m).expect("write");
                            done += 1;
                        }
                        Err(tungstenite::Error::Io(_)) => {
                            ws.flush().expect("flush");
                            if done >= n {
                                return done;
                            }
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
            })
        }
        "fastwebsockets" => {
            use fastwebsockets::*;
            let mut ws = WebSocket::after_handshake(io, Role::Server);
            ws.set_writev(true);
            ws.set_max_message_size(64 << 20);
            let mut ws = FragmentCollector::new(ws);
            Box::new(move |n| {
                for _ in 0..n {
                    let f = spin(ws.read_frame()).expect("frame");
                    spin(ws.write_frame(f)).expect("write");
                }
                n
            })
        }
        "tokio-websockets" => stream_sink(
            tokio_websockets::ServerBuilder::new()
                .config(tokio_websockets::Config::default().frame_size(usize::MAX))
                .limits(tokio_websockets::Limits::unlimited())
                .serve(io),
        ),
        "soketto" => {
            use futures::io::{BufReader, BufWriter};
            let io = BufReader::with_capacity(8 * 1024, BufWriter::with_capacity(16 * 1024, io));
            let (mut tx, mut rx) = soketto::connection::Builder::new(io, soketto::Mode::Server).finish();
            let mut msg = Vec::new();
            Box::new(move |n| {
                for _ in 0..n {
                    msg.clear();
                    match spin(rx.receive_data(&mut msg)).expect("message") {
                        soketto::Data::Binary(_) => spin(tx.send_binary_mut(&mut msg)).expect("send"),
                        soketto::Data::Text(_) => {
                            spin(tx.send_text(std::str::from_utf8(&msg).expect("utf8"))).expect("send")
                        }
                    }
                }
                spin(tx.flush()).expect("flush");
                n
            })
        }
        "sockudo-ws (stream)" => {
            stream_sink(sockudo_ws::WebSocketStream::server(io, sockudo_ws::Config::default()))
        }
        "sockudo-ws (protocol)" => {
            use bytes::BytesMut;
            use sockudo_ws::protocol::Protocol;
            let mut p = Protocol::new(sockudo_ws::Role::Server, 64 << 20, 64 << 20);
            let (mut io, mut inb, mut out, mut msgs) = (io, BytesMut::new(), BytesMut::new(), Vec::new());
            Box::new(move |n| {
                let mut done = 0;
                loop {
                    inb.reserve(CHUNK.max(size / 4));
                    let dst = inb.spare_capacity_mut();
                    let dst =
                        unsafe { std::slice::from_raw_parts_mut(dst.as_mut_ptr() as *mut u8, dst.len()) };
                    let Some(k) = io.fill(dst) else {
                        if done >= n {
                            return done;
                        }
                        continue;
                    };
                    let l = inb.len();
                    unsafe { inb.set_len(l + k) };
                    p.process_into(&mut inb, &mut msgs).expect("process");
                    for m in msgs.drain(..) {
                        p.encode_message(&m, &mut out).expect("encode");
                        done += 1;
                    }
                    if !out.is_empty() {
                        use std::io::Write;
                        io.write_all(&out).expect("write");
                        out.clear();
                    }
                }
            })
        }
        "yawc" => {
            let o = yawc::Options::default()
                .with_limits(64 << 20, 128 << 20)
                .with_read_buffer_capacity(128 * 1024)
                .with_backpressure_boundary(64 * 1024)
                .with_utf8()
                .without_compression();
            stream_sink(Yawc(yawc::WebSocket::from_stream(io, yawc::Role::Server, o).expect("yawc")))
        }
        l => panic!("unknown codec {l}"),
    }
}

fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    // some codecs make timers; nothing drives this runtime
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _in = rt.enter();
    match a.first().map(|s| s.as_str()) {
        Some("libs") => println!("{}", LIBS.join("\n")),
        Some("once") => {
            let (size, n) = (a[2].parse().unwrap(), a[4].parse::<usize>().unwrap());
            let mut run = make(&a[1], Arc::new(frames(size, &a[3])), size, &a[3]);
            let mut left = n as i64;
            while left > 0 {
                left -= run(left as usize) as i64;
            }
            println!("{}", n as i64 - left);
        }
        Some("bench") => {
            let rounds: usize = a.get(1).map(|s| s.parse().unwrap()).unwrap_or(15);
            for kind in ["binary", "text", "utf8"] {
                let sizes: &[usize] =
                    if kind == "binary" { &[16, 128, 4096, 65536, 1 << 20] } else { &[128, 4096, 65536] };
                for &size in sizes {
                    let src = Arc::new(frames(size, kind));
                    let mut runs: Vec<Run> = LIBS.iter().map(|l| make(l, src.clone(), size, kind)).collect();
                    let per = (4_000_000 / (60 + size / 8)).max(8);
                    let mut t = vec![Vec::new(); LIBS.len()];
                    let mut w = vec![0.0; LIBS.len()];
                    for r in 0..rounds + 1 {
                        for (i, run) in runs.iter_mut().enumerate() {
                            let w0 = WRITES.load(Relaxed);
                            let s = Instant::now();
                            let n = run(per);
                            let ns = s.elapsed().as_nanos() as f64 / n as f64;
                            if r > 0 {
                                t[i].push(ns);
                                w[i] = (WRITES.load(Relaxed) - w0) as f64 / n as f64;
                            }
                        }
                    }
                    for (i, v) in t.iter_mut().enumerate() {
                        v.sort_by(|a, b| a.total_cmp(b));
                        let (codec, ns, writes) = (LIBS[i], v[v.len() / 2], w[i]);
                        println!(
                            r#"{{"codec":"{codec}","kind":"{kind}","size":{size},"ns":{ns:.1},"writes":{writes:.3}}}"#
                        );
                    }
                }
            }
            floor::kernels();
        }
        _ => eprintln!("codec bench [ROUNDS] | codec once LIB SIZE KIND N | codec libs"),
    }
}
