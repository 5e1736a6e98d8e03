//! Rooms: who is in them, and what was said. It knows nothing of Redis but that there may be people on other servers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use ws_tokio::{Client, Clients, Prepared, SlowConsumer, axum::WebSocket};

use crate::message::{Content, Entry, Notice, json};

/// The most rooms of this server.
const MAX_ROOMS: usize = 256;

/// The most people in a room, of this server.
const MAX_PEOPLE: usize = 128;

/// How many entries a room remembers.
pub(crate) const MAX_HISTORY: usize = 100;

/// How long an empty room remembers them, so that who loads the page again finds them.
const EMPTY_KEPT: Duration = Duration::from_secs(300);

/// All rooms. Nobody waits while they are locked.
pub(crate) struct Rooms {
    state: Mutex<State>,
    /// The name of this server among the others.
    pub(crate) server: String,
}

struct State {
    rooms: HashMap<String, Room>,
    /// How many entries began here.
    count: u64,
    /// Whether the other servers can be reached; nothing if there are none.
    shared: Option<bool>,
}

struct Room {
    clients: Clients,
    /// Names by the ids of their clients.
    people: BTreeMap<u64, String>,
    /// Names by their servers.
    others: BTreeMap<String, Vec<String>>,
    history: VecDeque<Entry>,
    /// When somebody left, or it was made.
    left: Instant,
}

impl Rooms {
    pub(crate) fn new(server: String, shared: Option<bool>) -> Self {
        Self { state: Mutex::new(State { rooms: HashMap::new(), count: 0, shared }), server }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a room if there is none of this name.
    ///
    /// # Errors
    ///
    /// Why there can be none.
    pub(crate) fn open(&self, name: &str) -> Result<(), &'static str> {
        let State { rooms, .. } = &mut *self.lock();
        rooms.retain(|_, room| !room.people.is_empty() || room.left.elapsed() < EMPTY_KEPT);
        if rooms.len() >= MAX_ROOMS && !rooms.contains_key(name) {
            return Err("there are too many rooms");
        }
        rooms.entry(name.to_owned()).or_insert_with(Room::new);
        Ok(())
    }

    /// Lets somebody in under this name, or the next that is free, with a welcome and before any other message.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn join(
        &self,
        room_name: &str,
        wish: &str,
        ws: &mut WebSocket,
    ) -> Result<(Client, String), &'static str> {
        let State { rooms, shared, .. } = &mut *self.lock();
        let room = rooms.get_mut(room_name).ok_or("the room is gone")?;
        if room.people.len() >= MAX_PEOPLE {
            return Err("the room is full");
        }
        let name = room.free_name(wish);
        room.tell(&Notice::Joined { name: &name });
        let client = room.clients.insert(ws);
        room.people.insert(client.id(), name.clone());
        let welcome = Notice::Welcome {
            name: &name,
            room: room_name,
            people: room.all(),
            history: room.history.iter().collect(),
            shared: *shared,
        };
        // It fails only for who is leaving already.
        let _ = client.send(json(&welcome));
        Ok((client, name))
    }

    pub(crate) fn leave(&self, room: &str, client: &Client) {
        let State { rooms, .. } = &mut *self.lock();
        if let Some(room) = rooms.get_mut(room)
            && let Some(name) = room.people.remove(&client.id())
        {
            room.left = Instant::now();
            room.tell_others(client, &Notice::Left { name: &name });
        }
    }

    /// Somebody here says something: the entry, and how many entries began here before it.
    pub(crate) fn say(&self, room: &str, name: &str, content: Content) -> Option<(Entry, u64)> {
        let State { rooms, count, .. } = &mut *self.lock();
        let room = rooms.get_mut(room)?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        // In the order of time, where two have the same.
        let id = format!("{}-{count:08x}", self.server);
        let entry = Entry { id, name: name.to_owned(), time, content };
        room.add(entry.clone());
        let before = *count;
        *count += 1;
        Some((entry, before))
    }

    pub(crate) fn handle_typing(&self, room: &str, name: &str, client: &Client) {
        if let Some(room) = self.lock().rooms.get(room) {
            room.tell_others(client, &Notice::Typing { name });
        }
    }
}

/// For the link to the other servers.
impl Rooms {
    pub(crate) fn is_shared(&self) -> bool {
        self.lock().shared == Some(true)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().rooms.keys().cloned().collect()
    }

    /// The people of a room who are here.
    pub(crate) fn people(&self, room: &str) -> Vec<String> {
        let state = self.lock();
        state.rooms.get(room).map(|room| room.people.values().cloned().collect()).unwrap_or_default()
    }

    /// What a room remembers, and how many entries began here before that was asked.
    pub(crate) fn history(&self, room: &str) -> (Vec<Entry>, u64) {
        let State { rooms, count, .. } = &*self.lock();
        let history = rooms.get(room).map(|room| room.history.iter().cloned().collect());
        (history.unwrap_or_default(), *count)
    }

