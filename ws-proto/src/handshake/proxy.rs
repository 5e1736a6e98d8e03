//! The way through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928) with a user and password (RFC
//! 1929). The proxy resolves the server's name.

use core::net::IpAddr;
use std::{fmt, io::IoSlice, str::FromStr, time::Instant};

use http::{Request, Response, StatusCode, uri::Authority};

use super::{
    error::{ConnectPhase, HandshakeError, may_pass},
    head::Head,
    response::field,
    url::{bare_host, basic_auth, credentials, parse_host, port},
};
use crate::{
    buffer::Buffer,
    config::HeadLimits,
    machine::Machine,
    timer::{Timer, TimerTable},
};

/// A proxy, as its URL names it: `http://` and `https://` for HTTP CONNECT, the latter over TLS as to a server,
/// `socks5://` and `socks5h://` for SOCKS5. A user and password may stand in the URL. The default ports are 80, 443
/// and 1080.
///
/// ```
/// use ws_proto::handshake::Proxy;
///
/// let proxy: Proxy = "socks5://me:secret@127.0.0.1:1080".parse()?;
/// assert_eq!((proxy.host(), proxy.port()), ("127.0.0.1", 1080));
/// # Ok::<(), ws_proto::HandshakeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Socks5,
}

impl Proxy {
    /// The host to connect to, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the proxy itself is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.kind == Kind::Https
    }
}

impl FromStr for Proxy {
    type Err = HandshakeError;

    /// # Errors
    ///
    /// [`HandshakeError::ProxyUrl`] says what is wrong with the URL.
    fn from_str(url: &str) -> Result<Self, HandshakeError> {
        parse(url).map_err(HandshakeError::ProxyUrl)
    }
}

/// Nothing of the credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, host, port, credentials: _ } = self;
        let mut debug = f.debug_struct("Proxy");
        debug.field("kind", kind).field("host", host).field("port", port).finish_non_exhaustive()
    }
}

fn parse(url: &str) -> Result<Proxy, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("there is no scheme")?;
    let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Kind::Http, 80),
        "https" => (Kind::Https, 443),
        "socks5" | "socks5h" => (Kind::Socks5, 1080),
        _ => return Err("the scheme is not http, https, socks5 or socks5h"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("there is something behind the port");
    }
    let (userinfo, authority) = rest.rsplit_once('@').unwrap_or(("", rest));
    let authority = parse_host(authority)?;
    let credentials = credentials(userinfo)?;
    match (kind, &credentials) {
        (_, None) => {}
        (Kind::Http | Kind::Https, Some(credentials)) => drop(basic_auth(credentials)?),
        (Kind::Socks5, Some((user, password))) if user.len() <= 255 && password.len() <= 255 => {}
        (Kind::Socks5, Some(_)) => return Err("a user and a password of SOCKS have at most 255 bytes"),
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Proxy { kind, host, port: authority.port_u16().unwrap_or(default_port), credentials })
}

/// Asks a proxy for the way to a server, without its socket.
///
/// Driven as a [`Machine`]: [`advance`](Self::advance) is `true` once the way is open. What the socket carries from
/// then on is the server's. The states, and what leads to the next:
///
/// | state | answer | next |
/// | --- | --- | --- |
/// | `Http` | 2xx | `Open` |
/// | `Method` | 0: no authentication | `Reply`, the request is sent |
/// | `Method` | 2: user and password | `Auth`, they are sent |
/// | `Auth` | 0: right | `Reply`, the request is sent |
/// | `Reply` | 0: succeeded | `Open` |
/// | any | else, or out of time | `Ended` |
#[derive(Debug)]
pub struct ProxyHandshake {
    proxy: Proxy,
    /// What SOCKS is to be asked for.
    target: Vec<u8>,
    head: Head,
    state: State,
    timers: TimerTable,
    output: Buffer,
    eof: bool,
}

