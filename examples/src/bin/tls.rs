//! An echo server over TLS, with a certificate that it makes itself for `localhost`.
//!
//!     cargo run --release --bin tls -- --listen 127.0.0.1:9443 --certificate /tmp/localhost.pem
//!
//! It shows a listener that speaks TLS by rustls. The certificate is written to a file, for clients to trust (`client
//! --ca FILE`, or as in `examples/tests/tls.rs`); a server in earnest reads its certificate and key from files instead.

use std::{error::Error, fs, sync::Arc};

use rcgen::CertifiedKey;
use ws_examples::{Words, fail};
use ws_tokio::{
    Listener, Server, ServerConfig,
    rustls::{self, crypto::ring, pki_types::PrivateKeyDer},
};

const USAGE: &str = "tls [--listen ADDR] --certificate FILE";

#[tokio::main]
async fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9443".to_owned());
    let file: String = words.option("--certificate").unwrap_or_else(|| fail(USAGE));
    words.end(USAGE);
    if let Err(error) = run(&listen, &file).await {
        fail(&format!("{listen}: {error}"));
    }
}

async fn run(listen: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(file, cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;

    let config = ServerConfig::default();
    let listener = Listener::bind(listen, config.backlog).await?.with_tls(tls);
    let server = Server::new(listener, config);
    println!("listening on wss://localhost:{}/", server.local_addr()?.port());
    server
        .serve(|mut ws, _request| async move {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            Ok::<(), ws_tokio::Error>(())
        })
        .await;
    Ok(())
}
