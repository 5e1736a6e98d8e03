//! RFC 7692: what permessage-deflate is agreed on by, how its messages look on the wire, and what holds of them.
//!
//! The memory it takes is tested in `memory.rs`.

#![cfg(feature = "deflate")]

mod pair;

use flate2::{Compress, Compression};
use pair::{deflate::*, head::request, inflate::Inflater, *};
use proptest::prelude::*;
use ws_proto::{
    ClientConfig, Config, Connection, DeflateConfig, DeflatePool, Fault, Fragment, HandshakeError, Machine,
    Message, Prepared, ProtocolError, Role, ServerConfig, WindowBits,
    handshake::{ServerHandshake, check as check_request},
    http::Request,
};

// Negotiation (sections 5 and 7.1)

#[test]
fn s5_1_a_server_compresses_only_if_it_is_told_to() {
    let (mut connection, answer) =
        serve(&ServerConfig::default(), &["permessage-deflate; client_max_window_bits"]).unwrap();
    assert_eq!(answer.all("Sec-WebSocket-Extensions"), [""; 0]);
    assert_plain(&mut connection);
}

#[test]
fn s5_1_what_a_client_offers() {
    let offer = |deflate| {
        let config = ClientConfig { deflate, ..ClientConfig::default() };
        dial(&config, &[]).unwrap().1
    };
    assert_eq!(ClientConfig::default().deflate.map(|deflate| deflate.threshold), Some(1024));
    let default = dial(&ClientConfig::default(), &[]).unwrap().1;
    assert_eq!(default.as_deref(), Some("permessage-deflate; client_max_window_bits"));
    assert_eq!(offer(None), None);
    let all = DeflateConfig {
        server_no_context_takeover: Some(true),
        client_no_context_takeover: Some(true),
        server_max_window_bits: WindowBits::Max(12),
        client_max_window_bits: WindowBits::Max(10),
        ..DeflateConfig::default()
    };
    assert_eq!(
        offer(Some(all)).as_deref(),
        Some(
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=12; client_max_window_bits=10"
        )
    );
    // Values outside are taken as the nearest that zlib can do.
    for (bits, nearest) in [(0, 9), (8, 9), (9, 9), (15, 15), (16, 15), (255, 15)] {
        let deflate = DeflateConfig { server_max_window_bits: WindowBits::Max(bits), ..silent() };
        assert_eq!(
            offer(Some(deflate)),
            Some(format!("permessage-deflate; server_max_window_bits={nearest}"))
        );
    }
}

#[test]
fn s7_1_a_server_answers_each_parameter() {
    let cases = [
        ("", ""),
        ("; client_max_window_bits", ""),
        ("; client_max_window_bits=9", "; client_max_window_bits=9"),
        ("; client_max_window_bits=8", "; client_max_window_bits=8"),
        ("; client_max_window_bits=15", "; client_max_window_bits=15"),
        ("; server_max_window_bits=9", "; server_max_window_bits=9"),
        ("; server_max_window_bits=15", "; server_max_window_bits=15"),
        ("; server_no_context_takeover", "; server_no_context_takeover"),
        ("; client_no_context_takeover", "; client_no_context_takeover"),
        // RFC 6455 section 9.1: a value may be quoted.
        ("; server_max_window_bits=\"12\"", "; server_max_window_bits=12"),
        ("; client_max_window_bits=\"1\\0\"", "; client_max_window_bits=10"),
        (";server_no_context_takeover ;\tclient_no_context_takeover", BOTH),
    ];
    for (offer, answer) in cases {
        let offer = format!("permessage-deflate{offer}");
        assert_eq!(
            answered(&with_deflate(DeflateConfig::default()), &[&offer]),
            Some(format!("permessage-deflate{answer}")),
            "{offer}"
        );
    }
    assert_eq!(
        answered(&with_deflate(DeflateConfig::default()), &["PerMessage-Deflate"]).as_deref(),
        Some("permessage-deflate")
    );
}

#[test]
fn s7_1_a_server_demands_what_it_is_configured_for() {
    let demanding = with_deflate(DeflateConfig {
        server_no_context_takeover: Some(true),
        client_no_context_takeover: Some(true),
        server_max_window_bits: WindowBits::Max(11),
        client_max_window_bits: WindowBits::Max(10),
        ..DeflateConfig::default()
    });
    let demands = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                   server_max_window_bits=11; client_max_window_bits=10";
    for offer in ["client_max_window_bits", "client_max_window_bits=10", "client_max_window_bits=15"] {
        let offer = format!("permessage-deflate; {offer}");
        assert_eq!(answered(&demanding, &[&offer]).as_deref(), Some(demands), "{offer}");
    }
    // Section 7.1.2.2: a client that did not offer it may not understand it.
    assert_eq!(answered(&demanding, &["permessage-deflate"]), None);
    let averse = with_deflate(DeflateConfig { server_no_context_takeover: Some(false), ..silent() });
    for offer in ["server_no_context_takeover", "server_max_window_bits=15"] {
        assert_eq!(answered(&averse, &[&format!("permessage-deflate; {offer}")]), None, "{offer}");
    }
    assert_eq!(
        answered(&averse, &["permessage-deflate; client_max_window_bits=9; client_no_context_takeover"])
            .as_deref(),
        Some("permessage-deflate; client_no_context_takeover")
    );
}

#[test]
fn s7_1_offers_that_cannot_be_accepted_are_declined_and_the_connection_goes_on() {
    let declined = [
        "unknown",
        "unknown=1",
        "server_no_context_takeover=1",
        "server_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=1",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        // zlib has no window of 8 bits to compress with.
        "server_max_window_bits=8",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=010",
        "server_max_window_bits=1e1",
        "server_max_window_bits=+9",
        "server_max_window_bits=-9",
        "server_max_window_bits=265",
        "server_max_window_bits=99999999999999999999",
        "server_max_window_bits=x",
        "server_max_window_bits=9; server_max_window_bits=9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=09",
        "client_max_window_bits=x",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits=10; client_max_window_bits=11",
        "server_max_window_bits=10; unknown",
    ];
    let config = with_deflate(DeflateConfig::default());
    for params in declined {
        let offer = format!("permessage-deflate; {params}");
        let (mut connection, answer) = serve(&config, &[&offer]).unwrap();
        assert_eq!(answer.all("Sec-WebSocket-Extensions"), [""; 0], "{offer}");
        assert_plain(&mut connection);
        // The next offer may do, in one line or in two.
        let fallback = "permessage-deflate; client_no_context_takeover";
        assert_eq!(
            answered(&config, &[&format!("{offer}, {fallback}")]).as_deref(),
            Some(fallback),
            "{offer}"
        );
        assert_eq!(answered(&config, &[&offer, fallback]).as_deref(), Some(fallback), "{offer}");
    }
    for others in ["x-webkit-deflate-frame", "foo; server_max_window_bits=10", "permessage-deflate2, bar"] {
        assert_eq!(answered(&config, &[others]), None, "{others}");
    }
}

#[test]
fn s5_1_the_first_offer_that_can_be_kept_is_the_one() {
    let config = with_deflate(DeflateConfig::default());
    let offers = "foo, permessage-deflate; server_max_window_bits=8, \
                  permessage-deflate; server_max_window_bits=10, permessage-deflate";
    assert_eq!(
        answered(&config, &[offers]).as_deref(),
        Some("permessage-deflate; server_max_window_bits=10")
    );
    let (_, answer) = serve(&config, &["permessage-deflate", "permessage-deflate"]).unwrap();
    assert_eq!(answer.only("Sec-WebSocket-Extensions"), "permessage-deflate");
}

#[test]
fn s9_1_a_field_that_is_no_list_of_extensions_is_refused() {
    let config = with_deflate(DeflateConfig::default());
    for field in [
        "permessage-deflate;",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; =10",
        "permessage deflate",
        "permessage-deflate client_max_window_bits",
        ",",
    ] {
        let error = serve(&config, &[field]).map(|_| ()).unwrap_err();
        assert!(matches!(error, HandshakeError::ExtensionList), "{field}: {error}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(400), "{field}");
    }
}

#[test]
fn s5_1_a_client_takes_answers_that_fit_its_offer() {
    let default = ClientConfig::default();
    for params in [
        "",
        BOTH,
        "; server_no_context_takeover",
        "; client_no_context_takeover",
        // Section 7.1.2.1: also where it was not asked for.
        "; server_max_window_bits=8",
        "; server_max_window_bits=15",
        "; client_max_window_bits=8",
        "; client_max_window_bits=9",
        "; client_max_window_bits=\"15\"",
        "; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11",
    ] {
        let (mut connection, _) = dial(&default, &[&format!("permessage-deflate{params}")]).unwrap();
        assert_eq!(feed_frames(&mut connection, &[compressed(TEXT, HELLO)]), [text("Hello")], "{params}");
    }
    let (mut connection, _) = dial(&default, &[]).unwrap();
    assert_plain(&mut connection);
}

#[test]
fn s5_1_a_client_fails_answers_that_do_not() {
    let default = ClientConfig::default();
    let asking = asking();
    let silent_client = client_with(silent());
    let no_deflate = ClientConfig { deflate: None, ..ClientConfig::default() };
    let faulty = [
        (&default, "; unknown"),
        (&default, "; unknown=1"),
        (&default, "; server_no_context_takeover=1"),
        (&default, "; server_no_context_takeover; server_no_context_takeover"),
        (&default, "; client_no_context_takeover; client_no_context_takeover"),
        (&default, "; server_max_window_bits"),
        (&default, "; server_max_window_bits=7"),
        (&default, "; server_max_window_bits=16"),
        (&default, "; server_max_window_bits=010"),
        (&default, "; server_max_window_bits=9; server_max_window_bits=9"),
        // Section 7.1.2.2: in an answer it has a value.
        (&default, "; client_max_window_bits"),
        (&default, "; client_max_window_bits=7"),
        (&default, "; client_max_window_bits=16"),
        (&default, "; client_max_window_bits=09"),
        (&asking, ""),
        (&asking, "; server_no_context_takeover"),
        (&asking, "; server_max_window_bits=10"),
        (&asking, "; server_no_context_takeover; server_max_window_bits=11"),
        (&asking, "; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=12"),
        (&asking, "; server_no_context_takeover; server_max_window_bits=10; client_no_context_takeover"),
        (&silent_client, "; client_max_window_bits=15"),
        (&silent_client, "; server_max_window_bits=15"),
        (&no_deflate, ""),
    ];
    for (config, params) in faulty {
        let error = dial(config, &[&format!("permessage-deflate{params}")]).map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, HandshakeError::Extension(name) if name == "permessage-deflate"),
            "{params}: {error}"
        );
    }
    for (lines, culprit) in [
        (&["foo"][..], "foo"),
        (&["permessage-deflate, foo"], "foo"),
        (&["permessage-deflate", "permessage-deflate"], "permessage-deflate"),
        (&["foo", "permessage-deflate"], "foo"),
        (&["permessage-deflate, permessage-deflate; server_max_window_bits=10"], "permessage-deflate"),
    ] {
        let error = dial(&default, lines).map(|_| ()).unwrap_err();
        assert!(matches!(&error, HandshakeError::Extension(name) if name == culprit), "{lines:?}: {error}");
    }
    let error = dial(&default, &["permessage-deflate;"]).map(|_| ()).unwrap_err();
    assert!(matches!(error, HandshakeError::ExtensionList), "{error}");
}

