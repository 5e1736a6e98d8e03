//! [`WebSocket`]: an open connection as an application holds it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    Driver, MessageReader, MessageWriter, ReadHalf, Socket, WriteHalf,
    clients::{Client, Membership},
    endpoint::Endpoint,
    shared::{Owned, Shared},
    split,
};
use crate::{
    close::{CloseCode, ClosePayload, Closed},
    connection::{Connection, Fault},
    error::Error,
    message::{Chunk, Event, Message},
    send::{Fragment, Prepared, Sender},
};

/// A WebSocket connection over any stream of a runtime.
///
/// ```
/// # use ws_proto::{Error, drive::{Socket, WebSocket}};
/// # async fn example(mut ws: WebSocket<impl Socket>) -> Result<(), Error> {
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
pub struct WebSocket<K> {
    /// In hand, but while a future of this waits: see [`Waiting`].
    endpoint: Option<Box<Endpoint<K>>>,
    /// Where others send through it, if anybody does.
    shared: Option<Owned<K>>,
    memberships: Vec<Membership>,
}

impl<K: Socket> WebSocket<K> {
    pub(super) fn new(connection: Connection, driver: Driver<K>) -> Self {
        Self {
            endpoint: Some(Box::new(Endpoint::new(connection, driver))),
            shared: None,
            memberships: Vec::new(),
        }
    }

    /// What two halves became again.
    pub(super) fn reunited(shared: Owned<K>, memberships: Vec<Membership>) -> Self {
        let mut endpoint = None;
        shared.0.take_back(&mut endpoint);
        Self { endpoint, shared: Some(shared), memberships }
    }

    /// A WebSocket over a stream whose handshake is over, made elsewhere: see [`Connection::server`],
    /// [`Connection::client`] and
    /// [`Acceptance::into_connection`](crate::handshake::Acceptance::into_connection).
    pub fn from_upgraded(stream: K::Stream, connection: Connection) -> Self {
        Self::new(connection, Driver::new(K::new(stream)))
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
        self.wait(Endpoint::poll_message).await.1
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
        // What has arrived already needs no waiting, nor its preparations.
        if !self.endpoint_mut().advance() && !self.wait(Endpoint::poll_event).await.1? {
            return Ok(None);
        }
        Ok(self.endpoint().connection.event())
    }

