//! The adapters' common suite on tokio.

#[path = "../../tests/adapter.rs"]
mod adapter;

/// What is tokio's own.
mod rt {
    use std::{
        fmt::Debug,
        io,
        net::SocketAddr,
        path::{Path, PathBuf},
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, ready},
        time::{Duration, Instant},
    };

    use tokio::{
        io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
        net::{TcpListener, TcpStream},
        runtime::{Builder, Runtime},
    };
    pub(crate) use tokio::{task::yield_now, time::sleep};
    pub(crate) use ws_tokio as ws;

    use crate::adapter::faults::{Call, Faults};

    /// Unit of time of [`block_on_timed`]. Its clock jumps to the next timer, so it costs nothing.
    pub(crate) const SECOND: Duration = Duration::from_secs(1);

    /// How late a timer may be.
    pub(crate) const LATE: Duration = Duration::from_secs(4);

    pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Debug {}

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + Debug> Stream for S {}

    /// Any stream.
    pub(crate) type Link = Box<dyn Stream>;

    /// What its bytes are driven through.
    pub(crate) type Socket = ws_tokio::Io<Link>;

    pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
        runtime().block_on(future)
    }

    pub(crate) fn block_on_timed<F: Future>(future: F) -> F::Output {
        runtime().block_on(async {
            tokio::time::pause();
            future.await
        })
    }

    /// As [`block_on`], with what it spawns on other threads.
    pub(crate) fn block_on_threads<F: Future>(future: F) -> F::Output {
        Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap().block_on(future)
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    pub(crate) fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        let task = tokio::spawn(future);
        async move { task.await.unwrap() }
    }

    /// Lets the other tasks run until they wait. They are of the same thread.
    pub(crate) async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    pub(crate) fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Two ends of a pipe in memory that holds so many bytes each way.
    pub(crate) fn duplex(len: usize) -> (Link, Link) {
        let (a, b) = tokio::io::duplex(len);
        (Box::new(a), Box::new(b))
    }

    /// A stream whose calls are disturbed.
    pub(crate) fn faulty(link: Link, faults: Arc<Faults>) -> Link {
        Box::new(Faulty { link, faults })
    }

    #[derive(Debug)]
    struct Faulty {
        link: Link,
        faults: Arc<Faults>,
    }

    impl AsyncRead for Faulty {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let most = ready!(self.faults.poll(Call::Read, cx))?;
            let mut some = buf.take(most.min(buf.remaining()));
            ready!(Pin::new(&mut self.link).poll_read(cx, &mut some))?;
            let len = some.filled().len();
            buf.advance(len);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Faulty {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let most = ready!(self.faults.poll(Call::Write, cx))?;
            Pin::new(&mut self.link).poll_write(cx, &bytes[..bytes.len().min(most)])
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(self.faults.poll(Call::Flush, cx))?;
            Pin::new(&mut self.link).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(self.faults.poll(Call::Shutdown, cx))?;
            Pin::new(&mut self.link).poll_shutdown(cx)
        }
    }

    pub(crate) struct Listener(TcpListener);

    impl Listener {
        pub(crate) async fn bind() -> Self {
            Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
        }

        pub(crate) fn address(&self) -> SocketAddr {
            self.0.local_addr().unwrap()
        }

        pub(crate) async fn accept(&self) -> Link {
            let (stream, _) = self.0.accept().await.unwrap();
            // Or the second of two short writes waits for the client's system to acknowledge the first.
            stream.set_nodelay(true).unwrap();
            Box::new(stream)
        }
    }

    /// What listens at a path of its own, which goes with it.
    #[cfg(unix)]
    pub(crate) struct UnixListener(tokio::net::UnixListener, PathBuf);

    #[cfg(unix)]
    impl UnixListener {
        pub(crate) fn bind() -> Self {
            let path = socket_path();
            Self(tokio::net::UnixListener::bind(&path).unwrap(), path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.1
        }

        pub(crate) async fn accept(&self) -> Link {
            Box::new(self.0.accept().await.unwrap().0)
        }
    }

    #[cfg(unix)]
    impl Drop for UnixListener {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.1);
        }
    }

    /// A path that nothing else has.
    #[cfg(unix)]
    pub(crate) fn socket_path() -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("ws-tokio-{}-{count}.sock", std::process::id()))
    }

    /// For a server to take over.
    pub(crate) async fn tcp_listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// For a server to take over, and where it is.
    pub(crate) fn unix_listener() -> (tokio::net::UnixListener, PathBuf) {
        let path = socket_path();
        (tokio::net::UnixListener::bind(&path).unwrap(), path)
    }

    pub(crate) async fn connect_unix(path: &Path) -> Link {
        let link = tokio::net::UnixStream::connect(path).await.unwrap();
        std::fs::remove_file(path).unwrap();
        Box::new(link)
    }

    pub(crate) async fn tcp_transport(address: SocketAddr) -> ws::Transport {
        TcpStream::connect(address).await.unwrap().into()
    }

    /// The server's side of TLS.
    #[cfg(feature = "rustls")]
    pub(crate) async fn accept_tls(link: Link, config: Arc<ws::rustls::ServerConfig>) -> io::Result<Link> {
        let link = tokio_rustls::TlsAcceptor::from(config).accept(link).await?;
        Ok(Box::new(link))
    }

    /// A client's side of TLS, to `localhost`.
    #[cfg(feature = "rustls")]
    pub(crate) async fn connect_tls(
        address: SocketAddr,
        config: Arc<ws::rustls::ClientConfig>,
    ) -> io::Result<Link> {
        Ok(Box::new(tls(address, config).await?))
    }

    /// The protocol that was agreed on with a server of TLS.
    #[cfg(feature = "rustls")]
    pub(crate) async fn alpn(address: SocketAddr, config: Arc<ws::rustls::ClientConfig>) -> Option<Vec<u8>> {
        let stream = tls(address, config).await.unwrap();
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    #[cfg(feature = "rustls")]
    async fn tls(
        address: SocketAddr,
        config: Arc<ws::rustls::ClientConfig>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = "localhost".try_into().expect("a name");
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await
    }

    pub(crate) async fn connect(address: SocketAddr) -> Link {
        Box::new(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn read(link: &mut Link, buf: &mut [u8]) -> io::Result<usize> {
        link.read(buf).await
    }

    pub(crate) async fn write_all(link: &mut Link, bytes: &[u8]) -> io::Result<()> {
        link.write_all(bytes).await
    }

    pub(crate) async fn shutdown(link: &mut Link) -> io::Result<()> {
        link.shutdown().await
    }

    /// What reads and writes bytes over messages, by the traits of the runtime.
    pub(crate) mod bytes {
        use ws_proto::drive::{ReadBytes, WriteBytes};
        pub(crate) use ws_tokio::AsyncIo;

        use super::*;

        pub(crate) async fn read(
            io: &mut AsyncIo<impl ReadBytes + Unpin>,
            buf: &mut [u8],
        ) -> io::Result<usize> {
            AsyncReadExt::read(io, buf).await
        }

        pub(crate) async fn read_to_end(io: &mut AsyncIo<impl ReadBytes + Unpin>) -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            io.read_to_end(&mut bytes).await?;
            Ok(bytes)
        }

        pub(crate) async fn read_line(io: &mut AsyncIo<impl ReadBytes + Unpin>) -> io::Result<String> {
            let mut line = String::new();
            io.read_line(&mut line).await?;
            Ok(line)
        }

        pub(crate) async fn write(
            io: &mut AsyncIo<impl WriteBytes + Unpin>,
            bytes: &[u8],
        ) -> io::Result<usize> {
            AsyncWriteExt::write(io, bytes).await
        }

        pub(crate) async fn write_all(
            io: &mut AsyncIo<impl WriteBytes + Unpin>,
            bytes: &[u8],
        ) -> io::Result<()> {
            AsyncWriteExt::write_all(io, bytes).await
        }

        pub(crate) async fn flush(io: &mut AsyncIo<impl WriteBytes + Unpin>) -> io::Result<()> {
            AsyncWriteExt::flush(io).await
        }

        pub(crate) async fn shutdown(io: &mut AsyncIo<impl WriteBytes + Unpin>) -> io::Result<()> {
            AsyncWriteExt::shutdown(io).await
        }

        /// Copies both ways until both are at their ends.
        pub(crate) async fn tunnel(
            a: &mut AsyncIo<impl ReadBytes + WriteBytes + Unpin>,
            b: &mut Link,
        ) -> io::Result<(u64, u64)> {
            tokio::io::copy_bidirectional(a, b).await
        }
    }
}