#[test]
fn s7_1_2_2_a_window_of_8_bits_is_kept_by_not_compressing() {
    for deflate in [DeflateConfig::default(), eager()] {
        let mut client = agreed(Role::Client, &timeless(), &deflate, "; client_max_window_bits=8");
        client.sender().send_text(&prose(5000)).unwrap();
        client.sender().send_fragment("frag".into(), false).unwrap();
        client.sender().send_fragment("ment".into(), true).unwrap();
        client.sender().send_prepared(&Prepared::new(prose(5000))).unwrap();
        assert!(write_frames(&mut client).iter().all(|frame| frame.rsv == 0));
        // It still reads what the server compresses.
        assert_eq!(feed_frames(&mut client, &[compressed(TEXT, HELLO)]), [text("Hello")]);
    }
    // A server reads it with a larger window, and compresses itself.
    let mut server = agreed(Role::Server, &timeless(), &eager(), "; client_max_window_bits=8");
    assert_eq!(feed_frames(&mut server, &[compressed(TEXT, HELLO)]), [text("Hello")]);
    server.sender().send_text(&prose(5000)).unwrap();
    assert_eq!(write_frames(&mut server)[0].rsv, 4);
    // The other direction: a server's window of 8 bits is read.
    let mut client = agreed(Role::Client, &timeless(), &eager(), "; server_max_window_bits=8");
    assert_eq!(feed_frames(&mut client, &[compressed(TEXT, HELLO)]), [text("Hello")]);
}

#[test]
fn s7_1_our_ends_agree_with_each_other() {
    let cases = [
        (DeflateConfig::default(), DeflateConfig::default(), Some("")),
        (silent(), DeflateConfig::default(), Some("")),
        (DeflateConfig::default(), silent(), Some("")),
        (
            DeflateConfig { server_no_context_takeover: Some(true), ..DeflateConfig::default() },
            DeflateConfig { client_no_context_takeover: Some(true), ..DeflateConfig::default() },
            Some(BOTH),
        ),
        (
            DeflateConfig { client_max_window_bits: WindowBits::Max(9), ..DeflateConfig::default() },
            DeflateConfig { server_max_window_bits: WindowBits::Max(10), ..DeflateConfig::default() },
            Some("; server_max_window_bits=10; client_max_window_bits=9"),
        ),
        // Neither finds what it needs.
        (DeflateConfig { client_max_window_bits: WindowBits::Max(9), ..silent() }, silent(), None),
    ];
    for (server, client, params) in cases {
        let (server, client, field) = meet(&with_deflate(server), &client_with(client)).unwrap();
        assert_eq!(field, params.map(|params| format!("permessage-deflate{params}")));
        let mut pair = Pair::of(server, client);
        for role in ROLES {
            let sender = pair.end(role).connection.sender();
            sender.send_text(&prose(3000)).unwrap();
            sender.send_text(&prose(3000)).unwrap();
        }
        pair.settle();
        assert_eq!(pair.server.events, [text(prose(3000)), text(prose(3000))]);
        assert_eq!(pair.client.events, [text(prose(3000)), text(prose(3000))]);
    }
}

#[test]
fn s7_1_a_request_that_another_http_implementation_read_agrees_as_well() {
    let mut handshake = ServerHandshake::new(ServerConfig::default().into(), start());
    let bytes = request().add("Sec-WebSocket-Extensions", "permessage-deflate").bytes();
    feed_machine(&mut handshake, &bytes, start(), |handshake| _ = handshake.advance());
    let request: &Request<()> = handshake.request().unwrap();
    let config = with_deflate(DeflateConfig::default());
    let acceptance = check_request(request, &config).unwrap();
    assert_eq!(acceptance.response().headers()["sec-websocket-extensions"], "permessage-deflate");
    let mut connection =
        acceptance.into_connection(&config, &compressed(TEXT, HELLO).masked(KEY).bytes(), start());
    assert_eq!(feed(&mut connection, b""), [text("Hello")]);
}

// Frames (section 6)

#[test]
fn s6_1_a_reserved_bit_that_was_not_agreed_on_fails() {
    for opcode in [TEXT, BINARY] {
        check_fails(&[compressed(opcode, HELLO)], &[], ProtocolError::ReservedBits);
    }
    // Nor after an offer that was declined, or was not answered.
    let server =
        || serve(&with_deflate(DeflateConfig::default()), &["permessage-deflate; unknown"]).unwrap().0;
    let client = || dial(&ClientConfig::default(), &[]).unwrap().0;
    for open in [&server as &dyn Fn() -> Connection, &client] {
        let outcome = outcome_with(open, &[compressed(TEXT, HELLO)]);
        assert_failed(&outcome, &[], ProtocolError::ReservedBits);
    }
}

#[test]
fn s6_1_the_bit_has_its_place_on_first_frames_of_messages_only() {
    let bad = ProtocolError::ReservedBits;
    for control in [ping("x"), pong("x"), close(1000, ""), ping("")] {
        fails("", &[control.compressed()], &[], bad);
    }
    fails("", &[continuation("").compressed()], &[], bad);
    let first = compressed(TEXT, &HELLO[..3]).fin(false);
    fails("", &[first.clone(), continuation(&HELLO[3..]).compressed()], &[], bad);
    fails("", &[text("Hel").fin(false), continuation("lo").compressed()], &[], bad);
    fails("", &[first.clone(), ping("x").compressed()], &[], bad);
    // The other bits stay reserved.
    for rsv in [1, 2, 3, 5, 6, 7] {
        fails("", &[text(HELLO).rsv(rsv)], &[], bad);
    }
    fails("", &[compressed(3, HELLO)], &[], ProtocolError::ReservedOpcode(3));
    // The rules of RFC 6455 section 5.4 hold inside a compressed message as well.
    fails("", &[first.clone(), compressed(TEXT, HELLO)], &[], ProtocolError::InterleavedMessage);
    fails("", &[first, text("Hello")], &[], ProtocolError::InterleavedMessage);
}

#[test]
fn s6_1_we_mark_the_first_frame_only() {
    for role in ROLES {
        for params in ["", BOTH] {
            let mut connection = agreed(role, &timeless(), &eager(), params);
            let sender = connection.sender();
            for (i, piece) in ["one", "", "three"].into_iter().enumerate() {
                sender.send_fragment(piece.into(), i == 2).unwrap();
                sender.ping(b"between").unwrap();
            }
            connection.close(ws_proto::CloseCode::NORMAL, "").unwrap();
            let frames = write_frames(&mut connection);
            let headers: Vec<_> = frames.iter().map(|f| (f.opcode, f.rsv, f.fin)).collect();
            let expected = [
                (TEXT, 4, false),
                (PING, 0, true),
                (CONTINUATION, 0, false),
                (PING, 0, true),
                (CONTINUATION, 0, true),
                (PING, 0, true),
                (CLOSE, 0, true),
            ];
            assert_eq!(headers, expected, "{role:?}");
            assert_eq!(frames[1], ping("between"));
            let payload = [&frames[0], &frames[2], &frames[4]].map(|frame| &frame.payload[..]).concat();
            assert_eq!(inflate_alone(&payload).as_deref(), Some(&b"onethree"[..]));
        }
    }
}

// The examples of section 7.2.3

#[test]
fn s7_2_3_1_a_message_in_one_block() {
    reads("", &[compressed(TEXT, HELLO)], &[text("Hello")]);
    let fragments = [compressed(TEXT, &HELLO[..3]).fin(false), continuation(&HELLO[3..])];
    reads("", &fragments, &[text("Hello")]);
    for role in ROLES {
        let mut connection = agreed(role, &timeless(), &eager(), "");
        connection.sender().send_text("Hello").unwrap();
        assert_eq!(write_frames(&mut connection), [compressed(TEXT, HELLO)]);
    }
}

#[test]
fn s7_2_3_2_the_window_is_shared_between_messages() {
    // "Hello" again, as a reference to the first.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let messages = [compressed(TEXT, HELLO), compressed(TEXT, again)];
    reads("", &messages, &[text("Hello"), text("Hello")]);
    // Without takeover there is nothing to refer to.
    fails(BOTH, &messages, &[text("Hello")], ProtocolError::Deflate);
    reads(BOTH, &[compressed(TEXT, HELLO), compressed(TEXT, HELLO)], &[text("Hello"), text("Hello")]);
    for role in ROLES {
        let mut connection = agreed(role, &timeless(), &eager(), "");
        connection.sender().send_text("Hello").unwrap();
        connection.sender().send_text("Hello").unwrap();
        assert_eq!(write_frames(&mut connection), messages);
    }
}

