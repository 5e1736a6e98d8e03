//! Servers: the rules of an [`Acceptor`] for one stream, then [`Server`] with all of them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;
use crate::rt::ws::{Acceptor, Handle, Io, Peer};

// Places

#[test]
fn ws6_7_connections_above_the_limit_are_answered_with_503() {
    test(async {
        for max in [0, 1, 3] {
            let seen = Failures::default();
            let acceptor: Arc<_> = seen.watch(Acceptor::new(limited(max))).into();
            let mut open = Vec::new();
            for i in 0..max {
                assert_eq!(acceptor.clients().len(), i);
                open.push(upgraded(&acceptor).await);
            }
            let (mut link, accepting) = begin(&acceptor);
            let answer = read_response(&mut link).await;
            assert_eq!(answer.status, 503);
            drop(link);
            assert_matches!(handshake_error(accepting.await), HandshakeError::Unavailable);
            assert_eq!(acceptor.clients().len(), max);
            assert_eq!(seen.take(), ["Unavailable"]);
        }
    });
}

#[test]
fn place_is_given_back_when_the_websocket_is_dropped() {
    test(async {
        let acceptor: Arc<_> = Acceptor::new(limited(1)).into();
        for end in 0..4 {
            let (mut ws, mut link) = upgraded(&acceptor).await;
            match end {
                0 => drop(ws),
                1 => ws.terminate(),
                2 => drop(ws.into_inner()),
                _ => {
                    rt::write_all(&mut link, &close(1000, "").encode(true)).await.unwrap();
                    drop(link);
                    assert_eq!(ws.recv().await.unwrap(), None);
                    // It has ended, but is held.
                    assert_eq!(acceptor.clients().len(), 1);
                    drop(ws);
                }
            }
            assert_eq!(acceptor.clients().len(), 0);
        }
        upgraded(&acceptor).await;
    });
}

#[test]
fn place_is_given_back_when_a_handshake_fails() {
    test(async {
        let acceptor: Arc<_> = Acceptor::new(limited(1)).into();
        // The client leaves, is refused, and the accepting future is dropped.
        let (link, accepting) = begin(&acceptor);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Eof);

        let (mut link, accepting) = begin(&acceptor);
        rt::write_all(&mut link, PLAIN.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut link).await.status, 426);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);

        let (_link, stream) = rt::duplex(1024);
        let accepting = acceptor.accept::<Io<Link>>(stream, Peer::default());
        assert!(now_or_never(accepting).await.is_none());

        // Each time there was no more than one place.
        upgraded(&acceptor).await;
    });
}

#[test]
fn handshake_under_way_takes_a_place() {
    test(async {
        let acceptor: Arc<_> = Acceptor::new(limited(1)).into();
        let (mut slow, accepting) = begin(&acceptor);
        settle().await;
        let (mut link, refused) = begin(&acceptor);
        assert_eq!(read_response(&mut link).await.status, 503);
        drop(link);
        assert_matches!(handshake_error(refused.await), HandshakeError::Unavailable);
        rt::write_all(&mut slow, UPGRADE.as_bytes()).await.unwrap();
        assert!(read_head(&mut slow).await.starts_with("HTTP/1.1 101 "));
        accepting.await.unwrap();
    });
}

#[test]
fn refused_clients_that_linger_take_no_place() {
    test(async {
        let acceptor: Arc<_> = Acceptor::new(limited(1)).into();
        let (ws, link) = upgraded(&acceptor).await;
        let mut lingering = Vec::new();
        for _ in 0..64 {
            lingering.push(begin(&acceptor));
        }
        settle().await;
        drop((ws, link));
        let (ws, link) = upgraded(&acceptor).await;
        // And with the place taken there is still none to be refused from.
        let (mut silent, dropped) = begin(&acceptor);
        assert_eq!(read_to_end(&mut silent).await.unwrap(), b"");
        assert_matches!(handshake_error(dropped.await), HandshakeError::Unavailable);
        drop((ws, link));
    });
}

#[test]
fn sixty_four_at_a_time_are_refused_and_more_dropped_without_a_word() {
    test(async {
        let seen = Failures::default();
        let acceptor: Arc<_> = seen.watch(Acceptor::new(limited(1))).into();
        let _open = upgraded(&acceptor).await;
        let mut refused = Vec::new();
        for _ in 0..64 {
            refused.push(begin(&acceptor));
        }
        settle().await;
        let (mut link, accepting) = begin(&acceptor);
        assert_eq!(read_to_end(&mut link).await.unwrap(), b"");
        assert_matches!(handshake_error(accepting.await), HandshakeError::Unavailable);
        assert_eq!(seen.take().len(), 65);
        for (mut link, accepting) in refused {
            assert_eq!(read_response(&mut link).await.status, 503);
            drop(link);
            assert_matches!(handshake_error(accepting.await), HandshakeError::Unavailable);
        }
        let (mut link, _accepting) = begin(&acceptor);
        assert_eq!(read_response(&mut link).await.status, 503);
    });
}

// Verification

