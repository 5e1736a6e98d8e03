#![doc = include_str!("../README.md")]

mod client;
mod io;
mod server;
mod transport;

pub use client::{client, connect, connect_with};
pub use io::Io;
pub use server::{Server, accept, accept_with};
pub use transport::Transport;

/// A WebSocket connection over any stream of tokio's.
pub type WebSocket<S> = ws_proto::drive::WebSocket<Io<S>>;

/// A client's opening handshake on any stream of tokio's.
pub type Handshake<S> = ws_proto::drive::Handshake<Io<S>>;
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
