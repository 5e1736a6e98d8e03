//! [`ReadHalf`] and [`WriteHalf`]: a WebSocket for two tasks.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    Socket, WebSocket,
    clients::Membership,
    endpoint::Endpoint,
    shared::{Owned, Shared},
};
use crate::{
    close::{CloseCode, ClosePayload, Closed},
    connection::Connection,
    error::{Error, SendError},
    message::{Chunk, Event, Message},
    send::{Fragment, Prepared, Sender},
};

/// The half of a [`WebSocket`] that receives: see [`WebSocket::split`].
///
/// Dropped, it leaves what still comes to nobody: [`WriteHalf::flush`] goes on to read what fits the receive buffer,
/// [`WriteHalf::close`] reads and drops it, and otherwise the peer is held up.
///
/// # Cancel safety
///
/// As of a [`WebSocket`]: any future may be dropped at any time, and what arrived is handed out or stays.
pub struct ReadHalf<K> {
    link: Arc<Link<K>>,
}

/// The half of a [`WebSocket`] that sends: see [`WebSocket::split`].
///
/// Dropped, it closes nothing: the other half goes on to receive and to answer, until it is dropped, too. Both dropped
/// close the stream without a Close frame.
///
/// # Cancel safety
///
/// As of a [`WebSocket`]: a message is queued whole or not at all, and no frame is torn or sent twice.
pub struct WriteHalf<K> {
    link: Arc<Link<K>>,
}

/// What two halves have in common; it ends with the last of them.
#[derive(Debug)]
struct Link<K> {
    shared: Owned<K>,
    memberships: Vec<Membership>,
}

pub(super) fn halves<K>(shared: Owned<K>, memberships: Vec<Membership>) -> (ReadHalf<K>, WriteHalf<K>) {
    let link = Arc::new(Link { shared, memberships });
    (ReadHalf { link: Arc::clone(&link) }, WriteHalf { link })
}

/// Makes one [`WebSocket`] of the halves of one.
///
/// # Errors
///
/// [`ReuniteError`], with both of them, if they come of two.
pub fn reunite<K: Socket>(
    reader: ReadHalf<K>,
    writer: WriteHalf<K>,
) -> Result<WebSocket<K>, ReuniteError<K>> {
    if !Arc::ptr_eq(&reader.link, &writer.link) {
        return Err(ReuniteError { reader, writer });
    }
    drop(reader);
    let Link { shared, memberships } = Arc::into_inner(writer.link).expect("there is no third half");
    Ok(WebSocket::reunited(shared, memberships))
}

/// These halves are not of one [`WebSocket`]; here they are.
#[non_exhaustive]
pub struct ReuniteError<K> {
    /// The half that receives.
    pub reader: ReadHalf<K>,
    /// The half that sends.
    pub writer: WriteHalf<K>,
}

impl<K: Socket> ReadHalf<K> {
    /// The next message; `None` once the connection has ended with a Close frame of the peer.
    ///
    /// What the other half fed leaves before this waits.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::recv`].
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.link.ask(Endpoint::poll_message, cx)).await
    }

    /// What `see` makes of the next event, pings and pongs included, which is lent to it: nothing is allocated or
    /// copied. The other half waits meanwhile, and so does each [`Client`](super::Client) of this connection: `see`
    /// must not use one, nor broadcast to it, as it would wait for itself.
    ///
    /// ```
    /// # use ws_proto::{Error, Event, drive::{ReadHalf, Socket}};
    /// # async fn example(reader: &mut ReadHalf<impl Socket>) -> Result<(), Error> {
    /// let is_pong = |event: Event<'_>| matches!(event, Event::Pong(b"4711"));
    /// while reader.recv_with(is_pong).await? == Some(false) {}
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::recv`].
    pub async fn recv_with<T>(&mut self, mut see: impl FnMut(Event<'_>) -> T) -> Result<Option<T>, Error> {
        self.recv_lent(Endpoint::poll_event, |connection| connection.event().map(&mut see)).await
    }

    /// What `see` makes of the next piece of a message, as [`WebSocket::recv_chunk`] lends it. The other half waits
    /// meanwhile: `see` must do no more than that of [`recv_with`](Self::recv_with).
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::recv_chunk`].
    pub async fn recv_chunk_with<T>(
        &mut self,
        mut see: impl FnMut(Chunk<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        self.recv_lent(Endpoint::poll_chunk, |connection| connection.chunk().map(&mut see)).await
    }

    async fn recv_lent<T>(
        &mut self,
        poll: impl Fn(&mut Endpoint<K>, &mut Context<'_>) -> Poll<Result<bool, Error>>,
        mut see: impl FnMut(&Connection) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut ask = |endpoint: &mut Endpoint<K>, cx: &mut Context<'_>| {
            let more = ready!(poll(endpoint, cx))?;
            Poll::Ready(Ok(if more { see(&endpoint.connection) } else { None }))
        };
        poll_fn(|cx| self.link.ask(&mut ask, cx)).await
    }

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<Closed> {
        self.link.shared().with(|endpoint| endpoint.connection.closed().cloned())
    }

    /// Whether the two are of one WebSocket, so that [`reunite`] takes them.
    pub fn is_pair_of(&self, writer: &WriteHalf<K>) -> bool {
        Arc::ptr_eq(&self.link, &writer.link)
    }
}

