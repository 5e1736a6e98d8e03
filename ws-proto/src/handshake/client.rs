//! The client's side of the opening handshake (RFC 6455 section 4.1).

use std::{io::IoSlice, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{
    accept_key,
    error::HandshakeError,
    extensions,
    head::Head,
    list, redirect,
    response::{field, fields},
    server::is_reserved,
    url::host_field,
};
use crate::{
    buffer::Buffer,
    config::{ClientConfig, Version},
    connection::Connection,
    machine::Machine,
    send::MaskingKeys,
    timer::{Timer, TimerTable},
};

/// The client's side of an opening handshake, without its socket.
///
/// Driven as a [`Machine`]: the request is its first output. [`advance`](Self::advance) is `true` once the
/// answer is there and right; [`into_connection`](Self::into_connection) goes on from there.
///
/// ```
/// use std::{io::IoSlice, time::Instant};
/// use ws_proto::{ClientConfig, Machine, handshake::{ClientHandshake, client_request}};
///
/// let seed = [7; 32]; // 32 random bytes, used once
/// let request = client_request("ws://example.com/chat")?;
/// let handshake = ClientHandshake::new(&request, &ClientConfig::default(), seed, Instant::now())?;
/// let mut slices = [IoSlice::new(&[])];
/// assert_eq!(handshake.output(&mut slices), 1);
/// assert!(slices[0].starts_with(b"GET /chat HTTP/1.1\r\nHost: example.com\r\n"));
/// # Ok::<(), ws_proto::HandshakeError>(())
/// ```
#[derive(Debug)]
pub struct ClientHandshake {
    config: ClientConfig,
    keys: MaskingKeys,
    /// The answer that proves a WebSocket server.
    accept: String,
    head: Head,
    state: State,
    timers: TimerTable,
    /// The request, as far as it is not written.
    output: Buffer,
    eof: bool,
}

#[derive(Debug)]
enum State {
    Reading,
    Accepted(Response<()>, Option<extensions::Accepted>),
    /// The body of a refusal comes.
    Refused(Response<()>, Body),
    Ended(HandshakeError),
}

impl ClientHandshake {
    /// A handshake that sends this request. Its deadline begins now.
    ///
    /// `Host` is taken from the URI unless the request has one; a key comes from `seed`, which must be random and
    /// used once.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Url`] without a host, [`HandshakeError::ReservedField`] for a field that the handshake
    /// sets itself, [`HandshakeError::SubprotocolOffer`] if a subprotocol of the configuration is no token or is
    /// there twice.
    pub fn new(
        request: &Request<()>,
        config: &ClientConfig,
        seed: [u8; 32],
        now: Instant,
    ) -> Result<Self, HandshakeError> {
        if !matches!(request.uri().scheme_str(), None | Some("ws" | "wss" | "http" | "https")) {
            return Err(HandshakeError::Url("the scheme is not ws or wss"));
        }
        if let Some(name) = request.headers().keys().find(|name| is_reserved(name)) {
            return Err(HandshakeError::ReservedField(name.clone()));
        }
        for (i, name) in config.subprotocols.iter().enumerate() {
            if !list::is_token(name.as_bytes()) || config.subprotocols[..i].contains(name) {
                return Err(HandshakeError::SubprotocolOffer(name.clone()));
            }
        }
        let mut keys = MaskingKeys::new(seed);
        let key = STANDARD.encode([keys.next(), keys.next(), keys.next(), keys.next()].as_flattened());
        let mut output = Buffer::default();
        output.push(&write_request(request, config, &key)?);
        let mut timers = TimerTable::default();
        timers.arm(Timer::Handshake, now, config.head.timeout);
        Ok(Self {
            keys,
            accept: accept_key(key.as_bytes()),
            head: Head::of_response(&config.head),
            state: State::Reading,
            timers,
            output,
            eof: false,
            config: config.clone(),
        })
    }

    /// Looks at what came: `true` once the answer is there and right.
    pub fn advance(&mut self) -> bool {
        while matches!(self.state, State::Reading) {
            match self.head.take_response() {
                // RFC 9110 section 15.2: interim responses go before the final one.
                Ok(Some(response)) if is_interim(response.status()) => {}
                Ok(Some(response)) => self.judge(response),
                Ok(None) if self.eof => self.end(HandshakeError::Eof),
                Ok(None) => break,
                Err(error) => self.end(error),
            }
        }
        self.read_body();
        matches!(self.state, State::Accepted(..))
    }

    /// The connection and the server's answer. The connection's first input is what came behind the answer.
    ///
    /// # Panics
    ///
    /// If [`advance`](Self::advance) was not `true`.
    pub fn into_connection(self, now: Instant) -> (Connection, Response<()>) {
        let State::Accepted(response, extensions) = self.state else { panic!("the handshake is complete") };
        let subprotocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = subprotocol.and_then(|name| name.to_str().ok()).map(str::to_owned);
        let mut connection = Connection::new(&self.config.connection, Some(self.keys), &[], now)
            .with_leftover(self.head.rest())
            .with_subprotocol(subprotocol);
        if let Some(extensions) = extensions {
            connection = extensions.apply(connection);
        }
        if self.eof {
            connection.handle_eof(now);
        }
        (connection, response)
    }

    /// Why there is no connection, once that is certain.
    pub fn error(&self) -> Option<&HandshakeError> {
        match &self.state {
            State::Ended(error) => Some(error),
            State::Reading | State::Accepted(..) | State::Refused(..) => None,
        }
    }

    fn judge(&mut self, response: Response<()>) {
        if self.config.redirects > 0 && redirect::location(&response).is_some() {
            // The next request need not wait for a body that nobody reads.
            return self.end(HandshakeError::Status(Box::new(response.map(|()| Bytes::new()))));
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let body = Body::new(&response);
            self.state = State::Refused(response, body);
            return;
        }
        match self.check(&response) {
            Ok(extensions) => {
                self.timers.stop_all();
                self.state = State::Accepted(response, extensions);
            }
            Err(error) => self.end(error),
        }
    }

    /// RFC 6455 section 4.1, the numbered list at its end.
    fn check(&self, response: &Response<()>) -> Result<Option<extensions::Accepted>, HandshakeError> {
        let headers = response.headers();
        if response.version() != http::Version::HTTP_11 {
            return Err(HandshakeError::HttpVersion);
        }
        if !list::contains_token(headers, &header::UPGRADE, "websocket") {
            return Err(HandshakeError::UpgradeField);
        }
        if !list::contains_token(headers, &header::CONNECTION, "upgrade") {
            return Err(HandshakeError::ConnectionField);
        }
        if !headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter().eq([self.accept.as_str()]) {
            return Err(HandshakeError::Accept);
        }
        let extensions = list::extensions(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
            .map_err(|_| HandshakeError::ExtensionList)?;
        let extensions = extensions::check(extensions, &self.config)?;
        let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let text = |name: &HeaderValue| String::from_utf8_lossy(name.as_bytes()).into_owned();
        match (chosen.next(), chosen.next()) {
            (None, _) if self.config.subprotocols.is_empty() => Ok(extensions),
            // What a browser does, too: a server that speaks none of the offered does not speak with us.
            (None, _) => Err(HandshakeError::Subprotocol(None)),
            (Some(name), None) if self.config.subprotocols.iter().any(|offered| name == offered) => {
                Ok(extensions)
            }
            (Some(name), _) => Err(HandshakeError::Subprotocol(Some(text(name)))),
        }
    }

    /// Takes what came of a refusal's body; ends when it is complete, or as much as is kept.
    fn read_body(&mut self) {
        if let State::Refused(response, body) = &mut self.state {
            let complete = body.read(self.head.rest_mut(), self.config.max_body);
            if complete || self.eof {
                let body = std::mem::take(&mut body.bytes).into();
                let response = std::mem::take(response).map(|()| body);
                self.end(HandshakeError::Status(Box::new(response)));
            }
        }
    }

    fn end(&mut self, error: HandshakeError) {
        self.timers.stop_all();
        self.output.clear();
        self.state = State::Ended(error);
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn write_request(request: &Request<()>, config: &ClientConfig, key: &str) -> Result<Vec<u8>, HandshakeError> {
    if request.method() != Method::GET {
        return Err(HandshakeError::Method);
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if !target.is_ascii() {
        return Err(HandshakeError::Url("other characters than ASCII must be percent-encoded"));
    }
    let mut out =
        format!("GET {}{target} HTTP/1.1\r\n", if target.starts_with('?') { "/" } else { "" }).into_bytes();
    match request.headers().get(header::HOST) {
        Some(_) => {}
        None => field(&mut out, "host", host_field(request.uri())?.as_bytes()),
    }
    field(&mut out, "upgrade", b"websocket");
    field(&mut out, "connection", b"Upgrade");
    field(&mut out, "sec-websocket-key", key.as_bytes());
    field(&mut out, "sec-websocket-version", config.version.as_str().as_bytes());
    if !config.subprotocols.is_empty() {
        field(&mut out, "sec-websocket-protocol", config.subprotocols.join(", ").as_bytes());
    }
    if let Some(offer) = extensions::offer(config) {
        field(&mut out, "sec-websocket-extensions", offer.as_bytes());
    }
    let mut headers = request.headers().clone();
    if config.version == Version::V8
        && let Some(origin) = headers.remove(header::ORIGIN)
    {
        headers.insert(HeaderName::from_static("sec-websocket-origin"), origin);
    }
    fields(&mut out, &headers);
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

impl Machine for ClientHandshake {
    fn recv_space(&mut self) -> &mut [u8] {
        self.head.recv_space()
    }

    fn handle_input(&mut self, len: usize, now: Instant) {
        self.head.fill(len);
        self.handle_timeout(now);
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.eof = true;
    }

    fn handle_write_error(&mut self, _now: Instant) {
        // The server may have answered before it closed: that is read to its end.
        self.output.clear();
    }

    fn handle_held(&mut self, _held: bool) {}

    fn handle_timeout(&mut self, now: Instant) {
        if self.timers.expire(now).is_some() {
            // A refusal whose body does not end is told as far as it came.
            self.eof = true;
            self.read_body();
            if !self.is_ended() {
                self.end(HandshakeError::Timeout);
            }
        }
    }

    fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.output(slices)
    }

    fn consume(&mut self, len: usize) {
        self.output.consume(len);
    }

    fn poll_timeout(&mut self, _now: Instant) -> Option<(Instant, Timer)> {
        self.head.release();
        self.output.release();
        self.timers.next()
    }

    fn wants_read(&self) -> bool {
        !self.eof && matches!(self.state, State::Reading | State::Refused(..))
    }

    fn wants_shutdown(&self) -> bool {
        self.is_ended()
    }

    fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }
}

/// The body of a refusal (RFC 9112 section 6), as much of it as is kept.
#[derive(Debug)]
struct Body {
    framing: Framing,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Before the size of a chunk.
    ChunkSize,
    /// Inside a chunk and the line end behind it, so many bytes of both still to come.
    Chunk(u64),
    UntilEof,
}

impl Body {
    fn new(response: &Response<()>) -> Self {
        let headers = response.headers();
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let framing =
            if response.status() == StatusCode::NO_CONTENT || response.status() == StatusCode::NOT_MODIFIED {
                Framing::Length(0)
            } else if list::contains_token(headers, &header::TRANSFER_ENCODING, "chunked") {
                Framing::ChunkSize
            } else {
                length.map_or(Framing::UntilEof, Framing::Length)
            };
        Self { framing, bytes: Vec::new() }
    }

    /// Takes what is there; `true` once nothing more is wanted.
    fn read(&mut self, input: &mut Buffer, max: usize) -> bool {
        loop {
            let room = max - self.bytes.len();
            if room == 0 {
                return true;
            }
            match self.framing {
                Framing::Length(0) => return true,
                _ if input.is_empty() => return false,
                Framing::Length(left) => {
                    let taken = self.take(input, room, left);
                    self.framing = Framing::Length(left - taken);
                }
                Framing::UntilEof => drop(self.take(input, room, u64::MAX)),
                Framing::Chunk(0) => self.framing = Framing::ChunkSize,
                Framing::Chunk(left @ 1..=2) => {
                    let line_end = input.len().min(left as usize);
                    input.consume(line_end);
                    self.framing = Framing::Chunk(left - line_end as u64);
                }
                Framing::Chunk(left) => {
                    let taken = self.take(input, room, left - 2);
                    self.framing = Framing::Chunk(left - taken);
                }
                Framing::ChunkSize => match httparse::parse_chunk_size(input.pending()) {
                    Ok(httparse::Status::Complete((n, size))) if size > 0 && size < u64::MAX - 2 => {
                        input.consume(n);
                        self.framing = Framing::Chunk(size + 2);
                    }
                    Ok(httparse::Status::Partial) if input.len() < MAX_CHUNK_LINE => return false,
                    // The last chunk, or nonsense: what came so far is the body.
                    Ok(_) | Err(_) => return true,
                },
            }
        }
    }

    fn take(&mut self, input: &mut Buffer, room: usize, left: u64) -> u64 {
        let len = room.min(input.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.extend_from_slice(&input.pending()[..len]);
        input.consume(len);
        len as u64
    }
}

/// Longest line with the size of a chunk, its extensions included.
const MAX_CHUNK_LINE: usize = 1024;
