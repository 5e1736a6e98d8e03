//! The extensions of a handshake (RFC 6455 section 9): permessage-deflate, or none without the feature `deflate`.

#[cfg(feature = "deflate")]
pub(super) use with_deflate::{Accepted, accept, check, offer};
#[cfg(not(feature = "deflate"))]
pub(super) use without::{Accepted, accept, check, offer};

#[cfg(feature = "deflate")]
mod with_deflate {
    use crate::{
        DeflateConfig,
        config::{ClientConfig, Role, ServerConfig},
        connection::Connection,
        deflate::{self, Agreement, Deflater, Inflater},
        handshake::{error::HandshakeError, list::Extension},
    };

    /// What was agreed on, and the server's field that says so.
    #[derive(Clone, Debug)]
    pub(in crate::handshake) struct Accepted {
        agreement: Agreement,
        field: String,
        config: DeflateConfig,
    }

    impl Accepted {
        pub(in crate::handshake) fn field(&self) -> &str {
            &self.field
        }

        /// Has a connection compress as agreed.
        pub(in crate::handshake) fn apply(self, connection: Connection) -> Connection {
            let Agreement { server, client } = self.agreement;
            let (own, peer) = match connection.role() {
                Role::Server => (server, client),
                Role::Client => (client, server),
            };
            let (deflater, inflater) = (Deflater::new(own, &self.config), Inflater::new(peer, &self.config));
            connection.with_deflate(deflater, Some(inflater))
        }
    }

    /// Server: chooses among the client's offers.
    pub(in crate::handshake) fn accept(offers: &[Extension], config: &ServerConfig) -> Option<Accepted> {
        let config = config.deflate.as_ref()?;
        let (agreement, field) = deflate::accept(offers, config)?;
        Some(Accepted { agreement, field, config: config.clone() })
    }

    /// Client: the field that offers.
    pub(in crate::handshake) fn offer(config: &ClientConfig) -> Option<String> {
        config.deflate.as_ref().map(deflate::offer)
    }

    /// Client: judges what the server chose.
    pub(in crate::handshake) fn check(
        chosen: Vec<Extension>,
        config: &ClientConfig,
    ) -> Result<Option<Accepted>, HandshakeError> {
        let mut chosen = chosen.into_iter();
        let Some(first) = chosen.next() else { return Ok(None) };
        let config = config.deflate.as_ref();
        let agreement = config.and_then(|config| Some((deflate::check_answer(&first, config)?, config)));
        match (agreement, chosen.next()) {
            (Some((agreement, config)), None) => {
                Ok(Some(Accepted { agreement, field: String::new(), config: config.clone() }))
            }
            (None, _) => Err(HandshakeError::Extension(first.name)),
            (Some(_), Some(second)) => Err(HandshakeError::Extension(second.name)),
        }
    }
}

#[cfg(not(feature = "deflate"))]
mod without {
    use crate::{
        config::{ClientConfig, ServerConfig},
        connection::Connection,
        handshake::{error::HandshakeError, list::Extension},
    };

    #[derive(Clone, Debug)]
    pub(in crate::handshake) enum Accepted {}

    impl Accepted {
        pub(in crate::handshake) fn field(&self) -> &str {
            match *self {}
        }

        pub(in crate::handshake) fn apply(self, _: Connection) -> Connection {
            match self {}
        }
    }

    pub(in crate::handshake) fn accept(_: &[Extension], _: &ServerConfig) -> Option<Accepted> {
        None
    }

    pub(in crate::handshake) fn offer(_: &ClientConfig) -> Option<String> {
        None
    }

    pub(in crate::handshake) fn check(
        chosen: Vec<Extension>,
        _: &ClientConfig,
    ) -> Result<Option<Accepted>, HandshakeError> {
        match chosen.into_iter().next() {
            Some(extension) => Err(HandshakeError::Extension(extension.name)),
            None => Ok(None),
        }
    }
}
