//! TLS by rustls.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};
use ws_proto::{Error, HandshakeError, handshake::ALPN};

use crate::Transport;

/// The server's side.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(crate) fn new(mut config: Arc<ServerConfig>) -> Self {
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.into()];
        }
        Self(config.into())
    }

    pub(crate) async fn accept(&self, stream: Transport) -> io::Result<Transport> {
        Ok(Transport::Tls(Box::new(self.0.accept(stream).await?.into())))
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// TLS of a client over another stream.
pub(crate) async fn connect(
    stream: Transport,
    host: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Transport> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error: InvalidDnsNameError| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connector = TlsConnector::from(Arc::clone(config));
    // A server that also speaks HTTP/2 has to be told that this is none; who sets ALPN knows better.
    let alpn =
        if config.alpn_protocols.is_empty() { vec![ALPN.into()] } else { config.alpn_protocols.clone() };
    let stream = connector.with_alpn(alpn).connect(name, stream).await?;
    Ok(Transport::Tls(Box::new(stream.into())))
}

/// A client that trusts the roots of the features `rustls-native-roots` and `rustls-webpki-roots`, made once.
pub(crate) fn default_client() -> Result<Arc<ClientConfig>, Error> {
    static DEFAULT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = DEFAULT.get() {
        return Ok(Arc::clone(config));
    }
    let roots = roots();
    if roots.is_empty() {
        let what = if cfg!(any(feature = "rustls-native-roots", feature = "rustls-webpki-roots")) {
            "the platform trusts no root certificate"
        } else {
            "it needs one of the features rustls-native-roots and rustls-webpki-roots, or a configuration of its own"
        };
        return Err(HandshakeError::Tls(what).into());
    }
    // Passed explicitly: the process may have another default, or none.
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::clone(DEFAULT.get_or_init(|| Arc::new(config))))
}

#[cfg_attr(
    not(any(feature = "rustls-native-roots", feature = "rustls-webpki-roots")),
    expect(unused_mut, reason = "without those features there are no roots to add")
)]
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    #[cfg(feature = "rustls-native-roots")]
    // Some platforms have certificates that are none; the others are as good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    #[cfg(feature = "rustls-webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}
