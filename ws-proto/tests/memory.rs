//! What a peer can make a connection hold: memory follows the bytes that arrived, never their number of pieces or
//! what a header promises. Measured as the resident memory of this process, so one test runs at a time.

#![cfg(target_os = "linux")]

mod pair;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pair::*;
use ws_proto::{Config, Connection, Machine, Role, ServerConfig, handshake::ServerHandshake};

#[test]
fn a_million_empty_fragments_cost_nothing() {
    let _one = one_at_a_time();
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_frames(&mut connection, &[text("").fin(false)]);
        let fragments = join(role, &[continuation("").fin(false)]).repeat(1000);
        let before = resident();
        for _ in 0..1000 {
            assert_eq!(feed(&mut connection, &fragments), []);
        }
        assert_grew_at_most(before, MIB);
        assert_eq!(feed_frames(&mut connection, &[continuation("end")]), [text("end")]);
    }
}

#[test]
fn tiny_fragments_and_reads_cost_their_bytes() {
    let _one = one_at_a_time();
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        feed_frames(&mut connection, &[binary("").fin(false)]);
        let fragment = join(role, &[continuation("x").fin(false)]);
        let before = resident();
        // 200,000 bytes of payload, each in a frame of its own, each byte of which is a read of its own.
        for _ in 0..200_000 {
            for byte in &fragment {
                feed(&mut connection, std::slice::from_ref(byte));
            }
        }
        assert_grew_at_most(before, MIB);
    }
}

#[test]
fn a_declared_length_costs_what_arrived() {
    let _one = one_at_a_time();
    let config = Config { max_frame: 1 << 50, max_message: 1 << 50, ..timeless() };
    for role in ROLES {
        let before = resident();
        let mut connections: Vec<_> = (0..100).map(|_| connection(role, &config)).collect();
        for connection in &mut connections {
            let header = binary("").len_as(Len::Bits64(1 << 40)).toward(role).bytes();
            feed(connection, &header);
            feed(connection, &[1; 1000]);
            connection.poll_timeout(start());
        }
        // A hundred promises of a tebibyte: less than a tenth of a mebibyte each.
        assert_grew_at_most(before, 10 * MIB);
        let before = resident();
        for _ in 0..100 {
            feed(&mut connections[0], &[1; 100_000]);
        }
        // Ten million bytes arrived. At most twice as many are held; what an allocator keeps of the smaller buffers
        // before comes on top.
        assert_grew_at_most(before, 80 * MIB);
    }
}

#[test]
fn a_read_after_a_long_frame_ends_where_the_next_ones_are_likely_to_end() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let block = connection.recv_space().len();
        let frame = join(role, &[binary([1; 20_000])]);
        // What is read of a frame beyond the last whole one would have to be moved; a few bytes of its header may be.
        let is_near = |len: usize, whole: usize| (whole..=whole + 6 * 14).contains(&len);
        assert_eq!(feed(&mut connection, &frame), [binary([1; 20_000])]);
        assert!(is_near(connection.recv_space().len(), 6 * frame.len()));
        feed(&mut connection, &frame[..5000]);
        assert!(is_near(connection.recv_space().len(), 6 * frame.len() - 5000));
        assert_eq!(feed(&mut connection, &frame[5000..]), [binary([1; 20_000])]);
        // After a short one anything may come, and as much as there is room for.
        feed_frames(&mut connection, &[text("short")]);
        assert_eq!(connection.recv_space().len(), block);
    }
}

#[test]
fn refused_heads_cost_nothing_while_the_refusal_waits() {
    let _one = one_at_a_time();
    let before = resident();
    let config = Arc::new(ServerConfig::default());
    let mut refused = Vec::new();
    for _ in 0..200 {
        let mut handshake = ServerHandshake::new(Arc::clone(&config), start());
        let space = handshake.recv_space();
        let len = space.len();
        space.fill(b'x');
        handshake.handle_input(len, start());
        assert!(!handshake.advance());
        handshake.poll_timeout(start());
        assert!(handshake.wants_read() && !handshake.is_ended(), "it waits for the end of TCP");
        refused.push(handshake);
    }
    // What came in one read was more than 100 KiB for each.
    assert_grew_at_most(before, 4 * MIB);
}

