//! The example `tls`, as a process of its own.

mod process;

use std::{fs, sync::Arc};

use process::Process;
use ws_tokio::{
    CloseCode, Connector, Error, Message,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject},
    },
};

#[tokio::test]
async fn who_trusts_the_certificate_is_served() {
    let file = std::env::temp_dir().join(format!("ws-examples-tls-{}.pem", std::process::id()));
    let server = Process::start(
        env!("CARGO_BIN_EXE_tls"),
        &["--listen", "127.0.0.1:0", "--certificate", file.to_str().unwrap()],
    );
    let certificate = CertificateDer::from_pem_file(&file).unwrap();
    fs::remove_file(file).unwrap();

    let (mut ws, _response) =
        Connector::default().tls(trust([certificate])).connect(&server.url).await.unwrap();
    ws.send("hello").await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::from("hello")));
    ws.close(CloseCode::NORMAL, "").await.unwrap();

    let refused = Connector::default().tls(trust([])).connect(&server.url).await;
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
}

/// TLS that trusts these certificates alone.
fn trust(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
