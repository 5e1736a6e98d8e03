//! Connections that agreed on permessage-deflate, by the real handshakes, and what to hold against their encoder and
//! decoder: flate2 by itself, with the octets of RFC 7692 section 7.2 removed here, and an inflater of our own.

use std::sync::Arc;

use flate2::{Compress, Compression, FlushCompress, Status};
use ws_proto::{
    ClientConfig, Config, Connection, DeflateConfig, HandshakeError, Role, ServerConfig,
    handshake::{ClientHandshake, ServerHandshake, client_request},
};

use super::{
    Frame, SEED, feed_machine, frame,
    head::{Parsed, answer, request},
    inflate::Inflater,
    start, write_all,
};

// Handshakes

/// A server's connection and its answer's head, for a request with these lines of `Sec-WebSocket-Extensions`.
pub(crate) fn serve(config: &ServerConfig, lines: &[&str]) -> Result<(Connection, Parsed), HandshakeError> {
    let request = lines.iter().fold(request(), |head, line| head.add("Sec-WebSocket-Extensions", line));
    serve_request(config, &request.bytes())
}

fn serve_request(config: &ServerConfig, request: &[u8]) -> Result<(Connection, Parsed), HandshakeError> {
    let mut handshake = ServerHandshake::new(Arc::new(config.clone()), start());
    feed_machine(&mut handshake, request, start(), |handshake| _ = handshake.advance());
    let acceptance = handshake.check()?;
    let (mut connection, _) = handshake.accept(acceptance, start());
    let answer = Parsed::new(&write_all(&mut connection));
    Ok((connection, answer))
}

/// The client's connection after an answer with these lines, and what it offered.
pub(crate) fn dial(
    config: &ClientConfig,
    lines: &[&str],
) -> Result<(Connection, Option<String>), HandshakeError> {
    let mut offer = None;
    let connection = dial_by(config, |request| {
        offer = request.all("Sec-WebSocket-Extensions").first().map(|&offer| offer.to_owned());
        let answer = answer(request.only("Sec-WebSocket-Key"));
        lines.iter().fold(answer, |head, line| head.add("Sec-WebSocket-Extensions", line)).bytes()
    })?;
    Ok((connection, offer))
}

fn dial_by(
    config: &ClientConfig,
    answer: impl FnOnce(&Parsed) -> Vec<u8>,
) -> Result<Connection, HandshakeError> {
    let request = client_request("ws://example.com/chat").expect("a URL");
    let mut handshake = ClientHandshake::new(&request, config, SEED, start())?;
    let answer = answer(&Parsed::new(&write_all(&mut handshake)));
    feed_machine(&mut handshake, &answer, start(), |handshake| _ = handshake.advance());
    match handshake.error() {
        Some(error) => Err(error.clone()),
        None => Ok(handshake.into_connection(start()).0),
    }
}

/// A server and a client that met, and the field that they agreed by.
pub(crate) fn meet(
    server: &ServerConfig,
    client: &ClientConfig,
) -> Result<(Connection, Connection, Option<String>), HandshakeError> {
    let mut met = None;
    let client = dial_by(client, |request| {
        let offers = request.all("Sec-WebSocket-Extensions");
        let mut head = answer(request.only("Sec-WebSocket-Key"));
        let (server, answer) = serve(server, &offers).expect("a request of ours is fine");
        let field = answer.all("Sec-WebSocket-Extensions").first().map(|&field| field.to_owned());
        if let Some(field) = &field {
            head = head.add("Sec-WebSocket-Extensions", field);
        }
        met = Some((server, field));
        head.bytes()
    })?;
    let (server, field) = met.expect("the client asked");
    Ok((server, client, field))
}

/// A connection whose handshake agreed on `permessage-deflate` with exactly these parameters, `; name=value` each.
pub(crate) fn agreed(role: Role, config: &Config, deflate: &DeflateConfig, params: &str) -> Connection {
    let (connection, deflate) = (config.clone(), Some(deflate.clone()));
    let field = format!("permessage-deflate{params}");
    match role {
        Role::Server => {
            let config = ServerConfig { connection, deflate, ..ServerConfig::default() };
            let (connection, answer) = serve(&config, &[&field]).expect("the request is fine");
            assert_eq!(answer.all("Sec-WebSocket-Extensions"), [field]);
            connection
        }
        Role::Client => {
            let config = ClientConfig { connection, deflate, ..ClientConfig::default() };
            dial(&config, &[&field]).expect("the answer fits the offer").0
        }
    }
}

// Compression

pub(crate) fn compressor() -> Compress {
    Compress::new(Compression::new(6), false)
}

/// Section 7.2.1: a message compressed and flushed, without the last four octets.
pub(crate) fn deflate(compressor: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut bytes = flushed(compressor, payload);
    assert_eq!(bytes.split_off(bytes.len() - TAIL.len()), TAIL);
    bytes
}

/// A piece compressed, with what the flush ends with.
pub(crate) fn flushed(compressor: &mut Compress, mut piece: &[u8]) -> Vec<u8> {
    // Room for all of it at once: a flush that is interrupted ends in two empty blocks.
    let mut bytes = Vec::with_capacity(2 * piece.len() + 200);
    let before = compressor.total_in();
    compressor.compress_vec(piece, &mut bytes, FlushCompress::Sync).expect("compresses");
    piece = &piece[(compressor.total_in() - before) as usize..];
    assert!(piece.is_empty() && bytes.len() < bytes.capacity());
    bytes
}

/// A whole message compressed on its own.
pub(crate) fn deflated(payload: impl AsRef<[u8]>) -> Vec<u8> {
    deflate(&mut compressor(), payload.as_ref())
}

/// The bytes compressed as a stream that ends: its last block is the final one.
pub(crate) fn finished(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * payload.as_ref().len() + 200);
    let status = compressor().compress_vec(payload.as_ref(), &mut bytes, FlushCompress::Finish);
    assert!(matches!(status, Ok(Status::StreamEnd)));
    bytes
}

/// What a message that stands alone inflates to; `None` if it does not.
pub(crate) fn inflate_alone(payload: &[u8]) -> Option<Vec<u8>> {
    Inflater::new(15).inflate(payload)
}

/// What a flush ends with and the wire leaves out.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

// Frames

impl Frame {
    /// Marked as the first of a compressed message.
    pub(crate) fn compressed(self) -> Self {
        self.rsv(4)
    }
}

/// A compressed message in one frame.
pub(crate) fn compressed(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    frame(opcode, payload).compressed()
}

// Payloads

/// Bytes that do not get shorter.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    // xorshift64*
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Text that gets much shorter.
pub(crate) fn prose(len: usize) -> String {
    let lines = (0_usize..).map(|i| format!("{{\"id\":{i},\"name\":\"row {}\",\"on\":true}}\n", i * i % 97));
    let mut text = String::new();
    for line in lines {
        if text.len() >= len {
            break;
        }
        text += &line;
    }
    text.truncate(len);
    text
}
