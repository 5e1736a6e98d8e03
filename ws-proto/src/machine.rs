//! [`Machine`]: the side of a state machine that its driver sees, bytes and time.

use std::{io::IoSlice, time::Instant};

use crate::timer::Timer;

/// What a driver does with a handshake or a connection: carry bytes and tell the time.
///
/// The contract, for any driver over any kind of socket:
///
/// 1. Look at what came: [`Connection::advance`](crate::Connection::advance) until it is `false`.
/// 2. While it [`wants_write`](Self::wants_write), write [`output`](Self::output) to the socket, and
///    [`consume`](Self::consume) as much as it took. If 1 stopped for want of room and there is some, go back to it.
/// 3. If it [`wants_read`](Self::wants_read), read into [`recv_space`](Self::recv_space), then
///    [`handle_input`](Self::handle_input) or [`handle_eof`](Self::handle_eof), and start again.
/// 4. If it [`wants_shutdown`](Self::wants_shutdown), shut down the sending half of the socket.
/// 5. With nothing to do, ask [`poll_timeout`](Self::poll_timeout) and wait: for the socket to be readable
///    (3, if it [`wants_read`](Self::wants_read)), to be writable (2, if it [`wants_write`](Self::wants_write)), or
///    for the deadline ([`handle_timeout`](Self::handle_timeout)). Then start again.
/// 6. Once it [`is_ended`](Self::is_ended), write what output is left without waiting, and drop the socket.
///
/// Any order is safe, as long as `handle_input` follows its `recv_space` at once, and a wait follows 1 and 2 (a
/// blocking read is one); this order has the least latency.
/// [`Driver`](crate::drive::Driver) is this list as code.
pub trait Machine {
    /// Where the next read goes. Not empty while [`wants_read`](Self::wants_read). What it holds is arbitrary.
    fn recv_space(&mut self) -> &mut [u8];

    /// The first `len` bytes of [`recv_space`](Self::recv_space) were filled, which was the call before. Time is
    /// taken once a read.
    ///
    /// # Panics
    ///
    /// If `len` is more than the space.
    fn handle_input(&mut self, len: usize, now: Instant);

    /// The peer closed its half, or reading failed: nothing more will come. What came before still counts.
    fn handle_eof(&mut self, now: Instant);

    /// Writing failed: nothing more can be sent, but what the peer sent may still be read.
    fn handle_write_error(&mut self, now: Instant);

    /// The socket holds back some of what it took (TLS and other buffers do), or has passed it all on. Until then it
    /// counts as not written. A plain socket holds nothing back.
    fn handle_held(&mut self, held: bool);

    /// A deadline may have passed. Early and late calls are harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// Whether [`output`](Self::output) is pending, so that a wait is for the socket to be writable, too.
    fn wants_write(&self) -> bool;

    /// Fills `slices` with pending output, for one vectored write, and gives their number; 0 if there is none.
    fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize;

    /// The socket took the first `len` bytes of [`output`](Self::output).
    ///
    /// # Panics
    ///
    /// If `len` is more than the output that is pending.
    fn consume(&mut self, len: usize);

    /// When to call [`handle_timeout`](Self::handle_timeout), and why; to be asked before each wait.
    ///
    /// It takes the time because some deadlines begin with the wait: output that is pending is output the
    /// socket did not take. And memory that is not needed while waiting is given back.
    fn poll_timeout(&mut self, now: Instant) -> Option<(Instant, Timer)>;

    /// Whether reading makes sense. `false` is back-pressure, or the end.
    fn wants_read(&self) -> bool;

    /// Whether the sending half of the socket is to be shut down: true once all output is consumed and no more
    /// will come. Shutting down more than once is harmless.
    fn wants_shutdown(&self) -> bool;

    /// Whether everything is over and the socket may be dropped.
    fn is_ended(&self) -> bool;
}
