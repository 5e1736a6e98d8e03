//! The example `client`, as a process of its own, in pipes and on a terminal.

use std::{
    fs,
    future::pending,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ws_tokio::{
    CloseCode, DeflateConfig, Error, Event, Listener, Message, Server, ServerConfig, WebSocket,
    http::Request,
    rustls::{self, RootCertStore, crypto::ring, pki_types::PrivateKeyDer, server::WebPkiClientVerifier},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_sent_and_each_message_is_a_line() {
    let url = serve().await;
    let output = client(&[&url], b"hello\n\n/ping a\n/pinguin\r\nlast");
    assert_eq!(stdout(&output), "hello\n\n/pinguin\nlast\n");
    assert_eq!(output.status.code(), Some(0));
    assert_notes(&output, &["[connected]", "[pong a]", "[closed 1000]"]);

    // What was sent before the server sees the end of stdin is printed.
    let output = client(&[&format!("{url}three")], b"");
    assert_eq!(stdout(&output), "one\ntwo\nthree\n");
    assert_eq!(output.status.code(), Some(0));

    // More than fits between the two, so that each waits for the other to read.
    let lines = format!("{}\n", "x".repeat(1 << 20)).repeat(16);
    let output = client(&[&url], lines.as_bytes());
    assert!(stdout(&output) == lines, "{} bytes came back", output.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_has_what_is_asked_for() {
    let url = serve().await.replace("://", "://me:secret@") + "request?x=1";
    let mut args = vec!["--header", "X-Own: a: b", "--header=x-own:c", "--origin", "https://example.com"];
    args.extend(["--subprotocol", "other", "--subprotocol", "chat", "--count", "1", &url]);
    let output = client(&args, b"");
    let request = stdout(&output);
    for field in [
        "GET /request?x=1",
        "x-own: a: b\nx-own: c\n",
        "origin: https://example.com",
        "authorization: Basic bWU6c2VjcmV0",
        "sec-websocket-protocol: other, chat",
    ] {
        assert!(request.contains(field), "{field} is not in\n{request}");
    }
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.starts_with("[connected, chat, permessage-deflate"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_binary_or_whole_on_request() {
    let url = serve().await;
    let (json, any) = (b"{\n1: \xc3\xa9}\n", b"a\r\n/ping\n\xff\0");
    for (args, stdin, expected) in [
        (&["--whole", "--count", "1"][..], &json[..], &b"{\n1: \xc3\xa9}\n\n"[..]),
        (&["--binary", "--count", "3"], any, b"a\r/ping\xff\0"),
        (&["--binary", "--whole", "--count", "1"], any, any),
    ] {
        let output = client(&[args, &[&url]].concat(), stdin);
        assert_eq!(output.stdout, expected, "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    let output = client(&[&url], any);
    assert_eq!(output.status.code(), Some(1));
    assert_notes(&output, &["client: stdin is not UTF-8; --binary sends any bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_laid_out_and_other_text_is_not() {
    let url = serve().await;
    let stdin = "{\"b\":[1.0,{}],\"a\":\"\\u001b\"}\n{no\n\x1b[31mred\n";
    let output = client(&["--json", "--count", "3", &url], stdin.as_bytes());
    let expected = "{\n  \"b\": [\n    1.0,\n    {}\n  ],\n  \"a\": \"\\u001b\"\n}\n{no\n\x1b[31mred\n";
    assert_eq!(stdout(&output), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_timed() {
    let url = serve().await + "pinged";
    let output = client(&["--ping", "0.01", "--count", "1", &url], b"");
    assert_eq!(stdout(&output), "enough\n");
    assert_notes(&output, &["[pong after ", "[closed 1000]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_how_it_ended() {
    let url = serve().await;
    let at = |path: &str| format!("{url}{path}");
    for (args, expected) in [
        // The count is reached, whatever would follow.
        (&["--count", "2", &at("three")][..], 0),
        (&["--count=3", "--wait=60", &at("three")], 0),
        // The time passes: before the messages came, or with nothing to wait for.
        (&["--count", "4", "--wait", "0.1", &at("three")], 3),
        (&["--wait", "0.1", &at("three")], 0),
        // The server closes.
        (&["--wait", "60", &at("close/1000")], 0),
        (&["--wait", "60", &at("close/1001")], 0),
        (&["--wait", "60", &at("close/1011")], 4),
        (&["--wait", "60", &at("close/4000")], 4),
        (&["--count", "1", &at("close/1000")], 4),
        (&["--wait", "60", &at("drop")], 1),
        // There is no connection, or none can be.
        (&["--subprotocol", "unknown", &url], 1),
        (&["ftp://127.0.0.1/"], 2),
        (&["--header", "no colon", &url], 2),
        (&["--header", "upgrade: x", &url], 2),
        (&["--count", "0", &url], 2),
        (&["--wait", "-1", &url], 2),
        (&["--ping", "0", &url], 2),
        (&["--client-cert", "x", &url], 2),
        (&["--ca", "/no/such/file", &url], 2),
        (&["--unknown", &url], 2),
        (&[], 2),
        (&["--help"], 0),
    ] {
        let output = client(args, b"");
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), args == ["--help"], "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_given_authority_and_shows_a_certificate() {
    let folder = std::env::temp_dir().join(format!("ws-examples-client-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap(), key)
    };
    let (ca_file, (certificate, key)) = (write("ca.pem", ca.pem()), issue("client"));
    let own = (write("client.pem", certificate.pem()), write("client.key", key.serialize_pem()));

    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let (certificate, key) = issue("localhost");
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", 16).await.unwrap().with_tls(tls);
    let server = Server::new(listener, ServerConfig::default());
    let url = format!("wss://localhost:{}/", server.local_addr().unwrap().port());
    tokio::spawn(server.serve(|mut ws, _request| async move {
        let ws_tokio::Transport::Tls(stream) = ws.get_ref() else { panic!("TLS") };
        let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        ws.send(format!("{shown} certificates")).await.unwrap();
        let _ = ws.recv().await;
    }));

    let output = client(&["--count", "1", "--ca", &ca_file, &url], b"");
    assert_eq!(stdout(&output), "0 certificates\n");
    let shown = ["--client-cert", &own.0, "--client-key", &own.1];
    let output = client(&[&["--count", "1", "--ca", &ca_file][..], &shown, &[&url]].concat(), b"");
    assert_eq!(stdout(&output), "1 certificates\n");
    // Nobody else trusts this authority.
    assert_eq!(client(&["--count", "1", &url], b"").status.code(), Some(1));
    fs::remove_dir_all(folder).unwrap();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn terminal_has_colours_and_a_history() {
    let url = serve().await;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/terminal.py");
    let mut python = Command::new("python3");
    let Ok(status) = python.arg(script).args([env!("CARGO_BIN_EXE_client"), &url]).status() else {
        return eprintln!("not tested: there is no python3");
    };
    assert!(status.success());
}

/// A server that does what the path says, and then echoes.
async fn serve() -> String {
    let config = ServerConfig {
        subprotocols: vec!["chat".to_owned()],
        deflate: Some(DeflateConfig::default()),
        ..ServerConfig::default()
    };
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let url = format!("ws://{}/", server.local_addr().unwrap());
    tokio::spawn(server.serve(|ws, request| async move { drop(converse(ws, request).await) }));
    url
}

async fn converse(mut ws: WebSocket, request: Request<()>) -> Result<(), Error> {
    match request.uri().path() {
        "/three" => {
            ws.feed("one").await?;
            ws.feed("two").await?;
            ws.send("three").await?;
        }
        "/request" => {
            let mut text = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            ws.send(text).await?;
        }
        "/hostile" => {
            ws.feed(Message::from(b"\0hi")).await?;
            ws.send("\x1b]0;title\x07").await?;
        }
        "/pinged" => {
            for _ in 0..3 {
                assert!(matches!(ws.recv_ref().await?, Some(Event::Ping(_))));
            }
            ws.send("enough").await?;
        }
        "/many" => {
            for number in 0..1000 {
                ws.feed(format!("message {number}.")).await?;
            }
            ws.start_close(CloseCode::NORMAL, "")?;
        }
        "/deaf" => pending().await,
        "/drop" => return Ok(()),
        path => {
            if let Some(code) = path.strip_prefix("/close/") {
                ws.start_close(CloseCode::new(code.parse().unwrap()), "bye")?;
            }
        }
    }
    while let Some((event, sender)) = ws.recv_split().await? {
        match event {
            Event::Text(text) => sender.send_text(text)?,
            Event::Binary(payload) => sender.send_binary(payload)?,
            _ => {}
        }
    }
    Ok(())
}

/// Runs the client to its end, with pipes for its streams.
fn client(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // It may have ended without reading everything.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        child.wait_with_output().unwrap()
    })
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// These are among the lines of stderr, in this order.
fn assert_notes(output: &Output, expected: &[&str]) {
    let notes = String::from_utf8_lossy(&output.stderr);
    let mut lines = notes.lines();
    for note in expected {
        assert!(lines.any(|line| line.starts_with(note.trim_end_matches(']'))), "{note} is not in\n{notes}");
    }
}
