//! One connection to Redis: what a server tells the others there, and asks.
//!
//! | in Redis | what it is |
//! | --- | --- |
//! | channel `chat:room:ROOM` | the name of a server and a [`Post`], for those that have people in the room |
//! | stream `chat:history:ROOM` | the last entries |
//! | hash `chat:people:ROOM` | the people in the room, by server |
//! | key `chat:server:SERVER` | is there while the server is |
//! | hash `chat:file:ID` | a file and its name |

use std::{collections::HashMap, ops::ControlFlow, time::Duration};

use redis::{Cmd, FromRedisValue, Msg, PushInfo, RedisResult, aio::MultiplexedConnection, cmd, pipe};
use serde::{Deserialize, Serialize};

use crate::{
    files::{File, Files},
    link::News,
    message::{Entry, json},
    room::{MAX_HISTORY, Rooms},
};

/// How long a server that says nothing counts as there; the others see it a little later, when they look.
const EXPIRY: Duration = Duration::from_secs(10);

const HISTORY_EXPIRY: Duration = Duration::from_secs(24 * 3600);

const FILE_EXPIRY: Duration = Duration::from_secs(3600);

const CHANNEL: &str = "chat:room:";
const HISTORY: &str = "chat:history:";
const PEOPLE: &str = "chat:people:";
const SERVER: &str = "chat:server:";
const FILE: &str = "chat:file:";

/// What one server tells the others about a room.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Post {
    Entry(Entry),
    Typing(String),
    People(Vec<String>),
}

/// One connection to Redis.
pub(crate) struct Session<'a> {
    redis: MultiplexedConnection,
    rooms: &'a Rooms,
    files: &'a Files,
    /// The rooms that are subscribed to, and how many entries had begun here by then.
    followed: HashMap<String, u64>,
}

impl<'a> Session<'a> {
    /// Tells what is known here, and learns what others know.
    pub(crate) async fn begin(
        redis: MultiplexedConnection,
        rooms: &'a Rooms,
        files: &'a Files,
    ) -> RedisResult<Self> {
        let mut session = Self { redis, rooms, files, followed: HashMap::new() };
        session.refresh().await?;
        for room in rooms.names() {
            session.follow(&room).await?;
        }
        for id in files.ids() {
            session.store(&id).await?;
        }
        Ok(session)
    }

    /// Breaks after the last.
    pub(crate) async fn handle_news(&mut self, news: News) -> RedisResult<ControlFlow<()>> {
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
                // Else it is part of the history that was merged.
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
            News::End(_done) => {
                let () = self.ask(cmd("DEL").arg([SERVER, &self.rooms.server].concat())).await?;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    pub(crate) fn handle_push(&self, push: PushInfo) {
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
    pub(crate) async fn refresh(&mut self) -> RedisResult<()> {
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
        // Nobody takes no place.
        let people = if people.is_empty() { String::new() } else { json(&people) };
        let mut exchange = cmd("EVAL");
        exchange.arg(EXCHANGE_PEOPLE).arg(1).arg([PEOPLE, room].concat());
        exchange.arg(&self.rooms.server).arg(people).arg(SERVER).arg(millis(EXPIRY));
        let others: Vec<(String, String)> = self.ask(&exchange).await?;
        let read = |(server, people): (String, String)| Some((server, serde_json::from_str(&people).ok()?));
        self.rooms.set_others(room, others.into_iter().filter_map(read).collect());
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

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.redis).await
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

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
