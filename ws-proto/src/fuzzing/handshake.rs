//! Both sides of the opening handshake, against a second reader of heads.

use std::{io::IoSlice, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version as HttpVersion};

use super::choices::{Choices, cut};
use crate::{
    ClientConfig, Config, Connection, DeflateConfig, HandshakeError, HeadLimits, Machine, OriginPolicy,
    ServerConfig, Version,
    buffer::Buffer,
    handshake::{
        ClientHandshake, Proxy, ProxyHandshake, Redirects, ServerHandshake, UnixSocket, accept_key,
        check_with_protocol, client_request,
    },
};

/// What a client sends, from its first byte to its frames, to a server with one of many configurations. However the
/// bytes are cut:
///
/// - The request is read, accepted or refused in the same way, with the same bytes of output, and what is behind it is
///   read as the same frames.
/// - What is accepted keeps the rules of RFC 6455 section 4.2.1, as a second reader sees it, and the answer those of
///   section 4.2.2; the error of what is refused is one that the second reader sees, too.
/// - A refusal is one HTTP response with the error's status, and nothing counts behind it.
/// - No more than the head's limit and a read is kept.
pub fn server_handshake(input: &[u8], now: Instant) {
    let mut choices = Choices::new(input);
    let config = Arc::new(server_config(&mut choices));
    let application = Application::new(&mut choices);
    let cuts = choices.cuts();
    let bytes = choices.rest();
    let whole = serve(&config, application, &[bytes], now);
    assert_eq!(serve(&config, application, &cut(bytes, &cuts), now), whole, "cut by {cuts:?}");
    assert_eq!(serve(&config, application, &cut(bytes, &[1]), now), whole, "byte by byte");
    let elsewhere = Application { elsewhere: true, ..application };
    assert_eq!(serve(&config, elsewhere, &[bytes], now), whole, "read by another implementation");
    check_served(&config, application, bytes, &whole);
}

/// What a server sends, from its first byte to its frames, to a client with one of many configurations; or what a
/// SOCKS proxy does. However the bytes are cut:
///
/// - The answer is judged in the same way, what is behind it is read as the same frames, and of a refusal the same
///   body is kept, no more than the limit.
/// - What is accepted keeps the rules of RFC 6455 section 4.1, as a second reader sees it.
/// - The request is one head on the wire, whatever the URL, and redirects take no secrets to other hosts.
/// - No more than the head's limit and a read is kept.
pub fn client_handshake(input: &[u8], now: Instant) {
    let mut choices = Choices::new(input);
    let config = client_config(&mut choices);
    let (with_timeout, by_proxy) = (choices.flag(), choices.byte() % 8);
    let cuts = choices.cuts();
    let url = String::from_utf8_lossy(choices.until(b'\n')).into_owned();
    let request = client_request(&url);
    let mut request = request.unwrap_or_else(|_| client_request("wss://a.example/chat?x=1").expect("a URL"));
    request.headers_mut().insert("cookie", HeaderValue::from_static("secret"));
    let bytes = choices.rest();
    let proxy = ["socks5://p.example", "socks5://user:password@p.example"].get(usize::from(by_proxy));
    if let Some(proxy) = proxy {
        let proxy = proxy.parse().expect("a URL of a proxy");
        let whole = ask(&proxy, &request, &[bytes], now);
        assert_eq!(ask(&proxy, &request, &cut(bytes, &cuts), now), whole, "cut by {cuts:?}");
        assert_eq!(ask(&proxy, &request, &cut(bytes, &[1]), now), whole, "byte by byte");
        return;
    }
    let whole = dial(&request, &config, with_timeout, &[bytes], now);
    assert_eq!(dial(&request, &config, with_timeout, &cut(bytes, &cuts), now), whole, "cut by {cuts:?}");
    assert_eq!(dial(&request, &config, with_timeout, &cut(bytes, &[1]), now), whole, "byte by byte");
    check_dialled(&config, &request, bytes, &whole);
}

// The server

