//! Messages as streams of bytes, however long: [`MessageReader`] and [`MessageWriter`]. What a runtime's traits ask of
//! them, and of a [`ByteStream`](super::ByteStream), is [`ReadBytes`] and [`WriteBytes`].

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use super::{Socket, WebSocket, endpoint::Endpoint};
use crate::{error::Error, message::Text, recv::text, send::Fragment};

/// What bytes can be read from: the traits of any runtime in few words.
pub trait ReadBytes {
    /// The bytes that are there, at least one, or none at the end.
    ///
    /// # Errors
    ///
    /// Why the end is none that the peer meant, once.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>>;

    /// The first `len` of them were read.
    fn consume(&mut self, len: usize);

    /// Copies bytes that are there into `buf`, and gives their number; 0 at the end.
    ///
    /// # Errors
    ///
    /// As [`poll_fill`](Self::poll_fill).
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.poll_fill(cx))?;
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Poll::Ready(Ok(len))
    }
}

/// What bytes can be written to: the traits of any runtime in few words.
pub trait WriteBytes {
    /// Takes some of `bytes`, and gives their number.
    ///
    /// # Errors
    ///
    /// Why nothing can be written; [`BrokenPipe`](io::ErrorKind::BrokenPipe) once the connection closes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Ready once all of it is on its way.
    ///
    /// # Errors
    ///
    /// Why it is not.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends what is written, and flushes.
    ///
    /// # Errors
    ///
    /// As [`poll_flush`](Self::poll_flush).
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// One message as a reader of bytes, from [`WebSocket::recv_reader`]; its end is the end of the message.
///
/// Text is checked as it comes: bytes that are no UTF-8 are never read. Dropped before its end, it has the rest of the
/// message skipped by the next call that receives.
///
/// What goes wrong in the middle of a message (the peer vanished, broke the protocol, passed a limit) is an error here,
/// and not an end.
///
/// ```
/// # use std::future::poll_fn;
/// # use ws_proto::{Error, drive::{ReadBytes, Socket, WebSocket}};
/// # async fn example(mut ws: WebSocket<impl Socket>) -> Result<(), Error> {
/// while let Some(mut reader) = ws.recv_reader().await? {
///     // An adapter brings the traits of its runtime for this.
///     let mut buf = [0; 4096];
///     while let len @ 1.. = poll_fn(|cx| reader.poll_read(cx, &mut buf)).await? {
///         println!("{:?}", &buf[..len]);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct MessageReader<'a, K: Socket> {
    ws: &'a mut WebSocket<K>,
    is_text: bool,
    /// How much of the chunk was read.
    offset: usize,
    /// No chunk is behind the one at hand.
    last: bool,
}

impl<'a, K: Socket> MessageReader<'a, K> {
    /// For the message whose first chunk is there.
    pub(super) fn new(ws: &'a mut WebSocket<K>) -> Option<Self> {
        let chunk = ws.endpoint().connection.chunk()?;
        let (is_text, last) = (matches!(chunk.payload, Fragment::Text(_)), chunk.last);
        Some(Self { ws, is_text, offset: 0, last })
    }

    /// Whether it is a text message; else it is a binary one.
    pub fn is_text(&self) -> bool {
        self.is_text
    }
}

impl<K: Socket> ReadBytes for MessageReader<'_, K> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.ws.unread(self.offset).is_empty() && !self.last {
            if !ready!(self.ws.ask(cx, Endpoint::poll_chunk))? {
                // The peer closed in the middle of its message.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.offset = 0;
            self.last = self.ws.endpoint().connection.chunk().is_none_or(|chunk| chunk.last);
        }
        Poll::Ready(Ok(self.ws.unread(self.offset)))
    }

    fn consume(&mut self, len: usize) {
        self.offset += len;
    }
}

impl<K: Socket> Drop for MessageReader<'_, K> {
    fn drop(&mut self) {
        self.ws.endpoint_mut().skips = !self.last;
    }
}

impl<K: Socket> WebSocket<K> {
    /// What of the chunk at hand is behind its first `offset` bytes.
    pub(super) fn unread(&self, offset: usize) -> &[u8] {
        self.endpoint().connection.chunk().map_or(&[], |chunk| &chunk.as_bytes()[offset..])
    }
}

