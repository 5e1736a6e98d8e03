//! The traits of `futures-io` and a timer of `async-io` as the [`Socket`] that the protocol's driver asks for.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use async_io::Timer;
use futures_io::{AsyncRead, AsyncWrite};
use ws_proto::drive::Socket;

/// A stream of `futures-io` and a timer beside it, which is set from the first deadline on.
#[derive(Debug)]
pub struct Io<S> {
    stream: S,
    timer: Timer,
    /// What the timer is set to.
    deadline: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for Io<S> {
    type Stream = S;

    fn new(stream: S) -> Self {
        Self { stream, timer: Timer::never(), deadline: None }
    }

    fn stream(&self) -> &S {
        &self.stream
    }

    fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn into_stream(self) -> S {
        self.stream
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match slices {
            [slice] => Pin::new(&mut self.stream).poll_write(cx, slice),
            slices => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_vectored(&self) -> bool {
        // The traits do not tell. Where only the first slice is taken, a long message costs one more write.
        true
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.deadline != Some(deadline) {
            self.timer.set_at(deadline);
            self.deadline = Some(deadline);
        }
        ready!(Pin::new(&mut self.timer).poll(cx));
        // One that has fired is to be set again.
        self.deadline = None;
        Poll::Ready(())
    }
}
