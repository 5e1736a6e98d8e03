//! RFC 6455 section 8.1: text is UTF-8, and fails at the first bad byte, however it is cut.

mod pair;

use pair::*;
use ws_proto::{Config, Fault, Machine, Message, ProtocolError};

const VALID: &[&str] = &[
    "",
    "plain ASCII",
    "\0 and \u{7f}",
    "κόσμε",
    "\u{80}\u{7ff}",                      // first and last of two bytes
    "\u{800}\u{ffff}",                    // first and last of three bytes
    "\u{10000}\u{10ffff}",                // first and last of four bytes
    "\u{d7ff}\u{e000}",                   // around the surrogates
    "\u{fffe}\u{feff}\u{fffd}",           // noncharacter, byte order mark, replacement
    "a\u{300}\u{1f469}\u{200d}\u{1f52c}", // combining, joined
    "long enough for a vector register, then \u{1f600}, and after that some more \u{e9}",
];

/// Text that is not UTF-8, and how many of its bytes can still be the start of some.
const INVALID: &[(&[u8], usize)] = &[
    (b"\x80", 0),                     // continuation byte alone
    (b"ok\xbf", 2),                   // the last of them
    (b"\xc0\xaf", 0),                 // '/' in two bytes
    (b"\xc1\xbf", 0),                 // U+007F in two bytes
    (b"\xe0\x80\xaf", 1),             // '/' in three bytes
    (b"\xe0\x9f\xbf", 1),             // U+07FF in three bytes
    (b"\xf0\x80\x80\xaf", 1),         // '/' in four bytes
    (b"\xf0\x8f\xbf\xbf", 1),         // U+FFFF in four bytes
    (b"\xed\xa0\x80", 1),             // first surrogate
    (b"\xed\xbf\xbf", 1),             // last surrogate
    (b"\xed\xa0\x80\xed\xb0\x80", 1), // a pair of them
    (b"\xf4\x90\x80\x80", 1),         // U+110000
    (b"\xf5\x80\x80\x80", 0),         // beyond
    (b"\xf8\x88\x80\x80\x80", 0),     // five bytes
    (b"\xfc\x84\x80\x80\x80\x80", 0), // six bytes
    (b"\xfe", 0),                     // never
    (b"ok\xff", 2),                   // never
    (b"\xc3(", 1),                    // cut by ASCII
    (b"\xe2\x82(", 2),                // cut by ASCII
    (b"\xf0\x9f\x98(", 3),            // cut by ASCII
    (b"\xe2\x82\xe2\x82\xac", 2),     // cut by another character
    (b"long enough for a vector register, then this: \xed\xa0\x80 and more of it behind", 47),
];

/// Text that ends inside a character.
const UNFINISHED: &[&[u8]] =
    &[b"\xc3", b"ok\xc3", b"\xe2\x82", b"\xe2", b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0"];

#[test]
fn s8_1_utf8_is_delivered() {
    for &valid in VALID {
        check(&[text(valid), text("next")], &[text(valid), text("next")], &[]);
    }
}

#[test]
fn s8_1_utf8_is_delivered_however_it_is_fragmented() {
    for &valid in VALID {
        for cut in 0..=valid.len() {
            let (first, second) = valid.as_bytes().split_at(cut);
            let fragments = [text(first).fin(false), ping(""), continuation(second)];
            check(&fragments, &[ping(""), text(valid)], &[pong("")]);
        }
        let mut single = vec![text("").fin(false)];
        single.extend(valid.bytes().map(|byte| continuation([byte]).fin(false)));
        single.push(continuation(""));
        check(&single, &[text(valid)], &[]);
    }
}

#[test]
fn s8_1_other_bytes_fail() {
    for &(invalid, _) in INVALID {
        check_fails(&[text("before"), text(invalid)], &[text("before")], ProtocolError::InvalidUtf8);
    }
    for invalid in UNFINISHED {
        check_fails(&[text(invalid)], &[], ProtocolError::InvalidUtf8);
    }
}

#[test]
fn s8_1_other_bytes_fail_however_they_are_fragmented() {
    let all = INVALID.iter().map(|&(invalid, _)| invalid).chain(UNFINISHED.iter().copied());
    for invalid in all {
        for cut in 0..=invalid.len() {
            let (first, second) = invalid.split_at(cut);
            let fragments = [text(first).fin(false), continuation(second)];
            check_fails(&fragments, &[], ProtocolError::InvalidUtf8);
        }
    }
}

#[test]
fn s8_1_binary_may_be_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    check(&[binary(&all)], &[binary(&all)], &[]);
    for &(invalid, _) in INVALID {
        let fragments = [binary(invalid).fin(false), continuation(invalid)];
        check(&fragments, &[binary([invalid, invalid].concat())], &[]);
        // Nor are the payloads of pings text.
        let short = &invalid[..invalid.len().min(125)];
        check(&[ping(short), pong(short)], &[ping(short), pong(short)], &[pong(short)]);
    }
}