#[test]
fn ws6_7_verify_accepts_and_passes_on_what_it_looked_up() {
    #[derive(Clone, Debug, PartialEq)]
    struct User(String);

    over(&ALL, async |client, server| {
        let acceptor =
            Acceptor::new(ServerConfig::default()).verify(|mut request, mut acceptance| async move {
                rt::yield_now().await;
                assert!(request.extensions().get::<Peer>().is_some());
                let user = request.headers()["authorization"].to_str().unwrap().to_owned();
                request.extensions_mut().insert(User(user));
                acceptance.add_header("x-looked-up".parse().unwrap(), "yes".parse().unwrap()).unwrap();
                Ok((request, acceptance))
            });
        let accepting = rt::spawn(async move {
            let peer = Peer::new(Some("10.0.0.1:1234".parse().unwrap()), true);
            acceptor.accept::<Io<Link>>(server, peer).await
        });
        let mut request = client_request("ws://localhost/chat").unwrap();
        request.headers_mut().insert("authorization", HeaderValue::from_static("Simon"));
        let (mut ws, response) = rt::ws::client(client, &request, &ClientConfig::default()).await.unwrap();
        assert_eq!(response.headers()["x-looked-up"], "yes");
        let (mut served, request) = accepting.await.unwrap();
        assert_eq!(request.extensions().get(), Some(&User("Simon".into())));
        let peer = request.extensions().get::<Peer>().unwrap();
        assert_eq!((peer.address.unwrap().port(), peer.is_secure), (1234, true));
        let echo = rt::spawn(async move { echo(&mut served).await });
        converse_and_close(&mut ws, &short_messages()).await;
        echo.await.unwrap();
    });
}

#[test]
fn ws6_7_verify_refuses_with_status_headers_and_body() {
    over(&ALL, async |mut client, server| {
        let seen = Failures::default();
        let acceptor = Acceptor::new(ServerConfig::default()).verify(|_request, _acceptance| async {
            let response = Response::builder().status(401).header("www-authenticate", "Basic");
            Err(response.body(Bytes::from("who are you?\n")).unwrap())
        });
        let acceptor = seen.watch(acceptor);
        let accepting = rt::spawn(async move { acceptor.accept::<Io<Link>>(server, Peer::default()).await });
        rt::write_all(&mut client, UPGRADE.as_bytes()).await.unwrap();
        let answer = read_response(&mut client).await;
        assert_eq!((answer.status, &*answer.body), (401, "who are you?\n"));
        assert_eq!(answer.field("www-authenticate"), Some("Basic"));
        drop(client);
        let error = handshake_error(accepting.await);
        assert_matches!(error, HandshakeError::Refused(StatusCode::UNAUTHORIZED));
        assert_eq!(seen.take(), ["Refused(401) /chat"]);
    });
}

#[test]
fn ws6_7_verify_that_refuses_with_a_success_is_no_switch_of_protocols() {
    test(async {
        for (status, answered) in [(101, 500), (200, 200), (503, 503)] {
            let acceptor = Acceptor::new(ServerConfig::default()).verify(move |_, _| async move {
                Err(Response::builder().status(status).body(Bytes::new()).unwrap())
            });
            let acceptor = Arc::new(acceptor);
            let (mut link, _accepting) = begin(&acceptor);
            rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
            assert_eq!(read_response(&mut link).await.status, answered);
        }
    });
}

#[test]
fn verify_is_asked_only_about_requests_that_keep_the_rules() {
    test(async {
        for (request, config, status) in refused_requests() {
            let acceptor = Acceptor::new(config).verify(|_, _| async { panic!("asked") });
            let acceptor = Arc::new(acceptor);
            let (mut link, _accepting) = begin(&acceptor);
            let _ = rt::write_all(&mut link, &request).await;
            assert_eq!(read_response(&mut link).await.status, status);
        }
    });
}

#[test]
fn verify_that_hangs_is_dropped_after_the_timeout_and_answered_with_503() {
    timed(async {
        let seen = Failures::default();
        let dropped = Arc::new(AtomicBool::new(false));
        let acceptor = hanging(ServerConfig { head: head_limits(), ..server_config() }, &dropped);
        let acceptor: Arc<_> = seen.watch(acceptor).into();
        let start = rt::now();
        let (mut link, accepting) = begin(&acceptor);
        rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut link).await.status, 503);
        assert_elapsed(start, 10);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Unavailable);
        assert!(dropped.load(Ordering::Relaxed));
        assert_eq!(seen.take(), ["Unavailable /chat"]);
    });
}

#[test]
fn verify_may_take_for_ever_where_no_timeout_is_set() {
    timed(async {
        for timeout in [None, Some(Duration::MAX)] {
            let head = HeadLimits { timeout, ..head_limits() };
            let acceptor = Acceptor::new(ServerConfig { head, ..server_config() });
            let acceptor = acceptor.verify(|request, acceptance| async {
                rt::sleep(100 * SECOND).await;
                Ok((request, acceptance))
            });
            let acceptor = Arc::new(acceptor);
            let (mut link, accepting) = begin(&acceptor);
            rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
            assert!(read_head(&mut link).await.starts_with("HTTP/1.1 101 "));
            accepting.await.unwrap();
        }
    });
}

