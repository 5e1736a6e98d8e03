#![doc = include_str!("../README.md")]

mod client;
mod server;
mod socket;
mod websocket;

pub use client::{client, connect, connect_with};
pub use server::{Handshake, Server, accept, accept_with};
pub use websocket::WebSocket;
pub use ws_proto::{
    Bytes, ClientConfig, CloseCode, Closed, Config, Connection, Error, Event, Fragment, HandshakeError,
    HeadLimits, Initiator, Message, OriginPolicy, Prepared, ProtocolError, SendError, Sender, ServerConfig,
    Text, Timer, Utf8Bytes, Version,
    handshake::{AcceptError, Acceptance, check, client_request},
    http,
};
#[cfg(feature = "deflate")]
pub use ws_proto::{DeflateConfig, DeflatePool, WindowBits};

/// The examples of the workspace's README compile, too.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
