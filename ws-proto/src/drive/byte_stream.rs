//! [`ByteStream`]: a WebSocket as a stream of bytes, for tunnels.

use std::{
    io,
    task::{Context, Poll, ready},
};

use super::{
    Socket, WebSocket,
    driver::{MAX_ROUNDS, yield_now},
    endpoint::Endpoint,
    message::{LONGEST_WRITE, ReadBytes, WriteBytes},
};
use crate::{close::CloseCode, error::Error};

/// A WebSocket as a stream of bytes, to run another protocol over.
///
/// - *Reading* gives the payloads of the peer's messages one after the other, those of text messages, too; where one
///   ends does not show, and none is collected. The end is the peer's Close frame; any other end is an error.
/// - *Writing* sends each write as a binary message, a long one in part. They leave by a flush, when the output queue
///   is at its high-water mark, and when reading would wait. Writes of a few bytes are better gathered before.
/// - *Shutdown* closes with 1000 behind what was written, and waits for the peer's Close frame and the end of TCP. It
///   does not wait behind bytes that are there and not read: they stay to be read, up to the end.
///
/// Neither direction takes more memory than its buffers: a peer that is not read is held up, and a writer waits for a
/// peer that does not read. Dropped, it closes the stream without a Close frame.
///
/// ```
/// # use std::future::poll_fn;
/// # use ws_proto::{Error, drive::{ByteStream, ReadBytes, Socket, WebSocket, WriteBytes}};
/// # async fn example(ws: WebSocket<impl Socket>) -> std::io::Result<()> {
/// let mut stream = ByteStream::new(ws);
/// // An adapter brings the traits of its runtime for this.
/// poll_fn(|cx| stream.poll_write(cx, b"EHLO example.com\r\n")).await?;
/// let mut buf = [0; 4096];
/// let len = poll_fn(|cx| stream.poll_read(cx, &mut buf)).await?;
/// println!("{:?}", &buf[..len]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ByteStream<K> {
    ws: WebSocket<K>,
    /// How much of the chunk at hand was read.
    offset: usize,
}

impl<K: Socket> ByteStream<K> {
    /// Over this WebSocket, from its next message on. Of a message that was received in part, that is the rest.
    pub fn new(ws: WebSocket<K>) -> Self {
        // What was lent before is no longer at hand.
        let offset = ws.unread(0).len();
        Self { ws, offset }
    }

    /// The WebSocket: to ask how it ended, for instance.
    pub fn get_ref(&self) -> &WebSocket<K> {
        &self.ws
    }

    /// The WebSocket. Of a chunk that was read in part, the rest is lost.
    pub fn into_inner(self) -> WebSocket<K> {
        self.ws
    }

    /// Ready once there are bytes to be read, or the end.
    fn poll_unread(
        &mut self,
        cx: &mut Context<'_>,
        mut next: impl FnMut(&mut Endpoint<K>, &mut Context<'_>) -> Poll<Result<bool, Error>>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..MAX_ROUNDS {
            if !self.ws.unread(self.offset).is_empty() || !ready!(self.ws.ask(cx, &mut next))? {
                return Poll::Ready(Ok(()));
            }
            self.offset = 0;
        }
        // Messages may be empty.
        yield_now(cx)
    }
}

impl<K: Socket> ReadBytes for ByteStream<K> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        ready!(self.poll_unread(cx, Endpoint::poll_chunk))?;
        Poll::Ready(Ok(self.ws.unread(self.offset)))
    }

    fn consume(&mut self, len: usize) {
        self.offset += len;
    }
}

impl<K: Socket> WriteBytes for ByteStream<K> {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(LONGEST_WRITE)];
        let written = ready!(self.ws.ask(cx, |endpoint, cx| {
            ready!(endpoint.poll_room(cx))?;
            if !bytes.is_empty() {
                endpoint.connection.sender().send_binary(bytes)?;
                // At the mark, what the stream takes without waiting leaves.
                let _ = endpoint.poll_room(cx);
            }
            Poll::Ready(Ok(bytes.len()))
        }));
        Poll::Ready(written.map_err(Error::into))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ws.ask(cx, Endpoint::poll_flush).map_err(io::Error::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ws.closed().is_none() {
            self.ws.start_close(CloseCode::NORMAL, "").map_err(io::Error::from)?;
            ready!(self.ws.ask(cx, Endpoint::poll_flush))?;
        }
        self.poll_unread(cx, Endpoint::poll_end_or_chunk)
    }
}
