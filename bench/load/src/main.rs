//! Library-neutral WebSocket load generator: one thread, epoll, client frames
//! encoded once at the start. It shares no code with any server under test.
//!
//! load echo  --addr A [--conns N --depth D --size S --kind K --frag F --deflate M ...]
//! load mem   --addr A --pid P [--conns N --size S ...]
//! load bcast --addr A --pid P [--conns N --size S ...]
//!
//! Prints one JSON object.

mod frames;
mod net;

use frames::*;
use net::*;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Opts {
    pub mode: String,
    pub addr: String,
    pub path: String,
    pub conns: usize,
    pub depth: usize,
    pub size: usize,
    pub kind: String,
    pub frag: usize,
    pub deflate: String,
    pub raw: bool,
    pub warmup: Duration,
    pub measure: Duration,
    /// The measurement lasts until this many messages came, too.
    pub least: u64,
    pub sample: u64,
    pub pid: i32,
    pub big: usize,
}

fn parse() -> Opts {
    let mut o = Opts {
        mode: String::new(),
        addr: "127.0.0.1:9001".into(),
        path: "/".into(),
        conns: 1,
        depth: 1,
        size: 16,
        kind: "binary".into(),
        frag: 1,
        deflate: "off".into(),
        raw: false,
        warmup: Duration::from_millis(300),
        measure: Duration::from_millis(1000),
        least: 0,
        sample: 64,
        pid: 0,
        big: 0,
    };
    let mut it = std::env::args().skip(1);
    o.mode = it.next().unwrap_or_else(|| die("usage: load echo|mem|bcast --addr HOST:PORT ..."));
    while let Some(k) = it.next() {
        if k == "--raw" {
            o.raw = true;
            continue;
        }
        let v = it.next().unwrap_or_else(|| die(&format!("{k} needs a value")));
        let n = || v.parse::<u64>().unwrap_or_else(|_| die(&format!("{k}: not a number: {v}")));
        match k.as_str() {
            "--addr" => o.addr = v,
            "--path" => o.path = v,
            "--conns" => o.conns = n() as usize,
            "--depth" => o.depth = n() as usize,
            "--size" => o.size = n() as usize,
            "--kind" => o.kind = v,
            "--frag" => o.frag = n() as usize,
            "--deflate" => o.deflate = v,
            "--warmup-ms" => o.warmup = Duration::from_millis(n()),
            "--measure-ms" => o.measure = Duration::from_millis(n()),
            "--least" => o.least = n(),
            "--sample" => o.sample = n().max(1),
            "--pid" => o.pid = n() as i32,
            "--big" => o.big = n() as usize,
            _ => die(&format!("unknown option {k}")),
        }
    }
    if !o.addr.starts_with("127.") && !o.addr.starts_with("[::1]") {
        die("loopback only");
    }
    o
}

pub fn die(m: &str) -> ! {
    eprintln!("load: {m}");
    println!("{{\"error\":{:?}}}", m);
    std::process::exit(2)
}

fn main() {
    let o = parse();
    match o.mode.as_str() {
        "echo" => echo(&o),
        "mem" => mem(&o),
        "bcast" => bcast(&o),
        m => die(&format!("unknown mode {m}")),
    }
}

fn pct(v: &[u32], p: f64) -> f64 {
    if v.is_empty() {
        return 0.0;
    }
    v[(((v.len() - 1) as f64) * p).round() as usize] as f64 / 1000.0
}

fn open(o: &Opts, n: usize) -> (Vec<Conn>, String, i32) {
    let ep = epoll_new();
    let mut conns = Vec::with_capacity(n);
    let mut ext = String::new();
    for i in 0..n {
        let (fd, e) = connect(o);
        ext = e;
        epoll_add(ep, fd, i);
        conns.push(Conn::new(fd, o, &ext));
    }
    (conns, ext, ep)
}

fn ring_for(o: &Opts, ext: &str) -> Ring {
    let copies = (2 * o.depth).clamp(if o.size >= 256 * 1024 { 4 } else { 64 }, 1024);
    let m = if o.deflate == "off" {
        Enc::Plain
    } else if !ext.contains("permessage-deflate") {
        die("permessage-deflate not negotiated")
    } else if ext.contains("client_no_context_takeover") {
        Enc::DeflateReset
    } else {
        Enc::DeflateTakeover
    };
    Ring::new(o, copies, m)
}

