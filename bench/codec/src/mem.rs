//! A stream without sockets: reads give the client's bytes over and over, at
//! most 64 KiB before one "would block"; writes are counted and dropped.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub struct Mem {
    src: Arc<Vec<u8>>,
    pos: usize,
    chunk: usize,
    given: usize,
    pub written: u64,
    pub writes: u64,
}

/// Totals of a stream that a library has swallowed.
pub static WRITES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
pub static WRITTEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Mem {
    pub fn new(src: Arc<Vec<u8>>, chunk: usize) -> Mem {
        Mem { src, pos: 0, chunk, given: 0, written: 0, writes: 0 }
    }
    pub fn fill(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.given >= self.chunk {
            self.given = 0;
            return None;
        }
        let n = buf.len().min(self.chunk - self.given).min(self.src.len() - self.pos);
        buf[..n].copy_from_slice(&self.src[self.pos..self.pos + n]);
        self.pos += n;
        if self.pos == self.src.len() {
            self.pos = 0;
        }
        self.given += n;
        Some(n)
    }
    fn put(&mut self, n: usize) -> usize {
        use std::sync::atomic::Ordering::Relaxed;
        self.written += n as u64;
        self.writes += 1;
        WRITES.store(WRITES.load(Relaxed) + 1, Relaxed);
        WRITTEN.store(WRITTEN.load(Relaxed) + n as u64, Relaxed);
        n
    }
    fn putv(&mut self, b: &[IoSlice<'_>]) -> usize {
        self.put(b.iter().map(|s| s.len()).sum())
    }
}

impl Read for Mem {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.fill(buf).ok_or(io::ErrorKind::WouldBlock.into())
    }
}
impl Write for Mem {
    fn write(&mut self, b: &[u8]) -> io::Result<usize> {
        Ok(self.put(b.len()))
    }
    fn write_vectored(&mut self, b: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.putv(b))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
impl tokio::io::AsyncRead for Mem {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // the bytes are written straight into the unfilled part, as a socket does
        let dst = unsafe {
            let u = buf.unfilled_mut();
            std::slice::from_raw_parts_mut(u.as_mut_ptr() as *mut u8, u.len())
        };
        match self.fill(dst) {
            None => Poll::Pending,
            Some(n) => {
                unsafe { buf.assume_init(n) };
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
        }
    }
}
impl tokio::io::AsyncWrite for Mem {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(b.len())))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        b: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.putv(b)))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
impl futures::io::AsyncRead for Mem {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.fill(buf) {
            None => Poll::Pending,
            Some(n) => Poll::Ready(Ok(n)),
        }
    }
}
impl futures::io::AsyncWrite for Mem {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(b.len())))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        b: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.putv(b)))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