/// What the application does with a request.
#[derive(Clone, Copy, Debug)]
struct Application {
    /// Refuses with this status, if there is such a one.
    refuses: Option<StatusCode>,
    /// Chooses none of the subprotocols.
    no_subprotocol: bool,
    /// What is not complete is ended by the deadline, not by the client.
    timeout: bool,
    /// Another implementation of HTTP has read the request.
    elsewhere: bool,
}

impl Application {
    fn new(choices: &mut Choices<'_>) -> Self {
        let flags = choices.byte();
        let status = choices.one_of(&[
            StatusCode::FORBIDDEN,
            StatusCode::SWITCHING_PROTOCOLS,
            StatusCode::NO_CONTENT,
            StatusCode::NOT_MODIFIED,
        ]);
        Self {
            refuses: (flags & 1 != 0).then_some(status),
            no_subprotocol: flags & 2 != 0,
            timeout: flags & 4 != 0,
            elsewhere: false,
        }
    }
}

/// What came of a handshake.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The request or the answer that was read, and its verdict.
    read: Option<String>,
    accepted: bool,
    error: Option<String>,
    status: Option<StatusCode>,
    body: Option<Bytes>,
    next: Option<String>,
    output: Vec<u8>,
    talk: Option<String>,
}

fn serve(config: &Arc<ServerConfig>, application: Application, pieces: &[&[u8]], now: Instant) -> Outcome {
    let mut handshake = ServerHandshake::new(config.clone(), now);
    let (all, mut pieces) = (pieces.concat(), pieces.to_vec());
    feed(&mut handshake, &mut pieces, config.head.max_len, now, ServerHandshake::advance);
    let read = handshake.request().map(|request| format!("{request:?}"));
    let mut outcome = Outcome {
        read,
        accepted: false,
        error: None,
        status: None,
        body: None,
        next: None,
        output: Vec::new(),
        talk: None,
    };
    if let Some(request) = handshake.request() {
        check_extended(request, config);
        if application.elsewhere {
            let behind = &all[Head::read(&all).expect("a request was read").len..];
            handshake = ServerHandshake::from_request(config.clone(), request.clone(), behind);
            pieces.clear();
            assert!(handshake.advance());
        }
        let verdict = handshake.check();
        match (application.refuses, verdict) {
            (Some(status), _) => {
                let mut response = Response::new(Bytes::from_static(b"no\n"));
                *response.status_mut() = status;
                response.headers_mut().insert("x-why", HeaderValue::from_static("because"));
                response.headers_mut().insert("content-length", HeaderValue::from_static("7"));
                handshake.refuse(response);
            }
            (None, Err(error)) => handshake.fail(error),
            (None, Ok(mut acceptance)) => {
                let first = acceptance.offered().first().cloned();
                assert!(acceptance.set_subprotocol(first.as_deref()).is_ok());
                assert!(acceptance.set_subprotocol(Some("not, offered")).is_err());
                if !application.no_subprotocol {
                    let chosen = acceptance.offered().iter().find(|name| config.subprotocols.contains(name));
                    let chosen = chosen.cloned();
                    acceptance.set_subprotocol(chosen.as_deref()).expect("it was offered");
                } else {
                    acceptance.set_subprotocol(None).expect("none can always be chosen");
                }
                let (mut connection, _) = handshake.accept(acceptance, now);
                outcome.accepted = true;
                outcome.output = write(&mut connection);
                outcome.talk = Some(talk(connection, &pieces, now));
                return outcome;
            }
        }
    } else if handshake.error().is_none() {
        if application.timeout {
            let (deadline, _) = handshake.poll_timeout(now).expect("a request has its deadline");
            handshake.handle_timeout(deadline);
        } else {
            handshake.handle_eof(now);
        }
        assert!(!handshake.advance());
    }
    let error = handshake.error().expect("it has failed");
    outcome.error = Some(format!("{error:?}"));
    outcome.status = error.status();
    outcome.output = write(&mut handshake);
    end_refused(handshake, now);
    outcome
}

/// Nothing counts behind a refusal, and it comes to an end.
fn end_refused(mut handshake: ServerHandshake, now: Instant) {
    assert!(handshake.wants_shutdown());
    if handshake.wants_read() {
        let space = handshake.recv_space();
        space[..4].copy_from_slice(b"GET ");
        handshake.handle_input(4, now);
        assert!(!handshake.advance() && write(&mut handshake).is_empty());
        handshake.handle_eof(now);
    }
    assert!(handshake.is_ended() && !handshake.wants_read());
    assert_eq!(handshake.poll_timeout(now), None);
}