fn echo(o: &Opts) {
    let (mut conns, ext, ep) = open(o, o.conns);
    let ring = ring_for(o, &ext);
    let mut scratch = vec![0u8; 512 * 1024];
    let mut lat: Vec<u32> = Vec::with_capacity(if o.depth == 1 { 4 << 20 } else { 0 });
    for c in conns.iter_mut() {
        c.enqueue(&ring, o.depth);
        c.push(&ring, ep);
    }
    let start = Instant::now();
    let mut measuring = false;
    let (mut done, mut base_done) = (0u64, 0u64);
    let (mut rx, mut base_rx) = (0u64, 0u64);
    let (mut t0, mut cpu0, mut own0) = (start, 0u64, 0u64);
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut reads = 0u64;
    let mut base_reads = 0u64;
    let mut last_progress = Instant::now();
    let end_time;
    'out: loop {
        let n = epoll_wait(ep, &mut evs, 1000);
        let now = Instant::now();
        if n == 0 && now - last_progress > Duration::from_secs(5) {
            die("no progress for 5 s");
        }
        for e in &evs[..n] {
            let c = &mut conns[{ e.u64 } as usize];
            if { e.events } & (libc::EPOLLOUT as u32) != 0 {
                c.push(&ring, ep);
            }
            if { e.events } & !(libc::EPOLLOUT as u32) == 0 {
                continue;
            }
            let r = c.read(&mut scratch);
            if r == 0 {
                continue;
            }
            reads += 1;
            rx += r as u64;
            let k = c.receive(&scratch[..r], &ring, o);
            if k > 0 {
                if o.depth == 1 {
                    let t = Instant::now();
                    if measuring {
                        lat.push((t - c.sent_at).as_nanos().min(u32::MAX as u128) as u32);
                    }
                    c.sent_at = t;
                }
                done += k as u64;
                c.enqueue(&ring, k);
                c.push(&ring, ep);
            }
        }
        if n > 0 {
            last_progress = now;
        }
        if !measuring {
            if now - start >= o.warmup {
                measuring = true;
                (t0, base_done, base_rx, base_reads) = (Instant::now(), done, rx, reads);
                (cpu0, own0) = (cpu_ns(o.pid), own_cpu_ns());
            }
        } else if now - t0 >= o.measure && done - base_done >= o.least {
            end_time = Instant::now();
            break 'out;
        }
    }
    let secs = (end_time - t0).as_secs_f64();
    let (cpu, own) = (cpu_ns(o.pid) - cpu0, own_cpu_ns() - own0);
    let msgs = done - base_done;
    let verified: u64 = conns.iter().map(|c| c.verified).sum();
    lat.sort_unstable();
    println!(
        "{{\"mode\":\"echo\",\"msgs\":{msgs},\"secs\":{secs:.4},\"msgs_per_s\":{:.1},\"mb_per_s\":{:.2},\"server_cpu_us_per_msg\":{:.4},\"server_util\":{:.3},\"load_util\":{:.3},\"p50_us\":{:.2},\"p99_us\":{:.2},\"p999_us\":{:.2},\"verified\":{verified},\"rx_bytes_per_msg\":{:.1},\"msgs_per_read\":{:.2},\"ext\":{:?}}}",
        msgs as f64 / secs,
        msgs as f64 * o.size as f64 / secs / 1e6,
        cpu as f64 / 1e3 / msgs.max(1) as f64,
        cpu as f64 / 1e9 / secs,
        own as f64 / 1e9 / secs,
        pct(&lat, 0.5),
        pct(&lat, 0.99),
        pct(&lat, 0.999),
        (rx - base_rx) as f64 / msgs.max(1) as f64,
        msgs as f64 / (reads - base_reads).max(1) as f64,
        ext,
    );
    if msgs == 0 || verified == 0 {
        std::process::exit(3);
    }
}

/// Sends one message on every connection and waits for all echoes.
fn one_each(o: &Opts, conns: &mut [Conn], ring: &Ring, ep: i32) {
    let mut scratch = vec![0u8; 512 * 1024];
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    // in blocks, so that the server is not asked for everything at once
    let mut start = 0;
    while start < conns.len() {
        let end = (start + 50).min(conns.len());
        for c in conns[start..end].iter_mut() {
            c.enqueue(ring, 1);
            c.push(ring, ep);
        }
        let mut left = end - start;
        let t = Instant::now();
        while left > 0 {
            let n = epoll_wait(ep, &mut evs, 1000);
            if t.elapsed() > Duration::from_secs(20) {
                die("mem: no answer for 20 s");
            }
            for e in &evs[..n] {
                let c = &mut conns[{ e.u64 } as usize];
                if { e.events } & (libc::EPOLLOUT as u32) != 0 {
                    c.push(ring, ep);
                }
                if { e.events } & !(libc::EPOLLOUT as u32) == 0 {
                    continue;
                }
                let r = c.read(&mut scratch);
                if r > 0 {
                    left -= c.receive(&scratch[..r], ring, o);
                }
            }
        }
        start = end;
    }
}

