//! [`Clients`]: connections that can be counted, addressed and broadcast to from anywhere.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use super::{
    Socket, WebSocket,
    shared::{Mail, Member},
};
use crate::{
    close::{self, CloseCode},
    config::SlowConsumer,
    error::SendError,
    message::Message,
    send::Prepared,
};

/// The connections of a server, or any other set of them, for tasks that do not own them.
///
/// A connection is in it from [`insert`](Self::insert) until its [`WebSocket`] is dropped. A clone is the same set.
///
/// ```
/// # use ws_proto::{Prepared, drive::{Clients, Socket, WebSocket}};
/// # fn example(mut ws: WebSocket<impl Socket + Send + 'static>) {
/// let clients = Clients::default();
/// let client = clients.insert(&mut ws);
/// // In any task, while another one is in `ws.recv()`:
/// client.send("hello").ok();
/// let news = Prepared::new("it is noon"); // encoded once, and compressed once
/// let reached = clients.broadcast(&news);
/// println!("{} of {} have it", reached.sent, clients.len());
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Clients {
    registry: Arc<Registry>,
}

#[derive(Default)]
struct Registry {
    slow: SlowConsumer,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// By their ids, so in the order in which they came: near in time is near in memory, the system's, too.
    members: BTreeMap<u64, Arc<dyn Member>>,
    /// All of them in a row, once somebody asked since the last of them came or left.
    row: Option<Arc<[Client]>>,
    /// Places held for handshakes.
    reserved: usize,
    /// Streams that are being refused.
    refused: usize,
    next_id: u64,
    /// Who waits for the end of the last one.
    waiting: Vec<Waker>,
}

/// How many clients a broadcast reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// Clients that were sent the message.
    pub sent: usize,
    /// Slow clients that missed it.
    pub skipped: usize,
    /// Slow clients that are being disconnected for it.
    pub disconnected: usize,
}

impl Clients {
    /// An empty set with this policy for slow clients.
    pub fn new(slow: SlowConsumer) -> Self {
        Self { registry: Arc::new(Registry { slow, entries: Mutex::default() }) }
    }

    /// Takes a connection into the set, until the `WebSocket` is dropped. It stays in the sets it is in, the one of its
    /// server for instance.
    pub fn insert<K: Socket + Send + 'static>(&self, ws: &mut WebSocket<K>) -> Client {
        let mut here = ws.memberships().iter().filter(|place| Arc::ptr_eq(&place.registry, &self.registry));
        if let Some(client) = here.next().and_then(Membership::client) {
            return client;
        }
        self.insert_into(self.reserve(usize::MAX, 0).expect("no set is so large"), ws)
    }

    /// A place for one more connection: a free one if there are fewer than `max`, else one to refuse it from, of which
    /// there are `max_refused`.
    pub(super) fn reserve(&self, max: usize, max_refused: usize) -> Option<Place> {
        let mut entries = self.registry.lock();
        let is_free = entries.members.len() + entries.reserved < max;
        let (taken, limit) =
            if is_free { (&mut entries.reserved, max) } else { (&mut entries.refused, max_refused) };
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Place { registry: Some(Arc::clone(&self.registry)), is_free })
    }

    /// As [`insert`](Self::insert), into a place that was reserved.
    pub(super) fn insert_into<K: Socket + Send + 'static>(
        &self,
        mut place: Place,
        ws: &mut WebSocket<K>,
    ) -> Client {
        let member: Arc<dyn Member> = ws.share();
        let mut entries = self.registry.lock();
        // Under one lock, so that nobody finds the place free, or taken twice, in between.
        if place.registry.take().is_some() {
            entries.reserved -= 1;
        }
        let id = entries.next_id;
        entries.next_id += 1;
        entries.members.insert(id, Arc::clone(&member));
        entries.row = None;
        drop(entries);
        ws.join(Membership { registry: Arc::clone(&self.registry), id });
        Client { id, member }
    }

    /// The number of connections, those among them that are closing.
    pub fn len(&self) -> usize {
        self.registry.lock().members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The clients that are there at this moment, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Client> + use<> {
        let row = self.row();
        (0..row.len()).map(move |i| row[i].clone())
    }

    fn row(&self) -> Arc<[Client]> {
        let Entries { members, row, .. } = &mut *self.registry.lock();
        let client = |(&id, member): (&u64, &Arc<_>)| Client { id, member: Arc::clone(member) };
        Arc::clone(row.get_or_insert_with(|| members.iter().map(client).collect()))
    }

    /// The client with this [`id`](Client::id), unless it has left.
    pub fn get(&self, id: u64) -> Option<Client> {
        self.registry.get(id)
    }

    /// Sends a message to all of them, waiting for none; [`broadcast_to`](Self::broadcast_to) leaves some out.
    pub fn broadcast(&self, message: &Prepared) -> Broadcast {
        self.send_to(&self.row(), message)
    }

    /// Sends a message to some, by the same policy.
    ///
    /// ```
    /// # use ws_proto::{Prepared, drive::{Client, Clients}};
    /// # fn example(clients: &Clients, author: &Client) {
    /// let others = clients.iter().filter(|client| client.id() != author.id());
    /// clients.broadcast_to(others, &Prepared::new("hello, everybody else"));
    /// # }
    /// ```
    pub fn broadcast_to(&self, clients: impl IntoIterator<Item = Client>, message: &Prepared) -> Broadcast {
        self.send_to(&clients.into_iter().collect::<Vec<_>>(), message)
    }

    fn send_to(&self, clients: &[Client], message: &Prepared) -> Broadcast {
        let mut reached = Broadcast::default();
        for clients in clients.chunks(TOUCHED) {
            for client in clients {
                client.member.touch();
            }
            for client in clients {
                match (client.send_prepared(message), self.registry.slow) {
                    (Ok(()), _) => reached.sent += 1,
                    (Err(SendError::Full), SlowConsumer::Skip) => reached.skipped += 1,
                    (Err(SendError::Full), SlowConsumer::Disconnect) => {
                        reached.disconnected += 1;
                        let _ = client.close(CloseCode::TRY_AGAIN_LATER, "too slow");
                    }
                    // It is leaving.
                    (Err(_), _) => {}
                }
            }
        }
        reached
    }

    /// Closes all of them.
    ///
    /// # Errors
    ///
    /// As [`Client::close`], for a code or reason that must not be sent.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        close::ClosePayload::new(code, reason)?;
        for client in self.iter() {
            let _ = client.close(code, reason);
        }
        Ok(())
    }

    /// Waits until the set is empty.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn emptied(&self) {
        let mut waiting = Waiting { registry: &self.registry, waker: None };
        poll_fn(|cx| waiting.poll(cx)).await;
    }
}

