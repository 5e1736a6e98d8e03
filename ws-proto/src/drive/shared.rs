//! [`Shared`]: where an endpoint lies while its own task waits, so that others can send through it.
//!
//! ```text
//!   task of the WebSocket            Shared                    other tasks
//!   ─────────────────────   ┌──────────────────────┐   ─────────────────────────
//!   waits: gives it away ──►│ endpoint             │◄── send: queued and written
//!   woken: takes it back ◄──│                      │
//!   works: has it in hand   │ mail                 │◄── send: kept, task woken
//!          collects mail ◄──│                      │
//!                           └──────────────────────┘
//! ```
//!
//! The endpoint of two halves lies here for good; either has it for the length of a poll.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use super::{Socket, driver::Wakers, endpoint::Endpoint};
use crate::{
    close::CloseCode,
    connection::Connection,
    error::SendError,
    message::Message,
    send::{Prepared, Sender},
};

/// An endpoint that more than its own task sends through.
///
/// In this order, so that what each wait and each broadcast touches lies together, of a thousand connections.
#[repr(C)]
pub(super) struct Shared<K> {
    /// Whether there is mail: asked before the lock is taken.
    mail: AtomicBool,
    /// What the endpoint in hand had queued when it was last seen.
    queued: AtomicUsize,
    state: Mutex<State<K>>,
}

#[repr(C)]
struct State<K> {
    /// The endpoint, while its task waits, or of two halves.
    endpoint: Option<Box<Endpoint<K>>>,
    /// Whether the endpoint in hand takes messages.
    is_open: bool,
    /// Of two halves the one that reads is gone.
    reader_gone: bool,
    high_water: usize,
    mailbox: Mailbox,
    /// Who waits with the endpoint in hand.
    wakers: Wakers,
}

/// What others sent while the endpoint was in hand, or had no room; bounded as its queue.
#[derive(Default)]
struct Mailbox {
    mail: VecDeque<Mail>,
    len: usize,
    /// How others want it to end, behind the mail.
    end: Option<Mail>,
}

/// What others want of a connection.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    Message(Message),
    Prepared(Prepared),
    Close(CloseCode, String),
    Terminate,
}

impl Mail {
    /// The memory it takes, so that many short messages are no more than a few long ones.
    fn len(&self) -> usize {
        let payload = match self {
            Self::Message(message) => message.len(),
            Self::Prepared(prepared) => prepared.len(),
            Self::Close(..) | Self::Terminate => 0,
        };
        size_of::<Self>() + payload
    }
}

impl<K> Shared<K> {
    pub(super) fn new(sender: &Sender) -> Self {
        let state = State {
            endpoint: None,
            is_open: sender.is_open(),
            reader_gone: false,
            high_water: sender.high_water(),
            mailbox: Mailbox::default(),
            wakers: Wakers::default(),
        };
        let queued = AtomicUsize::new(sender.buffered_amount());
        Self { mail: AtomicBool::new(false), queued, state: Mutex::new(state) }
    }

    /// A panic of a waker leaves the state as it should be.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the endpoint in hand, if it was given away.
    #[inline]
    pub(super) fn take_back(&self, hand: &mut Option<Box<Endpoint<K>>>) {
        if hand.is_none() {
            let mut state = self.lock();
            *hand = state.endpoint.take();
            if let Some(endpoint) = hand {
                // A Close that waits in the mailbox counts, too.
                state.is_open = endpoint.connection.sender().is_open() && state.mailbox.end.is_none();
                self.note(endpoint.connection.buffered_amount());
            }
        }
    }

    /// Leaves the endpoint here, for two halves.
    pub(super) fn leave(&self, endpoint: Option<Box<Endpoint<K>>>) {
        let mut state = self.lock();
        state.endpoint = endpoint;
        state.reader_gone = false;
    }

    /// The half that reads is gone; the other one may wait for it.
    pub(super) fn reader_leaves(&self) {
        let mut state = self.lock();
        state.reader_gone = true;
        let mut wakers = state.wakers().clone();
        drop(state);
        wakers.wake();
    }

    /// The endpoint is gone: there is nothing to send through any more.
    fn end(&self) {
        let mut state = self.lock();
        state.is_open = false;
        self.note(0);
        // Handles may be kept; they are not to keep the memory of the tasks.
        let wakers = std::mem::take(&mut state.wakers);
        let gone = (state.endpoint.take(), std::mem::take(&mut state.mailbox), wakers);
        drop(state);
        drop(gone);
    }

    fn note(&self, queued: usize) {
        self.queued.store(queued, Ordering::Relaxed);
    }
}

/// A shared endpoint as its owner holds it: without it there is nothing to send through.
#[derive(Debug)]
pub(super) struct Owned<K>(pub(super) Arc<Shared<K>>);

