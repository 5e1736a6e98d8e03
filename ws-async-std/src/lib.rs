#![doc = include_str!("../README.md")]
//!
//! ```text
//!   Server ─────► handshakes, ─┐                          ┌─ recv, recv_ref, recv_chunk
//!                 Acceptor     ├─► WebSocket<S> ──────────┼─ send, feed, flush, ping, close
//!   connect ────► handshake,  ─┘       │                  └─ split ─► ReadHalf, WriteHalf
//!   Connector     TLS, proxies         │
//!                                      └─ Clients, Client: from other tasks
//! ```
//!
//! # Where to begin
//!
//! | to | see |
//! | --- | --- |
//! | serve | [`Server`]; its methods are at [`ws_proto::drive::Server`] |
//! | judge requests | [`Acceptor::verify`]; [`ServerConfig`]: path, subprotocols, origins, limits |
//! | reach clients from other tasks, or all of them | [`Clients`], [`Client`], [`Prepared`] |
//! | end | [`Handle::shutdown`] |
//! | accept on a stream of one's own | [`accept`], [`accept_with`], [`Handshake`] |
//! | connect | [`connect`], [`Connector`], [`Reconnect`]; [`client`] on a stream of one's own |
//! | receive and send | [`WebSocket`]; its methods are at [`ws_proto::drive::WebSocket`] |
//!
//! # Cancel safety
//!
//! Every future of a [`WebSocket`] can be dropped at any await, by `select!` for instance: no message that arrived is
//! lost, none is sent twice or in part. A message whose `send` was dropped while it waited for room is not sent; once
//! it is queued, it is. Futures that own what they work on (`accept`, `connect`) drop it with them.
//!
//! Nothing is spawned for a connection, so pings are answered and deadlines kept while a method is awaited: a task
//! that has nothing else to do should be in `recv`.
//!
//! # Limits
//!
//! All are on by default: messages of 16 MiB ([`Config::max_message`]), a queue of 256 KiB ([`Config::high_water`]),
//! a ping after 20 s of silence, deadlines of 10 s for the handshake and the end, of 30 s for a peer that takes no
//! byte. Not limited are the number of connections ([`ServerConfig::max_connections`]) and messages a second. Origins
//! are not checked unless [`ServerConfig::origins`] says so.
//!
//! # Errors
//!
//! [`Error`] says by whose fault. `recv` gives an error once, after all messages that came before it, and `None` from
//! then on; after a closing handshake it gives `None` at once, and [`closed`](ws_proto::drive::WebSocket::closed) has
//! the code.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `deflate` (default) | permessage-deflate (RFC 7692): `DeflateConfig` |
//! | `rustls` | TLS: `Listener::with_tls`, `Connector::tls`; `wss` URLs with roots of one's own |
//! | `rustls-native-roots`, `rustls-webpki-roots` | whom clients trust: the platform's roots, or Mozilla's |
//! | `tracing` | events for the crate `tracing`, target `ws` |
//!
//! # What is not here
//!
//! Upgrades of hyper and axum, which run on tokio. Routes, rooms, sessions, rate limits; `native-tls`; other
//! extensions than permessage-deflate.
//!
//! More is in `docs/` of the repository: moving from other libraries, back-pressure, authentication, compression,
//! testing, nginx, many machines.

mod bytes;
mod client;
mod io;
mod server;
#[cfg(feature = "rustls")]
mod tls;
mod transport;

pub use bytes::AsyncIo;
pub use client::{AsyncStd, Connector, Reconnect, Tls, client, connect, connect_with, seed};
#[cfg(feature = "rustls")]
pub use futures_rustls::rustls;
pub use io::Io;
pub use server::{Listener, accept, accept_with};
pub use transport::{AsyncSocket, Transport};

/// A WebSocket connection over any stream of `futures-io`: see [`ws_proto::drive::WebSocket`] for what it does.
///
/// It relies on `poll_close` to shut down the sending half, which `async_io::Async` and the streams of async-std leave
/// undone: the first become a [`Transport`], the others an `Async` before that.
pub type WebSocket<S = Transport> = ws_proto::drive::WebSocket<Io<S>>;

/// A listening WebSocket server: see [`ws_proto::drive::Server`] for what it does.
pub type Server = ws_proto::drive::Server<Listener>;

/// The half of a [`WebSocket`] that receives.
pub type ReadHalf<S = Transport> = ws_proto::drive::ReadHalf<Io<S>>;

/// The half of a [`WebSocket`] that sends.
pub type WriteHalf<S = Transport> = ws_proto::drive::WriteHalf<Io<S>>;

/// A [`WebSocket`] as a stream of bytes; [`AsyncIo`] brings the traits of `futures-io`.
pub type ByteStream<S = Transport> = ws_proto::drive::ByteStream<Io<S>>;

/// One message as a reader of bytes; [`AsyncIo`] brings the traits of `futures-io`.
pub type MessageReader<'a, S = Transport> = ws_proto::drive::MessageReader<'a, Io<S>>;

/// One message as a writer of bytes; [`AsyncIo`] brings the traits of `futures-io`.
pub type MessageWriter<'a, S = Transport> = ws_proto::drive::MessageWriter<'a, Io<S>>;

/// A client's opening handshake on any stream of `futures-io`: see [`ws_proto::drive::Handshake`] for what it does.
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
    http,
};
#[cfg(feature = "deflate")]
pub use ws_proto::{DeflateConfig, DeflatePool, WindowBits};
