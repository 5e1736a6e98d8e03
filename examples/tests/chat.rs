//! The example `chat`, as a process of its own.

mod chatting;
mod process;

use chatting::{Person, closed, get, history, socket};
use process::Process;
use serde_json::{Value, json};
use ws_tokio::{
    ClientConfig, CloseCode, Error, HandshakeError, client_request, connect, connect_with, http::HeaderValue,
};

fn start() -> Process {
    Process::start(env!("CARGO_BIN_EXE_chat"), &["--listen", "127.0.0.1:0"])
}

#[test]
fn the_page_is_on_the_same_port() {
    let server = start();
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let (head, body) = get(&server, path);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains(&format!("content-type: {kind}; charset=utf-8")), "{head}");
        assert!(!body.is_empty());
    }
    assert_eq!(get(&server, "/health").1, b"ok");
    assert!(get(&server, "/files/none").0.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn people_meet_talk_and_leave() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    let welcome = json!({
        "type": "welcome", "name": "Ann", "room": "tea", "people": ["Ann"], "history": [], "shared": null
    });
    assert_eq!(ann.welcome, welcome);
    let mut bob = Person::join(&server, "tea", "Bob").await;
    assert_eq!(bob.welcome["people"], json!(["Ann", "Bob"]));
    assert_eq!(ann.next().await, json!({ "type": "joined", "name": "Bob" }));
    let mut elsewhere = Person::join(&server, "coffee", "Eve").await;

    ann.say("hello").await;
    let mut entry = ann.next().await;
    assert_eq!(bob.next().await, entry);
    let [id, time] = ["id", "time"].map(|key| entry.as_object_mut().unwrap().remove(key).unwrap());
    assert_eq!(entry, json!({ "type": "message", "name": "Ann", "text": "hello" }));
    assert!(time.as_u64().unwrap() > 1_700_000_000_000);
    bob.say("good morning").await;
    assert_ne!(ann.next().await["id"], id);

    bob.next_of("message").await;
    ann.send(json!({ "type": "typing" })).await;
    ann.say("bye").await;
    assert_eq!(bob.next().await, json!({ "type": "typing", "name": "Ann" }));
    assert_eq!(bob.hear().await, "bye");
    // Who types is not told so.
    assert_eq!(ann.next().await["text"], "bye");
    drop(ann);
    assert_eq!(bob.next().await, json!({ "type": "left", "name": "Ann" }));

    // Nothing of this was heard in the other room.
    elsewhere.say("alone").await;
    assert_eq!(elsewhere.next().await["text"], "alone");
}

#[tokio::test]
async fn a_name_that_is_taken_gets_a_number_until_it_is_free() {
    let server = start();
    let mut first = Person::join(&server, "tea", "%20Ann%20").await;
    assert_eq!(first.welcome["name"], "Ann");
    let second = Person::join(&server, "tea", "Ann").await;
    assert_eq!(second.welcome["name"], "Ann 2");
    let third = Person::join(&server, "tea", "Ann").await;
    assert_eq!(third.welcome["name"], "Ann 3");
    drop(second);
    assert_eq!(first.next_of("left").await["name"], "Ann 2");
    assert_eq!(Person::join(&server, "tea", "Ann").await.welcome["name"], "Ann 2");
    assert_eq!(Person::join(&server, "coffee", "Ann").await.welcome["name"], "Ann");
}

