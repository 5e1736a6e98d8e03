//! An extractor for axum 0.8: [`WebSocketUpgrade`].

use std::{error, fmt, sync::Arc};

use axum_core::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use ws_proto::{
    Error, HandshakeError, ServerConfig,
    handshake::Acceptance,
    http::{Request, request::Parts},
};

use crate::{http, upgrade};

/// The WebSocket that a handler gets.
pub type WebSocket = crate::WebSocket<http::Upgraded>;

/// A request that asks for a WebSocket; others are answered by the [`Rejection`].
///
/// Over HTTP/1.1 it is a GET, over HTTP/2 (with the feature `http2`) a CONNECT, so the route takes
/// [any](https://docs.rs/axum/latest/axum/routing/fn.any.html) method.
///
/// ```
/// use std::sync::Arc;
/// use axum::{Router, extract::State, response::Response, routing::any};
/// use ws_tokio::{OriginPolicy, ServerConfig, axum::{WebSocket, WebSocketUpgrade}};
///
/// async fn chat(ws: WebSocketUpgrade, State(config): State<Arc<ServerConfig>>) -> Response {
///     ws.config(config).subprotocols(["chat"]).on_upgrade(echo)
/// }
///
/// async fn echo(mut ws: WebSocket) {
///     while let Ok(Some(message)) = ws.recv().await {
///         if ws.send(message).await.is_err() {
///             break;
///         }
///     }
/// }
///
/// let config = ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() };
/// let app: Router = Router::new().route("/chat", any(chat)).with_state(Arc::new(config));
/// ```
#[must_use = "the client waits for the response of `on_upgrade`"]
pub struct WebSocketUpgrade {
    request: Request<()>,
    config: Arc<ServerConfig>,
    acceptance: Result<Acceptance, HandshakeError>,
    on_upgrade: OnUpgrade,
    on_failed_upgrade: Box<dyn FnOnce(Error) + Send>,
}

impl WebSocketUpgrade {
    /// Judges the request by this configuration, and has the WebSocket follow it. Without this it is the default one.
    ///
    /// What it does not let in is answered by [`on_upgrade`](Self::on_upgrade). The listener is axum's, and a set of
    /// [`Clients`](crate::Clients) has a policy of its own: `head`, `backlog`, `max_connections` and `slow_consumer`
    /// have no effect here.
    pub fn config(mut self, config: impl Into<Arc<ServerConfig>>) -> Self {
        self.config = config.into();
        self.acceptance = http::check(&self.request, &self.config);
        self
    }

    /// Serves these subprotocols, in place of [`ServerConfig::subprotocols`]. The one that is chosen is known to
    /// [`WebSocket::subprotocol`](ws_proto::drive::WebSocket::subprotocol).
    pub fn subprotocols<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut config = Arc::unwrap_or_clone(std::mem::take(&mut self.config));
        config.subprotocols = names.into_iter().map(Into::into).collect();
        self.config(config)
    }

    /// What the answer will be: to see what the client offered, to choose among it, or to add header fields.
    ///
    /// It begins anew with [`config`](Self::config) and [`subprotocols`](Self::subprotocols).
    ///
    /// # Errors
    ///
    /// Why [`on_upgrade`](Self::on_upgrade) will refuse.
    pub fn acceptance(&mut self) -> Result<&mut Acceptance, &HandshakeError> {
        self.acceptance.as_mut().map_err(|error| &*error)
    }

    /// Calls this, with the reason, if the callback of [`on_upgrade`](Self::on_upgrade) will not be called: because the
    /// configuration does not let the request in, or the client vanished before it had the answer.
    pub fn on_failed_upgrade(mut self, callback: impl FnOnce(Error) + Send + 'static) -> Self {
        self.on_failed_upgrade = Box::new(callback);
        self
    }

    /// The response that accepts; once it is sent, a task of its own calls back with the WebSocket. Or the response
    /// that refuses, if the configuration does not let the request in.
    pub fn on_upgrade<F>(self, callback: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let on_failed_upgrade = self.on_failed_upgrade;
        match self.acceptance {
            Ok(acceptance) => {
                let (response, upgrade) = upgrade::accept(self.on_upgrade, acceptance, self.config);
                tokio::spawn(async move {
                    match upgrade.await {
                        Ok(ws) => callback(ws).await,
                        Err(error) => on_failed_upgrade(error),
                    }
                });
                response
            }
            Err(error) => {
                let response = http::refusal(&error);
                on_failed_upgrade(error.into());
                response
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>();
        let request = Request::from_parts(parts.clone(), ());
        let config = Arc::<ServerConfig>::default();
        let acceptance = http::check(&request, &config);
        match (&acceptance, on_upgrade) {
            // Another configuration may take another version.
            (Ok(_) | Err(HandshakeError::Version { .. }), Some(on_upgrade)) => {
                let on_failed_upgrade = Box::new(drop);
                Ok(Self { request, config, acceptance, on_upgrade, on_failed_upgrade })
            }
            // The server is none that upgrades.
            (Ok(_), None) => Err(Rejection(HandshakeError::NotUpgrade)),
            (Err(error), _) => Err(Rejection(error.clone())),
        }
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade").field("acceptance", &self.acceptance).finish_non_exhaustive()
    }
}

/// The request asks for no WebSocket, or breaks a rule. As a response it has the status of the error, the fields that
/// belong to it and a line that says why.
#[derive(Clone, Debug)]
pub struct Rejection(pub HandshakeError);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        http::refusal(&self.0)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for Rejection {}
