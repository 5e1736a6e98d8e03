//! Clients over TLS, with certificates made for the test.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::rt::ws::{
    ConnectPhase, Connector,
    rustls::{
        self, ClientConfig as TlsClient, RootCertStore, ServerConfig as TlsServer,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::{ResolvesServerCertUsingSni, WebPkiClientVerifier},
        sign::CertifiedKey,
    },
};

#[test]
fn ws6_8_tls_messages_come_back() {
    test(async {
        let ca = Ca::new();
        let (url, serving) = serve(ca.server(&["127.0.0.1"]), 1).await;
        let (mut ws, _response) = Connector::default().tls(ca.client()).connect(&url).await.unwrap();
        assert!(ws.get_ref().is_secure());
        assert!(ws.get_ref().peer_addr().is_some());
        converse(&mut ws, &short_messages()).await;
        converse_and_close(&mut ws, &[binary(5 * 1024 * 1024)]).await;
        assert!(ws.closed().unwrap().clean);
        serving.await;
    });
}

#[test]
fn ws6_8_tls_http_1_1_is_picked_and_the_name_is_sent() {
    test(async {
        let ca = Ca::new();
        for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
            let (certificates, key) = ca.issue(&["localhost"]);
            let certified = CertifiedKey::from_der(certificates, key, &provider()).unwrap();
            let mut by_name = ResolvesServerCertUsingSni::new();
            by_name.add("localhost", certified).unwrap();
            let mut config = server_builder().with_no_client_auth().with_cert_resolver(Arc::new(by_name));
            config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (url, serving) = serve(config.into(), 1).await;
            let url = url.replace("127.0.0.1", "localhost");
            let (mut ws, _response) = Connector::default().tls(ca.client()).connect(&url).await.unwrap();
            let rt::ws::Transport::Tls(stream) = ws.get_ref() else { panic!("TLS") };
            let picked = stream.get_ref().1.alpn_protocol();
            assert_eq!(picked, (!alpn.is_empty()).then_some(&b"http/1.1"[..]));
            ws.close(CloseCode::NORMAL, "").await.unwrap();
            serving.await;
        }
    });
}

#[test]
fn ws6_8_tls_own_alpn_is_kept() {
    test(async {
        let ca = Ca::new();
        let mut server = Arc::unwrap_or_clone(ca.server(&["127.0.0.1"]));
        let mut client = Arc::unwrap_or_clone(ca.client());
        server.alpn_protocols = vec![b"http/1.1".into(), b"x-own".into()];
        client.alpn_protocols = vec![b"x-own".into()];
        let (url, serving) = serve(server.into(), 1).await;
        let (mut ws, _response) = Connector::default().tls(client).connect(&url).await.unwrap();
        let rt::ws::Transport::Tls(stream) = ws.get_ref() else { panic!("TLS") };
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"x-own"[..]));
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        serving.await;
    });
}

#[test]
fn ws6_8_tls_servers_that_nobody_vouches_for_are_refused() {
    test(async {
        let (ca, other) = (Ca::new(), Ca::named("other"));
        for (server, client, expected) in [
            (ca.server(&["127.0.0.1"]), Some(other.client()), "UnknownIssuer"),
            (ca.server(&["example.com"]), Some(ca.client()), "not valid for name"),
            // The default trusts no certificate of a test, if it trusts anybody.
            (ca.server(&["127.0.0.1"]), None, ""),
        ] {
            let (url, serving) = serve(server, 0).await;
            let connector = Connector::default();
            let connector = match client {
                Some(client) => connector.tls(client),
                None => connector,
            };
            let error = connector.connect(&url).await.unwrap_err();
            println!("{error}");
            match &error {
                Error::Io(error) => {
                    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                    assert_matches!(inner, Some(rustls::Error::InvalidCertificate(_)));
                    assert!(error.to_string().contains(expected), "{error}");
                }
                error => assert_matches!(error, Error::Handshake(HandshakeError::Tls(_))),
            }
            drop(serving);
        }
    });
}