#[test]
fn unsolicited_pongs_cost_nothing() {
    let _one = one_at_a_time();
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        let pongs = join(role, &vec![pong([0; 125]); 1000]);
        let before = resident();
        for _ in 0..200 {
            feed(&mut connection, &pongs);
        }
        assert_grew_at_most(before, MIB);
        assert_eq!(connection.buffered_amount(), 0);
    }
}

#[test]
fn idle_connections_hold_no_buffers() {
    let _one = one_at_a_time();
    for role in ROLES {
        let before = resident();
        let mut connections: Vec<_> = (0..2000).map(|_| connection(role, &Config::default())).collect();
        for connection in &mut connections {
            let message = text("hello");
            assert_eq!(feed_frames(connection, std::slice::from_ref(&message)), [message]);
            connection.sender().send_text("hello").unwrap();
            write_all(connection);
            connection.advance();
            connection.poll_timeout(start());
        }
        // A kibibyte or two each, and the memory that the thread keeps to lend.
        assert_grew_at_most(before, 8 * MIB);
        drop(connections);
    }
}

#[test]
fn a_message_of_a_gibibyte_in_chunks_costs_a_few_reads() {
    let _one = one_at_a_time();
    let config = Config { max_frame: 1 << 40, max_message: 1 << 40, ..timeless() };
    // What a server gets has to be unmasked, which takes its time without optimisation.
    for (role, total) in [(Role::Client, 1 << 30), (Role::Server, 1 << 28)] {
        let mut connection = connection(role, &config);
        let before = resident();
        feed_chunks(&mut connection, &binary("").len_as(Len::Bits64(total)).toward(role).bytes());
        let (mut fed, mut lent, mut last) = (0, 0, false);
        while fed < total {
            assert!(!connection.advance_chunk());
            // What the space holds is as good as any payload, and costs no copy.
            let len = (connection.recv_space().len() as u64).min(total - fed) as usize;
            connection.handle_input(len, start());
            fed += len as u64;
            while connection.advance_chunk() {
                let chunk = connection.chunk().unwrap();
                lent += chunk.as_bytes().len() as u64;
                last = chunk.last;
            }
        }
        assert_eq!((lent, last), (total, true));
        assert_grew_at_most(before, 2 << 20);
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use flate2::{Compress, Compression};
    use ws_proto::{DeflateConfig, DeflatePool, Fault, ProtocolError};

    use super::{
        pair::deflate::{agreed, compressed, deflate, deflated, flushed, prose},
        *,
    };

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let _one = one_at_a_time();
        let limit = 2 * MIB;
        let config = Config { max_message: limit, ..timeless() };
        // 20 MiB in 10 KiB per mebibyte or less.
        let mut compressor = Compress::new(Compression::best(), false);
        let bomb = deflate(&mut compressor, &vec![0; 10 * limit]);
        assert!(bomb.len() < 32 * 1024, "{}", bomb.len());
        let settings = DeflateConfig::default();
        for role in ROLES {
            for fin in [true, false] {
                let frame = compressed(BINARY, &bomb).fin(fin).toward(role).bytes();
                let before = resident();
                let mut connections: Vec<_> = (0..8).map(|_| agreed(role, &config, &settings, "")).collect();
                let fault = Some(Fault::Protocol(ProtocolError::MessageTooLong { limit }));
                for connection in &mut connections {
                    assert_eq!(feed(connection, &frame), []);
                    assert_eq!(connection.fault(), fault);
                    // Its buffer is given up at once: one of at most twice the limit is in use, and 8 MiB are kept
                    // to be lent again.
                    assert_grew_at_most(before, 2 * limit + 8 * MIB + MIB);
                }
            }
        }
    }

    #[test]
    fn what_inflates_without_end_costs_its_bytes_up_to_the_limit() {
        let _one = one_at_a_time();
        let limit = 16 * MIB;
        let config = Config { max_message: limit, ..timeless() };
        for role in [Role::Server, Role::Client, Role::Server] {
            let mut connection = agreed(role, &config, &DeflateConfig::default(), "");
            feed_frames(&mut connection, &[compressed(BINARY, "").fin(false)]);
            let mut compressor = Compress::new(Compression::best(), false);
            let before = resident();
            for count in 1..=limit / 10_000 + 1 {
                let piece = flushed(&mut compressor, &[7; 10_000]);
                assert_eq!(feed_frames(&mut connection, &[continuation(piece).fin(false)]), []);
                // A buffer doubles, and an allocator may hold on to the one before; of those before that 8 MiB are
                // kept to be lent again.
                assert_grew_at_most(before, 3 * count * 10_000 + 8 * MIB + MIB);
            }
            let fault = Fault::Protocol(ProtocolError::MessageTooLong { limit });
            assert_eq!(connection.fault(), Some(fault));
        }
    }

    #[test]
    fn tiny_fragments_of_a_compressed_message_cost_their_bytes() {
        let _one = one_at_a_time();
        for role in ROLES {
            let mut connection = agreed(role, &timeless(), &DeflateConfig::default(), "");
            let mut compressor = Compress::new(Compression::fast(), false);
            let long = flushed(&mut compressor, &vec![7; 7 * MIB]);
            feed_frames(&mut connection, &[compressed(BINARY, long).fin(false)]);
            let before = resident();
            // If each of them moved what came before, this would take half a minute.
            for _ in 0..10_000 {
                let piece = flushed(&mut compressor, b"x");
                assert_eq!(feed_frames(&mut connection, &[continuation(piece).fin(false)]), []);
            }
            assert_grew_at_most(before, 16 * MIB);
            let events = feed_frames(&mut connection, &[continuation([0x00])]);
            assert_eq!(events[0].payload.len(), 7 * MIB + 10_000);
        }
    }

    #[test]
    fn an_agreement_costs_nothing_before_the_first_message() {
        let _one = one_at_a_time();
        let pool = DeflatePool::default();
        let deflate = DeflateConfig { pool: pool.clone(), ..DeflateConfig::default() };
        for role in ROLES {
            let before = resident();
            let connections: Vec<_> = (0..1000).map(|_| idle(role, &deflate, "")).collect();
            // Two kibibytes each, and what the thread keeps to lend.
            assert_grew_at_most(before, 6 * MIB);
            drop(connections);
            assert_eq!(pool.held(), 0);
        }
    }

    #[test]
    fn without_takeover_connections_share_few_states() {
        let _one = one_at_a_time();
        let message = prose(5000);
        for role in ROLES {
            let deflate = DeflateConfig::default();
            let before = resident();
            let mut connections: Vec<_> = (0..500).map(|_| idle(role, &deflate, BOTH)).collect();
            for connection in &mut connections {
                talk(connection, &message);
                connection.poll_timeout(start());
            }
            // Of their own they would take 500 times 360 KiB, 180 MiB.
            assert_grew_at_most(before, 6 * MIB);
            assert!(deflate.pool.held() < MIB, "{}", deflate.pool.held());
        }
    }

    #[test]
    fn with_takeover_connections_take_what_the_documentation_says() {
        let _one = one_at_a_time();
        let message = prose(40_000);
        for (bits, compressor) in [(9, 200), (15, 316)] {
            let params = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
            let deflate = DeflateConfig { pool: DeflatePool::new(0), ..DeflateConfig::default() };
            let mut connections: Vec<_> = (0..100).map(|_| idle(Role::Server, &deflate, &params)).collect();
            let before = resident();
            for connection in &mut connections {
                connection.sender().send_text(&message).unwrap();
                write_all(connection);
                connection.poll_timeout(start());
            }
            // And some for the buffers, and for what an allocator adds.
            assert_grew_at_most(before, 100 * compressor * 1024 * 11 / 10 + 2 * MIB);
            let before = resident();
            let mut peer = agreed(Role::Client, &timeless(), &deflate, &params);
            peer.sender().send_text(&message).unwrap();
            let bytes = write_all(&mut peer);
            for connection in &mut connections {
                assert_eq!(feed(connection, &bytes).len(), 1);
                connection.poll_timeout(start());
            }
            assert_grew_at_most(before, 100 * 46 * 1024 * 11 / 10 + 2 * MIB);
        }
    }

    #[test]
    fn connections_that_come_and_go_cost_nothing() {
        let _one = one_at_a_time();
        let message = prose(5000);
        for (budget, params) in [(4 * MIB, ""), (0, ""), (4 * MIB, BOTH), (0, BOTH)] {
            let deflate = DeflateConfig { pool: DeflatePool::new(budget), ..DeflateConfig::default() };
            for role in ROLES {
                let come_and_go = |count| {
                    for _ in 0..count {
                        talk(&mut idle(role, &deflate, params), &message);
                    }
                };
                come_and_go(10);
                let before = resident();
                come_and_go(300);
                assert_grew_at_most(before, MIB);
            }
        }
    }

    #[test]
    fn a_message_that_inflates_to_256_mib_in_chunks_costs_a_few_reads() {
        let _one = one_at_a_time();
        let config = Config { max_frame: 1 << 40, max_message: 1 << 40, ..timeless() };
        let mut compressor = Compress::new(Compression::best(), false);
        let piece = flushed(&mut compressor, &vec![0; 8 << 20]);
        for role in ROLES {
            let mut connection = agreed(role, &config, &DeflateConfig::default(), "");
            feed_chunks(&mut connection, &join(role, &[compressed(BINARY, &piece).fin(false)]));
            let before = resident();
            let mut lent = 0;
            for _ in 0..32 {
                lent += feed_chunks(&mut connection, &join(role, &[continuation(&piece).fin(false)]));
            }
            assert_eq!(lent, 1 << 28);
            assert_grew_at_most(before, 4 << 20);
        }
    }

    /// A connection that wrote its half of the handshake.
    fn idle(role: Role, deflate: &DeflateConfig, params: &str) -> Connection {
        let mut connection = agreed(role, &timeless(), deflate, params);
        write_all(&mut connection);
        connection.poll_timeout(start());
        connection
    }

    /// Sends a message compressed, and hears one.
    fn talk(connection: &mut Connection, message: &str) {
        connection.sender().send_text(message).unwrap();
        assert_eq!(write_frames(connection)[0].rsv, 4);
        let events = feed_frames(connection, &[compressed(TEXT, deflated(message))]);
        assert_eq!(events, [text(message)]);
    }

    const BOTH: &str = "; server_no_context_takeover; client_no_context_takeover";
}

/// Has the connection read bytes and lend them in chunks: how many.
fn feed_chunks(connection: &mut Connection, bytes: &[u8]) -> usize {
    let mut lent = 0;
    feed_machine(connection, bytes, start(), |connection| {
        while connection.advance_chunk() {
            lent += connection.chunk().unwrap().as_bytes().len();
        }
    });
    lent
}

const MIB: usize = 1024 * 1024;

static ONE: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there is such a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kibibytes");
    kib * 1024
}

#[track_caller]
fn assert_grew_at_most(before: usize, bytes: usize) {
    let grown = resident().saturating_sub(before);
    assert!(grown <= bytes, "grew by {grown} bytes, more than {bytes}");
}
