//! TLS by rustls.

use std::{io, sync::Arc};

use tokio_rustls::{TlsAcceptor, TlsStream, rustls::ServerConfig};

use crate::Transport;

/// The server's side.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(crate) fn new(mut config: Arc<ServerConfig>) -> Self {
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![HTTP_1_1.to_vec()];
        }
        Self(config.into())
    }

    pub(crate) async fn accept(&self, stream: Transport) -> io::Result<Transport> {
        Ok(Transport::Tls(Box::new(TlsStream::Server(self.0.accept(stream).await?))))
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// The protocol by its name in ALPN (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";
