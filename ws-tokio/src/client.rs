//! Clients: over connections of their own ([`connect`], [`Connector`], [`Reconnect`]), or over any stream ([`client`]).

use std::{io, time::Instant};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use ws_proto::{
    ClientConfig, Error,
    drive::{self, Connect},
    http::{Request, Response},
};

use crate::{Io, Transport, WebSocket};

/// Connects to servers: over TCP or a Unix socket, through a proxy, by TLS, along redirects.
///
/// ```no_run
/// # async fn example() -> Result<(), ws_tokio::Error> {
/// use ws_tokio::Connector;
///
/// let connector = Connector::default().origin("https://example.com").subprotocol("chat").redirects(5);
/// let (mut ws, _response) = connector.connect("ws://example.com/chat").await?;
/// ws.send("hello").await?;
/// # Ok(())
/// # }
/// ```
pub type Connector = drive::Connector<Tokio>;

/// Connections to one server, one after the other, for a client that must stay up.
pub type Reconnect = drive::Reconnect<Tokio>;

/// Connects to the WebSocket at a URL, with the default configuration.
///
/// ```no_run
/// # async fn example() -> Result<(), ws_tokio::Error> {
/// let (mut ws, response) = ws_tokio::connect("ws://127.0.0.1:9001/chat").await?;
/// ws.send("hello").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors, cancel safety
///
/// As [`Connector::connect`].
pub async fn connect(url: &str) -> Result<(WebSocket<Transport>, Response<()>), Error> {
    Connector::default().connect(url).await
}

/// Connects with a request and a configuration of one's own.
///
/// ```no_run
/// use ws_tokio::{ClientConfig, client_request, connect_with, http::HeaderValue};
///
/// # async fn example() -> Result<(), ws_tokio::Error> {
/// let mut request = client_request("ws://127.0.0.1:9001/chat")?;
/// request.headers_mut().insert("origin", HeaderValue::from_static("https://example.com"));
/// let config = ClientConfig { subprotocols: vec!["chat".into()], ..ClientConfig::default() };
/// let (ws, _response) = connect_with(request, config).await?;
/// assert_eq!(ws.subprotocol(), Some("chat"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors, cancel safety
///
/// As [`Connector::connect`].
pub async fn connect_with(
    request: Request<()>,
    config: ClientConfig,
) -> Result<(WebSocket<Transport>, Response<()>), Error> {
    Connector::new(config).connect_request(request).await
}

/// Makes a WebSocket of a stream to a server: of TLS, of a proxy, of anything.
///
/// # Errors, cancel safety
///
/// As [`ws_proto::drive::client`].
pub async fn client<S>(
    stream: S,
    request: &Request<()>,
    config: &ClientConfig,
) -> Result<(WebSocket<S>, Response<()>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    drive::client(stream, request, config, seed()?).await
}

/// Randomness of the system, for a client whose handshake was made elsewhere.
///
/// ```no_run
/// use ws_tokio::{Config, Connection, WebSocket, seed};
///
/// # fn example(upgraded: tokio::net::TcpStream) -> std::io::Result<()> {
/// let connection = Connection::client(&Config::default(), seed()?, std::time::Instant::now());
/// let ws = WebSocket::from_upgraded(upgraded, connection);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If it has none.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

/// tokio as the runtime of [`Connector`] and [`Reconnect`].
#[derive(Debug)]
pub enum Tokio {}

/// How a client does TLS: a configuration of rustls.
#[cfg(feature = "rustls")]
pub type Tls = std::sync::Arc<crate::rustls::ClientConfig>;

/// How a client does TLS: not at all, without the feature `rustls`.
#[cfg(not(feature = "rustls"))]
pub type Tls = drive::NoTls;

impl Connect for Tokio {
    type Socket = Io<Transport>;
    type Tls = Tls;

    async fn tcp(host: &str, port: u16) -> io::Result<Transport> {
        let stream = TcpStream::connect((host, port)).await?;
        // Frames are gathered before they are written; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        Ok(stream.into())
    }

    #[cfg(unix)]
    async fn unix(path: &std::path::Path) -> io::Result<Transport> {
        Ok(tokio::net::UnixStream::connect(path).await?.into())
    }

    #[cfg(feature = "rustls")]
    async fn tls(stream: Transport, host: &str, tls: &Tls) -> io::Result<Transport> {
        crate::tls::connect(stream, host, tls).await
    }

    #[cfg(feature = "rustls")]
    fn default_tls() -> Result<Tls, Error> {
        crate::tls::DEFAULT_CLIENT.get()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(deadline.into())
    }

    fn seed() -> io::Result<[u8; 32]> {
        seed()
    }
}
