//! The server's side of the opening handshake (RFC 6455 section 4.2; over HTTP/2, RFC 8441): the rules, and the
//! machine that reads a request and writes the answer.

use std::{fmt, io::IoSlice, sync::Arc, time::Instant};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, uri};

use super::{
    accept_key,
    error::HandshakeError,
    extensions,
    head::Head,
    list,
    response::{fields, refusal, status_line},
};
use crate::{
    buffer::Buffer,
    config::{OriginPolicy, ServerConfig},
    connection::Connection,
    machine::Machine,
    timer::{Timer, TimerTable},
};

/// Judges a request by the rules of RFC 6455 section 4.2.1 and by the configuration.
///
/// For requests that another HTTP implementation read; [`ServerHandshake::check`] is the same for its own. The
/// error's [`response`](HandshakeError::response) is what to answer.
///
/// ```
/// use ws_proto::{ServerConfig, handshake, http::Request};
///
/// let request = Request::get("/chat")
///     .header("host", "example.com")
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())?;
/// let response = handshake::check(&request, &ServerConfig::default())?.response();
/// assert_eq!(response.status(), 101);
/// assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The first rule that is broken, in the order of [`HandshakeError`]'s variants.
pub fn check<B>(request: &Request<B>, config: &ServerConfig) -> Result<Acceptance, HandshakeError> {
    check_with_protocol(request, None, config)
}

