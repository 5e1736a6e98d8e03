//! The loop around a [`Machine`], for asynchronous sockets: the order of reads, writes, timers and shutdown,
//! written once for every adapter.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
    time::Instant,
};

use crate::{
    connection::{Connection, Fault},
    error::Error,
    handshake::{ClientHandshake, HandshakeError, ServerHandshake},
    machine::Machine,
};

/// What a runtime gives: a socket, a clock and a timer. The methods follow the rules of `std::task`: one that is
/// pending has arranged for the task to be woken.
pub trait Socket {
    /// Reads into `buf`; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from the slices in order, or from the first alone.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Passes on what the socket holds back, where it is no plain socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Shuts down the sending half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether several slices leave in one write.
    fn is_vectored(&self) -> bool;

    /// The time.
    fn now(&self) -> Instant;

    /// Ready once the deadline has passed.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;
}

/// A socket and how far its machine has come with it.
///
/// All progress is kept here and in the machine, so a future made of these methods can be dropped at any time:
/// the next one goes on where it stopped.
#[derive(Debug)]
pub struct Driver<S> {
    socket: S,
    /// Bytes were written that the socket may hold back.
    unflushed: bool,
    shut_down: bool,
    /// The first failure of the socket, until it is reported.
    error: Option<io::Error>,
    /// How the connection ended was reported.
    reported: bool,
}

impl<S: Socket> Driver<S> {
    /// Drives machines over this socket.
    pub fn new(socket: S) -> Self {
        Self { socket, unflushed: false, shut_down: false, error: None, reported: false }
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket, to be read and written by other means.
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
        loop {
            if connection.advance() {
                return Poll::Ready(Ok(true));
            }
            if connection.is_ended() {
                return Poll::Ready(self.end(connection, cx).map(|()| false));
            }
            ready!(self.poll_step(connection, cx));
        }
    }

    /// Ready once a message can be queued, or can never be again because the connection is closing.
    #[inline]
    pub fn poll_room(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<()> {
        while connection.sender().is_full() && !connection.is_ended() {
            if self.poll_write(connection, cx).is_pending() {
                ready!(self.poll_read_or_wait(connection, cx));
            }
        }
        Poll::Ready(())
    }

    /// Ready once everything that was queued is written and flushed. While the peer does not take it, what the
    /// peer sends is read, as far as there is room.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the socket failed, or what ended the connection.
    pub fn poll_flush(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.poll_write(connection, cx).is_ready() {
                return Poll::Ready(self.error.take().map_or(Ok(()), |error| Err(error.into())));
            }
            if connection.is_ended() {
                return Poll::Ready(connection.fault().map_or(Ok(()), |fault| Err(fault.into())));
            }
            ready!(self.poll_read_or_wait(connection, cx));
        }
    }

    /// Goes on until the connection has ended; messages that still come are dropped.
    ///
    /// # Errors
    ///
    /// As [`poll_event`](Self::poll_event).
    pub fn poll_end(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while ready!(self.poll_event(connection, cx))? {}
        Poll::Ready(Ok(()))
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
        while !handshake.advance() {
            if handshake.is_ended() {
                return Poll::Ready(Err(self.handshake_error(handshake.error())));
            }
            ready!(self.poll_step(handshake, cx));
        }
        Poll::Ready(Ok(()))
    }

    /// Goes on until a refusal is over: written, and the client gone or out of time.
    pub fn poll_refusal(&mut self, handshake: &mut ServerHandshake, cx: &mut Context<'_>) -> Poll<()> {
        while !handshake.is_ended() {
            ready!(self.poll_step(handshake, cx));
        }
        Poll::Ready(())
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
        while !handshake.advance() {
            if handshake.is_ended() {
                return Poll::Ready(Err(self.handshake_error(handshake.error())));
            }
            ready!(self.poll_step(handshake, cx));
        }
        Poll::Ready(Ok(()))
    }

    /// One round: writes all it can, then reads once. Ready if there may be something new to find.
    fn poll_step<M: Machine>(&mut self, machine: &mut M, cx: &mut Context<'_>) -> Poll<()> {
        // Whether the peer takes it is no reason not to read.
        let _ = self.poll_write(machine, cx);
        self.poll_read_or_wait(machine, cx)
    }

    /// Ready once all output is written and flushed, and the socket shut down if it is to be.
    fn poll_write<M: Machine>(&mut self, machine: &mut M, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = machine.output(&mut slices);
            if count == 0 {
                break;
            }
            match ready!(self.socket.poll_write(cx, &slices[..count])) {
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
            match ready!(self.socket.poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => self.fail_write(machine, error),
            }
        }
        if machine.wants_shutdown() && !self.shut_down {
            // The socket may be gone by now, which is as good.
            let _ = ready!(self.socket.poll_shutdown(cx));
            self.shut_down = true;
        }
        Poll::Ready(())
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

    fn fail_write<M: Machine>(&mut self, machine: &mut M, error: io::Error) {
        self.error.get_or_insert(error);
        self.unflushed = false;
        self.shut_down = true;
        machine.handle_write_error(self.socket.now());
    }

    /// How the connection ended, with a last attempt to write what is left.
    #[cold]
    fn end(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), Error> {
        let _ = self.poll_write(connection, cx);
        match connection.fault() {
            Some(fault) if !std::mem::replace(&mut self.reported, true) => Err(match self.error.take() {
                Some(error) if fault == Fault::Abnormal => error.into(),
                _ => fault.into(),
            }),
            _ => Ok(()),
        }
    }

    #[cold]
    fn handshake_error(&mut self, error: Option<&HandshakeError>) -> Error {
        match (self.error.take(), error) {
            (Some(error), None | Some(HandshakeError::Eof)) => error.into(),
            (_, Some(error)) => error.clone().into(),
            (None, None) => HandshakeError::Eof.into(),
        }
    }
}

/// Most slices of one vectored write.
const MAX_SLICES: usize = 16;
