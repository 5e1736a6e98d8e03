//! tokio's traits and timer as the [`Socket`] that the protocol's driver asks for.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::unconstrained,
    time::{Sleep, sleep_until},
};
use ws_proto::drive::Socket;

/// A stream of tokio's and a timer beside it, which exists from the first deadline on.
#[derive(Debug)]
pub struct Io<S> {
    stream: S,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for Io<S> {
    type Stream = S;

    fn new(stream: S) -> Self {
        Self { stream, sleep: None }
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
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match slices {
            [slice] => Pin::new(&mut self.stream).poll_write(cx, slice),
            slices => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[inline]
    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }

    fn outside_tasks<T>(ask: impl FnOnce(&mut Context<'_>) -> T) -> T {
        // A task that sends to a thousand others has used up its budget after a few.
        let mut ask = Some(ask);
        let asked = poll_fn(|cx| Poll::Ready(ask.take().map(|ask| ask(cx))));
        match pin!(unconstrained(asked)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(answer)) => answer,
            _ => unreachable!("it is asked once, and ready at once"),
        }
    }
}
