#![doc = include_str!("../README.md")]
//!
//! ```text
//!               ┌────────────────────┐
//!   bytes in ──►│  ServerHandshake,  │──► advance, event    messages
//!  bytes out ◄──│  ClientHandshake;  │◄── sender, close     commands
//!       time ──►│  then Connection   │──► closed, fault     how it ended
//!               └────────────────────┘
//!       Machine: what a driver sees      what an application sees
//! ```
//!
//! # Where to begin
//!
//! | to | see |
//! | --- | --- |
//! | use WebSockets under tokio, smol or async-std | the crates `ws-tokio` and `ws-async-std`, not this one |
//! | drive a connection in a loop of one's own | [`Machine`], the contract; [`Connection`]; `docs/sans-io.md` |
//! | do the opening handshake | [`handshake::ServerHandshake`], [`handshake::ClientHandshake`] |
//! | judge a request that other code read | [`handshake::check`] |
//! | set limits and deadlines | [`Config`], [`ServerConfig`], [`ClientConfig`] |
//! | send | [`Sender`]; [`Prepared`] for one message to many |
//! | write an adapter for another runtime | [`drive`], and its traits `Socket`, `Listen` and `Connect` |
//!
//! A server's connection whose handshake is over, from bytes to an event:
//!
//! ```
//! use std::time::Instant;
//! use ws_proto::{Config, Connection, Event, Machine};
//!
//! let mut connection = Connection::server(&Config::default(), Instant::now());
//! // "hi" in one frame of a client, masked with zeros.
//! let bytes = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
//! connection.recv_space()[..bytes.len()].copy_from_slice(&bytes);
//! connection.handle_input(bytes.len(), Instant::now());
//! assert!(connection.advance());
//! assert_eq!(connection.event(), Some(Event::Text("hi".into())));
//! ```
//!
//! # What it does by itself
//!
//! Pings are answered; a silent peer is pinged, and given up if it stays silent; a peer that breaks a rule is told
//! which, by the code of a Close frame; the closing handshake goes on to the end of TCP. All of it is done by the
//! calls that a driver makes anyway.
//!
//! # Limits
//!
//! All have defaults fit for the open internet, in bytes and [`Duration`](std::time::Duration)s: a message of 16 MiB
//! ([`Config::max_message`]), a queue of 256 KiB ([`Config::high_water`]), heads of 16 KiB ([`HeadLimits`]),
//! deadlines of 10 to 30 seconds for everything that a peer may delay. `SECURITY.md` in the repository lists what a
//! peer can do, what bounds it, and what happens at the bound.
//!
//! # Errors
//!
//! By whose fault: [`ProtocolError`], the peer's; [`SendError`], the caller's, after which nothing has changed;
//! [`HandshakeError`], the opening handshake's. [`Error`] holds them all, and what only adapters meet. The connection
//! remembers a fault of the peer ([`Connection::fault`]) and how it ended ([`Connection::closed`]); `advance` has no
//! result to be forgotten.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `deflate` (default) | permessage-deflate (RFC 7692): `DeflateConfig` |
//! | `tracing` | events for the crate `tracing`, target `ws`: `debug` for connections, `warn` for listeners |
//! | `rustls`, `rustls-webpki-roots` | how rustls is set up, for adapters: `tls` |
//!
//! # What is not here
//!
//! Sockets, threads, clocks, randomness: they are arguments. `no_std`: it takes an allocator, and buffers that belong
//! to a thread. Extensions other than permessage-deflate. HTTP beyond the head of one request.

mod backoff;
mod buffer;
mod close;
mod closing;
mod config;
mod connection;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "deflate/off.rs"]
mod deflate;
pub mod drive;
mod error;
mod frame;
#[cfg(all(feature = "deflate", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
mod machine;
mod message;
mod recv;
mod send;
mod timer;
#[cfg(feature = "rustls")]
pub mod tls;

pub use backoff::Backoff;
pub use bytes::Bytes;
pub use close::{CloseCode, Closed, Initiator};
pub use config::{ClientConfig, Config, HeadLimits, OriginPolicy, Role, ServerConfig, SlowConsumer, Version};
pub use connection::{Connection, Fault};
#[cfg(feature = "deflate")]
pub use deflate::{DeflateConfig, DeflatePool, WindowBits};
pub use error::{Error, ProtocolError, SendError};
pub use handshake::HandshakeError;
pub use http;
pub use machine::Machine;
pub use message::{Chunk, Event, Message, Text, Utf8Bytes};
#[cfg(feature = "rustls")]
pub use rustls;
pub use send::{Fragment, Prepared, Sender};
pub use timer::Timer;