fn mem(o: &Opts) {
    // a few connections first, so that one-time costs of the server are not counted
    let warm = Opts { conns: 8, ..o.clone() };
    let (mut w, ext, ep) = open(&warm, 8);
    let ring = ring_for(o, &ext);
    one_each(o, &mut w, &ring, ep);
    let settle = || std::thread::sleep(Duration::from_millis(400));
    settle();
    let r0 = rss_kb(o.pid);
    let (mut conns, ext, ep) = open(o, o.conns);
    settle();
    let r1 = rss_kb(o.pid);
    one_each(o, &mut conns, &ring, ep);
    settle();
    let r2 = rss_kb(o.pid);
    let mut big = String::from("null");
    if o.big > 0 {
        let ob = Opts { size: o.big, depth: 1, ..o.clone() };
        let ring = ring_for(&ob, &ext);
        for c in conns.iter_mut() {
            c.restart(&ob, &ext);
        }
        one_each(&ob, &mut conns, &ring, ep);
        settle();
        big = format!("{:.3}", (rss_kb(o.pid) as f64 - r0 as f64) / o.conns as f64);
    }
    let n = o.conns as f64;
    println!(
        "{{\"mode\":\"mem\",\"conns\":{},\"rss0_kb\":{r0},\"idle_kb_per_conn\":{:.3},\"after_msg_kb_per_conn\":{:.3},\"after_big_kb_per_conn\":{big},\"ext\":{:?}}}",
        o.conns,
        (r1 as f64 - r0 as f64) / n,
        (r2 as f64 - r0 as f64) / n,
        ext
    );
    drop(w);
}

fn bcast(o: &Opts) {
    let (mut conns, ext, ep) = open(o, o.conns);
    std::thread::sleep(Duration::from_millis(200));
    let ring = ring_for(o, &ext);
    let n_conns = conns.len();
    let mut scratch = vec![0u8; 256 * 1024];
    let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut lat: Vec<u32> = Vec::new();
    let start = Instant::now();
    let (mut t0, mut cpu0, mut own0, mut base) = (start, 0, 0, 0u64);
    let mut measuring = false;
    let mut rounds = 0u64;
    loop {
        let ts = Instant::now();
        // every receiver is to see the message that connection 0 sends now
        conns[0].enqueue(&ring, 1);
        conns[0].push(&ring, ep);
        let mut left = n_conns;
        while left > 0 {
            let n = epoll_wait(ep, &mut evs, 1000);
            if n == 0 && ts.elapsed() > Duration::from_secs(5) {
                die(&format!("bcast: {left} of {n_conns} receivers got nothing for 5 s"));
            }
            for e in &evs[..n] {
                let c = &mut conns[{ e.u64 } as usize];
                let r = c.read(&mut scratch);
                if r > 0 {
                    left -= c.receive(&scratch[..r], &ring, o);
                }
            }
        }
        let now = Instant::now();
        rounds += 1;
        if measuring {
            lat.push((now - ts).as_nanos().min(u32::MAX as u128) as u32);
            if now - t0 >= o.measure {
                break;
            }
        } else if now - start >= o.warmup {
            measuring = true;
            (t0, base, cpu0, own0) = (Instant::now(), rounds, cpu_ns(o.pid), own_cpu_ns());
        }
    }
    let secs = t0.elapsed().as_secs_f64();
    let (cpu, own) = (cpu_ns(o.pid) - cpu0, own_cpu_ns() - own0);
    let dl = (rounds - base) * n_conns as u64;
    lat.sort_unstable();
    let verified: u64 = conns.iter().map(|c| c.verified).sum();
    println!(
        "{{\"mode\":\"bcast\",\"msgs\":{dl},\"secs\":{secs:.4},\"msgs_per_s\":{:.1},\"server_cpu_us_per_msg\":{:.4},\"server_util\":{:.3},\"load_util\":{:.3},\"p50_us\":{:.2},\"p99_us\":{:.2},\"verified\":{verified}}}",
        dl as f64 / secs,
        cpu as f64 / 1e3 / dl as f64,
        cpu as f64 / 1e9 / secs,
        own as f64 / 1e9 / secs,
        pct(&lat, 0.5),
        pct(&lat, 0.99),
    );
}
