//! The way to a server: the request, redirects, proxies, Unix sockets, deadlines, and connecting again. Tests with
//! `ws6_8` in their names are those that users of `ws` for Node know.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::rt::ws::{Backoff, ConnectPhase, Connector, ProxyError, SocksReply};

// The request

#[test]
fn ws6_8_request_carries_what_the_connector_was_given() {
    test(async {
        let door = Door::tcp().await;
        let url = format!("ws://{}/", door.address()).replace("//", "//us%65r:p%40ss@");
        let connector = Connector::default()
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-custom", "yes")
            .origin("https://old.example")
            .origin("https://example.com")
            .basic_auth("loses", "to the URL")
            .subprotocol("a")
            .subprotocol("b");
        let serving = rt::spawn(async move {
            let mut link = door.accept().await;
            let head = read_head(&mut link).await;
            let answer = answer_to(&head).replace("\r\n\r\n", "\r\nsec-websocket-protocol: b\r\n\r\n");
            rt::write_all(&mut link, answer.as_bytes()).await.unwrap();
            (head, door)
        });
        let (ws, _response) = connector.connect(&url).await.unwrap();
        assert_eq!(ws.subprotocol(), Some("b"));
        let (head, door) = serving.await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        assert_eq!(fields(&head, "Cookie"), ["a=1", "b=2"]);
        assert_eq!(fields(&head, "X-Custom"), ["yes"]);
        assert_eq!(fields(&head, "Origin"), ["https://example.com"]);
        // user:p@ss
        assert_eq!(fields(&head, "Authorization"), ["Basic dXNlcjpwQHNz"]);
        assert_eq!(fields(&head, "Sec-WebSocket-Protocol"), ["a, b"]);
        assert_eq!(fields(&head, "Host"), [door.address()]);
    });
}

#[test]
fn ws6_8_request_has_no_origin_and_no_credentials_by_default() {
    test(async {
        let head = asked_by(Connector::default()).await;
        for absent in ["Origin", "Authorization", "Cookie", "Sec-WebSocket-Protocol"] {
            assert!(fields(&head, absent).is_empty(), "{head}");
        }
        let head = asked_by(Connector::default().basic_auth("user", "pass")).await;
        assert_eq!(fields(&head, "Authorization"), ["Basic dXNlcjpwYXNz"]);
    });
}

#[cfg(feature = "deflate")]
#[test]
fn ws6_8_compression_is_offered_by_default() {
    test(async {
        let head = asked_by(Connector::default()).await;
        assert_eq!(fields(&head, "Sec-WebSocket-Extensions").len(), 1);
        let head = asked_by(Connector::default().deflate(None)).await;
        assert!(fields(&head, "Sec-WebSocket-Extensions").is_empty());
    });
}

#[test]
fn frames_are_not_held_back_by_tcp() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let serving = rt::spawn(async move { door.serve().await });
        let (ws, _response) = connect(&url).await.unwrap();
        let rt::ws::Transport::Tcp(stream) = ws.get_ref() else { panic!("TCP") };
        assert!(stream.nodelay().unwrap());
        serving.await;
    });
}

#[test]
fn s10_3_no_two_connections_have_the_same_keys() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let serving = rt::spawn(async move {
            let mut keys = Vec::new();
            for _ in 0..4 {
                let mut link = door.accept().await;
                let head = read_head(&mut link).await;
                rt::write_all(&mut link, answer_to(&head).as_bytes()).await.unwrap();
                let frame = read_to_end(&mut link).await.unwrap();
                // Of the handshake, and of the first frame.
                keys.extend([
                    fields(&head, "Sec-WebSocket-Key")[0].to_owned(),
                    format!("{:?}", &frame[2..6]),
                ]);
            }
            keys
        });
        let request = client_request(&url).unwrap();
        for _ in 0..2 {
            connect(&url).await.unwrap().0.send("hi").await.unwrap();
            let link = rt::connect(url["ws://".len()..url.len() - 1].parse().unwrap()).await;
            client(link, &request, &ClientConfig::default()).await.unwrap().0.send("hi").await.unwrap();
        }
        let mut keys = serving.await;
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 8, "{keys:?}");
    });
}

