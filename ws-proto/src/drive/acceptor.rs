//! [`Acceptor`]: what a server does with a stream that a client has opened, up to the open connection.

use std::{
    fmt,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::Poll,
};

use bytes::Bytes;
use core::net::SocketAddr;
use http::{Request, Response};

use super::{Clients, Handshake, Socket, WebSocket, clients::Place, trace};
use crate::{
    close::CloseCode,
    config::ServerConfig,
    error::Error,
    handshake::{Acceptance, HandshakeError, asks_for_websocket},
};

/// The rules of a server: its configuration, the functions of the application that take part in a handshake, and the
/// connections that came of it.
///
/// ```
/// use ws_proto::{Bytes, ServerConfig, drive::Acceptor, http::{Response, StatusCode}};
///
/// let acceptor = Acceptor::new(ServerConfig { max_connections: Some(10_000), ..ServerConfig::default() })
///     .verify(|mut request, acceptance| async move {
///         let Some(token) = request.headers().get("authorization").cloned() else {
///             let mut response = Response::new(Bytes::from("who are you?\n"));
///             *response.status_mut() = StatusCode::UNAUTHORIZED;
///             return Err(response);
///         };
///         // Whatever is looked up here travels on with the request.
///         request.extensions_mut().insert(token);
///         Ok((request, acceptance))
///     })
///     .on_failure(|failure| {
///         eprintln!("{:?}: {}", failure.peer.address, failure.error);
///         None
///     });
/// # let _ = acceptor;
/// ```
pub struct Acceptor {
    config: Arc<ServerConfig>,
    subprotocol: Option<Box<ChooseSubprotocol>>,
    verify: Option<Box<Verify>>,
    fallback: Option<Box<Fallback>>,
    on_failure: Option<Box<OnFailure>>,
    clients: Clients,
    /// What connections are closed with, once the server is shut down.
    closing: OnceLock<(CloseCode, String)>,
}

type ChooseSubprotocol = dyn Fn(&Request<()>, &[String]) -> Option<String> + Send + Sync;
type Verify = dyn Fn(Request<()>, Acceptance) -> Boxed<Result<(Request<()>, Acceptance), Response<Bytes>>>
    + Send
    + Sync;
type Fallback = dyn Fn(Request<()>) -> Boxed<Response<Bytes>> + Send + Sync;
type OnFailure = dyn Fn(&Failure<'_>) -> Option<Response<Bytes>> + Send + Sync;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who is at the other end. It is among the extensions of every request that an [`Acceptor`] has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, where the transport has addresses.
    pub address: Option<SocketAddr>,
    /// Whether it connects by TLS.
    pub is_secure: bool,
}

impl Peer {
    /// A peer at this address.
    pub fn new(address: Option<SocketAddr>, is_secure: bool) -> Self {
        Self { address, is_secure }
    }
}

/// A handshake that came to nothing, for [`Acceptor::on_failure`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// Why. [`Error::Handshake`] tells what was wrong with the request, [`Error::Io`] what happened to the stream.
    pub error: &'a Error,
    /// The request, if there is one.
    pub request: Option<&'a Request<()>>,
    /// The client; the default where the listener itself failed.
    pub peer: &'a Peer,
}

/// What the application may set.
impl Acceptor {
    /// A server with this configuration.
    pub fn new(config: impl Into<Arc<ServerConfig>>) -> Self {
        let config = config.into();
        let clients = Clients::new(config.slow_consumer);
        let (subprotocol, verify, fallback, on_failure) = (None, None, None, None);
        Self { config, subprotocol, verify, fallback, on_failure, clients, closing: OnceLock::new() }
    }

    /// Chooses the subprotocol by a function of the request and of what the client offered, in place of
    /// [`ServerConfig::subprotocols`]. A name that was not offered counts as none.
    pub fn choose_subprotocol(
        mut self,
        choose: impl Fn(&Request<()>, &[String]) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.subprotocol = Some(Box::new(choose));
        self
    }