/// As [`check`], for requests over HTTP/2 and HTTP/3, too: an extended CONNECT (RFC 8441, RFC 9220), whose
/// pseudo-header field `:protocol` is passed beside the request, as `http` has no place for it.
///
/// ```
/// use ws_proto::{ServerConfig, handshake, http::{Request, Version}};
///
/// let request = Request::connect("https://example.com/chat")
///     .version(Version::HTTP_2)
///     .header("sec-websocket-version", "13")
///     .body(())?;
/// let acceptance = handshake::check_with_protocol(&request, Some("websocket"), &ServerConfig::default())?;
/// assert_eq!(acceptance.response().status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`check`].
pub fn check_with_protocol<B>(
    request: &Request<B>,
    protocol: Option<&str>,
    config: &ServerConfig,
) -> Result<Acceptance, HandshakeError> {
    let headers = request.headers();
    let extended = request.version() >= Version::HTTP_2;
    let accept = if extended {
        check_extended_connect(request, protocol)?;
        None
    } else {
        Some(accept_key(check_upgrade(request)?))
    };
    let version_8 = match only(headers, &header::SEC_WEBSOCKET_VERSION) {
        Some(b"13") => false,
        Some(b"8") if config.version_8 && !extended => true,
        _ => return Err(HandshakeError::Version { version_8: config.version_8 && !extended, extended }),
    };
    let host = host(request, extended)?;
    if has_body(headers) {
        return Err(HandshakeError::Body);
    }
    if config.path.as_ref().is_some_and(|path| path != request.uri().path()) {
        return Err(HandshakeError::Path);
    }
    let offered = list::distinct_tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .map_err(|_| HandshakeError::SubprotocolList)?;
    let offers = list::extensions(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
        .map_err(|_| HandshakeError::ExtensionList)?;
    let origin = if version_8 { &SEC_WEBSOCKET_ORIGIN } else { &header::ORIGIN };
    if !headers.get_all(origin).iter().all(|origin| is_let_in(&config.origins, origin, &host)) {
        return Err(HandshakeError::Origin);
    }
    let subprotocol = offered.iter().find(|name| config.subprotocols.contains(name)).cloned();
    Ok(Acceptance {
        accept,
        offered,
        subprotocol,
        extensions: extensions::accept(&offers, config),
        headers: config.headers.iter().filter(|(name, _)| !is_reserved(name)).map(owned).collect(),
    })
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

/// Whether a request asks for a WebSocket at all (RFC 6455 section 4.2.1, numbers 3 and 4).
pub(crate) fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    list::contains_token(headers, &header::CONNECTION, "upgrade")
        && list::contains_token(headers, &header::UPGRADE, "websocket")
}

/// What is HTTP/1.1's own (RFC 6455 section 4.2.1): the key of a request to upgrade.
fn check_upgrade<B>(request: &Request<B>) -> Result<&[u8], HandshakeError> {
    if request.method() != Method::GET {
        return Err(HandshakeError::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(HandshakeError::HttpVersion);
    }
    if !asks_for_websocket(request) {
        return Err(HandshakeError::NotUpgrade);
    }
    let key = only(request.headers(), &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    match KEY.decode(key) {
        Ok(bytes) if bytes.len() == 16 => Ok(key),
        _ => Err(HandshakeError::Key),
    }
}

/// What is HTTP/2's own (RFC 8441 section 5), in place of `Upgrade`, `Connection` and the key.
fn check_extended_connect<B>(request: &Request<B>, protocol: Option<&str>) -> Result<(), HandshakeError> {
    if request.method() != Method::CONNECT {
        return Err(HandshakeError::NotConnect);
    }
    if protocol.is_none_or(|protocol| !protocol.eq_ignore_ascii_case("websocket")) {
        return Err(HandshakeError::Protocol);
    }
    Ok(())
}

/// The value of a field that appears once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// RFC 9112 section 3.2: one `Host` field with a host; that of the target, if it names one, goes before it.
/// RFC 9113 section 8.3.1: over HTTP/2 the target names it, and a `Host` field must not name another.
fn host<B>(request: &Request<B>, extended: bool) -> Result<uri::Authority, HandshakeError> {
    let headers = request.headers();
    let field = only(headers, &header::HOST).and_then(|host| uri::Authority::try_from(host).ok());
    let field = field.filter(is_host);
    if field.is_none() && (!extended || headers.contains_key(header::HOST)) {
        return Err(HandshakeError::Host);
    }
    let target = request.uri();
    match (target.scheme(), target.authority()) {
        (None, None) if target.path().starts_with('/') => field.ok_or(HandshakeError::Host),
        (Some(_), Some(authority)) if extended => {
            let is_same = field.is_none_or(|host| host == *authority);
            (is_same && is_host(authority)).then(|| authority.clone()).ok_or(HandshakeError::Host)
        }
        (Some(_), Some(authority)) => Ok(authority.clone()),
        // The other forms belong to other methods.
        _ => Err(HandshakeError::Malformed("the request target")),
    }
}

/// A host and no more than a port beside it.
fn is_host(authority: &uri::Authority) -> bool {
    is_host_and_port(authority) && !authority.as_str().contains('@')
}

/// Bytes of a body could pass for frames, so there must be none.
fn has_body(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0")
}

/// Whether what stands behind the host is nothing or a port, which `http` does not look at.
pub(super) fn is_host_and_port(authority: &uri::Authority) -> bool {
    let behind = authority.as_str().rsplit('@').next().and_then(|rest| rest.strip_prefix(authority.host()));
    match behind.and_then(|behind| behind.strip_prefix(':')) {
        Some(port) => {
            port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        }
        None => behind == Some(""),
    }
}

fn is_let_in(policy: &OriginPolicy, origin: &HeaderValue, host: &uri::Authority) -> bool {
    let origin = origin.as_bytes();
    match policy {
        OriginPolicy::Any => true,
        OriginPolicy::Same => uri::Uri::try_from(origin).is_ok_and(|origin| {
            let default = match origin.scheme_str() {
                Some("https" | "wss") => 443,
                _ => 80,
            };
            let port = |authority: &uri::Authority| authority.port_u16().unwrap_or(default);
            let authority = origin.authority().filter(|_| origin.scheme().is_some());
            authority.is_some_and(|origin| {
                origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host)
            })
        }),
        OriginPolicy::List(list) => list.iter().any(|entry| entry.as_bytes().eq_ignore_ascii_case(origin)),
    }
}

/// A request that may be accepted, and what the answer will be.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The answer to the key; `None` over HTTP/2, which has none.
    accept: Option<String>,
    offered: Vec<String>,
    subprotocol: Option<String>,
    extensions: Option<extensions::Accepted>,
    headers: HeaderMap,
}

impl Acceptance {
    /// Chooses a subprotocol, or none, in place of the one the configuration chose.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Subprotocol`] if the client did not offer it.
    pub fn set_subprotocol(&mut self, subprotocol: Option<&str>) -> Result<(), AcceptError> {
        if subprotocol.is_some_and(|name| !self.offered.iter().any(|offered| offered == name)) {
            return Err(AcceptError::Subprotocol);
        }
        self.subprotocol = subprotocol.map(str::to_owned);
        Ok(())
    }

    /// Adds a header field to the answer.
    ///
    /// # Errors
    ///
    /// [`AcceptError::ReservedField`] for a field that the handshake sets or that would frame a body.
    pub fn add_header(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), AcceptError> {
        if is_reserved(&name) {
            return Err(AcceptError::ReservedField(name));
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// The subprotocols that the client offered, in its order.
    pub fn offered(&self) -> &[String] {
        &self.offered
    }

    /// The subprotocol that the answer names.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The answer, for another HTTP implementation to send.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        let field = |text: &str| HeaderValue::from_str(text).expect("base64 and tokens are visible ASCII");
        // RFC 8441 section 5: over HTTP/2 status 200 is the whole answer.
        if let Some(accept) = &self.accept {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, field(accept));
        }
        let headers = response.headers_mut();
        if let Some(subprotocol) = &self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, field(subprotocol));
        }
        if let Some(extensions) = &self.extensions {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, field(extensions.field()));
        }
        headers.extend(self.headers.clone());
        response
    }

    /// The connection, once the answer was sent by other means; `leftover` is what was read behind the request.
    pub fn into_connection(self, config: &ServerConfig, leftover: &[u8], now: Instant) -> Connection {
        self.connection(config, &[], leftover, now)
    }

    fn connection(self, config: &ServerConfig, preamble: &[u8], leftover: &[u8], now: Instant) -> Connection {
        let connection = Connection::new(&config.connection, None, preamble, now)
            .with_leftover(leftover)
            .with_subprotocol(self.subprotocol);
        match self.extensions {
            Some(extensions) => extensions.apply(connection),
            None => connection,
        }
    }
}

