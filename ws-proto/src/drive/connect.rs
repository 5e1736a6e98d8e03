//! [`Connector`]: the way from a URL to a connection, written once over what a runtime opens ([`Connect`]).

use std::{
    fmt,
    future::{poll_fn, ready},
    io,
    path::Path,
    pin::pin,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};

use super::{Driver, Reconnect, Socket, WebSocket, handshake::upgrade};
use crate::{
    config::ClientConfig,
    error::Error,
    handshake::{
        ClientHandshake, ConnectPhase, HandshakeError, Proxy, ProxyHandshake, Redirects, UnixSocket,
        client_request,
        url::{bare_host, basic_auth, is_secure, port},
    },
};

/// What a runtime gives a client, beside a [`Socket`] to carry its bytes: streams that it opens, a clock, randomness.
///
/// Dropping a future gives up what it was about.
pub trait Connect: 'static {
    /// The socket of its streams, whichever of the methods below opened them.
    type Socket: Socket<Stream: Send> + Send;

    /// How TLS is done: whom to trust, and which certificate to show.
    type Tls: Clone + Send + Sync;

    /// Connects to a host, by name or by address, trying its addresses in order.
    fn tcp(host: &str, port: u16) -> impl Future<Output = io::Result<Stream<Self>>> + Send;

    /// Connects to a socket of the file system, where there are such.
    fn unix(path: &Path) -> impl Future<Output = io::Result<Stream<Self>>> + Send {
        let _ = path;
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// TLS to a server of this name, over another stream. It offers `http/1.1` by ALPN, which no other is to be.
    /// [`NoTls`] needs none.
    fn tls(
        stream: Stream<Self>,
        host: &str,
        tls: &Self::Tls,
    ) -> impl Future<Output = io::Result<Stream<Self>>> + Send {
        let _ = (stream, host, tls);
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// How TLS is done where the application did not say. It is asked for before each connection that needs it, so what
    /// takes long is to be done once.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Tls`] if there is no TLS, or nobody to trust.
    fn default_tls() -> Result<Self::Tls, Error> {
        Err(HandshakeError::Tls("it needs the feature rustls").into())
    }

    /// The time.
    fn now() -> Instant;

    /// Ready once the deadline has passed.
    fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send;

    /// Randomness of the system.
    ///
    /// # Errors
    ///
    /// If it has none.
    fn seed() -> io::Result<[u8; 32]>;
}

/// How TLS is done without the feature `rustls` of an adapter: not at all.
#[derive(Clone, Debug)]
pub enum NoTls {}

type Stream<C> = <<C as Connect>::Socket as Socket>::Stream;

/// Connects to servers: over TCP or a socket of the file system, through a proxy, by TLS, along redirects.
///
/// What cannot be, such as a header field that is none, is told when it connects. A clone connects alike.
///
/// ```
/// # use ws_proto::{Error, drive::{Connect, Connector}};
/// # async fn example<C: Connect>() -> Result<(), Error> {
/// let connector = Connector::<C>::default()
///     .subprotocol("chat")
///     .origin("https://example.com")
///     .header("cookie", "session=1")
///     .redirects(5);
/// let (ws, _response) = connector.connect("wss://example.com/chat").await?;
/// assert_eq!(ws.subprotocol(), Some("chat"));
/// # Ok(())
/// # }
/// ```
pub struct Connector<C: Connect> {
    config: ClientConfig,
    headers: HeaderMap,
    tls: Option<C::Tls>,
    /// The first thing that cannot be.
    fault: Option<HandshakeError>,
}

impl<C: Connect> Connector<C> {
    /// A connector with this configuration, which the other methods change.
    pub fn new(config: ClientConfig) -> Self {
        Self { config, headers: HeaderMap::new(), tls: None, fault: None }
    }

    /// Adds a header field to the request; one of the same name may be there already.
    ///
    /// A request that has fields of this name keeps those instead. Fields that the handshake sets are refused.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(self.headers.append(name, value)),
            _ => self.fail(HandshakeError::Field(name.to_owned())),
        }
        self
    }

    /// Names the origin, as browsers do: `https://example.com`.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.headers.remove(header::ORIGIN);
        self.header(header::ORIGIN.as_str(), origin)
    }

    /// Sends a user and a password in `Authorization` (RFC 7617). Those of a URL go first.
    #[must_use]
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        match basic_auth(&(user.to_owned(), password.to_owned())) {
            Ok(value) => drop(self.headers.insert(header::AUTHORIZATION, value)),
            Err(_) => self.fail(HandshakeError::Field(header::AUTHORIZATION.to_string())),
        }
        self
    }

    /// Offers a subprotocol, behind those that are offered already.
    #[must_use]
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.config.subprotocols.push(name.into());
        self
    }

    /// Offers compression in this way; `None` offers none.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, deflate: Option<crate::DeflateConfig>) -> Self {
        self.config.deflate = deflate;
        self
    }

    /// Sets how long an attempt may take, from its beginning to the end of the handshake, redirects included.
    /// `None` waits for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.head.timeout = timeout;
        self
    }

    /// Follows so many redirects: see [`ClientConfig::redirects`] and [`Redirects`].
    #[must_use]
    pub fn redirects(mut self, limit: usize) -> Self {
        self.config.redirects = limit;
        self
    }

    /// Connects through the proxy with this URL: see [`Proxy`].
    #[must_use]
    pub fn proxy(mut self, url: &str) -> Self {
        match url.parse::<Proxy>() {
            Ok(proxy) => self.config.proxy = Some(proxy),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Does TLS in this way.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<C::Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Connects to the WebSocket at a URL: see [`client_request`].
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] if the URL or the request cannot be, the proxy or the server refused or answered wrongly,
    /// or the time of [`timeout`](Self::timeout) passed. [`Error::Io`] if TCP, TLS or the resolution of a name failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the attempt.
    pub async fn connect(&self, url: &str) -> Result<(WebSocket<C::Socket>, Response<()>), Error> {
        self.connect_request(client_request(url)?).await
    }

    /// Connects to where a request leads, which may have its own header fields and a [`UnixSocket`].
    ///
    /// # Errors, cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_request(
        &self,
        request: Request<()>,
    ) -> Result<(WebSocket<C::Socket>, Response<()>), Error> {
        let begun = C::now();
        let mut request = self.complete(request)?;
        let mut redirects = Redirects::new(self.config.redirects);
        loop {
            // What is wrong with the request is told before anything is opened.
            let handshake = ClientHandshake::new(&request, &self.config, C::seed()?, begun)?;
            let stream = self.open(&request, begun).await?;
            match upgrade(C::Socket::new(stream), handshake).await {
                Err(Error::Handshake(error)) => request = redirects.follow(&request, error)?,
                done => return done,
            }
        }
    }

    /// Connects over a stream that leads to the server already, by TLS if the URL asks for it. No redirect is followed.
    ///
    /// # Errors, cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_over(
        &self,
        stream: impl Into<Stream<C>>,
        request: Request<()>,
    ) -> Result<(WebSocket<C::Socket>, Response<()>), Error> {
        let begun = C::now();
        let stream = stream.into();
        let request = self.complete(request)?;
        let handshake = ClientHandshake::new(&request, &self.config, C::seed()?, begun)?;
        let stream = match is_secure(request.uri()) {
            true => self.secure(stream, bare_host(request.uri()), &self.tls_to_use()?, begun).await?,
            false => stream,
        };
        upgrade(C::Socket::new(stream), handshake).await
    }

    /// Connections to a URL, one after the other, for a client that must stay up.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Url`], or [`Error::Io`] if the system has no randomness.
    pub fn reconnect(&self, url: &str) -> Result<Reconnect<C>, Error> {
        Reconnect::new(self.clone(), client_request(url)?)
    }

    /// The request with the connector's header fields.
    fn complete(&self, mut request: Request<()>) -> Result<Request<()>, Error> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        // What it does not say would be guessed: plaintext, and a host that may be in a field alone.
        if request.uri().scheme().is_none() {
            return Err(HandshakeError::Url("there is no scheme").into());
        }
        let own = request.headers().clone();
        for (name, value) in self.headers.iter().filter(|(name, _)| !own.contains_key(*name)) {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }

    /// A stream to the server of this request.
    async fn open(&self, request: &Request<()>, begun: Instant) -> Result<Stream<C>, Error> {
        let uri = request.uri();
        let socket = request.extensions().get::<UnixSocket>();
        let proxy = self.config.proxy.as_ref().filter(|_| socket.is_none());
        let is_secure = is_secure(uri);
        let tls = match is_secure || proxy.is_some_and(Proxy::is_secure) {
            true => Some(self.tls_to_use()?),
            false => None,
        };
        let stream = match (socket, proxy) {
            (Some(UnixSocket(path)), _) => self.within(begun, ConnectPhase::Connect, C::unix(path)).await?,
            (None, Some(proxy)) => self.tunnel(proxy, request, tls.as_ref(), begun).await?,
            (None, None) => {
                self.within(begun, ConnectPhase::Connect, C::tcp(bare_host(uri), port(uri))).await?
            }
        };
        match tls {
            Some(tls) if is_secure => self.secure(stream, bare_host(uri), &tls, begun).await,
            _ => Ok(stream),
        }
    }

    /// A stream through a proxy.
    async fn tunnel(
        &self,
        proxy: &Proxy,
        request: &Request<()>,
        tls: Option<&C::Tls>,
        begun: Instant,
    ) -> Result<Stream<C>, Error> {
        let mut handshake = ProxyHandshake::new(proxy, request, &self.config.head, begun)?;
        let connecting = C::tcp(proxy.host(), proxy.port());
        let mut stream = self.within(begun, ConnectPhase::Connect, connecting).await.map_err(of_proxy)?;
        if let Some(tls) = tls.filter(|_| proxy.is_secure()) {
            stream = self.secure(stream, proxy.host(), tls, begun).await.map_err(of_proxy)?;
        }
        let mut driver = Driver::new(C::Socket::new(stream));
        poll_fn(|cx| driver.poll_proxy(&mut handshake, cx)).await.map_err(of_proxy)?;
        Ok(driver.into_socket().into_stream())
    }

    async fn secure(
        &self,
        stream: Stream<C>,
        host: &str,
        tls: &C::Tls,
        begun: Instant,
    ) -> Result<Stream<C>, Error> {
        self.within(begun, ConnectPhase::Tls, C::tls(stream, host, tls)).await
    }

    fn tls_to_use(&self) -> Result<C::Tls, Error> {
        self.tls.clone().map_or_else(C::default_tls, Ok)
    }

    /// Waits for something, no longer than the attempt may take that has begun at this time.
    async fn within<T>(
        &self,
        begun: Instant,
        phase: ConnectPhase,
        future: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Error> {
        let deadline = self.config.head.timeout.and_then(|timeout| begun.checked_add(timeout));
        let Some(deadline) = deadline else { return Ok(future.await?) };
        let (mut future, mut sleep) = (pin!(future), pin!(C::sleep_until(deadline)));
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done.map_err(Error::Io));
            }
            // The clock before the timer, which may be coarse or late.
            if C::now() < deadline {
                ready!(sleep.as_mut().poll(cx));
            }
            Poll::Ready(Err(HandshakeError::ConnectTimeout(phase).into()))
        })
        .await
    }

    fn fail(&mut self, fault: HandshakeError) {
        self.fault.get_or_insert(fault);
    }
}

/// It is the proxy that cannot be reached, not the server.
fn of_proxy(error: Error) -> Error {
    match error {
        Error::Io(error) => io::Error::new(error.kind(), format!("proxy: {error}")).into(),
        error => error,
    }
}

impl<C: Connect> Default for Connector<C> {
    fn default() -> Self {
        Self::new(ClientConfig::default())
    }
}

impl<C: Connect> Clone for Connector<C> {
    fn clone(&self) -> Self {
        let Self { config, headers, tls, fault } = self;
        Self { config: config.clone(), headers: headers.clone(), tls: tls.clone(), fault: fault.clone() }
    }
}

impl<C: Connect> fmt::Debug for Connector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("config", &self.config).finish_non_exhaustive()
    }
}