#[test]
fn fields_of_the_request_go_before_those_of_the_connector() {
    test(async {
        let door = Door::tcp().await;
        let mut request = client_request(&door.url("/")).unwrap();
        request.headers_mut().insert("x-a", HeaderValue::from_static("request"));
        let connector = Connector::default().header("x-a", "connector").header("x-b", "connector");
        let serving = rt::spawn(async move { door.serve().await });
        connector.connect_request(request).await.unwrap();
        let head = serving.await;
        assert_eq!((fields(&head, "X-A"), fields(&head, "X-B")), (vec!["request"], vec!["connector"]));
    });
}

#[test]
fn what_cannot_be_is_told_before_anything_is_opened() {
    test(async {
        let url = format!("ws://{}/", rt::Listener::bind().await.address());
        let connector = Connector::default;
        for (connector, expected) in [
            (connector().header("x y", "z"), "\"x y\" is no header field, or its value is none"),
            (connector().header("x", "a\r\nb"), "\"x\" is no header field, or its value is none"),
            (connector().origin("\n"), "\"origin\" is no header field, or its value is none"),
            (
                connector().basic_auth("a:b", "c"),
                "\"authorization\" is no header field, or its value is none",
            ),
            (
                connector().header("x y", "z").header("z z", ""),
                "\"x y\" is no header field, or its value is none",
            ),
            (connector().header("upgrade", "h2c"), "the handshake sets upgrade itself"),
            (connector().subprotocol("a b"), "cannot offer subprotocol \"a b\""),
            (
                connector().proxy("ftp://a"),
                "invalid URL of a proxy: the scheme is not http, https, socks5 or socks5h",
            ),
        ] {
            let error = handshake_error(connector.connect(&url).await);
            assert_eq!(error.to_string(), expected);
            assert!(error.is_permanent());
        }
    });
}

#[test]
fn request_that_does_not_say_where_to_is_refused() {
    test(async {
        for uri in ["/chat", "localhost:80"] {
            let request = Request::get(uri).header("host", "localhost").body(()).unwrap();
            let error = handshake_error(connect_with(request, ClientConfig::default()).await);
            assert_eq!(error.to_string(), "invalid URL: there is no scheme");
        }
    });
}

#[test]
fn ws6_8_establishing_over_a_stream_of_ones_own_keeps_the_host() {
    test(async {
        let door = Door::tcp().await;
        let stream = rt::tcp_transport(door.address().parse().unwrap()).await;
        let serving = rt::spawn(async move { door.serve().await });
        let request = client_request("ws://server.example:8080/chat").unwrap();
        let (ws, _response) = Connector::default().connect_over(stream, request).await.unwrap();
        assert!(!ws.get_ref().is_secure());
        let head = serving.await;
        assert_eq!(fields(&head, "Host"), ["server.example:8080"]);
    });
}

// Unix sockets

#[cfg(unix)]
#[test]
fn s1_2_unix_socket_is_connected_to_by_its_url() {
    test(async {
        let door = Door::unix();
        let url = door.url("/chat?room=1");
        let serving = rt::spawn(async move { door.serve().await });
        let (ws, _response) = connect(&url).await.unwrap();
        assert_eq!(ws.get_ref().peer_addr(), None);
        let head = serving.await;
        assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(fields(&head, "Host"), ["localhost"]);
    });
}

#[cfg(unix)]
#[test]
fn unix_socket_where_nobody_listens_is_an_io_error() {
    test(async {
        let url = format!("ws+unix:{}", rt::socket_path().display());
        assert_matches!(connect(&url).await, Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound);
    });
}

// Redirects

#[test]
fn ws6_8_redirects_are_off_by_default() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let serving = rt::spawn(async move { door.redirect("/b", "x-why: moved\r\n").await });
        let HandshakeError::Status(response) = handshake_error(connect(&url).await) else {
            panic!("a status");
        };
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-why"]),
            (302, &"moved".parse().unwrap())
        );
        serving.await;
    });
}

#[test]
fn ws6_8_redirects_are_followed() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/a");
        let serving = rt::spawn(async move {
            // Whose body does not end need not be waited for.
            door.redirect("/b?c", "content-length: 100\r\n").await;
            door.redirect("../d", "").await;
            door.serve().await
        });
        let connector = Connector::default().redirects(2).header("cookie", "a=1").basic_auth("a", "b");
        let (_ws, response) = connector.connect(&url).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let head = serving.await;
        assert!(head.starts_with("GET /d HTTP/1.1\r\n"), "{head}");
        assert_eq!(kept(&head), ["authorization", "cookie"]);
    });
}

