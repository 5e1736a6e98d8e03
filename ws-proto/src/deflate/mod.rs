//! permessage-deflate (RFC 7692): compression of whole messages.
//!
//! ```text
//! message ─► Deflater ─► output queue          input ─► Inflater ─► message buffer
//!                 ▲                                          ▲
//!                 └───────────── DeflatePool ────────────────┘
//! ```
//!
//! A state of zlib's exists only while it is needed: from the first compressed message on, or, where context takeover
//! is not agreed on, while one message is worked on.

mod codec;
mod negotiate;
mod pool;

pub(crate) use codec::{Deflater, Inflater};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use negotiate::Half;
pub(crate) use negotiate::{Agreement, accept, check_answer, offer};
pub use pool::DeflatePool;

/// Compression by permessage-deflate: what is asked for and granted (RFC 7692), and how messages are compressed.
///
/// Memory of zlib's states, measured in use:
///
/// | bits of the window | 9 | 10 | 11 | 12 | 13 | 14 | 15 |
/// | --- | --- | --- | --- | --- | --- | --- | --- |
/// | compressor, KiB | 200 | 202 | 204 | 206 | 221 | 252 | 316 |
/// | decompressor, KiB | 46 | 46 | 46 | 46 | 46 | 46 | 46 |
///
/// With context takeover a connection keeps its states between messages, as the other side may refer to what was
/// before; only a compressor that was not used through an interval of [`keepalive`](crate::Config::keepalive) is given
/// back. Without it states come from the [`pool`](Self::pool) and go back after each message, so that thousands of
/// connections share a few. Nothing is allocated before the first compressed message.
///
/// Compressing secrets together with text that an attacker chooses can betray the secrets by the length of the
/// result (RFC 7692 section 8): [`Sender::set_compression`](crate::Sender::set_compression) leaves single messages
/// out.
///
/// ```
/// use ws_proto::{DeflateConfig, ServerConfig};
///
/// // Little memory for many connections: no state between messages.
/// let deflate = DeflateConfig {
///     server_no_context_takeover: Some(true),
///     client_no_context_takeover: Some(true),
///     ..DeflateConfig::default()
/// };
/// let config = ServerConfig { deflate: Some(deflate), ..ServerConfig::default() };
/// # assert!(config.deflate.is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// Whether the server compresses each message on its own (section 7.1.1.1). `Some(true)`: a server does so, a
    /// client asks for it. `Some(false)`: a server declines offers that ask for it. Default `None`: as the client
    /// asks.
    pub server_no_context_takeover: Option<bool>,
    /// Whether the client compresses each message on its own (section 7.1.1.2). `Some(true)`: a server demands it, a
    /// client announces it. `Some(false)`: a client fails an answer that demands it. Default `None`: as the server
    /// answers.
    pub client_no_context_takeover: Option<bool>,
    /// The window of the server's compressor (section 7.1.2.1). Default [`WindowBits::Any`].
    pub server_max_window_bits: WindowBits,
    /// The window of the client's compressor (section 7.1.2.2). Default [`WindowBits::Any`].
    pub client_max_window_bits: WindowBits,
    /// Length in bytes below which a message is not compressed, where each is compressed on its own. Default 1024:
    /// shorter ones gain little. With context takeover every message is compressed.
    pub threshold: usize,
    /// zlib's level, 0 to 9; higher ones are taken as 9. Default 5: with context takeover it takes three quarters of
    /// the time of 6, for results one per cent longer.
    pub level: u32,
    /// Where states come from and go back to. Cloning a configuration shares its pool.
    pub pool: DeflatePool,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            server_no_context_takeover: None,
            client_no_context_takeover: None,
            server_max_window_bits: WindowBits::Any,
            client_max_window_bits: WindowBits::Any,
            threshold: 1024,
            level: 5,
            pool: DeflatePool::default(),
        }
    }
}

/// A limit of the window over which a compressor looks back, as the logarithm of its size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowBits {
    /// Up to the full 15, or what the other side asks for.
    #[default]
    Any,
    /// At most so many: 9 to 15; values outside are taken as the nearest. (RFC 7692 knows 8, too, which zlib cannot
    /// do.)
    Max(u8),
    /// The parameter is not spoken of: not offered, and an offer or answer with it not accepted.
    Never,
}

impl WindowBits {
    /// The limit, if there is one.
    fn limit(self) -> Option<u8> {
        match self {
            Self::Any | Self::Never => None,
            Self::Max(bits) => Some(bits.clamp(MIN_BITS, MAX_BITS)),
        }
    }
}

/// Smallest window that zlib compresses with.
const MIN_BITS: u8 = 9;
const MAX_BITS: u8 = 15;
