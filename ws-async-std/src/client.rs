//! Clients: over connections of their own ([`connect`], [`Connector`], [`Reconnect`]), or over any stream ([`client`]).

use std::{io, net::TcpStream, time::Instant};

use async_io::{Async, Timer};
use async_std::net::ToSocketAddrs;
use futures_io::{AsyncRead, AsyncWrite};
use ws_proto::{
    ClientConfig, Error,
    drive::{self, Connect},
    http::{Request, Response},
};

use crate::{Io, Transport, WebSocket};

/// Connects to servers: over TCP or a Unix socket, through a proxy, by TLS, along redirects.
///
/// ```no_run
/// # async fn example() -> Result<(), ws_async_std::Error> {
/// use ws_async_std::Connector;
///
/// let connector = Connector::default().origin("https://example.com").subprotocol("chat").redirects(5);
/// let (mut ws, _response) = connector.connect("ws://example.com/chat").await?;
/// ws.send("hello").await?;
/// # Ok(())
/// # }
/// ```
pub type Connector = drive::Connector<AsyncStd>;

/// Connections to one server, one after the other, for a client that must stay up.
pub type Reconnect = drive::Reconnect<AsyncStd>;

/// Connects to the WebSocket at a URL, with the default configuration.
///
/// ```no_run
/// # async fn example() -> Result<(), ws_async_std::Error> {
/// let (mut ws, response) = ws_async_std::connect("ws://127.0.0.1:9001/chat").await?;
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
/// use ws_async_std::{ClientConfig, client_request, connect_with, http::HeaderValue};
///
/// # async fn example() -> Result<(), ws_async_std::Error> {
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
/// use ws_async_std::{Config, Connection, Transport, WebSocket, seed};
///
/// # fn example(upgraded: async_io::Async<std::net::TcpStream>) -> std::io::Result<()> {
/// let connection = Connection::client(&Config::default(), seed()?, std::time::Instant::now());
/// let ws = WebSocket::from_upgraded(Transport::from(upgraded), connection);
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

/// async-std as the runtime of [`Connector`] and [`Reconnect`].
#[derive(Debug)]
pub enum AsyncStd {}

/// How a client does TLS: a configuration of rustls.
#[cfg(feature = "rustls")]
pub type Tls = std::sync::Arc<crate::rustls::ClientConfig>;

/// How a client does TLS: not at all, without the feature `rustls`.
#[cfg(not(feature = "rustls"))]
pub type Tls = drive::NoTls;

impl Connect for AsyncStd {
    type Socket = Io<Transport>;
    type Tls = Tls;

    async fn tcp(host: &str, port: u16) -> io::Result<Transport> {
        let mut why = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs().await? {
            match Async::<TcpStream>::connect(address).await {
                Ok(stream) => {
                    // Frames are gathered before they are written; waiting for more would only delay them.
                    let _ = stream.get_ref().set_nodelay(true);
                    return Ok(stream.into());
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    #[cfg(unix)]
    async fn unix(path: &std::path::Path) -> io::Result<Transport> {
        Ok(Async::<std::os::unix::net::UnixStream>::connect(path).await?.into())
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
        Instant::now()
    }

    async fn sleep_until(deadline: Instant) {
        Timer::at(deadline).await;
    }

    fn seed() -> io::Result<[u8; 32]> {
        seed()
    }
}