#[tokio::test]
async fn names_and_rooms_have_1_to_32_characters() {
    let server = start();
    let base = format!("{}ws", server.url.replace("http", "ws"));
    let url = |room: &str, name: &str| format!("{base}?room={room}&name={name}");
    for len in [1, 31, 32] {
        // Characters, not bytes.
        let name = "%C3%A4".repeat(len);
        let person = Person::join(&server, &name, &name).await;
        assert_eq!(person.welcome["name"], "ä".repeat(len));
        assert_eq!(person.welcome["room"], "ä".repeat(len));
    }
    let long = "a".repeat(33);
    for (room, name) in
        [("", "Ann"), ("tea", ""), ("%20", "Ann"), (&long, "Ann"), ("tea", &long), ("tea", "A%0An")]
    {
        assert_eq!(status(&url(room, name), "").await, 400, "{room} {name}");
    }
    assert_eq!(status(&format!("{base}?room=tea"), "").await, 400);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let server = start();
    let url = format!("{}ws?room=tea&name=Ann", server.url.replace("http", "ws"));
    assert_eq!(status(&url, "https://example.com").await, 403);
    assert_eq!(status(&url, server.url.trim_end_matches('/')).await, 101);
}

#[tokio::test]
async fn a_history_has_100_entries() {
    let server = start();
    let mut said = Vec::new();
    for n in 0..5 {
        // No more than one may say at once.
        let mut person = Person::join(&server, "tea", &format!("{n}")).await;
        for i in 0..20 {
            if said.len() == 99 {
                assert_eq!(history(&Person::join(&server, "tea", "Ann").await), said);
            }
            let text = format!("{n} {i}");
            person.say(&text).await;
            assert_eq!(person.hear().await, text);
            said.push(text);
        }
    }
    // Everybody has left, and comes back.
    let mut ann = Person::join(&server, "tea", "Ann").await;
    assert_eq!(history(&ann), said);
    ann.say("one more").await;
    assert_eq!(ann.hear().await, "one more");
    said.push("one more".to_owned());
    assert_eq!(history(&Person::join(&server, "tea", "Bob").await), said[1..]);
}

#[tokio::test]
async fn texts_have_1_to_4000_characters() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    for len in [1, 3999, 4000] {
        let text = "ä".repeat(len);
        ann.say(&text).await;
        assert_eq!(ann.next().await["text"], text);
    }
    for len in [0, 4001] {
        ann.say(&"ä".repeat(len)).await;
        assert_eq!(ann.next().await["type"], "error");
    }
    ann.say("still here").await;
    assert_eq!(ann.hear().await, "still here");
}

#[tokio::test]
async fn files_are_sent_and_fetched() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    let mut bob = Person::join(&server, "tea", "Bob").await;
    let bytes: Vec<u8> = (0..5 << 20).map(|i: u32| (i ^ i >> 8) as u8).collect();
    ann.send_file("a cät.png", bytes.clone()).await;
    let entry = bob.next().await;
    assert_eq!([&entry["type"], &entry["name"], &entry["file"]], ["file", "Ann", "a cät.png"]);
    assert_eq!(entry["size"], bytes.len());
    let (head, body) = get(&server, entry["url"].as_str().unwrap());
    assert!(head.contains("content-disposition: attachment; filename*=UTF-8''a%20c%C3%A4t.png"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(head.contains("content-type: application/octet-stream"), "{head}");
    assert!(body == bytes);
    assert_eq!(Person::join(&server, "tea", "Eve").await.welcome["history"][0], entry);
}

#[tokio::test]
async fn files_have_8_mib_at_most() {
    const MAX: usize = 8 << 20;
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    for len in [0, MAX - 1, MAX] {
        ann.send_file("file", vec![0; len]).await;
        assert_eq!(ann.next().await["size"], len);
    }
    ann.send(json!({ "type": "file", "file": "file" })).await;
    // It may fail, as the server does not take it.
    let _ = ann.ws.send(vec![0; MAX + 1]).await;
    assert_eq!(ann.closed().await, CloseCode::TOO_BIG);
}

#[tokio::test]
async fn names_of_files_have_1_to_255_characters_and_come_first() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    for len in [1, 254, 255] {
        let name = "ä".repeat(len);
        ann.send_file(&name, vec![1]).await;
        assert_eq!(ann.next().await["file"], name);
    }
    for name in ["", &"ä".repeat(256), "line\nline"] {
        ann.send(json!({ "type": "file", "file": name })).await;
        assert_eq!(ann.next().await["type"], "error");
    }
    ann.ws.send(vec![1]).await.unwrap();
    assert_eq!(ann.next().await["type"], "error");
}

