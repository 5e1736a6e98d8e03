//! Servers that speak TLS, with a certificate made for the test.

use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::*;
use crate::rt::ws::{
    Acceptor, Handle, Listener, Peer,
    rustls::{
        ClientConfig as TlsClient, RootCertStore, ServerConfig as TlsServer,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

#[test]
fn ws6_7_messages_come_back_by_tls_and_the_server_knows_it() {
    test(async {
        let acceptor = Acceptor::new(ServerConfig::default()).verify(|request, acceptance| async {
            let peer = request.extensions().get::<Peer>().unwrap();
            assert!(peer.is_secure && peer.address.is_some());
            assert_eq!(request.headers()["origin"], "https://example.com");
            Ok((request, acceptance))
        });
        let (server, certificate) = tls_server(acceptor).await;
        let address = server.local_addr().unwrap();
        let (handle, served) = serve_echo(server);
        let link = rt::connect_tls(address, client_config(certificate)).await.unwrap();
        let mut request = client_request(&format!("wss://{address}/")).unwrap();
        request.headers_mut().insert("origin", HeaderValue::from_static("https://example.com"));
        let (mut ws, _) = client(link, &request, &ClientConfig::default()).await.unwrap();
        converse(&mut ws, &short_messages()).await;
        converse(&mut ws, &[binary(1024 * 1024)]).await;
        assert_eq!(handle.clients().broadcast(&Prepared::new("to all")).sent, 1);
        assert_eq!(ws.recv().await.unwrap(), Some("to all".into()));
        handle.shutdown(CloseCode::GOING_AWAY, "", LIMIT).unwrap();
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_closed(&ws, 1001, "", true, Initiator::Peer);
        assert_eq!(served.await, 0);
    });
}

#[test]
fn client_that_is_sent_to_from_outside_over_tls_loses_nothing() {
    test(async {
        let (server, certificate) = tls_server(ServerConfig::default().into()).await;
        let address = server.local_addr().unwrap();
        let (handle, _served) = serve_echo(server);
        let link = rt::connect_tls(address, client_config(certificate)).await.unwrap();
        let request = client_request("wss://localhost/").unwrap();
        let (mut ws, _) = client(link, &request, &ClientConfig::default()).await.unwrap();
        converse(&mut ws, &["ready".into()]).await;
        // More than the system takes at once, while the owner waits.
        let member = handle.clients().iter().next().unwrap();
        let mut count = 0;
        while member.send(binary(100_000)).is_ok() {
            count += 1;
            assert!(count < 1000, "no end");
        }
        for _ in 0..count {
            assert!(ws.recv().await.unwrap() == Some(binary(100_000)));
        }
        converse_and_close(&mut ws, &short_messages()).await;
    });
}

#[test]
fn http_1_1_is_the_protocol_where_none_is_named() {
    test(async {
        for (named, offered, chosen) in [
            (&[][..], &["h2", "http/1.1"][..], Some("http/1.1")),
            (&[], &[], None),
            (&["x-own", "http/1.1"], &["http/1.1", "x-own"], Some("x-own")),
        ] {
            let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (mut tls, certificate) = server_config_of_tls();
            Arc::make_mut(&mut tls).alpn_protocols = names(named);
            let listener = Listener::from(rt::tcp_listener().await).with_tls(tls);
            let server = Server::new(listener, ServerConfig::default());
            let address = server.local_addr().unwrap();
            let (_handle, _served) = serve_echo(server);
            let mut config = client_config(certificate);
            Arc::make_mut(&mut config).alpn_protocols = names(offered);
            assert_eq!(rt::alpn(address, config).await.as_deref(), chosen.map(str::as_bytes));
        }
    });
}

#[test]
fn client_that_never_ends_its_tls_handshake_is_dropped_after_the_timeout() {
    test(async {
        let seen = Seen::default();
        let head = HeadLimits { timeout: Some(Duration::from_millis(100)), ..HeadLimits::default() };
        let config = ServerConfig { head, max_connections: Some(1), ..ServerConfig::default() };
        let (server, certificate) = tls_server(seen.watch(config)).await;
        let address = server.local_addr().unwrap();
        let (_handle, _served) = serve_echo(server);
        for start in [&b""[..], b"\x16\x03\x01"] {
            let mut silent = rt::connect(address).await;
            rt::write_all(&mut silent, start).await.unwrap();
            // Whether it ends or is reset, it is over.
            let _ = read_to_end(&mut silent).await;
            assert_eq!(seen.next().await, ["TimedOut"]);
        }
        // Its place is free again.
        let link = rt::connect_tls(address, client_config(certificate)).await.unwrap();
        let request = client_request("wss://localhost/").unwrap();
        let (mut ws, _) = client(link, &request, &ClientConfig::default()).await.unwrap();
        converse_and_close(&mut ws, &["served".into()]).await;
    });
}

#[test]
fn ws6_7_plain_http_to_a_port_of_tls_fails_and_others_are_served() {
    test(async {
        let seen = Seen::default();
        let (server, certificate) = tls_server(seen.watch(ServerConfig::default())).await;
        let address = server.local_addr().unwrap();
        let (_handle, _served) = serve_echo(server);
        let mut plain = rt::connect(address).await;
        rt::write_all(&mut plain, UPGRADE.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut plain).await.unwrap_or_default();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        assert_eq!(seen.next().await, ["InvalidData"]);
        assert_matches!(connect(&format!("ws://{address}/")).await, Err(_));

        let link = rt::connect_tls(address, client_config(certificate)).await.unwrap();
        let request = client_request("wss://localhost/").unwrap();
        let (mut ws, _) = client(link, &request, &ClientConfig::default()).await.unwrap();
        converse_and_close(&mut ws, &["served".into()]).await;
    });
}

// Helpers

async fn tls_server(acceptor: Acceptor) -> (Server, CertificateDer<'static>) {
    let (tls, certificate) = server_config_of_tls();
    let listener = Listener::from(rt::tcp_listener().await).with_tls(tls);
    (Server::new(listener, acceptor), certificate)
}

fn server_config_of_tls() -> (Arc<TlsServer>, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = TlsServer::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (config.into(), cert.der().clone())
}

/// Trusts this certificate alone.
fn client_config(certificate: CertificateDer<'static>) -> Arc<TlsClient> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let builder = TlsClient::builder_with_provider(default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth().into()
}

fn serve_echo(server: Server) -> (Handle, impl Future<Output = usize>) {
    let handle = server.handle();
    let served = rt::spawn(server.serve(|mut ws, _request| async move {
        let _ = echo(&mut ws).await;
    }));
    (handle, served)
}

/// The kinds of the errors of streams that [`Acceptor::on_failure`] has seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn watch(&self, config: ServerConfig) -> Acceptor {
        let seen = Arc::clone(&self.0);
        Acceptor::new(config).on_failure(move |failure| {
            if let Error::Io(error) = failure.error {
                assert!(failure.peer.address.is_some() && failure.peer.is_secure);
                seen.lock().unwrap().push(format!("{:?}", error.kind()));
            }
            None
        })
    }

    /// What it has seen, once there is something: the stream may end before.
    async fn next(&self) -> Vec<String> {
        loop {
            let seen = std::mem::take(&mut *self.0.lock().unwrap());
            if !seen.is_empty() {
                return seen;
            }
            rt::yield_now().await;
        }
    }
}