#[test]
fn ws6_7_no_connection_for_a_client_that_left_while_it_was_verified() {
    test(async {
        for half_closed in [true, false] {
            let seen = Failures::default();
            let dropped = Arc::new(AtomicBool::new(false));
            let acceptor: Arc<_> = seen.watch(hanging(ServerConfig::default(), &dropped)).into();
            let (mut link, accepting) = begin(&acceptor);
            rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
            settle().await;
            assert!(!dropped.load(Ordering::Relaxed));
            if half_closed {
                rt::shutdown(&mut link).await.unwrap();
                assert_eq!(read_to_end(&mut link).await.unwrap(), b"");
            } else {
                drop(link);
            }
            assert_matches!(handshake_error(accepting.await), HandshakeError::Eof);
            assert!(dropped.load(Ordering::Relaxed));
            assert_eq!(seen.take(), ["Eof /chat"]);
        }
    });
}

#[test]
fn ws6_7_frames_glued_to_a_request_that_is_verified_are_delivered() {
    test(async {
        let acceptor = Acceptor::new(ServerConfig::default()).verify(|request, acceptance| async {
            rt::yield_now().await;
            Ok((request, acceptance))
        });
        let acceptor = Arc::new(acceptor);
        let (mut link, accepting) = begin(&acceptor);
        let mut bytes = UPGRADE.as_bytes().to_vec();
        bytes.extend(text("glued").encode(true));
        rt::write_all(&mut link, &bytes).await.unwrap();
        settle().await;
        rt::write_all(&mut link, &text("after").encode(true)).await.unwrap();
        let (mut ws, _) = accepting.await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("glued".into()));
        assert_eq!(ws.recv().await.unwrap(), Some("after".into()));
    });
}

#[test]
fn flood_of_frames_while_verifying_is_not_read_past_the_limit() {
    test(async {
        const COUNT: usize = 10_000;
        let sent = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&sent);
        let acceptor = Acceptor::new(ServerConfig::default()).verify(move |request, acceptance| {
            let taken = Arc::clone(&taken);
            async move {
                settle().await;
                // What the limit of a head and the pipe hold, and one read more.
                let len = taken.load(Ordering::Relaxed) * text("early").encode(true).len();
                assert!(len <= (16 + 1 + 1) * 1024, "took {len} bytes before the answer");
                Ok((request, acceptance))
            }
        });
        let acceptor = Arc::new(acceptor);
        let (link, stream) = rt::duplex(1024);
        let accepting = accept_on(&acceptor, stream);
        let mut raw = Raw { link, masked: true, unread: Vec::new() };
        rt::write_all(&mut raw.link, UPGRADE.as_bytes()).await.unwrap();
        let sending = rt::spawn(async move {
            for _ in 0..COUNT {
                raw.send(&[text("early")]).await;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            raw
        });
        let (mut ws, _) = accepting.await.unwrap();
        for _ in 0..COUNT {
            assert_eq!(ws.recv().await.unwrap(), Some("early".into()));
        }
        sending.await;
    });
}

// Subprotocols

#[test]
fn ws6_7_function_chooses_the_subprotocol() {
    type Choose = fn(&Request<()>, &[String]) -> Option<String>;
    let cases: [(&str, Choose, Option<&str>); 6] = [
        ("a, b, c", |_, offered| offered.last().cloned(), Some("c")),
        ("a, b, c", |_, _| None, None),
        ("a, b, c", |_, _| Some("d".into()), None),
        ("a, b, c", |request, _| Some(request.uri().path()[1..].to_owned()), None),
        ("a, chat", |request, _| Some(request.uri().path()[1..].to_owned()), Some("chat")),
        ("", |_, offered| offered.is_empty().then(|| "a".into()), None),
    ];
    test(async move {
        for (offer, choose, chosen) in cases {
            // In place of the list.
            let config = ServerConfig { subprotocols: vec!["b".into()], ..ServerConfig::default() };
            let acceptor = Arc::new(Acceptor::new(config).choose_subprotocol(choose));
            let (mut link, accepting) = begin(&acceptor);
            let mut request = UPGRADE.to_owned();
            if !offer.is_empty() {
                request =
                    request.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {offer}\r\n\r\n"));
            }
            rt::write_all(&mut link, request.as_bytes()).await.unwrap();
            let head = read_head(&mut link).await;
            assert_eq!(field(&head, "sec-websocket-protocol"), chosen);
            let (ws, _) = accepting.await.unwrap();
            assert_eq!(ws.subprotocol(), chosen);
        }
    });
}

// Header fields of the answer

#[test]
fn headers_of_the_configuration_are_in_the_answer_but_for_reserved_ones() {
    test(async {
        let mut config = ServerConfig::default();
        for (name, value) in [
            ("x-one", "1"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("sec-websocket-accept", "x"),
            ("sec-websocket-protocol", "x"),
            ("sec-websocket-extensions", "x"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            config.headers.append(name, HeaderValue::from_static(value));
        }
        let acceptor = Arc::new(Acceptor::new(config));
        let (mut link, _accepting) = begin(&acceptor);
        rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
        let head = read_head(&mut link).await;
        let mut fields: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "Connection: Upgrade",
                "Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                "Set-Cookie: a=b",
                "Set-Cookie: c=d",
                "Upgrade: websocket",
                "X-One: 1",
            ]
        );
    });
}

// Ordinary requests

