//! [`Driver`]: the loop around a [`Machine`]. The order of reads, writes, timers and shutdown, written once.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};

use super::{Socket, trace};
use crate::{
    connection::{Connection, Fault},
    error::{Error, SendError},
    handshake::{ClientHandshake, HandshakeError, ProxyError, ProxyHandshake, ServerHandshake},
    machine::Machine,
    send::Prepared,
    timer::Timer,
};

/// A socket and how far its machine has come with it.
///
/// All progress is kept here and in the machine, so a future made of these methods can be dropped at any time:
/// the next one goes on where it stopped. One task may wait for events and another for room or for a flush: what
/// happens wakes both.
#[derive(Debug)]
pub struct Driver<S> {
    socket: S,
    /// Bytes were written that the socket may hold back.
    unflushed: bool,
    shut_down: bool,
    /// The first failure of the socket.
    error: Option<io::Error>,
    /// How the connection ended was reported.
    reported: bool,
    wakers: Wakers,
}

impl<S: Socket> Driver<S> {
    /// Drives machines over this socket.
    pub fn new(socket: S) -> Self {
        let (unflushed, shut_down, error, reported) = (false, false, None, false);
        Self { socket, unflushed, shut_down, error, reported, wakers: Wakers::default() }
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket, to be changed.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The socket, at the end.
    pub fn into_socket(self) -> S {
        self.socket
    }

    /// Goes on until the connection has an event (`true`) or has ended (`false`). What was sent leaves before it
    /// waits.
    ///
    /// # Errors
    ///
    /// Why the connection did not end cleanly, once; `false` after that.
    #[inline]
    pub fn poll_event(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        if connection.advance() {
            return Poll::Ready(Ok(true));
        }
        self.poll_next(connection, Connection::advance, cx)
    }

    /// As [`poll_event`](Self::poll_event), with the next chunk of a message as the event.
    pub fn poll_chunk(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        if connection.advance_chunk() {
            return Poll::Ready(Ok(true));
        }
        self.poll_next(connection, Connection::advance_chunk, cx)
    }

    fn poll_next(
        &mut self,
        connection: &mut Connection,
        advance: fn(&mut Connection) -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        self.reading(cx, |driver, cx| {
            for _ in 0..MAX_ROUNDS {
                if connection.is_ended() {
                    return Poll::Ready(driver.end(connection, cx).map(|()| false));
                }
                ready!(driver.poll_step(connection, cx));
                if advance(connection) {
                    return Poll::Ready(Ok(true));
                }
            }
            yield_now(cx)
        })
    }

    /// As [`poll_event`](Self::poll_event), and with room for a message of any length whenever there is an event.
    #[inline]
    pub fn poll_event_with_room(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        for _ in 0..MAX_ROUNDS {
            // Why there is none is told below, behind what came before.
            let _ = ready!(self.poll_room(connection, cx));
            if connection.advance() {
                return Poll::Ready(Ok(true));
            }
            // That may have queued a pong, which may have taken the room.
            if connection.sender().is_full() && !connection.is_ended() {
                continue;
            }
            if connection.is_ended() {
                return self
                    .reading(cx, |driver, cx| Poll::Ready(driver.end(connection, cx).map(|()| false)));
            }
            ready!(self.reading(cx, |driver, cx| driver.poll_step(connection, cx)));
        }
        yield_now(cx)
    }

    /// Ready once a message can be queued, or the connection takes none any more because it is closing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the socket failed, or what ended the connection, while this waited.
    #[inline]
    pub fn poll_room(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if connection.sender().is_full() { self.make_room(connection, cx) } else { Poll::Ready(Ok(())) }
    }

    #[cold]
    fn make_room(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writing(cx, |driver, cx| {
            while connection.sender().is_full() {
                if connection.is_ended() {
                    return Poll::Ready(Err(unwritten(connection)));
                }
                if driver.poll_write(connection, cx).is_pending() {
                    ready!(driver.poll_read_or_wait(connection, cx));
                    driver.wakers.reader.wake();
                }
            }
            Poll::Ready(driver.written(connection))
        })
    }

    /// Ready once everything that was queued is written and flushed. While the peer does not take it, what the
    /// peer sends is read, as far as there is room.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the socket failed, or what ended the connection with some of it unwritten.
    pub fn poll_flush(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.writing(cx, |driver, cx| {
            loop {
                if driver.poll_write(connection, cx).is_ready() {
                    return Poll::Ready(driver.written(connection));
                }
                if connection.is_ended() {
                    return Poll::Ready(Err(unwritten(connection)));
                }
                ready!(driver.poll_read_or_wait(connection, cx));
                driver.wakers.reader.wake();
            }
        })
    }

    /// Goes on until the connection has ended; messages that still come are dropped.
    ///
    /// # Errors
    ///
    /// As [`poll_event`](Self::poll_event).
    pub fn poll_end(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writing(cx, |driver, cx| {
            for _ in 0..MAX_ROUNDS {
                // In chunks, so that the rest of a long message is not collected to be dropped.
                while connection.advance_chunk() {}
                if connection.is_ended() {
                    return Poll::Ready(driver.end(connection, cx));
                }
                ready!(driver.poll_step(connection, cx));
            }
            yield_now(cx)
        })
    }

    /// As [`poll_chunk`](Self::poll_chunk), for the task that writes: the one that reads is woken.
    pub(super) fn poll_end_or_chunk(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Error>> {
        self.writing(cx, |driver, cx| {
            for _ in 0..MAX_ROUNDS {
                if connection.advance_chunk() {
                    driver.wakers.reader.wake();
                    return Poll::Ready(Ok(true));
                }
                if connection.is_ended() {
                    return Poll::Ready(driver.end(connection, cx).map(|()| false));
                }
                ready!(driver.poll_step(connection, cx));
            }
            yield_now(cx)
        })
    }

    /// Goes on until the connection has ended, while another task takes its events.
    ///
    /// # Errors
    ///
    /// Why it did not end cleanly; the other task is told, too.
    pub(super) fn poll_ended(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.writing(cx, |driver, cx| {
            for _ in 0..MAX_ROUNDS {
                if connection.is_ended() {
                    driver.wakers.reader.wake();
                    return Poll::Ready(connection.fault().map_or(Ok(()), |fault| Err(driver.error(fault))));
                }
                ready!(driver.poll_step(connection, cx));
                driver.wakers.reader.wake();
            }
            yield_now(cx)
        })
    }

    /// Asks for the one that waits for events.
    fn reading<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let waker = self.wakers.of_reader(cx.waker());
        let answer = ask(self, &mut Context::from_waker(waker.as_ref().unwrap_or_else(|| cx.waker())));
        self.wakers.reader.hears(answer)
    }

    /// Asks for the one that waits to write.
    fn writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let waker = self.wakers.of_writer(cx.waker());
        let answer = ask(self, &mut Context::from_waker(waker.as_ref().unwrap_or_else(|| cx.waker())));
        self.wakers.writer.hears(answer)
    }

