//! [`WebSocket`]: a connection over a stream of tokio's.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};
use ws_proto::{
    CloseCode, Closed, Connection, Error, Event, Fragment, Message, Prepared, Sender, drive::Driver,
};

use crate::socket::TokioSocket;

/// A WebSocket connection over any stream of tokio's.
///
/// ```no_run
/// # async fn example() -> Result<(), ws_tokio::Error> {
/// let (mut ws, _response) = ws_tokio::connect("ws://127.0.0.1:9001/").await?;
/// ws.feed("several").await?; // queued
/// ws.feed("at once").await?;
/// ws.flush().await?; // written together
/// while let Some(message) = ws.recv().await? {
///     println!("{message:?}");
/// }
/// println!("{:?}", ws.closed());
/// # Ok(())
/// # }
/// ```
///
/// # What happens when
///
/// Pings are answered, pings are sent to a silent peer, deadlines pass and a closing handshake goes on while one of
/// the methods is awaited, `recv` above all: a task that holds a `WebSocket` should be in `recv` whenever it has
/// nothing else to do. No task is spawned, and dropping a `WebSocket` closes its stream without a Close frame.
///
/// # Cancel safety
///
/// All progress lives in the `WebSocket`, none in the futures. Any of them can be dropped at any time, as
/// `tokio::select!` does, and no message that arrived is lost, no frame is torn or sent twice. A message whose
/// `send` or `feed` was dropped has been queued whole or not at all; it has been queued unless the future was still
/// waiting for room.
#[derive(Debug)]
pub struct WebSocket<S> {
    connection: Connection,
    driver: Driver<TokioSocket<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(crate) fn new(mut connection: Connection, driver: Driver<TokioSocket<S>>) -> Self {
        connection.set_vectored(ws_proto::drive::Socket::is_vectored(driver.socket()));
        Self { connection, driver }
    }

    /// A WebSocket over a stream whose handshake is over, made elsewhere: see [`Connection::server`],
    /// [`Connection::client`] and
    /// [`Acceptance::into_connection`](ws_proto::handshake::Acceptance::into_connection).
    pub fn from_upgraded(stream: S, connection: Connection) -> Self {
        Self::new(connection, Driver::new(TokioSocket::new(stream)))
    }