#[test]
fn ws6_7_ordinary_requests_are_refused_with_426() {
    test(async {
        let seen = Failures::default();
        let acceptor: Arc<_> = seen.watch(Acceptor::new(ServerConfig::default())).into();
        let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        for (request, status) in [(PLAIN, 426), (body, 405)] {
            let (mut link, accepting) = begin(&acceptor);
            rt::write_all(&mut link, request.as_bytes()).await.unwrap();
            assert_eq!(read_response(&mut link).await.status, status);
            drop(link);
            handshake_error(accepting.await);
        }
        assert_eq!(seen.take(), ["NotUpgrade /", "Method /"]);
    });
}

#[test]
fn fallback_answers_ordinary_requests_of_any_method() {
    over(&ALL, async |client, server| {
        let mut links = Some((client, server));
        for method in ["GET", "POST", "HEAD", "DELETE", "OPTIONS"] {
            let (mut client, server) = links.take().unwrap_or_else(|| rt::duplex(100));
            let acceptor =
                Acceptor::new(ServerConfig { path: Some("/chat".into()), ..ServerConfig::default() })
                    .fallback(|request| async move {
                        rt::yield_now().await;
                        assert!(request.extensions().get::<Peer>().is_some());
                        let body = format!("{} {}", request.method(), request.uri());
                        Response::builder().header("x-page", "1").body(Bytes::from(body)).unwrap()
                    });
            let acceptor = Arc::new(acceptor);
            let accepting = accept_on(&acceptor, server);
            // Whatever the path, and with a body that nobody reads.
            let request = format!("{method} /page HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            let _ = rt::write_all(&mut client, request.as_bytes()).await;
            let bytes = read_to_end(&mut client).await.unwrap();
            let (head, body) = head_of(bytes);
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let page = format!("{method} /page");
            assert_eq!(field(&head, "content-length"), Some(&*page.len().to_string()));
            assert_eq!(field(&head, "connection"), Some("close"));
            assert_eq!(field(&head, "x-page"), Some("1"));
            assert_eq!(String::from_utf8(body).unwrap(), if method == "HEAD" { "" } else { &*page });
            drop(client);
            assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
        }
    });
}

#[test]
fn fallback_leaves_websockets_and_broken_requests_alone() {
    test(async {
        let acceptor = Acceptor::new(ServerConfig::default()).fallback(|_| async { panic!("asked") });
        let acceptor = Arc::new(acceptor);
        upgraded(&acceptor).await;
        for request in [&UPGRADE.replace("13", "12"), "\0garbage\r\n\r\n"] {
            let (mut link, _accepting) = begin(&acceptor);
            rt::write_all(&mut link, request.as_bytes()).await.unwrap();
            assert!(read_response(&mut link).await.status >= 400);
        }
    });
}

#[test]
fn fallback_that_hangs_is_dropped_after_the_timeout() {
    timed(async {
        let acceptor = Acceptor::new(ServerConfig { head: head_limits(), ..server_config() })
            .fallback(|_| std::future::pending());
        let acceptor = Arc::new(acceptor);
        let start = rt::now();
        let (mut link, _accepting) = begin(&acceptor);
        rt::write_all(&mut link, PLAIN.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut link).await.status, 503);
        assert_elapsed(start, 10);
    });
}

// Failures

#[test]
fn ws6_7_failures_are_seen_with_their_request() {
    over(&WIDE, async |client, server| {
        let mut links = Some((client, server));
        for (request, config, status) in refused_requests() {
            let (mut client, server) = links.take().unwrap_or_else(|| rt::duplex(1024));
            let seen = Failures::default();
            let acceptor: Arc<_> = seen.watch(Acceptor::new(config)).into();
            let accepting = accept_on(&acceptor, server);
            let _ = rt::write_all(&mut client, &request).await;
            assert_eq!(read_response(&mut client).await.status, status);
            drop(client);
            let error = handshake_error(accepting.await);
            let [failure] = &seen.take()[..] else { panic!("one failure for {error:?}") };
            let name = format!("{error:?}");
            let name = name.split(['(', ' ']).next().unwrap();
            assert!(failure.starts_with(name), "{failure}");
            // What is no HTTP has no request.
            let is_http = !matches!(
                error,
                HandshakeError::Malformed(_)
                    | HandshakeError::HeadTooLong
                    | HandshakeError::TargetTooLong
                    | HandshakeError::TooManyFields
            );
            assert_eq!(failure.contains(" /"), is_http, "{failure}");
        }
    });
}

#[test]
fn ws6_7_response_to_a_failure_can_be_replaced() {
    test(async {
        let acceptor = Acceptor::new(ServerConfig::default()).on_failure(|failure| {
            let path = failure.request?.uri().path();
            Some(Response::builder().status(418).body(Bytes::from(path.to_owned())).unwrap())
        });
        let acceptor: Arc<_> = acceptor
            .verify(|_, _| async { Err(Response::builder().status(401).body(Bytes::new()).unwrap()) })
            .into();
        for request in [UPGRADE, &UPGRADE.replace("13", "12"), &UPGRADE.replace("GET", "POST")] {
            let (mut link, accepting) = begin(&acceptor);
            rt::write_all(&mut link, request.as_bytes()).await.unwrap();
            let answer = read_response(&mut link).await;
            assert_eq!((answer.status, &*answer.body), (418, "/chat"));
            drop(link);
            // The error says what was wrong.
            let error = handshake_error(accepting.await);
            assert!(!matches!(error, HandshakeError::Refused(StatusCode::IM_A_TEAPOT)), "{error:?}");
        }
    });
}

