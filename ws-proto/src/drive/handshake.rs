//! Opening handshakes over a socket: a server's, to be answered ([`Handshake`]), and a client's ([`client`]).

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Request, Response};

use super::{Driver, Socket, WebSocket};
use crate::{
    config::{ClientConfig, ServerConfig},
    error::Error,
    handshake::{Acceptance, ClientHandshake, HandshakeError, ServerHandshake},
};

/// A client's opening handshake, to be looked at and answered.
///
/// ```
/// # use ws_proto::{Bytes, Error, drive::{Handshake, Socket}, http};
/// # async fn example(mut handshake: Handshake<impl Socket>) -> Result<(), Error> {
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
pub struct Handshake<K> {
    handshake: ServerHandshake,
    driver: Driver<K>,
}

impl<K: Socket> Handshake<K> {
    /// The handshake on a stream that a client has just opened. Its deadline begins now.
    pub fn new(stream: K::Stream, config: impl Into<Arc<ServerConfig>>) -> Self {
        let socket = K::new(stream);
        Self { handshake: ServerHandshake::new(config.into(), socket.now()), driver: Driver::new(socket) }
    }

    /// The handshake on a stream whose HTTP/1.1 request was read by other means, and `leftover` behind it: as when a
    /// server of one's own hands a connection over.
    ///
    /// ```
    /// # use ws_proto::{Error, ServerConfig, drive::{Handshake, Socket}, http::Request};
    /// # async fn example<K: Socket>(request: Request<()>, stream: K::Stream, leftover: &[u8]) -> Result<(), Error> {
    /// let handshake = Handshake::<K>::from_request(request, stream, leftover, ServerConfig::default());
    /// let (ws, request) = handshake.accept().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_request<B>(
        request: Request<B>,
        stream: K::Stream,
        leftover: &[u8],
        config: impl Into<Arc<ServerConfig>>,
    ) -> Self {
        let handshake = ServerHandshake::from_request(config.into(), request.map(drop), leftover);
        Self { handshake, driver: Driver::new(K::new(stream)) }
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
    pub async fn accept(mut self) -> Result<(WebSocket<K>, Request<()>), Error> {
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
    pub async fn accept_with(mut self, acceptance: Acceptance) -> Result<(WebSocket<K>, Request<()>), Error> {
        self.request().await?;
        let (mut websocket, request) = self.open(acceptance);
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
            self.answer(response.map(Into::into)).await;
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &K::Stream {
        self.driver.socket().stream()
    }

    /// Accepts the request that is there; the answer is the first that the connection writes.
    pub(super) fn open(self, acceptance: Acceptance) -> (WebSocket<K>, Request<()>) {
        let now = self.driver.socket().now();
        let (connection, request) = self.handshake.accept(acceptance, now);
        (WebSocket::new(connection, self.driver), request)
    }

    /// The request, if it is there and not answered.
    pub(super) fn received_mut(&mut self) -> Option<&mut Request<()>> {
        self.handshake.request_mut()
    }

    /// Judges the request that is there.
    pub(super) fn judge(&self) -> Result<Acceptance, HandshakeError> {
        self.handshake.check()
    }

    /// Waits for the application's answer to the request, but not longer than the client does.
    pub(super) async fn meanwhile<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let limit = self.handshake.config().head.timeout;
        let deadline = limit.and_then(|limit| self.driver.socket().now().checked_add(limit));
        let mut answer = pin!(answer);
        poll_fn(|cx| {
            if let Poll::Ready(error) = self.driver.poll_gone(&mut self.handshake, cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            let socket = self.driver.socket_mut();
            match deadline {
                Some(at) if at <= socket.now() || socket.poll_sleep(cx, at).is_ready() => {
                    Poll::Ready(Err(HandshakeError::Unavailable.into()))
                }
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Answers with this response, whether or not the request is there.
    pub(super) async fn answer(&mut self, response: Response<Bytes>) {
        self.handshake.refuse(response);
        self.refused().await;
    }

    async fn refused(&mut self) {
        poll_fn(|cx| self.driver.poll_refusal(&mut self.handshake, cx)).await;
    }
}

/// Makes a WebSocket of a stream to a server: of TLS, of a proxy, of anything. `seed` must be random and used once.
///
/// # Errors
///
/// [`Error::Handshake`] if the request cannot be, the server refused or answered wrongly, or the time of
/// [`HeadLimits::timeout`](crate::HeadLimits::timeout) passed. [`Error::Io`] if the stream failed.
///
/// # Cancel safety
///
/// Dropping the future drops the stream.
pub async fn client<K: Socket>(
    stream: K::Stream,
    request: &Request<()>,
    config: &ClientConfig,
    seed: [u8; 32],
) -> Result<(WebSocket<K>, Response<()>), Error> {
    let socket = K::new(stream);
    let handshake = ClientHandshake::new(request, config, seed, socket.now())?;
    upgrade(socket, handshake).await
}

/// Carries a client's handshake to its end.
pub(super) async fn upgrade<K: Socket>(
    socket: K,
    mut handshake: ClientHandshake,
) -> Result<(WebSocket<K>, Response<()>), Error> {
    let mut driver = Driver::new(socket);
    poll_fn(|cx| driver.poll_answer(&mut handshake, cx)).await?;
    let (connection, response) = handshake.into_connection(driver.socket().now());
    Ok((WebSocket::new(connection, driver), response))
}
