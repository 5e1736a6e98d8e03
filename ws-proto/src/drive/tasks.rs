//! [`Tasks`]: futures that run elsewhere and can be counted, woken and dropped from here.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// A set of spawned futures.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    entries: Mutex<Entries>,
    dropped: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    /// Whom each of them wakes, in the order in which they came; a noop until it ran for the first time.
    wakers: BTreeMap<u64, Waker>,
    next_id: u64,
    /// Who waits for the end of the last one.
    waiting: Option<Waker>,
}

impl Tasks {
    /// Makes a future one of the set, to be spawned. It is in it until it has ended or was dropped.
    pub(super) fn add<F: Future>(self: &Arc<Self>, future: F) -> impl Future<Output = ()> + use<F> {
        let task = Task { tasks: Arc::clone(self), id: self.enter(), waker: Waker::noop().clone() };
        Running { future: Box::pin(future), task }
    }

    /// The number of futures that have not ended.
    pub(super) fn len(&self) -> usize {
        self.lock().wakers.len()
    }

    /// Lets all of them look at what has changed.
    pub(super) fn wake(&self) {
        let wakers: Vec<_> = self.lock().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Drops all of them, each as soon as its executor comes to it.
    pub(super) fn drop_all(&self) {
        self.dropped.store(true, Ordering::Release);
        self.wake();
    }

    /// Ready once all have ended, for one task that waits for it.
    pub(super) fn poll_emptied(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut entries = self.lock();
        if entries.wakers.is_empty() {
            return Poll::Ready(());
        }
        entries.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn enter(&self) -> u64 {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.wakers.insert(id, Waker::noop().clone());
        id
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future of the set, boxed, as an async block would have room for it twice. It is dropped before its place is given
/// up.
struct Running<F> {
    future: Pin<Box<F>>,
    task: Task,
}

impl<F: Future> Future for Running<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx);
        if self.task.tasks.dropped.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.future.as_mut().poll(cx).map(drop)
    }
}

/// The place of one future in the set.
struct Task {
    tasks: Arc<Tasks>,
    id: u64,
    waker: Waker,
}

impl Task {
    #[inline]
    fn register(&mut self, cx: &Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            self.tasks.lock().wakers.insert(self.id, self.waker.clone());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut entries = self.tasks.lock();
        let waker = entries.wakers.remove(&self.id);
        let waiting = if entries.wakers.is_empty() { entries.waiting.take() } else { None };
        drop(entries);
        drop(waker);
        waiting.into_iter().for_each(Waker::wake);
    }
}
