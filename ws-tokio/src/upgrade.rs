//! Servers on hyper: its requests judged and answered, and the streams it hands over made WebSockets.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use ws_proto::{
    Bytes, Error, HandshakeError, ServerConfig,
    handshake::{Acceptance, check_with_protocol},
    http::{Extensions, Request, Response, StatusCode},
};

use crate::WebSocket;

/// The stream that hyper hands over.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Judges a request that hyper read and accepts it: the response to answer with, and what becomes the WebSocket once
/// hyper has sent it. If you answer otherwise after all, drop the latter: hyper may hand over what is left of the
/// connection after any response.
///
/// The connection must be served with upgrades: `hyper::server::conn::http1::Connection::with_upgrades`, or
/// `serve_connection_with_upgrades` of `hyper_util`. HTTP/2 needs the feature `http2`, and `enable_connect_protocol` of
/// hyper's builder, which is how browsers learn of it.
///
/// ```
/// use std::{convert::Infallible, sync::Arc};
/// use http_body_util::Full;
/// use hyper::body::Incoming;
/// use ws_tokio::{Bytes, Error, ServerConfig, http::{self, Request, Response, Upgrade}};
///
/// // The service of a hyper server.
/// async fn serve(
///     mut request: Request<Incoming>,
///     config: Arc<ServerConfig>,
/// ) -> Result<Response<Full<Bytes>>, Infallible> {
///     if request.uri().path() != "/ws" {
///         return Ok(Response::new("a page".into()));
///     }
///     Ok(match http::upgrade(&mut request, config) {
///         Ok((response, upgrade)) => {
///             tokio::spawn(greet(upgrade));
///             response
///         }
///         Err(error) => http::refusal(&error),
///     })
/// }
///
/// async fn greet(upgrade: Upgrade) -> Result<(), Error> {
///     let mut ws = upgrade.await?;
///     ws.send("hello").await
/// }
/// ```
///
/// # Errors
///
/// The first rule that the request breaks; answer with [`refusal`].
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
    config: impl Into<Arc<ServerConfig>>,
) -> Result<(Response<R>, Upgrade), HandshakeError> {
    let config = config.into();
    let acceptance = check(request, &config)?;
    Ok(upgrade_with(request, acceptance, config))
}

/// As [`upgrade`], in two steps: what comes back can be adapted, another subprotocol, more header fields, and goes into
/// [`upgrade_with`].
///
/// ```
/// use std::sync::Arc;
/// use ws_tokio::{HandshakeError, ServerConfig, http::{self, HeaderValue, Request, Response, Upgrade}};
///
/// fn answer<B, R: Default>(
///     request: &mut Request<B>,
///     config: Arc<ServerConfig>,
/// ) -> Result<(Response<R>, Upgrade), HandshakeError> {
///     let mut acceptance = http::check(request, &config)?;
///     if acceptance.offered().iter().any(|name| name == "chat.v2") {
///         acceptance.set_subprotocol(Some("chat.v2")).expect("it was offered");
///     }
///     let seen = HeaderValue::from_static("seen=1");
///     acceptance.add_header(http::header::SET_COOKIE, seen).expect("it is not reserved");
///     Ok(http::upgrade_with(request, acceptance, config))
/// }
/// ```
///
/// # Errors
///
/// As [`upgrade`].
pub fn check<B>(request: &Request<B>, config: &ServerConfig) -> Result<Acceptance, HandshakeError> {
    check_with_protocol(request, protocol(request.extensions()), config)
}

/// Accepts a request as [`check`] judged it.
pub fn upgrade_with<B, R: Default>(
    request: &mut Request<B>,
    acceptance: Acceptance,
    config: impl Into<Arc<ServerConfig>>,
) -> (Response<R>, Upgrade) {
    accept(hyper::upgrade::on(request), acceptance, config.into())
}

/// The response that refuses a request for this reason.
pub fn refusal<R: From<Bytes>>(error: &HandshakeError) -> Response<R> {
    let response = error.response().unwrap_or_else(|| {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    response.map(R::from)
}

pub(crate) fn accept<R: Default>(
    on_upgrade: OnUpgrade,
    acceptance: Acceptance,
    config: Arc<ServerConfig>,
) -> (Response<R>, Upgrade) {
    let response = acceptance.response().map(|()| R::default());
    let handed_over = async move {
        let handed_over = match config.head.timeout {
            Some(limit) => timeout(limit, on_upgrade).await.map_err(|_| HandshakeError::Timeout)?,
            None => on_upgrade.await,
        };
        let stream = TokioIo::new(handed_over.map_err(io::Error::other)?);
        let connection = acceptance.into_connection(&config, &[], Instant::now().into_std());
        Ok(WebSocket::from_upgraded(stream, connection))
    };
    (response, Upgrade(Box::pin(handed_over)))
}

/// The pseudo-header field of an extended CONNECT.
#[cfg(feature = "http2")]
fn protocol(extensions: &Extensions) -> Option<&str> {
    extensions.get().map(hyper::ext::Protocol::as_str)
}

#[cfg(not(feature = "http2"))]
fn protocol(_: &Extensions) -> Option<&str> {
    None
}

/// A WebSocket as soon as the response that accepts it is sent: a future, to be awaited in a task of its own.
///
/// # Errors
///
/// [`Error::Io`] if hyper hands no stream over: the client vanished, or the connection is not served with upgrades;
/// [`Error::Handshake`] if the time of [`HeadLimits::timeout`](crate::HeadLimits::timeout) passed, which begins when it
/// is first polled.
///
/// # Cancel safety
///
/// Dropping it drops the stream.
#[must_use = "the WebSocket comes of it"]
pub struct Upgrade(Pin<Box<dyn Future<Output = Result<WebSocket<Upgraded>, Error>> + Send>>);

impl Future for Upgrade {
    type Output = Result<WebSocket<Upgraded>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}
