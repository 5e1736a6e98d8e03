//! The adapters' common suite on async-std, with an executor of smol's for what a test spawns itself.

#[path = "../../tests/adapter.rs"]
mod adapter;

/// What is the runtime's own.
mod rt {
    use std::{
        cell::RefCell,
        collections::VecDeque,
        fmt::Debug,
        io,
        net::{SocketAddr, TcpListener, TcpStream},
        path::{Path, PathBuf},
        pin::Pin,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Waker, ready},
        time::{Duration, Instant},
    };

    use async_io::Async;
    use futures_util::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
        future::{Either, try_join},
        io::copy,
    };
    pub(crate) use smol::future::yield_now;
    use smol::{Executor, Task, Timer};
    pub(crate) use ws_async_std as ws;

    use crate::adapter::faults::{Call, Faults};

    /// Unit of time of [`block_on_timed`]. The clock is the real one, so a second has to be short.
    pub(crate) const SECOND: Duration = Duration::from_millis(25);

    /// How late a timer may be: as long as the machine is busy with other things.
    pub(crate) const LATE: Duration = Duration::from_secs(2);

    pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Debug {}

    impl<S: AsyncRead + AsyncWrite + Unpin + Send + Debug> Stream for S {}

    /// Any stream.
    pub(crate) type Link = Box<dyn Stream>;

    /// What its bytes are driven through.
    pub(crate) type Socket = ws_async_std::Io<Link>;

    thread_local! {
        /// What runs in the thread of a test beside the test.
        static EXECUTOR: RefCell<Option<Arc<Executor<'static>>>> = const { RefCell::new(None) };
    }

    pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
        let executor = Arc::new(Executor::new());
        EXECUTOR.set(Some(Arc::clone(&executor)));
        let output = smol::block_on(executor.run(future));
        EXECUTOR.set(None);
        output
    }

    /// There is no other clock than the real one.
    pub(crate) fn block_on_timed<F: Future>(future: F) -> F::Output {
        block_on(future)
    }

    /// As [`block_on`], with what it spawns on other threads.
    pub(crate) fn block_on_threads<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }

    pub(crate) fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + Unpin {
        match EXECUTOR.with_borrow(Clone::clone) {
            Some(executor) => Either::Left(Spawned(Some(executor.spawn(future)))),
            None => Either::Right(async_std::task::spawn(future)),
        }
    }

    /// A task that goes on when nobody waits for it.
    struct Spawned<T>(Option<Task<T>>);

    impl<T> Future for Spawned<T> {
        type Output = T;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
            Pin::new(self.0.as_mut().expect("it is there until the drop")).poll(cx)
        }
    }

    impl<T> Drop for Spawned<T> {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(Task::detach);
        }
    }

    pub(crate) async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    /// Lets the other tasks run until they wait. Those of a server are of other threads, which nothing can ask.
    pub(crate) async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
        sleep(SECOND).await;
    }

    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// Two ends of a pipe in memory that holds so many bytes each way.
    pub(crate) fn duplex(len: usize) -> (Link, Link) {
        let pipes = [Pipe::new(len), Pipe::new(len)];
        let [there, back] = pipes.clone();
        let [back_too, there_too] = pipes;
        (Box::new(End { reads: back, writes: there }), Box::new(End { reads: back_too, writes: there_too }))
    }

    /// One end of two pipes.
    #[derive(Debug)]
    struct End {
        reads: Arc<Mutex<Pipe>>,
        writes: Arc<Mutex<Pipe>>,
    }

    /// One direction.
    #[derive(Debug)]
    struct Pipe {
        bytes: VecDeque<u8>,
        len: usize,
        /// Nothing more is written.
        ended: bool,
        /// Nothing more is read.
        left: bool,
        /// Who waits for the other end.
        waiting: Waker,
    }

    impl Pipe {
        fn new(len: usize) -> Arc<Mutex<Self>> {
            let waiting = Waker::noop().clone();
            Arc::new(Mutex::new(Self { bytes: VecDeque::new(), len, ended: false, left: false, waiting }))
        }

        fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
            self.waiting.clone_from(cx.waker());
            Poll::Pending
        }
    }

    impl AsyncRead for End {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            let mut pipe = self.reads.lock().unwrap();
            if pipe.bytes.is_empty() && !pipe.ended {
                return pipe.wait(cx);
            }
            pipe.waiting.wake_by_ref();
            Poll::Ready(io::Read::read(&mut pipe.bytes, buf))
        }
    }

    impl AsyncWrite for End {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut pipe = self.writes.lock().unwrap();
            if pipe.left || pipe.ended {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = bytes.len().min(pipe.len - pipe.bytes.len());
            if len == 0 && !bytes.is_empty() {
                return pipe.wait(cx);
            }
            pipe.bytes.extend(&bytes[..len]);
            pipe.waiting.wake_by_ref();
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut pipe = self.writes.lock().unwrap();
            pipe.ended = true;
            pipe.waiting.wake_by_ref();
            Poll::Ready(Ok(()))
        }
    }

    impl Drop for End {
        fn drop(&mut self) {
            for (pipe, reads) in [(&self.reads, true), (&self.writes, false)] {
                let mut pipe = pipe.lock().unwrap();
                if reads {
                    pipe.left = true;
                } else {
                    pipe.ended = true;
                }
                pipe.waiting.wake_by_ref();
            }
        }
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
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let most = ready!(self.faults.poll(Call::Read, cx))?.min(buf.len());
            Pin::new(&mut self.link).poll_read(cx, &mut buf[..most])
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

        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(self.faults.poll(Call::Shutdown, cx))?;
            Pin::new(&mut self.link).poll_close(cx)
        }
    }

    pub(crate) struct Listener(Async<TcpListener>);

    impl Listener {
        pub(crate) async fn bind() -> Self {
            Self(tcp_listener().await)
        }

        pub(crate) fn address(&self) -> SocketAddr {
            self.0.get_ref().local_addr().unwrap()
        }

        pub(crate) async fn accept(&self) -> Link {
            let (stream, _) = self.0.accept().await.unwrap();
            // Or the second of two short writes waits for the client's system to acknowledge the first.
            stream.get_ref().set_nodelay(true).unwrap();
            Box::new(ws::Transport::from(stream))
        }
    }

    /// What listens at a path of its own, which goes with it.
    #[cfg(unix)]
    pub(crate) struct UnixListener(Async<std::os::unix::net::UnixListener>, PathBuf);

    #[cfg(unix)]
    impl UnixListener {
        pub(crate) fn bind() -> Self {
            let (listener, path) = unix_listener();
            Self(listener, path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.1
        }

        pub(crate) async fn accept(&self) -> Link {
            Box::new(ws::Transport::from(self.0.accept().await.unwrap().0))
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
        std::env::temp_dir().join(format!("ws-async-std-{}-{count}.sock", std::process::id()))
    }

    /// For a server to take over.
    pub(crate) async fn tcp_listener() -> Async<TcpListener> {
        Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap()
    }

    /// For a server to take over, and where it is.
    pub(crate) fn unix_listener() -> (Async<std::os::unix::net::UnixListener>, PathBuf) {
        let path = socket_path();
        (Async::<std::os::unix::net::UnixListener>::bind(&path).unwrap(), path)
    }

    pub(crate) async fn connect_unix(path: &Path) -> Link {
        let link = Async::<std::os::unix::net::UnixStream>::connect(path).await.unwrap();
        std::fs::remove_file(path).unwrap();
        Box::new(ws::Transport::from(link))
    }

    pub(crate) async fn tcp_transport(address: SocketAddr) -> ws::Transport {
        Async::<TcpStream>::connect(address).await.unwrap().into()
    }

    /// The server's side of TLS.
    #[cfg(feature = "rustls")]
    pub(crate) async fn accept_tls(link: Link, config: Arc<ws::rustls::ServerConfig>) -> io::Result<Link> {
        let link = futures_rustls::TlsAcceptor::from(config).accept(link).await?;
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
    ) -> io::Result<futures_rustls::client::TlsStream<ws::Transport>> {
        let stream = ws::Transport::from(Async::<TcpStream>::connect(address).await?);
        let name = "localhost".try_into().expect("a name");
        futures_rustls::TlsConnector::from(config).connect(name, stream).await
    }

    pub(crate) async fn connect(address: SocketAddr) -> Link {
        Box::new(tcp_transport(address).await)
    }

    pub(crate) async fn read(link: &mut Link, buf: &mut [u8]) -> io::Result<usize> {
        link.read(buf).await
    }

    pub(crate) async fn write_all(link: &mut Link, bytes: &[u8]) -> io::Result<()> {
        link.write_all(bytes).await
    }

    pub(crate) async fn shutdown(link: &mut Link) -> io::Result<()> {
        link.close().await
    }

    /// What reads and writes bytes over messages, by the traits of the runtime.
    pub(crate) mod bytes {
        pub(crate) use ws_async_std::AsyncIo;
        use ws_proto::drive::{ReadBytes, WriteBytes};

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
            AsyncWriteExt::close(io).await
        }

        /// Copies both ways until both are at their ends.
        pub(crate) async fn tunnel(
            a: &mut AsyncIo<impl ReadBytes + WriteBytes + Unpin>,
            b: &mut Link,
        ) -> io::Result<(u64, u64)> {
            let ((from_a, mut to_a), (from_b, mut to_b)) = (a.split(), b.split());
            let there = async {
                let len = copy(from_a, &mut to_b).await?;
                to_b.close().await.map(|()| len)
            };
            let back = async {
                let len = copy(from_b, &mut to_a).await?;
                to_a.close().await.map(|()| len)
            };
            try_join(there, back).await
        }
    }
}
