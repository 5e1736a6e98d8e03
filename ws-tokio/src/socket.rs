//! tokio's traits and timer as the [`Socket`] that the protocol's driver asks for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};
use ws_proto::drive::Socket;

/// A stream of tokio's and a timer beside it, which exists from the first deadline on.
#[derive(Debug)]
pub(crate) struct TokioSocket<S> {
    pub(crate) stream: S,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> TokioSocket<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, sleep: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for TokioSocket<S> {
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

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}
