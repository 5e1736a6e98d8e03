//! Clients: over TCP of their own ([`connect`]), or over any stream ([`client`]).

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use ws_proto::{
    ClientConfig, Error, HandshakeError, drive,
    handshake::client_request,
    http::{Request, Response},
};

use crate::WebSocket;

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
/// As [`connect_with`].
pub async fn connect(url: &str) -> Result<(WebSocket<TcpStream>, Response<()>), Error> {
    connect_with(client_request(url)?, ClientConfig::default()).await
}

/// Connects with a request of one's own, for instance with more header fields.
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
/// # Errors
///
/// [`Error::Handshake`] if the URL or the request cannot be, the server refused or answered wrongly, or the time of
/// [`HeadLimits::timeout`](crate::HeadLimits::timeout) passed, for which connecting counts, too. [`Error::Io`] if
/// TCP failed.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
pub async fn connect_with(
    request: Request<()>,
    config: ClientConfig,
) -> Result<(WebSocket<TcpStream>, Response<()>), Error> {
    // What asks for encryption must not leave without it.
    if !matches!(request.uri().scheme_str(), Some("ws" | "http")) {
        return Err(
            HandshakeError::Url("only ws is connected to; for wss bring a TLS stream to `client`").into()
        );
    }
    let host = request.uri().host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let connecting = TcpStream::connect((host, request.uri().port_u16().unwrap_or(80)));
    let stream = match config.head.timeout {
        // The handshake's own deadline began before.
        Some(limit) => timeout(limit, connecting).await.map_err(|_| HandshakeError::Timeout)??,
        None => connecting.await?,
    };
    // Frames are gathered before they are written; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    client(stream, &request, &config).await
}

/// Makes a WebSocket of a stream to a server: of TLS, of a proxy, of anything.
///
/// # Errors, cancel safety
///
/// As [`connect_with`].
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

/// Randomness of the system, for masking keys and the handshake's key.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
