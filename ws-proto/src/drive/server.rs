//! [`Server`]: a listener, an [`Acceptor`], and what becomes of the connections.

use std::{
    collections::VecDeque,
    fmt,
    future::{poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use core::net::SocketAddr;
use http::Request;

use super::{
    Acceptor, Clients, Peer, Socket, WebSocket,
    driver::{MAX_ROUNDS, yield_now},
    tasks::Tasks,
};
use crate::{
    close::{CloseCode, ClosePayload},
    error::SendError,
    handshake::HandshakeError,
};

/// What a runtime gives to a server: a listener, a timer, and a place for futures to run.
pub trait Listen: Sized {
    /// The sockets of its connections.
    type Socket: Socket<Stream: Send> + Send + 'static;

    /// The address it listens at.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next stream that a client has opened, and who is at its other end.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream<Self>, Peer)>>;

    /// Makes the stream ready for HTTP: by TLS, if there is to be any.
    fn open(&self, stream: Stream<Self>) -> impl Future<Output = io::Result<Stream<Self>>> + Send + 'static {
        ready(Ok(stream))
    }

    /// Waits.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + 'static;

    /// Runs a future to its end.
    fn spawn(future: impl Future<Output = ()> + Send + 'static);
}

type Stream<L> = <<L as Listen>::Socket as Socket>::Stream;

/// How a listener is made of an address.
pub trait Bind<A>: Listen {
    /// Listens at an address, with this backlog.
    fn bind(address: A, backlog: u32) -> impl Future<Output = io::Result<Self>> + Send;
}

/// A listener at the first of these addresses that can be had.
///
/// # Errors
///
/// What is said against the last, or [`io::ErrorKind::InvalidInput`] if there is none.
pub fn bind_first<T>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for bound in addresses.into_iter().map(bind) {
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A listening WebSocket server.
///
/// Each handshake runs in a future of its own, so that a slow client holds nobody up. For the handshake itself in one's
/// own hands, accept streams oneself and see [`Handshake`](super::Handshake).
///
/// ```
/// # use ws_proto::{CloseCode, drive::{Listen, Server, WebSocket}};
/// # async fn example<L: Listen>(server: Server<L>) {
/// let handle = server.handle();
/// // Elsewhere, when it is time to stop:
/// # drop(async move {
/// handle.shutdown(CloseCode::GOING_AWAY, "", std::time::Duration::from_secs(5)).ok();
/// # });
///
/// server
///     .serve(|mut ws, request| async move {
///         println!("{} from {:?}", request.uri(), request.extensions().get::<ws_proto::drive::Peer>());
///         while let Ok(Some(message)) = ws.recv().await {
///             if ws.send(message).await.is_err() {
///                 break;
///             }
///         }
///     })
///     .await;
/// # }
/// ```
pub struct Server<L: Listen> {
    /// Until it is shut down.
    listener: Option<L>,
    /// Before it tries again to accept.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    handle: Handle,
    opened: Arc<Opened<L::Socket>>,
}

impl<L: Listen> Server<L> {
    /// Listens at an address; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub async fn bind<A>(address: A, acceptor: impl Into<Acceptor>) -> io::Result<Self>
    where
        L: Bind<A>,
    {
        let acceptor = acceptor.into();
        Ok(Self::new(L::bind(address, acceptor.config().backlog).await?, acceptor))
    }

    /// Serves a listener that exists already.
    pub fn new(listener: impl Into<L>, acceptor: impl Into<Acceptor>) -> Self {
        let shutdown = Shutdown { grace: None, hurry: false, server: Waker::noop().clone() };
        let inner =
            Inner { acceptor: acceptor.into(), tasks: Arc::default(), shutdown: Mutex::new(shutdown) };
        let waiting = Waiting { connections: VecDeque::new(), server: Waker::noop().clone() };
        Self {
            listener: Some(listener.into()),
            pause: None,
            handle: Handle { inner: Arc::new(inner) },
            opened: Arc::new(Opened { waiting: Mutex::new(waiting) }),
        }
    }

    /// The address it listens at.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::NotConnected`] once it is shut down.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }

    /// A handle, to reach the connected clients and to shut the server down.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next connection, for those who own the loop; `None` once the server is shut down.
    ///
    /// Handshakes go on while this is awaited and while it is not. Those that fail are told to
    /// [`Acceptor::on_failure`] alone. An error of the listener, as a lack of file descriptors, is no reason to stop:
    /// it tries again, after a pause.
    ///
    /// # Cancel safety
    ///
    /// Safe: a connection is handed out or stays.
    pub async fn accept(&mut self) -> Option<(WebSocket<L::Socket>, Request<()>)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pair<L::Socket>>> {
        for _ in 0..MAX_ROUNDS {
            if let Poll::Ready(opened) = self.opened.poll_take(cx) {
                return Poll::Ready(Some(opened));
            }
            if self.handle.inner.shutdown(cx).grace.is_some() {
                self.listener = None;
                return Poll::Ready(None);
            }
            let (stream, peer) = ready!(self.poll_stream(cx));
            let opened = Arc::clone(&self.opened);
            self.spawn(stream, peer, |connection, request| async move { opened.put((connection, request)) });
        }
        yield_now(cx)
    }

    /// Runs `handler` for each connection, until the server is shut down; then waits for the handlers and for the
    /// handshakes under way to end, and drops those that take too long. It gives the number of these.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the listener; the handlers run on.
    pub async fn serve<H, F>(mut self, handler: H) -> usize
    where
        H: Fn(WebSocket<L::Socket>, Request<()>) -> F + Send + Sync + 'static,
        F: Future + Send,
    {
        let handler = Arc::new(handler);
        let grace = poll_fn(|cx| {
            for _ in 0..MAX_ROUNDS {
                if let Some(grace) = self.handle.inner.shutdown(cx).grace {
                    return Poll::Ready(grace);
                }
                let (stream, peer) = ready!(self.poll_stream(cx));
                let handler = Arc::clone(&handler);
                self.spawn(stream, peer, move |connection, request| handler(connection, request));
            }
            yield_now(cx)
        })
        .await;
        self.listener = None;
        let Inner { tasks, .. } = &*self.handle.inner;
        let mut grace = pin!(L::sleep(grace));
        poll_fn(|cx| {
            let is_over = tasks.poll_emptied(cx).is_ready()
                || self.handle.inner.shutdown(cx).hurry
                || grace.as_mut().poll(cx).is_ready();
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let late = tasks.len();
        tasks.drop_all();
        poll_fn(|cx| tasks.poll_emptied(cx)).await;
        late
    }

    /// The next stream, whatever the listener has to say in between.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<(Stream<L>, Peer)> {
        for _ in 0..MAX_ROUNDS {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some(listener) = &mut self.listener else { return Poll::Pending };
            match ready!(listener.poll_accept(cx)) {
                Ok(accepted) => return Poll::Ready(accepted),
                Err(error) if is_of_one_connection(&error) => {
                    self.handle.inner.acceptor.fail_stream(error.into(), &Peer::default());
                }
                Err(error) => {
                    self.pause = Some(Box::pin(L::sleep(ACCEPT_PAUSE)));
                    self.handle.inner.acceptor.fail_listener(error);
                }
            }
        }
        yield_now(cx)
    }

    /// Does the handshake on a stream, and what is to be done after it, in a future of its own.
    fn spawn<F: Future + Send>(
        &self,
        stream: Stream<L>,
        peer: Peer,
        then: impl FnOnce(WebSocket<L::Socket>, Request<()>) -> F + Send + 'static,
    ) {
        let Some(listener) = &self.listener else { return };
        let inner = Arc::clone(&self.handle.inner);
        let Some(place) = inner.acceptor.reserve() else {
            return inner.acceptor.fail_stream(HandshakeError::Unavailable.into(), &peer);
        };
        let opening = listener.open(stream);
        let tasks = Arc::clone(&inner.tasks);
        // Boxed, so that an open connection does not hold the space that its handshake took.
        let opened = Box::pin(async move {
            let limit = inner.acceptor.config().head.timeout;
            match within(opening, limit.map(|limit| move || L::sleep(limit))).await {
                Ok(stream) => inner.acceptor.accept_in(place, stream, peer).await.ok(),
                Err(error) => {
                    inner.acceptor.fail_stream(error.into(), &peer);
                    None
                }
            }
        });
        L::spawn(tasks.add(async move {
            if let Some((connection, request)) = opened.await {
                then(connection, request).await;
            }
        }));
    }
}

impl<L: Listen + fmt::Debug> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("acceptor", &self.handle.inner.acceptor)
            .finish_non_exhaustive()
    }
}

/// A running [`Server`], from outside: its clients, and its end. A clone is the same.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

impl Handle {
    /// The connected clients.
    pub fn clients(&self) -> &Clients {
        self.inner.acceptor.clients()
    }

    /// Shuts the server down: it stops to listen, answers handshakes that are under way with 503, and closes all
    /// connections with this code, 1001 (going away) as a rule. [`Server::serve`] gives the handlers so much time to
    /// end, then drops them; [`Server::accept`] gives `None`, and the connections are left to their owners.
    ///
    /// A second call ends the time at once: the connections are dropped.
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCode`] and [`SendError::ControlTooLong`] for a code or reason that must not be sent; nothing
    /// was done then.
    pub fn shutdown(&self, code: CloseCode, reason: &str, grace: Duration) -> Result<(), SendError> {
        ClosePayload::new(code, reason)?;
        let Inner { acceptor, tasks, .. } = &*self.inner;
        let mut shutdown = self.inner.lock();
        let again = shutdown.grace.is_some();
        shutdown.grace.get_or_insert(grace);
        shutdown.hurry = again;
        let server = std::mem::replace(&mut shutdown.server, Waker::noop().clone());
        drop(shutdown);
        if again {
            acceptor.clients().iter().for_each(|client| client.terminate());
        } else {
            acceptor.close(code, reason);
            tasks.wake();
        }
        server.wake();
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("clients", self.clients()).finish_non_exhaustive()
    }
}

struct Inner {
    acceptor: Acceptor,
    tasks: Arc<Tasks>,
    shutdown: Mutex<Shutdown>,
}

/// How far the end has come.
struct Shutdown {
    grace: Option<Duration>,
    hurry: bool,
    server: Waker,
}

impl Inner {
    /// How far the end has come. The server is woken when it goes on.
    fn shutdown(&self, cx: &Context<'_>) -> MutexGuard<'_, Shutdown> {
        let mut shutdown = self.lock();
        shutdown.server.clone_from(cx.waker());
        shutdown
    }

    fn lock(&self) -> MutexGuard<'_, Shutdown> {
        self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and the request that it came of.
type Pair<K> = (WebSocket<K>, Request<()>);

/// Connections that wait for [`Server::accept`], and who waits for them.
struct Opened<K> {
    waiting: Mutex<Waiting<K>>,
}

struct Waiting<K> {
    connections: VecDeque<Pair<K>>,
    server: Waker,
}

impl<K> Opened<K> {
    fn put(&self, opened: Pair<K>) {
        let mut waiting = self.lock();
        waiting.connections.push_back(opened);
        let server = waiting.server.clone();
        drop(waiting);
        server.wake();
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Pair<K>> {
        let mut waiting = self.lock();
        waiting.server.clone_from(cx.waker());
        waiting.connections.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<K>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a future gives, unless the timer that is begun when it has to wait is ready before.
async fn within<T, S: Future<Output = ()>>(
    future: impl Future<Output = io::Result<T>>,
    timer: Option<impl FnOnce() -> S>,
) -> io::Result<T> {
    let mut future = pin!(future);
    let mut timer = pin!(timer.map(|timer| async { timer().await }));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        },
    })
    .await
}

/// An error about the connection that was to be accepted, not about the listener or the process.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// How long to wait for a file descriptor to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
