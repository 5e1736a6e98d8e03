//! TLS by rustls.

use std::{fmt, io, sync::Arc};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, ServerConfig},
};
use ws_proto::tls::{DefaultClient, client_config, server_config, server_name};

use crate::Transport;

/// The server's side.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self(server_config(config).into())
    }

    pub(crate) async fn accept(&self, stream: Transport) -> io::Result<Transport> {
        Ok(Transport::Tls(Box::new(self.0.accept(stream).await?.into())))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// TLS of a client over another stream.
pub(crate) async fn connect(
    stream: Transport,
    host: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Transport> {
    let connector = TlsConnector::from(client_config(Arc::clone(config)));
    Ok(Transport::Tls(Box::new(connector.connect(server_name(host)?, stream).await?.into())))
}

/// A client that trusts the roots of the features.
#[cfg(feature = "rustls-native-roots")]
pub(crate) static DEFAULT_CLIENT: DefaultClient =
    DefaultClient::new(Some(|| rustls_native_certs::load_native_certs().certs));

/// A client that trusts the roots of the features.
#[cfg(not(feature = "rustls-native-roots"))]
pub(crate) static DEFAULT_CLIENT: DefaultClient = DefaultClient::new(None);