#[test]
fn ws6_8_redirects_have_a_limit() {
    test(async {
        for limit in [1, 2, 10] {
            let door = Door::tcp().await;
            let url = door.url("/");
            let serving = rt::spawn(async move {
                for _ in 0..=limit {
                    door.redirect("/", "").await;
                }
            });
            let error = handshake_error(Connector::default().redirects(limit).connect(&url).await);
            assert_eq!(error.to_string(), format!("redirected more than {limit} times"));
            serving.await;
        }
    });
}

#[test]
fn ws6_8_redirects_to_an_invalid_url_and_to_another_scheme_are_told() {
    test(async {
        for (location, fault) in
            [("ws://", "there is no host"), ("ftp://a/", "the scheme is not ws, wss, http, https or ws+unix")]
        {
            let door = Door::tcp().await;
            let url = door.url("/");
            let serving = rt::spawn(async move { door.redirect(location, "").await });
            let error = handshake_error(Connector::default().redirects(10).connect(&url).await);
            assert_eq!(error.to_string(), format!("redirected to {location:?}: {fault}"));
            serving.await;
        }
    });
}

#[test]
fn ws6_8_redirects_to_another_host_drop_credentials_and_host() {
    test(async {
        let mut doors = vec![(Door::tcp().await, Door::tcp().await)];
        if cfg!(unix) {
            doors.push((Door::tcp().await, Door::unix()));
            doors.push((Door::unix(), Door::unix()));
            doors.push((Door::unix(), Door::tcp().await));
        }
        for (first, second) in doors {
            let url = first.url("/");
            println!("{url} to {}", second.url("/"));
            let serving = rt::spawn(async move {
                let before = first.redirect(&second.url("/"), "").await;
                (before, second.serve().await, second)
            });
            connect_with_secrets(&url).await;
            let (before, after, second) = serving.await;
            assert_eq!(kept(&before), ["authorization", "cookie", "proxy-authorization", "x-kept"]);
            assert_eq!(fields(&before, "Host"), ["virtual.example"]);
            assert_eq!(kept(&after), ["x-kept"]);
            assert_eq!(fields(&after, "Host"), [second.host()]);
        }
    });
}

#[test]
fn ws6_8_redirects_on_the_same_host_keep_credentials_and_host() {
    test(async {
        let doors = if cfg!(unix) { vec![Door::tcp().await, Door::unix()] } else { vec![Door::tcp().await] };
        for door in doors {
            let url = door.url("/");
            let serving = rt::spawn(async move {
                door.redirect(&door.url("/b").replace("://", "://other:user@"), "").await;
                door.serve().await
            });
            connect_with_secrets(&url).await;
            let head = serving.await;
            assert_eq!(kept(&head), ["authorization", "cookie", "proxy-authorization", "x-kept"]);
            assert_eq!(fields(&head, "Host"), ["virtual.example"]);
            // The first credentials win.
            assert_eq!(fields(&head, "Authorization"), ["Basic c2VjcmV0OnNlY3JldA=="]);
        }
    });
}

// Proxies

