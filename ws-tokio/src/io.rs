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
    task::coop::{has_budget_remaining, unconstrained},
    time::{Sleep, sleep_until},
};
use ws_proto::drive::Socket;

/// A stream of tokio's and a timer beside it, which exists from the first deadline on.
#[derive(Debug)]
pub struct Io<S> {
    stream: S,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What the timer is set to, and whom it will wake.
    set: Option<(Instant, Waker)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for Io<S> {
    type Stream = S;

    fn new(stream: S) -> Self {
        Self { stream, sleep: None, set: None }
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
        // It is asked before each wait, and seldom by another task or for another deadline.
        match &self.set {
            Some((at, waker)) if *at == deadline && waker.will_wake(cx.waker()) => Poll::Pending,
            _ => self.set_timer(cx, deadline),
        }
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

impl<S> Io<S> {
    #[cold]
    fn set_timer(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        if sleep.deadline() != deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        let polled = sleep.as_mut().poll(cx);
        // A task whose budget is used up is woken at once, and the timer knows nothing of it.
        let knows = polled.is_pending() && has_budget_remaining();
        self.set = knows.then(|| (deadline, cx.waker().clone()));
        polled
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
        time::Duration,
    };

    use tokio::task::coop::consume_budget;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn asked_by(io: &mut Io<tokio::io::Empty>, woken: &Arc<Woken>, deadline: Instant) -> Poll<()> {
        io.poll_sleep(&mut Context::from_waker(&Arc::clone(woken).into()), deadline)
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_wakes_who_asked_last() {
        let mut io = Io::new(tokio::io::empty());
        let [first, second] = [Arc::<Woken>::default(), Arc::default()];
        let deadline = io.now() + Duration::from_secs(1);
        assert!(asked_by(&mut io, &first, deadline).is_pending());
        assert!(asked_by(&mut io, &second, deadline).is_pending());
        assert!(asked_by(&mut io, &second, deadline).is_pending());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(second.0.load(Ordering::Acquire));
        assert!(!first.0.load(Ordering::Acquire));
        // An earlier deadline, for the same task.
        let woken = Arc::<Woken>::default();
        let now = io.now();
        assert!(asked_by(&mut io, &woken, now + Duration::from_secs(9)).is_pending());
        assert!(asked_by(&mut io, &woken, now + Duration::from_secs(1)).is_pending());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(woken.0.load(Ordering::Acquire));
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_wakes_who_asked_first_without_budget() {
        let mut io = Io::new(tokio::io::empty());
        let deadline = io.now() + Duration::from_secs(1);
        let mut asked = 0;
        poll_fn(|cx| {
            if asked == 0 {
                while has_budget_remaining() {
                    let _ = pin!(consume_budget()).poll(cx);
                }
            }
            asked += 1;
            if io.now() < deadline { io.poll_sleep(cx, deadline) } else { Poll::Ready(()) }
        })
        .await;
        assert!(asked > 1);
        assert!(io.now() >= deadline);
    }
}
