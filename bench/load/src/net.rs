//! Sockets, CPU clocks and the receiving side of one connection.

use crate::{Opts, Ring, die};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

pub fn epoll_new() -> i32 {
    unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }
}
pub fn epoll_add(ep: i32, fd: i32, id: usize) {
    let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: id as u64 };
    unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, fd, &mut ev) };
    IDS.with(|m| {
        let mut m = m.borrow_mut();
        if m.len() <= fd as usize {
            m.resize(fd as usize + 1, 0);
        }
        m[fd as usize] = id;
    });
}
thread_local! { static IDS: std::cell::RefCell<Vec<usize>> = const { std::cell::RefCell::new(Vec::new()) }; }
pub fn epoll_wait(ep: i32, evs: &mut [libc::epoll_event], ms: i32) -> usize {
    unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), evs.len() as i32, ms) }.max(0) as usize
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    if unsafe { libc::clock_gettime(id, &mut ts) } != 0 {
        return 0;
    }
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
/// CPU time of all threads of a process, in ns (the kernel's own run time
/// count, finer than the ticks of /proc/PID/stat).
pub fn cpu_ns(pid: i32) -> u64 {
    if pid == 0 {
        return 0;
    }
    let mut id: libc::clockid_t = 0;
    if unsafe { libc::clock_getcpuclockid(pid, &mut id) } != 0 {
        return 0;
    }
    clock(id)
}
pub fn own_cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}
pub fn rss_kb(pid: i32) -> u64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let f = |k: &str| {
        s.lines().find(|l| l.starts_with(k)).and_then(|l| l.split_whitespace().nth(1)?.parse().ok())
    };
    f("Rss:").unwrap_or(0)
}

