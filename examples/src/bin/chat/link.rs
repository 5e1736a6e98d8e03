//! The link to the other servers, through Redis: one task, which connects again whenever it has to.
//!
//! What is said is told here at once, and what comes back from Redis is known by the name of the server. So the order of
//! messages may differ between servers until a page is loaded again; a history is in the order of time.
//!
//! | in Redis | what it is |
//! | --- | --- |
//! | channel `chat:room:ROOM` | a [`Post`] of one server, to those that have people in the room |
//! | stream `chat:history:ROOM` | the last entries |
//! | hash `chat:people:ROOM` | the people of the room, by server |
//! | key `chat:server:SERVER` | is there while the server is |
//! | hash `chat:file:ID` | a file and its name |
//!
//! Without Redis each server goes on alone. When it is back, even empty, each server merges what it remembers of its
//! rooms with what is there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Msg, ProtocolVersion,
    PushInfo, PushKind, RedisError, RedisResult,
    aio::{MultiplexedConnection, SendError},
    cmd, pipe,
};
use serde::{Deserialize, Serialize};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use ws_tokio::{Backoff, seed};

use crate::{
    App,
    files::{File, Files},
    message::{Entry, json},
    room::{MAX_HISTORY, Rooms},
};

/// How long a server that says nothing counts as there.
const EXPIRY: Duration = Duration::from_secs(10);

/// How often it says so, and looks who else is there.
const TICK: Duration = Duration::from_secs(2);

/// How long Redis may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long somebody who comes waits for what the others know.
const PATIENCE: Duration = Duration::from_secs(5);

const HISTORY_EXPIRY: Duration = Duration::from_secs(24 * 3600);

const FILE_EXPIRY: Duration = Duration::from_secs(3600);

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

/// What one server tells the others about a room.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Post {
    Entry(Entry),
    Typing(String),
    People(Vec<String>),
}

/// The way to the task. Without other servers it leads nowhere.
#[derive(Default)]
pub(crate) struct Link {
    queue: Option<mpsc::Sender<News>>,
    /// Whether news were lost.
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
    let mut session = Session { redis, rooms: &app.rooms, files: &app.files, followed: HashMap::new() };
    app.link.is_behind.store(false, Ordering::Relaxed);
    session.refresh().await?;
    for room in app.rooms.names() {
        session.follow(&room).await?;
    }
    for id in app.files.ids() {
        session.store(&id).await?;
    }
    app.rooms.set_shared(true);

    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            Some(news) = news.recv() => {
                if let News::End(done) = news {
                    session.end().await?;
                    drop(done);
                    return Ok(());
                }
                session.handle_news(news).await?;
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

/// One connection to Redis.
struct Session<'a> {
    redis: MultiplexedConnection,
    rooms: &'a Rooms,
    files: &'a Files,
    /// The rooms that are subscribed to, and how many entries had begun here by then.
    followed: HashMap<String, u64>,
}

impl Session<'_> {
    async fn handle_news(&mut self, news: News) -> RedisResult<()> {
        match news {
            News::Open(room, done) => {
                self.follow(&room).await?;
                let _ = done.send(());
            }
            News::People(room) => {
                self.follow(&room).await?;
                let people = self.rooms.people(&room);
                self.exchange_people(&room, &people).await?;
                self.publish(&room, &Post::People(people)).await?;
            }
            News::Entry(room, entry, before) => {
                // Else it was merged when the room was first followed.
                if before >= self.follow(&room).await? {
                    self.append(&room, entry).await?;
                }
            }
            News::Typing(room, name) => self.publish(&room, &Post::Typing(name)).await?,
            News::File(id) => self.store(&id).await?,
            News::Fetch(id, file) => {
                if let Some(found) = self.fetch(&id).await? {
                    let _ = file.send(found);
                }
            }
            News::End(_) => {}
        }
        Ok(())
    }