#[test]
fn failures_of_the_client_to_wait_are_seen() {
    timed(async {
        let seen = Failures::default();
        let config = ServerConfig { head: head_limits(), ..server_config() };
        let acceptor: Arc<_> = seen.watch(Acceptor::new(config)).into();
        let (link, accepting) = begin(&acceptor);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Eof);
        assert_eq!(seen.take(), ["Eof"]);

        let (mut link, accepting) = begin(&acceptor);
        assert_eq!(read_response(&mut link).await.status, 408);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Timeout);
        assert_eq!(seen.take(), ["Timeout"]);

        // It takes no answer.
        let (mut link, stream) = rt::duplex(1);
        let accepting = accept_on(&acceptor, stream);
        rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
        assert_matches!(accepting.await, Err(Error::Timeout(Timer::Write)));
        assert_eq!(seen.take(), ["Timeout(Write)"]);
    });
}

// Servers

#[test]
fn ws6_7_server_serves_an_address_and_a_listener_that_exists() {
    test(async {
        for exists in [false, true] {
            let server = match exists {
                true => Server::new(rt::tcp_listener().await, ServerConfig::default()),
                false => Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap(),
            };
            let (url, handle, served) = serve_echo(server);
            let (mut ws, _) = connect(&url).await.unwrap();
            converse_and_close(&mut ws, &short_messages()).await;
            handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
            assert_eq!(served.await, 0);
        }
    });
}

#[test]
fn ws6_7_bind_to_what_cannot_be_is_an_error() {
    test(async {
        let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let error = Server::bind(address, ServerConfig::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(Server::bind("no address", ServerConfig::default()).await.is_err());
    });
}

#[test]
fn ws6_7_server_serves_a_unix_socket() {
    test(async {
        let (listener, path) = rt::unix_listener();
        let server = Server::new(listener, ServerConfig::default());
        assert!(server.local_addr().is_err());
        let handle = server.handle();
        let served = rt::spawn(server.serve(|mut ws, request: Request<()>| async move {
            let peer = request.extensions().get::<Peer>().unwrap();
            assert_eq!((peer.address, peer.is_secure), (None, false));
            let _ = echo(&mut ws).await;
        }));
        let link = rt::connect_unix(&path).await;
        let request = client_request("ws://localhost/").unwrap();
        let (mut ws, _) = client(link, &request, &ClientConfig::default()).await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
        handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
        assert_eq!(served.await, 0);
    });
}

#[test]
fn ws6_7_limits_and_timeouts_reach_the_connections() {
    timed(async {
        let connection = Config { max_message: 10, close_timeout: Some(7 * SECOND), ..config() };
        let acceptor = Arc::new(Acceptor::new(ServerConfig { connection, ..ServerConfig::default() }));
        let (mut ws, link) = upgraded(&acceptor).await;
        let mut raw = Raw { link, masked: true, unread: Vec::new() };
        raw.send(&[text("0123456789"), text("0123456789a")]).await;
        let start = rt::now();
        assert_eq!(ws.recv().await.unwrap(), Some("0123456789".into()));
        assert_matches!(ws.recv().await, Err(Error::Protocol(ProtocolError::MessageTooLong { limit: 10 })));
        assert_elapsed(start, 7);
        assert_eq!(raw.frame().await.unwrap().payload[..2], 1009_u16.to_be_bytes());
    });
}

#[test]
fn ws6_7_handshakes_of_old_drafts_are_refused_with_400() {
    test(async {
        let acceptor = Arc::new(Acceptor::new(ServerConfig::default()));
        let (mut link, accepting) = begin(&acceptor);
        let hixie_76 = "GET /demo HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\nUpgrade: WebSocket\r\n\
            Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nOrigin: http://example.com\r\n\r\n^n:ds[4U";
        rt::write_all(&mut link, hixie_76.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut link).await.status, 400);
        drop(link);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Key);
    });
}

#[test]
fn ws6_7_paths_are_matched_without_the_query() {
    test(async {
        let config = ServerConfig { path: Some("/chat".into()), ..ServerConfig::default() };
        let server = Server::bind("127.0.0.1:0", config).await.unwrap();
        let (url, _handle, _served) = serve_echo(server);
        for (target, is_served) in [("chat", true), ("chat?a=b", true), ("chat/", false), ("", false)] {
            let result = connect(&format!("{url}{target}")).await;
            if is_served {
                result.unwrap();
            } else {
                assert_matches!(handshake_error(result), HandshakeError::Status(answer) if answer.status() == 404);
            }
        }
    });
}