    /// Lets the application decide about each request that keeps the rules. It hands both on, changed as it likes: the
    /// [`Acceptance`] makes the answer, and the request, with whatever was added to its extensions, reaches whoever
    /// gets the connection. Or it refuses with a response of its own.
    ///
    /// It may take [`HeadLimits::timeout`](crate::HeadLimits::timeout), then the client is answered with 503. It is
    /// dropped when the client leaves.
    pub fn verify<F>(mut self, verify: impl Fn(Request<()>, Acceptance) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(Request<()>, Acceptance), Response<Bytes>>> + Send + 'static,
    {
        self.verify = Some(Box::new(move |request, acceptance| Box::pin(verify(request, acceptance))));
        self
    }

    /// Answers requests that ask for no WebSocket, of any method, which are otherwise refused with 426. Their bodies
    /// are not read, and the stream is closed behind the answer.
    pub fn fallback<F>(mut self, answer: impl Fn(Request<()>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.fallback = Some(Box::new(move |request| Box::pin(answer(request))));
        self
    }

    /// Sees each handshake that comes to nothing, and each failure to accept a stream. The response it gives is sent in
    /// place of the error's own where a request that broke a rule is still to be answered. Where it panics, that is as
    /// `None`, as it is called in the loop that accepts, too.
    pub fn on_failure(
        mut self,
        hook: impl Fn(&Failure<'_>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.on_failure = Some(Box::new(hook));
        self
    }
}

/// Getters.
impl Acceptor {
    /// The configuration.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// The connections that were accepted and are still held.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }
}

impl Acceptor {
    /// Does the opening handshake on a stream that a client has just opened, refusal included.
    ///
    /// # Errors
    ///
    /// Why there is no connection: [`Error::Handshake`], or [`Error::Io`] and [`Error::Timeout`] if the stream failed.
    /// [`on_failure`](Self::on_failure) has seen it, unless the [`fallback`](Self::fallback) has answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    pub async fn accept<K: Socket + Send + 'static>(
        &self,
        stream: K::Stream,
        peer: Peer,
    ) -> Result<(WebSocket<K>, Request<()>), Error> {
        match self.reserve() {
            Some(place) => self.accept_in(place, stream, peer).await,
            None => self.fail(HandshakeError::Unavailable.into(), &peer),
        }
    }

    /// A place for one more connection, or to refuse it from; `None` if it is not even to be answered.
    pub(super) fn reserve(&self) -> Option<Place> {
        let max = self.config.max_connections.unwrap_or(usize::MAX);
        self.clients.reserve(max, MAX_REFUSED)
    }

    /// As [`accept`](Self::accept), in a place that was reserved.
    pub(super) async fn accept_in<K: Socket + Send + 'static>(
        &self,
        place: Place,
        stream: K::Stream,
        peer: Peer,
    ) -> Result<(WebSocket<K>, Request<()>), Error> {
        let mut handshake = Handshake::<K>::new(stream, Arc::clone(&self.config));
        if !place.is_free() {
            return self.refuse(&mut handshake, HandshakeError::Unavailable, &peer).await;
        }
        let acceptance = self.judge(&mut handshake, &peer).await?;
        let (mut ws, request) = handshake.open(acceptance);
        // Whoever has the answer is among the clients.
        let client = self.clients.insert_into(place, &mut ws);
        if let Some((code, reason)) = self.closing.get() {
            let _ = client.close(*code, reason);
        }
        if let Err(error) = ws.flush().await {
            return self.fail(error, &peer);
        }
        Ok((ws, request))
    }

    /// Waits for the request and for the answer to it, refusal included.
    async fn judge<K: Socket>(&self, handshake: &mut Handshake<K>, peer: &Peer) -> Result<Acceptance, Error> {
        match self.unless_closing(handshake.request()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return self.fail(error, peer),
            None => return self.refuse(handshake, HandshakeError::Unavailable, peer).await,
        }
        let request = handshake.received_mut().expect(RECEIVED);
        request.extensions_mut().insert(peer.clone());
        if let Some(fallback) = &self.fallback
            && !asks_for_websocket(request)
        {
            let answer = self.unless_closing(fallback(request.clone()));
            return match handshake.meanwhile(answer).await {
                Ok(Some(response)) => {
                    handshake.answer(response).await;
                    Err(HandshakeError::NotUpgrade.into())
                }
                Ok(None) => self.refuse(handshake, HandshakeError::Unavailable, peer).await,
                Err(error) => self.give_up(handshake, error, peer).await,
            };
        }
        let mut acceptance = match handshake.judge() {
            Ok(acceptance) => acceptance,
            Err(error) => return self.refuse(handshake, error, peer).await,
        };
        let request = handshake.received_mut().expect(RECEIVED);
        if let Some(choose) = &self.subprotocol {
            let chosen = choose(request, acceptance.offered());
            // A name that was not offered is none.
            if acceptance.set_subprotocol(chosen.as_deref()).is_err() {
                acceptance.set_subprotocol(None).expect("none need not be offered");
            }
        }
        if let Some(verify) = &self.verify {
            let verified = self.unless_closing(verify(request.clone(), acceptance));
            match handshake.meanwhile(verified).await {
                Ok(Some(Ok((request, verified)))) => {
                    *handshake.received_mut().expect(RECEIVED) = request;
                    acceptance = verified;
                }
                Ok(Some(Err(response))) => {
                    let error = Error::from(HandshakeError::Refused(response.status()));
                    let replaced = self.report(&error, handshake.received_mut().as_deref(), peer);
                    handshake.answer(replaced.unwrap_or(response)).await;
                    return Err(error);
                }
                Ok(None) => return self.refuse(handshake, HandshakeError::Unavailable, peer).await,
                Err(error) => return self.give_up(handshake, error, peer).await,
            }
        }
        if self.is_closing() {
            return self.refuse(handshake, HandshakeError::Unavailable, peer).await;
        }
        Ok(acceptance)
    }

    /// What a future gives, unless it has to wait once the server is closing.
    async fn unless_closing<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Pending if self.is_closing() => Poll::Ready(None),
            polled => polled.map(Some),
        })
        .await
    }

    /// Answers in place of the application, which has not.
    async fn give_up<K: Socket, T>(
        &self,
        handshake: &mut Handshake<K>,
        error: Error,
        peer: &Peer,
    ) -> Result<T, Error> {
        match error {
            Error::Handshake(error) => self.refuse(handshake, error, peer).await,
            error => self.fail(error, peer),
        }
    }

    /// Refuses, with the response of the application if it has one.
    async fn refuse<K: Socket, T>(
        &self,
        handshake: &mut Handshake<K>,
        error: HandshakeError,
        peer: &Peer,
    ) -> Result<T, Error> {
        let response = error.response();
        let error = Error::from(error);
        let replaced = self.report(&error, handshake.received_mut().as_deref(), peer);
        if let Some(response) = replaced.or(response) {
            handshake.answer(response).await;
        }
        Err(error)
    }

    /// Tells of a failure that is beyond an answer.
    fn fail<T>(&self, error: Error, peer: &Peer) -> Result<T, Error> {
        self.report(&error, None, peer);
        Err(error)
    }

    fn report(&self, error: &Error, request: Option<&Request<()>>, peer: &Peer) -> Option<Response<Bytes>> {
        let hook = self.on_failure.as_ref()?;
        // The loop that accepts calls it, too, and is not to end by a panic.
        let call = AssertUnwindSafe(|| hook(&Failure { error, request, peer }));
        catch_unwind(call).unwrap_or_default()
    }

    /// Tells that the listener failed.
    pub(super) fn fail_listener(&self, error: io::Error) {
        trace::accept_failed(&error);
        self.report(&error.into(), None, &Peer::default());
    }

    /// Tells that a stream was dropped before its handshake began.
    pub(super) fn fail_stream(&self, error: Error, peer: &Peer) {
        trace::handshake_failed(&error);
        self.report(&error, None, peer);
    }

    /// Closes all connections, and refuses from now on.
    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        let (code, reason) = self.closing.get_or_init(|| (code, reason.to_owned()));
        for client in self.clients.iter() {
            let _ = client.close(*code, reason);
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }
}

impl From<ServerConfig> for Acceptor {
    fn from(config: ServerConfig) -> Self {
        Self::new(config)
    }
}

impl From<Arc<ServerConfig>> for Acceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(config)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("config", &self.config)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

const RECEIVED: &str = "a request was received";

/// How many clients above [`ServerConfig::max_connections`] are told so at a time; more are dropped without a word.
const MAX_REFUSED: usize = 64;