#[test]
fn s7_2_3_3_a_block_without_compression() {
    // Header, length 5 and its complement, the bytes, the header of the empty block.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    for params in ["", BOTH] {
        reads(params, &[compressed(TEXT, stored)], &[text("Hello")]);
    }
}

#[test]
fn s7_2_3_4_a_final_block_ends_the_stream_but_not_the_connection() {
    for params in ["", BOTH] {
        let with_empty_block = compressed(TEXT, [&FINAL[..], &[0x00]].concat());
        let without = compressed(TEXT, FINAL);
        reads(params, std::slice::from_ref(&with_empty_block), &[text("Hello")]);
        reads(params, std::slice::from_ref(&without), &[text("Hello")]);
        let several = [with_empty_block.clone(), without.clone(), without, with_empty_block];
        reads(params, &several, &[text("Hello"), text("Hello"), text("Hello"), text("Hello")]);
        // In the middle, more than once, and cut into fragments around it.
        let middle = [&FINAL[..], &FINAL, &HELLO].concat();
        reads(params, &[compressed(TEXT, &middle)], &[text("HelloHelloHello")]);
        let ends = [&HELLO[..], &TAIL, &FINAL].concat();
        reads(params, &[compressed(TEXT, &ends)], &[text("HelloHello")]);
        for cut in 0..=middle.len() {
            let fragments = [compressed(TEXT, &middle[..cut]).fin(false), continuation(&middle[cut..])];
            let outcome = outcome_with(&reader(Role::Server, &timeless(), params), &fragments);
            assert_eq!(outcome.events, [text("HelloHelloHello")], "cut at {cut}");
        }
        // An ordinary message follows.
        let sequel = [compressed(TEXT, FINAL), compressed(TEXT, HELLO), compressed(BINARY, [0x00])];
        reads(params, &sequel, &[text("Hello"), text("Hello"), binary("")]);
    }
}

#[test]
fn s7_2_3_5_two_blocks_in_one_message() {
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    reads("", &[compressed(TEXT, two)], &[text("Hello")]);
    reads(BOTH, &[compressed(TEXT, &two[..8]).fin(false), continuation(&two[8..])], &[text("Hello")]);
}

#[test]
fn s7_2_3_6_an_empty_message_is_the_header_of_a_block() {
    for params in ["", BOTH] {
        let input = [
            compressed(TEXT, [0x00]),
            compressed(BINARY, [0x00]),
            compressed(TEXT, HELLO),
            compressed(TEXT, [0x00]),
            // In fragments, of which any may be empty.
            compressed(TEXT, "").fin(false),
            continuation([0x00]),
            compressed(TEXT, HELLO).fin(false),
            continuation(""),
            text(""),
            // An empty block of the fixed codes, and one that was flushed.
            compressed(TEXT, [0x02, 0x00]),
            compressed(TEXT, [0x00, 0x00, 0x00, 0xff, 0xff, 0x00]),
        ];
        let events = ["", "", "Hello", "", "", "Hello", "", "", ""];
        let mut events = events.map(text);
        events[1] = binary("");
        reads(params, &input, &events);
    }
}

#[test]
fn s7_2_3_6_we_send_empty_messages_that_any_inflater_reads() {
    for role in ROLES {
        for params in ["", BOTH] {
            let mut connection = agreed(role, &timeless(), &eager(), params);
            let sender = connection.sender();
            let mut expected: Vec<&[u8]> = Vec::new();
            for pieces in
                [&[""][..], &["Hello"], &[""], &["", ""], &["", "Hello"], &["Hello", ""], &["", "", ""]]
            {
                for (i, piece) in pieces.iter().enumerate() {
                    sender.send_fragment((*piece).into(), i + 1 == pieces.len()).unwrap();
                }
                expected.push(if pieces.contains(&"Hello") { b"Hello" } else { b"" });
                sender.send_text(pieces[0]).unwrap();
                expected.push(pieces[0].as_bytes());
            }
            let messages = messages(&write_frames(&mut connection), params);
            assert_eq!(messages, expected, "{role:?} {params}");
        }
    }
}

// Receiving (section 7.2.2)

#[test]
fn s7_2_2_control_frames_between_compressed_fragments() {
    let fragments = [
        compressed(TEXT, &HELLO[..1]).fin(false),
        ping("one"),
        continuation(&HELLO[1..4]).fin(false),
        pong("two"),
        ping("three"),
        continuation(&HELLO[4..]),
        compressed(TEXT, [0xf2, 0x00, 0x11, 0x00, 0x00]),
    ];
    let events = [ping("one"), pong("two"), ping("three"), text("Hello"), text("Hello")];
    reads("", &fragments, &events);
}

#[test]
fn s6_2_messages_that_are_not_compressed_stay_legal() {
    for params in ["", BOTH] {
        let again = if params.is_empty() { &[0xf2, 0x00, 0x11, 0x00, 0x00][..] } else { &HELLO };
        let input = [
            text("plain"),
            compressed(TEXT, HELLO),
            // Not a part of the window.
            text("between"),
            binary("frag").fin(false),
            continuation("ments"),
            binary(vec![7; 70_000]),
            compressed(TEXT, again),
            text(""),
        ];
        let events = [
            text("plain"),
            text("Hello"),
            text("between"),
            binary("fragments"),
            binary(vec![7; 70_000]),
            text("Hello"),
            text(""),
        ];
        reads(params, &input, &events);
    }
}

#[test]
fn s7_2_2_every_kind_of_block_however_it_is_fragmented() {
    let payload = prose(3000);
    for level in [0, 1, 6, 9] {
        let mut compressor = Compress::new(Compression::new(level), false);
        let first = deflate(&mut compressor, payload.as_bytes());
        let second = deflate(&mut compressor, payload.as_bytes());
        for role in ROLES {
            let mut whole = reader(role, &timeless(), "")();
            let input = [compressed(TEXT, &first), compressed(TEXT, &second)];
            assert_eq!(feed_frames(&mut whole, &input), [text(&payload), text(&payload)]);
            for len in [1, 2, 7, 100] {
                let mut connection = reader(role, &timeless(), "")();
                for message in [&first, &second] {
                    let between =
                        fragments(TEXT, message, len).into_iter().flat_map(|frame| [frame, ping("x")]);
                    let mut input: Vec<_> = between.collect();
                    input.pop();
                    let mut events = feed_frames(&mut connection, &input);
                    assert_eq!(events.pop(), Some(text(&payload)), "in pieces of {len}");
                }
            }
        }
    }
}

