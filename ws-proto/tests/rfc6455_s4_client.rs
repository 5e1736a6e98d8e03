//! RFC 6455 sections 3 and 4.1: the client's side of the opening handshake, with the rules of RFC 9110 and 9112.

mod pair;

use pair::{
    head::{Head, Parsed, accept, answer},
    *,
};
use ws_proto::{
    ClientConfig, Connection, HandshakeError, HeadLimits, Machine, OriginPolicy, ServerConfig, Timer,
    Version,
    handshake::{ClientHandshake, ServerHandshake, client_request},
    http::{HeaderValue, Method, Request, Response, StatusCode},
};

// The URL (section 3)

#[test]
fn s3_urls_that_name_a_websocket() {
    let cases = [
        ("ws://example.com/chat?room=1", "GET /chat?room=1 HTTP/1.1", "example.com"),
        ("ws://example.com", "GET / HTTP/1.1", "example.com"),
        ("ws://example.com/", "GET / HTTP/1.1", "example.com"),
        ("ws://example.com?x=1", "GET /?x=1 HTTP/1.1", "example.com"),
        ("ws://example.com:80/", "GET / HTTP/1.1", "example.com"),
        ("ws://example.com:443/", "GET / HTTP/1.1", "example.com:443"),
        ("wss://example.com:443/", "GET / HTTP/1.1", "example.com"),
        ("wss://example.com:80/", "GET / HTTP/1.1", "example.com:80"),
        ("wss://example.com/a%20b", "GET /a%20b HTTP/1.1", "example.com"),
        ("http://example.com/", "GET / HTTP/1.1", "example.com"),
        ("https://example.com/", "GET / HTTP/1.1", "example.com"),
        ("WS://EXAMPLE.com/", "GET / HTTP/1.1", "EXAMPLE.com"),
        // RFC 3986 section 3.2.3: a port may be empty.
        ("ws://example.com:/", "GET / HTTP/1.1", "example.com"),
        ("ws://[::1]:8080/x", "GET /x HTTP/1.1", "[::1]:8080"),
        ("ws://127.0.0.1:9000/", "GET / HTTP/1.1", "127.0.0.1:9000"),
    ];
    for (url, first, host) in cases {
        let sent = sent(&client_request(url).unwrap(), &ClientConfig::default());
        assert_eq!((&*sent.first, sent.only("Host")), (first, host), "{url}");
    }
    for (url, scheme) in [("http://a/", "ws"), ("https://a/", "wss"), ("ws://a/", "ws"), ("wss://a/", "wss")]
    {
        assert_eq!(client_request(url).unwrap().uri().scheme_str(), Some(scheme));
    }
}

#[test]
fn s3_urls_that_do_not() {
    for url in [
        "",
        "example.com",
        "example.com/chat",
        "/chat",
        "//example.com/",
        "ftp://example.com/",
        "ws:/example.com",
        "ws://",
        "ws:///chat",
        "ws://:80/",
        "ws://exa mple.com/",
        "ws://example.com/a b",
        "ws://example.com/\r\nX: y",
        "ws://example.com/#fragment",
        "ws://example.com/#",
        "ws://example.com:port/",
        "ws://example.com:99999/",
        "ws://example.com:-1/",
        "ws://example.com:+80/",
        "ws://[::1/",
    ] {
        assert!(matches!(client_request(url), Err(HandshakeError::Url(_))), "{url:?}");
    }
}

#[test]
fn s9112_3_request_is_ascii_whatever_the_url() {
    for url in ["ws://example.com/ä", "ws://example.com/?q=ä", "ws://example.com/\u{7f}", "ws://exämple.com/"]
    {
        if let Ok(request) = client_request(url) {
            let sent = write_all(&mut begin(&request, &ClientConfig::default()).unwrap());
            let plain = sent.iter().all(|&byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n'));
            assert!(plain, "{url}: {}", sent.escape_ascii());
        }
    }
}

// The request

#[test]
fn s4_1_request_has_every_field_once() {
    let sent = sent(&url(), &without_extensions());
    assert_eq!(sent.first, "GET /chat HTTP/1.1");
    assert_eq!(sent.only("Host"), "example.com");
    assert!(sent.only("Upgrade").eq_ignore_ascii_case("websocket"));
    assert!(sent.only("Connection").eq_ignore_ascii_case("upgrade"));
    assert_eq!(sent.only("Sec-WebSocket-Version"), "13");
    let key = sent.only("Sec-WebSocket-Key");
    assert!(key.len() == 24 && key.ends_with("=="), "16 bytes in base64: {key}");
    for absent in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Origin", "Content-Length"] {
        assert!(sent.all(absent).is_empty(), "{absent}");
    }
    assert_eq!(sent.rest, b"");
}

