//! What both sides agree on (RFC 7692 sections 5 and 7.1): offers, the choice among them, the answer.

use super::{DeflateConfig, MAX_BITS, MIN_BITS, WindowBits};
use crate::handshake::list::Extension;

/// What a connection compresses and inflates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) server: Half,
    pub(crate) client: Half,
}

/// How one side compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) takeover: bool,
    /// The largest window it may use.
    pub(crate) bits: u8,
}

/// The parameters of an offer or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientBits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientBits {
    /// The client can limit its window, if asked to.
    Able,
    Limit(u8),
}

impl Params {
    /// Reads the parameters; `None` if one is unknown, repeated or has no fitting value (section 7.1).
    fn parse(extension: &Extension) -> Option<Self> {
        let mut params = Self::default();
        for (name, value) in &extension.params {
            let value = value.as_deref();
            let repeated = match name.as_str() {
                "server_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut params.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut params.client_no_context_takeover, true)
                }
                "server_max_window_bits" => params.server_max_window_bits.replace(bits(value?)?).is_some(),
                "client_max_window_bits" => {
                    let bits = match value {
                        Some(value) => ClientBits::Limit(bits(value)?),
                        None => ClientBits::Able,
                    };
                    params.client_max_window_bits.replace(bits).is_some()
                }
                _ => return None,
            };
            if repeated {
                return None;
            }
        }
        Some(params)
    }

    fn format(&self) -> String {
        let mut text = NAME.to_owned();
        if self.server_no_context_takeover {
            text.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            text.push_str("; client_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            text.push_str(&format!("; server_max_window_bits={bits}"));
        }
        match self.client_max_window_bits {
            Some(ClientBits::Able) => text.push_str("; client_max_window_bits"),
            Some(ClientBits::Limit(bits)) => text.push_str(&format!("; client_max_window_bits={bits}")),
            None => {}
        }
        text
    }

    /// What an answer with these parameters amounts to.
    fn agreement(&self) -> Agreement {
        let client_bits = match self.client_max_window_bits {
            Some(ClientBits::Limit(bits)) => bits,
            Some(ClientBits::Able) | None => MAX_BITS,
        };
        let server_bits = self.server_max_window_bits.unwrap_or(MAX_BITS);
        Agreement {
            server: Half { takeover: !self.server_no_context_takeover, bits: server_bits },
            client: Half { takeover: !self.client_no_context_takeover, bits: client_bits },
        }
    }
}

/// A decimal 8 to 15 without leading zeros.
fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=MAX_BITS).contains(bits))?;
    (bits.to_string() == value).then_some(bits)
}

/// Server: chooses the first offer that can be kept; `None` goes on without compression (section 5.1). Gives the
/// answer's field beside the agreement.
pub(crate) fn accept(offers: &[Extension], config: &DeflateConfig) -> Option<(Agreement, String)> {
    let offers = offers.iter().filter(|extension| extension.name.eq_ignore_ascii_case(NAME));
    let answer = offers.filter_map(Params::parse).find_map(|offer| answer(offer, config))?;
    Some((answer.agreement(), answer.format()))
}

/// Section 7.1: the answer to one offer, unless it asks for what is not granted.
fn answer(offer: Params, config: &DeflateConfig) -> Option<Params> {
    let mut answer = offer;
    match config.server_no_context_takeover {
        Some(false) if offer.server_no_context_takeover => return None,
        Some(true) => answer.server_no_context_takeover = true,
        Some(false) | None => {}
    }
    answer.client_no_context_takeover |= config.client_no_context_takeover == Some(true);
    match (offer.server_max_window_bits, config.server_max_window_bits) {
        (Some(_), WindowBits::Never) => return None,
        // zlib cannot compress with a window of 8 bits.
        (Some(bits), _) if bits < MIN_BITS => return None,
        (Some(bits), WindowBits::Max(_)) if Some(bits) < config.server_max_window_bits.limit() => {
            return None;
        }
        (_, WindowBits::Max(_)) => answer.server_max_window_bits = config.server_max_window_bits.limit(),
        (_, WindowBits::Any | WindowBits::Never) => {}
    }
    answer.client_max_window_bits =
        match (offer.client_max_window_bits, config.client_max_window_bits.limit()) {
            // The client cannot limit its window, or not to what is demanded.
            (None, Some(_)) => return None,
            (Some(ClientBits::Limit(offered)), Some(limit)) if offered < limit => return None,
            (Some(_), Some(limit)) => Some(ClientBits::Limit(limit)),
            (Some(ClientBits::Limit(_)), None) if config.client_max_window_bits == WindowBits::Any => {
                offer.client_max_window_bits
            }
            (_, None) => None,
        };
    Some(answer)
}