#[derive(Debug)]
enum State {
    Http,
    Method,
    Auth,
    Reply,
    Open,
    Ended(HandshakeError),
}

impl ProxyHandshake {
    /// Asks this proxy for the way to the host and port of this request. The deadline begins now.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Url`] if the request has no host, or one that is too long for SOCKS.
    pub fn new(
        proxy: &Proxy,
        request: &Request<()>,
        limits: &HeadLimits,
        now: Instant,
    ) -> Result<Self, HandshakeError> {
        let uri = request.uri();
        let authority = uri.authority().ok_or(HandshakeError::Url("there is no host"))?;
        let (mut output, mut target) = (Buffer::default(), Vec::new());
        let state = if proxy.kind == Kind::Socks5 {
            target = socks_request(bare_host(uri), port(uri))?;
            // Section 3: the version, and the methods that are offered.
            output.push(if proxy.credentials.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] });
            State::Method
        } else {
            output.push(&connect_request(proxy, authority, port(uri))?);
            State::Http
        };
        let mut timers = TimerTable::default();
        timers.arm(Timer::Handshake, now, limits.timeout);
        let (proxy, head) = (proxy.clone(), Head::of_response(limits));
        Ok(Self { proxy, target, head, state, timers, output, eof: false })
    }

    /// Looks at what came: `true` once the way is open.
    pub fn advance(&mut self) -> bool {
        loop {
            let next = match self.state {
                State::Http => self.read_http(),
                State::Method => self.read_method(),
                State::Auth => self.read_auth(),
                State::Reply => self.read_reply(),
                State::Open => return true,
                State::Ended(_) => return false,
            };
            match next {
                Ok(Some(State::Open)) if !self.head.rest().is_empty() => {
                    self.end(ProxyError::Malformed("something behind its answer").into());
                }
                Ok(Some(state)) => self.state = state,
                Ok(None) if self.eof => self.end(ProxyError::Eof.into()),
                Ok(None) => return false,
                Err(error) => self.end(error.into()),
            }
        }
    }

    /// Why there is no way, once that is certain.
    pub fn error(&self) -> Option<&HandshakeError> {
        match &self.state {
            State::Ended(error) => Some(error),
            State::Http | State::Method | State::Auth | State::Reply | State::Open => None,
        }
    }

    fn read_http(&mut self) -> Result<Option<State>, ProxyError> {
        let Some(response) = self.head.take_response().map_err(|error| match error {
            HandshakeError::Malformed(what) => ProxyError::Malformed(what),
            _ => ProxyError::Malformed("no head of HTTP, or too long a one"),
        })?
        else {
            return Ok(None);
        };
        match response.status() {
            status if status.is_success() => Ok(Some(State::Open)),
            // RFC 9110 section 15.2: interim responses go before the final one.
            status if status.is_informational() => Ok(Some(State::Http)),
            _ => Err(ProxyError::Status(Box::new(response))),
        }
    }

    /// RFC 1928 section 3.
    fn read_method(&mut self) -> Result<Option<State>, ProxyError> {
        let Some([version, method]) = self.take() else { return Ok(None) };
        match (version, method, &self.proxy.credentials) {
            (5, 0, _) => Ok(Some(self.ask())),
            (5, 2, Some((user, password))) => {
                // RFC 1929 section 2.
                let [user_len, password_len] =
                    [user, password].map(|text| u8::try_from(text.len()).expect("the URL was checked"));
                let message = [&[1, user_len], user.as_bytes(), &[password_len], password.as_bytes()];
                self.output.push(&message.concat());
                Ok(Some(State::Auth))
            }
            (5, 0xff, _) => Err(ProxyError::Method),
            (5, ..) => Err(ProxyError::Malformed("a method that was not offered")),
            _ => Err(ProxyError::Malformed(NO_SOCKS)),
        }
    }

    fn read_auth(&mut self) -> Result<Option<State>, ProxyError> {
        match self.take() {
            None => Ok(None),
            Some([_, 0]) => Ok(Some(self.ask())),
            Some(_) => Err(ProxyError::Credentials),
        }
    }

    /// RFC 1928 section 6.
    fn read_reply(&mut self) -> Result<Option<State>, ProxyError> {
        let rest = self.head.rest();
        match *rest {
            // A failure is told as soon as it is known: some close before the address.
            [5, 0, ..] | [5] | [] => {}
            [5, reply, ..] => return Err(ProxyError::Reply(SocksReply(reply))),
            _ => return Err(ProxyError::Malformed(NO_SOCKS)),
        }
        if rest.get(3).is_some_and(|kind| ![1, 3, 4].contains(kind)) {
            return Err(ProxyError::Malformed("an address of an unknown kind"));
        }
        match reply_len(rest).filter(|&len| len <= rest.len()) {
            Some(len) => {
                self.head.rest_mut().consume(len);
                Ok(Some(State::Open))
            }
            None => Ok(None),
        }
    }

    /// Sends the request, once SOCKS knows who asks.
    fn ask(&mut self) -> State {
        self.output.push(&self.target);
        State::Reply
    }

    /// Two bytes of an answer, once they are there.
    fn take(&mut self) -> Option<[u8; 2]> {
        let &bytes = self.head.rest().first_chunk()?;
        self.head.rest_mut().consume(2);
        Some(bytes)
    }

    /// Bytes of an answer of SOCKS that are still to come, as far as that is known.
    fn missing(&self) -> usize {
        let rest = self.head.rest();
        let len = match self.state {
            State::Reply => reply_len(rest).unwrap_or(SHORTEST_REPLY),
            _ => 2,
        };
        len.saturating_sub(rest.len()).max(1)
    }

    fn end(&mut self, error: HandshakeError) {
        self.timers.stop_all();
        self.output.clear();
        self.state = State::Ended(error);
    }
}

