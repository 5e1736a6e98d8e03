//! Machines driven over asynchronous sockets, the same for every runtime.
//!
//! An adapter brings its runtime's streams and timer as a [`Socket`], as [`Connect`] how a client opens them and as
//! [`Listen`] how a server does. All else is here:
//!
//! - the loop: [`Driver`];
//! - the connection that an application holds ([`WebSocket`]), splits ([`ReadHalf`], [`WriteHalf`]) or reaches from
//!   elsewhere ([`Clients`]), and its messages as bytes ([`MessageReader`], [`MessageWriter`], [`ByteStream`]);
//! - a server: its rules ([`Acceptor`]), its listener and its end ([`Server`]), one handshake ([`Handshake`]);
//! - the way to a server: [`Connector`], [`Reconnect`], or [`client`] over a stream that is there.

mod acceptor;
mod byte_stream;
mod clients;
mod connect;
mod driver;
mod endpoint;
mod handshake;
mod message;
mod reconnect;
mod server;
mod shared;
mod split;
mod tasks;
mod trace;
mod websocket;

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, Waker},
    time::Instant,
};

pub use acceptor::{Acceptor, Failure, Peer};
pub use byte_stream::ByteStream;
pub use clients::{Broadcast, Client, Clients};
pub use connect::{Connect, Connector, NoTls};
pub use driver::Driver;
pub use handshake::{Handshake, client};
pub use message::{MessageReader, MessageWriter, ReadBytes, WriteBytes};
pub use reconnect::Reconnect;
pub use server::{Bind, Handle, Listen, Server, bind_first};
pub use split::{ReadHalf, ReuniteError, WriteHalf, reunite};
pub use websocket::WebSocket;

/// What a runtime gives: a socket, a clock and a timer. The methods follow the rules of `std::task`: one that is
/// pending has arranged for the task to be woken.
pub trait Socket {
    /// The stream of the runtime that it carries bytes over.
    type Stream;

    /// A socket over this stream. Its timer need not exist before the first deadline.
    fn new(stream: Self::Stream) -> Self;

    /// The stream.
    fn stream(&self) -> &Self::Stream;

    /// The stream, to set its options.
    fn stream_mut(&mut self) -> &mut Self::Stream;

    /// The stream, at the end.
    fn into_stream(self) -> Self::Stream;

    /// Reads into `buf`; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from the slices in order, or from the first alone.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Passes on what the socket holds back, where it is no plain socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Shuts down the sending half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether several slices leave in one write.
    fn is_vectored(&self) -> bool;

    /// The time.
    fn now(&self) -> Instant;

    /// Ready once the deadline has passed, which it had not by [`now`](Self::now) a moment ago.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;

    /// Asks something that is not to wait, outside the task that the socket belongs to: what is pending arranges
    /// nothing. A runtime that limits how much one task may do has to lift that here.
    fn outside_tasks<T>(ask: impl FnOnce(&mut Context<'_>) -> T) -> T {
        ask(&mut Context::from_waker(Waker::noop()))
    }
}