/// The same request as an extended CONNECT of HTTP/2 (RFC 8441).
fn check_extended(request: &Request<()>, config: &ServerConfig) {
    let mut request = request.clone();
    *request.version_mut() = HttpVersion::HTTP_2;
    *request.method_mut() = Method::CONNECT;
    if let Ok(acceptance) = check_with_protocol(&request, Some("websocket"), config) {
        let response = acceptance.response();
        assert_eq!(response.status(), 200);
        for name in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
    }
    assert!(check_with_protocol(&request, None, config).is_err());
}

fn check_served(config: &ServerConfig, application: Application, bytes: &[u8], outcome: &Outcome) {
    let head = Head::read(bytes);
    assert!(outcome.read.is_none() || head.is_some(), "a request was read before it was complete");
    if outcome.accepted {
        let head = head.expect("it was read");
        assert!(head.len <= config.head.max_len && head.fields.len() <= config.head.max_fields);
        assert!(head.breaks().is_empty(), "accepted, though it breaks rules: {head:?}");
        let key = head.only("sec-websocket-key").expect("it breaks no rule");
        let answer = Head::read(&outcome.output).expect("the answer is a head");
        assert_eq!(answer.len, outcome.output.len());
        assert_eq!(answer.first, "HTTP/1.1 101 Switching Protocols");
        assert_eq!(answer.only("upgrade"), Some("websocket"));
        assert_eq!(answer.only("connection"), Some("Upgrade"));
        assert_eq!(answer.only("sec-websocket-accept"), Some(&*accept_key(key.as_bytes())));
        assert_eq!(answer.all("content-length").count() + answer.all("transfer-encoding").count(), 0);
        let offered = || head.all("sec-websocket-protocol").flat_map(elements).map(str::trim);
        match answer.all("sec-websocket-protocol").collect::<Vec<_>>()[..] {
            [] => assert!(
                application.no_subprotocol
                    || !offered().any(|name| config.subprotocols.iter().any(|n| n == name))
            ),
            [chosen] => {
                let first = offered().find(|name| config.subprotocols.iter().any(|served| served == name));
                assert_eq!(Some(chosen), first);
            }
            _ => panic!("several subprotocols: {answer:?}"),
        }
        let extensions: Vec<_> = answer.all("sec-websocket-extensions").collect();
        let offers: String = head.all("sec-websocket-extensions").collect();
        assert!(extensions.len() <= 1 && (extensions.is_empty() || config.deflate.is_some()));
        assert!(extensions.is_empty() || offers.to_ascii_lowercase().contains("permessage-deflate"));
        if let Some(path) = &config.path {
            let target = head.first.split(' ').nth(1).expect("it breaks no rule");
            assert!(target.contains(&**path), "{target}");
        }
        return;
    }
    let Some(status) = outcome.status else {
        assert!(outcome.output.is_empty(), "no status, but an answer: {outcome:?}");
        return;
    };
    let answer = Head::read(&outcome.output).expect("a refusal has a head");
    assert!(answer.first.starts_with(&format!("HTTP/1.1 {} ", status.as_str())), "{answer:?}");
    assert_eq!(answer.only("connection"), Some("close"));
    let body = outcome.output.len() - answer.len;
    let is_head = outcome.read.is_some() && head.as_ref().is_some_and(|head| head.first.starts_with("HEAD "));
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        assert_eq!((body, answer.only("content-length")), (0, None));
    } else {
        let len: usize = answer.only("content-length").and_then(|len| len.parse().ok()).expect("a length");
        assert_eq!(body, if is_head { 0 } else { len });
    }
    // What the library calls broken is broken.
    if application.refuses.is_none()
        && let (Some(error), Some(head)) = (&outcome.error, head)
        && ["Method", "HttpVersion", "NotUpgrade", "Key", "Body"].contains(&&**error)
        && outcome.read.is_some()
    {
        assert!(head.breaks().contains(&&**error), "{error} of {head:?}");
    }
}

