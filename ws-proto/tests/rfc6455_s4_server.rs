//! RFC 6455 section 4.2: the server's side of the opening handshake, with the rules of RFC 9110 and 9112.

mod pair;

use std::{sync::Arc, time::Instant};

use pair::{
    head::{Head, Parsed, SAMPLE_ACCEPT, SAMPLE_KEY, request},
    *,
};
use ws_proto::{
    Bytes, Connection, HandshakeError, HeadLimits, Machine, OriginPolicy, ServerConfig, Timer,
    handshake::{self, AcceptError, ServerHandshake},
    http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version},
};

// What is accepted

#[test]
fn s4_2_2_the_request_of_the_rfc_is_accepted() {
    // RFC 6455 section 1.3.
    let bytes = b"GET /chat HTTP/1.1\r\n\
        Host: server.example.com\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let config = ServerConfig { subprotocols: vec!["chat".into()], ..ServerConfig::default() };
    let served = serve_every_way(&config, bytes);
    assert!(served.error.is_none());
    let answer = Parsed::new(&served.output);
    assert_eq!(answer.first, "HTTP/1.1 101 Switching Protocols");
    assert!(answer.only("Upgrade").eq_ignore_ascii_case("websocket"));
    assert!(answer.only("Connection").eq_ignore_ascii_case("upgrade"));
    assert_eq!(answer.only("Sec-WebSocket-Accept"), SAMPLE_ACCEPT);
    assert_eq!(answer.only("Sec-WebSocket-Protocol"), "chat");
    // RFC 9110 section 8.6, RFC 9112 section 6.1: nothing that frames a body.
    for absent in ["Content-Length", "Transfer-Encoding", "Sec-WebSocket-Extensions", "Sec-WebSocket-Version"]
    {
        assert!(answer.all(absent).is_empty(), "{absent}");
    }
    assert_eq!(answer.rest, b"");
}