    fn handle_push(&self, push: PushInfo) {
        let Some(message) = Msg::from_push_info(push) else { return };
        let Some(room) = message.get_channel_name().strip_prefix(CHANNEL) else { return };
        match serde_json::from_slice::<(String, Post)>(message.get_payload_bytes()) {
            Ok((server, _)) if server == self.rooms.server => {}
            Ok((_, Post::Entry(entry))) => self.rooms.handle_entries(room, vec![entry]),
            Ok((_, Post::Typing(name))) => self.rooms.handle_typing_elsewhere(room, &name),
            Ok((server, Post::People(people))) => self.rooms.handle_people(room, &server, people),
            // Of a later version, perhaps.
            Err(_) => {}
        }
    }

    /// Says that this server is there, and looks who else is.
    async fn refresh(&mut self) -> RedisResult<()> {
        let key = [SERVER, &self.rooms.server].concat();
        let () = self.ask(cmd("SET").arg(key).arg(1).arg("PX").arg(millis(EXPIRY))).await?;
        for room in self.followed.keys().cloned().collect::<Vec<_>>() {
            let people = self.rooms.people(&room);
            self.exchange_people(&room, &people).await?;
            if people.is_empty() {
                self.followed.remove(&room);
                self.redis.unsubscribe([CHANNEL, &room].concat()).await?;
            }
        }
        Ok(())
    }

    /// Follows a room, if it is not followed yet: tells what is known here of it, and learns what others know. How many
    /// entries had begun here by then.
    async fn follow(&mut self, room: &str) -> RedisResult<u64> {
        if let Some(&before) = self.followed.get(room) {
            return Ok(before);
        }
        // From here on nothing is missed.
        self.redis.subscribe([CHANNEL, room].concat()).await?;
        let people = self.rooms.people(room);
        self.exchange_people(room, &people).await?;
        self.publish(room, &Post::People(people)).await?;

        let (history, before) = self.rooms.history(room);
        let mut merge = cmd("EVAL");
        merge.arg(MERGE).arg(2).arg([HISTORY, room].concat()).arg([CHANNEL, room].concat());
        merge.arg(&self.rooms.server).arg(MAX_HISTORY).arg(millis(HISTORY_EXPIRY));
        for entry in &history {
            merge.arg(json(entry));
        }
        let all: Vec<String> = self.ask(&merge).await?;
        let all = all.iter().filter_map(|entry| serde_json::from_str(entry).ok());
        self.rooms.handle_entries(room, all.collect());
        self.followed.insert(room.to_owned(), before);
        Ok(before)
    }

    /// Tells who of a room is here, and learns who is on other servers.
    async fn exchange_people(&mut self, room: &str, people: &[String]) -> RedisResult<()> {
        let people = if people.is_empty() { String::new() } else { json(&people) };
        let mut exchange = cmd("EVAL");
        exchange.arg(EXCHANGE_PEOPLE).arg(1).arg([PEOPLE, room].concat());
        exchange.arg(&self.rooms.server).arg(people).arg(SERVER).arg(millis(EXPIRY));
        let others: Vec<(String, String)> = self.ask(&exchange).await?;
        let others = others
            .into_iter()
            .filter_map(|(server, people)| Some((server, serde_json::from_str(&people).ok()?)));
        self.rooms.set_others(room, BTreeMap::from_iter(others));
        Ok(())
    }

    async fn append(&mut self, room: &str, entry: Entry) -> RedisResult<()> {
        let key = [HISTORY, room].concat();
        let mut append = pipe();
        append.atomic();
        append.cmd("XADD").arg(&key).arg("MAXLEN").arg(MAX_HISTORY).arg("*").arg("entry").arg(json(&entry));
        append.cmd("PEXPIRE").arg(&key).arg(millis(HISTORY_EXPIRY));
        append.add_command(self.publishing(room, &Post::Entry(entry)));
        append.query_async(&mut self.redis).await
    }