fn server_config(choices: &mut Choices<'_>) -> ServerConfig {
    let flags = choices.byte();
    let mut config = ServerConfig {
        connection: connection_config(),
        path: (flags & 1 != 0).then(|| "/chat".into()),
        subprotocols: if flags & 2 != 0 { vec!["a".into(), "b".into()] } else { Vec::new() },
        deflate: (flags & 4 != 0).then(DeflateConfig::default),
        version_8: flags & 8 != 0,
        origins: match flags >> 4 & 3 {
            0 | 1 => OriginPolicy::Any,
            2 => OriginPolicy::Same,
            _ => OriginPolicy::List(vec!["https://a.example".into()]),
        },
        head: head_limits(flags >> 6),
        ..ServerConfig::default()
    };
    config.headers.insert("x-served", HeaderValue::from_static("yes"));
    config.headers.insert("upgrade", HeaderValue::from_static("left out"));
    config
}

// The client

fn dial(
    request: &Request<()>,
    config: &ClientConfig,
    with_timeout: bool,
    pieces: &[&[u8]],
    now: Instant,
) -> Outcome {
    let mut handshake = ClientHandshake::new(request, config, SEED, now).expect("a URL makes a request");
    let output = write(&mut handshake);
    let mut pieces = pieces.to_vec();
    feed(&mut handshake, &mut pieces, config.head.max_len, now, |handshake| handshake.advance());
    if !handshake.advance() && handshake.error().is_none() {
        if with_timeout {
            let (deadline, _) = handshake.poll_timeout(now).expect("a handshake has its deadline");
            handshake.handle_timeout(deadline);
        } else {
            handshake.handle_eof(now);
            handshake.advance();
        }
    }
    let mut outcome = Outcome {
        read: None,
        accepted: handshake.advance(),
        error: handshake.error().map(|error| format!("{error:?}")),
        status: None,
        body: None,
        next: None,
        output,
        talk: None,
    };
    if outcome.accepted {
        assert!(outcome.error.is_none());
        let (connection, response) = handshake.into_connection(now);
        outcome.read = Some(format!("{response:?}"));
        outcome.status = Some(response.status());
        outcome.talk = Some(talk(connection, &pieces, now));
        return outcome;
    }
    assert!(handshake.is_ended() && !handshake.wants_read() && handshake.poll_timeout(now).is_none());
    let error = handshake.error().expect("it was not accepted").clone();
    if let HandshakeError::Status(response) = &error {
        outcome.status = Some(response.status());
        outcome.body = Some(response.body().clone());
        if let Ok(next) = Redirects::new(config.redirects).follow(request, error) {
            check_redirect(request, &next);
            outcome.next = Some(next.uri().to_string());
        }
    }
    outcome
}

/// Secrets leave neither the host and port nor TLS.
fn check_redirect(from: &Request<()>, to: &Request<()>) {
    let port = |request: &Request<()>| {
        let default = if request.uri().scheme_str() == Some("wss") { 443 } else { 80 };
        request.uri().port_u16().unwrap_or(default)
    };
    let is_secure = |request: &Request<()>| request.uri().scheme_str() == Some("wss");
    let host = |request: &Request<()>| request.uri().host().expect("a host").to_ascii_lowercase();
    let socket = |request: &Request<()>| request.extensions().get::<UnixSocket>().cloned();
    if to.headers().contains_key("cookie") || to.headers().contains_key("authorization") {
        assert_eq!((host(from), socket(from)), (host(to), socket(to)));
        // The default ports of ws and wss count as the same.
        assert!(port(from) == port(to) || [port(from), port(to)] == [80, 443]);
        assert!(is_secure(to) || !is_secure(from));
    }
}

