//! [`Endpoint`]: a connection and what drives it, which always go together.

use std::task::{Context, Poll, ready};

use super::{
    Driver, Socket,
    driver::{MAX_ROUNDS, yield_now},
    trace,
};
use crate::{connection::Connection, error::Error, message::Message};

/// One side of an open connection: the machine and its driver.
#[derive(Debug)]
pub(super) struct Endpoint<K> {
    pub(super) connection: Connection,
    pub(super) driver: Driver<K>,
    /// The rest of the message whose chunk came last is not wanted.
    pub(super) skips: bool,
}

impl<K: Socket> Endpoint<K> {
    pub(super) fn new(mut connection: Connection, driver: Driver<K>) -> Self {
        connection.set_vectored(driver.socket().is_vectored());
        trace::opened(&connection);
        Self { connection, driver, skips: false }
    }

    /// Goes on to the next event, if that has come already.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        !self.skips && self.connection.advance()
    }

    #[inline]
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.skips {
            ready!(self.poll_skip(cx))?;
        }
        self.driver.poll_event(&mut self.connection, cx)
    }

    #[inline]
    pub(super) fn poll_event_with_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.skips {
            ready!(self.poll_skip(cx))?;
        }
        self.driver.poll_event_with_room(&mut self.connection, cx)
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.skips {
            ready!(self.poll_skip(cx))?;
        }
        self.driver.poll_chunk(&mut self.connection, cx)
    }

    /// As [`poll_chunk`](Self::poll_chunk), for a task that does not receive, and tells the one that does.
    pub(super) fn poll_end_or_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.skips {
            ready!(self.poll_skip(cx))?;
        }
        self.driver.poll_end_or_chunk(&mut self.connection, cx)
    }

    #[cold]
    fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        for _ in 0..MAX_ROUNDS {
            let more = ready!(self.driver.poll_chunk(&mut self.connection, cx))?;
            self.skips = more && self.connection.chunk().is_some_and(|chunk| !chunk.last);
            if !self.skips {
                return Poll::Ready(Ok(()));
            }
        }
        yield_now(cx)
    }

    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        for _ in 0..MAX_ROUNDS {
            if !ready!(self.poll_event(cx))? {
                return Poll::Ready(Ok(None));
            }
            if let Some(message) = self.connection.take_message() {
                return Poll::Ready(Ok(Some(message)));
            }
        }
        yield_now(cx)
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_room(&mut self.connection, cx)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_flush(&mut self.connection, cx)
    }

    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_ended(&mut self.connection, cx)
    }

    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_end(&mut self.connection, cx)
    }
}
