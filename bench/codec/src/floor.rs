//! What the bytes alone cost: copies, XOR, UTF-8 validation, and a bare
//! hand-written in-place echo (no limits, no fragments, no control frames),
//! which marks where an ideal codec would be.

use crate::{CHUNK, Run, mem::Mem};
use std::io::Write;
use std::time::Instant;

#[target_feature(enable = "avx2")]
unsafe fn xor_avx2(p: &mut [u8], key: [u8; 4]) {
    use std::arch::x86_64::*;
    let k = u32::from_le_bytes(key);
    let n = p.len();
    let mut i = 0;
    unsafe {
        let v = _mm256_set1_epi32(k as i32);
        let q = p.as_mut_ptr();
        while i + 128 <= n {
            let a = q.add(i) as *mut __m256i;
            let x0 = _mm256_xor_si256(_mm256_loadu_si256(a), v);
            let x1 = _mm256_xor_si256(_mm256_loadu_si256(a.add(1)), v);
            let x2 = _mm256_xor_si256(_mm256_loadu_si256(a.add(2)), v);
            let x3 = _mm256_xor_si256(_mm256_loadu_si256(a.add(3)), v);
            _mm256_storeu_si256(a, x0);
            _mm256_storeu_si256(a.add(1), x1);
            _mm256_storeu_si256(a.add(2), x2);
            _mm256_storeu_si256(a.add(3), x3);
            i += 128;
        }
        while i + 32 <= n {
            let a = q.add(i) as *mut __m256i;
            _mm256_storeu_si256(a, _mm256_xor_si256(_mm256_loadu_si256(a), v));
            i += 32;
        }
    }
    xor_words(&mut p[i..], key);
}

/// Portable: 8-byte words, then the rest.
pub fn xor_words(p: &mut [u8], key: [u8; 4]) {
    let k8 = u64::from_le_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut c = p.chunks_exact_mut(8);
    for w in &mut c {
        let v = u64::from_le_bytes(w.try_into().unwrap()) ^ k8;
        w.copy_from_slice(&v.to_le_bytes());
    }
    for (i, b) in c.into_remainder().iter_mut().enumerate() {
        *b ^= key[i & 3];
    }
}

pub fn xor(p: &mut [u8], key: [u8; 4]) {
    if p.len() >= 64 && std::is_x86_feature_detected!("avx2") {
        unsafe { xor_avx2(p, key) }
    } else {
        xor_words(p, key)
    }
}

fn wire(size: usize) -> usize {
    size + 4
        + if size < 126 {
            2
        } else if size < 65536 {
            4
        } else {
            10
        }
}

pub fn copy(mut io: Mem, size: usize) -> Run {
    let mut buf = vec![0u8; CHUNK];
    let w = wire(size);
    Box::new(move |n| {
        let mut got = 0;
        while got < n * w {
            if let Some(k) = io.fill(&mut buf) {
                std::hint::black_box(&mut buf[..k]);
                got += k;
            }
        }
        got / w
    })
}

pub fn copy_xor(mut io: Mem, size: usize) -> Run {
    let mut buf = vec![0u8; CHUNK];
    let w = wire(size);
    Box::new(move |n| {
        let mut got = 0;
        while got < n * w {
            if let Some(k) = io.fill(&mut buf) {
                for m in buf[..k].chunks_mut(w) {
                    xor(m, [1, 2, 3, 4]);
                }
                std::hint::black_box(&mut buf[..k]);
                got += k;
            }
        }
        got / w
    })
}

