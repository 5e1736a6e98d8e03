//! Command line, listening socket, a minimal server handshake and the echo
//! loop that all the peers share, so that they differ only in the library.

use std::net::TcpListener;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deflate {
    Off,
    /// context takeover in both directions where the library can do it
    Takeover,
    /// no context takeover in either direction
    NoTakeover,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// `send`: one flush a message
    Each,
    /// `feed` while messages are ready, flush when the stream would wait
    Idle,
    /// take all messages that are ready (at most 64), then feed them and flush
    Batch,
}

#[derive(Clone, Debug)]
pub struct Args {
    pub port: u16,
    pub bcast: bool,
    pub flush: Flush,
    pub deflate: Deflate,
    /// free-form `--opt key=value` settings of one peer
    pub opts: Vec<(String, String)>,
}

impl Args {
    pub fn parse() -> Args {
        let mut a =
            Args { port: 9001, bcast: false, flush: Flush::Each, deflate: Deflate::Off, opts: vec![] };
        let mut it = std::env::args().skip(1);
        while let Some(k) = it.next() {
            let mut v = || it.next().unwrap_or_else(|| panic!("{k} needs a value"));
            match k.as_str() {
                "--port" => a.port = v().parse().expect("port"),
                "--mode" => a.bcast = v() == "bcast",
                "--flush" => {
                    a.flush = match v().as_str() {
                        "each" => Flush::Each,
                        "idle" => Flush::Idle,
                        "batch" => Flush::Batch,
                        o => panic!("--flush {o}"),
                    }
                }
                "--deflate" => {
                    a.deflate = match v().as_str() {
                        "off" => Deflate::Off,
                        "takeover" => Deflate::Takeover,
                        "no-takeover" => Deflate::NoTakeover,
                        o => panic!("--deflate {o}"),
                    }
                }
                "--opt" => {
                    let kv = v();
                    let (k, v) = kv.split_once('=').expect("--opt key=value");
                    a.opts.push((k.into(), v.into()));
                }
                o => panic!("unknown option {o}"),
            }
        }
        a
    }
    pub fn opt(&self, k: &str) -> Option<&str> {
        self.opts.iter().rev().find(|(a, _)| a == k).map(|(_, v)| v.as_str())
    }
    pub fn opt_usize(&self, k: &str, default: usize) -> usize {
        self.opt(k).map(|v| v.parse().expect("number")).unwrap_or(default)
    }
    pub fn listen(&self) -> TcpListener {
        let l = TcpListener::bind(("127.0.0.1", self.port)).expect("bind");
        l.set_nonblocking(true).expect("nonblocking");
        l
    }
}

fn base64(input: &[u8]) -> String {
    const T: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for c in input.chunks(3) {
        let n = (c[0] as u32) << 16 | (*c.get(1).unwrap_or(&0) as u32) << 8 | *c.get(2).unwrap_or(&0) as u32;
        for i in 0..4 {
            if i <= c.len() {
                out.push(T[(n >> (18 - 6 * i)) as usize & 63] as char);
            } else {
                out.push('=');
            }
        }
    }
    out
}

pub fn accept_key(key: &str) -> String {
    use sha1::{Digest, Sha1};
    let mut h = Sha1::new();
    h.update(key.trim().as_bytes());
    h.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&h.finalize())
}

/// The value of one header of a request head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|l| {
        let (k, v) = l.split_once(':')?;
        k.trim().eq_ignore_ascii_case(name).then(|| v.trim())
    })
}

/// The 101 answer to a request head.
pub fn response(head: &str, extensions: Option<&str>) -> Option<String> {
    let key = header(head, "sec-websocket-key")?;
    let mut r = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    if let Some(e) = extensions {
        r.push_str(&format!("Sec-WebSocket-Extensions: {e}\r\n"));
    }
    r.push_str("\r\n");
    Some(r)
}

/// A plain WebSocket echo over two buffers: of each frame that came whole it reads the header, unmasks the payload where
/// it lies, and copies it behind a header of its own. No checks, no limits, and nothing but messages.
///
/// Gives how many bytes of `input` that were and how many are in `output`, which must be as long.
pub fn answer(input: &mut [u8], output: &mut [u8]) -> (usize, usize) {
    let (mut at, mut made) = (0, 0);
    loop {
        let frame = &mut input[at..];
        let [first, second, ..] = *frame else { return (at, made) };
        let (header_len, len) = match (second & 0x7f, &*frame) {
            (126, &[_, _, a, b, ..]) => (8, u16::from_be_bytes([a, b]).into()),
            (127, [_, _, len @ ..]) => match len.first_chunk() {
                Some(len) => (14, u64::from_be_bytes(*len) as usize),
                None => return (at, made),
            },
            (126, _) => return (at, made),
            (len, _) => (6, usize::from(len)),
        };
        let Some((header, payload)) = frame.split_at_mut_checked(header_len) else { return (at, made) };
        let Some(payload) = payload.get_mut(..len) else { return (at, made) };
        let key = u64::from(u32::from_ne_bytes(*header.last_chunk().expect("a header ends with its key")));
        let (words, tail) = payload.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ (key << 32 | key)).to_ne_bytes();
        }
        for (byte, key) in tail.iter_mut().zip(key.to_ne_bytes()[..4].iter().cycle()) {
            *byte ^= key;
        }
        let space = &mut output[made..];
        let unmasked = header_len - 4;
        space[..unmasked].copy_from_slice(&header[..unmasked]);
        (space[0], space[1]) = (first, second & 0x7f);
        space[unmasked..unmasked + len].copy_from_slice(payload);
        at += header_len + len;
        made += unmasked + len;
    }
}

