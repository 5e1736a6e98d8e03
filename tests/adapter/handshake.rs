//! The opening handshake, both sides.

use super::*;

// The opening handshake, server

#[test]
fn s4_2_2_refusals_are_answered_with_their_status() {
    over(&[Memory(7), Memory(64 * 1024), Tcp], async |client, server| {
        let mut links = Some((client, server));
        for (request, config, status) in refused_requests() {
            let (mut client, server) = links.take().unwrap_or_else(|| rt::duplex(100));
            let accepting = rt::spawn(accept_with(server, config));
            let _ = rt::write_all(&mut client, &request).await;
            let response = read_response(&mut client).await;
            assert_eq!(response.status, status, "{:?}", String::from_utf8_lossy(&request));
            assert_eq!(response.field("connection"), Some("close"));
            assert!(!response.body.is_empty());
            if status == 426 {
                assert_eq!(response.field("upgrade"), Some("websocket"));
                assert_eq!(response.field("sec-websocket-version"), Some("13"));
            }
            drop(client);
            let error = handshake_error(accepting.await);
            assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{error:?}");
        }
    });
}

#[test]
fn s4_2_1_end_at_every_byte_of_the_request_is_no_request() {
    test(async {
        for half_closed in [true, false] {
            for len in 0..UPGRADE.len() {
                let (mut client, server) = rt::duplex(1024);
                rt::write_all(&mut client, &UPGRADE.as_bytes()[..len]).await.unwrap();
                if half_closed {
                    rt::shutdown(&mut client).await.unwrap();
                    assert_matches!(handshake_error(accept(server).await), HandshakeError::Eof);
                    assert_eq!(read_to_end(&mut client).await.unwrap(), b"");
                } else {
                    drop(client);
                    assert_matches!(handshake_error(accept(server).await), HandshakeError::Eof);
                }
            }
        }
    });
}

#[test]
fn s4_2_1_request_may_come_byte_by_byte_and_frames_behind_it() {
    over(&ALL, async |mut client, server| {
        let sending = rt::spawn(async move {
            let mut bytes = UPGRADE.as_bytes().to_vec();
            bytes.extend(text("early").encode(true));
            bytes.extend(close(1000, "").encode(true));
            rt::write_all(&mut client, &bytes).await.unwrap();
            let response = read_head(&mut client).await;
            assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
            assert!(response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{response}");
            Raw { link: client, masked: true, unread: vec![] }.rest().await
        });
        let (mut ws, request) = accept(server).await.unwrap();
        assert_eq!(request.uri().path(), "/chat");
        assert_eq!(ws.recv().await.unwrap(), Some("early".into()));
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(sending.await, [close(1000, "")]);
    });
}

#[test]
fn slow_request_is_answered_with_408() {
    timed(async {
        let (mut client, server) = rt::duplex(1024);
        let start = rt::now();
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { head: head_limits(), ..server_config() }));
        let mut bytes = UPGRADE.bytes();
        let response = loop {
            rt::write_all(&mut client, &[bytes.next().unwrap()]).await.unwrap();
            if let Either::Left((response, _)) =
                select(pin!(read_response(&mut client)), pin!(rt::sleep(SECOND))).await
            {
                break response;
            }
        };
        assert_elapsed(start, 10);
        assert_eq!(response.status, 408);
        drop(client);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Timeout);
    });
}

#[test]
fn silent_client_is_answered_with_408_and_left_behind_after_the_close_timeout() {
    timed(async {
        let (mut client, server) = rt::duplex(1024);
        let start = rt::now();
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { head: head_limits(), ..server_config() }));
        assert_eq!(read_response(&mut client).await.status, 408);
        assert_elapsed(start, 10);
        assert_matches!(handshake_error(accepting.await), HandshakeError::Timeout);
        assert_elapsed(start, 20);
    });
}

#[test]
fn no_reset_overtakes_a_refusal() {
    over(&WIDE, async |mut client, server| {
        let accepting = rt::spawn(accept(server));
        rt::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        for _ in 0..1024 {
            rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        }
        let response = read_response(&mut client).await;
        assert_eq!(response.status, 426);
        // It still reads.
        rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        drop(client);
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
    });
}

#[test]
fn refused_client_that_never_stops_sending_is_left() {
    over(&WIDE, async |mut client, server| {
        let close_timeout = Some(Duration::from_millis(100));
        let connection = Config { close_timeout, ..Config::default() };
        let accepting =
            rt::spawn(accept_with(server, ServerConfig { connection, ..ServerConfig::default() }));
        rt::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let flood = rt::spawn(async move { while rt::write_all(&mut client, &[0; 1024]).await.is_ok() {} });
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
        flood.await;
    });
}

