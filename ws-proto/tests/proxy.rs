//! The way through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6), SOCKS5 (RFC 1928) and its user and password (RFC
//! 1929), each for every cut of the answers.

mod pair;

use pair::*;
use ws_proto::{
    HandshakeError, HeadLimits, Machine, Timer,
    handshake::{ConnectPhase, Proxy, ProxyError, ProxyHandshake, SocksReply, client_request},
};

const SUCCEEDED: &[u8] = &[5, 0, 0, 1, 127, 0, 0, 1, 0x1f, 0x90];

// URLs

#[test]
fn urls_of_proxies() {
    for (url, host, port, secure) in [
        ("http://proxy.example:3128", "proxy.example", 3128, false),
        ("http://proxy.example/", "proxy.example", 80, false),
        ("HTTPS://proxy.example", "proxy.example", 443, true),
        ("socks5://127.0.0.1", "127.0.0.1", 1080, false),
        ("socks5h://me:pw@[::1]:1081/", "::1", 1081, false),
        ("socks5://proxy.example:", "proxy.example", 1080, false),
    ] {
        let proxy: Proxy = url.parse().unwrap();
        assert_eq!((proxy.host(), proxy.port(), proxy.is_secure()), (host, port, secure), "{url}");
        assert!(!format!("{proxy:?}").contains("pw"), "a log must not tell the password");
    }
}

