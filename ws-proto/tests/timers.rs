//! The deadlines of a connection: keepalive, pong, write. Those of the handshake and of closing are tested with
//! these (`rfc6455_s4_*.rs`, `rfc6455_s7_closing.rs`).

mod pair;

use std::time::{Duration, Instant};

use pair::*;
use ws_proto::{Config, Connection, Fault, Initiator, Machine, Timer};

// Keepalive

#[test]
fn s5_5_2_silence_is_pinged() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        assert_eq!(deadline(&mut connection, at(0)), Some((secs(20), Timer::KeepAlive)));
        connection.handle_timeout(at_ms(19_999));
        assert_eq!(write_frames(&mut connection), []);
        connection.handle_timeout(at(20));
        assert_eq!(write_frames(&mut connection), [ping("")]);
        assert_eq!(deadline(&mut connection, at(20)), Some((secs(40), Timer::Pong)));
    }
}

#[test]
fn s5_5_2_any_byte_counts_as_life() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        // The first byte of a frame that goes on for ever.
        let bytes = join(role, &[text("slow")]);
        feed_at(&mut connection, &bytes[..1], at(15));
        connection.handle_timeout(at(20));
        assert_eq!(write_frames(&mut connection), []);
        assert_eq!(deadline(&mut connection, at(20)), Some((secs(35), Timer::KeepAlive)));
        connection.handle_timeout(at(35));
        assert_eq!(write_frames(&mut connection), [ping("")]);
        // And it answers the ping as well as a pong does.
        feed_at(&mut connection, &bytes[1..2], at(50));
        assert_eq!(deadline(&mut connection, at(50)), Some((secs(70), Timer::KeepAlive)));
        assert!(!connection.is_ended());
    }
}

#[test]
fn s5_5_2_pong_rearms_the_keepalive() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        for round in 0..5 {
            let begin = 30 * round;
            connection.handle_timeout(at(begin + 20));
            assert_eq!(write_frames(&mut connection), [ping("")]);
            feed_at(&mut connection, &join(role, &[pong("")]), at(begin + 30));
            let next = Some((secs(begin + 50), Timer::KeepAlive));
            assert_eq!(deadline(&mut connection, at(begin + 30)), next);
        }
    }
}

#[test]
fn s5_5_2_silence_after_a_ping_is_the_end() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.handle_timeout(at(20));
        write_all(&mut connection);
        connection.handle_timeout(at_ms(39_999));
        assert!(!connection.is_ended());
        connection.handle_timeout(at(40));
        assert!(connection.is_ended());
        assert_eq!(connection.fault(), Some(Fault::Timeout(Timer::Pong)));
        assert_abnormal(&connection);
        // Told in case the peer still reads; nobody waits for that.
        assert_eq!(write_frames(&mut connection), [close(1011, "")]);
        assert_eq!(connection.poll_timeout(at(40)), None);
    }
}

#[test]
fn s5_5_2_a_silent_pair_lives_for_ever() {
    let mut pair = Pair::new(&Config::default()).with_latency(secs(1));
    pair.run_for(secs(24 * 60 * 60));
    for role in ROLES {
        let end = pair.end(role);
        assert!(!end.connection.is_ended() && end.connection.fault().is_none());
        assert!(end.events.len() > 100, "pings and pongs were heard");
    }
}

#[test]
fn s5_5_2_traffic_in_one_direction_keeps_both_alive() {
    for role in ROLES {
        let mut pair = Pair::new(&Config::default());
        for _ in 0..100 {
            pair.end(role).connection.sender().send_text("tick").unwrap();
            pair.run_for(secs(5));
        }
        assert!(!pair.server.connection.is_ended() && !pair.client.connection.is_ended());
    }
}

#[test]
fn s5_5_2_dead_peer_is_found() {
    for role in ROLES {
        let mut pair = Pair::new(&Config::default());
        let (alive, dead) = (role, if role == ROLES[0] { ROLES[1] } else { ROLES[0] });
        pair.end(dead).link.blocked = true;
        pair.run_for(secs(40));
        assert_eq!(pair.end(alive).connection.fault(), Some(Fault::Timeout(Timer::Pong)));
    }
}

#[test]
fn keepalive_none_never_pings() {
    let config = Config { keepalive: None, ..Config::default() };
    for role in ROLES {
        let mut connection = connection(role, &config);
        assert_eq!(connection.poll_timeout(at(0)), None);
        connection.handle_timeout(at(1_000_000));
        assert_eq!(write_frames(&mut connection), []);
        feed_at(&mut connection, &join(role, &[text("x")]), at(1_000_000));
        assert_eq!(connection.poll_timeout(at(1_000_000)), None);
    }
}