#[test]
fn s7_2_2_a_message_that_ends_too_early_fails() {
    let dynamic = deflated(prose(2000));
    assert_eq!(dynamic[0] >> 1 & 3, 2, "a block with codes of its own");
    let mut two_blocks = flushed(&mut compressor(), b"one block, ");
    two_blocks.extend(deflated("and another"));
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let inputs = [&HELLO[..], &stored, &FINAL, &[&FINAL[..], &HELLO].concat(), &two_blocks, &dynamic];
    for message in inputs {
        // With nothing at all there is nothing that is cut.
        for cut in 1..=message.len() {
            let cut_message = &message[..cut];
            let expected = inflate_alone(cut_message);
            for role in ROLES {
                for params in ["", BOTH] {
                    let input = [compressed(BINARY, cut_message), compressed(TEXT, HELLO)];
                    let mut connection = reader(role, &timeless(), params)();
                    let bytes = join(role, &input);
                    let events: Vec<_> =
                        bytes.chunks(3).flat_map(|piece| feed(&mut connection, piece)).collect();
                    match &expected {
                        Some(payload) => assert_eq!(events, [binary(payload), text("Hello")], "cut at {cut}"),
                        None => {
                            assert_eq!(events, [], "cut at {cut} of {message:02x?}");
                            assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::Deflate)));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn s7_2_2_a_message_that_ends_inside_the_codes_of_a_block_fails() {
    // The header of a block whose codes are described by 316 symbols of one bit, none of which is there: BTYPE 10,
    // HLIT 29, HDIST 29, HCLEN 1, and lengths for the symbols 0 and 8.
    let header = [0xec, 0x3d, 0x00, 0x24];
    assert_eq!(inflate_alone(&header), None);
    for params in ["", BOTH] {
        fails(params, &[compressed(TEXT, header), text("Hello")], &[], ProtocolError::Deflate);
        let behind_a_block = [&HELLO[..], &TAIL, &header].concat();
        fails(params, &[compressed(TEXT, behind_a_block), text("Hello")], &[], ProtocolError::Deflate);
    }
}

#[test]
fn s7_2_2_what_is_no_deflate_fails() {
    let no_codes = [&[0x04][..], &[0x00; 60]].concat();
    let malformed: [&[u8]; 9] = [
        &[0x06],                                     // the block type that there is not
        &[0xff, 0xff, 0xff, 0xff],                   // the same, final
        &[0x00, 0x05, 0x00, 0x00, 0x00],             // a length without its complement
        &[0x00, 0x05, 0x00, 0xfb, 0xff, 0x48],       // a wrong one
        &[0xf2, 0x00, 0x11, 0x00, 0x00],             // a reference to what is in front of all
        &[0x1a, 0x07, 0x00],                         // length code 287
        &[0xfc, 0xff, 0xff, 0xff, 0xff],             // more codes than there are
        &no_codes,                                   // lengths of 0 only
        &[0x00, 0x01, 0x00, 0xfe, 0xff, 0x58, 0x06], // a good block before a bad one
    ];
    for payload in malformed {
        assert_eq!(inflate_alone(payload), None, "{payload:02x?}");
        for params in ["", BOTH] {
            fails(params, &[compressed(BINARY, payload)], &[], ProtocolError::Deflate);
            let after = [compressed(TEXT, HELLO), compressed(BINARY, payload), text("lost")];
            if payload != [0xf2, 0x00, 0x11, 0x00, 0x00] || !params.is_empty() {
                fails(params, &after, &[text("Hello")], ProtocolError::Deflate);
            }
        }
    }
    // Inside a message, before its last frame came.
    let input = [compressed(BINARY, HELLO).fin(false), continuation([0xff; 4]).fin(false)];
    fails("", &input, &[], ProtocolError::Deflate);
}

#[test]
fn s8_1_text_is_checked_as_it_is_inflated() {
    let good = "grüße, 世界 🌍";
    let euro = deflated("€".repeat(50));
    for params in ["", BOTH] {
        reads(params, &[compressed(TEXT, deflated(good))], &[text(good)]);
        // A character may be cut by frames.
        let halves = fragments(TEXT, &euro, euro.len() / 2);
        reads(params, &halves, &[text("€".repeat(50))]);
        for bad in [&b"bad \xff text"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"cut \xe2\x82"]
        {
            fails(params, &[compressed(TEXT, deflated(bad))], &[], ProtocolError::InvalidUtf8);
            reads(params, &[compressed(BINARY, deflated(bad))], &[binary(bad)]);
        }
    }
    // Before the message ends.
    let mut bad = compressor();
    let first = flushed(&mut bad, b"good, then \xff");
    for role in ROLES {
        let outcome =
            outcome_with(&reader(role, &timeless(), ""), &[compressed(TEXT, first.clone()).fin(false)]);
        assert_failed(&outcome, &[], ProtocolError::InvalidUtf8);
    }
}

#[test]
fn s8_1_the_fault_that_comes_first_is_the_one_however_the_bytes_are_cut() {
    // Bad text, and behind it more than is allowed, or what is no DEFLATE.
    let config = Config { max_message: 100, ..timeless() };
    let mut long = b"bad \xff text".to_vec();
    long.resize(200, b'x');
    let mut broken = flushed(&mut compressor(), b"bad \xff text");
    broken.push(0x06);
    for payload in [deflated(&long), broken] {
        for role in ROLES {
            let outcome = outcome_with(&reader(role, &config, ""), &[compressed(TEXT, &payload)]);
            assert_failed(&outcome, &[], ProtocolError::InvalidUtf8);
        }
    }
}

// Limits

#[test]
fn s8_messages_are_limited_as_they_are_inflated() {
    for limit in [1000, 4095, 4096, 4097, 65_536] {
        let config = Config { max_message: limit, ..timeless() };
        let too_long = ProtocolError::MessageTooLong { limit };
        for role in ROLES {
            for (len, fits) in [(limit - 1, true), (limit, true), (limit + 1, false), (10 * limit, false)] {
                let payload = prose(len.min(500)).repeat(len.div_ceil(500))[..len].to_owned();
                let message = deflated(&payload);
                assert!(message.len() + 10 < limit, "{} of {limit}", message.len());
                let pieces = [
                    vec![compressed(TEXT, &message)],
                    fragments(TEXT, &message, message.len() / 3),
                    vec![compressed(TEXT, &message).fin(false), continuation("")],
                ];
                for input in pieces {
                    let open = reader(role, &config, BOTH);
                    let outcome = outcome_with(&open, &[input, vec![compressed(TEXT, HELLO)]].concat());
                    if fits {
                        assert_eq!(outcome.events, [text(&payload), text("Hello")], "{len} of {limit}");
                    } else {
                        assert_failed(&outcome, &[], too_long);
                    }
                }
                // Without the end of the message, or of its frame.
                let mut connection = reader(role, &config, BOTH)();
                feed_frames(&mut connection, &[compressed(TEXT, &message).fin(false)]);
                assert_eq!(connection.fault().is_none(), fits, "{len} of {limit}");
                let mut connection = reader(role, &config, BOTH)();
                let mut bytes =
                    compressed(TEXT, [&message[..], &TAIL, &[0x00]].concat()).toward(role).bytes();
                bytes.pop();
                feed(&mut connection, &bytes);
                assert_eq!(connection.fault().is_none(), fits, "{len} of {limit}");
            }
        }
    }
}

#[test]
fn s8_a_message_of_the_limit_is_followed_by_others() {
    let config = Config { max_message: 5000, ..timeless() };
    let payload = prose(5000);
    let mut compressor = compressor();
    let input: Vec<_> =
        (0..3).map(|_| compressed(TEXT, deflate(&mut compressor, payload.as_bytes()))).collect();
    for role in ROLES {
        let mut connection = reader(role, &config, "")();
        assert_eq!(feed_frames(&mut connection, &input), [text(&payload), text(&payload), text(&payload)]);
    }
}

#[test]
fn s8_any_limit_is_valid() {
    let huge = Config { max_message: usize::MAX, max_frame: usize::MAX, ..timeless() };
    for role in ROLES {
        let outcome = outcome_with(&reader(role, &huge, ""), &[compressed(TEXT, HELLO)]);
        assert_eq!(outcome.events, [text("Hello")]);
    }
    let none = Config { max_message: 0, ..timeless() };
    for role in ROLES {
        let outcome = outcome_with(&reader(role, &none, ""), &[compressed(TEXT, [0x00])]);
        assert_eq!(outcome.events, [text("")]);
        let outcome = outcome_with(&reader(role, &none, ""), &[compressed(TEXT, HELLO)]);
        assert_failed(&outcome, &[], ProtocolError::MessageTooLong { limit: 0 });
    }
}

#[test]
fn s8_the_bytes_on_the_wire_are_limited_even_if_they_inflate_to_nothing() {
    let config = Config { max_message: 1000, ..timeless() };
    let too_long = ProtocolError::MessageTooLong { limit: 1000 };
    let empty_block = [0x00, 0x00, 0x00, 0xff, 0xff];
    for role in ROLES {
        // One frame: 200 blocks are 1000 bytes; the last is left incomplete on the wire.
        let mut blocks = empty_block.repeat(199);
        blocks.push(0x00);
        let outcome = outcome_with(&reader(role, &config, ""), &[compressed(TEXT, &blocks)]);
        assert_eq!(outcome.events, [text("")]);
        // More than the limit and some overhead of DEFLATE's is too long, in one frame or in fragments without end.
        let outcome = outcome_with(&reader(role, &config, ""), &[compressed(TEXT, empty_block.repeat(300))]);
        assert_failed(&outcome, &[], too_long);
        let mut connection = reader(role, &config, "")();
        feed_frames(&mut connection, &[compressed(TEXT, "").fin(false)]);
        for i in 0..300 {
            feed_frames(&mut connection, &[continuation(empty_block).fin(false)]);
            assert!(connection.fault().is_none() || i >= 200, "{i}");
        }
        assert_eq!(connection.fault(), Some(Fault::Protocol(too_long)));
        // Each message has the whole allowance.
        let mut connection = reader(role, &config, "")();
        for _ in 0..5 {
            assert_eq!(feed_frames(&mut connection, &[compressed(TEXT, &blocks)]), [text("")]);
            assert_eq!(feed_frames(&mut connection, &[text("x".repeat(1000))]), [text("x".repeat(1000))]);
        }
    }
    // A frame is limited by its length on the wire.
    let config = Config { max_frame: 100, ..timeless() };
    let message = deflated(noise(1000, 1));
    let too_long = ProtocolError::FrameTooLong { len: message.len() as u64, limit: 100 };
    for role in ROLES {
        let outcome = outcome_with(&reader(role, &config, ""), &[compressed(BINARY, &message)]);
        assert_failed(&outcome, &[], too_long);
        let pieces = fragments(BINARY, &message, 100);
        let outcome = outcome_with(&reader(role, &config, ""), &pieces);
        assert_eq!(outcome.events, [binary(noise(1000, 1))]);
    }
}

#[test]
fn s8_a_message_of_the_limit_is_taken_also_if_it_did_not_get_shorter() {
    // With takeover a sender compresses whatever comes. Stored blocks are a few bytes longer than what is in them.
    for limit in [5, 1000, 100_000, 1024 * 1024] {
        let config = Config { max_message: limit, max_frame: limit, high_water: usize::MAX, ..timeless() };
        let server = ServerConfig { connection: config.clone(), ..with_deflate(DeflateConfig::default()) };
        let client = ClientConfig { connection: config, ..client_with(DeflateConfig::default()) };
        let (server, client, _) = meet(&server, &client).unwrap();
        let mut pair = Pair::of(server, client);
        let payload = noise(limit, 4);
        for role in ROLES {
            pair.end(role).connection.sender().send_binary(&payload).unwrap();
            pair.settle();
            let heard = pair.end(other(role));
            assert_eq!(heard.connection.fault(), None, "{role:?} sent {limit} bytes");
            assert!(heard.events == [binary(&payload)]);
        }
    }
}

#[test]
fn s8_a_message_of_the_limit_is_taken_whatever_its_window_and_level() {
    // With a small window blocks are short, and what does not get shorter gets up to an eighth longer.
    let limit = 30_000;
    let payload = noise(limit, 5);
    for (bits, level) in [9, 10, 12, 15].into_iter().flat_map(|bits| [0, 1, 5, 9].map(|level| (bits, level)))
    {
        let deflate = DeflateConfig { level, ..eager() };
        let params = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
        let config = Config { max_message: limit, max_frame: limit, ..timeless() };
        let [server, client] = ROLES.map(|role| agreed(role, &config, &deflate, &params));
        let mut pair = Pair::of(server, client);
        for role in ROLES {
            pair.end(role).connection.sender().send_binary(&payload).unwrap();
            pair.settle();
            let heard = pair.end(other(role));
            assert_eq!(heard.connection.fault(), None, "{bits} bits, level {level}, {role:?}");
            assert!(heard.events == [binary(&payload)]);
        }
    }
}

#[test]
fn s7_2_2_messages_of_every_length_near_a_buffers_are_inflated() {
    let mut lens: Vec<usize> = (4090..4100).chain(8186..8198).collect();
    lens.extend([65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 262_143, 262_144, 262_145]);
    let mut connections = ROLES.map(|role| reader(role, &timeless(), BOTH)());
    for len in lens {
        for payload in [vec![7; len], prose(len).into_bytes(), noise(len, 1)] {
            let message = deflate(&mut Compress::new(Compression::fast(), false), &payload);
            for connection in &mut connections {
                let events = feed_frames(connection, &[compressed(BINARY, &message)]);
                assert!(events == [binary(&payload)], "{len} {:?}", connection.fault());
                let events = feed_frames(connection, &fragments(BINARY, &message, message.len().div_ceil(2)));
                assert!(events == [binary(&payload)], "{len}");
            }
        }
    }
}

// Sending (sections 7.2.1 and 7.1)

#[test]
fn s7_2_1_messages_of_every_length_near_a_buffers_are_compressed() {
    // Every length for which the compressed form may exactly fill the storage that the queue begins with.
    let mut lens: Vec<usize> = (131_072 - 40..131_072 + 4).collect();
    lens.extend([4095, 4096, 4097, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145]);
    let deflate = DeflateConfig { level: 1, ..eager() };
    for (params, role) in [("", Role::Server), (BOTH, Role::Client)] {
        let mut connection = agreed(role, &timeless(), &deflate, params);
        let mut inflater = Inflater::new(15);
        for &len in &lens {
            let payload = noise(len, len as u64);
            connection.sender().send_binary(&payload).unwrap();
            let frames = write_frames(&mut connection);
            let [frame] = &frames[..] else { panic!("{} frames", frames.len()) };
            if frame.rsv == 0 {
                assert!(!params.is_empty() && frame.payload == payload, "{len}");
                continue;
            }
            if !params.is_empty() {
                inflater.reset();
            }
            assert!(inflater.inflate(&frame.payload).as_ref() == Some(&payload), "{len}");
        }
    }
}

#[test]
fn s7_1_2_the_agreed_windows_are_honoured() {
    for role in ROLES {
        for bits in 9..=15 {
            let params = format!("; {}_max_window_bits={bits}", name(role));
            let deflate = DeflateConfig { level: 9, ..eager() };
            for takeover in [true, false] {
                let no_takeover =
                    if takeover { String::new() } else { format!("; {}_no_context_takeover", name(role)) };
                let mut connection = agreed(role, &timeless(), &deflate, &format!("{no_takeover}{params}"));
                let mut inflater = Inflater::new(bits);
                for payload in far_repetitions(bits) {
                    connection.sender().send_binary(&payload).unwrap();
                    let frames = write_frames(&mut connection);
                    if frames[0].rsv == 0 {
                        assert!(!takeover, "with takeover each message is compressed");
                        continue;
                    }
                    if !takeover {
                        inflater.reset();
                    }
                    let inflated = inflater.inflate(&frames[0].payload);
                    assert!(inflated == Some(payload), "{bits} bits, {role:?}");
                }
            }
        }
    }
}

#[test]
fn s7_1_2_a_larger_window_than_agreed_would_be_noticed() {
    // What the test above relies on.
    for bits in 9..15 {
        let mut larger = Compress::new_with_window_bits(Compression::best(), false, bits + 1);
        let mut inflater = Inflater::new(bits);
        let inflated = far_repetitions(bits).iter().all(|payload| {
            let message = deflate(&mut larger, payload);
            inflater.inflate(&message).as_ref() == Some(payload)
        });
        assert!(!inflated, "{bits}");
    }
}

#[test]
fn s7_1_2_windows_of_the_peer_are_read_whole() {
    for role in ROLES {
        for bits in 9..=15 {
            let params = format!("; {}_max_window_bits={bits}", name(other(role)));
            let mut connection = reader(role, &timeless(), &params)();
            let mut compressor = Compress::new_with_window_bits(Compression::best(), false, bits);
            for payload in far_repetitions(bits) {
                let message = deflate(&mut compressor, &payload);
                let events = feed_frames(&mut connection, &[compressed(BINARY, message)]);
                assert!(events == [binary(payload)], "{bits} bits, {role:?}: {:?}", connection.fault());
            }
        }
    }
}

#[test]
fn s7_1_1_without_takeover_each_message_stands_alone() {
    for role in ROLES {
        let params = format!("; {}_no_context_takeover", name(role));
        let mut connection = agreed(role, &timeless(), &eager(), &params);
        let payload = prose(2000);
        for _ in 0..3 {
            connection.sender().send_text(&payload).unwrap();
            let mut pieces = payload.as_bytes().chunks(500).peekable();
            while let Some(piece) = pieces.next() {
                let piece = std::str::from_utf8(piece).unwrap();
                connection.sender().send_fragment(piece.into(), pieces.peek().is_none()).unwrap();
            }
        }
        let frames = write_frames(&mut connection);
        assert_eq!(frames.len(), 3 * 5);
        for message in frames.chunks(5) {
            assert_eq!(message, &frames[..5], "each time the same");
            let fragmented = message[1..].iter().map(|frame| &frame.payload[..]).collect::<Vec<_>>().concat();
            for bytes in [&message[0].payload, &fragmented] {
                assert_eq!(inflate_alone(bytes).as_deref(), Some(payload.as_bytes()));
            }
        }
        // The other direction goes by its own agreement.
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        let events = feed_frames(&mut connection, &[compressed(TEXT, HELLO), compressed(TEXT, again)]);
        assert_eq!(events, [text("Hello"), text("Hello")]);
    }
}

#[test]
fn s7_1_1_with_takeover_a_message_refers_to_those_before() {
    for role in ROLES {
        let mut connection = agreed(role, &timeless(), &DeflateConfig::default(), "");
        let payload = prose(2000);
        connection.sender().send_text(&payload).unwrap();
        connection.sender().send_text(&payload).unwrap();
        let frames = write_frames(&mut connection);
        assert!(frames[1].payload.len() * 5 < frames[0].payload.len(), "{frames:?}");
        assert_eq!(messages(&frames, ""), [payload.as_bytes(), payload.as_bytes()]);
    }
}

#[test]
fn s7_2_1_a_compressor_that_rested_may_forget() {
    // An idle connection gives its compressor back, and what it sends then does not need it.
    let pool = DeflatePool::default();
    let deflate = DeflateConfig { pool: pool.clone(), ..eager() };
    let config = Config { keepalive: Some(secs(10)), pong_timeout: None, ..timeless() };
    for role in ROLES {
        let mut connection = agreed(role, &config, &deflate, "");
        let mut inflater = Inflater::new(15);
        for round in 0..3 {
            let payload = prose(1000);
            connection.sender().send_text(&payload).unwrap();
            let frames = write_frames(&mut connection);
            assert_eq!(inflater.inflate(&frames[0].payload).as_deref(), Some(payload.as_bytes()));
            let in_use = pool.held();
            for tick in 1..=3 {
                let now = at(100 * round + 10 * tick + 10);
                connection.poll_timeout(now);
                connection.handle_timeout(now);
                write_all(&mut connection);
            }
            assert!(pool.held() > in_use, "{role:?}");
        }
        // Not in the middle of a message.
        connection.sender().send_fragment("one ".into(), false).unwrap();
        for tick in 0..5 {
            connection.poll_timeout(at(1000 + 20 * tick));
            connection.handle_timeout(at(1000 + 20 * tick));
        }
        connection.sender().send_fragment("one ".into(), true).unwrap();
        let frames = write_frames(&mut connection);
        let message: Vec<_> = frames.into_iter().filter(|frame| frame.opcode < 8).collect();
        let payload = [&message[0].payload[..], &message[1].payload].concat();
        assert_eq!(inflater.inflate(&payload).as_deref(), Some(&b"one one "[..]));
    }
}

#[test]
fn a_message_is_compressed_from_the_threshold_on() {
    for role in ROLES {
        for threshold in [0, 1, 100, 1024, usize::MAX] {
            let deflate = DeflateConfig { threshold, ..DeflateConfig::default() };
            for len in [1, 99, 100, 1023, 1024, 5000] {
                let payload = "a".repeat(len);
                let mut connection = agreed(role, &timeless(), &deflate, BOTH);
                send_every_way(&mut connection, &payload);
                let marked = write_frames(&mut connection);
                let shorter = deflated(&payload).len() < len;
                for (i, frame) in marked.iter().enumerate() {
                    // A fragment is compressed even if it does not get shorter: others may follow.
                    let expected = len >= threshold && (shorter || i == 3);
                    assert_eq!(frame.rsv == 4, expected, "{role:?} {len} of {threshold}, {frame:?}");
                }
                assert!(messages(&marked, BOTH).iter().all(|message| message == payload.as_bytes()));
                // With takeover the next message gains as well.
                let mut connection = agreed(role, &timeless(), &deflate, "");
                connection.sender().send_text(&payload).unwrap();
                connection.sender().send_fragment(payload.as_str().into(), true).unwrap();
                assert!(write_frames(&mut connection).iter().all(|frame| frame.rsv == 4));
            }
        }
    }
}

#[test]
fn the_first_fragment_decides_for_its_message() {
    let deflate = DeflateConfig { threshold: 100, ..DeflateConfig::default() };
    for role in ROLES {
        let mut connection = agreed(role, &timeless(), &deflate, BOTH);
        let long = "long ".repeat(50);
        let sender = connection.sender();
        let mut sent = Vec::new();
        for pieces in [["short", &long, &long], [&long, "short", ""], ["", &long, ""], [&long, "", &long]] {
            for (i, piece) in pieces.into_iter().enumerate() {
                sender.send_fragment(piece.into(), i == 2).unwrap();
            }
            sent.push(pieces.concat().into_bytes());
        }
        let frames = write_frames(&mut connection);
        let marks: Vec<_> = frames.iter().step_by(3).map(|frame| frame.rsv).collect();
        assert_eq!(marks, [0, 4, 0, 4], "{role:?}");
        assert_eq!(messages(&frames, BOTH), sent);
    }
}

#[test]
fn what_does_not_get_shorter_leaves_as_it_is() {
    for role in ROLES {
        for len in [10, 1000, 5000, 20_000, 200_000] {
            let mut connection = agreed(role, &roomy(), &eager(), BOTH);
            let payload = noise(len, 5);
            // Something in front, which must stay.
            connection.sender().send_text(&prose(500)).unwrap();
            connection.sender().send_binary(&payload).unwrap();
            connection.sender().send(&Message::Binary(payload.clone().into())).unwrap();
            connection.sender().send_prepared(&Prepared::new(payload.clone())).unwrap();
            connection.sender().send_text(&prose(500)).unwrap();
            let frames = write_frames(&mut connection);
            let marks: Vec<_> = frames.iter().map(|frame| frame.rsv).collect();
            assert_eq!(marks, [4, 0, 0, 0, 4], "{role:?} {len}");
            let sent =
                [prose(500).into_bytes(), payload.clone(), payload.clone(), payload, prose(500).into_bytes()];
            assert!(messages(&frames, BOTH) == sent);
        }
    }
}

#[test]
fn every_level_is_valid() {
    let payload = prose(20_000);
    let mut lens = Vec::new();
    for level in [0, 1, 6, 9, 10, u32::MAX] {
        for params in ["", BOTH] {
            let deflate = DeflateConfig { level, ..eager() };
            let mut connection = agreed(Role::Server, &timeless(), &deflate, params);
            send_every_way(&mut connection, &payload);
            let frames = write_frames(&mut connection);
            assert!(messages(&frames, params).iter().all(|message| message == payload.as_bytes()), "{level}");
            lens.push(frames[0].payload.len());
        }
    }
    assert!(lens[0] >= payload.len() && lens[2] < payload.len() / 3, "{lens:?}");
    assert_eq!(lens[6..8], lens[8..10], "more than 9 is 9");
    assert_eq!(lens[6..8], lens[10..12]);
}

#[test]
fn s8_single_messages_are_left_out() {
    for role in ROLES {
        for params in ["", BOTH] {
            let mut connection = agreed(role, &timeless(), &eager(), params);
            let payload = prose(2000);
            let mut marks = Vec::new();
            for on in [true, false, false, true] {
                connection.sender().set_compression(on);
                send_every_way(&mut connection, &payload);
                marks.extend([if on { 4 } else { 0 }; 4]);
            }
            let frames = write_frames(&mut connection);
            assert_eq!(frames.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), marks, "{role:?}");
            assert!(messages(&frames, params).iter().all(|message| message == payload.as_bytes()));
            // Inside a message it counts from the next on.
            let sender = connection.sender();
            sender.send_fragment("one ".into(), false).unwrap();
            sender.set_compression(false);
            sender.send_fragment("two".into(), true).unwrap();
            sender.send_fragment("three ".into(), false).unwrap();
            sender.set_compression(true);
            sender.send_fragment("four".into(), true).unwrap();
            sender.send_text(&payload).unwrap();
            let frames = write_frames(&mut connection);
            assert_eq!(frames.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), [4, 0, 0, 0, 4]);
        }
        // Where nothing was agreed on nothing changes.
        let mut plain = connection(role, &timeless());
        plain.sender().set_compression(true);
        plain.sender().send_text(&prose(5000)).unwrap();
        assert_eq!(write_frames(&mut plain), [text(prose(5000))]);
    }
}

#[test]
fn s7_2_large_messages_go_both_ways() {
    const MIB: usize = 1024 * 1024;
    for (len, roles) in [(MIB, &ROLES[..]), (16 * MIB, &ROLES[..1])] {
        let payload = noise(16 * 1024, 3).repeat(len / (16 * 1024));
        for &role in roles {
            let server = ServerConfig { connection: roomy(), ..with_deflate(DeflateConfig::default()) };
            let client = ClientConfig { connection: roomy(), ..client_with(DeflateConfig::default()) };
            let (server, client, _) = meet(&server, &client).unwrap();
            let mut pair = Pair::of(server, client);
            pair.end(role).connection.sender().send_binary(&payload).unwrap();
            pair.end(role).connection.sender().send(&Message::Text("behind it".into())).unwrap();
            pair.settle();
            assert!(pair.end(other(role)).events == [binary(&payload), text("behind it")], "{role:?}");
        }
    }
}

#[test]
fn shared_payloads_are_compressed_or_shared() {
    let mut connection = agreed(Role::Server, &roomy(), &eager(), BOTH);
    let (long, noise) = (prose(100_000).into_bytes(), noise(100_000, 9));
    let mut sent = Vec::new();
    for payload in [&long, &noise, &long, &noise] {
        connection.sender().send(&Message::Binary(payload.clone().into())).unwrap();
        connection.sender().send_prepared(&Prepared::new(payload.clone())).unwrap();
        sent.extend([payload.clone(), payload.clone()]);
        connection.sender().set_compression(sent.len() != 4);
    }
    let bytes = {
        let mut bytes = Vec::new();
        loop {
            let some = write_some(&mut connection, 7000, 3);
            if some.is_empty() {
                break bytes;
            }
            bytes.extend(some);
        }
    };
    let frames = frames(Role::Server, &bytes);
    assert_eq!(frames.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), [4, 4, 0, 0, 0, 0, 0, 0]);
    assert!(messages(&frames, BOTH) == sent);
}

#[test]
fn s5_1_a_client_masks_compressed_frames_with_a_fresh_key_each() {
    for params in ["", BOTH] {
        let mut client = agreed(Role::Client, &timeless(), &eager(), params);
        for len in [1, 10, 100, 1000, 100_000] {
            send_every_way(&mut client, &prose(len));
        }
        let bytes = write_all(&mut client);
        let keys = keys(&bytes);
        assert_eq!(keys.len(), 20);
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        let frames = frames(Role::Client, &bytes);
        for (i, message) in messages(&frames, params).iter().enumerate() {
            assert_eq!(message.len(), [1, 10, 100, 1000, 100_000][i / 4]);
        }
    }
}

#[test]
fn s7_2_1_headers_of_every_size_in_front_of_what_was_compressed() {
    // The length of the compressed form is known only afterwards: around the steps of 7, 16 and 64 bits.
    for role in ROLES {
        for params in ["", BOTH] {
            let config = roomy();
            let mut connection = agreed(role, &config, &DeflateConfig { level: 0, ..eager() }, params);
            let mut sent = Vec::new();
            for len in (100..140).chain(65_515..65_540) {
                let payload = noise(len, len as u64);
                connection.sender().send_fragment(Fragment::Binary(&payload), true).unwrap();
                sent.push(payload);
            }
            assert!(messages(&write_frames(&mut connection), params) == sent);
        }
    }
}

// Prepared messages

#[test]
fn prepared_messages_go_to_connections_of_every_agreement() {
    let prepared = [prose(3000), prose(100), "Hello".to_owned(), String::new()].map(Prepared::new);
    let payloads = [prose(3000), prose(100), "Hello".to_owned(), String::new()];
    let noisy = (Prepared::new(noise(3000, 2)), noise(3000, 2));
    let mut connections = Vec::new();
    for role in ROLES {
        for bits in 8..=15 {
            for takeover in ["", "_no_context_takeover"] {
                let mut params = String::new();
                if !takeover.is_empty() {
                    params += &format!("; {}{takeover}", name(role));
                }
                // A server declines to compress with 8 bits, and a client does not compress then.
                let bits = if role == Role::Server { bits.max(9) } else { bits };
                params += &format!("; {}_max_window_bits={bits}", name(role));
                let config = roomy();
                let connection = agreed(role, &config, &eager(), &params);
                connections.push((connection, Inflater::new(bits.max(9)), takeover.is_empty(), bits));
            }
        }
        connections.push((connection(role, &timeless()), Inflater::new(15), false, 15));
    }
    for round in 0..3 {
        for (connection, inflater, takeover, bits) in &mut connections {
            let mut sent: Vec<Vec<u8>> = Vec::new();
            for (prepared, payload) in prepared.iter().zip(&payloads) {
                let sender = connection.sender();
                // An ordinary message in front, and behind it one that could refer to it.
                let ordinary = format!("ordinary {round} {payload}");
                sender.send_text(&ordinary).unwrap();
                sender.send_prepared(prepared).unwrap();
                sender.send_prepared(prepared).unwrap();
                sender.send_text(&ordinary).unwrap();
                sender.send_prepared(&noisy.0).unwrap();
                sender.send_text(payload.as_str()).unwrap();
                let all =
                    [ordinary.as_str(), payload, payload, &ordinary].map(|text| text.as_bytes().to_vec());
                sent.extend(all);
                sent.extend([noisy.1.clone(), payload.clone().into_bytes()]);
            }
            let got: Vec<_> = write_frames(connection)
                .into_iter()
                .map(|frame| {
                    if frame.rsv == 0 {
                        return frame.payload;
                    }
                    if !*takeover {
                        inflater.reset();
                    }
                    inflater.inflate(&frame.payload).unwrap_or_else(|| panic!("{bits} bits: {frame:?}"))
                })
                .collect();
            assert!(got == sent, "{bits} bits, takeover {takeover}");
        }
    }
}

#[test]
fn a_prepared_message_keeps_the_rules_of_an_ordinary_one() {
    let deflate = DeflateConfig { threshold: 1000, ..DeflateConfig::default() };
    let (short, long) = (Prepared::new(prose(999)), Prepared::new(prose(1000)));
    for role in ROLES {
        let mut connection = agreed(role, &timeless(), &deflate, BOTH);
        let sender = connection.sender();
        sender.send_prepared(&short).unwrap();
        sender.send_prepared(&long).unwrap();
        sender.set_compression(false);
        sender.send_prepared(&long).unwrap();
        sender.set_compression(true);
        sender.send_prepared(&long.clone()).unwrap();
        let frames = write_frames(&mut connection);
        assert_eq!(frames.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), [0, 4, 0, 4], "{role:?}");
        assert_eq!(frames[1], frames[3]);
    }
}

