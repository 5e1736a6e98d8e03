//! Rooms: the people in them, and what was said.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ws_tokio::{Client, Clients, Prepared, SlowConsumer, axum::WebSocket};

use crate::message::{Content, Entry, Notice, json};

/// The rooms of this process. Nobody waits while they are locked.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<State>);

#[derive(Default)]
struct State {
    rooms: HashMap<String, Room>,
    entries: u64,
}

struct Room {
    clients: Clients,
    /// Names by the ids of their clients.
    people: BTreeMap<u64, String>,
    history: VecDeque<Entry>,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in under this name or one like it: the client, and the name.
    pub(crate) fn join(&self, room_name: &str, wish: &str, ws: &mut WebSocket) -> (Client, String) {
        let mut state = self.lock();
        let room = state.rooms.entry(room_name.to_owned()).or_insert_with(|| Room {
            clients: Clients::new(SlowConsumer::Disconnect),
            people: BTreeMap::new(),
            history: VecDeque::new(),
        });
        let is_free = |name: &String| !room.people.values().any(|taken| taken == name);
        let mut names = (2..).map(|n| format!("{wish} {n}"));
        let name =
            Some(wish.to_owned()).filter(is_free).or_else(|| names.find(is_free)).expect("names without end");
        room.tell(&Notice::Joined { name: &name });
        let client = room.clients.insert(ws);
        room.people.insert(client.id(), name.clone());
        let welcome = Notice::Welcome {
            name: &name,
            room: room_name,
            people: room.people.values().map(String::as_str).collect(),
            history: room.history.iter().collect(),
            shared: None,
        };
        let _ = client.send(json(&welcome));
        (client, name)
    }

    pub(crate) fn leave(&self, room_name: &str, client: &Client) {
        let mut state = self.lock();
        let Some(room) = state.rooms.get_mut(room_name) else { return };
        if let Some(name) = room.people.remove(&client.id()) {
            room.tell(&Notice::Left { name: &name });
        }
    }

    pub(crate) fn say(&self, room_name: &str, name: &str, content: Content) {
        let mut state = self.lock();
        state.entries += 1;
        let id = state.entries.to_string();
        let Some(room) = state.rooms.get_mut(room_name) else { return };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let entry = Entry { id, name: name.to_owned(), time, content };
        room.clients.broadcast(&Prepared::new(json(&entry)));
        room.history.push_back(entry);
        if room.history.len() > 100 {
            room.history.pop_front();
        }
    }

    pub(crate) fn type_in(&self, room_name: &str, name: &str, client: &Client) {
        if let Some(room) = self.lock().rooms.get(room_name) {
            let others = room.clients.iter().filter(|other| other.id() != client.id());
            room.clients.broadcast_to(others, &Prepared::new(json(&Notice::Typing { name })));
        }
    }
}

impl Room {
    fn tell(&self, notice: &Notice<'_>) {
        self.clients.broadcast(&Prepared::new(json(notice)));
    }
}
