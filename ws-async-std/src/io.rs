//! The traits of `futures-io` and a timer of `async-io` as the [`Socket`] that the protocol's driver asks for.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
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
    /// What the timer is set to, and whom it will wake.
    set: Option<(Instant, Waker)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for Io<S> {
    type Stream = S;

    fn new(stream: S) -> Self {
        Self { stream, timer: Timer::never(), set: None }
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
        // It is asked before each wait, and seldom by another task or for another deadline.
        match &self.set {
            Some((at, waker)) if *at == deadline && waker.will_wake(cx.waker()) => return Poll::Pending,
            Some((at, _)) if *at == deadline => {}
            _ => self.timer.set_at(deadline),
        }
        let polled = Pin::new(&mut self.timer).poll(cx);
        // One that has fired is to be set again.
        self.set = polled.is_pending().then(|| (deadline, cx.waker().clone()));
        polled.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            mpsc::{self, Receiver, SyncSender},
        },
        task::Wake,
        time::Duration,
    };

    use futures_util::io::Cursor;

    use super::*;

    /// Tells of being woken; once is enough.
    struct Bell(SyncSender<()>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(());
        }
    }

    fn bell() -> (Waker, Receiver<()>) {
        let (rings, heard) = mpsc::sync_channel(1);
        (Arc::new(Bell(rings)).into(), heard)
    }

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn the_timer_wakes_who_asked_last() {
        let mut io = Io::new(Cursor::new(Vec::new()));
        let mut is_pending =
            |waker: &Waker, at: Instant| io.poll_sleep(&mut Context::from_waker(waker), at).is_pending();
        let clock = Io::new(Cursor::new(Vec::new()));
        let now = clock.now();
        let [(first, first_heard), (second, second_heard), (third, third_heard)] = [bell(), bell(), bell()];
        let deadline = now + Duration::from_millis(300);
        assert!(is_pending(&first, deadline));
        assert!(is_pending(&second, deadline));
        assert!(is_pending(&second, deadline));
        assert_eq!(second_heard.recv_timeout(LIMIT), Ok(()));
        assert!(clock.now() >= deadline);
        assert!(first_heard.try_recv().is_err());
        // Another deadline, for the same task, and an earlier one.
        assert!(is_pending(&third, now + Duration::from_secs(900)));
        assert!(is_pending(&third, deadline + Duration::from_millis(500)));
        assert_eq!(third_heard.recv_timeout(LIMIT), Ok(()));
    }
}
