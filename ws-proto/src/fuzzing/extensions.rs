//! Header fields that are lists, and what is agreed on by them.

use std::time::Instant;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS as FIELD};

use super::choices::Choices;
use crate::{
    DeflateConfig, WindowBits,
    deflate::{self, Agreement, Half},
    handshake::list::{self, Extension},
};

/// Lists of extensions and of tokens: what is written is read, however it is written; what is read from any bytes can
/// be written and read again. And what a server of ours chooses of a client's offer, a client of ours takes, and both
/// compress alike.
pub fn extensions(input: &[u8], _now: Instant) {
    let mut choices = Choices::new(input);
    match choices.byte() % 3 {
        0 => written(choices),
        1 => read(choices),
        _ => negotiated(choices),
    }
}

/// parse(format(x)) = x, for a list that the input describes.
fn written(mut choices: Choices<'_>) {
    let mut extensions = Vec::new();
    while !choices.is_over() && extensions.len() < 50 {
        let name = token(&mut choices);
        let mut params = Vec::new();
        while choices.byte() & 3 != 0 && params.len() < 20 {
            let (name, value) = (token(&mut choices), choices.flag().then(|| token(&mut choices)));
            params.push((name, value));
        }
        extensions.push(Extension { name, params });
    }
    if extensions.is_empty() {
        return;
    }
    for style in [Style::Plain, Style::Odd] {
        assert_eq!(list::extensions(&format(&extensions, style), &FIELD).as_ref(), Ok(&extensions));
    }
    let names: Vec<&str> = extensions.iter().map(|extension| &*extension.name).collect();
    let headers = lines([names.join(" ,\t,"), ",".into()]);
    let distinct = names.iter().enumerate().all(|(i, name)| !names[..i].contains(name));
    let tokens = list::distinct_tokens(&headers, &FIELD);
    assert_eq!(tokens.is_ok(), distinct);
    assert!(tokens.is_err() || tokens == Ok(names.iter().copied().map(str::to_owned).collect()));
    for name in names {
        assert!(list::contains_token(&headers, &FIELD, &name.to_ascii_uppercase()));
    }
}

/// Any bytes are a list or none; a list is the same when it is written and read again.
fn read(choices: Choices<'_>) {
    let lines =
        choices.rest().split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (FIELD, line)).collect();
    if let Ok(extensions) = list::extensions(&headers, &FIELD) {
        assert_eq!(extensions.is_empty(), headers.is_empty());
        for style in [Style::Plain, Style::Odd] {
            assert_eq!(list::extensions(&format(&extensions, style), &FIELD).as_ref(), Ok(&extensions));
        }
        agreed(&extensions, &DeflateConfig::default());
    }
    if let Ok(tokens) = list::distinct_tokens(&headers, &FIELD) {
        assert_eq!(tokens.is_empty(), headers.is_empty());
        for token in tokens {
            assert!(list::contains_token(&headers, &FIELD, &token));
        }
    }
}

/// What a server with this configuration chooses is an answer to what was offered; gives it.
fn agreed(offers: &[Extension], config: &DeflateConfig) -> Option<(Agreement, Extension)> {
    let (agreement, field) = deflate::accept(offers, config)?;
    let answer = list::extensions(&lines([field]), &FIELD).expect("an answer of ours is a list");
    let [answer] = &answer[..] else { panic!("one extension is chosen: {answer:?}") };
    assert_eq!(answer.name, "permessage-deflate");
    let mut names: Vec<&str> = answer.params.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), answer.params.len(), "a parameter is there twice: {answer:?}");
    // RFC 7692 section 7.1.2.2: not unless the client said that it can.
    if names.contains(&"client_max_window_bits") {
        let can = |offer: &Extension| offer.params.iter().any(|(name, _)| name == "client_max_window_bits");
        assert!(offers.iter().any(can), "{offers:?} {answer:?}");
    }
    for Half { bits, .. } in [agreement.server, agreement.client] {
        assert!((8..=15).contains(&bits));
    }
    assert!(agreement.server.bits >= 9, "zlib cannot compress with less");
    Some((agreement, answer.clone()))
}

