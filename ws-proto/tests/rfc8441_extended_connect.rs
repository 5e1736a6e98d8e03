//! RFC 8441: the opening handshake over HTTP/2 (and HTTP/3, RFC 9220), as another HTTP implementation read it.

mod pair;

use pair::*;
use ws_proto::{
    HandshakeError, OriginPolicy, ServerConfig,
    handshake::{Acceptance, check, check_with_protocol},
    http::{HeaderName, HeaderValue, Request, StatusCode, Version, header, request::Builder},
};

#[test]
fn s5_1_the_request_of_the_rfc_is_accepted_with_200() {
    let config = ServerConfig { subprotocols: vec!["chat".into()], ..ServerConfig::default() };
    let request = Request::connect("https://server.example.com/chat")
        .version(Version::HTTP_2)
        .header("sec-websocket-protocol", "chat, superchat")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("sec-websocket-version", "13")
        .header("origin", "http://www.example.com");
    let response = judge(request, &config).unwrap().response();
    assert_eq!(response.status(), StatusCode::OK);
    // No Upgrade, Connection or Sec-WebSocket-Accept, nothing that frames a body.
    assert_eq!(response.headers().len(), 1, "{:?}", response.headers());
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
}

#[test]
fn s5_what_a_server_accepts_over_http_2_and_http_3() {
    let accepted: [fn(Builder) -> Builder; 8] = [
        |request| request,
        |request| request.version(Version::HTTP_3),
        |request| request.uri("http://example.com/chat"),
        |request| request.uri("https://example.com:8443/chat?room=1"),
        // RFC 9113 section 8.3.1: a Host field that says the same, or stands for `:authority`.
        |request| request.header("host", "EXAMPLE.com"),
        |request| request.uri("/chat").header("host", "example.com"),
        |request| request.header("content-length", "0"),
        // RFC 8441 section 5: the key is not processed.
        |request| request.header("sec-websocket-key", "no key at all"),
    ];
    for (i, accepted) in accepted.into_iter().enumerate() {
        let acceptance = judge(accepted(connect()), &ServerConfig::default());
        assert!(acceptance.is_ok(), "{i}: {acceptance:?}");
    }
    let protocol = check_with_protocol(&body(connect()), Some("WebSocket"), &ServerConfig::default());
    assert!(protocol.is_ok(), "{protocol:?}");
}

#[test]
fn s5_each_fault_has_its_status() {
    use HandshakeError as E;
    let version = || E::Version { version_8: false, extended: true };
    type Fault = fn(Builder) -> Builder;
    let cases: [(Fault, u16, E); 21] = [
        (|request| request.method("GET"), 405, E::NotConnect),
        (|request| request.method("POST"), 405, E::NotConnect),
        (|_| connect_without_version(), 400, version()),
        (|_| connect_without_version().header("sec-websocket-version", "14"), 400, version()),
        (|_| connect_without_version().header("sec-websocket-version", "8"), 400, version()),
        (|_| connect_without_version().header("sec-websocket-version", "13, 13"), 400, version()),
        (|request| request.header("sec-websocket-version", "13"), 400, version()),
        (|request| request.uri("/chat"), 400, E::Host),
        (|request| request.header("host", "other.example.com"), 400, E::Host),
        (|request| request.header("host", "example.com:444"), 400, E::Host),
        (|request| request.header("host", "example.com").header("host", "example.com"), 400, E::Host),
        (|request| request.header("host", ""), 400, E::Host),
        (|request| request.uri("https://user@example.com/chat"), 400, E::Host),
        // A CONNECT to a host and a port is one for a proxy.
        (|request| request.uri("example.com:443"), 400, E::Malformed("the request target")),
        (|request| request.header("content-length", "1"), 400, E::Body),
        (|request| request.header("transfer-encoding", "chunked"), 400, E::Body),
        (|request| request.uri("https://example.com/other"), 404, E::Path),
        (|request| request.header("sec-websocket-protocol", "a, a"), 400, E::SubprotocolList),
        (|request| request.header("sec-websocket-extensions", "foo;"), 400, E::ExtensionList),
        (|request| request.header("origin", "http://evil.example"), 403, E::Origin),
        (|request| request.version(Version::HTTP_10), 405, E::Method),
    ];
    let config = ServerConfig {
        path: Some("/chat".into()),
        origins: OriginPolicy::List(vec!["https://example.com".into()]),
        ..ServerConfig::default()
    };
    for (fault, status, expected) in cases {
        let error = judge(fault(connect()), &config).unwrap_err();
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
        let response = error.response().expect("a server answers this");
        assert_eq!(response.status(), status, "{error:?}");
        // RFC 9113 section 8.2.2: these have no place in HTTP/2.
        for absent in [header::UPGRADE, header::CONNECTION, header::TRANSFER_ENCODING] {
            assert!(!response.headers().contains_key(&absent), "{absent} for {error:?}");
        }
        let field = |name: HeaderName| response.headers().get(name).map(HeaderValue::as_bytes);
        match error {
            E::NotConnect => assert_eq!(field(header::ALLOW), Some(&b"CONNECT"[..])),
            // RFC 6455 section 4.4.
            E::Version { .. } => assert_eq!(field(header::SEC_WEBSOCKET_VERSION), Some(&b"13"[..])),
            _ => {}
        }
    }
}