    /// The next event, lent, and the sender beside it to answer through, without copying the payload out first.
    ///
    /// It waits until the sender has room for an answer of any length, so that a peer who does not read is not
    /// read either. What the sender takes is written when the next `recv` of any kind would wait, or by
    /// [`flush`](Self::flush).
    ///
    /// ```
    /// # use ws_proto::{Error, Event, drive::{Socket, WebSocket}};
    /// # async fn echo(ws: &mut WebSocket<impl Socket>) -> Result<(), Error> {
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
        let endpoint = self.endpoint_mut();
        let has_event = !endpoint.connection.sender().is_full() && endpoint.advance();
        if !has_event && !self.wait(Endpoint::poll_event_with_room).await.1? {
            return Ok(None);
        }
        let (event, sender) = self.endpoint_mut().connection.split_mut();
        Ok(event.map(|event| (event, sender)))
    }

    /// The message that the last [`recv_ref`](Self::recv_ref) or [`recv_split`](Self::recv_split) lent, as its own:
    /// moved if it is long, copied if it is short. `None` if it was no message, or was taken already.
    ///
    /// For a long message that is kept or sent on this saves the copy that a lent payload needs.
    pub fn take_message(&mut self) -> Option<Message> {
        self.endpoint_mut().connection.take_message()
    }

    /// The next piece of a message, lent, as soon as there is one: for messages that are longer than memory, or of use
    /// before they are complete. `None` once the connection has ended.
    ///
    /// It holds no more memory than a few reads, however long the message and its frames are.
    /// [`Config::max_message`](crate::Config::max_message) and [`Config::max_frame`](crate::Config::max_frame) still
    /// hold for the whole: raise them. Control frames are answered and skipped. In the middle of a message the other
    /// methods that receive go on to what is left of it, as one message.
    ///
    /// [`recv_reader`](Self::recv_reader) gives one message as a reader of bytes.
    ///
    /// ```
    /// # use ws_proto::{Error, drive::{Socket, WebSocket}};
    /// # async fn example(from: &mut WebSocket<impl Socket>, to: &mut WebSocket<impl Socket>) -> Result<(), Error> {
    /// while let Some(chunk) = from.recv_chunk().await? {
    ///     to.send_fragment(chunk.payload, chunk.last).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv). What came before is handed out before, so that an error in the middle of a message says
    /// that the chunks before it are no whole message.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn recv_chunk(&mut self) -> Result<Option<Chunk<'_>>, Error> {
        let (endpoint, more) = self.wait(Endpoint::poll_chunk).await;
        Ok(if more? { endpoint.connection.chunk() } else { None })
    }

    /// The next message as a reader of its bytes, as soon as some of it is there; `None` once the connection has ended.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn recv_reader(&mut self) -> Result<Option<MessageReader<'_, K>>, Error> {
        let (_, more) = self.wait(Endpoint::poll_chunk).await;
        Ok(if more? { MessageReader::new(self) } else { None })
    }

    /// A text message to be written piece by piece, as bytes of UTF-8. It begins with the first write.
    pub fn text_writer(&mut self) -> MessageWriter<'_, K> {
        MessageWriter::new(self, true)
    }

    /// A binary message to be written piece by piece. It begins with the first write.
    pub fn binary_writer(&mut self) -> MessageWriter<'_, K> {
        MessageWriter::new(self, false)
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
        if self.endpoint_mut().connection.sender().is_full() {
            // The mark is reached: what the stream takes without waiting leaves.
            self.wait(|endpoint, cx| Poll::Ready(endpoint.poll_room(cx).is_ready())).await;
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
        let (endpoint, room) = self.wait(Endpoint::poll_room).await;
        room?;
        Ok(endpoint.connection.sender())
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
        self.wait(Endpoint::poll_flush).await.1
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
        self.start_close(code, reason)?;
        self.wait(Endpoint::poll_end).await.1
    }

    /// Queues a Close frame, and leaves the rest of the closing handshake to `recv`: it goes on with messages until
    /// the peer's Close frame.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] for a code or reason that must not be sent.
    pub fn start_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        ClosePayload::new(code, reason)?;
        Ok(self.closing().close(code, reason)?)
    }

    /// As [`start_close`](Self::start_close), with a Close frame that carries no code; the peer sees 1005.
    pub fn start_close_without_code(&mut self) {
        self.closing().close_without_code();
    }

    /// The handle to this in the set of [`Clients`](super::Clients) that took it in first, that of its server.
    pub fn client(&self) -> Option<Client> {
        self.memberships.first()?.client()
    }

    /// Two halves, to receive in one task and send in another. No task is spawned, and whichever half is polled does
    /// what the connection needs: answers pings, writes what is queued, minds the deadlines.
    ///
    /// A place in [`Clients`](super::Clients) is kept until both halves are dropped.
    /// [`reunite`](super::reunite) makes a WebSocket of them again.
    ///
    /// ```
    /// # use ws_proto::{Error, drive::{Socket, WebSocket}};
    /// # async fn example(ws: WebSocket<impl Socket>) -> Result<(), Error> {
    /// let (mut reader, mut writer) = ws.split();
    /// let receive = async move {
    ///     while let Some(message) = reader.recv().await? {
    ///         println!("{message:?}");
    ///     }
    ///     Ok::<_, Error>(())
    /// };
    /// let send = async move { writer.send("hello").await };
    /// // To be spawned or joined, as tasks or in one.
    /// # receive.await?;
    /// # send.await
    /// # }
    /// ```
    pub fn split(mut self) -> (ReadHalf<K>, WriteHalf<K>) {
        self.share();
        let shared = self.shared.expect("it was shared just now");
        shared.0.leave(self.endpoint);
        split::halves(shared, self.memberships)
    }

    /// Drops the connection without a Close frame; the peer sees 1006.
    pub fn terminate(self) {}

    /// How the connection ended; `None` while it has not.
    pub fn closed(&self) -> Option<&Closed> {
        self.endpoint().connection.closed()
    }

    /// What ended the connection, or is about to, if it was no closing handshake.
    pub fn fault(&self) -> Option<Fault> {
        self.endpoint().connection.fault()
    }

    /// The subprotocol that the handshake agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.endpoint().connection.subprotocol()
    }

    /// Bytes that wait to be written, framing included.
    pub fn buffered_amount(&self) -> usize {
        self.endpoint().connection.buffered_amount()
    }

    /// The stream.
    pub fn get_ref(&self) -> &K::Stream {
        self.endpoint().driver.socket().stream()
    }

    /// The stream, to set its options. Reading or writing it would tear the connection.
    pub fn get_mut(&mut self) -> &mut K::Stream {
        self.endpoint_mut().driver.socket_mut().stream_mut()
    }

    /// The stream, wherever the connection stands. What was received or queued and not handled is lost.
    pub fn into_inner(mut self) -> K::Stream {
        self.endpoint.take().expect(IN_HAND).driver.into_socket().into_stream()
    }

    #[inline]
    pub(super) fn endpoint(&self) -> &Endpoint<K> {
        self.endpoint.as_ref().expect(IN_HAND)
    }

    #[inline]
    pub(super) fn endpoint_mut(&mut self) -> &mut Endpoint<K> {
        self.endpoint.as_mut().expect(IN_HAND)
    }

    /// The connection, about to be closed: what others have sent goes first.
    fn closing(&mut self) -> &mut Connection {
        let endpoint = self.endpoint.as_mut().expect(IN_HAND);
        if let Some(shared) = &self.shared {
            shared.0.hand_over(endpoint);
        }
        &mut endpoint.connection
    }

    /// Asks until there is an answer. While it waits, others may send through the endpoint.
    #[inline]
    fn wait<T, F>(&mut self, ask: F) -> Waiting<'_, K, F>
    where
        F: FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
    {
        Waiting { ws: Some(self), ask }
    }

    /// Asks once; the caller may drop all interest in the answer, so the endpoint stays in hand.
    pub(super) fn ask<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut ask: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let endpoint = self.endpoint.as_mut().expect(IN_HAND);
        match &self.shared {
            None => ask(endpoint, cx),
            Some(shared) => shared.0.ask_in_hand(endpoint, ask, cx),
        }
    }

    /// Lets others send through this, from its next wait on.
    pub(super) fn share(&mut self) -> Arc<Shared<K>> {
        let endpoint = self.endpoint.as_mut().expect(IN_HAND);
        let shared =
            self.shared.get_or_insert_with(|| Owned(Arc::new(Shared::new(endpoint.connection.sender()))));
        Arc::clone(&shared.0)
    }

    pub(super) fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    pub(super) fn join(&mut self, membership: Membership) {
        self.memberships.push(membership);
    }
}