/// A client and a server of ours, each with any configuration.
fn negotiated(mut choices: Choices<'_>) {
    let [client, server] = [config(&mut choices), config(&mut choices)];
    let offer =
        list::extensions(&lines([deflate::offer(&client)]), &FIELD).expect("an offer of ours is a list");
    assert_eq!(offer.len(), 1);
    let Some((of_server, answer)) = agreed(&offer, &server) else { return };
    let Some(of_client) = deflate::check_answer(&answer, &client) else {
        // Only a client that rules something out turns an answer of ours down.
        let rules_out = client.client_no_context_takeover == Some(false)
            || [client.server_max_window_bits, client.client_max_window_bits].contains(&WindowBits::Never);
        assert!(rules_out, "{client:?} does not take {answer:?}");
        return;
    };
    // Each side inflates what the other compresses: it does not count on less.
    assert_eq!(of_client.server, of_server.server);
    assert!(of_client.client.bits <= of_server.client.bits);
    assert!(of_server.client.takeover || !of_client.client.takeover);
    // And what was asked for is granted.
    assert!(client.server_no_context_takeover != Some(true) || !of_server.server.takeover);
    assert!(server.client_no_context_takeover != Some(true) || !of_client.client.takeover);
    for (limit, bits) in [
        (client.server_max_window_bits, of_server.server.bits),
        (server.server_max_window_bits, of_server.server.bits),
        (client.client_max_window_bits, of_client.client.bits),
        (server.client_max_window_bits, of_client.client.bits),
    ] {
        assert!(!matches!(limit, WindowBits::Max(max) if bits > max.clamp(9, 15)), "{limit:?} {bits}");
    }
}

fn config(choices: &mut Choices<'_>) -> DeflateConfig {
    let takeover = [None, Some(false), Some(true)];
    let mut bits = || match choices.byte() {
        0 => WindowBits::Any,
        1 => WindowBits::Never,
        bits => WindowBits::Max(bits % 20),
    };
    let (server_max_window_bits, client_max_window_bits) = (bits(), bits());
    DeflateConfig {
        server_max_window_bits,
        client_max_window_bits,
        server_no_context_takeover: choices.one_of(&takeover),
        client_no_context_takeover: choices.one_of(&takeover),
        ..DeflateConfig::default()
    }
}

/// One to 16 of the characters of RFC 9110 section 5.6.2.
fn token(choices: &mut Choices<'_>) -> String {
    const TCHARS: &[u8] = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let len = 1 + choices.byte() % 16;
    (0..len).map(|_| char::from(choices.one_of(TCHARS))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    Plain,
    /// On several lines, with spaces, empty elements and quoted values wherever the grammar lets them be.
    Odd,
}

fn format(extensions: &[Extension], style: Style) -> HeaderMap {
    let odd = style == Style::Odd;
    let elements = extensions.iter().map(|Extension { name, params }| {
        params.iter().fold(name.clone(), |element, (name, value)| {
            let separator = if odd { "\t; " } else { ";" };
            match value {
                Some(value) if odd => {
                    let quoted: String = value.chars().flat_map(|char| ['\\', char]).collect();
                    format!("{element}{separator}{name}=\"{quoted}\"")
                }
                Some(value) => format!("{element}{separator}{name}={value}"),
                None => format!("{element}{separator}{name}"),
            }
        })
    });
    let elements: Vec<_> = elements.collect();
    if odd {
        lines(elements.chunks(2).map(|pair| format!(", {}\t,", pair.join(" ,, "))))
    } else if elements.is_empty() {
        HeaderMap::new()
    } else {
        lines([elements.join(",")])
    }
}

fn lines(lines: impl IntoIterator<Item = String>) -> HeaderMap {
    let value = |line: String| HeaderValue::try_from(line).expect("tokens and separators");
    lines.into_iter().map(|line| (FIELD, value(line))).collect()
}
