//! Peers that write bytes by hand: by the rules, and then against them.

use std::{io, time::Duration};

use ws_proto::Message;

use crate::{
    agent::within,
    books::End,
    network::{CLIENT, Wire},
    rng::Rng,
    world::{say, sleep, with},
};

/// What such a peer ends with.
enum Last {
    /// A frame that breaks the protocol.
    Violation(Vec<u8>, u16),
    /// A Close frame, and whatever the library makes of what follows.
    Close,
    /// It ends its half of TCP.
    HalfClose,
    /// It drops the connection.
    Leave,
    /// It says nothing more.
    Silence,
    /// It pings, and reads nothing.
    Flood,
}

/// Talks to a server, or a client, of the library. `limit` is the longest message that the other side takes.
pub(crate) async fn misbehave(mut wire: Wire, mut rng: Rng, has_handshake: bool, limit: usize) {
    let at = wire.at();
    with(|world| {
        world.links[at.0].let_loose(at.1);
        let page = world.books.page(at);
        (page.end, page.is_raw, page.is_deaf) = (End::Left, true, true);
    });
    let _ = talk(&mut wire, &mut rng, has_handshake, limit).await;
    if rng.percent(30) {
        sleep(Duration::from_millis(rng.below(500) as u64)).await;
    }
}

async fn talk(wire: &mut Wire, rng: &mut Rng, has_handshake: bool, limit: usize) -> io::Result<()> {
    let at = wire.at();
    if has_handshake && !open(wire, rng).await? {
        return rest(wire).await;
    }
    let masks = at.1 == CLIENT;
    for number in 0..rng.below(5) {
        let payload = format!("o{number:06} by hand").into_bytes();
        let payload = payload.repeat(rng.between(1, 5.min(limit / 16)));
        let cut = rng.below(payload.len());
        let frames = match rng.below(5) {
            0 => frame(masks, 0x89, b"ping"),
            1 => frame(masks, 0x8a, b"unasked"),
            2 => [
                frame(masks, 0x02, &payload[..cut]),
                frame(masks, 0x89, b"between"),
                frame(masks, 0x80, &payload[cut..]),
            ]
            .concat(),
            _ => frame(masks, 0x82, &payload),
        };
        let is_message = frames[0] & 0x08 == 0;
        if is_message {
            with(|world| {
                let number = world.books.sends(at, Message::from(payload));
                world.books.sent(at, number, &Ok(()));
            });
        }
        write(wire, rng, &frames).await?;
        if rng.percent(30) {
            sleep(Duration::from_millis(rng.below(300) as u64)).await;
        }
    }
    match last(rng, masks, limit) {
        Last::Violation(frames, code) => {
            say(at, format_args!("provokes {code}"));
            with(|world| {
                let page = world.books.page(at);
                (page.provokes, page.insists) = (Some(code), true);
            });
            write(wire, rng, &frames).await?;
            if rng.percent(50) {
                // Nothing behind it counts.
                write(wire, rng, &frame(masks, 0x81, b"not to be heard")).await?;
                write(wire, rng, &frame(masks, 0x88, &[0x03, 0xe8])).await?;
            }
            rest(wire).await
        }
        Last::Close => {
            with(|world| world.books.page(at).closes = true);
            let payload = rng.pick(&[&b""[..], b"\x03\xe8", b"\x0f\xa0four thousand", b"\x03\xf6"]);
            write(wire, rng, &frame(masks, 0x88, payload)).await?;
            if rng.percent(50) {
                write(wire, rng, &frame(masks, 0x81, b"not to be heard")).await?;
            }
            rest(wire).await
        }
        Last::HalfClose => {
            std::future::poll_fn(|cx| ws_proto::drive::Socket::poll_shutdown(wire, cx)).await?;
            rest(wire).await
        }
        Last::Leave => Ok(()),
        Last::Silence => rest(wire).await,
        Last::Flood => {
            let pings = frame(masks, 0x89, &[b'p'; 125]).repeat(40);
            for _ in 0..20 {
                match within(Duration::from_secs(20), wire.write_all(&pings)).await {
                    Some(written) => written?,
                    None => return Ok(()),
                }
            }
            rest(wire).await
        }
    }
}

