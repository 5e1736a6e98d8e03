//! Compressed messages of a peer, and our own.

use std::time::Instant;

use super::{
    choices::{Choices, ROLES, connection},
    inflate,
    wire::write_frame,
};
use crate::{
    Config, DeflateConfig, Event, Fault, Machine, ProtocolError, Role,
    buffer::Buffer,
    deflate::{Agreement, Deflater, Half, Inflater},
};

/// permessage-deflate: the input is a compressed message of the peer, the first byte says in which fragments it comes.
///
/// - What an inflater of bits makes of it, both roles make of it, and nothing else: it is a message, not DEFLATE, or
///   too long.
/// - No more than the limit comes out of it, and the memory held is bounded.
/// - The input as a message of our own survives being compressed and inflated, by both inflaters.
pub fn deflate(input: &[u8], now: Instant) {
    let mut choices = Choices::new(input);
    let choice = choices.byte();
    let payload = choices.rest();
    let half = Half { takeover: choice & 1 != 0, bits: 9 + choice % 7 };
    let expected =
        if payload.is_empty() { Some(Vec::new()) } else { inflate::Inflater::new(15).inflate(payload) };
    for role in ROLES {
        receive(role, half, 1 + usize::from(choice) * 7, payload, expected.as_deref(), now);
    }
    send(half, payload);
}

fn receive(role: Role, half: Half, fragment: usize, payload: &[u8], expected: Option<&[u8]>, now: Instant) {
    let config = Config { max_message: LIMIT, ..Config::default() };
    let (agreement, deflate) = (Agreement { server: half, client: half }, DeflateConfig::default());
    let mut receiver = connection(role, &config, Some((&agreement, &deflate)), now);
    let mut message = None;
    let count = payload.len().div_ceil(fragment).max(1);
    for i in 0..count {
        let piece = &payload[i * fragment..payload.len().min((i + 1) * fragment)];
        let opcode = if i == 0 { 0x42 } else { 0x00 };
        let mut frame = Vec::new();
        write_frame(role, if i + 1 == count { 0x80 | opcode } else { opcode }, [0; 4], piece, &mut frame);
        let mut bytes = &frame[..];
        while !bytes.is_empty() {
            let space = receiver.recv_space();
            let len = space.len().min(bytes.len());
            space[..len].copy_from_slice(&bytes[..len]);
            receiver.handle_input(len, now);
            bytes = &bytes[len..];
            while receiver.advance() {
                let Some(Event::Binary(payload)) = receiver.event() else {
                    panic!("only a message was sent")
                };
                assert!(message.is_none() && bytes.is_empty() && i + 1 == count, "it is not complete");
                message = Some(payload.to_vec());
            }
        }
        assert!(receiver.memory() <= 2 * (LIMIT + 2 * Buffer::BLOCK), "holds {}", receiver.memory());
    }
    let too_long = Fault::Protocol(ProtocolError::MessageTooLong { limit: LIMIT });
    match (expected, receiver.fault()) {
        (Some(expected), None) => assert!(expected.len() <= LIMIT && message.as_deref() == Some(expected)),
        (Some(expected), Some(fault)) => assert!(fault == too_long && expected.len() > LIMIT, "{fault:?}"),
        (None, fault) => {
            let faults = [Fault::Protocol(ProtocolError::Deflate), too_long];
            assert!(fault.is_some_and(|fault| faults.contains(&fault)), "{fault:?}");
        }
    }
    assert_eq!(message.is_some(), receiver.fault().is_none());
}

fn send(half: Half, payload: &[u8]) {
    let config = DeflateConfig::default();
    let (mut deflater, mut inflater) =
        (Deflater::new(half, &config).expect("zlib can do so many bits"), Inflater::new(half, &config));
    let mut second = inflate::Inflater::new(half.bits);
    // Twice, so that the second may refer to the first.
    for _ in 0..2 {
        let (mut compressed, mut inflated) = (Buffer::default(), Buffer::default());
        deflater.deflate(payload, true, &mut compressed);
        inflater.inflate(compressed.pending(), &mut inflated, payload.len()).expect("it is within the limit");
        inflater.finish(&mut inflated, payload.len()).expect("it is complete");
        assert_eq!(inflated.pending(), payload);
        assert_eq!(second.inflate(compressed.pending()).as_deref(), Some(payload));
        if !half.takeover {
            second.reset();
        }
    }
}

const LIMIT: usize = 64 * 1024;
