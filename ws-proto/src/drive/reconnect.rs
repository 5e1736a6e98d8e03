//! [`Reconnect`]: connections one after the other, for clients that must stay up.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use http::{Request, Response};

use super::{Connect, Connector, WebSocket};
use crate::{
    backoff::{Backoff, Waits},
    error::Error,
};

/// Connections to one server, one after the other (RFC 6455 section 7.2.3).
///
/// The first attempt is made at once. After a failed one, and after a connection that was lost, the next waits as
/// [`Backoff`] says. Each failure is told, and so is each connection: what an application had said on the one before,
/// it may have to say again.
///
/// It is over after an error that is [permanent](Error::is_permanent): a URL that is none, 401, 403 or 404 will be the
/// same the next time, and asking for ever would help nobody. [`give_up_if`](Self::give_up_if) decides otherwise.
///
/// ```
/// # use ws_proto::{Error, drive::{Connect, Connector}};
/// # async fn example<C: Connect>() -> Result<(), Error> {
/// let mut connections = Connector::<C>::default().reconnect("wss://example.com/feed")?;
/// while let Some(attempt) = connections.next().await {
///     match attempt {
///         Ok((mut ws, _response)) => {
///             while let Ok(Some(message)) = ws.recv().await {
///                 println!("{message:?}");
///             }
///         }
///         Err(error) => eprintln!("not connected: {error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Reconnect<C: Connect> {
    connector: Connector<C>,
    request: Request<()>,
    waits: Waits,
    give_up: fn(&Error) -> bool,
    state: State<C>,
}

enum State<C: Connect> {
    /// No attempt was made.
    New,
    /// The last attempt is over.
    Idle,
    /// It waits and connects; `next` may be dropped meanwhile.
    Trying(Attempt<C>),
    GivenUp,
}

type Attempt<C> = Pin<Box<dyn Future<Output = Made<C>> + Send>>;
type Made<C> = Result<(WebSocket<<C as Connect>::Socket>, Response<()>), Error>;

impl<C: Connect> Reconnect<C> {
    /// Connects as this connector, with this request, and the default [`Backoff`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system has no randomness.
    pub fn new(connector: Connector<C>, request: Request<()>) -> Result<Self, Error> {
        let waits = Waits::new(Backoff::default(), C::seed()?);
        Ok(Self { connector, request, waits, give_up: Error::is_permanent, state: State::New })
    }

    /// Waits in this way.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.waits.set_backoff(backoff);
        self
    }

    /// Decides which errors are the last. `|_| false` never gives up.
    #[must_use]
    pub fn give_up_if(mut self, give_up: fn(&Error) -> bool) -> Self {
        self.give_up = give_up;
        self
    }

    /// The next connection, to be asked for when there is none yet or the last was lost; or why an attempt failed.
    /// `None` after the error that was the last.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on with the same wait and the same attempt. In between it stands still.
    pub async fn next(&mut self) -> Option<Made<C>> {
        poll_fn(|cx| self.poll_made(cx)).await
    }

    fn poll_made(&mut self, cx: &mut Context<'_>) -> Poll<Option<Made<C>>> {
        loop {
            match &mut self.state {
                State::GivenUp => return Poll::Ready(None),
                State::Trying(attempt) => {
                    let made = ready!(attempt.as_mut().poll(cx));
                    let given_up = made.as_ref().is_err_and(self.give_up);
                    self.state = if given_up { State::GivenUp } else { State::Idle };
                    if made.is_ok() {
                        self.waits.handle_open(C::now());
                    }
                    return Poll::Ready(Some(made));
                }
                State::New => self.state = State::Trying(self.attempt(false)),
                State::Idle => self.state = State::Trying(self.attempt(true)),
            }
        }
    }

    fn attempt(&mut self, wait: bool) -> Attempt<C> {
        let now = C::now();
        let start = wait.then(|| now + self.waits.next(now));
        let (connector, request) = (self.connector.clone(), self.request.clone());
        Box::pin(async move {
            if let Some(start) = start {
                C::sleep_until(start).await;
            }
            connector.connect_request(request).await
        })
    }
}

/// As [`Reconnect::next`].
impl<C: Connect> Stream for Reconnect<C> {
    type Item = Made<C>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_made(cx)
    }
}

impl<C: Connect> Unpin for Reconnect<C> {}

impl<C: Connect> fmt::Debug for Reconnect<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect").field("request", &self.request.uri()).finish_non_exhaustive()
    }
}