fn check_dialled(config: &ClientConfig, request: &Request<()>, bytes: &[u8], outcome: &Outcome) {
    let sent = Head::read(&outcome.output).expect("the request is a head");
    assert_eq!(sent.len, outcome.output.len(), "one head and nothing behind it");
    assert!(sent.breaks().is_empty() || config.version == Version::V8, "{sent:?}");
    assert!(sent.only("cookie").is_some(), "{:?}", request.uri());
    if let Some(body) = &outcome.body {
        assert!(body.len() <= config.max_body);
    }
    if !outcome.accepted {
        return;
    }
    let head = final_head(bytes).expect("an answer was read");
    assert!(head.first.starts_with("HTTP/1.1 101"), "{head:?}");
    let key = sent.only("sec-websocket-key").expect("there is a key");
    assert_eq!(head.only("sec-websocket-accept"), Some(&*accept_key(key.as_bytes())));
    assert!(head.names_token("upgrade", "websocket") && head.names_token("connection", "upgrade"));
    match head.all("sec-websocket-protocol").collect::<Vec<_>>()[..] {
        [] => assert!(config.subprotocols.is_empty()),
        [chosen] => assert!(config.subprotocols.iter().any(|offered| offered == chosen)),
        _ => panic!("several subprotocols: {head:?}"),
    }
    let extensions: String = head.all("sec-websocket-extensions").collect();
    let is_deflate = extensions.to_ascii_lowercase().contains("permessage-deflate");
    assert!(extensions.is_empty() || is_deflate && config.deflate.is_some(), "{extensions}");
}

/// The first head that is of no interim response.
fn final_head(mut bytes: &[u8]) -> Option<Head> {
    loop {
        let head = Head::read(bytes)?;
        if !head.first[9..].starts_with('1') || head.first[9..].starts_with("101") {
            return Some(head);
        }
        bytes = &bytes[head.len..];
    }
}

fn client_config(choices: &mut Choices<'_>) -> ClientConfig {
    let flags = choices.byte();
    ClientConfig {
        connection: connection_config(),
        head: head_limits(flags & 3),
        max_body: choices.one_of(&[64 * 1024, 10, 0, 1]),
        subprotocols: if flags & 4 != 0 { vec!["a".into(), "b".into()] } else { Vec::new() },
        deflate: (flags & 8 != 0).then(DeflateConfig::default),
        version: if flags & 16 != 0 { Version::V8 } else { Version::V13 },
        redirects: usize::from(flags >> 5 & 1),
        ..ClientConfig::default()
    }
}

/// What comes of the answers of a proxy.
fn ask(
    proxy: &Proxy,
    request: &Request<()>,
    pieces: &[&[u8]],
    now: Instant,
) -> (bool, Option<String>, Vec<u8>, usize) {
    let limits = HeadLimits::default();
    let mut handshake = match ProxyHandshake::new(proxy, request, &limits, now) {
        Ok(handshake) => handshake,
        Err(error) => return (false, Some(format!("{error:?}")), Vec::new(), 0),
    };
    let mut pieces = pieces.to_vec();
    let mut output = write(&mut handshake);
    feed(&mut handshake, &mut pieces, limits.max_len, now, |handshake| {
        let is_open = handshake.advance();
        output.extend(write(handshake));
        is_open
    });
    if !handshake.advance() {
        handshake.handle_eof(now);
    }
    let is_open = handshake.advance();
    assert!(is_open != handshake.error().is_some() && is_open != handshake.is_ended());
    // What the server sends behind the proxy's answer is not touched.
    let left = if is_open { pieces.concat().len() } else { 0 };
    (is_open, handshake.error().map(|error| format!("{error:?}")), output, left)
}

// Both

/// Has the machine read until `look` is true or it wants no more; what it did not read stays in `pieces`.
fn feed<M: Machine>(
    machine: &mut M,
    pieces: &mut Vec<&[u8]>,
    limit: usize,
    now: Instant,
    mut look: impl FnMut(&mut M) -> bool,
) {
    let mut is_there = look(machine);
    while !is_there
        && machine.wants_read()
        && let Some(piece) = pieces.first_mut()
    {
        let space = machine.recv_space();
        assert!(!space.is_empty() && space.len() <= limit.max(Buffer::BLOCK) + Buffer::BLOCK);
        let len = space.len().min(piece.len());
        space[..len].copy_from_slice(&piece[..len]);
        *piece = &piece[len..];
        if piece.is_empty() {
            pieces.remove(0);
        }
        if len > 0 {
            machine.handle_input(len, now);
            is_there = look(machine);
        }
    }
}