// The pool

#[test]
fn states_come_from_the_pool_and_go_back() {
    for role in ROLES {
        let pool = DeflatePool::new(2 * 1024 * 1024);
        let deflate = DeflateConfig { pool: pool.clone(), ..eager() };
        let mut connection = agreed(role, &timeless(), &deflate, BOTH);
        // Nothing was compressed: nothing is there.
        send_plain(&mut connection);
        assert_eq!(pool.held(), 0);
        connection.sender().send_text(&prose(500)).unwrap();
        let after_sending = pool.held();
        assert!(after_sending > 100 * 1024, "{after_sending}");
        feed_frames(&mut connection, &[compressed(TEXT, &HELLO[..3]).fin(false)]);
        assert_eq!(pool.held(), after_sending, "the message is not over");
        feed_frames(&mut connection, &[continuation(&HELLO[3..])]);
        let after_both = pool.held();
        assert!(after_both > after_sending);
        for _ in 0..10 {
            connection.sender().send_text(&prose(500)).unwrap();
            feed_frames(&mut connection, &[compressed(TEXT, HELLO)]);
            assert_eq!(pool.held(), after_both, "the same states are used again");
        }
        drop(connection);
        assert_eq!(pool.held(), after_both);
    }
}

/// With context takeover, too: a compressor may forget at any time.
#[test]
fn a_compressor_that_rests_is_given_back() {
    for role in ROLES {
        let pool = DeflatePool::default();
        let deflate = DeflateConfig { pool: pool.clone(), ..eager() };
        let config = Config { keepalive: Some(secs(20)), pong_timeout: None, ..timeless() };
        let mut connection = agreed(role, &config, &deflate, "");
        let mut inflater = Inflater::new(15);
        let mut send = |connection: &mut Connection| {
            connection.sender().send_text(&prose(500)).unwrap();
            let sent = write_frames(connection).pop().unwrap();
            assert_eq!(inflater.inflate(&sent.payload).unwrap(), prose(500).as_bytes());
            sent.payload.len()
        };
        let (first, second) = (send(&mut connection), send(&mut connection));
        assert!(second < first, "it refers to the first");
        // One interval ends in which it was used, one in which it was not.
        connection.handle_timeout(at(20));
        assert_eq!(pool.held(), 0);
        connection.handle_timeout(at(40));
        assert!(pool.held() > 100 * 1024);
        write_frames(&mut connection);
        assert_eq!(send(&mut connection), first, "it has forgotten, and the other side still follows");
    }
}