#[test]
fn s4_1_request_carries_the_applications_fields() {
    let mut request = url();
    let headers = request.headers_mut();
    headers.insert("Origin", HeaderValue::from_static("http://example.com"));
    headers.append("Cookie", HeaderValue::from_static("a=1"));
    headers.append("Cookie", HeaderValue::from_static("b=2"));
    headers.insert("Host", HeaderValue::from_static("virtual.example"));
    let sent = sent(&request, &ClientConfig::default());
    assert_eq!((sent.only("Origin"), sent.only("Host")), ("http://example.com", "virtual.example"));
    assert_eq!(sent.all("Cookie"), ["a=1", "b=2"]);
}

#[test]
fn s4_1_key_is_fresh_for_each_seed() {
    let key = |seed| {
        let mut handshake =
            ClientHandshake::new(&url(), &ClientConfig::default(), [seed; 32], start()).unwrap();
        Parsed::new(&write_all(&mut handshake)).only("Sec-WebSocket-Key").to_owned()
    };
    let mut all: Vec<String> = (0..=255).map(key).collect();
    assert_eq!(key(0), all[0], "equal seeds, equal keys");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 256);
}

#[test]
fn s4_1_request_refuses_fields_that_are_the_handshakes_own() {
    for name in [
        "Upgrade",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
    ] {
        let mut request = url();
        request.headers_mut().insert(name, HeaderValue::from_static("x"));
        let error = begin(&request, &ClientConfig::default()).unwrap_err();
        assert!(matches!(error, HandshakeError::ReservedField(field) if field == name), "{name}");
    }
}

#[test]
fn s4_1_request_is_a_get_for_a_host() {
    let mut post = url();
    *post.method_mut() = Method::POST;
    assert!(matches!(begin(&post, &ClientConfig::default()), Err(HandshakeError::Method)));
    let no_host = Request::get("/chat").body(()).unwrap();
    assert!(matches!(begin(&no_host, &ClientConfig::default()), Err(HandshakeError::Url(_))));
}

#[test]
fn s4_1_subprotocols_are_offered_in_order() {
    let sent = sent(&url(), &offering(&["b", "a", "c.v1"]));
    assert_eq!(sent.only("Sec-WebSocket-Protocol"), "b, a, c.v1");
}

#[test]
fn s4_1_subprotocols_are_distinct_tokens() {
    for offer in [&[""][..], &["a b"], &["a,b"], &["a", "b", "a"], &["käse"], &["a\r\nX: y"], &["a/b"]] {
        let error = begin(&url(), &offering(offer)).unwrap_err();
        assert!(matches!(error, HandshakeError::SubprotocolOffer(_)), "{offer:?}");
    }
}

#[test]
fn s4_4_version_8_names_the_origin_otherwise() {
    let config = ClientConfig { version: Version::V8, ..ClientConfig::default() };
    let mut request = url();
    request.headers_mut().insert("Origin", HeaderValue::from_static("http://example.com"));
    let sent = sent(&request, &config);
    assert_eq!(sent.only("Sec-WebSocket-Version"), "8");
    assert_eq!(sent.only("Sec-WebSocket-Origin"), "http://example.com");
    assert!(sent.all("Origin").is_empty());
}

// The answer that accepts