/// An answer cannot be what the application asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client did not offer this subprotocol.
    Subprotocol,
    /// The handshake sets this field itself.
    ReservedField(HeaderName),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subprotocol => f.write_str("the client did not offer this subprotocol"),
            Self::ReservedField(name) => write!(f, "the handshake sets {name} itself"),
        }
    }
}

impl std::error::Error for AcceptError {}

/// Fields that are the handshake's own, or would frame a body that is not there.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    [header::UPGRADE, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// The server's side of an opening handshake, without its socket.
///
/// Driven as a [`Machine`] until [`advance`](Self::advance) is `true`; then the application looks at the
/// [`request`](Self::request) and answers: [`accept`](Self::accept) makes a [`Connection`] of it,
/// [`refuse`](Self::refuse) leaves a machine to be driven to its end. A request that breaks a rule of HTTP is
/// refused without asking.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use ws_proto::{Machine, ServerConfig, handshake::ServerHandshake};
///
/// let now = Instant::now();
/// let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), now);
/// let bytes = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// handshake.recv_space()[..bytes.len()].copy_from_slice(bytes);
/// handshake.handle_input(bytes.len(), now);
///
/// assert!(handshake.advance());
/// assert_eq!(handshake.request().unwrap().uri().path(), "/chat");
/// let acceptance = handshake.check()?;
/// let (connection, _request) = handshake.accept(acceptance, now);
/// assert!(connection.buffered_amount() > 100); // the answer leaves first
/// # Ok::<(), ws_proto::HandshakeError>(())
/// ```
#[derive(Debug)]
pub struct ServerHandshake {
    config: Arc<ServerConfig>,
    head: Head,
    state: State,
    timers: TimerTable,
    /// The refusal, as far as it is not written.
    output: Buffer,
    /// The socket holds back some of what it took.
    held: bool,
    eof: bool,
}

