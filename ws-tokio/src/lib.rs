#![doc = include_str!("../README.md")]

#[cfg(feature = "axum")]
pub mod axum;
mod bytes;
mod client;
pub mod http;
mod io;
mod server;
#[cfg(feature = "rustls")]
mod tls;
mod transport;
#[cfg(feature = "hyper")]
mod upgrade;

pub use bytes::AsyncIo;
pub use client::{Connector, Reconnect, Tls, Tokio, client, connect, connect_with, seed};
pub use io::Io;
pub use server::{Listener, accept, accept_with};
#[cfg(feature = "rustls")]
pub use tokio_rustls::rustls;
pub use transport::Transport;

/// A WebSocket connection over any stream of tokio's: see [`ws_proto::drive::WebSocket`] for what it does.
pub type WebSocket<S = Transport> = ws_proto::drive::WebSocket<Io<S>>;

/// A listening WebSocket server: see [`ws_proto::drive::Server`] for what it does.
pub type Server = ws_proto::drive::Server<Listener>;

/// The half of a [`WebSocket`] that receives.
pub type ReadHalf<S = Transport> = ws_proto::drive::ReadHalf<Io<S>>;

/// The half of a [`WebSocket`] that sends.
pub type WriteHalf<S = Transport> = ws_proto::drive::WriteHalf<Io<S>>;

/// A [`WebSocket`] as a stream of bytes; [`AsyncIo`] brings tokio's traits.
pub type ByteStream<S = Transport> = ws_proto::drive::ByteStream<Io<S>>;

/// One message as a reader of bytes; [`AsyncIo`] brings tokio's traits.
pub type MessageReader<'a, S = Transport> = ws_proto::drive::MessageReader<'a, Io<S>>;

/// One message as a writer of bytes; [`AsyncIo`] brings tokio's traits.
pub type MessageWriter<'a, S = Transport> = ws_proto::drive::MessageWriter<'a, Io<S>>;

/// A client's opening handshake on any stream of tokio's: see [`ws_proto::drive::Handshake`] for what it does.
pub type Handshake<S> = ws_proto::drive::Handshake<Io<S>>;

pub use ws_proto::{
    Backoff, Bytes, Chunk, ClientConfig, CloseCode, Closed, Config, Connection, Error, Event, Fragment,
    HandshakeError, HeadLimits, Initiator, Message, OriginPolicy, Prepared, ProtocolError, SendError, Sender,
    ServerConfig, SlowConsumer, Text, Timer, Utf8Bytes, Version,
    drive::{Acceptor, Broadcast, Client, Clients, Failure, Handle, Peer, ReuniteError, reunite},
    handshake::{
        AcceptError, Acceptance, ConnectPhase, Proxy, ProxyError, SocksReply, UnixSocket, check,
        check_with_protocol, client_request,
    },
};
#[cfg(feature = "deflate")]
pub use ws_proto::{DeflateConfig, DeflatePool, WindowBits};
