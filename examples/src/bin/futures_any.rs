//! WebSockets over a stream of one's own, on any executor.
//!
//!     cargo run --release --bin futures_any
//!
//! All that `ws_async_std::WebSocket` asks of a stream is `AsyncRead` and `AsyncWrite` of `futures-io`. Here it is a
//! pipe in memory; it could be a serial line, a channel of SSH, or what a test fakes. No runtime is started: the two
//! sides run in this thread, and their timers are those of `async-io`.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_io::{AsyncRead, AsyncWrite};
use smol::future::try_zip;
use ws_async_std::{ClientConfig, CloseCode, Error, accept, client, client_request};

fn main() -> Result<(), Error> {
    let (ours, theirs) = Pipe::pair();
    let ((), ()) = smol::block_on(try_zip(serve(ours), talk(theirs)))?;
    Ok(())
}

async fn serve(stream: Pipe) -> Result<(), Error> {
    let (mut ws, request) = accept(stream).await?;
    println!("server: a client asks for {}", request.uri().path());
    while let Some(message) = ws.recv().await? {
        println!("server: {message:?} came");
        ws.send(message).await?;
    }
    println!("server: {:?}", ws.closed());
    Ok(())
}

async fn talk(stream: Pipe) -> Result<(), Error> {
    let request = client_request("ws://pipe/echo")?;
    let (mut ws, response) = client(stream, &request, &ClientConfig::default()).await?;
    println!("client: {}", response.status());
    ws.send("hello").await?;
    println!("client: {:?} came back", ws.recv().await?);
    ws.close(CloseCode::NORMAL, "bye").await
}

/// One end of a pipe in memory.
struct Pipe {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
}

impl Pipe {
    fn pair() -> (Self, Self) {
        let (there, back) = (Arc::<Direction>::default(), Arc::<Direction>::default());
        (Self { incoming: there.clone(), outgoing: back.clone() }, Self { incoming: back, outgoing: there })
    }
}

#[derive(Default)]
struct Direction(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    is_closed: bool,
    /// Of the end that waits for bytes, or for room.
    waiting: Option<Waker>,
}

impl Direction {
    /// How many bytes may lie in it.
    const CAPACITY: usize = 64 * 1024;

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.incoming.lock();
        if state.bytes.is_empty() && !state.is_closed {
            return state.wait(cx);
        }
        state.wake();
        Poll::Ready(state.bytes.read(buf))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.outgoing.lock();
        if state.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = Direction::CAPACITY - state.bytes.len();
        if room == 0 {
            return state.wait(cx);
        }
        state.wake();
        Poll::Ready(state.bytes.write(&buf[..buf.len().min(room)]))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}