#[test]
fn pong_timeout_none_goes_on_pinging() {
    let config = Config { pong_timeout: None, ..Config::default() };
    for role in ROLES {
        let mut connection = connection(role, &config);
        for round in 1..10 {
            assert_eq!(
                deadline(&mut connection, at(20 * round - 20)),
                Some((secs(20 * round), Timer::KeepAlive))
            );
            connection.handle_timeout(at(20 * round));
            assert_eq!(write_frames(&mut connection), [ping("")]);
        }
        assert!(!connection.is_ended());
    }
}

#[test]
fn keepalive_does_not_end_a_slow_reader_that_was_not_pinged() {
    // `pong_timeout`: how long a peer that was pinged may stay silent. While output waits there is no ping: then the
    // write deadline watches the peer.
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.sender().send_binary(&[0; 1000]).unwrap();
        for second in 1..=300 {
            connection.poll_timeout(at(second));
            connection.handle_timeout(at(second));
            let bytes = write_some(&mut connection, 1, 1);
            assert_eq!(bytes.len(), 1, "a byte a second");
            assert_eq!(connection.fault(), None, "after {second} s of progress, {role:?}");
        }
    }
}

#[test]
fn keepalive_watches_again_once_output_is_written() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.sender().send_text("waits").unwrap();
        connection.poll_timeout(at(0));
        connection.handle_timeout(at(20));
        assert_eq!(write_frames(&mut connection), [text("waits")]);
        // From here on the peer is silent: it is pinged, then given up.
        let mut now = at(20);
        let mut pings = 0;
        while let Some((deadline, _)) = connection.poll_timeout(now).filter(|_| !connection.is_ended()) {
            now = deadline;
            connection.handle_timeout(now);
            pings += write_frames(&mut connection).iter().filter(|&frame| *frame == ping("")).count();
        }
        assert_eq!((connection.fault(), pings), (Some(Fault::Timeout(Timer::Pong)), 1));
        assert!(now <= at(80), "{:?}", now - start());
    }
}

// Write

#[test]
fn write_deadline_runs_only_while_output_waits() {
    for role in ROLES {
        let mut connection = connection(role, &no_keepalive());
        assert_eq!(connection.poll_timeout(at(0)), None);
        connection.sender().send_text("waits").unwrap();
        assert_eq!(deadline(&mut connection, at(1)), Some((secs(31), Timer::Write)));
        assert_eq!(
            deadline(&mut connection, at(5)),
            Some((secs(31), Timer::Write)),
            "waiting on does not extend it"
        );
        write_all(&mut connection);
        assert_eq!(connection.poll_timeout(at(6)), None);
        connection.handle_timeout(at(100));
        assert!(!connection.is_ended());
    }
}

#[test]
fn write_deadline_is_restarted_by_progress() {
    for role in ROLES {
        let mut connection = connection(role, &no_keepalive());
        connection.sender().send_text("slowly").unwrap();
        for round in 0..6 {
            let now = 29 * round;
            assert_eq!(deadline(&mut connection, at(now)), Some((secs(now + 30), Timer::Write)));
            connection.handle_timeout(at(now + 29));
            assert_eq!(write_some(&mut connection, 1, 1).len(), 1);
        }
        assert!(!connection.is_ended());
    }
}

#[test]
fn write_deadline_is_not_restarted_by_more_output_or_input() {
    for role in ROLES {
        let mut connection = connection(role, &no_keepalive());
        connection.sender().send_text("first").unwrap();
        connection.poll_timeout(at(0));
        connection.sender().send_text("second").unwrap();
        feed_at(&mut connection, &join(role, &[text("x"), ping("y")]), at(29));
        assert_eq!(deadline(&mut connection, at(29)), Some((secs(30), Timer::Write)));
        connection.handle_timeout(at(30));
        assert!(connection.is_ended());
        assert_eq!(connection.fault(), Some(Fault::Timeout(Timer::Write)));
        assert_abnormal(&connection);
    }
}

#[test]
fn write_deadline_bounds_a_close_that_is_not_taken() {
    for role in ROLES {
        let config = Config { close_timeout: None, ..no_keepalive() };
        let mut connection = connection(role, &config);
        connection.close_without_code();
        assert_eq!(deadline(&mut connection, at(0)), Some((secs(30), Timer::Write)));
        connection.handle_timeout(at(30));
        assert!(connection.is_ended());
    }
}

#[test]
fn write_timeout_none_waits_for_ever() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        connection.sender().send_text("waits").unwrap();
        assert_eq!(connection.poll_timeout(at(0)), None);
        connection.handle_timeout(at(1_000_000));
        assert!(!connection.is_ended());
        connection.close_without_code();
        assert_eq!(connection.poll_timeout(at(1_000_000)), None, "nor has closing a deadline");
    }
}