#[test]
fn handshake_is_looked_at_adapted_and_accepted() {
    over(&ALL, async |client_link, server_link| {
        let accepting = rt::spawn(async move {
            let mut handshake = Handshake::new(server_link, ServerConfig::default());
            let request = handshake.request().await.unwrap();
            assert_eq!(request.uri(), "/chat?room=1");
            assert_eq!(request.headers()["x-token"], "secret");
            let mut acceptance = handshake.check().await.unwrap();
            assert_eq!(acceptance.offered(), ["a", "b"]);
            assert_eq!(acceptance.subprotocol(), None);
            assert_eq!(acceptance.set_subprotocol(Some("c")), Err(AcceptError::Subprotocol));
            acceptance.set_subprotocol(Some("b")).unwrap();
            let name = HeaderName::from_static("x-served-by");
            acceptance.add_header(name, HeaderValue::from_static("us")).unwrap();
            let (ws, request) = handshake.accept_with(acceptance).await.unwrap();
            assert_eq!(request.uri(), "/chat?room=1");
            ws
        });
        let mut request = client_request("ws://localhost/chat?room=1").unwrap();
        request.headers_mut().insert("x-token", HeaderValue::from_static("secret"));
        let config = ClientConfig { subprotocols: vec!["a".into(), "b".into()], ..ClientConfig::default() };
        let (client, response) = client(client_link, &request, &config).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["x-served-by"], "us");
        assert_eq!(client.subprotocol(), Some("b"));
        assert_eq!(accepting.await.subprotocol(), Some("b"));
    });
}

#[test]
fn s4_2_2_subprotocol_of_the_configuration_is_chosen() {
    over(&WIDE, async |client, server| {
        let config = ClientConfig { subprotocols: vec!["x".into(), "b".into()], ..ClientConfig::default() };
        let served = ServerConfig { subprotocols: vec!["a".into(), "b".into()], ..ServerConfig::default() };
        let (client, server) = open_with(client, server, config, served).await;
        assert_eq!(client.subprotocol(), Some("b"));
        assert_eq!(server.subprotocol(), Some("b"));
    });
}

#[test]
fn application_refuses_with_its_own_response() {
    over(&ALL, async |client_link, server_link| {
        let refusing = rt::spawn(async move {
            let mut handshake = Handshake::new(server_link, ServerConfig::default());
            handshake.request().await.unwrap();
            let mut response = Response::new(Bytes::from("who are you?\n"));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Basic"));
            handshake.refuse(response).await;
        });
        let request = client_request("ws://localhost/").unwrap();
        let refused = client(client_link, &request, &ClientConfig::default()).await;
        let HandshakeError::Status(response) = handshake_error(refused) else { panic!("a status") };
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Basic");
        assert_eq!(response.body(), "who are you?\n");
        refusing.await;
    });
}

#[test]
fn application_may_refuse_without_looking() {
    over(&ALL, async |mut client, server| {
        let response = Response::builder().status(503).body("full\n").unwrap();
        let refusing = rt::spawn(Handshake::new(server, ServerConfig::default()).refuse(response));
        rt::write_all(&mut client, UPGRADE.as_bytes()).await.unwrap();
        let response = read_response(&mut client).await;
        assert_eq!((response.status, &response.body[..]), (503, "full\n"));
        drop(client);
        refusing.await;
    });
}

#[test]
fn failed_check_has_refused_already() {
    over(&ALL, async |mut client, server| {
        let checking = rt::spawn(async move {
            let mut handshake = Handshake::new(server, ServerConfig::default());
            assert_eq!(handshake.request().await.unwrap().uri(), "/plain");
            (handshake_error(handshake.check().await), handshake_error(handshake.check().await))
        });
        rt::write_all(&mut client, b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(read_response(&mut client).await.status, 426);
        drop(client);
        let (error, again) = checking.await;
        assert_matches!(error, HandshakeError::NotUpgrade);
        assert_matches!(again, HandshakeError::NotUpgrade);
    });
}

#[test]
fn server_accepts_others_while_a_handshake_hangs() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let _slow = rt::connect(address).await;
        let serving = rt::spawn(async move {
            let (mut ws, _request) = server.accept().await.unwrap();
            echo(&mut ws).await
        });
        let (mut ws, _response) = connect(&format!("ws://{address}/")).await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
        serving.await.unwrap();
    });
}

// The opening handshake, client

