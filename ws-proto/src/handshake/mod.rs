//! The opening handshake (RFC 6455 section 4), both sides of it.
//!
//! - [`ServerHandshake`] reads a request and lets the application answer it; [`check`] and [`check_with_protocol`] are
//!   the rules alone, for requests that another HTTP implementation read.
//! - [`ClientHandshake`] sends a request and judges the answer; [`ProxyHandshake`] makes the way to the server before,
//!   and [`Redirects`] decides where to go after.

mod client;
mod error;
mod extensions;
mod head;
pub(crate) mod list;
mod proxy;
mod redirect;
mod response;
mod server;
pub(crate) mod url;

pub use client::ClientHandshake;
pub use error::{ConnectPhase, HandshakeError};
pub use proxy::{Proxy, ProxyError, ProxyHandshake, SocksReply};
pub use redirect::Redirects;
pub(crate) use server::asks_for_websocket;
pub use server::{AcceptError, Acceptance, ServerHandshake, check, check_with_protocol};
pub use url::{UnixSocket, client_request};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// The protocol to offer and to take by ALPN (RFC 7301) where there is TLS: WebSockets begin with this version of HTTP.
pub const ALPN: &[u8] = b"http/1.1";

/// The value of `Sec-WebSocket-Accept` that answers a key (RFC 6455 section 4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    #[test]
    fn s1_3_accept_key_of_the_rfc() {
        assert_eq!(super::accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