#[test]
fn accept_and_serve_go_on_after_bad_handshakes() {
    test(async {
        for accepts in [true, false] {
            let seen = Failures::default();
            let acceptor = seen.watch(Acceptor::new(ServerConfig::default()));
            let mut server = Server::bind("127.0.0.1:0", acceptor).await.unwrap();
            let address = server.local_addr().unwrap();
            let running = rt::spawn(async move {
                if accepts {
                    while let Some((mut ws, _request)) = server.accept().await {
                        let _ = echo(&mut ws).await;
                    }
                } else {
                    server.serve(|mut ws, _| async move { echo(&mut ws).await }).await;
                }
            });
            let mut links = Vec::new();
            for (request, _, _) in refused_requests().into_iter().take(2) {
                let mut link = rt::connect(address).await;
                let _ = rt::write_all(&mut link, &request).await;
                links.push(link);
            }
            drop(rt::connect(address).await);
            let mut garbage = rt::connect(address).await;
            rt::write_all(&mut garbage, &[0; 1000]).await.unwrap();
            assert_eq!(read_response(&mut garbage).await.status, 400);
            for _ in 0..3 {
                let (mut ws, _) = connect(&format!("ws://{address}/")).await.unwrap();
                converse_and_close(&mut ws, &short_messages()).await;
            }
            drop((links, garbage));
            drop(running);
        }
    });
}

#[test]
fn accept_may_be_dropped_at_any_poll() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let connecting = rt::spawn(async move {
            for i in 0..20 {
                let (mut ws, _) = connect(&format!("{url}{i}")).await.unwrap();
                assert_eq!(ws.recv().await.unwrap(), Some("hello".into()));
            }
        });
        for i in 0..20 {
            let (mut ws, request) = raced!(server.accept()).unwrap();
            assert_eq!(request.uri().path(), format!("/{i}"));
            ws.send("hello").await.unwrap();
        }
        connecting.await;
    });
}

#[test]
fn handshakes_go_on_while_accept_is_not_awaited() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let mut slow = rt::connect(address).await;
        // Takes the stream.
        while now_or_never(server.accept()).await.is_some() {}
        rt::yield_now().await;
        let _ = now_or_never(server.accept()).await;
        rt::write_all(&mut slow, UPGRADE.as_bytes()).await.unwrap();
        assert!(read_head(&mut slow).await.starts_with("HTTP/1.1 101 "));
        assert_eq!(server.handle().clients().len(), 1);
        // A message for it waits with it.
        assert_eq!(server.handle().clients().broadcast(&Prepared::new("news")).sent, 1);
        let (mut ws, request) = server.accept().await.unwrap();
        assert_eq!(request.uri().path(), "/chat");
        ws.flush().await.unwrap();
        let mut raw = Raw { link: slow, masked: true, unread: Vec::new() };
        assert_eq!(raw.frame().await, Some(text("news")));
    });
}

#[test]
fn ws6_7_clients_are_there_while_their_connections_are_held() {
    test(async {
        let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let (url, handle, _served) = serve_echo(server);
        let (mut one, _) = connect(&url).await.unwrap();
        let (mut two, _) = connect(&url).await.unwrap();
        converse(&mut one, &["ready".into()]).await;
        converse(&mut two, &["ready".into()]).await;
        assert_eq!(handle.clients().len(), 2);
        let reached = handle.clients().broadcast(&Prepared::new("to all"));
        assert_eq!(reached.sent, 2);
        assert_eq!(one.recv().await.unwrap(), Some("to all".into()));
        assert_eq!(two.recv().await.unwrap(), Some("to all".into()));
        // One closes, the other vanishes.
        one.close(CloseCode::NORMAL, "").await.unwrap();
        two.terminate();
        handle.clients().emptied().await;
    });
}

// The end

#[test]
fn ws6_7_shutdown_closes_all_with_its_code_and_waits_for_the_handlers() {
    test(async {
        for code in [1001, 1012, 4000] {
            let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
            let (url, handle, served) = serve_echo(server);
            let mut peers = Vec::new();
            for _ in 0..3 {
                let (mut ws, _) = connect(&url).await.unwrap();
                converse(&mut ws, &["ready".into()]).await;
                peers.push(ws);
            }
            handle.shutdown(CloseCode::new(code), "until soon", LIMIT).unwrap();
            for mut ws in peers {
                assert_eq!(ws.recv().await.unwrap(), None);
                assert_closed_any(&ws, code, "until soon");
            }
            assert_eq!(served.await, 0);
            assert!(handle.clients().is_empty());
            // Once more does no harm.
            handle.shutdown(CloseCode::NORMAL, "", LIMIT).unwrap();
            // Nobody listens any more.
            assert_matches!(connect(&url).await, Err(Error::Io(_)));
        }
    });
}

#[test]
fn shutdown_with_what_must_not_travel_changes_nothing() {
    test(async {
        let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let (url, handle, _served) = serve_echo(server);
        let refused = handle.shutdown(CloseCode::ABNORMAL, "", LIMIT);
        assert_eq!(refused, Err(SendError::CloseCode(1006)));
        let refused = handle.shutdown(CloseCode::NORMAL, &"x".repeat(124), LIMIT);
        assert_eq!(refused, Err(SendError::ControlTooLong { len: 124 }));
        let (mut ws, _) = connect(&url).await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
    });
}

#[test]
fn shutdown_ends_accept() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let handle = server.handle();
        let connecting = rt::spawn(async move { connect(&url).await });
        let (mut held, _) = server.accept().await.unwrap();
        let (mut peer, _) = connecting.await.unwrap();
        let accepting = rt::spawn(async move {
            let first = server.accept().await.is_none();
            (first, server.accept().await.is_none(), server.local_addr())
        });
        settle().await;
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::ZERO).unwrap();
        let (first, again, address) = accepting.await;
        assert!(first && again);
        assert_eq!(address.unwrap_err().kind(), io::ErrorKind::NotConnected);
        // The connection is left to its owner, who finds it closing.
        let owner = rt::spawn(async move { held.recv().await });
        assert_eq!(peer.recv().await.unwrap(), None);
        assert_closed_any(&peer, 1001, "");
        assert_eq!(owner.await.unwrap(), None);
    });
}