    /// Goes on until the client's request is there.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] once a request that breaks a rule of HTTP was refused, or [`Error::Io`].
    pub fn poll_request(
        &mut self,
        handshake: &mut ServerHandshake,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_handshake(handshake, cx, ServerHandshake::advance, ServerHandshake::error)
    }

    /// Ready once the client of a request that is not answered has left.
    pub(super) fn poll_gone(&mut self, handshake: &mut ServerHandshake, cx: &mut Context<'_>) -> Poll<Error> {
        while !handshake.is_eof() {
            if !handshake.wants_read() {
                return Poll::Pending;
            }
            ready!(self.poll_step(handshake, cx));
        }
        Poll::Ready(self.handshake_error(Some(&HandshakeError::Eof)))
    }

    /// Goes on until a refusal is over: written, and the client gone or out of time.
    pub fn poll_refusal(&mut self, handshake: &mut ServerHandshake, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..MAX_ROUNDS {
            if handshake.is_ended() {
                trace::refused(handshake.error());
                return Poll::Ready(());
            }
            ready!(self.poll_step(handshake, cx));
        }
        yield_now(cx)
    }

    /// Goes on until the server has accepted.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] if it refused or answered wrongly, or [`Error::Io`].
    pub fn poll_answer(
        &mut self,
        handshake: &mut ClientHandshake,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_handshake(handshake, cx, ClientHandshake::advance, ClientHandshake::error)
    }