impl<K> Drop for Owned<K> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<K: Socket> Shared<K> {
    /// Asks the endpoint in hand, or the one that was given away; gives it away if the answer has to be waited for.
    pub(super) fn ask<T>(
        &self,
        hand: &mut Option<Box<Endpoint<K>>>,
        ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        self.take_back(hand);
        let endpoint = hand.as_mut().expect("the endpoint is in hand, or was given away");
        match self.ask_or_lock(endpoint, ask, cx) {
            Ok(answer) => Poll::Ready(answer),
            Err(mut state) => {
                state.endpoint = hand.take();
                Poll::Pending
            }
        }
    }

    /// As [`ask`](Self::ask), with the endpoint kept in hand: mail is kept until it is asked again.
    pub(super) fn ask_in_hand<T>(
        &self,
        endpoint: &mut Endpoint<K>,
        ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        match self.ask_or_lock(endpoint, ask, cx) {
            Ok(answer) => Poll::Ready(answer),
            Err(mut state) => {
                state.wakers.copy_from(endpoint.driver.wakers());
                state.is_open = endpoint.connection.sender().is_open();
                self.note(endpoint.connection.buffered_amount());
                Poll::Pending
            }
        }
    }

    /// The answer, or the lock if it has to be waited for and no mail has come that would leave before.
    fn ask_or_lock<T>(
        &self,
        endpoint: &mut Endpoint<K>,
        mut ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Result<T, MutexGuard<'_, State<K>>> {
        if self.mail.load(Ordering::Acquire) {
            self.lock().mailbox.deliver(endpoint, &self.mail);
        }
        loop {
            if let Poll::Ready(answer) = ask(endpoint, cx) {
                self.note(endpoint.connection.buffered_amount());
                if !endpoint.connection.sender().is_open() {
                    self.lock().is_open = false;
                }
                return Ok(answer);
            }
            let mut state = self.lock();
            if !state.mailbox.deliver(endpoint, &self.mail) {
                return Err(state);
            }
        }
    }

    /// Hands over all mail, room or not: the endpoint in hand is about to queue a Close frame.
    pub(super) fn hand_over(&self, endpoint: &mut Endpoint<K>) {
        let mut state = self.lock();
        state.mailbox.deliver_all(endpoint);
        state.is_open = false;
    }

    /// Closes the endpoint of two halves, behind all mail.
    pub(super) fn close_in_place<T>(&self, close: impl FnOnce(&mut Connection) -> T) -> T {
        let State { endpoint, mailbox, .. } = &mut *self.lock();
        let endpoint = endpoint.as_mut().expect(IN_PLACE);
        mailbox.deliver_all(endpoint);
        close(&mut endpoint.connection)
    }

    /// Asks the endpoint of two halves, for one of them.
    pub(super) fn ask_in_place<T>(
        &self,
        mut ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        let mut guard = self.lock();
        let State { endpoint, mailbox, .. } = &mut *guard;
        let endpoint = endpoint.as_mut().expect(IN_PLACE);
        mailbox.deliver(endpoint, &self.mail);
        loop {
            let answer = ask(endpoint, cx);
            let delivered = mailbox.deliver(endpoint, &self.mail);
            if answer.is_pending() && delivered {
                continue;
            }
            let wakers = delivered.then(|| endpoint.driver.wakers().clone());
            drop(guard);
            // This half may be done, so the other one is to write it.
            if let Some(mut wakers) = wakers {
                wakers.wake();
            }
            return answer;
        }
    }

    /// Does something with the endpoint of two halves that does not wait.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Endpoint<K>) -> T) -> T {
        act(self.lock().endpoint.as_mut().expect(IN_PLACE))
    }

    /// Has the tasks of both halves look again.
    pub(super) fn wake(&self) {
        let mut wakers = self.lock().wakers().clone();
        wakers.wake();
    }

    pub(super) fn is_reader_gone(&self) -> bool {
        self.lock().reader_gone
    }
}

/// Nothing but the end of both halves takes their endpoint away.
const IN_PLACE: &str = "the endpoint lies here until both halves are gone";

impl Mailbox {
    /// Hands mail to the endpoint, as far as it takes it; whether it took any.
    fn deliver<K: Socket>(&mut self, endpoint: &mut Endpoint<K>, flag: &AtomicBool) -> bool {
        if !flag.load(Ordering::Relaxed) {
            return false;
        }
        let before = self.mail.len();
        let end = self.end.take();
        match &end {
            None => self.deliver_some(endpoint),
            Some(Mail::Terminate) => self.clear(),
            Some(_) => self.deliver_all(endpoint),
        }
        if let Some(end) = &end {
            let _ = endpoint.take_mail(end);
        }
        flag.store(!self.mail.is_empty(), Ordering::Release);
        if self.mail.is_empty() {
            self.mail.shrink_to(FEW);
        }
        self.mail.len() < before || end.is_some()
    }