/// A connection's bytes on their way to [`answer`] and back.
pub struct Frames {
    input: Vec<u8>,
    output: Vec<u8>,
    len: usize,
    is_open: bool,
}

impl Frames {
    pub fn new(buf: usize) -> Self {
        Self { input: vec![0; buf], output: vec![0; buf], len: 0, is_open: false }
    }

    /// Where the next read goes.
    pub fn space(&mut self) -> &mut [u8] {
        if self.len == self.input.len() {
            self.input.resize(2 * self.len, 0);
            self.output.resize(2 * self.len, 0);
        }
        &mut self.input[self.len..]
    }

    /// What is to be written now that so many bytes were read: first the answer to the handshake, then frames.
    pub fn answer(&mut self, read: usize) -> &[u8] {
        self.len += read;
        if !self.is_open {
            let Ok(head) = std::str::from_utf8(&self.input[..self.len]) else { return &[] };
            if !head.ends_with("\r\n\r\n") {
                return &[];
            }
            let answer = response(head, None).unwrap_or_default();
            (self.is_open, self.len) = (true, 0);
            self.output[..answer.len()].copy_from_slice(answer.as_bytes());
            return &self.output[..answer.len()];
        }
        let (used, made) = answer(&mut self.input[..self.len], &mut self.output);
        self.input.copy_within(used..self.len, 0);
        self.len -= used;
        &self.output[..made]
    }
}

#[cfg(feature = "tokio")]
mod tk {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Single-threaded runtime, accept loop, one unconstrained task a connection.
    pub fn serve<F, Fut>(args: Args, handler: F)
    where
        F: Fn(TcpStream, Args) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        // LocalSet is only used where a handler is not Send; see serve_send.
        local.block_on(&rt, async move {
            let l = TcpListener::from_std(args.listen()).unwrap();
            loop {
                let Ok((s, _)) = l.accept().await else { continue };
                let _ = s.set_nodelay(true);
                tokio::task::spawn_local(tokio::task::unconstrained(handler(s, args.clone())));
            }
        });
    }

    /// The same with Send handlers and plain spawn, which is cheaper than LocalSet.
    pub fn serve_send<F, Fut>(args: Args, handler: F)
    where
        F: Fn(TcpStream, Args) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut b = tokio::runtime::Builder::new_current_thread();
        b.enable_all();
        let rt = b.build().unwrap();
        rt.block_on(async move {
            let l = TcpListener::from_std(args.listen()).unwrap();
            loop {
                let Ok((s, _)) = l.accept().await else { continue };
                let _ = s.set_nodelay(true);
                tokio::spawn(tokio::task::unconstrained(handler(s, args.clone())));
            }
        });
    }

    /// Reads the request head and answers it; `ext` sees the client's offer.
    pub async fn handshake(
        s: &mut TcpStream,
        ext: impl FnOnce(Option<&str>) -> Option<String>,
    ) -> Option<()> {
        let mut buf = Vec::with_capacity(1024);
        loop {
            if s.read_buf(&mut buf).await.ok()? == 0 {
                return None;
            }
            if buf.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let head = std::str::from_utf8(&buf).ok()?;
        let e = ext(header(head, "sec-websocket-extensions"));
        let r = response(head, e.as_deref())?;
        s.write_all(r.as_bytes()).await.ok()?;
        Some(())
    }
}
#[cfg(feature = "tokio")]
pub use tk::*;

#[cfg(feature = "futures")]
mod fu {
    use futures_util::{Sink, SinkExt, Stream, StreamExt, poll};
    use std::task::Poll;

    /// Echo loop of a `Stream + Sink` library.
    pub async fn echo<S, M, E>(ws: &mut S, flush: super::Flush, is_data: impl Fn(&M) -> bool)
    where
        S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    {
        use super::Flush;
        if flush == Flush::Batch {
            let mut q = std::collections::VecDeque::new();
            loop {
                match ws.next().await {
                    Some(Ok(m)) => q.push_back(m),
                    _ => return,
                }
                let mut end = false;
                while q.len() < 64 {
                    match poll!(ws.next()) {
                        Poll::Ready(Some(Ok(m))) => q.push_back(m),
                        Poll::Ready(_) => {
                            end = true;
                            break;
                        }
                        Poll::Pending => break,
                    }
                }
                for m in q.drain(..) {
                    if is_data(&m) && ws.feed(m).await.is_err() {
                        return;
                    }
                }
                if ws.flush().await.is_err() || end {
                    return;
                }
            }
        }
        if flush == Flush::Each {
            while let Some(Ok(m)) = ws.next().await {
                if is_data(&m) && ws.send(m).await.is_err() {
                    return;
                }
            }
            return;
        }
        loop {
            let m = match poll!(ws.next()) {
                Poll::Ready(m) => m,
                Poll::Pending => {
                    if ws.flush().await.is_err() {
                        return;
                    }
                    ws.next().await
                }
            };
            match m {
                Some(Ok(m)) if is_data(&m) => {
                    if ws.feed(m).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            }
        }
    }
}
#[cfg(feature = "futures")]
pub use fu::*;