/// Writes everything.
fn write<M: Machine>(machine: &mut M) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[])];
    let count = machine.output(&mut slices);
    let bytes = if count > 0 { slices[0].to_vec() } else { Vec::new() };
    machine.consume(bytes.len());
    bytes
}

/// What a connection makes of the rest.
fn talk(mut connection: Connection, pieces: &[&[u8]], now: Instant) -> String {
    let (mut events, mut output) = (Vec::new(), Vec::new());
    let mut look = |connection: &mut Connection| {
        while connection.advance() {
            events.push(format!("{:?}", connection.event()));
        }
        output.extend(write(connection));
        false
    };
    let mut pieces = pieces.to_vec();
    feed(&mut connection, &mut pieces, 0, now, &mut look);
    connection.handle_eof(now);
    look(&mut connection);
    assert!(connection.is_ended());
    format!("{:?} {events:?} {output:?} {:?}", connection.subprotocol(), connection.closed())
}

fn connection_config() -> Config {
    Config { max_pongs_per_read: usize::MAX, ..Config::default() }
}

fn head_limits(choice: u8) -> HeadLimits {
    match choice {
        0 | 1 => HeadLimits::default(),
        2 => HeadLimits { max_len: 200, ..HeadLimits::default() },
        _ => HeadLimits { max_fields: 8, max_len: 1000, ..HeadLimits::default() },
    }
}

/// The head of a message, read in the plainest way.
#[derive(Debug)]
struct Head {
    first: String,
    fields: Vec<(String, String)>,
    /// Up to the end of the empty line.
    len: usize,
}

impl Head {
    /// `None` if it has no end.
    fn read(bytes: &[u8]) -> Option<Self> {
        let start = 2 * bytes.chunks(2).take_while(|pair| *pair == b"\r\n").count();
        let end = start + bytes[start..].windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let text: String = bytes[start..end].iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
        });
        Some(Self { first, fields: fields.collect(), len: end + 4 })
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    fn names_token(&self, name: &str, token: &str) -> bool {
        let mut tokens = self.all(name).flat_map(elements).map(|token| token.trim_matches([' ', '\t']));
        tokens.any(|found| found.eq_ignore_ascii_case(token))
    }

    /// The rules of section 4.2.1 that a request breaks, named as their errors are.
    fn breaks(&self) -> Vec<&'static str> {
        let words: Vec<&str> = self.first.split(' ').collect();
        let is_clean = |text: &str| !text.contains(|char: char| char.is_ascii_control() && char != '\t');
        let key = self.only("sec-websocket-key").unwrap_or_default();
        let is_base64 = |char: char| char.is_ascii_alphanumeric() || "+/".contains(char);
        let has_body = self.all("content-length").any(|len| len != "0")
            || self.all("transfer-encoding").next().is_some();
        let rules = [
            ("Malformed", words.len() != 3 || !is_clean(&self.first)),
            ("Malformed", self.fields.iter().any(|(name, value)| name.is_empty() || !is_clean(value))),
            ("Method", words[0] != "GET"),
            ("HttpVersion", words.last() != Some(&"HTTP/1.1")),
            ("NotUpgrade", !self.names_token("upgrade", "websocket")),
            ("NotUpgrade", !self.names_token("connection", "upgrade")),
            ("Key", key.len() != 24 || !key.ends_with("==") || !key[..22].chars().all(is_base64)),
            ("Version", !matches!(self.only("sec-websocket-version"), Some("13" | "8"))),
            ("Host", self.only("host").is_none()),
            ("Body", has_body),
        ];
        rules.into_iter().filter_map(|(name, is_broken)| is_broken.then_some(name)).collect()
    }
}

/// The elements of a list. What stands between quotes, or behind one that is alone, is of one element (RFC 9110 section
/// 5.6.4).
fn elements(line: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.split(move |char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = is_quoted && char == '\\' && !was_escaped;
        is_quoted ^= char == '"' && !was_escaped;
        char == ',' && !is_quoted
    })
}

/// What the client's key comes from; dictionary and corpus know the answer to it.
const SEED: [u8; 32] = [7; 32];