/// Reads into one buffer, unmasks in place, writes the server header right
/// before the payload and hands runs of finished frames to the writer. Small
/// frames are moved down so that one write takes all of them.
pub fn in_place(mut io: Mem, text: bool) -> Run {
    let mut buf = vec![0u8; CHUNK * 2];
    let (mut start, mut end) = (0usize, 0usize);
    Box::new(move |n| {
        let mut done = 0;
        loop {
            if start > 0 {
                buf.copy_within(start..end, 0);
                end -= start;
                start = 0;
            }
            let Some(k) = io.fill(&mut buf[end..]) else {
                if done >= n {
                    return done;
                }
                continue;
            };
            end += k;
            // out: bytes before `out` are finished frames
            let (mut at, mut out) = (0usize, 0usize);
            loop {
                let b = &buf[at..end];
                if b.len() < 6 {
                    break;
                }
                let (len, h) = match b[1] & 0x7f {
                    126 if b.len() >= 8 => (u16::from_be_bytes([b[2], b[3]]) as usize, 8),
                    127 if b.len() >= 14 => (u64::from_be_bytes(b[2..10].try_into().unwrap()) as usize, 14),
                    126 | 127 => break,
                    l => (l as usize, 6),
                };
                if b.len() < h + len {
                    if h + len > buf.len() {
                        buf.resize((h + len).next_power_of_two(), 0);
                    }
                    break;
                }
                let key = [b[h - 4], b[h - 3], b[h - 2], b[h - 1]];
                let b0 = b[0];
                let (s, e) = (at + h, at + h + len);
                xor(&mut buf[s..e], key);
                if text {
                    simdutf8::basic::from_utf8(&buf[s..e]).expect("utf8");
                }
                let hl = h - 4;
                if len > 4096 {
                    // large: send what came before, then this one where it is
                    if out > 0 {
                        io.write_all(&buf[..out]).unwrap();
                        out = 0;
                    }
                    put_header(&mut buf[s - hl..s], b0, len);
                    io.write_all(&buf[s - hl..e]).unwrap();
                } else {
                    put_header(&mut buf[out..out + hl], b0, len);
                    buf.copy_within(s..e, out + hl);
                    out += hl + len;
                }
                at = e;
                done += 1;
            }
            if out > 0 {
                io.write_all(&buf[..out]).unwrap();
            }
            start = at;
            if start == end {
                (start, end) = (0, 0);
            }
        }
    })
}

#[inline]
fn put_header(h: &mut [u8], b0: u8, len: usize) {
    h[0] = b0;
    match h.len() {
        2 => h[1] = len as u8,
        4 => {
            h[1] = 126;
            h[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            h[1] = 127;
            h[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

pub fn kernels() {
    let sizes = [128usize, 4096, 65536, 1 << 20];
    let ascii = |n: usize| vec![b'x'; n];
    let multi = |n: usize| {
        let mut s = String::new();
        while s.len() + 10 < n {
            s.push_str("é中😀");
        }
        while s.len() < n {
            s.push('.');
        }
        s.into_bytes()
    };
    type K = (&'static str, fn(&mut [u8], &mut [u8]), bool);
    let ks: [K; 7] = [
        ("memcpy", |a, b| b.copy_from_slice(a), true),
        ("XOR in place, AVX2", |a, _| xor(a, [1, 2, 3, 4]), true),
        ("XOR in place, 8-byte words (auto-vectorised)", |a, _| xor_words(a, [1, 2, 3, 4]), true),
        ("simdutf8, ASCII", |a, _| assert!(simdutf8::basic::from_utf8(a).is_ok()), true),
        ("simdutf8, non-ASCII", |a, _| assert!(simdutf8::basic::from_utf8(a).is_ok()), false),
        ("std UTF-8, ASCII", |a, _| assert!(std::str::from_utf8(a).is_ok()), true),
        ("std UTF-8, non-ASCII", |a, _| assert!(std::str::from_utf8(a).is_ok()), false),
    ];
    for (name, f, is_ascii) in ks {
        for n in sizes {
            let mut a = if is_ascii { ascii(n) } else { multi(n) };
            let mut b = vec![0u8; n];
            let mut best = Vec::new();
            for _ in 0..9 {
                let reps = ((4 << 20) / n).max(4) & !1;
                let t = Instant::now();
                for _ in 0..reps {
                    f(std::hint::black_box(&mut a), std::hint::black_box(&mut b));
                }
                best.push((reps * n) as f64 / t.elapsed().as_nanos() as f64);
            }
            best.sort_by(|x, y| x.total_cmp(y));
            let speed = best[best.len() / 2];
            println!(r#"{{"codec":"{name}","kind":"","size":{n},"gb_per_s":{speed:.1}}}"#);
        }
    }
}