#[test]
fn each_fault_of_a_proxys_url_is_named() {
    let long = format!("socks5://{}:@a", "u".repeat(256));
    for (url, what) in [
        ("", "there is no scheme"),
        ("proxy.example:3128", "there is no scheme"),
        ("ftp://a", "the scheme is not http, https, socks5 or socks5h"),
        ("socks4://a", "the scheme is not http, https, socks5 or socks5h"),
        ("http://", "there is no host"),
        ("http://:80", "there is no host"),
        ("http://a:b", "the port is no number up to 65535"),
        ("http://a b", "the host has characters that no host has"),
        ("http://a/path", "there is something behind the port"),
        ("http://a?q", "there is something behind the port"),
        ("http://a%zz@b", "a % without two digits behind it"),
        ("http://a%3ab:c@b", "a user of the scheme Basic has no colon"),
        (&long, "a user and a password of SOCKS have at most 255 bytes"),
    ] {
        match url.parse::<Proxy>() {
            Err(HandshakeError::ProxyUrl(found)) => assert_eq!(found, what, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    assert!(format!("socks5://{0}:{0}@a", "u".repeat(255)).parse::<Proxy>().is_ok());
}

// HTTP

#[test]
fn s9110_9_3_6_connect_names_the_server_and_its_port() {
    for (url, target) in [
        ("ws://server.example/chat", "server.example:80"),
        ("wss://server.example/chat", "server.example:443"),
        ("ws://server.example:8080/", "server.example:8080"),
        ("ws://[::1]/", "[::1]:80"),
    ] {
        let asked = write_all(&mut begin("http://proxy", url));
        let expected = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(String::from_utf8(asked).unwrap(), expected);
    }
}

#[test]
fn s9110_11_7_credentials_of_the_proxy_go_to_it_and_those_of_the_server_do_not() {
    let mut handshake = begin("http://me:secret@proxy", "ws://server:hidden@server.example/");
    let asked = String::from_utf8(write_all(&mut handshake)).unwrap();
    assert!(asked.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{asked}");
    assert!(!asked.contains("\r\nAuthorization"), "{asked}");
}

#[test]
fn s9110_9_3_6_any_status_of_success_opens_the_way() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
        "HTTP/1.1 299 Whatever\r\n\r\n",
        // What such an answer says of its length has no meaning.
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_open("http://proxy", &[answer.as_bytes()]);
    }
}

#[test]
fn s9110_9_3_6_other_statuses_are_told() {
    for (status, permanent) in [
        (300, true),
        (302, true),
        (400, true),
        (403, true),
        (407, true),
        (408, false),
        (429, false),
        (502, false),
        (504, false),
    ] {
        let answer = format!("HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic\r\n\r\nbody");
        let error = fault("http://proxy", &[answer.as_bytes()], false);
        let HandshakeError::Proxy(ProxyError::Status(response)) = &error else { panic!("{error:?}") };
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["proxy-authenticate"], "Basic");
        assert_eq!(error.is_permanent(), permanent, "{status}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn s9110_9_3_6_what_is_no_answer_is_told() {
    let long = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 17 * 1024], b"\r\n\r\n"].concat();
    for answer in [&b"SSH-2.0-OpenSSH\r\n\r\n"[..], b"\x05\x00\0\0", b"HTTP/1.1 2 x\r\n\r\n"] {
        let error = fault("http://proxy", &[answer], false);
        assert!(matches!(error, HandshakeError::Proxy(ProxyError::Malformed(_))), "{error:?}");
    }
    let error = run("http://proxy", "ws://a/", &[&[&long]], false).unwrap_err();
    assert!(matches!(error, HandshakeError::Proxy(ProxyError::Malformed(_))), "{error:?}");
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\n";
    for cut in 0..=answer.len() {
        let error = run("http://proxy", "ws://a/", &[&[&answer[..cut]]], true).unwrap_err();
        assert!(matches!(error, HandshakeError::Proxy(ProxyError::Eof)), "{error:?}");
    }
}

#[test]
fn s9110_9_3_6_a_proxy_does_not_speak_before_it_is_spoken_to() {
    let answer: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nx";
    let error = run("http://proxy", "ws://a/", &[&[answer]], false).unwrap_err();
    assert!(matches!(error, HandshakeError::Proxy(ProxyError::Malformed(_))), "{error:?}");
}

// SOCKS

#[test]
fn s1928_4_the_address_is_sent_as_it_is_known() {
    let name = [&[5, 1, 0, 3, 14][..], b"server.example", &[0, 80]].concat();
    let longest = "a".repeat(255);
    for (url, request) in [
        ("ws://server.example/".to_owned(), name),
        ("wss://127.0.0.1/".into(), vec![5, 1, 0, 1, 127, 0, 0, 1, 1, 0xbb]),
        (
            "ws://[2001:db8::1]:8080/".into(),
            vec![5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1f, 0x90],
        ),
        (format!("ws://{longest}/"), [&[5, 1, 0, 3, 255], longest.as_bytes(), &[0, 80]].concat()),
    ] {
        let asked = run("socks5://proxy", &url, &[&[&[5, 0]], &[SUCCEEDED]], false).unwrap();
        assert_eq!(asked, [vec![5, 1, 0], request, vec![]], "{url}");
    }
    let request = client_request(&format!("ws://{longest}a/")).unwrap();
    let proxy = "socks5://proxy".parse().unwrap();
    let error = ProxyHandshake::new(&proxy, &request, &HeadLimits::default(), start()).unwrap_err();
    assert_eq!(error.to_string(), "invalid URL: the host is longer than the 255 bytes of SOCKS");
}

#[test]
fn s1929_2_a_user_and_a_password_are_sent_if_asked_for() {
    let url = "socks5://me:s%C3%A9cret@proxy";
    let asked = run(url, "ws://a/", &[&[&[5, 2]], &[&[1, 0]], &[SUCCEEDED]], false).unwrap();
    let auth = [&[1, 2][..], b"me", &[7], "sécret".as_bytes()].concat();
    assert_eq!(asked[..2], [vec![5, 2, 0, 2], auth]);
    assert_open(url, &[&[5, 2], &[1, 0], SUCCEEDED]);
    assert_open(url, &[&[5, 0], SUCCEEDED]);
    let error = fault(url, &[&[5, 2], &[1, 1]], false);
    assert!(matches!(error, HandshakeError::Proxy(ProxyError::Credentials)), "{error:?}");
    assert!(error.is_permanent());
}

#[test]
fn s1928_6_a_reply_has_an_address_of_any_kind() {
    let name = [&[5, 0, 0, 3, 3][..], b"abc", &[0, 80]].concat();
    for reply in [SUCCEEDED, &[5, 0, 0, 3, 0, 0, 0], &name, &[[5, 0, 0, 4].as_slice(), &[9; 18]].concat()] {
        assert_open("socks5://proxy", &[&[5, 0], reply]);
        for cut in 0..reply.len() {
            let error = run("socks5://proxy", "ws://a/", &[&[&[5, 0]], &[&reply[..cut]]], true).unwrap_err();
            assert!(matches!(error, HandshakeError::Proxy(ProxyError::Eof)), "{error:?}");
        }
    }
}

#[test]
fn s1928_6_each_failure_is_told() {
    for (code, text, permanent) in [
        (1, "general failure", false),
        (2, "not allowed by its rules", true),
        (3, "network unreachable", false),
        (4, "host unreachable", false),
        (5, "connection refused", false),
        (6, "TTL expired", false),
        (7, "command not supported", false),
        (8, "kind of address not supported", false),
        (9, "reply 9", false),
        (255, "reply 255", false),
    ] {
        // Some proxies close before the address.
        for reply in [&[5, code][..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]] {
            let error = fault("socks5://proxy", &[&[5, 0], reply], false);
            let found =
                matches!(error, HandshakeError::Proxy(ProxyError::Reply(SocksReply(found))) if found == code);
            assert!(found, "{error:?}");
            assert_eq!(error.to_string(), format!("the proxy did not connect: {text}"));
            assert_eq!(error.is_permanent(), permanent);
        }
    }
}

#[test]
fn s1928_what_breaks_the_protocol_is_told() {
    let none = fault("socks5://proxy", &[&[5, 0xff]], false);
    assert!(matches!(none, HandshakeError::Proxy(ProxyError::Method)), "{none:?}");
    assert!(none.is_permanent());
    for answers in [
        &[&b"\x04\x00"[..]][..],
        &[b"HT"],
        // A method that was not offered.
        &[&[5, 2]],
        &[&[5, 1]],
        &[&[5, 0], &[4, 0]],
        &[&[5, 0], &[5, 0, 0, 2]],
        &[&[5, 0], &[5, 0, 0, 0]],
    ] {
        let error = fault("socks5://proxy", answers, false);
        assert!(matches!(error, HandshakeError::Proxy(ProxyError::Malformed(_))), "{answers:?}: {error:?}");
    }
}

#[test]
fn s1928_what_is_behind_the_reply_stays_in_the_socket() {
    let name = [&[5, 0, 0, 3, 3][..], b"abc", &[0, 80]].concat();
    let answers = [[&[5, 0], SUCCEEDED].concat(), [&[5, 0][..], &name].concat()];
    for answer in answers.into_iter().chain([vec![5, 0, 5, 0, 0, 3, 0, 0, 0]]) {
        let mut handshake = begin("socks5://proxy", "ws://a/");
        write_all(&mut handshake);
        let mut behind = [&answer[..], b"of the server"].concat();
        while !handshake.advance() {
            let space = handshake.recv_space();
            let len = space.len().min(behind.len());
            space[..len].copy_from_slice(&behind[..len]);
            behind.drain(..len);
            handshake.handle_input(len, start());
        }
        assert_eq!(behind, b"of the server");
    }
}

// Time

#[test]
fn proxy_that_drips_is_given_up_at_the_deadline() {
    for (url, answer) in [("http://proxy", &b"HTTP/1.1 2"[..]), ("socks5://proxy", &[5])] {
        let mut handshake = begin(url, "ws://a/");
        write_all(&mut handshake);
        for (second, byte) in answer.iter().enumerate() {
            assert_eq!(deadline(&mut handshake, at(second as u64)), Some((secs(10), Timer::Handshake)));
            feed_machine(&mut handshake, &[*byte], at(second as u64), |handshake| _ = handshake.advance());
            assert!(handshake.error().is_none());
        }
        handshake.handle_timeout(at_ms(9_999));
        assert!(handshake.error().is_none());
        handshake.handle_timeout(at(10));
        assert!(matches!(handshake.error(), Some(HandshakeError::ConnectTimeout(ConnectPhase::Proxy))));
        assert!(handshake.is_ended() && !handshake.wants_read() && !handshake.advance());
    }
}

// Helpers

fn begin(proxy: &str, url: &str) -> ProxyHandshake {
    let request = client_request(url).unwrap();
    ProxyHandshake::new(&proxy.parse().unwrap(), &request, &HeadLimits::default(), start()).unwrap()
}

/// What is asked, before each answer and after the last; each answer comes in so many pieces.
fn run(proxy: &str, url: &str, answers: &[&[&[u8]]], eof: bool) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let mut handshake = begin(proxy, url);
    let mut asked = vec![write_all(&mut handshake)];
    for pieces in answers {
        for piece in *pieces {
            assert!(!handshake.advance() || piece.is_empty(), "it waits for more");
            if !handshake.is_ended() {
                feed_machine(&mut handshake, piece, start(), |handshake| _ = handshake.advance());
            }
        }
        asked.push(write_all(&mut handshake));
    }
    if eof {
        handshake.handle_eof(start());
    }
    let open = handshake.advance();
    assert!(!handshake.wants_read());
    assert_eq!(open, !handshake.is_ended());
    handshake.error().cloned().map_or(Ok(asked), Err)
}

/// The same for every cut of every answer.
fn run_every_way(proxy: &str, answers: &[&[u8]], eof: bool) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let whole: Vec<_> = answers.iter().map(std::slice::from_ref).collect();
    let expected = run(proxy, "ws://server.example/", &whole, eof);
    let same = |pieces: &[&[u8]], i: usize| {
        let mut cut = whole.clone();
        cut[i] = pieces;
        let found = run(proxy, "ws://server.example/", &cut, eof);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{pieces:?}");
    };
    for (i, answer) in answers.iter().enumerate() {
        same(&answer.chunks(1).collect::<Vec<_>>(), i);
        for cut in 0..=answer.len() {
            same(&[&answer[..cut], &answer[cut..]], i);
        }
    }
    expected
}

#[track_caller]
fn assert_open(proxy: &str, answers: &[&[u8]]) {
    run_every_way(proxy, answers, false).unwrap();
}

#[track_caller]
fn fault(proxy: &str, answers: &[&[u8]], eof: bool) -> HandshakeError {
    run_every_way(proxy, answers, eof).unwrap_err()
}