impl<K: Socket> WriteHalf<K> {
    /// Sends a message, as [`WebSocket::send`].
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Queues a message to be written later: by [`flush`](Self::flush), when the queue reaches its high-water mark, or
    /// when the other half is next polled and would wait.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::feed`].
    pub async fn feed(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        self.queue(|sender| sender.send(&message)).await
    }

    /// As [`send`](Self::send), for a message that goes to many.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::send`].
    pub async fn send_prepared(&mut self, prepared: &Prepared) -> Result<(), Error> {
        self.queue(|sender| sender.send_prepared(prepared)).await?;
        self.flush().await
    }

    /// Sends one frame of a message in fragments; `last` ends the message (RFC 6455 section 5.4).
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::send_fragment`].
    pub async fn send_fragment(
        &mut self,
        fragment: impl Into<Fragment<'_>>,
        last: bool,
    ) -> Result<(), Error> {
        let fragment = fragment.into();
        self.queue(|sender| sender.send_fragment(fragment, last)).await?;
        self.flush().await
    }

    /// Sends a ping of at most 125 bytes. Its pong arrives at [`ReadHalf::recv_with`].
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::ping`].
    pub async fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.queue(|sender| sender.ping(payload)).await?;
        self.flush().await
    }

    /// Writes everything that is queued.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::flush`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.link.ask(Endpoint::poll_flush, cx)).await
    }

    /// Closes: sends a Close frame behind everything that was sent, and waits for the peer's and for the end of TCP, no
    /// longer than [`Config::close_timeout`](crate::Config::close_timeout).
    ///
    /// Messages that still arrive, and the peer's Close frame behind them, are received by the other half, which must
    /// go on with it. If it was dropped, they are dropped.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`WebSocket::close`]. The other half is told, too.
    pub async fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.start_close(code, reason)?;
        poll_fn(|cx| self.poll_end(cx)).await
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let alone = self.link.shared().is_reader_gone();
        self.link.ask(if alone { Endpoint::poll_end } else { Endpoint::poll_ended }, cx)
    }

    /// Queues a Close frame, which the other half writes: it goes on with messages until the peer's Close frame.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] for a code or reason that must not be sent.
    pub fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        ClosePayload::new(code, reason)?;
        Ok(self.begin_close(|connection| connection.close(code, reason))?)
    }

    /// As [`start_close`](Self::start_close), with a Close frame that carries no code; the peer sees 1005.
    pub fn start_close_without_code(&mut self) {
        self.begin_close(Connection::close_without_code);
    }

    fn begin_close<T>(&mut self, close: impl FnOnce(&mut Connection) -> T) -> T {
        let (result, begins) = self.link.shared().close_in_place(|connection| {
            let was_open = connection.sender().is_open();
            (close(connection), was_open && !connection.sender().is_open())
        });
        if begins {
            // The other half writes the frame, and sees to the deadline.
            self.link.shared().wake();
        }
        result
    }

    /// Bytes that wait to be written, framing included.
    pub fn buffered_amount(&self) -> usize {
        self.link.shared().with(|endpoint| endpoint.connection.buffered_amount())
    }

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<Closed> {
        self.link.shared().with(|endpoint| endpoint.connection.closed().cloned())
    }

    /// Queues something once there is room; at the mark, what the stream takes without waiting leaves.
    async fn queue(
        &mut self,
        mut command: impl FnMut(&mut Sender) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        let mut ask = |endpoint: &mut Endpoint<K>, cx: &mut Context<'_>| {
            // In one go, as others may send through it, too.
            ready!(endpoint.poll_room(cx))?;
            command(endpoint.connection.sender())?;
            let _ = endpoint.poll_room(cx);
            Poll::Ready(Ok(()))
        };
        poll_fn(|cx| self.link.ask(&mut ask, cx)).await
    }
}

impl<K> Link<K> {
    fn shared(&self) -> &Shared<K> {
        &self.shared.0
    }
}

impl<K: Socket> Link<K> {
    fn ask<T>(
        &self,
        ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        self.shared().ask_in_place(ask, cx)
    }
}

impl<K> Drop for ReadHalf<K> {
    fn drop(&mut self) {
        self.link.shared().reader_leaves();
    }
}

/// As [`ReadHalf::recv`].
impl<K: Socket> Stream for ReadHalf<K> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link.ask(Endpoint::poll_message, cx).map(Result::transpose)
    }
}

/// As [`WriteHalf::feed`], [`WriteHalf::flush`] and [`WriteHalf::close`] with code 1000.
impl<K: Socket> Sink<Message> for WriteHalf<K> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.link.ask(Endpoint::poll_room, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Ok(self.link.shared().with(|endpoint| endpoint.connection.sender().send(&message))?)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.link.ask(Endpoint::poll_flush, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.start_close(CloseCode::NORMAL, "")?;
        self.poll_end(cx)
    }
}

impl<K> fmt::Debug for ReadHalf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for WriteHalf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for ReuniteError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<K> fmt::Display for ReuniteError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of one WebSocket")
    }
}

impl<K> std::error::Error for ReuniteError<K> {}