#[tokio::test]
async fn what_is_not_understood_is_an_error_and_what_is_not_json_the_end() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    for what in [json!({ "type": "dance" }), json!({ "type": "message" }), json!([1]), Value::Null] {
        ann.send(what).await;
        assert_eq!(ann.next().await, json!({ "type": "error", "text": "That was not understood." }));
    }
    ann.ws.send("{\"type\":").await.unwrap();
    assert_eq!(ann.closed().await, CloseCode::INVALID_PAYLOAD);
}

#[tokio::test]
async fn who_sends_too_much_is_told_and_then_closed() {
    let server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    for n in 0..200 {
        ann.ws.feed(json!({ "type": "message", "text": format!("{n}") }).to_string()).await.unwrap();
    }
    // It may fail, as the server closes.
    let _ = ann.ws.flush().await;
    for n in 0..20 {
        assert_eq!(ann.next().await["text"], format!("{n}"));
    }
    assert_eq!(ann.next_of("error").await["text"], "That was too fast.");
    assert_eq!(ann.closed().await, CloseCode::POLICY_VIOLATION);
}

#[tokio::test]
async fn a_room_has_128_people_at_most() {
    let server = start();
    let mut people = Vec::new();
    for _ in 0..128 {
        people.push(Person::join(&server, "tea", "Ann").await);
    }
    assert_eq!(people[127].welcome["people"].as_array().unwrap().len(), 128);
    assert_eq!(closed(&mut socket(&server, "tea", "Ann").await).await, CloseCode::TRY_AGAIN_LATER);
    people.pop();
    people[0].next_of("left").await;
    people.push(Person::join(&server, "tea", "Ann").await);
    Person::join(&server, "coffee", "Ann").await;
}

#[tokio::test]
async fn messages_are_compressed_for_who_offers_it() {
    let server = start();
    let url = format!("{}ws?room=tea&name=Ann", server.url.replace("http", "ws"));
    let (_, response) = connect(&url).await.unwrap();
    assert!(response.headers()["sec-websocket-extensions"].as_bytes().starts_with(b"permessage-deflate"));
}

#[tokio::test]
async fn there_are_256_rooms_at_most() {
    let server = start();
    let mut people = Vec::new();
    for n in 0..256 {
        people.push(Person::join(&server, &n.to_string(), "Ann").await);
    }
    assert_eq!(closed(&mut socket(&server, "256", "Ann").await).await, CloseCode::TRY_AGAIN_LATER);
    Person::join(&server, "255", "Bob").await;
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_closes_all_with_1001() {
    let mut server = start();
    let mut ann = Person::join(&server, "tea", "Ann").await;
    let mut bob = Person::join(&server, "coffee", "Bob").await;
    server.interrupt();
    assert_eq!(ann.closed().await, CloseCode::GOING_AWAY);
    assert_eq!(bob.closed().await, CloseCode::GOING_AWAY);
    assert!(server.wait().success());
}

#[cfg(unix)]
#[tokio::test]
async fn who_does_not_say_goodbye_does_not_hold_up_the_end() {
    let mut server = start();
    let ann = Person::join(&server, "tea", "Ann").await;
    server.interrupt();
    // Nobody receives here, so nobody answers the Close frame.
    assert!(server.wait().success());
    drop(ann);
}

/// The status that a request for a WebSocket is answered with.
async fn status(url: &str, origin: &str) -> u16 {
    let mut request = client_request(url).unwrap();
    if !origin.is_empty() {
        request.headers_mut().insert("origin", HeaderValue::from_str(origin).unwrap());
    }
    match connect_with(request, ClientConfig::default()).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Handshake(HandshakeError::Status(response))) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}