#[test]
fn ws6_8_tls_client_shows_its_certificate() {
    test(async {
        let ca = Ca::new();
        let roots = Arc::new(ca.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
        let (certificates, key) = ca.issue(&["127.0.0.1"]);
        let server =
            server_builder().with_client_cert_verifier(verifier).with_single_cert(certificates, key).unwrap();
        let server = Arc::new(server);

        let (url, serving) = serve(Arc::clone(&server), 1).await;
        let (certificates, key) = ca.issue(&["client"]);
        let client = ca.client_builder().with_client_auth_cert(certificates, key).unwrap();
        let (mut ws, _response) = Connector::default().tls(client).connect(&url).await.unwrap();
        converse_and_close(&mut ws, &["it is me".into()]).await;
        serving.await;

        // Without one. The server says so after the client's handshake is over.
        let (url, _serving) = serve(server, 0).await;
        let error = Connector::default().tls(ca.client()).connect(&url).await.unwrap_err();
        println!("{error}");
        assert_matches!(error, Error::Io(_));
    });
}

#[test]
fn ws6_8_tls_ws_to_a_port_of_tls_fails() {
    test(async {
        let ca = Ca::new();
        let (url, _serving) = serve(ca.server(&["127.0.0.1"]), 0).await;
        let error = connect(&url.replace("wss", "ws")).await.unwrap_err();
        println!("{error}");
        assert_matches!(
            error,
            Error::Handshake(HandshakeError::Malformed(_) | HandshakeError::Eof) | Error::Io(_)
        );
    });
}

#[test]
fn ws6_8_tls_wss_to_a_plain_port_fails() {
    test(async {
        let ca = Ca::new();
        let listener = rt::Listener::bind().await;
        let url = format!("wss://{}/", listener.address());
        let serving = rt::spawn(async move { accept(listener.accept().await).await });
        let error = Connector::default().tls(ca.client()).connect(&url).await.unwrap_err();
        assert_matches!(error, Error::Io(_));
        assert_matches!(handshake_error(serving.await), HandshakeError::Malformed(_));
    });
}

#[test]
fn host_that_no_certificate_can_have_is_refused() {
    test(async {
        let ca = Ca::new();
        let listener = rt::Listener::bind().await;
        let stream = rt::tcp_transport(listener.address()).await;
        let request = client_request("wss://under!score/").unwrap();
        let refused = Connector::default().tls(ca.client()).connect_over(stream, request).await;
        assert_matches!(refused, Err(Error::Io(error)) if error.kind() == io::ErrorKind::InvalidInput);
    });
}

#[test]
fn tls_that_takes_too_long_is_named() {
    timed(async {
        let ca = Ca::new();
        let listener = rt::Listener::bind().await;
        let connector = Connector::default().tls(ca.client()).timeout(Some(10 * SECOND));
        let start = rt::now();
        let error = handshake_error(connector.connect(&format!("wss://{}/", listener.address())).await);
        assert_matches!(error, HandshakeError::ConnectTimeout(ConnectPhase::Tls));
        assert_eq!(error.to_string(), "the TLS handshake was not complete in time");
        assert_elapsed(start, 10);
    });
}

#[test]
fn tls_over_a_stream_of_ones_own() {
    test(async {
        let ca = Ca::new();
        let (url, serving) = serve(ca.server(&["server.example"]), 1).await;
        let address = url.strip_prefix("wss://").unwrap().strip_suffix('/').unwrap();
        let stream = rt::tcp_transport(address.parse().unwrap()).await;
        let request = client_request("wss://server.example/").unwrap();
        let connector = Connector::default().tls(ca.client());
        let (mut ws, _response) = connector.connect_over(stream, request).await.unwrap();
        assert!(ws.get_ref().is_secure());
        converse_and_close(&mut ws, &short_messages()).await;
        serving.await;
    });
}

#[test]
fn ws6_8_redirects_that_leave_tls_drop_credentials_and_keep_the_host() {
    test(async {
        let ca = Ca::new();
        let config = ca.server(&["127.0.0.1"]);
        let listener = rt::Listener::bind().await;
        let address = listener.address();
        let serving = rt::spawn(async move {
            let mut link = rt::accept_tls(listener.accept().await, config).await.unwrap();
            let before = read_head(&mut link).await;
            let answer = format!("HTTP/1.1 302 x\r\nlocation: ws://{address}/b\r\n\r\n");
            rt::write_all(&mut link, answer.as_bytes()).await.unwrap();
            let mut link = listener.accept().await;
            let after = read_head(&mut link).await;
            rt::write_all(&mut link, answer_to(&after).as_bytes()).await.unwrap();
            (before.to_ascii_lowercase(), after.to_ascii_lowercase())
        });
        let connector =
            Connector::default().basic_auth("a", "b").header("cookie", "c").header("host", "virtual");
        let connector = connector.header("x-kept", "d").tls(ca.client()).redirects(1);
        let (ws, _response) = connector.connect(&format!("wss://{address}/a")).await.unwrap();
        assert!(!ws.get_ref().is_secure());
        let (before, after) = serving.await;
        for field in ["\r\nauthorization: ", "\r\ncookie: "] {
            assert!(before.contains(field) && !after.contains(field), "{before}{after}");
        }
        for field in ["\r\nhost: virtual\r\n", "\r\nx-kept: d\r\n"] {
            assert!(before.contains(field) && after.contains(field), "{before}{after}");
        }
    });
}

#[test]
fn tls_through_proxies() {
    test(async {
        let ca = Ca::new();
        for scheme in ["http", "https"] {
            let (proxy, server) = (ca.server(&["127.0.0.1"]), ca.server(&["server.invalid"]));
            let listener = rt::Listener::bind().await;
            let proxy_url = format!("{scheme}://{}", listener.address());
            let serving = rt::spawn(async move {
                let mut link = listener.accept().await;
                if scheme == "https" {
                    link = rt::accept_tls(link, proxy).await.unwrap();
                }
                let head = read_head(&mut link).await;
                assert!(head.starts_with("CONNECT server.invalid:443 HTTP/1.1\r\n"), "{head}");
                rt::write_all(&mut link, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let link = rt::accept_tls(link, server).await.unwrap();
                let _ = echo(&mut accept(link).await.unwrap().0).await;
            });
            let connector = Connector::default().tls(ca.client()).proxy(&proxy_url);
            let (mut ws, _response) = connector.connect("wss://server.invalid/").await.unwrap();
            converse_and_close(&mut ws, &short_messages()).await;
            serving.await;
        }
    });
}

#[test]
fn cancelled_attempts_by_tls_leave_nothing_behind() {
    one_thread(async || {
        let ca = Ca::new();
        let (url, serving) = serve(ca.server(&["127.0.0.1"]), 1).await;
        let connector = Connector::default().tls(ca.client());
        at_every_poll(async |polls| match cancel_after(polls, connector.connect(&url)).await {
            None => false,
            Some(connected) => {
                converse_and_close(&mut connected.unwrap().0, &short_messages()).await;
                true
            }
        })
        .await;
        serving.await;
    });
}

// Helpers

/// Echoes by TLS until so many connections were closed cleanly; for ever if that is 0.
async fn serve(config: Arc<TlsServer>, count: usize) -> (String, impl Future<Output = ()>) {
    let listener = rt::Listener::bind().await;
    let url = format!("wss://{}/", listener.address());
    let serving = rt::spawn(async move {
        let mut served = 0;
        while served < count || count == 0 {
            let Ok(link) = rt::accept_tls(listener.accept().await, Arc::clone(&config)).await else {
                continue;
            };
            if let Ok((mut ws, _request)) = accept(link).await {
                served += usize::from(echo(&mut ws).await.is_ok());
            }
        }
    });
    (url, serving)
}

/// Issues certificates that only its clients trust.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        Self::named("test")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, names: &[&str]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn server(&self, names: &[&str]) -> Arc<TlsServer> {
        let (certificates, key) = self.issue(names);
        server_builder().with_no_client_auth().with_single_cert(certificates, key).unwrap().into()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn client_builder(&self) -> rustls::ConfigBuilder<TlsClient, rustls::client::WantsClientCert> {
        let builder =
            TlsClient::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(self.roots())
    }

    fn client(&self) -> Arc<TlsClient> {
        self.client_builder().with_no_client_auth().into()
    }
}

fn server_builder() -> rustls::ConfigBuilder<TlsServer, rustls::WantsVerifier> {
    TlsServer::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}
