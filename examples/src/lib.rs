//! What the examples share: their command lines.

use std::{fmt::Display, str::FromStr, time::Duration};

use ws_proto::{Config, DeflateConfig, HeadLimits, OriginPolicy, ServerConfig};

/// The words of a command line, `--name value` among them.
pub struct Words(Vec<String>);

impl Words {
    /// The words this process was started with.
    pub fn of_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes every value of an option that may be repeated.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| self.option(name)).collect()
    }

    /// Takes an option that has no value, and says whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Takes the value of an option, `--name value` or `--name=value`; ends the process if it cannot be understood.
    pub fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let is_named = |word: &String| word.split('=').next() == Some(name);
        let at = self.0.iter().position(is_named)?;
        let value = match self.0.remove(at).split_once('=') {
            Some((_, value)) => value.to_owned(),
            None if at < self.0.len() => self.0.remove(at),
            None => fail(&format!("{name} needs a value")),
        };
        Some(value.parse().unwrap_or_else(|error| fail(&format!("{name} {value}: {error}"))))
    }

    /// Takes the next word that belongs to no option.
    pub fn positional(&mut self) -> Option<String> {
        let at = self.0.iter().position(|word| !word.starts_with("--"))?;
        Some(self.0.remove(at))
    }

    /// Takes the options of a server: those of [`SERVER_OPTIONS`].
    pub fn server_config(&mut self) -> ServerConfig {
        let seconds = |value: f64| if value > 0.0 { Duration::try_from_secs_f64(value).ok() } else { None };
        let mut config = ServerConfig {
            path: self.option("--path"),
            subprotocols: self.all("--subprotocol"),
            max_connections: self.option("--max-connections"),
            ..ServerConfig::default()
        };
        let origins = self.all("--origin");
        if !origins.is_empty() {
            config.origins = OriginPolicy::List(origins);
        }
        config.deflate = match self.option("--deflate").unwrap_or_else(|| "off".to_owned()).as_str() {
            "off" => None,
            "takeover" => Some(DeflateConfig::default()),
            "no-takeover" => Some(DeflateConfig {
                server_no_context_takeover: Some(true),
                client_no_context_takeover: Some(true),
                ..DeflateConfig::default()
            }),
            mode => fail(&format!("--deflate {mode}: off, takeover or no-takeover")),
        };
        let Config { max_message, max_frame, close_timeout, keepalive, .. } = &mut config.connection;
        if let Some(bytes) = self.option("--max-message") {
            (*max_message, *max_frame) = (bytes, bytes);
        }
        // 0 switches a deadline off.
        if let Some(value) = self.option("--close-timeout") {
            *close_timeout = seconds(value);
        }
        if let Some(value) = self.option("--keepalive") {
            *keepalive = seconds(value);
        }
        let HeadLimits { timeout, .. } = &mut config.head;
        if let Some(value) = self.option("--handshake-timeout") {
            *timeout = seconds(value);
        }
        config
    }

    /// Ends the process if a word was not understood.
    pub fn end(self, usage: &str) {
        if let Some(word) = self.0.first() {
            fail(&format!("{word} is not understood\nusage: {usage}"));
        }
    }
}

/// The runtime a program is asked to run on.
#[derive(Clone, Copy, Default)]
pub enum Runtime {
    /// That of ws-tokio.
    #[default]
    Tokio,
    /// That of ws-async-std.
    AsyncStd,
}

impl FromStr for Runtime {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "tokio" => Ok(Self::Tokio),
            "async-std" => Ok(Self::AsyncStd),
            _ => Err("tokio or async-std"),
        }
    }
}

/// Says why on the standard error and ends the process with status 2.
pub fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}

/// How the options of a server are spelled.
pub const SERVER_OPTIONS: &str = "[--path P] [--subprotocol NAME]... [--origin O]... [--max-connections COUNT] \
    [--max-message BYTES] [--handshake-timeout SECONDS] [--close-timeout SECONDS] [--keepalive SECONDS] \
    [--deflate off|takeover|no-takeover]";

/// The code in the README and in the guides: it compiles, and runs where it says nothing else.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/authentication.md")]
    struct Authentication;
    #[doc = include_str!("../../docs/backpressure.md")]
    struct Backpressure;
    #[doc = include_str!("../../docs/choosing-an-adapter.md")]
    struct ChoosingAnAdapter;
    #[doc = include_str!("../../docs/compression.md")]
    struct Compression;
    #[doc = include_str!("../../docs/from-tungstenite.md")]
    struct FromTungstenite;
    #[doc = include_str!("../../docs/from-ws.md")]
    struct FromWs;
    #[doc = include_str!("../../docs/nginx.md")]
    struct Nginx;
    #[doc = include_str!("../../docs/sans-io.md")]
    struct SansIo;
    #[doc = include_str!("../../docs/scaling.md")]
    struct Scaling;
    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
}