#[test]
fn s5_another_protocol_is_not_implemented() {
    for protocol in [None, Some(""), Some("websockets"), Some("connect-udp"), Some("websocket, h2c")] {
        let error = check_with_protocol(&body(connect()), protocol, &ServerConfig::default()).unwrap_err();
        assert!(matches!(error, HandshakeError::Protocol), "{protocol:?}: {error:?}");
        // RFC 9220 section 3.
        assert_eq!(error.response().unwrap().status(), StatusCode::NOT_IMPLEMENTED);
    }
    assert!(matches!(check(&body(connect()), &ServerConfig::default()), Err(HandshakeError::Protocol)));
}

#[test]
fn s5_version_8_is_of_http_1_only() {
    let config = ServerConfig { version_8: true, ..ServerConfig::default() };
    let error = judge(connect_without_version().header("sec-websocket-version", "8"), &config).unwrap_err();
    assert_eq!(error.response().unwrap().headers()["sec-websocket-version"], "13");
}

#[test]
fn s5_protocol_changes_nothing_over_http_1() {
    let request = body(connect().version(Version::HTTP_11).method("GET"));
    let error = check_with_protocol(&request, Some("websocket"), &ServerConfig::default());
    assert!(matches!(error, Err(HandshakeError::NotUpgrade)));
}

#[test]
fn s5_origin_is_compared_with_the_authority() {
    let config = ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() };
    let judge = |uri, origin| judge(connect().uri(uri).header("origin", origin), &config);
    assert!(judge("https://example.com/chat", "https://example.com").is_ok());
    assert!(judge("https://example.com:8443/chat", "https://example.com:8443").is_ok());
    for origin in ["https://example.com:8443", "https://evil.example", "null"] {
        let error = judge("https://example.com/chat", origin);
        assert!(matches!(error, Err(HandshakeError::Origin)), "{origin}");
    }
}

#[test]
fn s5_the_application_adapts_the_answer() {
    let mut acceptance =
        judge(connect().header("sec-websocket-protocol", "a, b"), &ServerConfig::default()).unwrap();
    assert_eq!(acceptance.offered(), ["a", "b"]);
    acceptance.set_subprotocol(Some("b")).unwrap();
    acceptance.add_header(header::SET_COOKIE, HeaderValue::from_static("id=1")).unwrap();
    let response = acceptance.response();
    assert_eq!(response.headers()["sec-websocket-protocol"], "b");
    assert_eq!(response.headers()["set-cookie"], "id=1");
}

#[test]
fn s5_frames_are_those_of_rfc_6455() {
    let config = ServerConfig::default();
    let acceptance = judge(connect(), &config).unwrap();
    let leftover = join(ws_proto::Role::Server, &[text("hi")]);
    let mut connection = acceptance.into_connection(&config, &leftover, start());
    assert_eq!(write_all(&mut connection), b"", "the answer was sent elsewhere");
    assert_eq!(feed(&mut connection, b""), [text("hi")]);
}

#[cfg(feature = "deflate")]
#[test]
fn s5_extensions_are_negotiated_as_ever() {
    let config =
        ServerConfig { deflate: Some(ws_proto::DeflateConfig::default()), ..ServerConfig::default() };
    let request = connect().header("sec-websocket-extensions", "permessage-deflate");
    let response = judge(request, &config).unwrap().response();
    let field = response.headers()["sec-websocket-extensions"].to_str().unwrap();
    assert!(field.starts_with("permessage-deflate"), "{field}");
}

// Helpers

fn connect() -> Builder {
    connect_without_version().header("sec-websocket-version", "13")
}

fn connect_without_version() -> Builder {
    Request::connect("https://example.com/chat").version(Version::HTTP_2)
}

fn body(request: Builder) -> Request<()> {
    request.body(()).unwrap()
}

fn judge(request: Builder, config: &ServerConfig) -> Result<Acceptance, HandshakeError> {
    check_with_protocol(&body(request), Some("websocket"), config)
}
