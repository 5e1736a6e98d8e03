//! Handshakes whose request was read by other means: by a server of one's own.

use std::future::pending;

use super::*;

#[test]
fn s4_2_2_request_read_elsewhere_is_accepted() {
    over(&ALL, async |client, server| {
        let accepting = rt::spawn(async move {
            let mut request = upgrade().map(|()| "a body of any type");
            request.extensions_mut().insert(7);
            let (mut ws, request) = Handshake::from_request(request, server, b"", ServerConfig::default())
                .accept()
                .await
                .unwrap();
            assert_eq!((request.uri().path(), request.extensions().get()), ("/chat", Some(&7)));
            echo(&mut ws).await
        });
        let mut client = open_raw(client).await;
        client.send(&[text("hello"), close(1000, "")]).await;
        assert_eq!(client.rest().await, [text("hello"), close(1000, "")]);
        drop(client);
        accepting.await.unwrap();
    });
}

#[test]
fn s4_2_1_frames_read_behind_the_request_are_received_however_they_are_cut() {
    test(async {
        let long = Frame { first: 0x82, payload: vec![7; 200_000] };
        let frames = [text("hi"), long.clone(), close(1000, "")];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(true)).collect();
        for cut in [1, 2, 7, 8, 9, 20, 4096, 100_000, bytes.len() - 1, bytes.len()] {
            let (client, server) = rt::duplex(64 * 1024);
            let (leftover, rest) = bytes.split_at(cut);
            let handshake = Handshake::from_request(upgrade(), server, leftover, ServerConfig::default());
            let accepting = rt::spawn(async move { echo(&mut handshake.accept().await.unwrap().0).await });
            let mut client = open_raw(client).await;
            rt::write_all(&mut client.link, rest).await.unwrap();
            assert!(client.rest().await == frames, "cut at {cut}");
            drop(client);
            accepting.await.unwrap();
        }
    });
}

#[test]
fn s4_2_2_request_read_elsewhere_is_refused_with_its_status() {
    type Fault = fn(&mut Request<()>);
    let faults: [(Fault, u16); 6] = [
        (|request| drop(request.headers_mut().remove("upgrade")), 426),
        (|request| drop(request.headers_mut().remove("sec-websocket-key")), 400),
        (|request| *request.method_mut() = "POST".parse().unwrap(), 405),
        (|request| *request.version_mut() = rt::ws::http::Version::HTTP_10, 505),
        (|request| *request.version_mut() = rt::ws::http::Version::HTTP_2, 405),
        (|request| *request.uri_mut() = "/other".parse().unwrap(), 404),
    ];
    for (fault, status) in faults {
        over(&WIDE, async move |mut client, server| {
            let mut request = upgrade();
            fault(&mut request);
            let config = ServerConfig { path: Some("/chat".into()), ..ServerConfig::default() };
            let accepting = rt::spawn(Handshake::from_request(request, server, b"frames?", config).accept());
            assert_eq!(read_response(&mut client).await.status, status);
            drop(client);
            handshake_error(accepting.await);
        });
    }
}

#[test]
fn no_reset_overtakes_the_refusal_of_a_request_read_elsewhere() {
    over(&WIDE, async |mut client, server| {
        let mut request = upgrade();
        request.headers_mut().remove("upgrade");
        let handshake = Handshake::from_request(request, server, &[b'x'; 1024], ServerConfig::default());
        let accepting = rt::spawn(handshake.accept());
        for _ in 0..1024 {
            rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        }
        assert_eq!(read_response(&mut client).await.status, 426);
        // It still reads.
        rt::write_all(&mut client, &[b'x'; 1024]).await.unwrap();
        drop(client);
        assert_matches!(handshake_error(accepting.await), HandshakeError::NotUpgrade);
    });
}

#[test]
fn client_of_a_refused_request_read_elsewhere_is_left_after_the_close_timeout() {
    timed(async {
        let (mut client, server) = rt::duplex(1024);
        let start = rt::now();
        let response = Response::builder().status(503).body("full\n").unwrap();
        let refusing =
            rt::spawn(Handshake::from_request(upgrade(), server, b"", server_config()).refuse(response));
        let response = read_response(&mut client).await;
        assert_eq!((response.status, &*response.body), (503, "full\n"));
        refusing.await;
        assert_elapsed(start, 10);
    });
}

#[test]
fn request_read_elsewhere_has_no_deadline_to_come() {
    timed(async {
        let (client, server) = rt::duplex(1024);
        let config = ServerConfig { head: head_limits(), ..server_config() };
        let mut handshake = Handshake::from_request(upgrade(), server, b"", config);
        assert!(within(100, pending::<()>()).await.is_none());
        assert_eq!(handshake.request().await.unwrap().uri(), "/chat");
        let accepting = rt::spawn(handshake.accept());
        open_raw(client).await;
        accepting.await.unwrap();
    });
}

#[test]
fn request_read_elsewhere_is_looked_at_adapted_and_accepted() {
    over(&ALL, async |client, server| {
        let accepting = rt::spawn(async move {
            let mut request = upgrade();
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("a, b"));
            let mut handshake = Handshake::from_request(request, server, b"", ServerConfig::default());
            let mut acceptance = handshake.check().await.unwrap();
            acceptance.set_subprotocol(Some("b")).unwrap();
            let name = HeaderName::from_static("x-served-by");
            acceptance.add_header(name, HeaderValue::from_static("us")).unwrap();
            handshake.accept_with(acceptance).await.unwrap().0
        });
        let mut client = client;
        let head = read_head(&mut client).await;
        assert!(
            head.contains("Sec-Websocket-Protocol: b\r\n") && head.contains("X-Served-By: us\r\n"),
            "{head}"
        );
        assert_eq!(accepting.await.subprotocol(), Some("b"));
    });
}

#[test]
fn answer_to_a_request_read_elsewhere_that_nobody_takes_is_a_timeout() {
    timed(async {
        let (_client, server) = rt::duplex(16);
        let start = rt::now();
        let handshake = Handshake::from_request(upgrade(), server, b"", server_config());
        assert_matches!(handshake.accept().await.unwrap_err(), Error::Timeout(Timer::Write));
        assert_elapsed(start, 30);
    });
}

// Helpers

/// [`UPGRADE`], as another implementation of HTTP read it.
fn upgrade() -> Request<()> {
    let mut lines = UPGRADE.trim_end().lines();
    assert_eq!(lines.next(), Some("GET /chat HTTP/1.1"));
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let request = fields.fold(Request::get("/chat"), |request, (name, value)| request.header(name, value));
    request.body(()).unwrap()
}

/// The client's end once the answer is there.
async fn open_raw(mut link: Link) -> Raw {
    assert!(read_head(&mut link).await.starts_with("HTTP/1.1 101 "));
    Raw { link, masked: true, unread: Vec::new() }
}
