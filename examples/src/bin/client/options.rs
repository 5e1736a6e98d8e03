//! The command line: what it asks for, and the connector that comes of it.

use std::{error::Error, num::NonZeroU64, path::PathBuf, sync::Arc, time::Duration};

use ws_examples::{Words, fail};
use ws_proto::drive::Connect;
use ws_tokio::{
    Connector, Tls, Tokio,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        sign::{CertifiedKey, SingleCertAndKey},
    },
};

use crate::NEVER;

/// What the command line asks for.
pub(crate) struct Options {
    pub(crate) url: String,
    pub(crate) connector: Connector,
    pub(crate) binary: bool,
    pub(crate) whole: bool,
    pub(crate) json: bool,
    pub(crate) ping: Option<Duration>,
    pub(crate) count: Option<NonZeroU64>,
    pub(crate) wait: Option<Duration>,
    pub(crate) history: Option<PathBuf>,
}

impl Options {
    /// Those this process was started with; ends it if they cannot be understood.
    pub(crate) fn of_process() -> Self {
        let mut words = Words::of_process();
        if words.flag("--help") {
            print!("{HELP}");
            std::process::exit(0);
        }
        let options = Self {
            connector: connector(&mut words),
            binary: words.flag("--binary"),
            whole: words.flag("--whole"),
            json: words.flag("--json"),
            ping: seconds(&mut words, "--ping"),
            count: words.option("--count"),
            wait: seconds(&mut words, "--wait"),
            history: words.option("--history"),
            url: words.positional().unwrap_or_else(|| fail(USAGE)),
        };
        words.end(USAGE);
        if options.ping == Some(Duration::ZERO) {
            fail("--ping 0: it takes longer");
        }
        options
    }
}

fn seconds(words: &mut Words, name: &str) -> Option<Duration> {
    let value: f64 = words.option(name)?;
    match Duration::try_from_secs_f64(value) {
        Ok(seconds) => Some(seconds.min(NEVER)),
        Err(error) => fail(&format!("{name} {value}: {error}")),
    }
}

fn connector(words: &mut Words) -> Connector {
    let mut connector = Connector::default();
    for field in words.all("--header") {
        let Some((name, value)) = field.split_once(':') else { fail(&format!("--header {field}: no colon")) };
        connector = connector.header(name.trim(), value.trim());
    }
    for name in words.all("--subprotocol") {
        connector = connector.subprotocol(name);
    }
    if let Some(origin) = words.option::<String>("--origin") {
        connector = connector.origin(&origin);
    }
    let ca: Option<String> = words.option("--ca");
    let client = (words.option::<String>("--client-cert"), words.option::<String>("--client-key"));
    match client {
        (None, None) if ca.is_none() => connector,
        (Some(_), None) | (None, Some(_)) => fail("--client-cert and --client-key need each other"),
        (certificate, key) => match tls(ca.as_deref(), certificate.as_deref().zip(key.as_deref())) {
            Ok(tls) => connector.tls(tls),
            Err(error) => fail(&format!("--ca, --client-cert, --client-key: {error}")),
        },
    }
}

/// TLS that trusts the certificates of a file, or those of the platform, and shows a certificate to servers that ask.
fn tls(ca: Option<&str>, client: Option<(&str, &str)>) -> Result<Tls, Box<dyn Error>> {
    let provider = Arc::new(ring::default_provider());
    let mut tls = match ca {
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file)? {
                roots.add(certificate?)?;
            }
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
            builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth()
        }
        None => ClientConfig::clone(&*Tokio::default_tls()?),
    };
    if let Some((certificates, key)) = client {
        let certificates = CertificateDer::pem_file_iter(certificates)?.collect::<Result<_, _>>()?;
        let key = CertifiedKey::from_der(certificates, PrivateKeyDer::from_pem_file(key)?, &provider)?;
        tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    }
    Ok(tls.into())
}

const USAGE: &str = "client [OPTION]... URL (more by client --help)";

const HELP: &str = "\
Sends what is typed to a WebSocket server, and prints what it sends.

usage: client [OPTION]... URL

The URL is one of ws:, wss: or ws+unix:/SOCKET:/PATH, as in
wss://user:password@example.com/chat.

  --header 'NAME: VALUE'  add a header field to the request (repeatable)
  --subprotocol NAME      offer a subprotocol (repeatable)
  --origin ORIGIN         name the origin, as browsers do
  --ca FILE               trust the certificates in FILE (PEM), and no others
  --client-cert FILE      show this certificate (PEM) to the server...
  --client-key FILE       ...with this key (PEM)
  --binary                send binary messages, not text
  --whole                 send all of stdin as one message, not a message a line
  --json                  lay out the text messages that are JSON
  --ping SECONDS          send pings this far apart, and show how long each takes
  --count N               end after N messages have come
  --wait SECONDS          listen for this long after the end of stdin
  --history FILE          remember there what was typed, for the arrow keys
  --help                  print this

A line '/ping TEXT' sends a ping, unless with --binary or --whole.

stdout has the messages and nothing else: text as a line, binary as it is. On a
terminal they have colours (unless NO_COLOR is set), binary is in hexadecimal,
and control characters are written out. All else goes to stderr.

The end of stdin closes the connection, and what the server sends before it
closes, too, is printed. With --wait, closing begins so many seconds later; with
--count, not before N messages have come; with both, it is a failure if the
seconds pass first. On a terminal, Ctrl-D or Ctrl-C ends the input; pressed
again, it closes without waiting, and once more, it ends at once.

Exit status:
    0  closed by 1000, 1001 or no code; or N messages have come
    1  no connection, or one that broke; a server that breaks the protocol;
       stdin that is not UTF-8
    2  the command line cannot be understood
    3  a time has passed: of --wait before N messages came, of connecting or
       closing (10 s), of a server that is silent (40 s)
    4  the server closed by another code, or before N messages came
  130  interrupted
";
