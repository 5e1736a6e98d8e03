//! What each set of features says to `wss`. Each set is to be run.

use async_std::{
    net::TcpListener,
    task::{block_on, spawn},
};
use ws_async_std::{Error, HandshakeError};

#[test]
fn wss_is_possible_or_it_is_told_why_not() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://{}/", listener.local_addr().unwrap());
        // As far as TLS goes with who hangs up.
        spawn(async move { listener.accept().await.map(drop) });
        let error = ws_async_std::connect(&url).await.unwrap_err();
        let expected = if cfg!(feature = "rustls-webpki-roots") {
            assert!(matches!(error, Error::Io(_)), "{error}");
            return;
        } else if cfg!(feature = "rustls-native-roots") {
            // Whom this machine trusts is not known.
            return;
        } else if cfg!(feature = "rustls") {
            "no TLS: it needs one of the features rustls-native-roots and rustls-webpki-roots, or a configuration \
             of its own"
        } else {
            "no TLS: it needs the feature rustls"
        };
        assert!(matches!(error, Error::Handshake(HandshakeError::Tls(_))), "{error}");
        assert!(error.is_permanent());
        assert_eq!(error.to_string(), format!("handshake failed: {expected}"));
    });
}