/// One message as a writer of bytes, from [`WebSocket::text_writer`] or [`WebSocket::binary_writer`].
///
/// Each write is a fragment of the message (RFC 6455 section 5.4), so many short ones are better gathered before. They
/// leave by [`poll_flush`](WriteBytes::poll_flush), and when the queue is at its high-water mark; while it is, writing
/// waits. Control frames pass between them. [`finish`](Self::finish) or [`poll_shutdown`](WriteBytes::poll_shutdown)
/// ends the message.
///
/// Text is checked: bytes that are no UTF-8 are [`InvalidData`](io::ErrorKind::InvalidData), and never sent. A write
/// may cut a character, a fragment does not.
///
/// Dropped before, it leaves the message open, as a write may be cancelled: until another writer of the kind, or
/// [`WebSocket::send_fragment`], ends it, other messages are refused with
/// [`SendError::InFragment`](crate::SendError::InFragment).
///
/// ```
/// # use std::future::poll_fn;
/// # use ws_proto::{Error, drive::{Socket, WebSocket, WriteBytes}};
/// # async fn example(ws: &mut WebSocket<impl Socket>) -> Result<(), Error> {
/// let mut writer = ws.binary_writer();
/// for _ in 0..1_000_000 {
///     // An adapter brings the traits of its runtime for this.
///     let mut bytes = &[0; 8192][..];
///     while !bytes.is_empty() {
///         let len = poll_fn(|cx| writer.poll_write(cx, bytes)).await?;
///         bytes = &bytes[len..];
///     }
/// }
/// writer.finish().await
/// # }
/// ```
#[must_use]
pub struct MessageWriter<'a, K: Socket> {
    ws: &'a mut WebSocket<K>,
    is_text: bool,
    /// The start of a character whose rest was not written yet.
    partial: [u8; 4],
    partial_len: usize,
    finished: bool,
}

impl<'a, K: Socket> MessageWriter<'a, K> {
    pub(super) fn new(ws: &'a mut WebSocket<K>, is_text: bool) -> Self {
        Self { ws, is_text, partial: [0; 4], partial_len: 0, finished: false }
    }

    /// Ends the message, and writes everything that is queued.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send_fragment`]; [`Error::Io`] with [`InvalidData`](io::ErrorKind::InvalidData) for a text that
    /// ends inside a character.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room, it has not ended the message; later, it has.
    pub async fn finish(mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.partial_len > 0 {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::InvalidData).into()));
        }
        if !self.finished {
            ready!(self.poll_fragment(cx, &[], true))?;
            self.finished = true;
        }
        self.ws.ask(cx, Endpoint::poll_flush)
    }

    /// Sends bytes that are a fragment of text, if it is a text.
    fn poll_fragment(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Poll<Result<(), Error>> {
        let fragment =
            if self.is_text { Fragment::Text(Text::checked(bytes)) } else { Fragment::Binary(bytes) };
        self.ws.ask(cx, |endpoint, cx| {
            ready!(endpoint.poll_room(cx))?;
            endpoint.connection.sender().send_fragment(fragment, last)?;
            // At the mark, what the stream takes without waiting leaves.
            let _ = endpoint.poll_room(cx);
            Poll::Ready(Ok(()))
        })
    }
}

impl<K: Socket> WriteBytes for MessageWriter<'_, K> {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = &bytes[..bytes.len().min(LONGEST_WRITE)];
        if self.is_text {
            return self.poll_write_text(cx, bytes);
        }
        if !bytes.is_empty() {
            ready!(self.poll_fragment(cx, bytes, false))?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ws.ask(cx, Endpoint::poll_flush).map_err(io::Error::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(cx).map_err(io::Error::from)
    }
}

impl<K: Socket> MessageWriter<'_, K> {
    /// Takes the whole characters at the front, or else one byte of a character that is cut.
    fn poll_write_text(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = if self.partial_len == 0 { text::valid_len(bytes) } else { 0 };
        if len > 0 {
            ready!(self.poll_fragment(cx, &bytes[..len], false))?;
            return Poll::Ready(Ok(len));
        }
        let Some(&byte) = bytes.first() else { return Poll::Ready(Ok(0)) };
        let mut character = self.partial;
        character[self.partial_len] = byte;
        let character = &character[..=self.partial_len];
        match std::str::from_utf8(character) {
            Ok(character) => {
                ready!(self.poll_fragment(cx, character.as_bytes(), false))?;
                self.partial_len = 0;
            }
            Err(error) if error.error_len().is_none() => {
                self.partial[self.partial_len] = byte;
                self.partial_len += 1;
            }
            Err(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
        Poll::Ready(Ok(1))
    }
}

impl<K: Socket> fmt::Debug for MessageReader<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader").field("is_text", &self.is_text).finish_non_exhaustive()
    }
}

impl<K: Socket> fmt::Debug for MessageWriter<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter").field("is_text", &self.is_text).finish_non_exhaustive()
    }
}

/// Most bytes that one write takes: a frame of this length passes the limits of most peers.
pub(super) const LONGEST_WRITE: usize = 64 * 1024;