#[test]
fn s4_1_connect_with_sends_the_fields_of_the_application() {
    test(async {
        let mut server = Server::bind("127.0.0.1:0", ServerConfig::default()).await.unwrap();
        let address = server.local_addr().unwrap();
        let accepting = rt::spawn(async move { server.accept().await });
        let mut request = client_request(&format!("ws://{address}/chat?room=1")).unwrap();
        request.headers_mut().insert("origin", HeaderValue::from_static("https://example.com"));
        let (_ws, response) = connect_with(request, ClientConfig::default()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let (_ws, request) = accepting.await.unwrap();
        assert_eq!(request.uri(), "/chat?room=1");
        assert_eq!(request.headers()["origin"], "https://example.com");
        assert_eq!(request.headers()["host"], address.to_string());
    });
}

#[test]
fn s4_1_frames_right_behind_the_answer_are_received() {
    over(&ALL, async |client_link, mut server| {
        let serving = rt::spawn(async move {
            let mut answer = answer_to(&read_head(&mut server).await).into_bytes();
            answer.extend(text("early").encode(false));
            rt::write_all(&mut server, &answer).await.unwrap();
            server
        });
        let request = client_request("ws://localhost/").unwrap();
        let (mut ws, _) = client(client_link, &request, &ClientConfig::default()).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some("early".into()));
        serving.await;
    });
}

#[test]
fn connect_to_a_port_where_nobody_listens_is_an_io_error() {
    test(async {
        let address = rt::Listener::bind().await.address();
        let refused = connect(&format!("ws://{address}/")).await;
        assert_matches!(refused, Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn s3_connect_to_what_is_no_url_of_a_websocket_fails() {
    test(async {
        let urls = ["", "localhost", "//localhost/", "ftp://localhost/", "ws://", "ws:///chat", "ws://:80/"];
        for url in urls.into_iter().chain([
            "ws://local host/",
            "ws://localhost/#top",
            "ws://localhost:x/",
            "ws://localhost:65536/",
        ]) {
            println!("{url}");
            assert_matches!(handshake_error(connect(url).await), HandshakeError::Url(_));
        }
    });
}

#[test]
fn connect_does_not_speak_plaintext_to_wss() {
    test(async {
        let listener = rt::Listener::bind().await;
        let url = format!("wss://{}/", listener.address());
        let first = async {
            let mut byte = [0];
            rt::read(&mut listener.accept().await, &mut byte).await.unwrap();
            byte[0]
        };
        match select(pin!(first), pin!(connect(&url))).await {
            Either::Left((first, _)) => assert_eq!(first, 22, "a handshake of TLS"),
            Either::Right((refused, _)) => {
                let error = handshake_error(refused);
                assert_matches!(error, HandshakeError::Tls(_));
                assert!(error.is_permanent());
            }
        }
    });
}

#[test]
fn s4_1_refusal_is_told_with_its_status_and_body() {
    test(async {
        let listener = rt::Listener::bind().await;
        let url = format!("ws://{}/", listener.address());
        let serving = rt::spawn(async move {
            let mut link = listener.accept().await;
            read_head(&mut link).await;
            let answer = b"HTTP/1.1 403 Forbidden\r\nX-Why: yes\r\nContent-Length: 9\r\n\r\nno entry\n";
            rt::write_all(&mut link, answer).await.unwrap();
            link
        });
        let HandshakeError::Status(response) = handshake_error(connect(&url).await) else {
            panic!("a status");
        };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.headers()["x-why"], "yes");
        assert_eq!(response.body(), "no entry\n");
        serving.await;
    });
}

#[test]
fn s4_1_wrong_answers_are_no_websocket() {
    over(&[Memory(7), Memory(64 * 1024), Tcp], async |client_link, server| {
        let mut links = Some((client_link, server));
        for (change, expected) in wrong_answers() {
            let (client_link, mut server) = links.take().unwrap_or_else(|| rt::duplex(100));
            let serving = rt::spawn(async move {
                let answer = change(answer_to(&read_head(&mut server).await));
                rt::write_all(&mut server, answer.as_bytes()).await.unwrap();
            });
            let request = client_request("ws://localhost/").unwrap();
            let error = client(client_link, &request, &ClientConfig::default()).await;
            assert_eq!(format!("{:?}", handshake_error(error)), expected);
            serving.await;
        }
    });
}

#[test]
fn server_that_never_answers_is_a_timeout() {
    timed(async {
        let (client_link, _server) = rt::duplex(1024);
        let config = ClientConfig { head: head_limits(), ..ClientConfig::default() };
        let start = rt::now();
        let silent = client(client_link, &client_request("ws://localhost/").unwrap(), &config).await;
        assert_matches!(handshake_error(silent), HandshakeError::Timeout);
        assert_elapsed(start, 10);
    });
}

#[test]
fn listener_that_never_accepts_is_a_timeout() {
    timed(async {
        let listener = rt::Listener::bind().await;
        let request = client_request(&format!("ws://{}/", listener.address())).unwrap();
        let config = ClientConfig { head: head_limits(), ..ClientConfig::default() };
        assert_matches!(handshake_error(connect_with(request, config).await), HandshakeError::Timeout);
    });
}
