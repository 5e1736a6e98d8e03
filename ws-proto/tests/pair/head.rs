//! Heads of HTTP messages: written line by line, legal or not, and parsed independently of the library.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// The key of the example in RFC 6455 section 1.3, and what answers it.
pub(crate) const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A head that a test changes until it is what it wants.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    first: [String; 3],
    fields: Vec<(String, String)>,
}

/// A request that every server takes.
pub(crate) fn request() -> Head {
    Head::new("GET", "/chat", "HTTP/1.1")
        .add("Host", "example.com")
        .add("Upgrade", "websocket")
        .add("Connection", "Upgrade")
        .add("Sec-WebSocket-Key", SAMPLE_KEY)
        .add("Sec-WebSocket-Version", "13")
}

/// The answer that accepts the request with this key.
pub(crate) fn answer(key: &str) -> Head {
    Head::new("HTTP/1.1", "101", "Switching Protocols")
        .add("Upgrade", "websocket")
        .add("Connection", "Upgrade")
        .add("Sec-WebSocket-Accept", &accept(key))
}

/// RFC 6455 section 4.2.2, item 5.4.
pub(crate) fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

impl Head {
    /// A head by the three parts of its first line.
    pub(crate) fn new(first: &str, second: &str, third: &str) -> Self {
        Self { first: [first, second, third].map(str::to_owned), fields: Vec::new() }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.first[0] = method.to_owned();
        self
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        self.first[1] = target.to_owned();
        self
    }

    /// The version of a request.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.first[2] = version.to_owned();
        self
    }

    /// One line more.
    pub(crate) fn add(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// One line in place of those there are.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.without(name).add(name, value)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = self.first.join(" ") + "\r\n";
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }
}

/// A message as it was sent: a head and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) rest: Vec<u8>,
}

impl Parsed {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the head ends");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head of ours is ASCII");
        let mut lines = head.split("\r\n").map(str::to_owned);
        let first = lines.next().expect("there is a first line");
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("name, colon, space, value");
            assert!(!value.contains(['\r', '\n']), "{line:?}");
            (name.to_owned(), value.to_owned())
        });
        Self { fields: fields.collect(), first, rest: bytes[end + 4..].to_vec() }
    }

    /// The values of all lines of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| &**value).collect()
    }

    /// The value of a field that is there once.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> &str {
        let [value] = self.all(name)[..] else { panic!("{name} is not there once: {self:?}") };
        value
    }

    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }
}