// Time in general

#[test]
fn early_and_late_calls_are_harmless() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        for _ in 0..3 {
            connection.handle_timeout(start());
            connection.handle_timeout(at(1));
        }
        assert_eq!(write_frames(&mut connection), []);
        assert_eq!(deadline(&mut connection, at(1)), Some((secs(20), Timer::KeepAlive)));
        // A machine that slept for an hour pings first: nothing was asked of the peer so far.
        connection.handle_timeout(at(3600));
        assert!(!connection.is_ended());
        assert_eq!(write_frames(&mut connection), [ping("")]);
        assert_eq!(deadline(&mut connection, at(3600)), Some((secs(3620), Timer::Pong)));
    }
}

#[test]
fn a_deadline_that_was_overslept_still_ends_the_connection() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.handle_timeout(at(20));
        write_all(&mut connection);
        connection.handle_timeout(at(3600));
        assert_eq!(connection.fault(), Some(Fault::Timeout(Timer::Pong)));
    }
}

#[test]
fn a_peer_that_never_pauses_does_not_outrun_a_deadline_that_runs() {
    // No timer ever fires, as there is always something to read.
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        connection.close_without_code();
        write_all(&mut connection);
        connection.poll_timeout(at(0));
        assert_eq!(flood_until_the_end(&mut connection), 10);
    }
}

#[test]
fn a_peer_that_never_pauses_does_not_keep_a_deadline_from_starting() {
    // A driver waits only when there is nothing to read, so it never gets to ask for the deadline.
    for role in ROLES {
        let mut closing = connection(role, &Config::default());
        closing.close_without_code();
        write_all(&mut closing);
        assert!(flood_until_the_end(&mut closing) <= 11);
        assert_eq!(closing.fault(), Some(Fault::Timeout(Timer::Close)));

        let mut stuck = connection(role, &Config::default());
        stuck.sender().send_text("never taken").unwrap();
        assert!(flood_until_the_end(&mut stuck) <= 31);
        assert_eq!(stuck.fault(), Some(Fault::Timeout(Timer::Write)));
    }
}

#[test]
fn after_handle_timeout_every_deadline_lies_in_the_future() {
    let config = |i: u64| {
        let duration = |bit: u64, secs: u64| (i & bit == 0).then(|| Duration::from_secs(secs));
        Config {
            keepalive: duration(1, 20),
            pong_timeout: duration(2, 20),
            write_timeout: duration(4, 30),
            close_timeout: duration(8, 10),
            ..Config::default()
        }
    };
    for (i, role) in (0..16).flat_map(|i| ROLES.map(|role| (i, role))) {
        for state in [open, blocked, closing, failed] {
            let mut connection = connection(role, &config(i));
            state(&mut connection);
            for second in 0..100 {
                let now = at(second);
                connection.handle_timeout(now);
                let next: Option<(Instant, Timer)> = connection.poll_timeout(now);
                assert!(next.is_none_or(|(deadline, _)| deadline > now), "{next:?} at {second} s, {i:04b}");
                assert!(!connection.is_ended() || next.is_none());
            }
        }
    }
}

#[test]
fn time_that_runs_backwards_is_harmless() {
    for role in ROLES {
        let mut connection = connection(role, &Config::default());
        feed_at(&mut connection, &join(role, &[text("x")]), at(100));
        feed_at(&mut connection, &join(role, &[text("x")]), at(50));
        connection.handle_timeout(at(10));
        connection.poll_timeout(at(0));
        assert!(!connection.is_ended());
    }
}

// Helpers

fn no_keepalive() -> Config {
    Config { keepalive: None, ..Config::default() }
}

fn open(_connection: &mut Connection) {}

fn blocked(connection: &mut Connection) {
    connection.sender().send_text("stuck").unwrap();
}

fn closing(connection: &mut Connection) {
    connection.close_without_code();
    write_all(connection);
}

fn failed(connection: &mut Connection) {
    feed_frames(connection, &[text("").rsv(7)]);
}

/// Has the peer send a message a second, without a pause in between; gives the second in which that ends.
#[track_caller]
fn flood_until_the_end(connection: &mut Connection) -> u64 {
    let message = join(connection.role(), &[text("on and on")]);
    let end = (1..1000).find(|&second| {
        feed_at(connection, &message, at(second));
        connection.is_ended()
    });
    end.expect("the connection ends")
}

/// Ended by a deadline, without a Close frame of the peer.
#[track_caller]
fn assert_abnormal(connection: &Connection) {
    let closed = connection.closed().expect("the connection has ended");
    assert_eq!((closed.code.get(), closed.clean, closed.initiator), (1006, false, Initiator::Local));
}
