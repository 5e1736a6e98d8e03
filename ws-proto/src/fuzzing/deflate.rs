//! The bodies of the fuzz targets in `fuzz/`: each takes any bytes and panics if a promise is broken.

use std::time::Instant;

use crate::{
    Config, Connection, DeflateConfig, Event, Fault, Machine, ProtocolError,
    buffer::Buffer,
    deflate::{Agreement, Deflater, Half, Inflater},
};

/// permessage-deflate: the input is a compressed message of the peer, the first byte says in which fragments it comes.
/// No more than the limit comes out of it. And the input as a message of our own survives being compressed and
/// inflated.
pub fn deflate(input: &[u8], now: Instant) {
    let Some((&choice, payload)) = input.split_first() else { return };
    let half = Half { takeover: choice & 1 != 0, bits: 9 + choice % 7 };
    let agreement = Agreement { server: half, client: half };

    let config = Config { max_message: LIMIT, ..Config::default() };
    let mut receiver = connection(&config, agreement, now);
    let fragment = 1 + usize::from(choice) * 7;
    for (i, piece) in payload.chunks(fragment).enumerate() {
        let last = (i + 1) * fragment >= payload.len();
        feed(&mut receiver, &frame(i == 0, last, piece), now);
        while receiver.advance() {
            let Some(Event::Binary(message)) = receiver.event() else { panic!("only a message was sent") };
            assert!(message.len() <= LIMIT);
        }
        assert!(receiver.memory() <= 2 * (LIMIT + 2 * Buffer::BLOCK), "holds {}", receiver.memory());
    }
    if let Some(fault) = receiver.fault() {
        let expected = [ProtocolError::Deflate, ProtocolError::MessageTooLong { limit: LIMIT }];
        assert!(expected.map(Fault::Protocol).contains(&fault), "{fault:?}");
    }

    let config = DeflateConfig::default();
    let (mut deflater, mut inflater) =
        (Deflater::new(half, &config).expect("zlib can do so many bits"), Inflater::new(half, &config));
    // Twice, so that the second may refer to the first.
    for _ in 0..2 {
        let (mut compressed, mut inflated) = (Buffer::default(), Buffer::default());
        deflater.deflate(payload, true, &mut compressed);
        inflater.inflate(compressed.pending(), &mut inflated, payload.len()).expect("it is within the limit");
        inflater.finish(&mut inflated, payload.len()).expect("it is complete");
        assert_eq!(inflated.pending(), payload);
    }
}

fn connection(config: &Config, agreement: Agreement, now: Instant) -> Connection {
    let deflate = DeflateConfig::default();
    let inflater = Inflater::new(agreement.client, &deflate);
    Connection::server(config, now).with_deflate(Deflater::new(agreement.server, &deflate), Some(inflater))
}

/// A frame of a compressed message, masked with zeros.
fn frame(first: bool, last: bool, payload: &[u8]) -> Vec<u8> {
    let opcode = if first { 0x42 } else { 0x00 };
    let mut frame = vec![if last { 0x80 | opcode } else { opcode }];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len as u8),
        Ok(len) => {
            frame.push(0xfe);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xff);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn feed(connection: &mut Connection, mut bytes: &[u8], now: Instant) {
    while !bytes.is_empty() && connection.wants_read() {
        let space = connection.recv_space();
        let len = space.len().min(bytes.len());
        space[..len].copy_from_slice(&bytes[..len]);
        connection.handle_input(len, now);
        bytes = &bytes[len..];
        if !bytes.is_empty() {
            assert!(!connection.advance(), "the frame is not complete");
        }
    }
}

const LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn deflate_keeps_its_promises_over_the_corpus() {
        let now = Instant::now();
        let corpus =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/deflate")).unwrap();
        let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            deflate(&input, now);
        }
    }
}
