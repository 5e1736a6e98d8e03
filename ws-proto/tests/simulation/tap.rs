//! What goes over a wire, read by a parser of its own: every frame of the library has to be one that RFC 6455 allows,
//! and what an end says of a close is compared with what went over the wire.

use ws_proto::Role;

/// The bytes of one direction.
pub(crate) struct Tap {
    role: Role,
    /// Whether they have to follow the protocol.
    is_strict: bool,
    state: State,
    /// The head of HTTP, if there is one.
    http: Vec<u8>,
    /// Whether that speaks of compression.
    compresses: bool,
    /// As much of a frame's header as has come.
    header: Vec<u8>,
    in_fragment: bool,
    /// Code and reason of the Close frame; 1005 if it has none.
    pub(crate) close: Option<(u16, Vec<u8>)>,
    /// The payloads of pings and pongs.
    pub(crate) pings: Vec<Vec<u8>>,
    pub(crate) pongs: Vec<Vec<u8>>,
}

enum State {
    Http,
    Header,
    Payload(Payload),
    /// What follows is no WebSocket: a refusal, or nonsense.
    Lost,
}

struct Payload {
    first: u8,
    len: usize,
    left: usize,
    key: [u8; 4],
    /// Of a control frame, what has come.
    control: Vec<u8>,
}

impl Tap {
    pub(crate) fn new(role: Role, has_handshake: bool) -> Self {
        Self {
            role,
            is_strict: true,
            state: if has_handshake { State::Http } else { State::Header },
            http: Vec::new(),
            compresses: false,
            header: Vec::new(),
            in_fragment: false,
            close: None,
            pings: Vec::new(),
            pongs: Vec::new(),
        }
    }

    pub(crate) fn let_loose(&mut self) {
        self.is_strict = false;
    }

    /// The status of a server's answer.
    pub(crate) fn status(&self) -> Option<u16> {
        let line = self.http.strip_prefix(b"HTTP/1.1 ")?;
        std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
    }

    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Lost => return,
                State::Http => {
                    self.http.push(bytes[0]);
                    bytes = &bytes[1..];
                    if self.http.ends_with(b"\r\n\r\n") {
                        self.compresses = self.http.windows(18).any(|part| part == b"permessage-deflate");
                        let opens = self.role == Role::Client || self.status() == Some(101);
                        self.state = if opens { State::Header } else { State::Lost };
                    }
                }
                State::Header => {
                    self.header.push(bytes[0]);
                    bytes = &bytes[1..];
                    if let Some(payload) = payload_of(&self.header) {
                        if let Err(what) = self.judge(&payload) {
                            return self.lose(what);
                        }
                        self.header.clear();
                        self.take(payload);
                    }
                }
                State::Payload(payload) => {
                    let (some, rest) = bytes.split_at(bytes.len().min(payload.left));
                    bytes = rest;
                    if payload.first & 0x08 != 0 {
                        let at = payload.len - payload.left;
                        let key = (at..).map(|at| payload.key[at % 4]);
                        payload.control.extend(some.iter().zip(key).map(|(byte, key)| byte ^ key));
                    }
                    payload.left -= some.len();
                    if payload.left == 0 {
                        let State::Payload(payload) = std::mem::replace(&mut self.state, State::Header)
                        else {
                            unreachable!("it is in a payload");
                        };
                        self.take(payload);
                    }
                }
            }
        }
    }

    /// Sections 5.1 to 5.5: whether a frame may begin like this here.
    fn judge(&self, payload: &Payload) -> Result<(), &'static str> {
        let &Payload { first, len, .. } = payload;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_control = opcode & 0x08 != 0;
        let is_masked = self.header[1] & 0x80 != 0;
        let shortest = match len {
            0..126 => 0,
            126..65_536 => 2,
            _ => 8,
        };
        let may_compress = self.compresses && matches!(opcode, 1 | 2);
        let rules = [
            (matches!(opcode, 0..=2 | 8..=10), "reserved opcode"),
            (first & 0x30 == 0 && (first & 0x40 == 0 || may_compress), "reserved bits"),
            (is_masked == (self.role == Role::Client), "masked or not"),
            (self.header.len() == 2 + shortest + if is_masked { 4 } else { 0 }, "length is not minimal"),
            (!is_control || (last && len <= 125), "control frame is long or fragmented"),
            (is_control || (opcode == 0) == self.in_fragment, "fragments do not fit"),
            (self.close.is_none() || opcode == 10, "a frame behind the Close frame"),
        ];
        rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// Goes on into a payload, or behind it.
    fn take(&mut self, payload: Payload) {
        if payload.left > 0 {
            self.state = State::Payload(payload);
            return;
        }
        let Payload { first, control, .. } = payload;
        match first & 0x0f {
            8 => match &control[..] {
                [] => self.close = Some((1005, Vec::new())),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    // Section 7.4.
                    let may_travel = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                    if !may_travel || std::str::from_utf8(reason).is_err() {
                        return self.lose("a Close frame that must not be");
                    }
                    self.close = Some((code, reason.to_vec()));
                }
                [_] => return self.lose("half a close code"),
            },
            9 => self.pings.push(control),
            10 => self.pongs.push(control),
            _ => self.in_fragment = first & 0x80 == 0,
        }
        self.state = State::Header;
    }

    fn lose(&mut self, what: &str) {
        assert!(!self.is_strict, "the {:?} wrote what it must not: {what}", self.role);
        self.state = State::Lost;
    }
}

/// The payload behind a header, once that is whole.
fn payload_of(header: &[u8]) -> Option<Payload> {
    let (&first, &second) = (header.first()?, header.get(1)?);
    let (at, len) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*header.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*header.get(2..)?.first_chunk()?)),
        len => (2, u64::from(len)),
    };
    let key = match second & 0x80 {
        0 => [0; 4],
        _ => *header.get(at..)?.first_chunk()?,
    };
    let len = len as usize;
    Some(Payload { first, len, left: len, key, control: Vec::new() })
}
