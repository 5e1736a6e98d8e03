//! People in a chat, for its tests.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::timeout;
use ws_tokio::{CloseCode, Message, WebSocket, connect};

use crate::process::Process;

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Person {
    pub(crate) ws: WebSocket,
    pub(crate) welcome: Value,
}

impl Person {
    /// Joins a room; the name is to be spelled as in a URL.
    pub(crate) async fn join(server: &Process, room: &str, name: &str) -> Self {
        let mut ws = socket(server, room, name).await;
        let welcome = receive(&mut ws).await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        Self { ws, welcome }
    }

    pub(crate) async fn send(&mut self, what: Value) {
        self.ws.send(what.to_string()).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(json!({ "type": "message", "text": text })).await;
    }

    pub(crate) async fn send_file(&mut self, name: &str, bytes: Vec<u8>) {
        self.send(json!({ "type": "file", "file": name })).await;
        self.ws.send(bytes).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Value {
        receive(&mut self.ws).await
    }

    /// The next of this type; those before it are not looked at.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let next = self.next().await;
            if next["type"] == kind {
                return next;
            }
        }
    }

    /// What is said next, by whomever.
    pub(crate) async fn hear(&mut self) -> String {
        self.next_of("message").await["text"].as_str().unwrap().to_owned()
    }

    /// The close code, once the server has closed; what came before is not looked at.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        closed(&mut self.ws).await
    }
}

pub(crate) async fn socket(server: &Process, room: &str, name: &str) -> WebSocket {
    let url = format!("{}ws?room={room}&name={name}", server.url.replace("http", "ws"));
    connect(&url).await.unwrap().0
}

pub(crate) async fn closed(ws: &mut WebSocket) -> CloseCode {
    while timeout(LONG, ws.recv()).await.expect("an end").unwrap().is_some() {}
    ws.closed().unwrap().code
}

async fn receive(ws: &mut WebSocket) -> Value {
    let message = timeout(LONG, ws.recv()).await.expect("a message").unwrap();
    serde_json::from_str(message.as_ref().and_then(Message::as_text).expect("text")).unwrap()
}

/// The head and the body of an answer.
pub(crate) fn get(server: &Process, path: &str) -> (String, Vec<u8>) {
    let address = server.url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

/// What was said before somebody came: texts, and names of files.
pub(crate) fn history(person: &Person) -> Vec<String> {
    person.welcome["history"].as_array().unwrap().iter().map(said).collect()
}

/// The text of an entry, or the name of its file.
pub(crate) fn said(entry: &Value) -> String {
    let text = entry["text"].as_str().or_else(|| entry["file"].as_str());
    text.expect("a text or a file").to_owned()
}
