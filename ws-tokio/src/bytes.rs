//! [`AsyncIo`]: tokio's traits for what reads and writes bytes over messages.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use ws_proto::drive::{ReadBytes, WriteBytes};

/// A [`ByteStream`](crate::ByteStream), a [`MessageReader`](crate::MessageReader) or a
/// [`MessageWriter`](crate::MessageWriter) with tokio's traits.
///
/// ```no_run
/// use tokio::{io::copy_bidirectional, net::TcpStream};
/// use ws_tokio::{AsyncIo, ByteStream, WebSocket};
///
/// # async fn example(ws: WebSocket<TcpStream>) -> std::io::Result<()> {
/// let mut tunnel = AsyncIo(ByteStream::new(ws));
/// let mut target = TcpStream::connect("127.0.0.1:25").await?;
/// copy_bidirectional(&mut tunnel, &mut target).await?;
/// # Ok(())
/// # }
/// ```
///
/// A file as one message, and one message as a file:
///
/// ```no_run
/// # use tokio::{fs::File, io::{AsyncWriteExt, copy}, net::TcpStream};
/// # use ws_tokio::{AsyncIo, WebSocket};
/// # async fn example(mut ws: WebSocket<TcpStream>) -> std::io::Result<()> {
/// let mut writer = AsyncIo(ws.binary_writer());
/// copy(&mut File::open("out").await?, &mut writer).await?;
/// writer.shutdown().await?;
///
/// if let Some(reader) = ws.recv_reader().await? {
///     copy(&mut AsyncIo(reader), &mut File::create("in").await?).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncIo<T>(
    /// What has the traits.
    pub T,
);

impl<T: ReadBytes + Unpin> AsyncRead for AsyncIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.0.poll_fill(cx))?;
        let len = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..len]);
        self.0.consume(len);
        Poll::Ready(Ok(()))
    }
}

impl<T: ReadBytes + Unpin> AsyncBufRead for AsyncIo<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.get_mut().0.poll_fill(cx)
    }

    fn consume(mut self: Pin<&mut Self>, len: usize) {
        self.0.consume(len);
    }
}

impl<T: WriteBytes + Unpin> AsyncWrite for AsyncIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
