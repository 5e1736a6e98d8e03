//! What an application may set: limits in bytes, deadlines, and what a handshake offers or accepts.
//!
//! Every field is public, has a default fit for the open internet, and every combination is valid.

use std::time::Duration;

use http::HeaderMap;

use crate::handshake::Proxy;

/// Limits and deadlines of an established connection, for both roles.
///
/// ```
/// use std::time::Duration;
/// use ws_proto::Config;
///
/// let config = Config { max_message: 1024 * 1024, keepalive: Some(Duration::from_secs(60)), ..Config::default() };
/// # assert_eq!(config.close_timeout, Some(Duration::from_secs(10)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest message taken from the peer, in bytes of payload over all its frames. Default 16 MiB.
    ///
    /// A frame whose header would take the message past it fails the connection with 1009 before any of its
    /// payload is read. It bounds what a message can make a connection hold: fragments are appended to one
    /// buffer, so their number costs nothing, and memory follows the bytes that arrived (at most eight times
    /// them while the connection waits), never a declared length; only memory that lies idle in the thread, 8 MiB
    /// at most, is lent to one. A compressed message is bounded twice: while it inflates, and on the wire, where
    /// one that compression makes a little longer is let pass.
    pub max_message: usize,
    /// Largest frame taken from the peer, in bytes of payload. Default 16 MiB; over it: 1009.
    pub max_frame: usize,
    /// High-water mark of the output queue, in bytes. Default 256 KiB.
    ///
    /// At or above it data is refused with [`SendError::Full`](crate::SendError::Full). Below it a message of
    /// any length is taken whole, so the queue holds at most the mark and one message.
    pub high_water: usize,
    /// How many of the pings that arrive in one read get a pong each. Default 64.
    ///
    /// Past it, and whenever writing is blocked, one pong waits: the answer to the newest ping
    /// (RFC 6455 section 5.5.3). A flood of pings can neither fill the queue nor end the connection.
    pub max_pongs_per_read: usize,
    /// Silence of the peer after which it is pinged. Default 20 s, `None` never pings.
    pub keepalive: Option<Duration>,
    /// How long a peer that was pinged by [`keepalive`](Self::keepalive) may stay silent. Default 20 s, `None`
    /// waits for ever.
    ///
    /// Any byte of the peer counts as life, so a long message in front of the pong is no fault.
    pub pong_timeout: Option<Duration>,
    /// How long pending output may wait without the peer taking a single byte. Default 30 s, `None` waits for
    /// ever.
    pub write_timeout: Option<Duration>,
    /// How long the closing handshake may take, the peer's TCP close included. Default 10 s, `None` waits for
    /// ever.
    pub close_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message: 16 * 1024 * 1024,
            max_frame: 16 * 1024 * 1024,
            high_water: 256 * 1024,
            max_pongs_per_read: 64,
            keepalive: Some(Duration::from_secs(20)),
            pong_timeout: Some(Duration::from_secs(20)),
            write_timeout: Some(Duration::from_secs(30)),
            close_timeout: Some(Duration::from_secs(10)),
        }
    }
}

/// Limits of the head of an HTTP message, for both roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Largest head in bytes, from the first byte to the empty line. Default 16 KiB; over it a server answers
    /// 431, or 414 while it is still inside the request line.
    pub max_len: usize,
    /// Most header fields. Default 128; over it a server answers 431.
    pub max_fields: usize,
    /// How long the whole head may take, however it drips. Default 10 s, `None` waits for ever; a server
    /// answers 408.
    pub timeout: Option<Duration>,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_len: 16 * 1024, max_fields: 128, timeout: Some(Duration::from_secs(10)) }
    }
}

