//! The link to the other servers, through Redis: one task, which connects again whenever it has to.
//!
//! What is said is told here at once, and what comes back from Redis is known by the name of its server. So what two
//! servers tell at the same time may come in another order on each; their histories are in the order of time.
//!
//! Without Redis each server goes on alone. When it is back, even empty, each server adds what it remembers.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, aio::SendError,
};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use ws_tokio::{Backoff, seed};

use crate::{App, files::File, message::Entry, room::Rooms, session::Session};

/// How often a server says that it is there, and looks who else is.
const TICK: Duration = Duration::from_secs(2);

/// How long Redis may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long somebody who comes waits for what the others know.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much waits in either direction. If it is more, the link begins anew, which makes up for it.
const QUEUE: usize = 1024;

/// What happened here.
pub(crate) enum News {
    /// Somebody wants to join this room.
    Open(String, oneshot::Sender<()>),
    /// Somebody joined or left it.
    People(String),
    /// And how many entries began here before it.
    Entry(String, Entry, u64),
    Typing(String, String),
    /// A file was added.
    File(String),
    /// Somebody wants a file that is not here.
    Fetch(String, oneshot::Sender<File>),
    /// All people have left, and the server ends.
    End(oneshot::Sender<()>),
}

/// The way to the task. Without other servers it leads nowhere.
#[derive(Default)]
pub(crate) struct Link {
    queue: Option<mpsc::Sender<News>>,
    /// Whether news were lost, as the queue was full.
    is_behind: AtomicBool,
}

impl Link {
    /// A link, and what its task takes the news from.
    pub(crate) fn new() -> (Self, mpsc::Receiver<News>) {
        let (queue, news) = mpsc::channel(QUEUE);
        (Self { queue: Some(queue), is_behind: AtomicBool::new(false) }, news)
    }

    pub(crate) fn send(&self, news: News) {
        if let Some(queue) = &self.queue
            && queue.try_send(news).is_err()
        {
            self.is_behind.store(true, Ordering::Relaxed);
        }
    }

    /// Has what other servers know of a room told to `rooms`, if that does not take long.
    pub(crate) async fn open(&self, rooms: &Rooms, room: &str) {
        if rooms.is_shared() {
            self.ask(|done| News::Open(room.to_owned(), done)).await;
        }
    }

    pub(crate) async fn fetch(&self, id: &str) -> Option<File> {
        self.ask(|file| News::Fetch(id.to_owned(), file)).await
    }

    /// Tells the others that this server is gone.
    pub(crate) async fn end(&self) {
        self.ask(News::End).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> News) -> Option<T> {
        self.queue.as_ref()?;
        let (sender, answer) = oneshot::channel();
        self.send(question(sender));
        timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

/// The client of a Redis at this URL, which need not be there yet.
pub(crate) fn client(url: &str) -> RedisResult<Client> {
    let info = url.into_connection_info()?;
    // In version 3 what was subscribed to comes on the same connection as answers.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))
}

/// Holds the link for as long as the process lasts.
pub(crate) async fn run(client: Client, mut news: mpsc::Receiver<News>, app: &App) {
    let [min, max, reset_after] = [250, 5000, 10_000].map(Duration::from_millis);
    let backoff = Backoff { min, max, reset_after, ..Backoff::default() };
    let mut waits = 0;
    loop {
        let start = Instant::now();
        let Err(error) = session(&client, &mut news, app).await else { return };
        if app.rooms.is_shared() || waits == 0 {
            eprintln!("cut off from the others: {error}");
        }
        app.rooms.set_shared(false);
        waits = if start.elapsed() > backoff.reset_after { 0 } else { waits + 1 };
        let part = seed().map_or(255, |seed| seed[0]);
        discard(&mut news, sleep(backoff.longest(waits) * u32::from(part) / 255)).await;
    }
}

/// Waits for something, while there is nobody whom news could be told.
async fn discard<T>(news: &mut mpsc::Receiver<News>, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        select! {
            result = &mut wait => return result,
            Some(_) = news.recv() => {}
        }
    }
}

/// From one connection to its end; it succeeds once the server has ended.
async fn session(client: &Client, news: &mut mpsc::Receiver<News>, app: &App) -> RedisResult<()> {
    let (sender, mut pushes) = mpsc::channel(QUEUE);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT))
        .set_push_sender(until_full(sender));
    let redis = discard(news, client.get_multiplexed_async_connection_with_config(&config)).await?;
    app.link.is_behind.store(false, Ordering::Relaxed);
    let mut session = Session::begin(redis, &app.rooms, &app.files).await?;
    app.rooms.set_shared(true);

    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            Some(news) = news.recv() => {
                if session.handle_news(news).await?.is_break() {
                    return Ok(());
                }
            }
            push = pushes.recv() => match push {
                Some(push) => session.handle_push(push),
                None => return Err(lost("the connection ended, or too much came")),
            },
            _ = ticks.tick() => {
                if app.link.is_behind.load(Ordering::Relaxed) {
                    return Err(lost("too much waited"));
                }
                session.refresh().await?;
            }
        }
    }
}

fn lost(why: &'static str) -> RedisError {
    (ErrorKind::Io, why).into()
}

/// Passes on what Redis pushes, until the connection ends or the queue is full: then the queue ends, too.
fn until_full(sender: mpsc::Sender<PushInfo>) -> impl Fn(PushInfo) -> Result<(), SendError> {
    let sender = Mutex::new(Some(sender));
    move |push| {
        let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        let is_end = push.kind == PushKind::Disconnection;
        if is_end || sender.as_ref().is_some_and(|sender| sender.try_send(push).is_err()) {
            *sender = None;
        }
        Ok(())
    }
}