/// Nothing but a [`Waiting`] gives the endpoint away, and it takes it back when it is dropped. Who leaks one instead
/// has a `WebSocket` that can only be awaited again, or dropped.
const IN_HAND: &str = "the endpoint is in hand";

/// Waits for an answer of the endpoint; hands it out together with the answer.
///
/// While it waits, the endpoint lies where others may send through it, if it is shared. It borrows the `WebSocket`,
/// whose other methods so never see that.
#[must_use]
struct Waiting<'a, K, F> {
    ws: Option<&'a mut WebSocket<K>>,
    ask: F,
}

impl<K, F> Unpin for Waiting<'_, K, F> {}

impl<'a, K, T, F> Future for Waiting<'a, K, F>
where
    K: Socket,
    F: FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<T>,
{
    type Output = (&'a mut Endpoint<K>, T);

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let ws = this.ws.take().expect("polled once more after it was ready");
        let answer = match &ws.shared {
            None => (this.ask)(ws.endpoint_mut(), cx),
            Some(shared) => shared.0.ask(&mut ws.endpoint, &mut this.ask, cx),
        };
        match answer {
            Poll::Ready(answer) => Poll::Ready((ws.endpoint_mut(), answer)),
            Poll::Pending => {
                this.ws = Some(ws);
                Poll::Pending
            }
        }
    }
}

impl<K, F> Drop for Waiting<'_, K, F> {
    fn drop(&mut self) {
        if let Some(ws) = &mut self.ws
            && let Some(shared) = &ws.shared
        {
            shared.0.take_back(&mut ws.endpoint);
        }
    }
}

/// As [`WebSocket::recv`].
impl<K: Socket> Stream for WebSocket<K> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ask(cx, Endpoint::poll_message).map(Result::transpose)
    }
}

/// As [`WebSocket::feed`], [`WebSocket::flush`] and [`WebSocket::close`] with code 1000.
impl<K: Socket> Sink<Message> for WebSocket<K> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.ask(cx, Endpoint::poll_room)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Ok(self.endpoint_mut().connection.sender().send(&message)?)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.ask(cx, Endpoint::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.start_close(CloseCode::NORMAL, "")?;
        self.ask(cx, Endpoint::poll_end)
    }
}
