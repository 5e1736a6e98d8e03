//! Payloads and the periodic stream of pre-encoded client frames.

use crate::Opts;
use flate2::{Compress, Compression, FlushCompress, Status};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Enc {
    Plain,
    /// one deflate context over all the messages of the ring
    DeflateTakeover,
    /// each message compressed on its own
    DeflateReset,
}

/// `n` messages laid out one after the other as wire bytes; message `i` is
/// `wire[off[i]..off[i + 1]]`. A connection sends the ring over and over.
pub struct Ring {
    pub wire: Vec<u8>,
    pub off: Vec<usize>,
    pub payload: Vec<Vec<u8>>,
    pub opcode: u8,
    pub n: usize,
}

struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// binary: random bytes; text: ASCII; utf8: mixed one- to four-byte
/// characters; json: records as an application would send them.
pub fn payload(kind: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut r = Rng(0x9E37_79B9_7F4A_7C15 ^ (seed + 1).wrapping_mul(0xD134_2543_DE82_EF95));
    let mut v = Vec::with_capacity(size + 8);
    match kind {
        "binary" => {
            while v.len() < size {
                v.extend_from_slice(&r.next().to_le_bytes());
            }
            v.truncate(size);
        }
        "text" => {
            while v.len() < size {
                v.push(b" etaoinshrdlucmfwypvbgkjqxz.,ETAOINSHRDLU"[(r.next() % 41) as usize]);
            }
        }
        "utf8" => {
            const C: [char; 16] =
                ['é', 'ß', 'ж', 'д', 'я', 'ω', '中', '文', '日', '本', '語', '한', '글', '€', '😀', 'a'];
            let mut s = String::new();
            loop {
                let c = C[(r.next() % 16) as usize];
                if s.len() + c.len_utf8() > size {
                    break;
                }
                s.push(c);
            }
            while s.len() < size {
                s.push('.');
            }
            v = s.into_bytes();
        }
        "json" => {
            let mut s = String::from("[");
            let sym = ["BTC-USD", "ETH-USD", "SOL-EUR", "ADA-GBP", "DOT-USD"];
            while s.len() < size {
                s.push_str(&format!(
                    "{{\"type\":\"trade\",\"id\":{},\"symbol\":\"{}\",\"price\":{}.{:02},\"size\":0.{:04},\"side\":\"{}\",\"ts\":17000{:08}}},",
                    r.next() % 100_000_000,
                    sym[(r.next() % 5) as usize],
                    r.next() % 70_000,
                    r.next() % 100,
                    r.next() % 10_000,
                    if r.next() & 1 == 0 { "buy" } else { "sell" },
                    r.next() % 100_000_000
                ));
            }
            s.truncate(size);
            v = s.into_bytes();
        }
        k => crate::die(&format!("unknown kind {k}")),
    }
    v
}

fn push_frame(out: &mut Vec<u8>, b0: u8, data: &[u8], key: [u8; 4]) {
    out.push(b0);
    match data.len() {
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
    out.extend_from_slice(&key);
    out.extend(data.iter().enumerate().map(|(i, b)| b ^ key[i & 3]));
}

fn deflate(c: &mut Compress, data: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    let start = c.total_in();
    loop {
        let used = (c.total_in() - start) as usize;
        let st = c.compress_vec(&data[used..], &mut out, flush).expect("deflate");
        let used = (c.total_in() - start) as usize;
        if used == data.len() && out.len() < out.capacity() {
            break;
        }
        assert!(st != Status::StreamEnd);
        out.reserve(1024);
    }
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

impl Ring {
    pub fn new(o: &Opts, n: usize, enc: Enc) -> Ring {
        let opcode = if o.kind == "binary" { 2 } else { 1 };
        let mut r = Rng(42);
        // With deflate no message may come back inside the 32 KiB window.
        let n = if enc == Enc::Plain { n } else { n.max((128 * 1024 / o.size.max(1)).min(4096)) };
        let distinct = if enc != Enc::Plain {
            n
        } else if o.size >= 256 * 1024 {
            2
        } else {
            16.min(n)
        };
        let base: Vec<Vec<u8>> = (0..distinct).map(|i| payload(&o.kind, o.size, i as u64)).collect();
        let mut ring = Ring { wire: vec![], off: vec![0], payload: vec![], opcode, n };
        let mut c = Compress::new(Compression::new(6), false);
        for i in 0..n {
            let p = base[i % distinct].clone();
            let body = match enc {
                Enc::Plain => p.clone(),
                Enc::DeflateTakeover => {
                    // The last message ends in a full flush: the first one, sent
                    // again, refers to nothing before it, so the ring can repeat.
                    let f = if i == n - 1 { FlushCompress::Full } else { FlushCompress::Sync };
                    deflate(&mut c, &p, f)
                }
                Enc::DeflateReset => {
                    c.reset();
                    deflate(&mut c, &p, FlushCompress::Sync)
                }
            };
            let rsv1 = if enc == Enc::Plain { 0 } else { 0x40 };
            let parts = o.frag.max(1).min(body.len().max(1));
            let step = body.len().div_ceil(parts).max(1);
            let mut at = 0;
            for k in 0..parts {
                let end = if k == parts - 1 { body.len() } else { (at + step).min(body.len()) };
                let key = ((r.next() as u32) | 0x0101_0101).to_le_bytes();
                let fin = if k == parts - 1 { 0x80 } else { 0 };
                let op = if k == 0 { opcode | rsv1 } else { 0 };
                push_frame(&mut ring.wire, fin | op, &body[at..end], key);
                at = end;
            }
            ring.off.push(ring.wire.len());
            ring.payload.push(p);
        }
        ring
    }
}