/// What a server accepts.
///
/// ```
/// use ws_proto::{OriginPolicy, ServerConfig};
///
/// let config = ServerConfig {
///     path: Some("/chat".into()),
///     subprotocols: vec!["chat.v2".into(), "chat.v1".into()],
///     origins: OriginPolicy::Same,
///     ..ServerConfig::default()
/// };
/// # assert!(!config.version_8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Limits and deadlines once the connection is open.
    pub connection: Config,
    /// Limits of the request head.
    pub head: HeadLimits,
    /// The one path that is served, compared byte by byte with the request's path without its query; other
    /// paths get 404. Default `None`: every path.
    pub path: Option<String>,
    /// The subprotocols served. The first of the client's offer that is among them is chosen; none is chosen
    /// when nothing matches. Default: none.
    pub subprotocols: Vec<String>,
    /// Which values of `Origin` are let in. Default [`OriginPolicy::Any`].
    pub origins: OriginPolicy,
    /// Compression by permessage-deflate. Default `None`: offers are declined, as compression costs memory and time
    /// that a server should choose to spend.
    #[cfg(feature = "deflate")]
    pub deflate: Option<crate::DeflateConfig>,
    /// Whether version 8 (the last draft before RFC 6455) is spoken beside 13. Default `false`.
    pub version_8: bool,
    /// Header fields of each answer that accepts. Those that the handshake sets itself are left out. Default: none.
    pub headers: HeaderMap,
    /// Most connections at a time, those in their handshake included; more are answered with 503. Default `None`: as
    /// many as the process may have.
    pub max_connections: Option<usize>,
    /// How many connections the system completes before they are accepted. Default 1024; a system has its own limit.
    pub backlog: u32,
    /// What a broadcast does with a client that does not read fast enough. Default [`SlowConsumer::Skip`].
    pub slow_consumer: SlowConsumer,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connection: Config::default(),
            head: HeadLimits::default(),
            path: None,
            subprotocols: Vec::new(),
            origins: OriginPolicy::Any,
            #[cfg(feature = "deflate")]
            deflate: None,
            version_8: false,
            headers: HeaderMap::new(),
            max_connections: None,
            backlog: 1024,
            slow_consumer: SlowConsumer::Skip,
        }
    }
}

/// What a broadcast does with a client that does not read fast enough: one whose output queue is at its high-water mark
/// ([`Config::high_water`](Config::high_water)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// It misses the message.
    #[default]
    Skip,
    /// It is closed with 1013 (try again later), and dropped if it has not read up to that Close frame when
    /// [`Config::close_timeout`](Config::close_timeout) has passed.
    Disconnect,
}

/// Which pages may connect, judged by the `Origin` field that browsers send (RFC 6455 section 10.2).
///
/// A request without `Origin` does not come from a browser and is let in by every policy: it could name any
/// origin it likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Pages of any site. A server that trusts cookies must not use this: any page a user visits could then
    /// open a connection in that user's name.
    #[default]
    Any,
    /// Pages whose host and port are those of the request's `Host`.
    Same,
    /// Pages of these origins, each spelled as the browser does: `https://example.com`, compared without
    /// regard to case.
    List(Vec<String>),
}

/// What a client offers and how it judges the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Limits and deadlines once the connection is open.
    pub connection: Config,
    /// Limits of the response head; its [`timeout`](HeadLimits::timeout) runs until the handshake is over, from before
    /// the name is resolved, over all redirects.
    pub head: HeadLimits,
    /// How much of a refusal's body is kept for the error, in bytes. Default 64 KiB.
    pub max_body: usize,
    /// Subprotocols to offer, in order of preference. Default: none.
    pub subprotocols: Vec<String>,
    /// Compression by permessage-deflate. Default: offered. `None` offers nothing.
    #[cfg(feature = "deflate")]
    pub deflate: Option<crate::DeflateConfig>,
    /// The protocol version to ask for. Default [`Version::V13`].
    pub version: Version,
    /// How many redirects are followed, one after the other. Default 0: a redirect is a refusal like any other, because
    /// whoever redirects chooses where the client connects to, machines and sockets that only it can reach among them.
    /// Otherwise a redirect is told without its body, which nobody waits for.
    pub redirects: usize,
    /// The proxy to connect through, for all but sockets of the file system. Default `None`. No environment is read.
    pub proxy: Option<Proxy>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connection: Config::default(),
            head: HeadLimits::default(),
            max_body: 64 * 1024,
            subprotocols: Vec::new(),
            #[cfg(feature = "deflate")]
            deflate: Some(crate::DeflateConfig::default()),
            version: Version::V13,
            redirects: 0,
            proxy: None,
        }
    }
}

/// A value of `Sec-WebSocket-Version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Version {
    /// RFC 6455.
    #[default]
    V13,
    /// The last draft that is still met: the frames are the same, the origin travels as
    /// `Sec-WebSocket-Origin`.
    V8,
}

impl Version {
    /// The value in the header field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V13 => "13",
            Self::V8 => "8",
        }
    }
}

/// Which side of the connection an endpoint is. It decides who masks (RFC 6455 section 5.1) and who closes TCP
/// first (section 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepted the connection; takes only masked frames and sends unmasked ones.
    Server,
    /// Made the connection; takes only unmasked frames and sends masked ones.
    Client,
}
