//! [`Transport`]: what the connections of [`Server`](crate::Server) and [`connect`](crate::connect) run over.

#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::{
    io::{self, IoSlice, Read},
    net::{Shutdown, SocketAddr, TcpStream},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_io::{Async, IoSafe};
use futures_io::{AsyncRead, AsyncWrite};

/// A stream to the peer, as a server accepts or a client makes it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Plain TCP.
    Tcp(AsyncSocket<TcpStream>),
    /// A socket of the file system.
    #[cfg(unix)]
    Unix(AsyncSocket<UnixStream>),
    /// TLS over one of the others.
    #[cfg(feature = "rustls")]
    Tls(Box<futures_rustls::TlsStream<Self>>),
}

impl Transport {
    /// The peer's address; `None` where it has none, as on a Unix socket, or is gone.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }

    /// Whether it is encrypted.
    pub fn is_secure(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            #[cfg(unix)]
            Self::Unix(_) => false,
            #[cfg(feature = "rustls")]
            Self::Tls(_) => true,
        }
    }
}

impl From<Async<TcpStream>> for Transport {
    fn from(stream: Async<TcpStream>) -> Self {
        Self::Tcp(stream.into())
    }
}

#[cfg(unix)]
impl From<Async<UnixStream>> for Transport {
    fn from(stream: Async<UnixStream>) -> Self {
        Self::Unix(stream.into())
    }
}

/// One call on whichever stream it is.
macro_rules! delegate {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Tcp($stream) => $call,
            #[cfg(unix)]
            Transport::Unix($stream) => $call,
            #[cfg(feature = "rustls")]
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    #[inline]
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        delegate!(&mut *self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(&mut *self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(delegate!(&mut *self, stream => Pin::new(stream).poll_close(cx)))?;
        // That was all below TLS, but only a flush for the sockets of async-io.
        Poll::Ready(match &*self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "rustls")]
            Self::Tls(_) => Ok(()),
        })
    }
}

/// A socket of async-io's that is not asked in vain: a read that had room to spare emptied it, so the next one waits
/// until there is more. `Async` alone asks twice before it waits.
///
/// It derefs to the socket, to see and set its options.
#[derive(Debug)]
pub struct AsyncSocket<T> {
    socket: Async<T>,
    is_empty: bool,
}

impl<T> From<Async<T>> for AsyncSocket<T> {
    fn from(socket: Async<T>) -> Self {
        Self { socket, is_empty: false }
    }
}

impl<T> Deref for AsyncSocket<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.socket.get_ref()
    }
}

impl<T> AsyncRead for AsyncSocket<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // What the reactor tells first may be of bytes that were read since; asked again it looks anew, so that
            // nothing is missed. Who is woken reads: the reactor does not always own up to what it woke for.
            if std::mem::take(&mut self.is_empty)
                && (self.socket.poll_readable(cx)?.is_pending()
                    || self.socket.poll_readable(cx)?.is_pending())
            {
                return Poll::Pending;
            }
            match self.socket.get_ref().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_empty = true,
                read => {
                    self.is_empty = read.as_ref().is_ok_and(|len| (1..buf.len()).contains(len));
                    return Poll::Ready(read);
                }
            }
        }
    }
}

impl<T: IoSafe + io::Write> AsyncWrite for AsyncSocket<T> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        future::poll_fn,
        io::Write,
        net::TcpListener,
        os::fd::{AsFd, BorrowedFd},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        task::{Wake, Waker},
        thread::{self, Thread},
    };

    use async_io::block_on;

    use super::*;

    /// A socket that counts how often it is asked.
    struct Counted(TcpStream, Arc<AtomicUsize>);

    impl Read for &Counted {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1.fetch_add(1, Ordering::Relaxed);
            (&self.0).read(buf)
        }
    }

    impl AsFd for Counted {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    /// Waits until so many bytes are there to be read, without asking for them.
    fn arrived(socket: &Counted, len: usize) {
        while !matches!(socket.0.peek(&mut [0; 16]), Ok(there) if there == len) {
            thread::yield_now();
        }
    }

    fn read(socket: &mut AsyncSocket<Counted>) -> Vec<u8> {
        let mut buf = [0; 4];
        let len = block_on(poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut buf))).unwrap();
        buf[..len].to_vec()
    }

    /// Wakes a thread that knows nothing of async-io, and counts how often.
    struct Unpark(Thread, AtomicUsize);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.unpark();
        }
    }

    #[test]
    fn on_any_executor_a_message_wakes_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Counted(listener.accept().unwrap().0, Arc::default());
        let mut socket = AsyncSocket::from(Async::new(socket).unwrap());
        let unpark = Arc::new(Unpark(thread::current(), AtomicUsize::default()));
        let waker = Waker::from(Arc::clone(&unpark));
        let (tell, told) = mpsc::channel();
        let writing = thread::spawn(move || {
            while let Ok(()) = told.recv() {
                peer.write_all(b"a").unwrap();
            }
        });
        for times in 1..=100 {
            let mut poll = || {
                Pin::new(&mut socket)
                    .poll_read(&mut Context::from_waker(&waker), &mut [0; 4])
                    .map(Result::unwrap)
            };
            assert!(poll().is_pending());
            tell.send(()).unwrap();
            while unpark.1.load(Ordering::Relaxed) < times {
                thread::park();
            }
            assert_eq!(poll(), Poll::Ready(1), "{times}");
        }
        drop(tell);
        writing.join().unwrap();
        assert_eq!(unpark.1.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn it_is_asked_once_for_what_comes_and_misses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let socket = Counted(listener.accept().unwrap().0, Arc::clone(&asked));
        let mut socket = AsyncSocket::from(Async::new(socket).unwrap());
        for times in 1..=3 {
            // It has come before anybody waits for it, and behind a read that emptied the socket.
            peer.write_all(b"abc").unwrap();
            arrived(&socket, 3);
            assert_eq!(read(&mut socket), b"abc");
            assert_eq!(asked.load(Ordering::Relaxed), times);
        }
        // A full buffer says nothing of what is behind it.
        peer.write_all(b"abcdefg").unwrap();
        arrived(&socket, 7);
        assert_eq!(read(&mut socket), b"abcd");
        assert_eq!(read(&mut socket), b"efg");
        assert_eq!(asked.load(Ordering::Relaxed), 5);
        // What comes while somebody waits.
        let late = thread::spawn(move || {
            peer.write_all(b"hi").unwrap();
            peer
        });
        assert_eq!(read(&mut socket), b"hi");
        // The end, behind a read that emptied the socket, and for good.
        drop(late.join().unwrap());
        assert_eq!(read(&mut socket), b"");
        assert_eq!(read(&mut socket), b"");
    }
}