#[derive(Debug)]
enum State {
    Reading,
    Received(Request<()>),
    /// The refusal leaves; then the sending half is shut down, and what still comes is dropped, so that no reset
    /// overtakes the refusal (RFC 9112 section 9.6).
    Refusing(HandshakeError),
    Ended(HandshakeError),
}

impl ServerHandshake {
    /// A handshake whose deadline begins now.
    pub fn new(config: Arc<ServerConfig>, now: Instant) -> Self {
        let mut handshake = Self::in_state(State::Reading, config);
        handshake.timers.arm(Timer::Handshake, now, handshake.config.head.timeout);
        handshake
    }

    /// A handshake whose request another HTTP/1.1 implementation has read, and `leftover` behind it.
    pub fn from_request(config: Arc<ServerConfig>, request: Request<()>, leftover: &[u8]) -> Self {
        let mut handshake = Self::in_state(State::Received(request), config);
        handshake.head.rest_mut().push(leftover);
        handshake
    }

    fn in_state(state: State, config: Arc<ServerConfig>) -> Self {
        Self {
            head: Head::of_request(&config.head),
            config,
            state,
            timers: TimerTable::default(),
            output: Buffer::default(),
            held: false,
            eof: false,
        }
    }

    /// Looks at what came: `true` once the request is there.
    pub fn advance(&mut self) -> bool {
        if matches!(self.state, State::Reading) {
            match self.head.take_request() {
                Ok(Some(request)) => {
                    self.timers.stop(Timer::Handshake);
                    self.head.release();
                    self.state = State::Received(request);
                }
                Ok(None) if self.eof => self.end(HandshakeError::Eof),
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
        matches!(self.state, State::Received(_))
    }

    /// The request, once it is there and until it is answered.
    pub fn request(&self) -> Option<&Request<()>> {
        match &self.state {
            State::Received(request) => Some(request),
            State::Reading | State::Refusing(_) | State::Ended(_) => None,
        }
    }

    pub(crate) fn request_mut(&mut self) -> Option<&mut Request<()>> {
        match &mut self.state {
            State::Received(request) => Some(request),
            State::Reading | State::Refusing(_) | State::Ended(_) => None,
        }
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Whether the client has closed its half.
    pub(crate) fn is_eof(&self) -> bool {
        self.eof
    }

    /// Judges the request: see [`check`].
    ///
    /// # Errors
    ///
    /// The first rule it breaks; [`fail`](Self::fail) answers with it.
    ///
    /// # Panics
    ///
    /// If there is no [`request`](Self::request).
    pub fn check(&self) -> Result<Acceptance, HandshakeError> {
        check(self.request().expect("a request was received"), &self.config)
    }

    /// Accepts the request. The connection's first output is the answer, its first input what came behind the
    /// request.
    ///
    /// # Panics
    ///
    /// If there is no [`request`](Self::request).
    pub fn accept(self, acceptance: Acceptance, now: Instant) -> (Connection, Request<()>) {
        let State::Received(request) = self.state else { panic!("a request was received") };
        let mut answer = status_line(StatusCode::SWITCHING_PROTOCOLS);
        fields(&mut answer, acceptance.response().headers());
        answer.extend_from_slice(b"\r\n");
        let mut connection = acceptance.connection(&self.config, &answer, self.head.rest(), now);
        if self.eof {
            connection.handle_eof(now);
        }
        (connection, request)
    }

    /// Refuses with this response. Its `Content-Length` and `Connection` are set by the handshake.
    ///
    /// A status of 1xx or 101 is none of a refusal and becomes 500.
    pub fn refuse(&mut self, mut response: Response<Bytes>) {
        if response.status().is_informational() {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let error = HandshakeError::Refused(response.status());
        self.answer(&response, error);
    }

    /// Refuses with the response that belongs to an error.
    pub fn fail(&mut self, error: HandshakeError) {
        match error.response() {
            Some(response) => self.answer(&response, error),
            None => self.end(error),
        }
    }

    /// Why there is no connection, once that is certain.
    pub fn error(&self) -> Option<&HandshakeError> {
        match &self.state {
            State::Refusing(error) | State::Ended(error) => Some(error),
            State::Reading | State::Received(_) => None,
        }
    }

    fn answer(&mut self, response: &Response<Bytes>, error: HandshakeError) {
        if matches!(self.state, State::Reading | State::Received(_)) {
            let head_only = self.request().is_some_and(|request| request.method() == Method::HEAD);
            self.output.push(&refusal(response, head_only));
            // Whatever came is of no more use, and the peer may take its time to go.
            self.head.clear();
            self.timers.stop_all();
            self.state = State::Refusing(error);
        }
    }

    fn end(&mut self, error: HandshakeError) {
        self.timers.stop_all();
        self.state = State::Ended(error);
    }

    /// A refusal has its deadline, from the first look at the time.
    fn arm(&mut self, now: Instant) {
        if matches!(self.state, State::Refusing(_)) && !self.timers.is_set(Timer::Close) {
            self.timers.arm(Timer::Close, now, self.config.connection.close_timeout);
        }
    }

    /// Ends once the refusal is written and nothing more comes.
    fn end_if_done(&mut self) {
        if let State::Refusing(error) = &self.state
            && self.eof
            && self.output.is_empty()
            && !self.held
        {
            self.end(error.clone());
        }
    }
}

impl Machine for ServerHandshake {
    fn recv_space(&mut self) -> &mut [u8] {
        self.head.recv_space()
    }

    fn handle_input(&mut self, len: usize, now: Instant) {
        match self.state {
            // Bytes behind a refused request are never frames.
            State::Refusing(_) | State::Ended(_) => {}
            State::Reading | State::Received(_) => self.head.fill(len),
        }
        self.arm(now);
        self.handle_timeout(now);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
        self.end_if_done();
    }

    fn handle_write_error(&mut self, _now: Instant) {
        self.output.clear();
        if let State::Refusing(error) = &self.state {
            self.end(error.clone());
        }
    }

    fn handle_held(&mut self, held: bool) {
        self.held = held;
        self.end_if_done();
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.timers.expire(now) {
            Some(Timer::Handshake) => self.fail(HandshakeError::Timeout),
            Some(_) => {
                if let State::Refusing(error) = &self.state {
                    self.end(error.clone());
                }
            }
            None => {}
        }
    }

    fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.output(slices)
    }

    fn consume(&mut self, len: usize) {
        self.output.consume(len);
        self.end_if_done();
    }

    fn poll_timeout(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        self.head.release();
        self.output.release();
        self.arm(now);
        self.timers.next()
    }

    fn wants_read(&self) -> bool {
        match self.state {
            State::Reading | State::Refusing(_) => !self.eof,
            // Frames may come before the answer, a few.
            State::Received(_) => !self.eof && self.head.rest().len() < self.config.head.max_len,
            State::Ended(_) => false,
        }
    }

    fn wants_shutdown(&self) -> bool {
        matches!(self.state, State::Refusing(_) | State::Ended(_)) && self.output.is_empty() && !self.held
    }

    fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }
}

/// Takes a last character with stray bits, as other servers do; the length decides.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

const SEC_WEBSOCKET_ORIGIN: HeaderName = HeaderName::from_static("sec-websocket-origin");
