#![doc = include_str!("../README.md")]

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