    /// Goes on until a proxy has let through.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] if it did not, or [`Error::Io`].
    pub fn poll_proxy(
        &mut self,
        proxy: &mut ProxyHandshake,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.poll_handshake(proxy, cx, ProxyHandshake::advance, ProxyHandshake::error)
    }

    /// Goes on until a handshake has what it waits for, or has failed.
    fn poll_handshake<M: Machine>(
        &mut self,
        handshake: &mut M,
        cx: &mut Context<'_>,
        advance: impl Fn(&mut M) -> bool,
        error: impl Fn(&M) -> Option<&HandshakeError>,
    ) -> Poll<Result<(), Error>> {
        for _ in 0..MAX_ROUNDS {
            if advance(handshake) {
                return Poll::Ready(Ok(()));
            }
            if handshake.is_ended() {
                return Poll::Ready(Err(self.handshake_error(error(handshake))));
            }
            ready!(self.poll_step(handshake, cx));
        }
        yield_now(cx)
    }

    /// One round: writes all it can, then reads once. Ready if there may be something new to find.
    fn poll_step<M: Machine>(&mut self, machine: &mut M, cx: &mut Context<'_>) -> Poll<()> {
        // Whether the peer takes it is no reason not to read.
        let _ = self.poll_write(machine, cx);
        self.poll_read_or_wait(machine, cx)
    }