fn last(rng: &mut Rng, masks: bool, limit: usize) -> Last {
    let frame = |first, payload: &[u8]| frame(masks, first, payload);
    let too_long = vec![b'x'; limit + 1];
    match rng.below(24) {
        0 => Last::Violation(frame(0x81, b"\xff"), 1007),
        1 => Last::Violation(frame(0x81, b"cut \xc5"), 1007),
        2 => Last::Violation(frame(0xa1, b"reserved"), 1002),
        3 => Last::Violation(frame(0x83, b""), 1002),
        4 => Last::Violation(frame(0x8f, b""), 1002),
        5 => Last::Violation(frame(0x80, b"nothing to continue"), 1002),
        6 => Last::Violation(frame(0x09, b"half a ping"), 1002),
        7 => Last::Violation(frame(0x89, &[0; 126]), 1002),
        8 => Last::Violation(frame(0x88, b"\x03"), 1002),
        9 => Last::Violation(frame(0x88, b"\x03\xed"), 1002),
        10 => Last::Violation(frame(0x88, b"\x03\xe8\xff"), 1007),
        11 => Last::Violation(frame(0x82, &too_long), 1009),
        12 => Last::Violation([frame(0x02, &too_long[1..]), frame(0x80, b"x")].concat(), 1009),
        13 => Last::Violation([frame(0x01, b"one"), frame(0x81, b"two")].concat(), 1002),
        14 => Last::Violation(self::frame(!masks, 0x81, b"masked or not"), 1002),
        15 => Last::Violation([0x82, if masks { 0xfe } else { 0x7e }, 0, 1, 0, 0, 0, 0, 0].into(), 1002),
        16 | 17 => Last::Close,
        18 => Last::HalfClose,
        19 => Last::Leave,
        20 => Last::Silence,
        21 => Last::Flood,
        // A text that is no UTF-8 only where its fragments meet.
        _ => Last::Violation([frame(0x01, b"\xe2\x82"), frame(0x80, b"x")].concat(), 1007),
    }
}

/// Asks for a connection, more or less well; whether there is one.
async fn open(wire: &mut Wire, rng: &mut Rng) -> io::Result<bool> {
    let request = match rng.below(12) {
        0 => UPGRADE.replace("13", "12"),
        1 => UPGRADE.replace("Upgrade: websocket\r\n", ""),
        2 => "\u{0}garbage\r\n\r\n".to_owned(),
        3 => UPGRADE.replace("GET", "POST"),
        4 => UPGRADE[..rng.below(UPGRADE.len())].to_owned(),
        _ => UPGRADE.to_owned(),
    };
    let is_good = request == UPGRADE;
    let head = request.len() == UPGRADE.len() || is_good;
    write(wire, rng, request.as_bytes()).await?;
    if rng.percent(20) && head {
        // Frames before the answer.
        write(wire, rng, &frame(true, 0x89, b"early")).await?;
    }
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let Some(read) = within(PATIENCE, wire.read()).await else { return Ok(false) };
        match read? {
            bytes if bytes.is_empty() => return Ok(false),
            bytes => answer.extend(bytes),
        }
    }
    let accepted = answer.starts_with(b"HTTP/1.1 101 ");
    assert!(is_good || !accepted, "{request:?} was accepted");
    Ok(accepted)
}

async fn write(wire: &mut Wire, rng: &mut Rng, bytes: &[u8]) -> io::Result<()> {
    let cut = if rng.percent(30) { rng.below(bytes.len() + 1) } else { 0 };
    for bytes in [&bytes[..cut], &bytes[cut..]] {
        match within(PATIENCE, wire.write_all(bytes)).await {
            Some(written) => written?,
            None => return Err(io::ErrorKind::TimedOut.into()),
        }
        if rng.percent(20) {
            sleep(Duration::from_millis(rng.below(100) as u64)).await;
        }
    }
    Ok(())
}

/// Reads to the end, and not for ever.
async fn rest(wire: &mut Wire) -> io::Result<()> {
    while let Some(read) = within(PATIENCE, wire.read()).await {
        if read?.is_empty() {
            break;
        }
    }
    Ok(())
}

fn frame(masks: bool, first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mask = if masks { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len @ 126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let key = if masks { KEY } else { [0; 4] };
    if masks {
        bytes.extend(KEY);
    }
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The request of RFC 6455 section 1.2.
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Longer than any deadline of the other side.
const PATIENCE: Duration = Duration::from_secs(60);
