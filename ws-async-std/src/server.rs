//! Servers: a listener for [`Server`](crate::Server), or a handshake on any stream ([`accept`]).

#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_io::{Async, Timer};
use async_std::{net::ToSocketAddrs, task};
use futures_io::{AsyncRead, AsyncWrite};
use socket2::{Domain, Socket, Type};
use ws_proto::{
    Error, ServerConfig,
    drive::{Bind, Listen, Peer, bind_first},
    http::Request,
};

use crate::{Handshake, Io, Transport, WebSocket};

/// Makes a WebSocket of a stream that a client has just opened, with the default configuration.
///
/// # Errors, cancel safety
///
/// As [`Handshake::accept`].
pub async fn accept<S>(stream: S) -> Result<(WebSocket<S>, Request<()>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    accept_with(stream, ServerConfig::default()).await
}

/// Makes a WebSocket of a stream that a client has just opened.
///
/// # Errors, cancel safety
///
/// As [`Handshake::accept`].
pub async fn accept_with<S>(
    stream: S,
    config: impl Into<Arc<ServerConfig>>,
) -> Result<(WebSocket<S>, Request<()>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Handshake::new(stream, config).accept().await
}

/// What a [`Server`](crate::Server) listens to: TCP or a Unix socket, with or without TLS.
///
/// ```no_run
/// # #[cfg(unix)]
/// # async fn example() -> std::io::Result<()> {
/// # use std::os::unix::net::UnixListener;
/// # use async_io::Async;
/// # use ws_async_std::{Listener, Server, ServerConfig};
/// let listener = Async::<UnixListener>::bind("/run/chat.sock")?;
/// let server = Server::new(listener, ServerConfig::default());
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    kind: Kind,
    #[cfg(feature = "rustls")]
    tls: Option<crate::tls::Acceptor>,
}

#[derive(Debug)]
enum Kind {
    Tcp(Async<TcpListener>),
    #[cfg(unix)]
    Unix(Async<UnixListener>),
}

impl Listener {
    /// Listens at an address; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub async fn bind(address: impl ToSocketAddrs, backlog: u32) -> io::Result<Self> {
        bind_first(address.to_socket_addrs().await?, |address| Ok(listen(address, backlog)?.into()))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }

    /// Speaks TLS with its clients. Where the configuration names no protocol (ALPN), `http/1.1` is the one.
    #[cfg(feature = "rustls")]
    pub fn with_tls(mut self, config: impl Into<Arc<crate::rustls::ServerConfig>>) -> Self {
        self.tls = Some(crate::tls::Acceptor::new(config.into()));
        self
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that was restarted is to have its port again; elsewhere this would let others have it, too.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog.try_into().unwrap_or(i32::MAX))?;
    Async::new(socket.into())
}

impl From<Async<TcpListener>> for Listener {
    fn from(listener: Async<TcpListener>) -> Self {
        Self::of(Kind::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<Async<UnixListener>> for Listener {
    fn from(listener: Async<UnixListener>) -> Self {
        Self::of(Kind::Unix(listener))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Kind {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = ready!(poll_ask(listener, TcpListener::accept, cx))?;
                // Frames are gathered before they are written; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                Poll::Ready(Ok((Async::new(stream)?.into(), Some(address))))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = ready!(poll_ask(listener, UnixListener::accept, cx))?;
                Poll::Ready(Ok((Async::new(stream)?.into(), None)))
            }
        }
    }
}

/// Asks a listener until it has an answer, waiting where it would block.
fn poll_ask<T, O>(
    listener: &Async<T>,
    ask: impl Fn(&T) -> io::Result<O>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<O>> {
    loop {
        match ask(listener.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(listener.poll_readable(cx))?,
            answer => return Poll::Ready(answer),
        }
    }
}

impl<A: ToSocketAddrs<Iter: Send> + Send + Sync> Bind<A> for Listener {
    async fn bind(address: A, backlog: u32) -> io::Result<Self> {
        Self::bind(address, backlog).await
    }
}

impl Listen for Listener {
    type Socket = Io<Transport>;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.get_ref().local_addr(),
            #[cfg(unix)]
            Kind::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Peer)>> {
        let (stream, address) = ready!(self.kind.poll_accept(cx))?;
        #[cfg(feature = "rustls")]
        let is_secure = self.tls.is_some();
        #[cfg(not(feature = "rustls"))]
        let is_secure = false;
        Poll::Ready(Ok((stream, Peer::new(address, is_secure))))
    }

    #[cfg(feature = "rustls")]
    fn open(&self, stream: Transport) -> impl Future<Output = io::Result<Transport>> + Send + 'static {
        let tls = self.tls.clone();
        async move {
            match tls {
                Some(tls) => tls.accept(stream).await,
                None => Ok(stream),
            }
        }
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        task::spawn(future);
    }
}