/// Client: the offer's field.
pub(crate) fn offer(config: &DeflateConfig) -> String {
    offered(config).format()
}

fn offered(config: &DeflateConfig) -> Params {
    Params {
        server_no_context_takeover: config.server_no_context_takeover == Some(true),
        client_no_context_takeover: config.client_no_context_takeover == Some(true),
        server_max_window_bits: config.server_max_window_bits.limit(),
        client_max_window_bits: match config.client_max_window_bits {
            WindowBits::Any => Some(ClientBits::Able),
            WindowBits::Max(_) => config.client_max_window_bits.limit().map(ClientBits::Limit),
            WindowBits::Never => None,
        },
    }
}

/// Client: judges the server's choice against the offer; `None` if it does not fit it (section 5.1).
pub(crate) fn check_answer(extension: &Extension, config: &DeflateConfig) -> Option<Agreement> {
    if !extension.name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let offer = offered(config);
    let answer = Params::parse(extension)?;
    let agreement = answer.agreement();
    let fits = (answer.server_no_context_takeover || !offer.server_no_context_takeover)
        && !(answer.client_no_context_takeover && config.client_no_context_takeover == Some(false))
        && match (offer.server_max_window_bits, answer.server_max_window_bits) {
            (Some(offered), answered) => answered.is_some_and(|answered| answered <= offered),
            (None, Some(_)) => config.server_max_window_bits != WindowBits::Never,
            (None, None) => true,
        }
        && match (offer.client_max_window_bits, answer.client_max_window_bits) {
            (_, Some(ClientBits::Able)) | (None, Some(_)) => false,
            (Some(ClientBits::Limit(offered)), Some(ClientBits::Limit(answered))) => answered <= offered,
            (_, None) | (Some(ClientBits::Able), Some(ClientBits::Limit(_))) => true,
        };
    if !fits {
        return None;
    }
    // What this side announced it keeps, whether or not the answer repeats it.
    let client = Half {
        takeover: agreement.client.takeover && !offer.client_no_context_takeover,
        bits: agreement.client.bits.min(config.client_max_window_bits.limit().unwrap_or(MAX_BITS)),
    };
    Some(Agreement { client, ..agreement })
}

