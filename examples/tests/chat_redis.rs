//! The example `chat` as several processes, with a Redis between them that comes and goes.
#![cfg(unix)]

mod chatting;
mod process;

use std::{
    collections::BTreeSet,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chatting::{LONG, Person, get, history, said};
use process::Process;
use serde_json::{Value, json};

#[tokio::test]
async fn two_servers_are_one_chat() {
    let Some(redis) = Redis::start() else { return };
    let [left, right] = [(); 2].map(|()| server(&redis));
    let mut ann = meet(&left, "tea", "Ann").await;
    ann.say("is anybody there?").await;
    assert_eq!(ann.hear().await, "is anybody there?");

    let mut other_ann = meet(&right, "tea", "Ann").await;
    assert_eq!(other_ann.welcome["name"], "Ann 2");
    assert_eq!(people(&other_ann.welcome), ["Ann", "Ann 2"]);
    assert_eq!(history(&other_ann), ["is anybody there?"]);
    assert_eq!(ann.next().await, json!({ "type": "joined", "name": "Ann 2" }));

    other_ann.send(json!({ "type": "typing" })).await;
    other_ann.say("yes").await;
    assert_eq!(ann.next().await, json!({ "type": "typing", "name": "Ann 2" }));
    let entry = ann.next().await;
    assert_eq!(entry["text"], "yes");
    // The same entry, and once: what is said next comes next.
    assert_eq!(other_ann.next().await, entry);
    ann.say("good").await;
    assert_eq!(other_ann.next().await["text"], "good");

    let bytes: Vec<u8> = (0..5 << 20).map(|i: u32| (i ^ i >> 8) as u8).collect();
    ann.send_file("cat.png", bytes.clone()).await;
    let entry = other_ann.next().await;
    let (head, body) = get(&right, entry["url"].as_str().unwrap());
    assert!(head.contains("filename*=UTF-8''cat.png"), "{head}");
    assert!(body == bytes);

    drop(ann);
    assert_eq!(other_ann.next().await, json!({ "type": "left", "name": "Ann" }));
    drop(other_ann);
    let bob = meet(&left, "tea", "Bob").await;
    assert_eq!(history(&bob), ["is anybody there?", "yes", "good", "cat.png"]);
}

#[tokio::test]
async fn the_people_of_a_server_leave_with_it() {
    let Some(redis) = Redis::start() else { return };
    let [left, mut graceful, killed] = [(); 3].map(|()| server(&redis));
    let mut ann = meet(&left, "tea", "Ann").await;
    let mut bob = meet(&graceful, "tea", "Bob").await;
    let eve = meet(&killed, "tea", "Eve").await;
    assert_eq!(people(&eve.welcome), ["Ann", "Bob", "Eve"]);
    assert_eq!(ann.next().await, json!({ "type": "joined", "name": "Bob" }));
    assert_eq!(ann.next().await, json!({ "type": "joined", "name": "Eve" }));

    graceful.interrupt();
    bob.closed().await;
    assert_eq!(ann.next().await, json!({ "type": "left", "name": "Bob" }));
    assert!(graceful.wait().success());

    drop(killed);
    assert_eq!(ann.next().await, json!({ "type": "people", "people": ["Ann"] }));
}

#[tokio::test]
async fn without_redis_local_chat_goes_on_until_it_is_back_empty() {
    let Some(mut redis) = Redis::start() else { return };
    let [left, right] = [(); 2].map(|()| server(&redis));
    let mut ann = meet(&left, "tea", "Ann").await;
    let mut bob = meet(&right, "tea", "Bob").await;
    ann.say("before").await;
    assert_eq!(bob.hear().await, "before");
    assert_eq!(ann.hear().await, "before");

    redis.kill();
    for (person, name) in [(&mut ann, "Ann"), (&mut bob, "Bob")] {
        assert_eq!(person.next_of("status").await, json!({ "type": "status", "shared": false }));
        assert_eq!(person.next().await, json!({ "type": "people", "people": [name] }));
    }
    let mut friend = Person::join(&left, "tea", "Friend").await;
    assert_eq!(friend.welcome["shared"], false);
    assert_eq!(history(&friend), ["before"]);
    ann.say("is it quiet here?").await;
    assert_eq!(friend.hear().await, "is it quiet here?");
    ann.send_file("cat.png", vec![1, 2, 3]).await;
    assert_eq!(friend.next().await["file"], "cat.png");
    bob.say("very").await;
    assert_eq!(bob.hear().await, "very");

    redis.run();
    healed(&mut ann, &["is it quiet here?", "cat.png", "very"], &["Ann", "Bob", "Friend"]).await;
    healed(&mut bob, &["is it quiet here?", "cat.png"], &["Ann", "Bob", "Friend"]).await;
    bob.say("after").await;
    // Nothing comes twice.
    assert_eq!(ann.next().await["text"], "after");
    assert_eq!(bob.next().await["text"], "after");

    for (server, name) in [(&left, "Eve"), (&right, "Zoe")] {
        let person = meet(server, "tea", name).await;
        // On different servers two things may be said in one millisecond.
        let mut history = history(&person);
        history.sort();
        assert_eq!(history, ["after", "before", "cat.png", "is it quiet here?", "very"]);
        let entries = person.welcome["history"].as_array().unwrap();
        let file = entries.iter().find_map(|entry| entry["url"].as_str()).unwrap();
        assert_eq!(get(server, file).1, [1, 2, 3]);
        assert_eq!(ann.next().await, json!({ "type": "joined", "name": name }));
        assert_eq!(bob.next().await, json!({ "type": "joined", "name": name }));
        drop(person);
        assert_eq!(ann.next().await, json!({ "type": "left", "name": name }));
        assert_eq!(bob.next().await, json!({ "type": "left", "name": name }));
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_counts_as_gone() {
    let Some(redis) = Redis::start() else { return };
    let [left, right] = [(); 2].map(|()| server(&redis));
    let mut ann = meet(&left, "tea", "Ann").await;
    let mut bob = meet(&right, "tea", "Bob").await;
    redis.signal("-STOP");
    // It may have been said before the servers know.
    ann.say("one").await;
    assert_eq!(ann.hear().await, "one");
    for person in [&mut ann, &mut bob] {
        assert_eq!(person.next_of("status").await["shared"], false);
    }
    bob.say("two").await;
    assert_eq!(bob.hear().await, "two");
    redis.signal("-CONT");
    healed(&mut ann, &["two"], &["Ann", "Bob"]).await;
    healed(&mut bob, &["one"], &["Ann", "Bob"]).await;
    for server in [&left, &right] {
        assert_eq!(history(&meet(server, "tea", "Eve").await), ["one", "two"]);
    }
}

#[tokio::test]
async fn whenever_redis_comes_and_goes_the_histories_agree() {
    let Some(mut redis) = Redis::start() else { return };
    let [left, right] = [(); 2].map(|()| server(&redis));
    let mut people = [meet(&left, "tea", "Ann").await, meet(&right, "tea", "Bob").await];
    let mut said = BTreeSet::new();
    for round in 0..3 {
        redis.kill();
        let mut say = async |when| {
            for (n, person) in people.iter_mut().enumerate() {
                for i in 0..4 {
                    let text = format!("{when} {round}: {n} {i}");
                    person.say(&text).await;
                    said.insert(text);
                }
            }
        };
        say("as it goes").await;
        redis.run();
        say("as it comes").await;
        // Those who say much are held back.
        people = [meet(&left, "tea", "Ann").await, meet(&right, "tea", "Bob").await];
    }
    // Who hears this has heard all that the other server had to tell.
    let [ann, bob] = &mut people;
    ann.say("that was all of mine").await;
    while bob.hear().await != "that was all of mine" {}
    bob.say("and of mine").await;
    while ann.hear().await != "and of mine" {}
    said.extend(["that was all of mine", "and of mine"].map(str::to_owned));
    for server in [&left, &right] {
        let history = history(&meet(server, "tea", "Eve").await);
        assert_eq!(history.len(), said.len());
        assert_eq!(BTreeSet::from_iter(history), said);
    }
}

#[tokio::test]
async fn a_server_begins_without_redis_and_joins_the_others_later() {
    let Some(mut redis) = Redis::start() else { return };
    redis.kill();
    let server = server(&redis);
    let mut ann = Person::join(&server, "tea", "Ann").await;
    assert_eq!(ann.welcome["shared"], false);
    ann.say("hello").await;
    assert_eq!(ann.hear().await, "hello");
    redis.run();
    assert_eq!(ann.next_of("status").await["shared"], true);
}

#[tokio::test]
async fn the_history_in_redis_ends_at_100_entries() {
    let Some(redis) = Redis::start() else { return };
    let [mut left, right] = [(); 2].map(|()| server(&redis));
    let mut said = Vec::new();
    for n in 0..6 {
        let mut person = meet(&left, "tea", &format!("{n}")).await;
        for i in 0..17 {
            let text = format!("{n} {i}");
            person.say(&text).await;
            assert_eq!(person.hear().await, text);
            said.push(text);
        }
    }
    // It tells all before it ends, and what is in Redis is all that the other one has.
    left.interrupt();
    assert!(left.wait().success());
    assert_eq!(history(&meet(&right, "tea", "Ann").await), said[2..]);
}

fn server(redis: &Redis) -> Process {
    let url = format!("redis://127.0.0.1:{}/", redis.port);
    Process::start(env!("CARGO_BIN_EXE_chat"), &["--listen", "127.0.0.1:0", "--redis", &url])
}

/// Joins a room once the server is linked to the others.
async fn meet(server: &Process, room: &str, name: &str) -> Person {
    let mut early = Person::join(server, "lobby", "Early").await;
    if early.welcome["shared"] == false {
        assert_eq!(early.next_of("status").await["shared"], true);
    }
    Person::join(server, room, name).await
}

/// Waits until all is well for somebody who was alone: this was missed, once and in this order, and these are there.
async fn healed(person: &mut Person, missed: &[&str], names: &[&str]) {
    let own = person.welcome["name"].as_str().unwrap().to_owned();
    let (mut heard, mut present, mut shared) = (Vec::new(), BTreeSet::from([own]), false);
    while heard != missed || !present.iter().eq(names) || !shared {
        let next = person.next().await;
        match next["type"].as_str().unwrap() {
            "status" => shared = next["shared"] == true,
            "people" => present = people(&next).into_iter().collect(),
            "joined" => drop(present.insert(next["name"].as_str().unwrap().to_owned())),
            "left" => present.retain(|name| next["name"] != *name),
            _ => heard.push(said(&next)),
        }
        assert!(missed.starts_with(&heard.iter().map(String::as_str).collect::<Vec<_>>()), "{heard:?}");
    }
}

fn people(list: &Value) -> Vec<String> {
    let people = list["people"].as_array().unwrap();
    let mut people: Vec<_> = people.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    people.sort();
    people
}

/// A Redis of the test's own. It ends with the test.
struct Redis {
    port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl Redis {
    /// Nothing where it is not installed, unless the variable `CI` is set.
    fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            eprintln!("passed over: redis-server is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("chat-redis-{}-{port}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut redis = Self { port, folder, process: None };
        redis.run();
        Some(redis)
    }

    fn run(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < LONG, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
