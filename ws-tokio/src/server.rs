//! Servers: a listener of their own ([`Server`]), or a handshake on any stream ([`Handshake`]).

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
};
use ws_proto::{
    Bytes, Error, ServerConfig,
    drive::{Driver, Socket},
    handshake::{Acceptance, ServerHandshake},
    http::{Request, Response},
};

use crate::{socket::TokioSocket, websocket::WebSocket};

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

/// A client's opening handshake, to be looked at and answered.
///
/// ```no_run
/// # use ws_tokio::{Bytes, Error, Handshake, http};
/// # async fn example(mut handshake: Handshake<tokio::net::TcpStream>) -> Result<(), Error> {
/// if !handshake.request().await?.headers().contains_key("authorization") {
///     let mut response = http::Response::new(Bytes::from("who are you?\n"));
///     *response.status_mut() = http::StatusCode::UNAUTHORIZED;
///     handshake.refuse(response).await;
///     return Ok(());
/// }
/// let (ws, _request) = handshake.accept().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Handshake<S> {
    handshake: ServerHandshake,
    driver: Driver<TokioSocket<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    /// The handshake on a stream that a client has just opened. Its deadline begins now.
    pub fn new(stream: S, config: impl Into<Arc<ServerConfig>>) -> Self {
        let socket = TokioSocket::new(stream);
        Self { handshake: ServerHandshake::new(config.into(), socket.now()), driver: Driver::new(socket) }
    }

    /// The request, once it is there. It may be no WebSocket request at all; [`check`](Self::check) tells.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] if what came is no HTTP request, too long or too late, and has been refused;
    /// [`Error::Io`] if the stream failed.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was read stays.
    pub async fn request(&mut self) -> Result<&Request<()>, Error> {
        poll_fn(|cx| self.driver.poll_request(&mut self.handshake, cx)).await?;
        Ok(self.handshake.request().expect("a request was received"))
    }

    /// Waits for the request and judges it. What comes back can be adapted before
    /// [`accept_with`](Self::accept_with): another subprotocol, more header fields.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), and [`Error::Handshake`] if it breaks a rule of the protocol or of the
    /// configuration; it has been refused then.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn check(&mut self) -> Result<Acceptance, Error> {
        self.request().await?;
        match self.handshake.check() {
            Ok(acceptance) => Ok(acceptance),
            Err(error) => {
                self.handshake.fail(error.clone());
                self.refused().await;
                Err(error.into())
            }
        }
    }

    /// Waits for the request and accepts it if the protocol and the configuration allow.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept(mut self) -> Result<(WebSocket<S>, Request<()>), Error> {
        let acceptance = self.check().await?;
        self.accept_with(acceptance).await
    }

    /// Accepts the request as [`check`](Self::check) judged it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Timeout`] if the answer could not be written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept_with(mut self, acceptance: Acceptance) -> Result<(WebSocket<S>, Request<()>), Error> {
        self.request().await?;
        let now = self.driver.socket().now();
        let (connection, request) = self.handshake.accept(acceptance, now);
        let mut websocket = WebSocket::new(connection, self.driver);
        websocket.flush().await?;
        Ok((websocket, request))
    }

    /// Refuses with this response, and waits until the client has it: until it closes, no longer than
    /// [`Config::close_timeout`](crate::Config::close_timeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream, and a part of the response may be lost.
    pub async fn refuse(mut self, response: Response<impl Into<Bytes>>) {
        // A client that does not wait for the answer to its whole request is none to be answered.
        if self.request().await.is_ok() {
            self.handshake.refuse(response.map(Into::into));
            self.refused().await;
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.driver.socket().stream
    }

    async fn refused(&mut self) {
        poll_fn(|cx| self.driver.poll_refusal(&mut self.handshake, cx)).await;
    }
}
