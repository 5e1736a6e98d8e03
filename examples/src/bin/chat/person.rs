//! One person's connection: what the page asks for, as far as it may.

use std::time::{Duration, Instant};

use ws_tokio::{Client, CloseCode, Error, Message, axum::WebSocket};

use crate::{
    App,
    files::File,
    link::News,
    message::{Content, Notice, Request, json},
};

/// The longest text, in characters.
const MAX_TEXT: usize = 4000;

/// The longest name of a file, in characters.
const MAX_FILE_NAME: usize = 255;

/// How many messages of any kind may come at once; one more is allowed after each `PACE`.
const BURST: u32 = 20;

const PACE: Duration = Duration::from_millis(200);

/// Somebody in a room, until this is dropped.
struct Person<'a> {
    app: &'a App,
    room: &'a str,
    name: String,
    client: Client,
    bucket: Bucket,
    /// The name of the file that comes next.
    file: Option<String>,
}

/// Why something is not done.
enum Refusal {
    Error(&'static str),
    Close(CloseCode, &'static str),
}

/// A connection from its beginning to its end.
pub(crate) async fn serve(app: &App, ws: &mut WebSocket, room: &str, name: &str) -> Result<(), Error> {
    app.everybody.insert(ws);
    let (code, reason) = match Person::join(app, ws, room, name).await {
        Ok(mut person) => match person.talk(ws).await? {
            Some(end) => end,
            None => return Ok(()),
        },
        Err(reason) => (CloseCode::TRY_AGAIN_LATER, reason),
    };
    ws.close(code, reason).await
}

impl<'a> Person<'a> {
    async fn join(app: &'a App, ws: &mut WebSocket, room: &'a str, wish: &str) -> Result<Self, &'static str> {
        app.rooms.open(room)?;
        app.link.open(&app.rooms, room).await;
        let (client, name) = app.rooms.join(room, wish, ws)?;
        app.link.send(News::People(room.to_owned()));
        Ok(Self { app, room, name, client, bucket: Bucket::new(Instant::now()), file: None })
    }

    /// Until the page leaves, or is to be closed with this code and reason.
    async fn talk(&mut self, ws: &mut WebSocket) -> Result<Option<(CloseCode, &'static str)>, Error> {
        while let Some(message) = ws.recv().await? {
            match self.handle(message) {
                Ok(()) => {}
                Err(Refusal::Error(text)) => ws.send(json(&Notice::Error { text })).await?,
                Err(Refusal::Close(code, reason)) => return Ok(Some((code, reason))),
            }
        }
        Ok(None)
    }

    fn handle(&mut self, message: Message) -> Result<(), Refusal> {
        // Refused or not, what comes is the file that was named.
        let name = if matches!(message, Message::Binary(_)) { self.file.take() } else { None };
        self.bucket.take(Instant::now())?;
        match message {
            Message::Binary(bytes) => {
                let name = name.ok_or(Refusal::Error("The name of a file comes before it."))?;
                self.say_file(File { name, bytes })
            }
            Message::Text(json) => match serde_json::from_str(&json) {
                Ok(request) => self.handle_request(request),
                Err(error) if error.is_data() => Err(Refusal::Error("That was not understood.")),
                Err(_) => Err(Refusal::Close(CloseCode::INVALID_PAYLOAD, "not JSON")),
            },
        }
    }

    fn handle_request(&mut self, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Message { text } if text.is_empty() => Err(Refusal::Error("That was empty.")),
            Request::Message { text } if text.chars().count() > MAX_TEXT => {
                Err(Refusal::Error("That was too long: 4,000 characters at most."))
            }
            Request::Message { text } => {
                self.say(Content::Message { text });
                Ok(())
            }
            Request::Typing => {
                self.app.rooms.handle_typing(self.room, &self.name, &self.client);
                self.app.link.send(News::Typing(self.room.to_owned(), self.name.clone()));
                Ok(())
            }
            Request::File { file } if !is_name(&file, MAX_FILE_NAME) => {
                Err(Refusal::Error("A file has a name of 1 to 255 characters."))
            }
            Request::File { file } => {
                self.file = Some(file);
                Ok(())
            }
        }
    }

    fn say_file(&self, file: File) -> Result<(), Refusal> {
        let (name, size) = (file.name.clone(), file.bytes.len());
        let id = self.app.files.add(file).map_err(|_| Refusal::Error("There is no place for the file."))?;
        // The others can have the file once they hear of it.
        self.app.link.send(News::File(id.clone()));
        self.say(Content::File { file: name, size, url: format!("/files/{id}") });
        Ok(())
    }

    fn say(&self, content: Content) {
        if let Some((entry, before)) = self.app.rooms.say(self.room, &self.name, content) {
            self.app.link.send(News::Entry(self.room.to_owned(), entry, before));
        }
    }
}

impl Drop for Person<'_> {
    fn drop(&mut self) {
        self.app.rooms.leave(self.room, &self.client);
        self.app.link.send(News::People(self.room.to_owned()));
    }
}

/// Whether this may be a name of so many characters.
pub(crate) fn is_name(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.chars().count()) && !name.contains(char::is_control)
}

/// Holds back who sends too much. It tells when all it owes would be paid.
struct Bucket {
    paid: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { paid: now }
    }

    fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        self.paid = self.paid.max(now) + PACE;
        let debt = self.paid - now;
        if debt > 2 * BURST * PACE {
            Err(Refusal::Close(CloseCode::POLICY_VIOLATION, "too many messages"))
        } else if debt > BURST * PACE {
            Err(Refusal::Error("That was too fast."))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_then_refused_then_closed() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        for _ in 0..BURST {
            assert!(bucket.take(start).is_ok());
        }
        for _ in 0..BURST {
            assert!(matches!(bucket.take(start), Err(Refusal::Error(_))));
        }
        assert!(matches!(bucket.take(start), Err(Refusal::Close(CloseCode::POLICY_VIOLATION, _))));
        // All that was sent counts.
        let later = start + PACE * (BURST + 2);
        assert!(bucket.take(later).is_ok());
        assert!(matches!(bucket.take(later), Err(Refusal::Error(_))));
    }
}