#[test]
fn connections_that_end_give_back_what_they_used() {
    for role in ROLES {
        let pool = DeflatePool::default();
        let deflate = DeflateConfig { pool: pool.clone(), ..eager() };
        let mut connection = agreed(role, &timeless(), &deflate, "");
        connection.sender().send_text("Hello").unwrap();
        feed_frames(&mut connection, &[compressed(TEXT, HELLO)]);
        assert_eq!(pool.held(), 0, "with takeover both are in use");
        drop(connection);
        assert!(pool.held() > 0);
        // A state that was in the middle of a message, or failed, is as good as new.
        for bad in [&HELLO[..3], &[0x06], &[0xec, 0x3d, 0x00, 0x24]] {
            let held = pool.held();
            let mut connection = agreed(role, &timeless(), &deflate, BOTH);
            connection.sender().send_fragment("unfinished".into(), false).unwrap();
            feed_frames(&mut connection, &[compressed(TEXT, bad).fin(false)]);
            drop(connection);
            // Messages in pieces begin with a compressor of their own.
            let with_one_more = pool.held();
            assert!(with_one_more > held);
            let mut connection = agreed(role, &timeless(), &deflate, BOTH);
            connection.sender().send_text(&prose(500)).unwrap();
            let frames = write_frames(&mut connection);
            assert_eq!(frames[0].rsv, 4);
            assert_eq!(messages(&frames, BOTH), [prose(500).as_bytes()]);
            assert_eq!(feed_frames(&mut connection, &[compressed(TEXT, HELLO)]), [text("Hello")]);
            assert_eq!(pool.held(), with_one_more);
        }
    }
}