#[test]
fn http_proxy_is_asked_for_the_way() {
    test(async {
        let door = Door::tcp().await;
        let proxy = format!("http://me:secret@{}", door.address());
        let serving = rt::spawn(async move {
            let mut link = door.accept().await;
            let head = read_head(&mut link).await;
            rt::write_all(&mut link, b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let (mut ws, request) = accept(link).await.unwrap();
            echo(&mut ws).await.unwrap();
            (head, request)
        });
        // A name that nobody resolves: the proxy would.
        let connector = Connector::default().proxy(&proxy);
        let (mut ws, _response) = connector.connect("ws://server.invalid/chat").await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
        let (head, request) = serving.await;
        assert!(head.starts_with("CONNECT server.invalid:80 HTTP/1.1\r\n"), "{head}");
        assert_eq!(fields(&head, "Proxy-Authorization"), ["Basic bWU6c2VjcmV0"]);
        assert_eq!(request.headers()["host"], "server.invalid");
        assert!(!request.headers().contains_key("proxy-authorization"));
    });
}

#[test]
fn s1928_socks_proxy_is_asked_for_the_way() {
    test(async {
        let door = Door::tcp().await;
        let proxy = format!("socks5://me:secret@{}", door.address());
        let serving = rt::spawn(async move {
            let link = serve_socks(&door).await;
            echo(&mut accept(link).await.unwrap().0).await.unwrap();
        });
        let connector = Connector::default().proxy(&proxy);
        let (mut ws, _response) = connector.connect("ws://server.invalid:8080/chat").await.unwrap();
        converse_and_close(&mut ws, &short_messages()).await;
        serving.await;
    });
}

#[test]
fn proxy_that_refuses_is_told() {
    test(async {
        let door = Door::tcp().await;
        let [http, socks] = ["http", "socks5"].map(|scheme| format!("{scheme}://{}", door.address()));
        let serving = rt::spawn(async move {
            let mut link = door.accept().await;
            read_head(&mut link).await;
            rt::write_all(&mut link, b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic\r\n\r\n").await.unwrap();
            let mut link = door.accept().await;
            read_exact(&mut link, 3).await;
            rt::write_all(&mut link, &[5, 0]).await.unwrap();
            read_exact(&mut link, 21).await;
            rt::write_all(&mut link, &[5, 5]).await.unwrap();
            door.accept().await;
        });
        let url = "ws://server.invalid/";
        let error = handshake_error(Connector::default().proxy(&http).connect(url).await);
        assert_matches!(&error, HandshakeError::Proxy(ProxyError::Status(answer)) if answer.status() == 407);
        assert!(error.is_permanent());
        let error = handshake_error(Connector::default().proxy(&socks).connect(url).await);
        assert_matches!(&error, HandshakeError::Proxy(ProxyError::Reply(SocksReply::CONNECTION_REFUSED)));
        assert!(!error.is_permanent());
        let error = Connector::default().proxy(&http).connect(url).await.unwrap_err();
        println!("{error}");
        assert_matches!(error, Error::Handshake(HandshakeError::Proxy(ProxyError::Eof)) | Error::Io(_));
        serving.await;
    });
}

#[test]
fn proxy_where_nobody_listens_is_told_apart_from_the_server() {
    test(async {
        let address = rt::Listener::bind().await.address();
        let connector = Connector::default().proxy(&format!("socks5://{address}"));
        let Err(Error::Io(error)) = connector.connect("ws://server.invalid/").await else {
            panic!("an error of the socket");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("proxy: "), "{error}");
    });
}

#[cfg(unix)]
#[test]
fn unix_socket_needs_no_proxy() {
    test(async {
        let door = Door::unix();
        let url = door.url("/");
        let serving = rt::spawn(async move { door.serve().await });
        Connector::default().proxy("http://proxy.invalid").connect(&url).await.unwrap();
        serving.await;
    });
}

// Deadlines and cancelled futures

#[test]
fn each_phase_that_takes_too_long_is_named() {
    timed(async {
        let listener = rt::Listener::bind().await;
        let url = format!("ws://{}/", listener.address());
        let proxies = ["http", "socks5"].map(|scheme| format!("{scheme}://{}", listener.address()));
        let connector = Connector::default().timeout(Some(10 * SECOND));
        for proxy in proxies {
            let error = handshake_error(connector.clone().proxy(&proxy).connect(&url).await);
            assert_matches!(error, HandshakeError::ConnectTimeout(ConnectPhase::Proxy));
            assert_eq!(error.to_string(), "the proxy did not answer in time");
            assert!(!error.is_permanent());
        }
        assert_matches!(handshake_error(connector.connect(&url).await), HandshakeError::Timeout);
        let error = handshake_error(connector.timeout(Some(Duration::ZERO)).connect(&url).await);
        assert_matches!(error, HandshakeError::ConnectTimeout(ConnectPhase::Connect));
        assert_eq!(error.to_string(), "there was no connection in time");
    });
}

#[test]
fn redirects_have_one_deadline_together() {
    timed(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let connector = Connector::default().timeout(Some(10 * SECOND)).redirects(10);
        let _serving = rt::spawn(async move {
            // Twice in time, and once too late.
            for _ in 0..3 {
                let mut link = door.accept().await;
                read_head(&mut link).await;
                rt::sleep(4 * SECOND).await;
                rt::write_all(&mut link, b"HTTP/1.1 302 x\r\nlocation: /\r\n\r\n").await.unwrap();
            }
        });
        let start = rt::now();
        assert_matches!(handshake_error(connector.connect(&url).await), HandshakeError::Timeout);
        assert_elapsed(start, 10);
    });
}

#[test]
fn cancelled_attempts_leave_nothing_behind() {
    one_thread(async || {
        let door = Door::tcp().await;
        let connector = Connector::default().proxy(&format!("socks5://me:secret@{}", door.address()));
        let serving = rt::spawn(async move {
            let mut served = 0;
            while served < 1 {
                let mut link = door.accept().await;
                // Whatever was given up is closed.
                let attempt = async {
                    serve_socks_on(&mut link).await?;
                    let head = try_read_head(&mut link).await?;
                    rt::write_all(&mut link, answer_to(&head).as_bytes()).await.ok()
                };
                if attempt.await.is_some() {
                    let rest = read_to_end(&mut link).await;
                    served += usize::from(rest.is_ok_and(|rest| !rest.is_empty()));
                }
            }
        });
        at_every_poll(async |polls| {
            let Some(connected) = cancel_after(polls, connector.connect("ws://server.invalid/")).await else {
                return false;
            };
            let (mut ws, _response) = connected.unwrap();
            ws.send("here").await.unwrap();
            true
        })
        .await;
        serving.await;
    });
}

// Connecting again

#[test]
fn s7_2_3_connections_come_one_after_the_other() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let serving = rt::spawn(async move {
            door.serve().await;
            door.answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
            drop(door.accept().await);
            door.serve().await;
            door.answer("HTTP/1.1 404 Gone\r\ncontent-length: 0\r\n\r\n").await;
        });
        let mut connections = Connector::default().reconnect(&url).unwrap().backoff(at_once());
        let mut seen = Vec::new();
        while let Some(attempt) = connections.next().await {
            seen.push(match attempt {
                Ok((mut ws, response)) => {
                    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                    assert_matches!(ws.recv().await, Err(Error::Abnormal | Error::Io(_)));
                    "connected".to_owned()
                }
                Err(Error::Handshake(HandshakeError::Status(answer))) => answer.status().as_str().to_owned(),
                Err(error) => {
                    assert!(!error.is_permanent(), "{error}");
                    "closed".to_owned()
                }
            });
        }
        assert_eq!(seen, ["connected", "503", "closed", "connected", "404"]);
        assert!(connections.next().await.is_none());
        serving.await;
    });
}