#[test]
fn credentials_of_a_request_are_not_shown() {
    let now = start();
    let mut handshake = ServerHandshake::new(Arc::new(ServerConfig::default()), now);
    let bytes =
        request().add("Authorization", "Basic c2VjcmV0").add("Cookie", "id=secret").add("X-Open", "shown");
    let bytes = bytes.bytes();
    handshake.recv_space()[..bytes.len()].copy_from_slice(&bytes);
    handshake.handle_input(bytes.len(), now);
    assert!(handshake.advance());
    let shown = format!("{:?}", handshake.request().unwrap());
    assert!(shown.contains("shown") && !shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
}

#[test]
fn s4_2_1_names_and_tokens_have_no_case_and_lists_span_lines() {
    let accepted = [
        request().set("Upgrade", "WebSocket"),
        request().set("Upgrade", "WEBSOCKET"),
        request().set("Upgrade", "h2c, websocket"),
        request().set("Upgrade", "h2c").add("Upgrade", "websocket"),
        request().set("Connection", "keep-alive, Upgrade"),
        request().set("Connection", "upgrade"),
        request().set("Connection", "keep-alive").add("Connection", "UPGRADE"),
        request().set("Connection", ",, \tUpgrade\t ,"),
        request().without("Host").add("hOST", "example.com"),
        request().without("Sec-WebSocket-Key").add("SEC-WEBSOCKET-KEY", SAMPLE_KEY),
        // RFC 9110 section 5.5: white space around a value is no part of it.
        request().set("Sec-WebSocket-Version", " \t13 \t"),
        request().set("Upgrade", "").add("Upgrade", "websocket"),
    ];
    for head in accepted {
        assert_accepted(&ServerConfig::default(), &head);
    }
}

#[test]
fn s4_2_1_the_key_is_base64_of_16_bytes() {
    for key in ["AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==", "AQIDBAUGBwgJCgsMDQ4PEA=="] {
        let served = serve(&ServerConfig::default(), &[&request().set("Sec-WebSocket-Key", key).bytes()]);
        assert_eq!(Parsed::new(&served.output).only("Sec-WebSocket-Accept"), head::accept(key));
    }
    let refused = [
        "",
        "AAAAAAAAAAAAAAAAAAAA",                               // 15 bytes
        "AAAAAAAAAAAAAAAAAAAAAAA=",                           // 17 bytes
        "AAAAAAAAAAAAAAAAAAAAAAAA",                           // 18 bytes
        "AAAAAAAAAAAAAAAAAAAAAA",                             // no padding
        "AAAAAAAAAAAAAAAAAAAAAA=",                            // half of it
        "AAAAAAAAAAAAAAAAAAAA-_==",                           // the other alphabet
        "AAAAAAAAAAA AAAAAAAAAAA==",                          // a space inside
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", // a list
        "not base64 at all",
    ];
    for key in refused {
        assert_refused(
            &ServerConfig::default(),
            &request().set("Sec-WebSocket-Key", key),
            HandshakeError::Key,
        );
    }
    let missing = request().without("Sec-WebSocket-Key");
    assert_refused(&ServerConfig::default(), &missing, HandshakeError::Key);
    let twice = request().add("Sec-WebSocket-Key", SAMPLE_KEY);
    assert_refused(&ServerConfig::default(), &twice, HandshakeError::Key);
}

#[test]
fn s9112_2_2_empty_lines_before_the_request_are_skipped() {
    for count in [1, 2, 5] {
        let bytes = ["\r\n".repeat(count).into_bytes(), request().bytes()].concat();
        assert!(serve_every_way(&ServerConfig::default(), &bytes).error.is_none());
    }
}

#[test]
fn s9112_3_2_host_is_there_once_and_is_a_host() {
    for host in ["example.com", "example.com:8080", "127.0.0.1", "[::1]", "[::1]:80", "EXAMPLE", "a_b"] {
        assert_accepted(&ServerConfig::default(), &request().set("Host", host));
    }
    for host in
        ["", "a b", "a/b", "a@b", "user:pw@b", "http://a", "a?b", "a#b", "[::1", "a,b\"", "a\\b", "a:port"]
    {
        assert_refused(&ServerConfig::default(), &request().set("Host", host), HandshakeError::Host);
    }
    assert_refused(&ServerConfig::default(), &request().without("Host"), HandshakeError::Host);
    assert_refused(&ServerConfig::default(), &request().add("Host", "example.com"), HandshakeError::Host);
}

#[test]
fn s9112_3_2_2_absolute_form_names_path_and_host() {
    let config =
        ServerConfig { path: Some("/chat".into()), origins: OriginPolicy::Same, ..ServerConfig::default() };
    let head = request().target("http://other.example/chat?x=1").add("Origin", "http://other.example");
    assert_accepted(&config, &head);
    let by_host_field = request().target("http://other.example/chat").add("Origin", "http://example.com");
    assert_refused(&config, &by_host_field, HandshakeError::Origin);
    assert_refused(&config, &request().target("http://example.com/other"), HandshakeError::Path);
    assert_refused(
        &config,
        &request().target("http://example.com/chat").without("Host"),
        HandshakeError::Host,
    );
}

#[test]
fn s9112_3_2_target_of_another_form_is_refused() {
    // RFC 6455 section 4.2.1, item 1: a path or an absolute URI. Section 3.2 of RFC 9112 has authority-form for
    // CONNECT and asterisk-form for OPTIONS alone.
    for target in ["*", "chat", "example.com:80", "example.com", "?x"] {
        let served = serve(&ServerConfig::default(), &[&request().target(target).bytes()]);
        assert!(served.error.is_some(), "{target} was accepted");
        assert_eq!(Parsed::new(&served.output).status(), 400, "{target}");
    }
}

#[test]
fn s4_2_1_path_is_compared_without_the_query() {
    let config = ServerConfig { path: Some("/chat".into()), ..ServerConfig::default() };
    for target in ["/chat", "/chat?", "/chat?room=1&x=/other"] {
        assert_accepted(&config, &request().target(target));
    }
    for target in ["/", "/chat/", "/Chat", "/chat/x", "/cha%74", "//chat", "/other?/chat"] {
        assert_refused(&config, &request().target(target), HandshakeError::Path);
    }
}

// What is refused, and how

#[test]
fn s4_2_2_each_fault_has_its_status_and_fields() {
    use HandshakeError as E;
    let any = ServerConfig::default();
    let version = |version_8| E::Version { version_8, extended: false };
    let cases = [
        (request().method("POST"), 405, E::Method),
        (request().method("get"), 405, E::Method),
        (request().method("OPTIONS"), 405, E::Method),
        (request().method("PURGE"), 405, E::Method),
        (request().version("HTTP/1.0"), 505, E::HttpVersion),
        (request().version("HTTP/2.0"), 505, E::HttpVersion),
        // Behind the second space stands the version, and this is none.
        (request().target("/a b"), 400, E::Malformed("the request line")),
        (Head::new("GET", "/", "HTTP/1.1").add("Host", "example.com"), 426, E::NotUpgrade),
        (request().without("Upgrade"), 426, E::NotUpgrade),
        (request().without("Connection"), 426, E::NotUpgrade),
        (request().set("Upgrade", "h2c"), 426, E::NotUpgrade),
        (request().set("Upgrade", ""), 426, E::NotUpgrade),
        (request().set("Connection", "close"), 426, E::NotUpgrade),
        // Tokens, not substrings.
        (request().set("Upgrade", "websockets"), 426, E::NotUpgrade),
        (request().set("Upgrade", "not-websocket"), 426, E::NotUpgrade),
        (request().set("Upgrade", "\"websocket\""), 426, E::NotUpgrade),
        (request().set("Connection", "upgraded"), 426, E::NotUpgrade),
        (request().set("Connection", "keep-alive Upgrade"), 426, E::NotUpgrade),
        (request().set("Connection", "\"keep-alive, Upgrade\""), 426, E::NotUpgrade),
        (request().without("Sec-WebSocket-Version"), 426, version(false)),
        (request().set("Sec-WebSocket-Version", ""), 426, version(false)),
        (request().set("Sec-WebSocket-Version", "8"), 426, version(false)),
        (request().set("Sec-WebSocket-Version", "14"), 426, version(false)),
        (request().set("Sec-WebSocket-Version", "013"), 426, version(false)),
        (request().set("Sec-WebSocket-Version", "13, 13"), 426, version(false)),
        (request().add("Sec-WebSocket-Version", "13"), 426, version(false)),
        (request().add("Content-Length", "1"), 400, E::Body),
        (request().add("Content-Length", "junk"), 400, E::Body),
        (request().add("Content-Length", "0").add("Content-Length", "3"), 400, E::Body),
        (request().add("Transfer-Encoding", "chunked"), 400, E::Body),
        (request().add("Transfer-Encoding", "identity"), 400, E::Body),
        (request().add("Sec-WebSocket-Protocol", ""), 400, E::SubprotocolList),
        (request().add("Sec-WebSocket-Protocol", "a, a"), 400, E::SubprotocolList),
        (request().add("Sec-WebSocket-Protocol", "a b"), 400, E::SubprotocolList),
        (request().add("Sec-WebSocket-Protocol", "käse"), 400, E::SubprotocolList),
        (
            request().add("Sec-WebSocket-Protocol", "a").add("Sec-WebSocket-Protocol", "a"),
            400,
            E::SubprotocolList,
        ),
        (request().add("Sec-WebSocket-Extensions", ""), 400, E::ExtensionList),
        (request().add("Sec-WebSocket-Extensions", "foo;"), 400, E::ExtensionList),
        (request().add("Sec-WebSocket-Extensions", "foo; a=\"b c\""), 400, E::ExtensionList),
        (request().add("Sec-WebSocket-Extensions", "foo; a=\"b"), 400, E::ExtensionList),
    ];
    for (head, status, error) in cases {
        let answer = assert_refused(&any, &head, error);
        assert_eq!(answer.status(), status, "{head:?}");
        match status {
            // RFC 9110 section 15.5.6.
            405 => assert_eq!(answer.only("Allow"), "GET"),
            // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
            426 => {
                assert_eq!(answer.only("Upgrade"), "websocket");
                assert_eq!(answer.only("Sec-WebSocket-Version"), "13");
            }
            _ => {}
        }
    }
}

#[test]
fn s4_2_2_a_body_of_no_bytes_is_none() {
    assert_accepted(&ServerConfig::default(), &request().add("Content-Length", "0"));
}

#[test]
fn s4_2_2_an_unknown_extension_is_declined() {
    let head = request().add("Sec-WebSocket-Extensions", "foo; bar=1, permessage-deflate; x=\"y\"");
    let served = serve(&ServerConfig::default(), &[&head.bytes()]);
    assert!(served.error.is_none());
    assert!(Parsed::new(&served.output).all("Sec-WebSocket-Extensions").is_empty());
}

#[test]
fn s4_2_2_the_first_fault_wins() {
    use HandshakeError as E;
    type Fault = fn(Head) -> Head;
    let faults: [(Fault, E); 11] = [
        (|head| head.method("POST"), E::Method),
        (|head| head.version("HTTP/1.0"), E::HttpVersion),
        (|head| head.set("Upgrade", "h2c"), E::NotUpgrade),
        (|head| head.without("Sec-WebSocket-Key"), E::Key),
        (|head| head.set("Sec-WebSocket-Version", "7"), E::Version { version_8: false, extended: false }),
        (|head| head.without("Host"), E::Host),
        (|head| head.add("Content-Length", "5"), E::Body),
        (|head| head.target("/other"), E::Path),
        (|head| head.add("Sec-WebSocket-Protocol", "a, a"), E::SubprotocolList),
        (|head| head.add("Sec-WebSocket-Extensions", "foo;"), E::ExtensionList),
        (|head| head.add("Origin", "http://evil.example"), E::Origin),
    ];
    let config = ServerConfig {
        path: Some("/chat".into()),
        origins: OriginPolicy::List(vec!["http://example.com".into()]),
        ..ServerConfig::default()
    };
    for (i, (_, error)) in faults.iter().enumerate() {
        let head = faults[i..].iter().fold(request(), |head, (fault, _)| fault(head));
        assert_refused(&config, &head, error.clone());
    }
}

#[test]
fn s9110_9_3_2_head_gets_no_body() {
    let served = serve(&ServerConfig::default(), &[&request().method("HEAD").bytes()]);
    let answer = Parsed::new(&served.output);
    assert_eq!((answer.status(), answer.only("Allow"), &*answer.rest), (405, "GET", &b""[..]));
}

#[test]
fn s9112_what_is_no_http_gets_400() {
    let host = |value: &[u8]| [b"GET / HTTP/1.1\r\nHost: ", value, b"\r\n\r\n"].concat();
    let line = |line: &[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
    let cases: [(&str, Vec<u8>); 26] = [
        ("garbage", b"garbage\r\n\r\n".to_vec()),
        ("no version", b"GET /\r\nHost: a\r\n\r\n".to_vec()),
        ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a tab in the request line", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a target that is not ASCII", "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes().to_vec()),
        ("a method that is no token", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a space in front", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("white space behind the request line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec()),
        ("obs-fold", line(b"X: a\r\n b")),
        ("obs-fold by a tab", line(b"X: a\r\n\tb")),
        ("bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec()),
        ("bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n".to_vec()),
        ("bare LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec()),
        ("bare LF in front", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("bare CR in a value", host(b"a\rb")),
        ("bare CR in front", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("CR CR LF", host(b"a\r")),
        ("NUL in a value", host(b"a\0b")),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("another control character", line(b"X: a\x1bb")),
        ("DEL in a value", line(b"X: a\x7fb")),
        ("space before the colon", line(b"X : a")),
        ("tab before the colon", line(b"X\t: a")),
        ("no colon", line(b"X")),
        ("no name", line(b": a")),
    ];
    for (what, bytes) in cases {
        let served = serve_every_way(&ServerConfig::default(), &bytes);
        assert!(matches!(served.error, Some(HandshakeError::Malformed(_))), "{what}: {:?}", served.error);
        assert_refusal_is_whole(&served.output, 400);
    }
}

#[test]
fn s9112_garbage_is_refused_at_its_first_bytes() {
    // The start of a TLS handshake: record of a handshake, version 3.1, length.
    let tls = [0x16, 0x03, 0x01, 0x02, 0x00];
    for bytes in [&tls[..], b"\0", b"\xff\xff", b"{\"json\"", b"\x80\x2e\x01", b"GET\x01"] {
        let mut handshake = server(&ServerConfig::default());
        feed_machine(&mut handshake, bytes, start(), |handshake| assert!(!handshake.advance()));
        assert!(matches!(handshake.error(), Some(HandshakeError::Malformed(_))), "{bytes:02x?}");
        assert_refusal_is_whole(&write_all(&mut handshake), 400);
    }
}

#[test]
fn s9112_2_2_obs_text_in_values_is_opaque() {
    let bytes = request().bytes();
    let bytes = [&bytes[..bytes.len() - 2], b"X-Name: caf\xe9\r\n\r\n"].concat();
    assert!(serve_every_way(&ServerConfig::default(), &bytes).error.is_none());
}

#[test]
fn s9112_9_6_a_refusal_is_written_then_input_is_drained_until_eof() {
    let mut handshake = server(&ServerConfig::default());
    let bytes = request().method("POST").bytes();
    feed_machine(&mut handshake, &bytes, start(), |handshake| _ = handshake.advance());
    assert!(handshake.advance());
    let error = handshake.check().unwrap_err();
    handshake.fail(error);
    assert!(!handshake.advance() && handshake.request().is_none());
    assert!(!handshake.wants_shutdown(), "the refusal is not written");
    assert_eq!(Parsed::new(&write_all(&mut handshake)).status(), 405);
    assert!(handshake.wants_shutdown() && handshake.wants_read() && !handshake.is_ended());
    feed_machine(&mut handshake, &[0x81; 300_000], start(), |handshake| assert!(!handshake.advance()));
    assert_eq!(write_all(&mut handshake), b"");
    handshake.handle_eof(start());
    assert!(handshake.is_ended() && !handshake.wants_read());
    assert!(matches!(handshake.error(), Some(HandshakeError::Method)));
    assert_eq!(handshake.poll_timeout(start()), None);
}

#[test]
fn s9112_9_6_a_refusal_ends_by_the_close_deadline() {
    let mut handshake = server(&ServerConfig::default());
    feed_machine(&mut handshake, b"\0", start(), |handshake| _ = handshake.advance());
    write_all(&mut handshake);
    assert_eq!(deadline(&mut handshake, at(1)), Some((secs(11), Timer::Close)));
    feed_machine(&mut handshake, b"x", at(10), |_| {});
    assert!(!handshake.is_ended());
    assert_eq!(deadline(&mut handshake, at(10)), Some((secs(11), Timer::Close)), "dripping extends nothing");
    handshake.handle_timeout(at(11));
    assert!(handshake.is_ended());
}

#[test]
fn s9112_9_6_a_client_that_never_pauses_does_not_prolong_a_refusal() {
    // A driver waits only when there is nothing to read, so it never gets to ask for the deadline.
    let mut handshake = server(&ServerConfig::default());
    feed_machine(&mut handshake, b"\0", start(), |handshake| _ = handshake.advance());
    write_all(&mut handshake);
    let end = (1..1000).find(|&second| {
        feed_machine(&mut handshake, b"more", at(second), |handshake| _ = handshake.advance());
        handshake.is_ended()
    });
    assert!(end.is_some_and(|second| second <= 11), "{end:?}");
}

#[test]
fn s9112_9_6_a_write_error_ends_a_refusal() {
    let mut handshake = server(&ServerConfig::default());
    feed_machine(&mut handshake, b"\0", start(), |handshake| _ = handshake.advance());
    handshake.handle_write_error(start());
    assert!(handshake.is_ended());
    assert_eq!(write_all(&mut handshake), b"");
}

// Time and the end of TCP

#[test]
fn s4_2_eof_inside_the_head_is_the_end_without_an_answer() {
    let bytes = request().bytes();
    for cut in 0..bytes.len() {
        let mut handshake = server(&ServerConfig::default());
        feed_machine(&mut handshake, &bytes[..cut], start(), |handshake| assert!(!handshake.advance()));
        handshake.handle_eof(start());
        assert!(!handshake.advance());
        assert!(handshake.is_ended() && !handshake.wants_read() && handshake.wants_shutdown());
        assert!(matches!(handshake.error(), Some(HandshakeError::Eof)), "at {cut}");
        assert_eq!(write_all(&mut handshake), b"");
        assert_eq!(handshake.poll_timeout(start()), None);
    }
}

#[test]
fn s4_2_eof_behind_the_request_is_known_to_the_connection() {
    let mut handshake = server(&ServerConfig::default());
    let bytes = request().bytes();
    handshake.recv_space()[..bytes.len()].copy_from_slice(&bytes);
    handshake.handle_input(bytes.len(), start());
    handshake.handle_eof(start());
    assert!(handshake.advance(), "what came before the end counts");
    let acceptance = handshake.check().unwrap();
    let (mut connection, _) = handshake.accept(acceptance, start());
    assert_eq!(feed(&mut connection, b""), []);
    write_all(&mut connection);
    assert!(!connection.wants_read(), "nothing more will come");
    assert!(connection.is_ended());
}

#[test]
fn s4_2_a_head_that_drips_gets_408_at_the_deadline() {
    let mut handshake = server(&ServerConfig::default());
    let bytes = request().bytes();
    for (second, byte) in bytes.iter().take(10).enumerate() {
        assert_eq!(deadline(&mut handshake, at(second as u64)), Some((secs(10), Timer::Handshake)));
        feed_machine(&mut handshake, &[*byte], at(second as u64), |handshake| _ = handshake.advance());
        assert!(handshake.error().is_none());
    }
    // The deadline holds without a timer, too: a read is late.
    feed_machine(&mut handshake, &bytes[10..11], at(10), |handshake| _ = handshake.advance());
    assert!(matches!(handshake.error(), Some(HandshakeError::Timeout)));
    assert_refusal_is_whole(&write_all(&mut handshake), 408);
}

#[test]
fn s4_2_the_deadline_ends_with_the_head() {
    let mut handshake = server(&ServerConfig::default());
    feed_machine(&mut handshake, &request().bytes(), at(9), |handshake| _ = handshake.advance());
    // The application takes its time.
    assert_eq!(handshake.poll_timeout(at(9)), None);
    handshake.handle_timeout(at(100));
    assert!(handshake.advance() && handshake.error().is_none());
    let no_deadline = ServerConfig {
        head: HeadLimits { timeout: None, ..HeadLimits::default() },
        ..ServerConfig::default()
    };
    assert_eq!(server(&no_deadline).poll_timeout(start()), None);
}

// Frames behind the request

#[test]
fn s4_2_2_frames_behind_the_request_are_read_after_the_answer() {
    let glued = [request().bytes(), join(ws_proto::Role::Server, &[ping("p"), text("hi")])].concat();
    let served = serve_every_way(&ServerConfig::default(), &glued);
    assert_eq!(served.events, [ping("p"), text("hi")]);
    let answer = Parsed::new(&served.output);
    assert_eq!(answer.status(), 101);
    assert_eq!(frames(ws_proto::Role::Server, &answer.rest), [pong("p")]);
}

#[test]
fn s4_2_2_the_answer_leaves_first_and_whole() {
    let glued = [request().bytes(), join(ws_proto::Role::Server, &[ping("first")])].concat();
    for step in [1, 7, 100] {
        let mut connection = accept(&glued);
        block(&mut connection);
        let mut output = Vec::new();
        for round in 0.. {
            // Pings go on while the answer leaves.
            if round < 5 {
                feed_frames(&mut connection, &[ping([round as u8])]);
            }
            let some = write_some(&mut connection, step, 16);
            if some.is_empty() {
                break;
            }
            output.extend(some);
        }
        let answer = Parsed::new(&output);
        assert_eq!(answer.status(), 101);
        let frames = frames(ws_proto::Role::Server, &answer.rest);
        assert!(!frames.is_empty() && frames.iter().all(|frame| frame.opcode == PONG), "{frames:?}");
    }
}

#[test]
fn s4_2_2_frames_before_the_answer_are_read_up_to_the_limit_of_a_head() {
    let mut handshake = received(&request().bytes());
    let early = join(ws_proto::Role::Server, &[binary(vec![0; 16 * 1024 - 8])]);
    let (last, before) = early.split_last().unwrap();
    assert_eq!(before.len(), 16 * 1024 - 1);
    feed_machine(&mut handshake, before, start(), |handshake| assert!(handshake.wants_read()));
    feed_machine(&mut handshake, &[*last], start(), |_| {});
    assert!(!handshake.wants_read(), "what is there is enough");
    let acceptance = handshake.check().unwrap();
    let (mut connection, _) = handshake.accept(acceptance, start());
    assert_eq!(feed(&mut connection, b""), [binary(vec![0; 16 * 1024 - 8])]);
    assert!(connection.wants_read());
}

#[test]
fn s4_2_2_bytes_behind_a_refused_request_are_never_frames() {
    let frames = join(ws_proto::Role::Server, &[ping("p"), close(1000, "")]);
    for head in [request().method("POST"), request().add("Content-Length", "12"), request().without("Host")] {
        let bytes = [head.bytes(), frames.clone()].concat();
        let served = serve_every_way(&ServerConfig::default(), &bytes);
        let answer = Parsed::new(&served.output);
        assert!(served.error.is_some() && served.events.is_empty());
        assert_eq!(answer.rest.len().to_string(), answer.only("Content-Length"), "one body and no frame");
    }
}

// Origin

#[test]
fn s10_2_origin_policies() {
    let any = || OriginPolicy::Any;
    let same = || OriginPolicy::Same;
    let list = || OriginPolicy::List(vec!["https://example.com".into(), "http://b.example:81".into()]);
    let cases = [
        (any(), "http://evil.example", "example.com", true),
        (any(), "null", "example.com", true),
        (same(), "http://example.com", "example.com", true),
        (same(), "https://example.com", "example.com", true),
        (same(), "http://EXAMPLE.com", "example.COM", true),
        (same(), "http://example.com:80", "example.com", true),
        (same(), "http://example.com", "example.com:80", true),
        (same(), "https://example.com", "example.com:443", true),
        (same(), "http://example.com:8080", "example.com:8080", true),
        (same(), "http://[::1]:81", "[::1]:81", true),
        (same(), "http://evil.example", "example.com", false),
        (same(), "http://example.com.evil.example", "example.com", false),
        (same(), "http://sub.example.com", "example.com", false),
        (same(), "http://example.com:8080", "example.com", false),
        (same(), "http://example.com", "example.com:8080", false),
        (same(), "https://example.com", "example.com:80", false),
        (same(), "null", "example.com", false),
        (same(), "", "example.com", false),
        (same(), "http://", "example.com", false),
        (same(), "http://example.com@evil.example", "example.com", false),
        (same(), "http://evil.example/example.com", "example.com", false),
        (list(), "https://example.com", "x", true),
        (list(), "HTTPS://Example.Com", "x", true),
        (list(), "http://b.example:81", "x", true),
        (list(), "http://example.com", "x", false),
        (list(), "https://example.com.evil.example", "x", false),
        (list(), "https://example.co", "x", false),
        (list(), "null", "x", false),
    ];
    for (origins, origin, host, let_in) in cases {
        let config = ServerConfig { origins, ..ServerConfig::default() };
        let head = request().set("Host", host).add("Origin", origin);
        if let_in {
            assert_accepted(&config, &head);
        } else {
            assert_eq!(assert_refused(&config, &head, HandshakeError::Origin).status(), 403);
        }
        // Not a browser.
        assert_accepted(&config, &request().set("Host", host));
    }
}

#[test]
fn s10_2_no_one_of_several_origins_is_overlooked() {
    let config = ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() };
    for origins in
        [["http://example.com", "http://evil.example"], ["http://evil.example", "http://example.com"]]
    {
        let head = request().add("Origin", origins[0]).add("Origin", origins[1]);
        assert_refused(&config, &head, HandshakeError::Origin);
    }
}

// Version 8

#[test]
fn s4_4_version_8_is_taken_where_it_is_allowed() {
    let config = ServerConfig { version_8: true, origins: OriginPolicy::Same, ..ServerConfig::default() };
    let version_8 = request().set("Sec-WebSocket-Version", "8");
    assert_accepted(&config, &version_8);
    assert_accepted(&config, &request());
    // The origin travels under another name, and only under that.
    let evil = "http://evil.example";
    assert_refused(&config, &version_8.clone().add("Sec-WebSocket-Origin", evil), HandshakeError::Origin);
    assert_accepted(&config, &version_8.clone().add("Origin", evil));
    assert_accepted(&config, &version_8.add("Sec-WebSocket-Origin", "http://example.com"));
    assert_accepted(&config, &request().add("Sec-WebSocket-Origin", evil));
    let answer = assert_refused(
        &config,
        &request().set("Sec-WebSocket-Version", "9"),
        HandshakeError::Version { version_8: true, extended: false },
    );
    assert_eq!(answer.only("Sec-WebSocket-Version"), "13, 8");
}

// Subprotocols and the application's part

#[test]
fn s4_2_2_the_first_offered_subprotocol_that_is_served_is_chosen() {
    let config = ServerConfig { subprotocols: vec!["b".into(), "a".into()], ..ServerConfig::default() };
    let cases = [
        (vec!["a, b"], Some("a")),
        (vec!["x", "b, a"], Some("b")),
        (vec!["x, y"], None),
        (vec!["A"], None),
        (vec![], None),
    ];
    for (lines, chosen) in cases {
        let head = lines.iter().fold(request(), |head, line| head.add("Sec-WebSocket-Protocol", line));
        let served = serve(&config, &[&head.bytes()]);
        assert_eq!(served.subprotocol.as_deref(), chosen);
        let answer = Parsed::new(&served.output);
        assert_eq!(answer.all("Sec-WebSocket-Protocol"), chosen.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn s4_2_2_the_application_chooses_among_the_offered() {
    let head = request().add("Sec-WebSocket-Protocol", "a, b");
    for (choice, result) in [
        (Some("b"), Ok(())),
        (None, Ok(())),
        (Some("c"), Err(AcceptError::Subprotocol)),
        (Some(""), Err(AcceptError::Subprotocol)),
        (Some("a, b"), Err(AcceptError::Subprotocol)),
    ] {
        let handshake = received(&head.bytes());
        let mut acceptance = handshake.check().unwrap();
        assert_eq!(acceptance.offered(), ["a", "b"]);
        assert_eq!(acceptance.subprotocol(), None);
        assert_eq!(acceptance.set_subprotocol(choice), result);
        let chosen = choice.filter(|_| result.is_ok());
        assert_eq!(acceptance.subprotocol(), chosen);
        let (mut connection, _) = handshake.accept(acceptance, start());
        assert_eq!(connection.subprotocol(), chosen);
        let answer = Parsed::new(&write_all(&mut connection));
        assert_eq!(answer.all("Sec-WebSocket-Protocol"), chosen.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn s4_2_2_the_application_adds_fields_that_are_not_the_handshakes_own() {
    let handshake = received(&request().bytes());
    let mut acceptance = handshake.check().unwrap();
    for name in ["set-cookie", "x-trace", "set-cookie"] {
        acceptance.add_header(HeaderName::from_static(name), HeaderValue::from_static("v")).unwrap();
    }
    for name in [
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-version",
    ] {
        let name = HeaderName::from_static(name);
        let result = acceptance.add_header(name.clone(), HeaderValue::from_static("v"));
        assert_eq!(result, Err(AcceptError::ReservedField(name)));
    }
    let (mut connection, _) = handshake.accept(acceptance, start());
    let answer = Parsed::new(&write_all(&mut connection));
    assert_eq!((answer.all("Set-Cookie").len(), answer.only("X-Trace")), (2, "v"));
    assert_eq!(answer.only("Sec-WebSocket-Accept"), SAMPLE_ACCEPT);
}

#[test]
fn s4_2_2_the_application_refuses_as_it_likes() {
    let mut handshake = received(&request().bytes());
    let refusal = Response::builder()
        .status(401)
        .header("WWW-Authenticate", "Basic")
        // The framing is not the application's.
        .header("Content-Length", "999")
        .header("Transfer-Encoding", "chunked")
        .header("Connection", "keep-alive")
        .body(Bytes::from("who are you?"));
    handshake.refuse(refusal.unwrap());
    let answer = Parsed::new(&write_all(&mut handshake));
    assert_eq!((answer.status(), answer.only("WWW-Authenticate")), (401, "Basic"));
    assert_eq!((answer.only("Content-Length"), answer.only("Connection")), ("12", "close"));
    assert!(answer.all("Transfer-Encoding").is_empty());
    assert_eq!(answer.rest, b"who are you?");
    assert!(matches!(handshake.error(), Some(HandshakeError::Refused(StatusCode::UNAUTHORIZED))));
    // One answer is enough.
    handshake.refuse(Response::new(Bytes::new()));
    handshake.fail(HandshakeError::Path);
    assert_eq!(write_all(&mut handshake), b"");
}

#[test]
fn s4_2_2_a_refusal_is_never_1xx() {
    for status in [100, 101, 103, 199] {
        let mut handshake = received(&request().bytes());
        handshake.refuse(Response::builder().status(status).body(Bytes::new()).unwrap());
        assert_eq!(Parsed::new(&write_all(&mut handshake)).status(), 500);
    }
}

#[test]
fn s9110_8_6_a_refusal_without_content_has_no_body_and_no_length() {
    let mut handshake = received(&request().bytes());
    handshake.refuse(Response::builder().status(204).body(Bytes::from("no content?")).unwrap());
    let answer = Parsed::new(&write_all(&mut handshake));
    assert_eq!((answer.status(), &*answer.rest), (204, &b""[..]));
    assert!(answer.all("Content-Length").is_empty());
}

#[test]
fn s4_2_the_application_sees_the_request() {
    let head = request().target("/chat?room=1").add("Cookie", "a=1").add("Cookie", "b=2");
    let handshake = received(&head.bytes());
    let seen = handshake.request().unwrap();
    assert_eq!((seen.uri().path(), seen.uri().query()), ("/chat", Some("room=1")));
    assert_eq!(seen.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    let acceptance = handshake.check().unwrap();
    let (_, request) = handshake.accept(acceptance, start());
    assert_eq!(request.uri().query(), Some("room=1"));
}

// The rules alone, for another HTTP implementation

#[test]
fn s4_2_check_judges_a_request_read_elsewhere() {
    let request = || {
        Request::get("/chat")
            .header("Host", "example.com")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", SAMPLE_KEY)
            .header("Sec-WebSocket-Protocol", "a")
    };
    let config = ServerConfig { subprotocols: vec!["a".into()], ..ServerConfig::default() };
    let acceptance = handshake::check(&request().body("any body type").unwrap(), &config).unwrap();
    let response = acceptance.response();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], SAMPLE_ACCEPT);
    assert_eq!(response.headers()["sec-websocket-protocol"], "a");
    let leftover = join(ws_proto::Role::Server, &[text("hi")]);
    let mut connection = acceptance.into_connection(&config, &leftover, start());
    assert_eq!(connection.subprotocol(), Some("a"));
    assert_eq!(write_all(&mut connection), b"", "the answer was sent elsewhere");
    assert_eq!(feed(&mut connection, b""), [text("hi")]);
    let http_1_0 = handshake::check(&request().version(Version::HTTP_10).body(()).unwrap(), &config);
    assert!(matches!(http_1_0, Err(HandshakeError::HttpVersion)));
}

// Helpers

/// What came of a handshake and what was behind it.
#[derive(Clone, Debug)]
struct Served {
    error: Option<HandshakeError>,
    output: Vec<u8>,
    events: Vec<Frame>,
    subprotocol: Option<String>,
}

fn server(config: &ServerConfig) -> ServerHandshake {
    ServerHandshake::new(Arc::new(config.clone()), start())
}

/// A handshake whose request is there.
fn received(bytes: &[u8]) -> ServerHandshake {
    let mut handshake = server(&ServerConfig::default());
    feed_machine(&mut handshake, bytes, start(), |handshake| _ = handshake.advance());
    assert!(handshake.advance());
    handshake
}

/// The connection that comes of an acceptable request.
fn accept(bytes: &[u8]) -> Connection {
    let handshake = received(bytes);
    let acceptance = handshake.check().unwrap();
    handshake.accept(acceptance, start()).0
}

/// Drives a server over these reads, as an adapter would.
fn serve(config: &ServerConfig, reads: &[&[u8]]) -> Served {
    let mut handshake = server(config);
    let mut connection = None;
    let mut events = Vec::new();
    let mut output = Vec::new();
    for read in reads {
        let mut rest = *read;
        while connection.is_none() && !rest.is_empty() {
            rest = &rest[read_some(&mut handshake, rest, start())..];
            if handshake.advance() {
                match handshake.check() {
                    Ok(acceptance) => {
                        let accepted = std::mem::replace(&mut handshake, server(config));
                        connection = Some(accepted.accept(acceptance, start()).0);
                    }
                    Err(error) => handshake.fail(error),
                }
            }
            if connection.is_none() {
                output.extend(write_all(&mut handshake));
            }
        }
        if let Some(connection) = &mut connection {
            events.extend(feed(connection, rest));
            output.extend(write_all(connection));
        }
    }
    let subprotocol = connection.as_ref().and_then(|connection| connection.subprotocol().map(str::to_owned));
    Served { error: handshake.error().cloned(), output, events, subprotocol }
}

fn read_some<M: Machine>(machine: &mut M, bytes: &[u8], now: Instant) -> usize {
    let space = machine.recv_space();
    let len = space.len().min(bytes.len());
    space[..len].copy_from_slice(&bytes[..len]);
    machine.handle_input(len, now);
    len
}

/// Whole, byte by byte, and at every cut in two: always the same.
fn serve_every_way(config: &ServerConfig, bytes: &[u8]) -> Served {
    let whole = serve(config, &[bytes]);
    let same = |other: Served, how: &str| assert_eq!(format!("{other:?}"), format!("{whole:?}"), "{how}");
    same(serve(config, &bytes.chunks(1).collect::<Vec<_>>()), "byte by byte");
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        same(serve(config, &[first, second]), &format!("cut at {cut}"));
    }
    whole
}

#[track_caller]
fn assert_accepted(config: &ServerConfig, head: &Head) {
    let served = serve_every_way(config, &head.bytes());
    assert!(served.error.is_none(), "{:?} for {head:?}", served.error);
    assert_eq!(Parsed::new(&served.output).status(), 101);
}

/// The answer to a request with this fault.
#[track_caller]
fn assert_refused(config: &ServerConfig, head: &Head, error: HandshakeError) -> Parsed {
    let served = serve_every_way(config, &head.bytes());
    assert_eq!(format!("{:?}", served.error), format!("{:?}", Some(&error)), "{head:?}");
    let status = error.status().expect("a server answers this").as_u16();
    assert_refusal_is_whole(&served.output, status)
}

/// A refusal that a client of any kind can read to its end.
#[track_caller]
fn assert_refusal_is_whole(output: &[u8], status: u16) -> Parsed {
    let answer = Parsed::new(output);
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.only("Connection"), "close");
    assert_eq!(answer.only("Content-Length"), answer.rest.len().to_string());
    assert!(answer.only("Content-Type").starts_with("text/plain"));
    assert!(answer.rest.len() > 1 && answer.rest.is_ascii(), "it says why");
    answer
}
