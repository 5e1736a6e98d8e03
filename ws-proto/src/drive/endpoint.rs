//! [`Endpoint`]: a connection and what drives it, which always go together.

use std::task::{Context, Poll, ready};

use super::{Driver, Socket, trace};
use crate::{connection::Connection, error::Error, message::Message};

/// One side of an open connection: the machine and its driver.
#[derive(Debug)]
pub(super) struct Endpoint<K> {
    pub(super) connection: Connection,
    pub(super) driver: Driver<K>,
}

impl<K: Socket> Endpoint<K> {
    pub(super) fn new(mut connection: Connection, driver: Driver<K>) -> Self {
        connection.set_vectored(driver.socket().is_vectored());
        trace::opened(&connection);
        Self { connection, driver }
    }

    #[inline]
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        self.driver.poll_event(&mut self.connection, cx)
    }

    #[inline]
    pub(super) fn poll_event_with_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        self.driver.poll_event_with_room(&mut self.connection, cx)
    }

    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        while ready!(self.poll_event(cx))? {
            if let Some(message) = self.connection.take_message() {
                return Poll::Ready(Ok(Some(message)));
            }
        }
        Poll::Ready(Ok(None))
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_room(&mut self.connection, cx)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_flush(&mut self.connection, cx)
    }

    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_end(&mut self.connection, cx)
    }
}