#[test]
fn ws6_7_closing_server_answers_503_to_handshakes_under_way() {
    test(async {
        let seen = Failures::default();
        let dropped = Arc::new(AtomicBool::new(false));
        let head = HeadLimits { timeout: None, ..HeadLimits::default() };
        let acceptor = seen.watch(hanging(ServerConfig { head, ..ServerConfig::default() }, &dropped));
        let server = Server::bind("127.0.0.1:0", acceptor).await.unwrap();
        let address = server.local_addr().unwrap();
        let (_url, handle, served) = serve_echo(server);
        // One has sent nothing, one a part of its request, and one is being verified.
        let mut links = Vec::new();
        for len in [0, 10, UPGRADE.len()] {
            let mut link = rt::connect(address).await;
            rt::write_all(&mut link, &UPGRADE.as_bytes()[..len]).await.unwrap();
            links.push(link);
        }
        settle().await;
        handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
        for mut link in links {
            assert_eq!(read_response(&mut link).await.status, 503);
        }
        assert!(dropped.load(Ordering::Relaxed));
        served.await;
        let mut seen = seen.take();
        seen.sort_unstable();
        assert_eq!(seen, ["Unavailable", "Unavailable", "Unavailable /chat"]);
    });
}

#[test]
fn handlers_that_never_end_are_dropped_and_counted() {
    test(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (handle, served, peers) = stubborn_server(&dropped, 3).await;
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::ZERO).unwrap();
        assert_eq!(served.await, 3);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        assert!(handle.clients().is_empty());
        drop(peers);
    });
}

#[test]
fn second_shutdown_is_immediate() {
    test(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (handle, served, mut peers) = stubborn_server(&dropped, 3).await;
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        settle().await;
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        handle.shutdown(CloseCode::NORMAL, "", Duration::MAX).unwrap();
        assert_eq!(served.await, 3);
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        for peer in &mut peers {
            // Whether or not the Close frame left before.
            let _ = peer.recv().await;
            assert!(peer.closed().is_some());
        }
    });
}

#[test]
fn second_shutdown_terminates_what_accept_handed_out() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let handle = server.handle();
        let mut link = rt::connect(address).await;
        rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
        let (mut ws, _) = server.accept().await.unwrap();
        let owner = rt::spawn(async move { ws.recv().await });
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        settle().await;
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        assert_matches!(owner.await, Err(Error::Abnormal));
        assert!(server.accept().await.is_none());
    });
}

#[test]
fn shutdown_before_it_serves_ends_it_at_once() {
    test(async {
        let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let handle = server.handle();
        handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
        assert_eq!(server.serve(|_, _| async {}).await, 0);
    });
}

#[test]
fn dropped_serve_stops_to_listen_and_leaves_the_handlers() {
    test(async {
        let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let mut serving = Box::pin(server.serve(|mut ws, _| async move { echo(&mut ws).await }));
        let connected = match select(&mut serving, pin!(connect(&url))).await {
            Either::Right((connected, _)) => connected,
            Either::Left(_) => panic!("it was not shut down"),
        };
        let (mut ws, _) = connected.unwrap();
        drop(serving);
        assert_matches!(connect(&url).await, Err(Error::Io(_)));
        converse_and_close(&mut ws, &short_messages()).await;
    });
}

#[test]
fn panic_of_a_handler_gives_its_place_back() {
    test(async {
        let server = Server::bind("127.0.0.1:0", limited(1)).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let handle = server.handle();
        let served = rt::spawn(server.serve(|mut ws, _| async move {
            let _ = ws.recv().await;
            panic!("a bug of the application");
        }));
        for _ in 0..3 {
            let (mut ws, _) = connect(&url).await.unwrap();
            ws.send("boom").await.unwrap();
            assert_matches!(ws.recv().await, Err(_));
            handle.clients().emptied().await;
        }
        handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
        assert_eq!(served.await, 0);
    });
}

// Many threads

#[test]
fn limit_holds_whoever_comes_at_once() {
    bounded(|| {
        rt::block_on_threads(async {
            let server = Server::bind("127.0.0.1:0", limited(3)).await.unwrap();
            let url = format!("ws://{}/", server.local_addr().unwrap());
            let handle = server.handle();
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let most_seen = Arc::clone(&most);
            let served = rt::spawn(server.serve(move |mut ws, _| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _ = echo(&mut ws).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                }
            }));
            let clients: Vec<_> = (0..16)
                .map(|_| {
                    let url = url.clone();
                    rt::spawn(async move {
                        let mut served = 0;
                        for _ in 0..50 {
                            // One above the limit is refused, or dropped if there are too many of them.
                            let Ok((mut ws, _)) = connect(&url).await else { continue };
                            converse_and_close(&mut ws, &["hello".into()]).await;
                            served += 1;
                        }
                        served
                    })
                })
                .collect();
            let mut total = 0;
            for client in clients {
                total += client.await;
            }
            assert!(total > 0);
            assert!(most_seen.load(Ordering::SeqCst) <= 3);
            handle.clients().emptied().await;
            let (mut ws, _) = connect(&url).await.unwrap();
            converse_and_close(&mut ws, &["hello".into()]).await;
            handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
            assert_eq!(served.await, 0);
        });
    });
}

