//! The crate [`http`](https://docs.rs/http), and WebSockets on an HTTP server of one's own.
//!
//! With the feature `hyper` a server on hyper 1 answers a request with `upgrade` and goes on with a
//! [`WebSocket`](crate::WebSocket); its other requests it answers as ever, so that one port serves pages and
//! WebSockets. With the feature `http2` this is so over HTTP/2, too, by the same code. For a server on anything else
//! there are [`Handshake::from_request`](ws_proto::drive::Handshake::from_request), [`check`](crate::check) and
//! [`check_with_protocol`](crate::check_with_protocol).

pub use ws_proto::http::*;

#[cfg(feature = "hyper")]
pub use crate::upgrade::{Upgrade, Upgraded, check, refusal, upgrade, upgrade_with};
