//! Why an opening handshake failed, and what the other side is told.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::proxy::ProxyError;

/// The opening handshake failed.
///
/// What a server finds wrong with a request has a [`status`](Self::status), with which it was answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// What came is not HTTP/1.1: 400 from a server.
    Malformed(&'static str),
    /// The head is longer than [`HeadLimits::max_len`](crate::HeadLimits::max_len): 431 from a server.
    HeadTooLong,
    /// The request line alone is longer than that: 414.
    TargetTooLong,
    /// There are more header fields than [`HeadLimits::max_fields`](crate::HeadLimits::max_fields): 431 from a
    /// server.
    TooManyFields,
    /// The head was not complete in time: 408 from a server.
    Timeout,
    /// The other side closed before its head was complete.
    Eof,

    /// The method is not GET: 405.
    Method,
    /// The version of HTTP is below 1.1, or unknown: 505.
    HttpVersion,
    /// The request asks for no upgrade to `websocket`: 426. An ordinary HTTP request gets this.
    NotUpgrade,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64: 400.
    Key,
    /// The method of a request over HTTP/2 or HTTP/3 is not CONNECT: 405. An ordinary request gets this.
    NotConnect,
    /// `:protocol` of a CONNECT over HTTP/2 or HTTP/3 is missing or not `websocket`: 501.
    Protocol,
    /// `Sec-WebSocket-Version` is missing, repeated or not one that is spoken: 426.
    Version {
        /// Whether version 8 is spoken beside 13.
        version_8: bool,
        /// Whether it came over HTTP/2 or HTTP/3: 400, as 426 calls for `Upgrade`, which these do not have.
        extended: bool,
    },
    /// `Host` is missing, repeated or no host: 400.
    Host,
    /// The request has a body: 400.
    Body,
    /// The path is not the one that is served: 404.
    Path,
    /// `Sec-WebSocket-Protocol` is no list of distinct tokens: 400.
    SubprotocolList,
    /// `Sec-WebSocket-Extensions` is no list of extensions: 400 from a server.
    ExtensionList,
    /// The origin is not let in: 403.
    Origin,
    /// The server has no place for another connection, is shutting down, or did not come to an answer: 503.
    Unavailable,
    /// The application refused, with this status.
    Refused(StatusCode),

    /// The server answered with another status than 101. The body is cut at
    /// [`ClientConfig::max_body`](crate::ClientConfig::max_body).
    Status(Box<Response<Bytes>>),
    /// `Upgrade` of the answer is missing or does not name `websocket`.
    UpgradeField,
    /// `Connection` of the answer does not contain `upgrade`.
    ConnectionField,
    /// `Sec-WebSocket-Accept` of the answer is missing, repeated or not the answer to the key.
    Accept,
    /// The server chose a subprotocol that was not offered, or none, though some were offered.
    Subprotocol(Option<String>),
    /// The server chose an extension that was not offered, or not in this way.
    Extension(String),

    /// There were more redirects than [`ClientConfig::redirects`](crate::ClientConfig::redirects).
    TooManyRedirects {
        /// How many were followed.
        limit: usize,
    },
    /// The server redirected to what is no WebSocket.
    Location {
        /// The `Location` of the answer.
        location: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The proxy did not let through.
    Proxy(ProxyError),
    /// The time for the whole attempt passed before the server could be asked.
    ConnectTimeout(ConnectPhase),

    /// The URL names no WebSocket server.
    Url(&'static str),
    /// The URL of a proxy names none.
    ProxyUrl(&'static str),
    /// There can be no TLS, which the URL or the proxy asks for.
    Tls(&'static str),
    /// The application gave what is no name or no value of a header field.
    Field(String),
    /// The application set a header field that is the handshake's own.
    ReservedField(HeaderName),
    /// An offered subprotocol is no token, or offered twice.
    SubprotocolOffer(String),
}

impl HandshakeError {
    /// Whether trying again would change nothing: the application asked for what cannot be, or the server or the proxy
    /// said no for good. An answer of 408, 425, 429 or 5xx may pass, as do most faults on the way.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Status(response) => !may_pass(response.status()),
            Self::Proxy(error) => error.is_permanent(),
            Self::Method
            | Self::Subprotocol(_)
            | Self::Extension(_)
            | Self::TooManyRedirects { .. }
            | Self::Location { .. }
            | Self::Url(_)
            | Self::ProxyUrl(_)
            | Self::Tls(_)
            | Self::Field(_)
            | Self::ReservedField(_)
            | Self::SubprotocolOffer(_) => true,
            Self::Malformed(_)
            | Self::HeadTooLong
            | Self::TargetTooLong
            | Self::TooManyFields
            | Self::Timeout
            | Self::Eof
            | Self::HttpVersion
            | Self::NotConnect
            | Self::NotUpgrade
            | Self::Protocol
            | Self::Key
            | Self::Version { .. }
            | Self::Host
            | Self::Body
            | Self::Path
            | Self::SubprotocolList
            | Self::ExtensionList
            | Self::Origin
            | Self::Unavailable
            | Self::Refused(_)
            | Self::UpgradeField
            | Self::ConnectionField
            | Self::Accept
            | Self::ConnectTimeout(_) => false,
        }
    }

    /// The status that a server answers this with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Malformed(_)
            | Self::Key
            | Self::Host
            | Self::Body
            | Self::SubprotocolList
            | Self::ExtensionList
            | Self::Version { extended: true, .. } => Some(StatusCode::BAD_REQUEST),
            Self::HeadTooLong | Self::TooManyFields => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::TargetTooLong => Some(StatusCode::URI_TOO_LONG),
            Self::Timeout => Some(StatusCode::REQUEST_TIMEOUT),
            Self::Method | Self::NotConnect => Some(StatusCode::METHOD_NOT_ALLOWED),
            Self::Protocol => Some(StatusCode::NOT_IMPLEMENTED),
            Self::HttpVersion => Some(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
            Self::NotUpgrade | Self::Version { extended: false, .. } => Some(StatusCode::UPGRADE_REQUIRED),
            Self::Path => Some(StatusCode::NOT_FOUND),
            Self::Origin => Some(StatusCode::FORBIDDEN),
            Self::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::Refused(status) => Some(*status),
            Self::Eof
            | Self::Status(_)
            | Self::UpgradeField
            | Self::ConnectionField
            | Self::Accept
            | Self::Subprotocol(_)
            | Self::Extension(_)
            | Self::TooManyRedirects { .. }
            | Self::Location { .. }
            | Self::Proxy(_)
            | Self::ConnectTimeout(_)
            | Self::Url(_)
            | Self::ProxyUrl(_)
            | Self::Tls(_)
            | Self::Field(_)
            | Self::ReservedField(_)
            | Self::SubprotocolOffer(_) => None,
        }
    }

    /// The answer of a server: the status, the fields it calls for, and a line that says why; `None` for what a
    /// server does not answer.
    pub fn response(&self) -> Option<Response<Bytes>> {
        let mut response = Response::new(Bytes::from(format!("{self}\n")));
        *response.status_mut() = self.status()?;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Method => drop(headers.insert(header::ALLOW, HeaderValue::from_static("GET"))),
            Self::NotConnect => drop(headers.insert(header::ALLOW, HeaderValue::from_static("CONNECT"))),
            Self::NotUpgrade | Self::Version { .. } => {
                if self.status() == Some(StatusCode::UPGRADE_REQUIRED) {
                    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                }
                let version_8 = matches!(self, Self::Version { version_8: true, .. });
                let versions = HeaderValue::from_static(if version_8 { "13, 8" } else { "13" });
                headers.insert(header::SEC_WEBSOCKET_VERSION, versions);
            }
            _ => {}
        }
        Some(response)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed HTTP: {what}"),
            Self::HeadTooLong => f.write_str("the head is too long"),
            Self::TargetTooLong => f.write_str("the request target is too long"),
            Self::TooManyFields => f.write_str("there are too many header fields"),
            Self::Timeout => f.write_str("the handshake was not complete in time"),
            Self::Eof => f.write_str("the connection was closed during the handshake"),
            Self::Method => f.write_str("the method is not GET"),
            Self::HttpVersion => f.write_str("the HTTP version is not 1.1"),
            Self::NotUpgrade => f.write_str("an upgrade to websocket is required"),
            Self::NotConnect => f.write_str("the method is not CONNECT"),
            Self::Protocol => f.write_str("the protocol to connect with is not websocket"),
            Self::Key => f.write_str("Sec-WebSocket-Key is missing or invalid"),
            Self::Version { .. } => f.write_str("Sec-WebSocket-Version is missing or not supported"),
            Self::Host => f.write_str("Host is missing or invalid"),
            Self::Body => f.write_str("the request has a body"),
            Self::Path => f.write_str("there is nothing at this path"),
            Self::SubprotocolList => f.write_str("Sec-WebSocket-Protocol is invalid"),
            Self::ExtensionList => f.write_str("Sec-WebSocket-Extensions is invalid"),
            Self::Origin => f.write_str("the origin is not allowed"),
            Self::Unavailable => f.write_str("the server cannot take this connection at present"),
            Self::Refused(status) => write!(f, "refused with {status}"),
            Self::Status(response) => write!(f, "the server answered {}", response.status()),
            Self::UpgradeField => f.write_str("Upgrade of the answer is not websocket"),
            Self::ConnectionField => f.write_str("Connection of the answer does not contain upgrade"),
            Self::Accept => f.write_str("Sec-WebSocket-Accept of the answer is wrong"),
            Self::Subprotocol(Some(name)) => write!(f, "subprotocol {name:?} was not offered"),
            Self::Subprotocol(None) => f.write_str("the server chose none of the offered subprotocols"),
            Self::Extension(name) => write!(f, "extension {name:?} was not offered, or not like this"),
            Self::TooManyRedirects { limit } => write!(f, "redirected more than {limit} times"),
            Self::Location { location, fault } => write!(f, "redirected to {location:?}: {fault}"),
            Self::Proxy(error) => write!(f, "{error}"),
            Self::ConnectTimeout(phase) => write!(f, "{phase}"),
            Self::Url(what) => write!(f, "invalid URL: {what}"),
            Self::ProxyUrl(what) => write!(f, "invalid URL of a proxy: {what}"),
            Self::Tls(what) => write!(f, "no TLS: {what}"),
            Self::Field(name) => write!(f, "{name:?} is no header field, or its value is none"),
            Self::ReservedField(name) => write!(f, "the handshake sets {name} itself"),
            Self::SubprotocolOffer(name) => write!(f, "cannot offer subprotocol {name:?}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// Whether a server that answers with this may answer otherwise the next time.
pub(super) fn may_pass(status: StatusCode) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || later.contains(&status)
}

/// What an attempt to connect was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectPhase {
    /// The name of the server or of the proxy to be resolved, and a connection to it.
    Connect,
    /// The proxy's answer.
    Proxy,
    /// The handshake of TLS.
    Tls,
}

impl fmt::Display for ConnectPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "there was no connection in time",
            Self::Proxy => "the proxy did not answer in time",
            Self::Tls => "the TLS handshake was not complete in time",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_may_pass_are_no_reason_to_give_up() {
        let error = |status: u16| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            HandshakeError::Status(Box::new(response))
        };
        for status in [200, 204, 301, 302, 400, 401, 403, 404, 407, 410, 426, 431, 499] {
            assert!(error(status).is_permanent(), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(!error(status).is_permanent(), "{status}");
        }
    }
}