/// The length of a reply, once its beginning says so.
fn reply_len(reply: &[u8]) -> Option<usize> {
    match *reply {
        [_, _, _, 1, ..] => Some(4 + 4 + 2),
        [_, _, _, 3, len, ..] => Some(5 + usize::from(len) + 2),
        [_, _, _, 4, ..] => Some(4 + 16 + 2),
        _ => None,
    }
}

fn connect_request(proxy: &Proxy, authority: &Authority, port: u16) -> Result<Vec<u8>, HandshakeError> {
    let target = format!("{}:{port}", authority.host());
    let mut out = format!("CONNECT {target} HTTP/1.1\r\n").into_bytes();
    field(&mut out, "host", target.as_bytes());
    if let Some(credentials) = &proxy.credentials {
        let value = basic_auth(credentials).map_err(HandshakeError::ProxyUrl)?;
        field(&mut out, "proxy-authorization", value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// RFC 1928 section 4: the command CONNECT, and the address in its shortest form.
fn socks_request(host: &str, port: u16) -> Result<Vec<u8>, HandshakeError> {
    let mut out = vec![5, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            out.push(1);
            out.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            out.push(4);
            out.extend(address.octets());
        }
        Err(_) => {
            let len = u8::try_from(host.len());
            let len =
                len.map_err(|_| HandshakeError::Url("the host is longer than the 255 bytes of SOCKS"))?;
            out.extend([3, len]);
            out.extend(host.as_bytes());
        }
    }
    out.extend(port.to_be_bytes());
    Ok(out)
}

impl Machine for ProxyHandshake {
    fn recv_space(&mut self) -> &mut [u8] {
        let space = match self.state {
            State::Http => usize::MAX,
            // What is behind the last answer is the server's, and stays in the socket.
            _ => self.missing(),
        };
        let spare = self.head.recv_space();
        let len = space.min(spare.len());
        &mut spare[..len]
    }

    fn handle_input(&mut self, len: usize, now: Instant) {
        self.head.fill(len);
        self.handle_timeout(now);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
    }

    fn handle_write_error(&mut self, _now: Instant) {
        // It may have answered before it closed: that is read to its end.
        self.output.clear();
    }

    fn handle_held(&mut self, _held: bool) {}

    fn handle_timeout(&mut self, now: Instant) {
        if self.timers.expire(now).is_some() {
            self.end(HandshakeError::ConnectTimeout(ConnectPhase::Proxy));
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
    }

    fn poll_timeout(&mut self, _now: Instant) -> Option<(Instant, Timer)> {
        self.head.release();
        self.output.release();
        self.timers.next()
    }

    fn wants_read(&self) -> bool {
        !self.eof && !matches!(self.state, State::Open | State::Ended(_))
    }

    fn wants_shutdown(&self) -> bool {
        self.is_ended()
    }

    fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }
}

/// Why a proxy does not let through.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// It answered CONNECT with another status than 2xx; 407 asks for credentials.
    Status(Box<Response<()>>),
    /// SOCKS: it takes none of the ways to authenticate that the URL of the proxy allows.
    Method,
    /// SOCKS: it does not know this user, or with another password.
    Credentials,
    /// SOCKS: it did not connect.
    Reply(SocksReply),
    /// It does not keep to its protocol.
    Malformed(&'static str),
    /// It closed.
    Eof,
}

impl ProxyError {
    /// As [`HandshakeError::is_permanent`].
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Status(response) => !may_pass(response.status()),
            Self::Method | Self::Credentials | Self::Reply(SocksReply::NOT_ALLOWED) => true,
            Self::Reply(_) | Self::Malformed(_) | Self::Eof => false,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                write!(f, "the proxy wants other credentials: {}", response.status())
            }
            Self::Status(response) => write!(f, "the proxy answered {}", response.status()),
            Self::Method => f.write_str("the proxy wants another authentication"),
            Self::Credentials => f.write_str("the proxy refused the user or the password"),
            Self::Reply(reply) => write!(f, "the proxy did not connect: {reply}"),
            Self::Malformed(what) => write!(f, "the proxy answered malformed: {what}"),
            Self::Eof => f.write_str("the proxy closed the connection"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl From<ProxyError> for HandshakeError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

/// The reply of a SOCKS5 proxy that did not connect (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocksReply(pub u8);

impl SocksReply {
    /// A failure of the proxy itself.
    pub const GENERAL_FAILURE: Self = Self(1);
    /// The proxy's rules do not allow the connection.
    pub const NOT_ALLOWED: Self = Self(2);
    /// The network cannot be reached.
    pub const NETWORK_UNREACHABLE: Self = Self(3);
    /// The host cannot be reached.
    pub const HOST_UNREACHABLE: Self = Self(4);
    /// The server refused the connection.
    pub const CONNECTION_REFUSED: Self = Self(5);
    /// The time to live ran out.
    pub const TTL_EXPIRED: Self = Self(6);
    /// The proxy does not connect.
    pub const COMMAND_NOT_SUPPORTED: Self = Self(7);
    /// The proxy takes no address of this kind.
    pub const ADDRESS_NOT_SUPPORTED: Self = Self(8);
}

impl fmt::Display for SocksReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::GENERAL_FAILURE => "general failure",
            Self::NOT_ALLOWED => "not allowed by its rules",
            Self::NETWORK_UNREACHABLE => "network unreachable",
            Self::HOST_UNREACHABLE => "host unreachable",
            Self::CONNECTION_REFUSED => "connection refused",
            Self::TTL_EXPIRED => "TTL expired",
            Self::COMMAND_NOT_SUPPORTED => "command not supported",
            Self::ADDRESS_NOT_SUPPORTED => "kind of address not supported",
            Self(reply) => return write!(f, "reply {reply}"),
        })
    }
}

/// A reply whose address is a name of no bytes.
const SHORTEST_REPLY: usize = 7;
const NO_SOCKS: &str = "this is not SOCKS5";
