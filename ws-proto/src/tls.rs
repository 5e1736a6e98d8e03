//! How rustls is set up for WebSockets. The records themselves are an adapter's to carry.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    error::Error,
    handshake::{ALPN, HandshakeError},
};

/// A client that trusts the roots of the platform, those of the feature `rustls-webpki-roots`, or both. It is made when
/// it is asked for, once.
///
/// ```
/// use ws_proto::tls::DefaultClient;
///
/// static DEFAULT: DefaultClient = DefaultClient::new(None);
/// assert_eq!(DEFAULT.get().is_ok(), cfg!(feature = "rustls-webpki-roots"));
/// ```
#[derive(Debug)]
pub struct DefaultClient {
    platform: Option<fn() -> Vec<CertificateDer<'static>>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl DefaultClient {
    /// With what reads the roots of the platform, where they are to be trusted.
    pub const fn new(platform: Option<fn() -> Vec<CertificateDer<'static>>>) -> Self {
        Self { platform, config: OnceLock::new() }
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Tls`] if there is nobody to trust.
    pub fn get(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        if let Some(platform) = self.platform {
            // Some platforms have certificates that are none; the others are as good.
            roots.add_parsable_certificates(platform());
        }
        #[cfg(feature = "rustls-webpki-roots")]
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if roots.is_empty() {
            let what = match self.platform {
                Some(_) => "the platform trusts no root certificate",
                None => {
                    "it needs one of the features rustls-native-roots and rustls-webpki-roots, \
                     or a configuration of its own"
                }
            };
            return Err(HandshakeError::Tls(what).into());
        }
        // Passed explicitly: the process may have another default, or none.
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.into()];
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

/// A client's configuration that names a protocol (ALPN): `http/1.1` where this one names none. A server that also
/// speaks HTTP/2 has to be told that this is none.
pub fn client_config(mut config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.into()];
    }
    config
}

/// A server's configuration that names a protocol (ALPN): `http/1.1` where this one names none.
pub fn server_config(mut config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols = vec![ALPN.into()];
    }
    config
}

/// Whom a client expects at the other end.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] if no certificate can have this name.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_without_roots_is_told_from_no_platform() {
        let none = DefaultClient::new(None);
        let empty = DefaultClient::new(Some(Vec::new));
        if cfg!(feature = "rustls-webpki-roots") {
            assert!(Arc::ptr_eq(&none.get().unwrap(), &none.get().unwrap()));
            assert_eq!(empty.get().unwrap().alpn_protocols, [ALPN]);
        } else {
            assert!(none.get().unwrap_err().to_string().contains("rustls-native-roots"));
            assert!(empty.get().unwrap_err().to_string().contains("the platform trusts no root"));
        }
    }

    #[test]
    fn protocol_is_named_where_none_is() {
        let provider = || Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let client = client_config(config.into());
        assert_eq!(client.alpn_protocols, [ALPN]);
        let mut own = (*client).clone();
        own.alpn_protocols = vec![b"x".to_vec()];
        assert_eq!(client_config(own.into()).alpn_protocols, [b"x"]);

        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let resolver = rustls::server::ResolvesServerCertUsingSni::new();
        let config = builder.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        let server = server_config(config.into());
        assert_eq!(server.alpn_protocols, [ALPN]);
        let mut own = (*server).clone();
        own.alpn_protocols = vec![b"x".to_vec()];
        assert_eq!(server_config(own.into()).alpn_protocols, [b"x"]);
    }

    #[test]
    fn name_is_one_that_a_certificate_can_have() {
        for host in ["example.com", "192.0.2.1", "2001:db8::1"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        assert_eq!(server_name("no name").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