    /// The next message; `None` once the connection has ended with a Close frame of the peer, which
    /// [`closed`](Self::closed) tells about.
    ///
    /// Pings and pongs are skipped (and answered). What was fed leaves before this waits.
    ///
    /// # Errors
    ///
    /// Why the connection ended otherwise, once, after everything that arrived before: the peer broke the protocol
    /// ([`Error::Protocol`]; it has been told), vanished ([`Error::Abnormal`]), a deadline passed
    /// ([`Error::Timeout`]) or the stream failed ([`Error::Io`]). After that, `None`.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is handed out or stays.
    pub async fn recv(&mut self) -> Result<Option<Message>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next event, pings and pongs included, lent: nothing is allocated or copied.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    #[inline]
    pub async fn recv_ref(&mut self) -> Result<Option<Event<'_>>, Error> {
        let more = poll_fn(|cx| self.driver.poll_event(&mut self.connection, cx)).await?;
        Ok(if more { self.connection.event() } else { None })
    }

    /// The next event, lent, and the sender beside it to answer through, without copying the payload out first.
    ///
    /// It waits until the sender has room for an answer of any length, so that a peer who does not read is not
    /// read either. What the sender takes is written when the next `recv` of any kind would wait, or by
    /// [`flush`](Self::flush).
    ///
    /// ```no_run
    /// # use ws_tokio::{Error, Event, WebSocket};
    /// # async fn echo(ws: &mut WebSocket<tokio::net::TcpStream>) -> Result<(), Error> {
    /// while let Some((event, sender)) = ws.recv_split().await? {
    ///     match event {
    ///         Event::Text(text) => sender.send_text(text)?,
    ///         Event::Binary(payload) => sender.send_binary(payload)?,
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    #[inline]
    pub async fn recv_split(&mut self) -> Result<Option<(Event<'_>, &mut Sender)>, Error> {
        let more = poll_fn(|cx| self.driver.poll_event_with_room(&mut self.connection, cx)).await?;
        let (event, sender) = self.connection.split_mut();
        Ok(event.filter(|_| more).map(|event| (event, sender)))
    }

    /// The message that the last [`recv_ref`](Self::recv_ref) or [`recv_split`](Self::recv_split) lent, as its own:
    /// moved if it is long, copied if it is short. `None` if it was no message, or was taken already.
    ///
    /// For a long message that is kept or sent on this saves the copy that a lent payload needs.
    pub fn take_message(&mut self) -> Option<Message> {
        self.connection.take_message()
    }

    /// Sends a message: queues it and writes everything that is queued.
    ///
    /// Waits while the queue is at its high-water mark, and until the stream has taken everything. Meanwhile it
    /// reads what the peer sends, as far as there is room.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] if nothing can be sent any more or a fragmented message is unfinished, [`Error::Io`] or
    /// [`Error::Timeout`] if writing failed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued whole or not at all; dropped while it waits for room, it is not sent.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.feed(message).await?;
        self.flush().await
    }

    /// Queues a message to be written later: when the next `recv` would wait, when the queue reaches its high-water
    /// mark, or by [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn feed(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        self.room().await?.send(&message)?;
        if self.connection.sender().is_full() {
            // The mark is reached: what the stream takes without waiting leaves.
            poll_fn(|cx| Poll::Ready(self.driver.poll_room(&mut self.connection, cx).is_ready())).await;
        }
        Ok(())
    }

    /// As [`send`](Self::send), for a message that goes to many.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_prepared(&mut self, prepared: &Prepared) -> Result<(), Error> {
        self.room().await?.send_prepared(prepared)?;
        self.flush().await
    }

    /// Sends one frame of a message in fragments; `last` ends the message (RFC 6455 section 5.4).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send), for this fragment.
    pub async fn send_fragment(
        &mut self,
        fragment: impl Into<Fragment<'_>>,
        last: bool,
    ) -> Result<(), Error> {
        let fragment = fragment.into();
        self.room().await?.send_fragment(fragment, last)?;
        self.flush().await
    }

    /// Sends a ping of at most 125 bytes. Its pong arrives as [`Event::Pong`] at [`recv_ref`](Self::recv_ref).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`Error::Send`] for a longer payload.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.room().await?.ping(payload)?;
        self.flush().await
    }

    /// The sender, once it has room for a message of any length. What it takes is written as after
    /// [`feed`](Self::feed).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Timeout`] if writing failed.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn room(&mut self) -> Result<&mut Sender, Error> {
        poll_fn(|cx| self.driver.poll_room(&mut self.connection, cx)).await?;
        Ok(self.connection.sender())
    }

    /// Writes everything that is queued.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Timeout`] if that failed.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not written stays queued.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.driver.poll_flush(&mut self.connection, cx)).await
    }

    /// Closes: sends a Close frame behind everything that was sent, waits for the peer's and for the end of TCP,
    /// no longer than [`Config::close_timeout`](crate::Config::close_timeout). Messages that still arrive are
    /// dropped; to receive them, [`start_close`](Self::start_close) and go on with `recv`.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] for a code or reason that must not be sent; else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// The Close frame is queued; `recv` or another `close` goes on.
    pub async fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.connection.close(code, reason)?;
        poll_fn(|cx| self.driver.poll_end(&mut self.connection, cx)).await
    }

    /// Queues a Close frame, and leaves the rest of the closing handshake to `recv`: it goes on with messages until
    /// the peer's Close frame.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] for a code or reason that must not be sent.
    pub fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        Ok(self.connection.close(code, reason)?)
    }

    /// Drops the connection without a Close frame; the peer sees 1006.
    pub fn terminate(self) {}

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<&Closed> {
        self.connection.closed()
    }

    /// The subprotocol that the handshake agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.connection.subprotocol()
    }

    /// Bytes that wait to be written, framing included.
    pub fn buffered_amount(&self) -> usize {
        self.connection.buffered_amount()
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.driver.socket().stream
    }

    /// The stream, to set its options. Reading or writing it would tear the connection.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.driver.socket_mut().stream
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        while ready!(self.driver.poll_event(&mut self.connection, cx))? {
            if let Some(message) = self.connection.take_message() {
                return Poll::Ready(Ok(Some(message)));
            }
        }
        Poll::Ready(Ok(None))
    }
}

/// As [`WebSocket::recv`].
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Result::transpose)
    }
}

/// As [`WebSocket::feed`], [`WebSocket::flush`] and [`WebSocket::close`] with code 1000.
impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.driver.poll_room(&mut this.connection, cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Ok(self.connection.sender().send(&message)?)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.driver.poll_flush(&mut this.connection, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        this.connection.close(CloseCode::NORMAL, "")?;
        this.driver.poll_end(&mut this.connection, cx)
    }
}