#[test]
fn s4_1_answer_may_spell_as_it_likes() {
    let answer = answer(&our_key());
    for head in [
        answer.clone(),
        answer.clone().set("Upgrade", "WebSocket"),
        answer.clone().set("Connection", "keep-alive, upgrade"),
        answer.clone().set("Connection", "keep-alive").add("Connection", "UPGRADE"),
        answer.clone().set("Sec-WebSocket-Accept", &format!(" \t{} \t", accept(&our_key()))),
        answer.add("Server", "x").add("Set-Cookie", "a=1").add("Set-Cookie", "b=2"),
        Head::new("HTTP/1.1", "101", "")
            .add("UPGRADE", "websocket")
            .add("connection", "Upgrade")
            .add("SEC-WEBSOCKET-ACCEPT", &accept(&our_key())),
    ] {
        let answered = answer_every_way(&ClientConfig::default(), &head.bytes());
        assert!(answered.error.is_none(), "{:?} for {head:?}", answered.error);
    }
}

#[test]
fn s4_1_answer_is_handed_to_the_application() {
    let mut handshake = begin(&url(), &ClientConfig::default()).unwrap();
    write_all(&mut handshake);
    let head = answer(&our_key()).add("Set-Cookie", "a=1");
    feed_machine(&mut handshake, &head.bytes(), start(), |handshake| _ = handshake.advance());
    assert!(handshake.advance() && !handshake.wants_read() && !handshake.is_ended());
    assert_eq!(handshake.poll_timeout(start()), None, "the deadline ends with the answer");
    let (connection, response) = handshake.into_connection(start());
    assert_eq!(
        (response.status().as_u16(), &response.headers()["set-cookie"]),
        (101, &"a=1".parse().unwrap())
    );
    assert_eq!((connection.role(), connection.subprotocol()), (ws_proto::Role::Client, None));
}

#[test]
fn s4_1_frames_behind_the_answer_are_delivered() {
    let frames = [text("hi"), ping("p"), binary(vec![1; 100])];
    let glued = [answer(&our_key()).bytes(), join(ws_proto::Role::Client, &frames)].concat();
    let answered = answer_every_way(&ClientConfig::default(), &glued);
    assert_eq!(answered.events, frames);
    assert_eq!(pair::frames(ws_proto::Role::Client, &answered.output), [pong("p")]);
}

#[test]
fn s9110_15_2_interim_responses_are_skipped() {
    let interim = [
        b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
    ]
    .concat();
    let accepted = [interim.clone(), answer(&our_key()).bytes()].concat();
    assert!(answer_every_way(&ClientConfig::default(), &accepted).error.is_none());
    let refused = [interim, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()].concat();
    assert_eq!(refusal(&ClientConfig::default(), &refused, false).status(), 403);
}

#[test]
fn s9110_15_2_interim_responses_are_bounded() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    let answered = answer_in(&ClientConfig::default(), &[&bytes], false);
    assert!(
        matches!(answered.error, Some(HandshakeError::HeadTooLong | HandshakeError::TargetTooLong)),
        "{:?}",
        answered.error
    );
}

#[test]
fn s4_1_subprotocol_is_one_of_the_offered() {
    let config = offering(&["a", "b"]);
    for (lines, chosen) in [(&["a"][..], Some("a")), (&["b"], Some("b")), (&[" b\t"], Some("b"))] {
        let head =
            lines.iter().fold(answer(&our_key()), |head, line| head.add("Sec-WebSocket-Protocol", line));
        let answered = answer_every_way(&config, &head.bytes());
        assert!(answered.error.is_none(), "{:?}", answered.error);
        assert_eq!(answered.subprotocol.as_deref(), chosen);
    }
}

// The answer that breaks a rule