    /// Ready once all output is written and flushed, and the socket shut down if it is to be.
    pub(super) fn poll_write<M: Machine>(&mut self, machine: &mut M, cx: &mut Context<'_>) -> Poll<()> {
        while machine.wants_write() {
            match ready!(self.poll_write_some(machine, cx)) {
                Ok(0) => self.fail_write(machine, io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    machine.consume(len);
                    self.unflushed = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.fail_write(machine, error),
            }
        }
        if self.unflushed {
            match self.socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    machine.handle_held(false);
                }
                Poll::Ready(Err(error)) => self.fail_write(machine, error),
                Poll::Pending => {
                    machine.handle_held(true);
                    return Poll::Pending;
                }
            }
        }
        if machine.wants_shutdown() && !self.shut_down {
            // The socket may be gone by now, which is as good.
            let _ = ready!(self.socket.poll_shutdown(cx));
            self.shut_down = true;
        }
        Poll::Ready(())
    }

    /// Writes once. Most output is one slice, and a wait has no time to make room for more.
    fn poll_write_some<M: Machine>(&mut self, machine: &M, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); 2];
        match machine.output(&mut slices) {
            1 => self.socket.poll_write(cx, &slices[..1]),
            _ => self.poll_write_vectored(machine, cx),
        }
    }

    #[inline(never)]
    fn poll_write_vectored<M: Machine>(
        &mut self,
        machine: &M,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = machine.output(&mut slices);
        self.socket.poll_write(cx, &slices[..count])
    }

    /// Sends a prepared message, past the queue if that is empty. Ready if all that was queued is written.
    pub(super) fn poll_send_prepared(
        &mut self,
        connection: &mut Connection,
        prepared: &Prepared,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, SendError> {
        match connection.sender().unqueued(prepared)? {
            Some(frame) => {
                // A failure comes again with the next write.
                let taken = match self.socket.poll_write(cx, &[IoSlice::new(frame)]) {
                    Poll::Ready(Ok(taken)) => taken,
                    Poll::Ready(Err(_)) | Poll::Pending => 0,
                };
                if taken == frame.len() && matches!(self.socket.poll_flush(cx), Poll::Ready(Ok(()))) {
                    return Ok(Poll::Ready(()));
                }
                self.unflushed |= taken > 0;
                if taken < frame.len() {
                    connection.sender().queue_rest(frame, taken);
                }
            }
            None => connection.sender().send_prepared(prepared)?,
        }
        Ok(self.poll_write_and_rest(connection, cx))
    }

    /// Writes on behalf of a task that waits: ready if all that was queued is written.
    pub(super) fn poll_write_and_rest(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let written = self.poll_write(connection, cx);
        connection.sender().handle_wait();
        written
    }

    /// Reads once, or minds the clock and waits. Ready if there may be something new to find.
    fn poll_read_or_wait<M: Machine>(&mut self, machine: &mut M, cx: &mut Context<'_>) -> Poll<()> {
        if machine.is_ended() {
            return Poll::Ready(());
        }
        if machine.wants_read()
            && let Poll::Ready(read) = self.socket.poll_read(cx, machine.recv_space())
        {
            let now = self.socket.now();
            match read {
                Ok(0) => machine.handle_eof(now),
                Ok(len) => machine.handle_input(len, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error.get_or_insert(error);
                    machine.handle_eof(now);
                }
            }
            return Poll::Ready(());
        }
        let now = self.socket.now();
        let Some((deadline, _)) = machine.poll_timeout(now) else { return Poll::Pending };
        // The clock before the timer, which may be coarse or late.
        if deadline > now {
            ready!(self.socket.poll_sleep(cx, deadline));
        }
        machine.handle_timeout(self.socket.now().max(deadline));
        Poll::Ready(())
    }

    /// Whether writing went well so far.
    fn written(&mut self, connection: &mut Connection) -> Result<(), Error> {
        match &self.error {
            Some(error) if connection.sender().is_broken() => {
                // Who waits for events is to learn of it, too.
                self.wakers.reader.wake();
                Err(copy(error).into())
            }
            _ => Ok(()),
        }
    }

    fn fail_write<M: Machine>(&mut self, machine: &mut M, error: io::Error) {
        self.error.get_or_insert(error);
        self.unflushed = false;
        self.shut_down = true;
        machine.handle_write_error(self.socket.now());
    }

    /// How the connection ended, with a last attempt to write what is left.
    #[cold]
    fn end(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), Error> {
        // The other task may have found nothing when what ended the connection came.
        self.wakers.wake();
        let _ = self.poll_write(connection, cx);
        if std::mem::replace(&mut self.reported, true) {
            return Ok(());
        }
        let error = connection.fault().map(|fault| self.error(fault));
        trace::closed(connection, error.as_ref());
        error.map_or(Ok(()), Err)
    }

    fn error(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if fault == Fault::Abnormal => copy(error).into(),
            _ => fault.into(),
        }
    }

    #[cold]
    fn handshake_error(&mut self, error: Option<&HandshakeError>) -> Error {
        let error = match (self.error.take(), error) {
            (Some(error), None | Some(HandshakeError::Eof | HandshakeError::Proxy(ProxyError::Eof))) => {
                error.into()
            }
            (_, Some(error)) => error.clone().into(),
            (None, None) => HandshakeError::Eof.into(),
        };
        trace::handshake_failed(&error);
        error
    }
}

impl<S> Driver<S> {
    /// Who waits for the socket.
    pub(super) fn wakers(&self) -> &Wakers {
        &self.wakers
    }
}

/// Lets other tasks run before a peer that never pauses is served on.
pub(super) fn yield_now<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Why a connection ended that still had something to write: if not by a fault, out of time after the peer's Close
/// frame.
fn unwritten(connection: &Connection) -> Error {
    connection.fault().map_or(Error::Timeout(Timer::Close), Error::from)
}

