//! Servers: a listener of their own ([`Server`]), or a handshake on any stream ([`Handshake`]).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
};
use ws_proto::{Error, ServerConfig, http::Request};

use crate::{Handshake, WebSocket};

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

/// A listening WebSocket server.
///
/// ```no_run
/// # use ws_tokio::{Error, Server, ServerConfig};
/// # async fn example() -> std::io::Result<()> {
/// let server = Server::bind("127.0.0.1:9001", ServerConfig::default()).await?;
/// println!("ws://{}/", server.local_addr()?);
/// loop {
///     let handshake = server.accept().await;
///     tokio::spawn(async move {
///         let (mut ws, request) = handshake.accept().await?;
///         ws.send(format!("you asked for {}", request.uri())).await
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl Server {
    /// Listens at an address; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub async fn bind(address: impl ToSocketAddrs, config: impl Into<Arc<ServerConfig>>) -> io::Result<Self> {
        Ok(Self::from_listener(TcpListener::bind(address).await?, config))
    }

    /// Serves a listener that exists already.
    pub fn from_listener(listener: TcpListener, config: impl Into<Arc<ServerConfig>>) -> Self {
        Self { listener, config: config.into() }
    }

    /// The address it listens at.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next TCP connection, with its handshake still to be done: in a task of its own, so that a slow client
    /// holds nobody up.
    ///
    /// A client that is gone already, or a lack of file descriptors, is no reason to stop: this tries again, with a
    /// pause in the latter case.
    ///
    /// # Cancel safety
    ///
    /// Safe: a connection is handed out or stays in the backlog.
    pub async fn accept(&self) -> Handshake<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Frames are gathered before they are written; waiting for more would only delay them.
                    let _ = stream.set_nodelay(true);
                    return Handshake::new(stream, Arc::clone(&self.config));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// An error about the connection that was to be accepted, not about the listener or the process.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// How long to wait for a file descriptor to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