#[test]
fn s4_1_each_fault_of_the_answer_has_its_error() {
    use HandshakeError as E;
    let config = ClientConfig::default();
    let ok = answer(&our_key());
    let accept = accept(&our_key());
    let foreign = head::accept("AAAAAAAAAAAAAAAAAAAAAA==");
    let cases = [
        (Head::new("HTTP/1.0", "101", "x").add("Upgrade", "websocket"), E::HttpVersion),
        (ok.clone().without("Upgrade"), E::UpgradeField),
        (ok.clone().set("Upgrade", "h2c"), E::UpgradeField),
        (ok.clone().set("Upgrade", "websockets"), E::UpgradeField),
        (ok.clone().without("Connection"), E::ConnectionField),
        (ok.clone().set("Connection", "close"), E::ConnectionField),
        (ok.clone().set("Connection", "upgraded"), E::ConnectionField),
        (ok.clone().without("Sec-WebSocket-Accept"), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", ""), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", &foreign), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", &our_key()), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", &accept.to_lowercase()), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", accept.trim_end_matches('=')), E::Accept),
        (ok.clone().set("Sec-WebSocket-Accept", &format!("{accept}, {accept}")), E::Accept),
        (ok.clone().add("Sec-WebSocket-Accept", &accept), E::Accept),
        (ok.clone().add("Sec-WebSocket-Accept", &foreign), E::Accept),
        (ok.clone().add("Sec-WebSocket-Extensions", "foo"), E::Extension("foo".into())),
        (ok.clone().add("Sec-WebSocket-Extensions", "foo; x=1"), E::Extension("foo".into())),
        (ok.clone().add("Sec-WebSocket-Extensions", "foo;"), E::ExtensionList),
        (ok.clone().add("Sec-WebSocket-Extensions", "foo; x=\"a b\""), E::ExtensionList),
        (ok.clone().add("Sec-WebSocket-Protocol", "a"), E::Subprotocol(Some("a".into()))),
        (ok.clone().add("Sec-WebSocket-Protocol", ""), E::Subprotocol(Some(String::new()))),
    ];
    for (head, error) in cases {
        assert_wrong(&config, &head, &error);
    }
    let config = offering(&["a", "b"]);
    let cases = [
        (ok.clone(), E::Subprotocol(None)),
        (ok.clone().add("Sec-WebSocket-Protocol", "c"), E::Subprotocol(Some("c".into()))),
        (ok.clone().add("Sec-WebSocket-Protocol", "A"), E::Subprotocol(Some("A".into()))),
        (ok.clone().add("Sec-WebSocket-Protocol", "a, b"), E::Subprotocol(Some("a, b".into()))),
        (
            ok.add("Sec-WebSocket-Protocol", "a").add("Sec-WebSocket-Protocol", "b"),
            E::Subprotocol(Some("a".into())),
        ),
    ];
    for (head, error) in cases {
        assert_wrong(&config, &head, &error);
    }
}