    fn deliver_some<K: Socket>(&mut self, endpoint: &mut Endpoint<K>) {
        while let Some(mail) = self.mail.front() {
            match endpoint.take_mail(mail) {
                // It has its turn when there is room, or the fragmented message is complete.
                Err(SendError::Full | SendError::InFragment) => break,
                // Nothing can be sent any more.
                Ok(()) | Err(_) => {
                    self.len -= mail.len();
                    self.mail.pop_front();
                }
            }
        }
    }

    /// A Close frame follows, which is not to wait; so the mail does not wait for room, and what waits for the end of a
    /// fragmented message is lost.
    fn deliver_all<K: Socket>(&mut self, endpoint: &mut Endpoint<K>) {
        if !self.mail.is_empty() {
            endpoint.connection.sender().lift_mark();
            self.deliver_some(endpoint);
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.mail.clear();
        self.len = 0;
    }
}

impl<K> State<K> {
    /// Whom mail concerns. With the endpoint in hand and nobody waiting, mail is seen to by the next wait.
    fn wakers(&self) -> &Wakers {
        self.endpoint.as_ref().map_or(&self.wakers, |endpoint| endpoint.driver.wakers())
    }
}

impl<K: Socket> State<K> {
    /// Keeps mail for the task of the endpoint.
    fn keep(&mut self, mail: Mail, queued: usize, flag: &AtomicBool) -> Result<(), SendError> {
        if matches!(mail, Mail::Close(..) | Mail::Terminate) {
            self.is_open = false;
            self.mailbox.end = Some(mail);
        } else if self.buffered_amount(queued) >= self.high_water {
            return Err(SendError::Full);
        } else {
            self.mailbox.len += mail.len();
            self.mailbox.mail.push_back(mail);
        }
        flag.store(true, Ordering::Release);
        Ok(())
    }

    /// With what the endpoint had queued when it was last in hand.
    fn buffered_amount(&self, queued: usize) -> usize {
        let queued = self.endpoint.as_ref().map_or(queued, |e| e.connection.buffered_amount());
        queued + self.mailbox.len
    }

    fn is_open(&mut self) -> bool {
        let is_open = match &mut self.endpoint {
            Some(endpoint) => endpoint.connection.sender().is_open(),
            None => self.is_open,
        };
        is_open && self.mailbox.end.is_none()
    }
}

impl<K: Socket> Endpoint<K> {
    /// Does what mail asks for, and writes what the socket takes; ready if that was all.
    fn send_now(&mut self, mail: &Mail) -> Result<Poll<()>, SendError> {
        if let Mail::Prepared(prepared) = mail {
            return K::outside_tasks(|cx| self.driver.poll_send_prepared(&mut self.connection, prepared, cx));
        }
        self.take_mail(mail)?;
        Ok(K::outside_tasks(|cx| self.driver.poll_write_and_rest(&mut self.connection, cx)))
    }

    fn take_mail(&mut self, mail: &Mail) -> Result<(), SendError> {
        let sender = self.connection.sender();
        match mail {
            Mail::Message(message) => sender.send(message),
            Mail::Prepared(prepared) => sender.send_prepared(prepared),
            Mail::Close(code, reason) => self.connection.close(*code, reason),
            Mail::Terminate => {
                self.connection.terminate();
                Ok(())
            }
        }
    }
}

/// What others see of a shared endpoint, whatever its socket.
pub(super) trait Member: Send + Sync {
    /// Has this done: at once if the endpoint's task waits, by that task otherwise.
    fn post(&self, mail: Mail) -> Result<(), SendError>;

    fn buffered_amount(&self) -> usize;

    fn is_open(&self) -> bool;

    /// Reads what `post` reads first, so that it is near by then.
    fn touch(&self);
}

impl<K: Socket + Send> Member for Shared<K> {
    fn post(&self, mail: Mail) -> Result<(), SendError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.is_open() && !matches!(mail, Mail::Terminate) {
            return Err(SendError::Closed);
        }
        // The task has to see to all but messages that left whole: deadlines begin, the socket is waited for.
        let mut wakes = true;
        let queued = self.queued.load(Ordering::Relaxed);
        match &mut state.endpoint {
            Some(endpoint) if state.mailbox.mail.is_empty() => match endpoint.send_now(&mail) {
                Err(SendError::InFragment) => state.keep(mail, queued, &self.mail)?,
                written => wakes = written?.is_pending() || !endpoint.connection.sender().is_open(),
            },
            Some(_) | None => state.keep(mail, queued, &self.mail)?,
        }
        let wakers = wakes.then(|| state.wakers().clone());
        drop(guard);
        if let Some(mut wakers) = wakers {
            wakers.wake();
        }
        Ok(())
    }

    fn buffered_amount(&self) -> usize {
        self.lock().buffered_amount(self.queued.load(Ordering::Relaxed))
    }

    fn is_open(&self) -> bool {
        self.lock().is_open()
    }

    fn touch(&self) {
        // Beside the lock, which need not be taken for it.
        std::hint::black_box(self.state.is_poisoned());
    }
}

impl<K> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// How many places for mail are kept while there is none.
const FEW: usize = 8;