/// A reset leaves the window as it is, and zlib looks a byte behind the end of what it was given.
#[test]
fn what_a_compressor_held_for_others_does_not_show() {
    for role in ROLES {
        for level in 0..=9 {
            for params in ["", BOTH] {
                let after = |secret: u8| {
                    let deflate = DeflateConfig { level, ..eager() };
                    let mut other = agreed(role, &timeless(), &deflate, BOTH);
                    other.sender().send_binary(&[secret; 2000]).unwrap();
                    assert!(deflate.pool.held() > 0, "it was given back");
                    let mut connection = agreed(role, &timeless(), &deflate, params);
                    // Ends with a match, within which every string is remembered.
                    let pieces =
                        ["the quick fox, the quick fox", "fox0 fox1 fox2 fox3 fox4 fox5 fox6 fox7 fox8 fox9"];
                    for (i, piece) in pieces.into_iter().enumerate() {
                        connection.sender().send_fragment(piece.into(), i == 1).unwrap();
                    }
                    write_frames(&mut connection)
                };
                let nothing = after(0);
                for secret in b'0'..=b'9' {
                    assert_eq!(after(secret), nothing, "{role:?}, level {level}, {params:?}, {secret}");
                }
            }
        }
    }
}

#[test]
fn a_pool_keeps_to_its_budget() {
    for budget in [0, 1, 100 * 1024, 400 * 1024, 1024 * 1024] {
        let pool = DeflatePool::new(budget);
        for bits in 9..=15 {
            let deflate = DeflateConfig { pool: pool.clone(), ..eager() };
            let windows = format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
            let mut connections: Vec<_> = (0..6)
                .map(|i| {
                    let role = ROLES[i % 2];
                    let params = if i < 3 { windows.clone() } else { format!("{BOTH}{windows}") };
                    agreed(role, &timeless(), &deflate, &params)
                })
                .collect();
            for connection in &mut connections {
                for _ in 0..2 {
                    connection.sender().send_text(&prose(500)).unwrap();
                    let frames = write_frames(connection);
                    assert_eq!(frames[0].rsv, 4);
                    assert_eq!(feed_frames(connection, &[compressed(TEXT, HELLO)]), [text("Hello")]);
                    assert!(pool.held() <= budget);
                }
            }
            drop(connections);
            assert!(pool.held() <= budget, "{} of {budget}", pool.held());
        }
    }
}

// Properties

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// Whatever two ends agree on: what one sends the other hears, in order and unchanged.
    #[test]
    fn any_messages_arrive_by_any_agreement(
        server in any_config(),
        client in any_config(),
        operations in prop::collection::vec(operation(), 0..24),
        cuts in (link(), link()),
    ) {
        let config = roomy();
        let server = ServerConfig { connection: config.clone(), ..with_deflate(server) };
        let client = ClientConfig { connection: config, ..client_with(client) };
        // A client may find that the server demands too much.
        let Ok((server, client, _)) = meet(&server, &client) else { return Ok(()) };
        let mut pair = Pair::of(server, client).with_chunks(&cuts.0, &cuts.1);
        let prepared = Prepared::new(prose(2000));
        let mut sent = [const { Vec::new() }; 2];
        for Operation { role, action } in operations {
            let sent = &mut sent[usize::from(role == Role::Client)];
            let sender = pair.end(role).connection.sender();
            match action {
                Action::Whole(message) => {
                    match &message {
                        Message::Text(payload) => sender.send_text(payload).unwrap(),
                        Message::Binary(payload) => sender.send_binary(payload).unwrap(),
                    }
                    sent.push(Frame::from(message));
                }
                Action::Shared(message) => {
                    sender.send(&message).unwrap();
                    sent.push(Frame::from(message));
                }
                Action::Fragments(payload, len) => {
                    let mut pieces: Vec<&[u8]> = payload.chunks(len).collect();
                    pieces.insert(pieces.len() / 2, b"");
                    for (i, piece) in pieces.iter().enumerate() {
                        sender.send_fragment(Fragment::Binary(piece), i + 1 == pieces.len()).unwrap();
                    }
                    sent.push(binary(payload));
                }
                Action::Prepared => {
                    sender.send_prepared(&prepared).unwrap();
                    sent.push(text(prose(2000)));
                }
                Action::Compression(on) => sender.set_compression(on),
                Action::Settle => pair.settle(),
            }
        }
        pair.settle();
        for (end, sent) in [(&pair.client, &sent[0]), (&pair.server, &sent[1])] {
            prop_assert_eq!(end.connection.fault(), None);
            prop_assert!(end.events == *sent, "heard {:?} of {:?}", end.events, sent);
        }
    }

    /// Anything in compressed frames gives the same events and the same fault however it is cut, and no panic.
    #[test]
    fn any_cut_of_any_compressed_frames_gives_the_same(
        messages in prop::collection::vec(garbage(), 1..5),
        pieces in prop::collection::vec(1_usize..200, 1..5),
        takeover in any::<bool>(),
        role in prop::sample::select(&ROLES),
    ) {
        let config = Config { max_message: 600, ..timeless() };
        let open = reader(role, &config, if takeover { "" } else { BOTH });
        let bytes = join(role, &messages.concat());
        let read = |lens: &[usize]| {
            let mut connection = open();
            let mut rest = &bytes[..];
            let (mut events, mut output) = (Vec::new(), Vec::new());
            for len in lens.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*len).min(rest.len()));
                events.extend(feed(&mut connection, piece));
                output.extend(write_all(&mut connection));
                rest = behind;
            }
            (events, output, connection.fault())
        };
        let whole = read(&[bytes.len()]);
        prop_assert!(whole.0.iter().all(|event| event.payload.len() <= 600));
        prop_assert_eq!(&read(&pieces), &whole);
        prop_assert_eq!(&read(&[1]), &whole);
    }

    /// What a message inflates to is what the other inflater says.
    #[test]
    fn messages_inflate_as_the_other_inflater_says(
        messages in prop::collection::vec(damaged(), 1..4),
        role in prop::sample::select(&ROLES),
    ) {
        for message in messages {
            let mut connection = reader(role, &timeless(), BOTH)();
            let events = feed_frames(&mut connection, &[compressed(BINARY, &message)]);
            match inflate_alone(&message) {
                Some(payload) => prop_assert!(events == [binary(payload)], "{:02x?} {:?}", message, events),
                None if message.is_empty() => {}
                None => {
                    prop_assert!(events.is_empty(), "{:02x?} {:?}", message, events);
                    prop_assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::Deflate)));
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Operation {
    role: Role,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Whole(Message),
    Shared(Message),
    Fragments(Vec<u8>, usize),
    Prepared,
    Compression(bool),
    Settle,
}

fn operation() -> impl Strategy<Value = Operation> {
    let message = || {
        prop_oneof![
            payload().prop_map(|payload| Message::Binary(payload.into())),
            (0_usize..3000).prop_map(|len| Message::Text(prose(len).into())),
            "[a-zé€😀]{0,40}".prop_map(|text| Message::Text(text.into())),
        ]
    };
    let action = prop_oneof![
        5 => message().prop_map(Action::Whole),
        2 => message().prop_map(Action::Shared),
        4 => (payload(), 1_usize..4000).prop_map(|(payload, len)| Action::Fragments(payload, len)),
        2 => Just(Action::Prepared),
        1 => any::<bool>().prop_map(Action::Compression),
        2 => Just(Action::Settle),
    ];
    (prop::sample::select(&ROLES), action).prop_map(|(role, action)| Operation { role, action })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = || prop_oneof![Just(0_usize), 0_usize..300, 0_usize..20_000];
    prop_oneof![
        len().prop_map(|len| prose(len).into_bytes()),
        (len(), any::<u64>()).prop_map(|(len, seed)| noise(len, seed)),
        (1_usize..2000, 1_usize..20, any::<u64>())
            .prop_map(|(len, count, seed)| noise(len, seed).repeat(count)),
    ]
}

fn any_config() -> impl Strategy<Value = DeflateConfig> {
    let window =
        || prop_oneof![Just(WindowBits::Any), Just(WindowBits::Never), (9_u8..16).prop_map(WindowBits::Max)];
    let takeover = || prop::option::of(any::<bool>());
    let threshold = prop::sample::select(&[0, 100, 1024]);
    (takeover(), takeover(), window(), window(), threshold, 0_u32..=9).prop_map(
        |(
            server_no_context_takeover,
            client_no_context_takeover,
            server_bits,
            client_bits,
            threshold,
            level,
        )| {
            DeflateConfig {
                server_no_context_takeover,
                client_no_context_takeover,
                server_max_window_bits: server_bits,
                client_max_window_bits: client_bits,
                threshold,
                level,
                pool: DeflatePool::default(),
            }
        },
    )
}

fn link() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![]), prop::collection::vec(1_usize..3000, 1..4)]
}