#[test]
fn s9112_what_is_no_http_is_malformed() {
    let line = |line: &[u8]| [b"HTTP/1.1 101 x\r\n", line, b"\r\n\r\n"].concat();
    let cases = [
        b"\x16\x03\x01\x02\x00".to_vec(), // TLS
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(),
        b"HTTP/1.1 10 x\r\n\r\n".to_vec(),
        b"HTTP/1.1 abc x\r\n\r\n".to_vec(),
        b"HTTP/1.1 101 x\nUpgrade: websocket\r\n\r\n".to_vec(),
        line(b"Upgrade : websocket"),
        line(b"X: a\r\n b"),
        line(b"X: a\rb"),
        line(b"X: a\0"),
        line(b"X"),
    ];
    for bytes in cases {
        let answered = answer_every_way(&ClientConfig::default(), &bytes);
        let error = answered.error.expect("this is refused");
        assert!(
            matches!(error, HandshakeError::Malformed(_) | HandshakeError::HttpVersion),
            "{error:?} for {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn s4_1_nothing_behind_a_wrong_answer_is_a_frame() {
    let frames = join(ws_proto::Role::Client, &[ping("p")]);
    let bytes = [answer("AAAAAAAAAAAAAAAAAAAAAA==").bytes(), frames].concat();
    let answered = answer_every_way(&ClientConfig::default(), &bytes);
    assert!(matches!(answered.error, Some(HandshakeError::Accept)));
    assert!(answered.events.is_empty() && answered.output.is_empty());
}

// The answer that refuses

#[test]
fn s9112_6_body_of_a_refusal_is_kept() {
    let config = ClientConfig::default();
    let cases: [(&[u8], &[u8]); 9] = [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Content-Length: 5\r\n\r\nhello, and more", b"hello"),
        (b"Content-Length: 0\r\n\r\nmore", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"Transfer-Encoding: Chunked\r\n\r\n0005\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        // RFC 9112 section 6.1: the coding goes before the length.
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
    ];
    for (rest, body) in cases {
        let bytes = [b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n", rest].concat();
        let response = refusal(&config, &bytes, false);
        assert_eq!((response.status(), &**response.body()), (StatusCode::UNAUTHORIZED, body));
        assert_eq!(response.headers()["www-authenticate"], "Basic");
    }
}

#[test]
fn s9112_6_3_body_without_a_length_ends_with_tcp() {
    for rest in [&b"\r\nuntil the end"[..], b"Content-Length: x\r\n\r\nuntil the end"] {
        let bytes = [b"HTTP/1.1 500 Oops\r\n", rest].concat();
        let pending = answer_in(&ClientConfig::default(), &[&bytes], false);
        assert!(pending.error.is_none(), "more may come");
        assert_eq!(&**refusal(&ClientConfig::default(), &bytes, true).body(), b"until the end");
    }
}

#[test]
fn s9112_8_body_that_is_cut_off_is_told_as_far_as_it_came() {
    for rest in [&b"Content-Length: 10\r\n\r\nhello"[..], b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello"] {
        let bytes = [b"HTTP/1.1 404 Not Found\r\n", rest].concat();
        assert_eq!(&**refusal(&ClientConfig::default(), &bytes, true).body(), b"hello");
    }
}

#[test]
fn s9112_6_3_some_statuses_have_no_body() {
    for status in ["204 No Content", "304 Not Modified"] {
        let bytes = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(&**refusal(&ClientConfig::default(), bytes.as_bytes(), false).body(), b"");
    }
}

#[test]
fn s4_1_body_is_cut_at_its_limit() {
    for framing in ["Content-Length: 11\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nb\r\n", "\r\n"] {
        let bytes = format!("HTTP/1.1 503 x\r\n{framing}hello world\r\n0\r\n\r\n");
        for (max_body, body) in [(0, ""), (1, "h"), (10, "hello worl")] {
            let config = ClientConfig { max_body, ..ClientConfig::default() };
            assert_eq!(refusal(&config, bytes.as_bytes(), false).body(), body, "{framing:?}");
        }
    }
}

#[test]
fn s9112_7_1_nonsense_in_chunks_ends_the_body() {
    for chunk in ["zz\r\nhello", "\r\n", "ffffffffffffffff\r\nx", "fffffffffffffffff\r\nx", "-1\r\nx"] {
        let bytes = format!("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n{chunk}");
        let answered = answer_in(&ClientConfig::default(), &[bytes.as_bytes()], true);
        let Some(HandshakeError::Status(response)) = answered.error else { panic!("{:?}", answered.error) };
        assert!(response.body().starts_with(b"ok"), "{chunk:?}");
    }
}

#[test]
fn s4_1_success_that_is_not_101_is_a_refusal() {
    for status in [200, 201, 301, 302, 400, 401, 403, 404, 426, 500, 503, 599] {
        let head = answer(&our_key()).target(&status.to_string()).add("Content-Length", "0");
        assert_eq!(refusal(&ClientConfig::default(), &head.bytes(), false).status(), status);
    }
}

#[test]
fn s4_1_body_that_does_not_end_is_told_at_the_deadline() {
    let mut handshake = begin(&url(), &ClientConfig::default()).unwrap();
    write_all(&mut handshake);
    let bytes = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\npart";
    feed_machine(&mut handshake, bytes, at(5), |handshake| assert!(!handshake.advance()));
    assert_eq!(deadline(&mut handshake, at(5)), Some((secs(10), Timer::Handshake)));
    handshake.handle_timeout(at(10));
    assert!(handshake.is_ended());
    let Some(HandshakeError::Status(response)) = handshake.error() else { panic!("{:?}", handshake.error()) };
    assert_eq!((response.status().as_u16(), &**response.body()), (403, &b"part"[..]));
}

// Time and the end of TCP

#[test]
fn s4_1_answer_that_drips_is_given_up_at_the_deadline() {
    let mut handshake = begin(&url(), &ClientConfig::default()).unwrap();
    write_all(&mut handshake);
    let bytes = answer(&our_key()).bytes();
    for (second, byte) in bytes.iter().take(10).enumerate() {
        assert_eq!(deadline(&mut handshake, at(second as u64)), Some((secs(10), Timer::Handshake)));
        feed_machine(&mut handshake, &[*byte], at(second as u64), |handshake| _ = handshake.advance());
        assert!(handshake.error().is_none());
    }
    handshake.handle_timeout(at_ms(9_999));
    assert!(handshake.error().is_none(), "early calls are harmless");
    handshake.handle_timeout(at(10));
    assert!(!handshake.advance() && handshake.is_ended() && handshake.wants_shutdown());
    assert!(matches!(handshake.error(), Some(HandshakeError::Timeout)));
    assert_eq!(handshake.poll_timeout(at(10)), None);
    let no_deadline = ClientConfig {
        head: HeadLimits { timeout: None, ..HeadLimits::default() },
        ..ClientConfig::default()
    };
    assert_eq!(begin(&url(), &no_deadline).unwrap().poll_timeout(start()), None);
}

#[test]
fn s4_1_eof_inside_the_head_is_the_end() {
    let bytes = answer(&our_key()).bytes();
    for cut in 0..bytes.len() {
        let answered = answer_in(&ClientConfig::default(), &[&bytes[..cut]], true);
        assert!(matches!(answered.error, Some(HandshakeError::Eof)), "at {cut}: {:?}", answered.error);
    }
}

#[test]
fn s4_1_eof_behind_the_answer_is_known_to_the_connection() {
    let mut handshake = begin(&url(), &ClientConfig::default()).unwrap();
    write_all(&mut handshake);
    let bytes = [answer(&our_key()).bytes(), join(ws_proto::Role::Client, &[text("last")])].concat();
    handshake.recv_space()[..bytes.len()].copy_from_slice(&bytes);
    handshake.handle_input(bytes.len(), start());
    handshake.handle_eof(start());
    assert!(handshake.advance(), "what came before the end counts");
    let (mut connection, _) = handshake.into_connection(start());
    assert_eq!(feed(&mut connection, b""), [text("last")]);
    assert!(!connection.wants_read(), "nothing more will come");
    assert!(connection.is_ended());
}

#[test]
fn s4_1_answer_is_read_after_a_write_error() {
    // A server may refuse before it read the whole request, and reset.
    let mut handshake = begin(&url(), &ClientConfig::default()).unwrap();
    handshake.handle_write_error(start());
    assert_eq!(write_all(&mut handshake), b"");
    let bytes = b"HTTP/1.1 431 x\r\nContent-Length: 0\r\n\r\n";
    feed_machine(&mut handshake, bytes, start(), |handshake| _ = handshake.advance());
    assert!(matches!(handshake.error(), Some(HandshakeError::Status(response)) if response.status() == 431));
}

// Both sides

#[test]
fn s4_a_client_and_a_server_agree() {
    let server_config = ServerConfig {
        subprotocols: vec!["b".into()],
        origins: OriginPolicy::Same,
        version_8: true,
        ..ServerConfig::default()
    };
    for version in [Version::V13, Version::V8] {
        let client_config =
            ClientConfig { subprotocols: vec!["a".into(), "b".into()], version, ..ClientConfig::default() };
        let mut request = client_request("ws://example.com:8080/chat").unwrap();
        request.headers_mut().insert("Origin", HeaderValue::from_static("http://example.com:8080"));
        let mut client = begin(&request, &client_config).unwrap();
        let mut server = ServerHandshake::new(server_config.clone().into(), start());
        let request = write_all(&mut client);
        feed_machine(&mut server, &request, start(), |server| _ = server.advance());
        let acceptance = server.check().unwrap();
        let (mut server, _) = server.accept(acceptance, start());
        server.sender().send_text("welcome").unwrap();
        let answer = write_all(&mut server);
        feed_machine(&mut client, &answer, start(), |client| _ = client.advance());
        let (mut client, _) = client.into_connection(start());
        assert_eq!(feed(&mut client, b""), [text("welcome")]);
        assert_eq!((client.subprotocol(), server.subprotocol()), (Some("b"), Some("b")));
        client.sender().send_text("thanks").unwrap();
        let bytes = write_all(&mut client);
        assert_eq!(feed(&mut server, &bytes), [text("thanks")]);
    }
}

// Helpers

fn url() -> Request<()> {
    client_request("ws://example.com/chat").unwrap()
}

/// Offers nothing, whatever features the library has.
fn without_extensions() -> ClientConfig {
    ClientConfig {
        #[cfg(feature = "deflate")]
        deflate: None,
        ..ClientConfig::default()
    }
}

fn begin(request: &Request<()>, config: &ClientConfig) -> Result<ClientHandshake, HandshakeError> {
    ClientHandshake::new(request, config, SEED, start())
}

fn offering(subprotocols: &[&str]) -> ClientConfig {
    ClientConfig {
        subprotocols: subprotocols.iter().map(|&name| name.to_owned()).collect(),
        ..ClientConfig::default()
    }
}

/// The request that leaves first.
fn sent(request: &Request<()>, config: &ClientConfig) -> Parsed {
    Parsed::new(&write_all(&mut begin(request, config).unwrap()))
}

/// The key that comes of [`SEED`].
fn our_key() -> String {
    sent(&url(), &ClientConfig::default()).only("Sec-WebSocket-Key").to_owned()
}

/// What came of an answer and what was behind it.
#[derive(Clone, Debug)]
struct Answered {
    error: Option<HandshakeError>,
    /// Behind the request.
    output: Vec<u8>,
    events: Vec<Frame>,
    subprotocol: Option<String>,
}

/// Drives a client over these reads, as an adapter would, with the end of TCP behind them or not.
fn answer_in(config: &ClientConfig, reads: &[&[u8]], eof: bool) -> Answered {
    let mut handshake = begin(&url(), config).unwrap();
    write_all(&mut handshake);
    let mut connection: Option<Connection> = None;
    let mut events = Vec::new();
    let mut output = Vec::new();
    for read in reads {
        let mut rest = *read;
        while connection.is_none() && !rest.is_empty() && !handshake.is_ended() {
            assert!(handshake.wants_read());
            let space = handshake.recv_space();
            let len = space.len().min(rest.len());
            space[..len].copy_from_slice(&rest[..len]);
            handshake.handle_input(len, start());
            rest = &rest[len..];
            if handshake.advance() {
                let accepted = std::mem::replace(&mut handshake, begin(&url(), config).unwrap());
                connection = Some(accepted.into_connection(start()).0);
            }
        }
        if let Some(connection) = &mut connection {
            events.extend(feed(connection, rest));
            output.extend(write_all(connection));
        }
    }
    if eof && connection.is_none() {
        handshake.handle_eof(start());
        assert!(!handshake.advance() && handshake.is_ended() && !handshake.wants_read());
        assert_eq!(handshake.poll_timeout(start()), None);
    }
    let subprotocol = connection.as_ref().and_then(|connection| connection.subprotocol().map(str::to_owned));
    Answered { error: handshake.error().cloned(), output, events, subprotocol }
}

/// Whole, byte by byte, and at every cut in two: always the same.
fn answer_every_way(config: &ClientConfig, bytes: &[u8]) -> Answered {
    same_every_way(config, bytes, false)
}

fn same_every_way(config: &ClientConfig, bytes: &[u8], eof: bool) -> Answered {
    let whole = answer_in(config, &[bytes], eof);
    let same = |other: Answered, how: &str| assert_eq!(format!("{other:?}"), format!("{whole:?}"), "{how}");
    same(answer_in(config, &bytes.chunks(1).collect::<Vec<_>>(), eof), "byte by byte");
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        same(answer_in(config, &[first, second], eof), &format!("cut at {cut}"));
    }
    whole
}

/// The response that refuses, however it is cut.
#[track_caller]
fn refusal(config: &ClientConfig, bytes: &[u8], eof: bool) -> Response<ws_proto::Bytes> {
    match same_every_way(config, bytes, eof).error {
        Some(HandshakeError::Status(response)) => *response,
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn assert_wrong(config: &ClientConfig, head: &Head, error: &HandshakeError) {
    let answered = answer_every_way(config, &head.bytes());
    assert_eq!(format!("{:?}", answered.error), format!("{:?}", Some(error)), "{head:?}");
}
