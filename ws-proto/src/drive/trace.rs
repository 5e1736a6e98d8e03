//! What the driver tells the crate `tracing`, with the feature of that name; nothing without it.
//!
//! The target is `ws`: `debug` for what belongs to one connection, `warn` for what hinders all.

#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nothing is told"))]

use std::io;

use crate::{connection::Connection, error::Error, handshake::HandshakeError};

pub(super) fn opened(connection: &Connection) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: "ws",
        role = ?connection.role(),
        subprotocol = connection.subprotocol(),
        "connection open"
    );
}

pub(super) fn closed(connection: &Connection, error: Option<&Error>) {
    #[cfg(feature = "tracing")]
    if let Some(closed) = connection.closed() {
        let (role, code, reason) = (connection.role(), closed.code.get(), &*closed.reason);
        match error {
            None => tracing::debug!(target: "ws", ?role, code, reason, "connection closed"),
            Some(error) => tracing::debug!(target: "ws", ?role, code, %error, "connection failed"),
        }
    }
}

pub(super) fn handshake_failed(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "ws", %error, "handshake failed");
}

pub(super) fn refused(error: Option<&HandshakeError>) {
    #[cfg(feature = "tracing")]
    if let Some(error) = error {
        tracing::debug!(target: "ws", %error, "handshake refused");
    }
}

pub(super) fn accept_failed(error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "ws", %error, "accept failed");
}
