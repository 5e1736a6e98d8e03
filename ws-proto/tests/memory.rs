//! What a peer can make a connection hold: memory follows the bytes that arrived, never their number of pieces or
//! what a header promises. Measured as the resident memory of this process, so one test runs at a time.

#![cfg(target_os = "linux")]

mod pair;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pair::*;
use ws_proto::{Config, Machine};

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