/// A future that waits for the end of the last connection.
struct Waiting<'a> {
    registry: &'a Registry,
    /// Its entry among those who wait; no other entry is equal, though it be of the same task.
    waker: Option<Waker>,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.leave();
        let mut entries = self.registry.lock();
        if entries.members.is_empty() {
            return Poll::Ready(());
        }
        let waker = Waker::from(Arc::new(Own(cx.waker().clone())));
        entries.waiting.push(waker.clone());
        self.waker = Some(waker);
        Poll::Pending
    }

    fn leave(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.registry.lock().waiting.retain(|other| !other.will_wake(&waker));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

struct Own(Waker);

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: u64) -> Option<Client> {
        let member = Arc::clone(self.lock().members.get(&id)?);
        Some(Client { id, member })
    }
}

/// A place for a connection whose handshake goes on, given up when dropped.
pub(super) struct Place {
    /// Until a connection has taken it.
    registry: Option<Arc<Registry>>,
    is_free: bool,
}

impl Place {
    /// Whether it is there to be taken, not only to be refused from.
    pub(super) fn is_free(&self) -> bool {
        self.is_free
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(registry) = &self.registry {
            let mut entries = registry.lock();
            *(if self.is_free { &mut entries.reserved } else { &mut entries.refused }) -= 1;
        }
    }
}

/// A place in a set of clients, given up when dropped.
pub(super) struct Membership {
    registry: Arc<Registry>,
    id: u64,
}

impl Membership {
    pub(super) fn client(&self) -> Option<Client> {
        self.registry.get(self.id)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        let member = entries.members.remove(&self.id);
        let row = entries.row.take();
        let waiting =
            if entries.members.is_empty() { std::mem::take(&mut entries.waiting) } else { Vec::new() };
        drop(entries);
        drop((member, row));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A connection, for tasks that do not own it.
///
/// What it sends is queued between whole messages of the owner, and written at once while the owner waits in a method
/// of its [`WebSocket`]; else when the owner next calls one. Nothing here waits.
#[derive(Clone)]
pub struct Client {
    id: u64,
    member: Arc<dyn Member>,
}

impl Client {
    /// A number that no other client of the same [`Clients`] has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] while the output queue is at its high-water mark, [`SendError::Closed`] once the connection
    /// closes.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.member.post(Mail::Message(message.into()))
    }

    /// Sends a message that was encoded beforehand.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_prepared(&self, message: &Prepared) -> Result<(), SendError> {
        self.member.post(Mail::Prepared(message.clone()))
    }

    /// Closes: queues a Close frame behind what was sent. The owner's `recv` goes on to the end. What waits for the
    /// last fragment of a message of the owner is lost.
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCode`] and [`SendError::ControlTooLong`] for a code or reason that must not be sent,
    /// [`SendError::Closed`] if it closes already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        close::ClosePayload::new(code, reason)?;
        self.member.post(Mail::Close(code, reason.to_owned()))
    }

    /// Ends the connection without a closing handshake: the owner's `recv` fails with
    /// [`Error::Abnormal`](crate::Error::Abnormal).
    pub fn terminate(&self) {
        let _ = self.member.post(Mail::Terminate);
    }

    /// Bytes that wait to be written. What waits for the owner to be queued counts with the memory it takes.
    pub fn buffered_amount(&self) -> usize {
        self.member.buffered_amount()
    }

    /// Whether messages may still be sent.
    pub fn is_open(&self) -> bool {
        self.member.is_open()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How many clients a broadcast touches before it sends to them: memory that is far away comes for all of them at the
/// time it takes for one.
const TOUCHED: usize = 16;