#[test]
fn the_application_decides_which_error_is_the_last() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let serving = rt::spawn(async move {
            for _ in 0..3 {
                door.answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
            }
            door.answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        });
        let is_busy = |error: &Error| error.to_string().contains("503");
        let connections = Connector::default().reconnect(&url).unwrap().backoff(at_once());
        // As a stream.
        let failures: Vec<_> =
            connections.give_up_if(is_busy).map(|attempt| attempt.is_err()).collect().await;
        assert_eq!(failures, [true; 4]);
        serving.await;
    });
}

#[test]
fn reconnect_tells_at_once_that_a_url_is_none() {
    assert_matches!(handshake_error(Connector::default().reconnect("ftp://a/")), HandshakeError::Url(_));
}

#[test]
fn s7_2_3_cancelled_next_goes_on_with_the_same_attempt() {
    test(async {
        let door = Door::tcp().await;
        let url = door.url("/");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let serving = rt::spawn(async move {
            for _ in 0..3 {
                let mut link = door.accept().await;
                count.fetch_add(1, Ordering::Relaxed);
                let head = read_head(&mut link).await;
                settle().await;
                rt::write_all(&mut link, answer_to(&head).as_bytes()).await.unwrap();
            }
            assert!(now_or_never(door.accept()).await.is_none());
        });
        let mut connections = Connector::default().reconnect(&url).unwrap().backoff(at_once());
        for expected in 1..=3 {
            raced!(connections.next()).unwrap().unwrap();
            assert_eq!(accepted.load(Ordering::Relaxed), expected);
        }
        serving.await;
    });
}

#[test]
fn s7_2_3_attempts_wait_and_waits_are_not_begun_anew() {
    timed(async {
        let url = format!("ws://{}/", rt::Listener::bind().await.address());
        let backoff = Backoff { min: 8 * SECOND, max: 8 * SECOND, ..Backoff::default() };
        let mut connections = Connector::default().reconnect(&url).unwrap().backoff(backoff);
        let start = rt::now();
        assert_matches!(connections.next().await, Some(Err(Error::Io(_))));
        assert_elapsed(start, 0);
        for _ in 0..100 {
            // No wait is longer than 8 seconds, so it is over after nine of one, whatever was dropped meanwhile.
            let mut ticks = 0;
            while within(1, connections.next()).await.is_none() {
                ticks += 1;
                assert!(ticks <= 8);
            }
        }
        let elapsed = rt::now() - start;
        // A wait is four seconds in the mean.
        assert!((200 * SECOND..600 * SECOND).contains(&elapsed), "{elapsed:?}");
    });
}

