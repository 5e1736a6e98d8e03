//! The opening handshake (RFC 6455 section 4), both sides of it.
//!
//! - [`ServerHandshake`] reads a request and lets the application answer it; [`check`] is the rules alone, for
//!   requests that another HTTP implementation read.
//! - [`ClientHandshake`] sends a request and judges the answer.

mod client;
mod error;
mod extensions;
mod head;
pub(crate) mod list;
mod response;
mod server;

pub use client::{ClientHandshake, client_request};
pub use error::HandshakeError;
pub(crate) use server::asks_for_websocket;
pub use server::{AcceptError, Acceptance, ServerHandshake, check};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

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