#[test]
fn shutdown_ends_whatever_happens_at_the_same_time() {
    bounded(|| {
        rt::block_on_threads(async {
            for round in 0..100 {
                let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
                let (url, handle, served) = serve_echo(server);
                let clients: Vec<_> = (0..8)
                    .map(|_| {
                        let url = url.clone();
                        rt::spawn(async move {
                            while let Ok((mut ws, _)) = connect(&url).await {
                                while ws.send("hello").await.is_ok() && matches!(ws.recv().await, Ok(Some(_)))
                                {
                                }
                            }
                        })
                    })
                    .collect();
                for _ in 0..round {
                    rt::yield_now().await;
                    let _ = handle.clients().broadcast(&Prepared::new("news"));
                }
                handle.shutdown(CloseCode::GOING_AWAY, "", Duration::MAX).unwrap();
                assert_eq!(served.await, 0);
                for client in clients {
                    client.await;
                }
                assert!(handle.clients().is_empty());
            }
        });
    });
}

// Helpers

/// An ordinary request.
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn limited(max: usize) -> ServerConfig {
    ServerConfig { max_connections: Some(max), ..ServerConfig::default() }
}

type Accepted = Result<(Ws, Request<()>), Error>;

/// Accepts on a pipe in memory in a task, and gives the client's end.
fn begin(acceptor: &Arc<Acceptor>) -> (Link, impl Future<Output = Accepted> + use<>) {
    let (link, stream) = rt::duplex(64 * 1024);
    (link, accept_on(acceptor, stream))
}

fn accept_on(acceptor: &Arc<Acceptor>, stream: Link) -> impl Future<Output = Accepted> + use<> {
    let acceptor = Arc::clone(acceptor);
    rt::spawn(async move { acceptor.accept::<Io<Link>>(stream, Peer::default()).await })
}

/// A connection after its handshake, and the client's end behind the answer.
async fn upgraded(acceptor: &Arc<Acceptor>) -> (Ws, Link) {
    let (mut link, accepting) = begin(acceptor);
    rt::write_all(&mut link, UPGRADE.as_bytes()).await.unwrap();
    assert!(read_head(&mut link).await.starts_with("HTTP/1.1 101 "));
    (accepting.await.unwrap().0, link)
}

/// With a verification that never ends, and tells when it is dropped.
fn hanging(config: ServerConfig, dropped: &Arc<AtomicBool>) -> Acceptor {
    let dropped = Arc::clone(dropped);
    Acceptor::new(config).verify(move |_, _| {
        let dropped = OnDrop(Some(Arc::clone(&dropped)));
        async move {
            let _dropped = dropped;
            std::future::pending().await
        }
    })
}

struct OnDrop(Option<Arc<AtomicBool>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(dropped) = self.0.take() {
            dropped.store(true, Ordering::Relaxed);
        }
    }
}

fn serve_echo(server: Server) -> (String, Handle, impl Future<Output = usize>) {
    let url = server.local_addr().map(|address| format!("ws://{address}/")).unwrap_or_default();
    let handle = server.handle();
    let served = rt::spawn(server.serve(|mut ws, _request| async move {
        let _ = echo(&mut ws).await;
    }));
    (url, handle, served)
}

/// A server with so many clients, whose handlers wait for nothing that ever comes.
async fn stubborn_server(
    dropped: &Arc<AtomicUsize>,
    count: usize,
) -> (Handle, impl Future<Output = usize> + use<>, Vec<WebSocket<impl rt::Stream + use<>>>) {
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    let handle = server.handle();
    let dropped = Arc::clone(dropped);
    let served = rt::spawn(server.serve(move |mut ws, _request| {
        let counted = Counted(Arc::clone(&dropped));
        async move {
            let _counted = counted;
            ws.send("ready").await.unwrap();
            std::future::pending::<()>().await;
        }
    }));
    let mut peers = Vec::new();
    for _ in 0..count {
        let (mut ws, _) = connect(&url).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("ready".into()));
        peers.push(ws);
    }
    (handle, served, peers)
}

/// What [`Acceptor::on_failure`] has seen: the error's name, and the path of the request if there was one.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Vec<String>>>);

impl Failures {
    fn watch(&self, acceptor: Acceptor) -> Acceptor {
        let failures = Arc::clone(&self.0);
        acceptor.on_failure(move |failure| {
            let mut seen = match failure.error {
                Error::Handshake(HandshakeError::Refused(status)) => format!("Refused({})", status.as_u16()),
                Error::Handshake(error) => format!("{error:?}"),
                Error::Io(error) => format!("Io({:?})", error.kind()),
                error => format!("{error:?}"),
            };
            if let Some(request) = failure.request {
                seen += &format!(" {}", request.uri().path());
            }
            failures.lock().unwrap().push(seen);
            None
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[track_caller]
fn assert_closed_any<S: rt::Stream>(ws: &WebSocket<S>, code: u16, reason: &str) {
    let closed = ws.closed().expect("it has ended");
    assert_eq!((closed.code.get(), &*closed.reason), (code, reason));
}
