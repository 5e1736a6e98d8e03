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
            atomic::{AtomicBool, Ordering},
        },
        task::Wake,
        thread,
        time::Duration,
    };

    use futures_util::io::Cursor;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn asked_by(io: &mut Io<Cursor<Vec<u8>>>, woken: &Arc<Woken>, deadline: Instant) -> Poll<()> {
        io.poll_sleep(&mut Context::from_waker(&Arc::clone(woken).into()), deadline)
    }

    fn wait_for(io: &Io<Cursor<Vec<u8>>>, woken: &Woken) {
        let give_up = io.now() + Duration::from_secs(30);
        while !woken.0.load(Ordering::Acquire) {
            assert!(io.now() < give_up, "it was not woken");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_timer_wakes_who_asked_last() {
        let mut io = Io::new(Cursor::new(Vec::new()));
        let [first, second] = [Arc::<Woken>::default(), Arc::default()];
        let deadline = io.now() + Duration::from_millis(300);
        assert!(asked_by(&mut io, &first, deadline).is_pending());
        assert!(asked_by(&mut io, &second, deadline).is_pending());
        assert!(asked_by(&mut io, &second, deadline).is_pending());
        wait_for(&io, &second);
        assert!(io.now() >= deadline);
        assert!(!first.0.load(Ordering::Acquire));
        // Another deadline, for the same task, and an earlier one.
        let third = Arc::<Woken>::default();
        let now = io.now();
        assert!(asked_by(&mut io, &third, now + Duration::from_secs(900)).is_pending());
        assert!(asked_by(&mut io, &third, now + Duration::from_millis(50)).is_pending());
        wait_for(&io, &third);
    }
}