#[test]
fn s8_1_fails_at_the_first_bad_byte_inside_a_frame() {
    // What follows the sample keeps the frame from being complete.
    for behind in [10, 1000, 200_000] {
        for &(invalid, good) in INVALID {
            for role in ROLES {
                let whole = text([invalid, &vec![b'x'; behind]].concat()).toward(role).bytes();
                let header = whole.len() - invalid.len() - behind;
                let mut connection = connection(role, &timeless());
                feed(&mut connection, &whole[..header + good]);
                assert_eq!(connection.fault(), None, "{invalid:02x?}");
                feed(&mut connection, &whole[header + good..][..1]);
                assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::InvalidUtf8)));
                let [told] = &write_frames(&mut connection)[..] else { panic!("one Close frame") };
                assert_eq!(told.close_code(), Some(1007), "before the frame is complete");
            }
        }
    }
}

#[test]
fn s8_1_fails_at_the_first_bad_byte_of_a_later_fragment() {
    for role in ROLES {
        let mut connection = connection(role, &timeless());
        // The first two bytes of a character, whose third is missing in the fragment behind.
        let input = [text(b"ok \xe2\x82").fin(false), ping("still fine")];
        assert_eq!(feed_frames(&mut connection, &input), [ping("still fine")]);
        assert_eq!(connection.fault(), None);
        let bytes = continuation("(then more").fin(false).toward(role).bytes();
        feed(&mut connection, &bytes[..bytes.len() - 9]);
        assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::InvalidUtf8)));
        let output = write_frames(&mut connection);
        assert_eq!((output.len(), output[1].close_code()), (2, Some(1007)));
    }
}

#[test]
fn s8_1_unfinished_character_fails_at_the_end_of_the_message() {
    for role in ROLES {
        for unfinished in UNFINISHED {
            let mut connection = connection(role, &timeless());
            feed_frames(&mut connection, &[text(unfinished).fin(false)]);
            assert_eq!(connection.fault(), None, "the rest may come");
            feed_frames(&mut connection, &[continuation("")]);
            assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::InvalidUtf8)));
        }
    }
}

#[test]
fn s8_1_long_text_with_characters_across_every_border() {
    // Three bytes a character, so that reads and blocks of any power of two cut some.
    let long = "€".repeat(100_000);
    check(&[text(&long)], &[text(&long)], &[]);
    for role in ROLES {
        for read in [1000, 1024, 4096, 16_384] {
            let mut connection = connection(role, &Config::default());
            let mut messages = Vec::new();
            for piece in join(role, &[text(&long)]).chunks(read) {
                feed_machine(&mut connection, piece, start(), |connection| {
                    while connection.advance() {
                        messages.extend(connection.take_message());
                    }
                });
            }
            assert!(messages == [Message::from(long.as_str())]);
            assert!(connection.wants_read());
        }
    }
}
