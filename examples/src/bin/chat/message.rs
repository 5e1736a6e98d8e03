//! What travels between a page and the server: JSON objects with a `type`.

use serde::{Deserialize, Serialize};

/// What somebody said, and the room remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// No other entry of any server has it.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Milliseconds since 1970.
    pub(crate) time: u64,
    #[serde(flatten)]
    pub(crate) content: Content,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Content {
    Message { text: String },
    File { file: String, size: usize, url: String },
}

/// What a page asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Request {
    Message {
        text: String,
    },
    Typing,
    /// The next binary message is a file of this name.
    File {
        file: String,
    },
}

/// What a page is told beside entries.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Notice<'a> {
    Welcome {
        name: &'a str,
        room: &'a str,
        people: Vec<&'a str>,
        history: Vec<&'a Entry>,
        shared: Option<bool>,
    },
    Joined {
        name: &'a str,
    },
    Left {
        name: &'a str,
    },
    Typing {
        name: &'a str,
    },
    People {
        people: Vec<&'a str>,
    },
    Status {
        shared: bool,
    },
    Error {
        text: &'a str,
    },
}

pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists of them can be written")
}
