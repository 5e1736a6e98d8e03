//! [`AsyncIo`]: the traits of `futures-io` for what reads and writes bytes over messages.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use ws_proto::drive::{ReadBytes, WriteBytes};

/// A [`ByteStream`](crate::ByteStream), a [`MessageReader`](crate::MessageReader) or a
/// [`MessageWriter`](crate::MessageWriter) with the traits of `futures-io`.
///
/// ```no_run
/// use std::net::TcpStream;
///
/// use async_io::Async;
/// use futures_util::{AsyncReadExt, AsyncWriteExt, future::try_join, io::copy};
/// use ws_async_std::{AsyncIo, ByteStream, Transport, WebSocket};
///
/// # async fn example(ws: WebSocket) -> std::io::Result<()> {
/// let target = Transport::from(Async::<TcpStream>::connect(([127, 0, 0, 1], 25)).await?);
/// let (from_client, mut to_client) = AsyncIo(ByteStream::new(ws)).split();
/// let (from_target, mut to_target) = target.split();
/// let up = async {
///     copy(from_client, &mut to_target).await?;
///     to_target.close().await
/// };
/// let down = async {
///     copy(from_target, &mut to_client).await?;
///     to_client.close().await
/// };
/// try_join(up, down).await?;
/// # Ok(())
/// # }
/// ```
///
/// A file as one message, and one message as a file:
///
/// ```no_run
/// # use async_std::fs::File;
/// # use futures_util::{AsyncWriteExt, io::copy};
/// # use ws_async_std::{AsyncIo, WebSocket};
/// # async fn example(mut ws: WebSocket) -> std::io::Result<()> {
/// let mut writer = AsyncIo(ws.binary_writer());
/// copy(File::open("out").await?, &mut writer).await?;
/// writer.close().await?;
///
/// if let Some(reader) = ws.recv_reader().await? {
///     copy(AsyncIo(reader), &mut File::create("in").await?).await?;
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
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
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

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