/// An error may have to be told both to who writes and to who reads.
fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Who waits for the socket: the future that waits for events, and the one that waits to write.
///
/// A socket and a timer remember one task each, the last that asked. So where these are two tasks, either registers a
/// waker that wakes both. Where they are two futures of one task, what either finds for the other still has to wake it,
/// as the other may have been polled before.
#[derive(Clone, Debug)]
pub(super) struct Wakers {
    reader: Waiting,
    writer: Waiting,
    /// What was registered last for two tasks. The same while they are: async-io wakes a waker that is replaced, so a
    /// new one each time would have the two wake each other for ever.
    both: Option<Arc<Both>>,
}

#[derive(Clone, Debug)]
struct Waiting {
    waker: Waker,
    /// Its last answer was that it has to wait, and it was not woken since.
    waits: bool,
}

impl Default for Wakers {
    fn default() -> Self {
        let nobody = Waiting { waker: Waker::noop().clone(), waits: false };
        Self { reader: nobody.clone(), writer: nobody, both: None }
    }
}

impl Wakers {
    /// The waker to register for the one that waits for events; `None` if its own will do.
    fn of_reader(&mut self, waker: &Waker) -> Option<Waker> {
        self.reader.asks(waker);
        if self.writer.waits { self.both() } else { None }
    }

    /// The waker to register for the one that waits to write; `None` if its own will do.
    fn of_writer(&mut self, waker: &Waker) -> Option<Waker> {
        self.writer.asks(waker);
        if self.reader.waits { self.both() } else { None }
    }

    /// A waker of both tasks; `None` if they are one.
    #[cold]
    fn both(&mut self) -> Option<Waker> {
        let (reader, writer) = (&self.reader.waker, &self.writer.waker);
        if reader.will_wake(writer) {
            return None;
        }
        let is_theirs = |both: &&Arc<Both>| both.0.will_wake(reader) && both.1.will_wake(writer);
        if self.both.as_ref().filter(is_theirs).is_none() {
            self.both = Some(Arc::new(Both(reader.clone(), writer.clone())));
        }
        self.both.clone().map(Waker::from)
    }

    /// Becomes as the others.
    pub(super) fn copy_from(&mut self, other: &Self) {
        for (own, other) in [(&mut self.reader, &other.reader), (&mut self.writer, &other.writer)] {
            own.waker.clone_from(&other.waker);
            own.waits = other.waits;
        }
    }

    pub(super) fn wake(&mut self) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Waiting {
    fn asks(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
        self.waits = false;
    }

    /// Notes whether it has to wait.
    fn hears<T>(&mut self, answer: Poll<T>) -> Poll<T> {
        self.waits = answer.is_pending();
        answer
    }

    /// Something happened that it may wait for.
    fn wake(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.waker.wake_by_ref();
        }
    }
}

#[derive(Debug)]
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

/// Most slices of one vectored write.
const MAX_SLICES: usize = 16;

/// Most reads in one poll that bring nothing to hand out.
pub(super) const MAX_ROUNDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn two_tasks_that_wait_are_registered_by_one_waker() {
        let tasks = [Arc::<Woken>::default(), Arc::default(), Arc::default()];
        let [reader, writer, other] = tasks.clone().map(Waker::from);
        let mut wakers = Wakers::default();
        assert!(wakers.of_reader(&reader).is_none(), "alone");
        let _ = wakers.reader.hears(Poll::<()>::Pending);
        let first = wakers.of_writer(&writer).unwrap();
        let _ = wakers.writer.hears(Poll::<()>::Pending);
        let second = wakers.of_reader(&reader).unwrap();
        assert!(first.will_wake(&second));
        first.wake();
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)), [true, true, false]);
        // Another task takes over.
        assert!(!second.will_wake(&wakers.of_reader(&other).unwrap()));
        assert!(wakers.of_reader(&writer).is_none(), "one task");
    }
}