// Helpers

/// Where a server listens.
enum Door {
    Tcp(rt::Listener),
    #[cfg(unix)]
    Unix(rt::UnixListener),
}

impl Door {
    async fn tcp() -> Self {
        Self::Tcp(rt::Listener::bind().await)
    }

    #[cfg(unix)]
    fn unix() -> Self {
        Self::Unix(rt::UnixListener::bind())
    }

    #[cfg(not(unix))]
    fn unix() -> Self {
        unreachable!("there are none")
    }

    fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.address().to_string(),
            #[cfg(unix)]
            Self::Unix(listener) => listener.path().display().to_string(),
        }
    }

    fn url(&self, target: &str) -> String {
        match self {
            Self::Tcp(_) => format!("ws://{}{target}", self.address()),
            #[cfg(unix)]
            Self::Unix(_) => format!("ws+unix:{}:{target}", self.address()),
        }
    }

    /// The value of `Host` in a request for its URL.
    fn host(&self) -> String {
        match self {
            Self::Tcp(_) => self.address(),
            #[cfg(unix)]
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    async fn accept(&self) -> Link {
        match self {
            Self::Tcp(listener) => listener.accept().await,
            #[cfg(unix)]
            Self::Unix(listener) => listener.accept().await,
        }
    }

    /// Answers the next request with this; gives its head.
    async fn answer(&self, answer: &str) -> String {
        let mut link = self.accept().await;
        let head = read_head(&mut link).await;
        rt::write_all(&mut link, answer.as_bytes()).await.unwrap();
        head
    }

    async fn redirect(&self, location: &str, fields: &str) -> String {
        self.answer(&format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\n{fields}\r\n")).await
    }

    /// Accepts the next request, and drops the connection; gives the head.
    async fn serve(&self) -> String {
        let mut link = self.accept().await;
        let head = read_head(&mut link).await;
        rt::write_all(&mut link, answer_to(&head).as_bytes()).await.unwrap();
        head
    }
}

/// The head that a server sees.
async fn asked_by(connector: Connector) -> String {
    let door = Door::tcp().await;
    let url = door.url("/");
    let serving = rt::spawn(async move { door.serve().await });
    connector.connect(&url).await.unwrap();
    serving.await
}

async fn connect_with_secrets(url: &str) {
    let connector = Connector::default()
        .basic_auth("secret", "secret")
        .header("cookie", "secret")
        .header("proxy-authorization", "secret")
        .header("x-kept", "known")
        .header("host", "virtual.example")
        .redirects(1);
    connector.connect(url).await.unwrap();
}

/// Which of the fields of [`connect_with_secrets`] are there.
fn kept(head: &str) -> Vec<&'static str> {
    let mut names = vec!["authorization", "cookie", "proxy-authorization", "x-kept"];
    names.retain(|name| !fields(head, name).is_empty());
    names
}

fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// Lets the next client through to `server.invalid:8080`.
async fn serve_socks(door: &Door) -> Link {
    let mut link = door.accept().await;
    let request = serve_socks_on(&mut link).await.unwrap();
    assert_eq!(request, [&[5, 1, 0, 3, 14][..], b"server.invalid", &8080_u16.to_be_bytes()].concat());
    link
}

/// Lets a client through; gives its request, unless the client leaves.
async fn serve_socks_on(link: &mut Link) -> Option<Vec<u8>> {
    assert_eq!(try_read(link, 4).await?, [5, 2, 0, 2]);
    rt::write_all(link, &[5, 2]).await.ok()?;
    assert_eq!(try_read(link, 11).await?, b"\x01\x02me\x06secret");
    rt::write_all(link, &[1, 0]).await.ok()?;
    let request = try_read(link, 21).await?;
    rt::write_all(link, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(request)
}

async fn read_exact(link: &mut Link, len: usize) -> Vec<u8> {
    try_read(link, len).await.expect("it was cut off")
}

/// Exactly so many bytes, unless the stream ends before.
async fn try_read(link: &mut Link, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match rt::read(link, &mut bytes[filled..]).await {
            Ok(0) | Err(_) => return None,
            Ok(some) => filled += some,
        }
    }
    Some(bytes)
}

async fn try_read_head(link: &mut Link) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(try_read(link, 1).await?);
    }
    String::from_utf8(head).ok()
}

fn at_once() -> Backoff {
    Backoff { min: Duration::ZERO, max: Duration::ZERO, ..Backoff::default() }
}