    /// Entries that began on other servers, or may have.
    pub(crate) fn handle_entries(&self, room: &str, entries: Vec<Entry>) {
        if let Some(room) = self.lock().rooms.get_mut(room) {
            entries.into_iter().for_each(|entry| room.add(entry));
        }
    }

    pub(crate) fn handle_typing_elsewhere(&self, room: &str, name: &str) {
        if let Some(room) = self.lock().rooms.get(room) {
            room.tell(&Notice::Typing { name });
        }
    }

    /// Who of a room is on another server.
    pub(crate) fn handle_people(&self, room: &str, server: &str, people: Vec<String>) {
        let State { rooms, .. } = &mut *self.lock();
        let Some(room) = rooms.get_mut(room) else { return };
        let before = room.others.insert(server.to_owned(), people.clone()).unwrap_or_default();
        for name in before.iter().filter(|name| !people.contains(name)) {
            room.tell(&Notice::Left { name });
        }
        for name in people.iter().filter(|name| !before.contains(name)) {
            room.tell(&Notice::Joined { name });
        }
        room.others.retain(|_, people| !people.is_empty());
    }

    /// Who of a room is on all other servers.
    pub(crate) fn set_others(&self, room: &str, others: BTreeMap<String, Vec<String>>) {
        if let Some(room) = self.lock().rooms.get_mut(room) {
            room.set_others(others);
        }
    }

    /// Whether the other servers can be reached.
    pub(crate) fn set_shared(&self, is_shared: bool) {
        let State { rooms, shared, .. } = &mut *self.lock();
        let is_news = *shared != Some(is_shared);
        *shared = Some(is_shared);
        for room in rooms.values_mut() {
            if is_news {
                room.tell(&Notice::Status { shared: is_shared });
            }
            if !is_shared {
                room.set_others(BTreeMap::new());
            }
        }
    }
}

impl Room {
    fn new() -> Self {
        Self {
            clients: Clients::new(SlowConsumer::Disconnect),
            people: BTreeMap::new(),
            others: BTreeMap::new(),
            history: VecDeque::new(),
            left: Instant::now(),
        }
    }

    /// Tells an entry, unless it is known, and remembers it in the order of time, as all servers do.
    fn add(&mut self, entry: Entry) {
        if self.history.iter().any(|other| other.id == entry.id) {
            return;
        }
        self.tell(&entry);
        let at = self.history.partition_point(|other| (other.time, &other.id) < (entry.time, &entry.id));
        self.history.insert(at, entry);
        if self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }

    fn set_others(&mut self, others: BTreeMap<String, Vec<String>>) {
        if self.others != others {
            self.others = others;
            self.tell(&Notice::People { people: self.all() });
        }
    }

    fn tell(&self, what: &impl Serialize) {
        self.clients.broadcast(&Prepared::new(json(what)));
    }

    fn tell_others(&self, client: &Client, what: &impl Serialize) {
        let others = self.clients.iter().filter(|other| other.id() != client.id());
        self.clients.broadcast_to(others, &Prepared::new(json(what)));
    }

    /// Everybody's name.
    fn all(&self) -> Vec<&str> {
        self.people.values().chain(self.others.values().flatten()).map(String::as_str).collect()
    }

    fn free_name(&self, wish: &str) -> String {
        let taken = self.all();
        let numbered = (2..).map(|n| format!("{wish} {n}"));
        let mut names = std::iter::once(wish.to_owned()).chain(numbered);
        names.find(|name| !taken.contains(&name.as_str())).expect("there are more numbers than people")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: u64) -> Entry {
        let content = Content::Message { text: "hello".into() };
        Entry { id: format!("{time:03}"), name: "Ann".into(), time, content }
    }

    fn times(room: &Room) -> Vec<u64> {
        room.history.iter().map(|entry| entry.time).collect()
    }

    #[test]
    fn a_history_is_in_the_order_of_time_and_has_each_entry_once() {
        let mut room = Room::new();
        for time in [3, 1, 5, 3, 0, 5, 4] {
            room.add(entry(time));
        }
        assert_eq!(times(&room), [0, 1, 3, 4, 5]);
    }

    #[test]
    fn a_history_ends_at_its_limit() {
        let limit = MAX_HISTORY as u64;
        let mut room = Room::new();
        for time in 1..=limit {
            room.add(entry(time));
        }
        assert_eq!(times(&room), Vec::from_iter(1..=limit));
        room.add(entry(limit + 1));
        assert_eq!(times(&room), Vec::from_iter(2..=limit + 1));
        room.add(entry(0));
        assert_eq!(times(&room), Vec::from_iter(2..=limit + 1));
    }

    #[test]
    fn a_name_that_is_taken_anywhere_gets_a_number() {
        let mut room = Room::new();
        assert_eq!(room.free_name("Ann"), "Ann");
        room.people.insert(0, "Ann".into());
        room.others.insert("another".into(), vec!["Ann 2".into()]);
        assert_eq!(room.free_name("Ann"), "Ann 3");
        assert_eq!(room.free_name("Ann 2"), "Ann 2 2");
    }
}