    async fn publish(&mut self, room: &str, post: &Post) -> RedisResult<()> {
        let publishing = self.publishing(room, post);
        self.ask(&publishing).await
    }

    fn publishing(&self, room: &str, post: &Post) -> Cmd {
        let post = json(&(&self.rooms.server, post));
        cmd("PUBLISH").arg([CHANNEL, room].concat()).arg(post).take()
    }

    /// Keeps a file for the others, if it is still there and they do not have it.
    async fn store(&mut self, id: &str) -> RedisResult<()> {
        let key = [FILE, id].concat();
        let Some(file) = self.files.get(id) else { return Ok(()) };
        if self.ask(cmd("EXISTS").arg(&key)).await? {
            return Ok(());
        }
        let mut store = pipe();
        store.atomic();
        store.cmd("HSET").arg(&key).arg("name").arg(file.name).arg("bytes").arg(&file.bytes[..]);
        store.cmd("PEXPIRE").arg(&key).arg(millis(FILE_EXPIRY));
        store.query_async(&mut self.redis).await
    }

    async fn fetch(&mut self, id: &str) -> RedisResult<Option<File>> {
        let (name, bytes): (Option<String>, Option<Vec<u8>>) =
            self.ask(cmd("HMGET").arg([FILE, id].concat()).arg("name").arg("bytes")).await?;
        Ok(name.zip(bytes).map(|(name, bytes)| File { name, bytes: bytes.into() }))
    }

    async fn end(&mut self) -> RedisResult<()> {
        self.ask(cmd("DEL").arg([SERVER, &self.rooms.server].concat())).await
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.redis).await
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

const CHANNEL: &str = "chat:room:";
const HISTORY: &str = "chat:history:";
const PEOPLE: &str = "chat:people:";
const SERVER: &str = "chat:server:";
const FILE: &str = "chat:file:";

/// Adds to a history what it does not have of a server's entries, in the order of time, and publishes that: all it has
/// then. In one step, as other servers do the same, and any of them may fail in the middle.
const MERGE: &str = "
    local history, channel = unpack(KEYS)
    local server, max, expiry = unpack(ARGV)
    local all, known = {}, {}
    local function add(json, is_new)
        local entry = cjson.decode(json)
        if not known[entry.id] then
            known[entry.id] = true
            table.insert(all, { json = json, id = entry.id, time = entry.time, is_new = is_new })
        end
    end
    for _, item in ipairs(redis.call('XRANGE', history, '-', '+')) do add(item[2][2], false) end
    for i = 4, #ARGV do add(ARGV[i], true) end
    table.sort(all, function(a, b) return a.time < b.time or a.time == b.time and a.id < b.id end)
    local kept = {}
    redis.call('DEL', history)
    for i = math.max(1, #all - max + 1), #all do
        local json = all[i].json
        table.insert(kept, json)
        redis.call('XADD', history, '*', 'entry', json)
        if all[i].is_new then
            redis.call('PUBLISH', channel, '[\"' .. server .. '\",{\"entry\":' .. json .. '}]')
        end
    end
    redis.call('PEXPIRE', history, expiry)
    return kept";

/// Sets the people of one server in a room, and gives those of the other servers that are there, in pairs.
const EXCHANGE_PEOPLE: &str = "
    local server, people, prefix, expiry = unpack(ARGV)
    redis.call('HDEL', KEYS[1], server)
    local others = {}
    local fields = redis.call('HGETALL', KEYS[1])
    for i = 1, #fields, 2 do
        if redis.call('EXISTS', prefix .. fields[i]) == 1 then
            table.insert(others, fields[i])
            table.insert(others, fields[i + 1])
        else
            redis.call('HDEL', KEYS[1], fields[i])
        end
    end
    if people ~= '' then
        redis.call('HSET', KEYS[1], server, people)
        redis.call('PEXPIRE', KEYS[1], expiry)
    end
    return others";