/// The payload of a compressed message, perhaps with a few bytes changed or cut off, or nothing like it.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop_oneof![
        "[a-zé€😀]{0,60}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..100),
        (0_usize..900).prop_map(|len| prose(len).into_bytes()),
        (1_usize..900).prop_map(|len| vec![0xff; len]),
    ];
    let message = (plain, 0_u32..10, any::<bool>()).prop_map(|(plain, level, is_final)| {
        if is_final {
            return finished(&plain);
        }
        let mut compressor = Compress::new(Compression::new(level), false);
        deflate(&mut compressor, &plain)
    });
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..60),
        2 => message.clone(),
        2 => (message.clone(), any::<prop::sample::Index>())
            .prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec()),
        3 => (message, damage).prop_map(|(mut bytes, damage)| {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        }),
    ]
}

/// The frames of a message that is damaged.
fn garbage() -> impl Strategy<Value = Vec<Frame>> {
    (damaged(), any::<bool>(), 1_usize..400, any::<bool>()).prop_map(|(payload, is_text, len, pings)| {
        let mut frames = fragments(if is_text { TEXT } else { BINARY }, &payload, len);
        if pings {
            frames.insert(frames.len() / 2, ping("between"));
        }
        frames
    })
}

// Helpers

/// Makes connections that read, by this agreement.
fn reader(role: Role, config: &Config, params: &str) -> impl Fn() -> Connection {
    let (config, params, deflate) = (config.clone(), params.to_owned(), DeflateConfig::default());
    move || agreed(role, &config, &deflate, &params)
}

/// Both roles get `events` from `input`, however it is cut, and answer the pings.
fn reads(params: &str, input: &[Frame], events: &[Frame]) {
    for role in ROLES {
        let outcome = outcome_with(&reader(role, &timeless(), params), input);
        assert_eq!(outcome.fault, None, "{role:?} {params} {input:?}");
        assert_eq!(outcome.events, events, "{role:?} {params} {input:?}");
        let pings = events.iter().filter(|event| event.opcode == PING);
        assert_eq!(outcome.frames(), pings.map(|ping| pong(&ping.payload)).collect::<Vec<_>>());
    }
}

/// Both roles get `events` from `input`, then find `error` and tell it, however it is cut.
fn fails(params: &str, input: &[Frame], events: &[Frame], error: ProtocolError) {
    for role in ROLES {
        let outcome = outcome_with(&reader(role, &timeless(), params), input);
        assert_failed(&outcome, events, error);
    }
}

/// A queue that is never full.
fn roomy() -> Config {
    Config { high_water: usize::MAX, ..timeless() }
}

fn with_deflate(deflate: DeflateConfig) -> ServerConfig {
    ServerConfig { connection: timeless(), deflate: Some(deflate), ..ServerConfig::default() }
}

fn client_with(deflate: DeflateConfig) -> ClientConfig {
    ClientConfig { connection: timeless(), deflate: Some(deflate), ..ClientConfig::default() }
}

/// What a server answers to these lines of offers.
fn answered(config: &ServerConfig, lines: &[&str]) -> Option<String> {
    let (_, answer) = serve(config, lines).expect("the request is fine");
    let lines = answer.all("Sec-WebSocket-Extensions");
    assert!(lines.len() <= 1, "{lines:?}");
    lines.first().map(|&line| line.to_owned())
}

/// Speaks of no window.
fn silent() -> DeflateConfig {
    DeflateConfig {
        server_max_window_bits: WindowBits::Never,
        client_max_window_bits: WindowBits::Never,
        ..DeflateConfig::default()
    }
}

/// Compresses whatever it may.
fn eager() -> DeflateConfig {
    DeflateConfig { threshold: 0, ..DeflateConfig::default() }
}

/// A client that asks for all that a server may refuse.
fn asking() -> ClientConfig {
    client_with(DeflateConfig {
        server_no_context_takeover: Some(true),
        client_no_context_takeover: Some(false),
        server_max_window_bits: WindowBits::Max(10),
        client_max_window_bits: WindowBits::Max(11),
        ..DeflateConfig::default()
    })
}

/// The connection knows no compression: it sends none, and takes none.
fn assert_plain(connection: &mut Connection) {
    connection.sender().send_text(&prose(5000)).unwrap();
    assert_eq!(write_frames(connection), [text(prose(5000))]);
    assert_eq!(feed_frames(connection, &[text("plain")]), [text("plain")]);
    assert_eq!(feed_frames(connection, &[compressed(TEXT, HELLO)]), []);
    assert_eq!(connection.fault(), Some(Fault::Protocol(ProtocolError::ReservedBits)));
}

fn send_plain(connection: &mut Connection) {
    let sender = connection.sender();
    sender.set_compression(false);
    sender.send_text(&prose(500)).unwrap();
    sender.set_compression(true);
    sender.ping(b"x").unwrap();
    assert_eq!(feed_frames(connection, &[text("plain")]), [text("plain")]);
}

/// Sends a message four times: whole, to be shared, prepared, as the one fragment of a message.
fn send_every_way(connection: &mut Connection, payload: &str) {
    let sender = connection.sender();
    sender.send_text(payload).unwrap();
    sender.send(&Message::Text(payload.into())).unwrap();
    sender.send_prepared(&Prepared::new(payload)).unwrap();
    sender.send_fragment(payload.into(), true).unwrap();
}

/// The messages of these frames, inflated where they are marked.
fn messages(frames: &[Frame], params: &str) -> Vec<Vec<u8>> {
    let mut inflater = Inflater::new(15);
    let mut messages = Vec::new();
    let (mut marked, mut payload) = (false, Vec::new());
    for frame in frames.iter().filter(|frame| frame.opcode < 8) {
        marked |= frame.rsv == 4;
        payload.extend_from_slice(&frame.payload);
        if frame.fin {
            let message = std::mem::take(&mut payload);
            if std::mem::take(&mut marked) {
                if params.contains("no_context_takeover") {
                    inflater.reset();
                }
                messages.push(inflater.inflate(&message).expect("what we send inflates"));
            } else {
                messages.push(message);
            }
        }
    }
    messages
}

/// A compressed message in frames of so many bytes.
fn fragments(opcode: u8, message: &[u8], len: usize) -> Vec<Frame> {
    let mut frames: Vec<_> = message.chunks(len.max(1)).map(|piece| continuation(piece).fin(false)).collect();
    if frames.is_empty() {
        frames.push(continuation(""));
    }
    frames[0] = frames[0].clone().opcode(opcode).compressed();
    let last = frames.len() - 1;
    frames[last].fin = true;
    frames
}

/// Messages of more than 64 KiB in all that repeat what lies just beyond a window of so many bits.
fn far_repetitions(bits: u8) -> Vec<Vec<u8>> {
    let window = 1_usize << bits;
    let mut messages = Vec::new();
    for distance in [window + 1, window + 20, window + 300, window - 100] {
        let unit = noise(distance, distance as u64);
        let count = (64 * 1024 / distance).clamp(3, 20);
        // Within a message, and from one to the next.
        messages.push(unit.repeat(count));
        messages.extend(std::iter::repeat_n(unit, 3));
    }
    messages
}

fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
    }
}

/// "Hello", the example of section 7.2.3.1, and the same as a final block.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const FINAL: [u8; 7] = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

const BOTH: &str = "; server_no_context_takeover; client_no_context_takeover";