/// Connects and does the opening handshake; returns the descriptor and the
/// server's Sec-WebSocket-Extensions.
pub fn connect(o: &Opts) -> (i32, String) {
    let mut last = String::new();
    for _ in 0..50 {
        match try_connect(o) {
            Ok(r) => return r,
            Err(e) => last = e,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    die(&format!("connect: {last}"))
}

fn try_connect(o: &Opts) -> Result<(i32, String), String> {
    let mut s = TcpStream::connect(&o.addr).map_err(|e| e.to_string())?;
    s.set_nodelay(true).map_err(|e| e.to_string())?;
    let mut ext = String::new();
    if !o.raw {
        s.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
        let offer = match o.deflate.as_str() {
            "off" => "",
            "takeover" => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            "no-takeover" => {
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover\r\n"
            }
            d => die(&format!("--deflate {d}")),
        };
        let req = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n",
            o.path, o.addr
        );
        s.write_all(req.as_bytes()).map_err(|e| e.to_string())?;
        let mut head = Vec::new();
        let mut b = [0u8; 1];
        while !head.ends_with(b"\r\n\r\n") {
            if s.read(&mut b).map_err(|e| e.to_string())? == 0 {
                return Err("closed in handshake".into());
            }
            head.push(b[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.starts_with("HTTP/1.1 101") {
            return Err(format!("handshake: {}", head.lines().next().unwrap_or("")));
        }
        if !head.to_ascii_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo=") {
            return Err("handshake: wrong Sec-WebSocket-Accept".into());
        }
        for l in head.lines() {
            if let Some((k, v)) = l.split_once(':')
                && k.eq_ignore_ascii_case("sec-websocket-extensions")
            {
                ext = v.trim().to_string();
            }
        }
        if let Some(b) = ext.split(';').find_map(|p| p.trim().strip_prefix("client_max_window_bits="))
            && b.trim() != "15"
        {
            return Err(format!("server asks for client_max_window_bits={b}; not done here"));
        }
    }
    s.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok((s.into_raw_fd(), ext))
}

pub struct Conn {
    fd: i32,
    // sending: a cursor in the ring and the number of bytes still to go
    tx_pos: usize,
    tx_left: usize,
    tx_msg: usize,
    armed: bool,
    pub sent_at: Instant,
    // receiving
    rx_msg: usize,
    hdr: [u8; 14],
    hdr_len: usize,
    frame_left: usize,
    frame_fin: bool,
    frame_ctl: bool,
    in_msg: bool,
    compressed: bool,
    got: usize,
    check: bool,
    raw_left: usize,
    pub count: u64,
    pub verified: u64,
    inflate: Option<Box<Decompress>>,
    reset_each: bool,
    zbuf: Vec<u8>,
    obuf: Vec<u8>,
}

impl Conn {
    pub fn new(fd: i32, o: &Opts, ext: &str) -> Conn {
        let z = o.deflate != "off";
        Conn {
            fd,
            tx_pos: 0,
            tx_left: 0,
            tx_msg: 0,
            armed: false,
            sent_at: Instant::now(),
            rx_msg: 0,
            hdr: [0; 14],
            hdr_len: 0,
            frame_left: 0,
            frame_fin: false,
            frame_ctl: false,
            in_msg: false,
            compressed: false,
            got: 0,
            check: true,
            raw_left: 0,
            count: 0,
            verified: 0,
            inflate: (z && o.mode == "echo").then(|| Box::new(Decompress::new(false))),
            reset_each: ext.contains("server_no_context_takeover"),
            zbuf: Vec::new(),
            obuf: Vec::new(),
        }
    }

    /// Starts over with another ring (all echoes have come back).
    pub fn restart(&mut self, o: &Opts, ext: &str) {
        let fd = std::mem::replace(&mut self.fd, -1);
        *self = Conn::new(fd, o, ext);
    }

    pub fn enqueue(&mut self, ring: &Ring, msgs: usize) {
        for _ in 0..msgs {
            self.tx_left += ring.off[self.tx_msg + 1] - ring.off[self.tx_msg];
            self.tx_msg = if self.tx_msg + 1 == ring.n { 0 } else { self.tx_msg + 1 };
        }
    }

    pub fn push(&mut self, ring: &Ring, ep: i32) {
        while self.tx_left > 0 {
            let len = ring.wire.len();
            let a = &ring.wire[self.tx_pos..(self.tx_pos + self.tx_left).min(len)];
            let b = &ring.wire[..(self.tx_left - a.len()).min(self.tx_pos)];
            let iov = [
                libc::iovec { iov_base: a.as_ptr() as *mut _, iov_len: a.len() },
                libc::iovec { iov_base: b.as_ptr() as *mut _, iov_len: b.len() },
            ];
            let w = unsafe {
                if b.is_empty() {
                    libc::write(self.fd, a.as_ptr() as *const _, a.len())
                } else {
                    libc::writev(self.fd, iov.as_ptr(), 2)
                }
            };
            if w < 0 {
                let e = std::io::Error::last_os_error();
                if e.kind() != std::io::ErrorKind::WouldBlock {
                    die(&format!("write: {e}"));
                }
                break;
            }
            self.tx_left -= w as usize;
            self.tx_pos = (self.tx_pos + w as usize) % len;
        }
        let want = self.tx_left > 0;
        if want != self.armed {
            self.armed = want;
            let id = IDS.with(|m| m.borrow()[self.fd as usize]);
            let events = libc::EPOLLIN as u32 | if want { libc::EPOLLOUT as u32 } else { 0 };
            let mut ev = libc::epoll_event { events, u64: id as u64 };
            unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_MOD, self.fd, &mut ev) };
        }
    }

    pub fn read(&mut self, buf: &mut [u8]) -> usize {
        let r = unsafe { libc::read(self.fd, buf.as_mut_ptr() as *mut _, buf.len()) };
        if r < 0 {
            let e = std::io::Error::last_os_error();
            if e.kind() == std::io::ErrorKind::WouldBlock {
                return 0;
            }
            die(&format!("read: {e}"));
        }
        if r == 0 {
            die("server closed the connection");
        }
        r as usize
    }

    fn finish(&mut self, ring: &Ring, o: &Opts) {
        let want = if o.mode == "bcast" { o.size } else { ring.payload[self.rx_msg].len() };
        if self.compressed {
            if let Some(d) = self.inflate.as_mut() {
                self.zbuf.extend_from_slice(&[0, 0, 0xff, 0xff]);
                self.obuf.clear();
                self.obuf.reserve(want + 64);
                let start = d.total_in();
                loop {
                    let used = (d.total_in() - start) as usize;
                    let st = d.decompress_vec(&self.zbuf[used..], &mut self.obuf, FlushDecompress::Sync);
                    match st {
                        Ok(Status::StreamEnd) => {
                            d.reset(false);
                            break;
                        }
                        Ok(_) => {}
                        Err(e) => die(&format!("inflate: {e}")),
                    }
                    if (d.total_in() - start) as usize == self.zbuf.len()
                        && self.obuf.len() < self.obuf.capacity()
                    {
                        break;
                    }
                    if self.obuf.len() == self.obuf.capacity() {
                        self.obuf.reserve(want);
                    }
                    if self.obuf.len() > want + 4096 {
                        die("inflate: too long");
                    }
                }
                if self.reset_each {
                    d.reset(false);
                }
                if self.obuf != ring.payload[self.rx_msg] {
                    die("deflate: content differs");
                }
                self.verified += 1;
            }
            self.zbuf.clear();
        } else {
            if self.got != want {
                die(&format!("length {} instead of {want}", self.got));
            }
            if self.check {
                self.verified += 1;
            }
        }
        self.got = 0;
        self.in_msg = false;
        self.compressed = false;
        self.count += 1;
        self.check = self.count.is_multiple_of(o.sample);
        self.rx_msg = if self.rx_msg + 1 == ring.n { 0 } else { self.rx_msg + 1 };
    }

    /// Takes received bytes; returns how many messages they completed.
    pub fn receive(&mut self, mut b: &[u8], ring: &Ring, o: &Opts) -> usize {
        let mut done = 0;
        if o.raw {
            while !b.is_empty() {
                let (s, e) = (ring.off[self.rx_msg], ring.off[self.rx_msg + 1]);
                if self.raw_left == 0 {
                    self.raw_left = e - s;
                }
                let n = b.len().min(self.raw_left);
                if self.check
                    && o.mode != "bcast"
                    && b[..n] != ring.wire[e - self.raw_left..e - self.raw_left + n]
                {
                    die("raw: content differs");
                }
                self.raw_left -= n;
                b = &b[n..];
                if self.raw_left == 0 {
                    self.got = ring.payload[self.rx_msg].len();
                    self.finish(ring, o);
                    done += 1;
                }
            }
            return done;
        }
        while !b.is_empty() {
            if self.frame_left == 0 && (self.hdr_len > 0 || !b.is_empty()) {
                // header, possibly in pieces
                let need = |h: &[u8], l: usize| -> usize {
                    if l < 2 {
                        2
                    } else {
                        match h[1] & 0x7f {
                            126 => 4,
                            127 => 10,
                            _ => 2,
                        }
                    }
                };
                while self.hdr_len < need(&self.hdr, self.hdr_len) && !b.is_empty() {
                    self.hdr[self.hdr_len] = b[0];
                    self.hdr_len += 1;
                    b = &b[1..];
                }
                if self.hdr_len < need(&self.hdr, self.hdr_len) {
                    return done;
                }
                let h = &self.hdr;
                if h[1] & 0x80 != 0 {
                    die("masked frame from the server");
                }
                let len = match h[1] & 0x7f {
                    126 => u16::from_be_bytes([h[2], h[3]]) as usize,
                    127 => u64::from_be_bytes(h[2..10].try_into().unwrap()) as usize,
                    n => n as usize,
                };
                self.hdr_len = 0;
                self.frame_fin = h[0] & 0x80 != 0;
                let op = h[0] & 0x0f;
                self.frame_ctl = op >= 8;
                if op == 8 {
                    die("close frame from the server");
                }
                if !self.frame_ctl {
                    if self.in_msg {
                        if op != 0 {
                            die("expected a continuation");
                        }
                    } else {
                        if op != ring.opcode {
                            die(&format!("opcode {op} instead of {}", ring.opcode));
                        }
                        self.in_msg = true;
                        self.compressed = h[0] & 0x40 != 0;
                    }
                }
                self.frame_left = len;
                if len == 0 {
                    if !self.frame_ctl && self.frame_fin {
                        self.finish(ring, o);
                        done += 1;
                    }
                    continue;
                }
            }
            let n = b.len().min(self.frame_left);
            if !self.frame_ctl {
                if self.compressed {
                    self.zbuf.extend_from_slice(&b[..n]);
                } else if self.check && o.mode != "bcast" {
                    let p = &ring.payload[self.rx_msg];
                    if self.got + n > p.len() || b[..n] != p[self.got..self.got + n] {
                        die("content differs");
                    }
                }
                self.got += n;
            }
            self.frame_left -= n;
            b = &b[n..];
            if self.frame_left == 0 && self.frame_fin && !self.frame_ctl {
                self.finish(ring, o);
                done += 1;
            }
        }
        done
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.fd >= 0 {
            unsafe { libc::close(self.fd) };
        }
    }
}
