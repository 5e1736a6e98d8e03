//! Servers: a listener of tokio's for [`Server`](crate::Server), or a handshake on any stream ([`accept`]).

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host},
};
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
/// # use ws_tokio::{Listener, Server, ServerConfig};
/// # #[cfg(unix)]
/// # async fn example() -> std::io::Result<()> {
/// let listener = tokio::net::UnixListener::bind("/run/chat.sock")?;
/// let server = Server::new(listener, ServerConfig::default());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    #[cfg(feature = "rustls")]
    tls: Option<crate::tls::Acceptor>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// Listens at an address; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub async fn bind(address: impl ToSocketAddrs, backlog: u32) -> io::Result<Self> {
        bind_first(lookup_host(address).await?, |address| Ok(listen(address, backlog)?.into()))
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

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was restarted is to have its port again; elsewhere this would let others have it, too.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::of(Kind::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Listener {
    fn from(listener: tokio::net::UnixListener) -> Self {
        Self::of(Kind::Unix(listener))
    }
}

impl<A: ToSocketAddrs + Send> Bind<A> for Listener {
    async fn bind(address: A, backlog: u32) -> io::Result<Self> {
        Self::bind(address, backlog).await
    }
}

impl Listen for Listener {
    type Socket = Io<Transport>;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr(),
            #[cfg(unix)]
            Kind::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Peer)>> {
        let (stream, address) = match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, address) = ready!(listener.poll_accept(cx))?;
                // Frames are gathered before they are written; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                (stream.into(), Some(address))
            }
            #[cfg(unix)]
            Kind::Unix(listener) => (ready!(listener.poll_accept(cx))?.0.into(), None),
        };
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

    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }
}