const NAME: &str = "permessage-deflate";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

    use super::*;
    use crate::handshake::list;

    fn parse(field: &str) -> Vec<Extension> {
        let headers: HeaderMap =
            [(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(field).unwrap())].into_iter().collect();
        list::extensions(&headers, &SEC_WEBSOCKET_EXTENSIONS).unwrap()
    }

    fn answered(offers: &str, config: &DeflateConfig) -> Option<String> {
        accept(&parse(offers), config).map(|(_, field)| field)
    }

    #[test]
    fn s7_1_offers_that_are_malformed_are_declined() {
        for bad in [
            "unknown",
            "server_no_context_takeover; server_no_context_takeover",
            "server_no_context_takeover=1",
            "client_no_context_takeover=1",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits; client_max_window_bits",
        ] {
            let offer = format!("permessage-deflate; {bad}");
            assert_eq!(answered(&offer, &DeflateConfig::default()), None, "{bad}");
            let with_fallback = format!("{offer}, permessage-deflate");
            assert_eq!(answered(&with_fallback, &DeflateConfig::default()).as_deref(), Some(NAME), "{bad}");
        }
    }

    #[test]
    fn s7_1_server_answers() {
        let default = DeflateConfig::default();
        let no_takeover = DeflateConfig {
            server_no_context_takeover: Some(true),
            client_no_context_takeover: Some(true),
            ..DeflateConfig::default()
        };
        let ten = DeflateConfig {
            server_max_window_bits: WindowBits::Max(10),
            client_max_window_bits: WindowBits::Max(11),
            ..DeflateConfig::default()
        };
        let strict = DeflateConfig {
            server_no_context_takeover: Some(false),
            server_max_window_bits: WindowBits::Never,
            client_max_window_bits: WindowBits::Never,
            ..DeflateConfig::default()
        };
        for (config, offer, answer) in [
            (&default, "", Some("")),
            (&default, "; client_max_window_bits", Some("")),
            (&default, "; client_max_window_bits=9", Some("; client_max_window_bits=9")),
            (&default, "; client_max_window_bits=\"10\"", Some("; client_max_window_bits=10")),
            (&default, "; server_max_window_bits=9", Some("; server_max_window_bits=9")),
            (&default, "; server_max_window_bits=8", None),
            (&default, "; client_max_window_bits=8", Some("; client_max_window_bits=8")),
            (&default, "; server_no_context_takeover", Some("; server_no_context_takeover")),
            (&default, "; client_no_context_takeover", Some("; client_no_context_takeover")),
            (&no_takeover, "", Some("; server_no_context_takeover; client_no_context_takeover")),
            (&ten, "", None),
            (&ten, "; client_max_window_bits=10", None),
            (
                &ten,
                "; client_max_window_bits",
                Some("; server_max_window_bits=10; client_max_window_bits=11"),
            ),
            (&ten, "; client_max_window_bits; server_max_window_bits=9", None),
            (
                &ten,
                "; client_max_window_bits=15; server_max_window_bits=12",
                Some("; server_max_window_bits=10; client_max_window_bits=11"),
            ),
            (&strict, "; server_no_context_takeover", None),
            (&strict, "; server_max_window_bits=15", None),
            (&strict, "; client_max_window_bits=12", Some("")),
        ] {
            let offer = format!("x-other, {NAME}{offer}");
            let answer = answer.map(|params| format!("{NAME}{params}"));
            assert_eq!(answered(&offer, config), answer, "{offer} {config:?}");
        }
        assert_eq!(answered("x-webkit-deflate-frame", &default), None);
    }

    #[test]
    fn s5_1_client_judges_the_answer() {
        let default = DeflateConfig::default();
        let asking = DeflateConfig {
            server_no_context_takeover: Some(true),
            client_no_context_takeover: Some(false),
            server_max_window_bits: WindowBits::Max(10),
            client_max_window_bits: WindowBits::Max(11),
            ..DeflateConfig::default()
        };
        let silent = DeflateConfig {
            server_max_window_bits: WindowBits::Never,
            client_max_window_bits: WindowBits::Never,
            ..DeflateConfig::default()
        };
        assert_eq!(offer(&default), "permessage-deflate; client_max_window_bits");
        assert_eq!(
            offer(&asking),
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11"
        );
        assert_eq!(offer(&silent), "permessage-deflate");
        for (config, answer, fits) in [
            (&default, "", true),
            (&default, "; server_no_context_takeover; client_no_context_takeover", true),
            (&default, "; server_max_window_bits=8; client_max_window_bits=9", true),
            (&default, "; client_max_window_bits", false),
            (&default, "; client_max_window_bits=16", false),
            (&default, "; server_max_window_bits=7", false),
            (&default, "; unknown", false),
            (&default, "; server_no_context_takeover; server_no_context_takeover", false),
            (&asking, "", false),
            (&asking, "; server_no_context_takeover", false),
            (&asking, "; server_no_context_takeover; server_max_window_bits=11", false),
            (&asking, "; server_no_context_takeover; server_max_window_bits=10", true),
            (
                &asking,
                "; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=12",
                false,
            ),
            (
                &asking,
                "; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
                true,
            ),
            (
                &asking,
                "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
                false,
            ),
            (&silent, "; server_max_window_bits=12", false),
            (&silent, "; client_max_window_bits=12", false),
        ] {
            let extension = &parse(&format!("{NAME}{answer}"))[0];
            assert_eq!(check_answer(extension, config).is_some(), fits, "{answer} {config:?}");
        }
        assert_eq!(check_answer(&parse("x-other")[0], &default), None);
    }

    #[test]
    fn s7_1_an_agreement_binds_both_sides() {
        let (agreement, _) = accept(
            &parse(&format!(
                "{NAME}; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=9"
            )),
            &DeflateConfig::default(),
        )
        .unwrap();
        assert_eq!(
            agreement,
            Agreement {
                server: Half { takeover: false, bits: 12 },
                client: Half { takeover: true, bits: 9 },
            }
        );
    }
}
