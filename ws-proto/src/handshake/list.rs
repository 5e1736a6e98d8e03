//! Header fields that are lists (RFC 9110 section 5.6): of tokens, and of extensions (RFC 6455 section 9.1).

use http::{HeaderMap, HeaderName};

/// A field is not a list of what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidList;

/// The elements of a list over all lines of the field, trimmed; empty ones are skipped (RFC 9110 section
/// 5.6.1.2). A comma inside a quoted string is part of its element.
fn elements<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| split_unquoted(line.as_bytes(), b','))
        .map(<[u8]>::trim_ascii)
        .filter(|e| !e.is_empty())
}

/// Whether the list has this token, in any case.
pub(crate) fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The list as distinct tokens; empty if there is no such field.
pub(crate) fn distinct_tokens(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, InvalidList> {
    let tokens = elements(headers, name).map(token).collect::<Result<Vec<_>, _>>()?;
    let mut sorted: Vec<&String> = tokens.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(InvalidList);
    }
    // A field without elements is none of the grammar's lists.
    if tokens.is_empty() && headers.contains_key(name) { Err(InvalidList) } else { Ok(tokens) }
}

/// An element of `Sec-WebSocket-Extensions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) name: String,
    /// Parameters in their order, with their values if they have one.
    pub(crate) params: Vec<(String, Option<String>)>,
}

/// The list as extensions; empty if there is no such field.
pub(crate) fn extensions(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<Extension>, InvalidList> {
    let extensions = elements(headers, name).map(extension).collect::<Result<Vec<_>, _>>()?;
    if extensions.is_empty() && headers.contains_key(name) { Err(InvalidList) } else { Ok(extensions) }
}

/// `extension-token *( ";" extension-param )`
fn extension(element: &[u8]) -> Result<Extension, InvalidList> {
    let mut parts = split_unquoted(element, b';').map(<[u8]>::trim_ascii);
    let name = token(parts.next().ok_or(InvalidList)?)?;
    let params = parts.map(param).collect::<Result<_, _>>()?;
    Ok(Extension { name, params })
}

/// `token [ "=" ( token | quoted-string ) ]`, where the quoted string is a token once unquoted.
fn param(part: &[u8]) -> Result<(String, Option<String>), InvalidList> {
    let Some(equals) = part.iter().position(|&byte| byte == b'=') else { return Ok((token(part)?, None)) };
    let value = match &part[equals + 1..] {
        [b'"', quoted @ .., b'"'] => token(&unquote(quoted)?)?,
        value => token(value)?,
    };
    Ok((token(&part[..equals])?, Some(value)))
}

/// Resolves the backslashes of what stood between quotes.
fn unquote(quoted: &[u8]) -> Result<Vec<u8>, InvalidList> {
    let mut unquoted = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => unquoted.push(*bytes.next().ok_or(InvalidList)?),
            b'"' => return Err(InvalidList),
            byte => unquoted.push(byte),
        }
    }
    Ok(unquoted)
}

fn token(bytes: &[u8]) -> Result<String, InvalidList> {
    if !is_token(bytes) {
        return Err(InvalidList);
    }
    Ok(std::str::from_utf8(bytes).expect("a token is ASCII").to_owned())
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Splits at a separator that does not stand inside a quoted string.
fn split_unquoted(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    bytes.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS as FIELD};

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (FIELD, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn s9110_5_6_1_tokens_over_all_lines() {
        let headers = headers(&["keep-alive, Upgrade", ", ,\t"]);
        assert!(contains_token(&headers, &FIELD, "upgrade"));
        assert!(!contains_token(&headers, &FIELD, "up"));
        assert!(!contains_token(&headers, &FIELD, ""));
    }

    #[test]
    fn s4_1_subprotocols_are_distinct_tokens() {
        let tokens = |lines: &[&str]| distinct_tokens(&headers(lines), &FIELD);
        assert_eq!(tokens(&["a, b", "c"]), Ok(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(tokens(&[]), Ok(vec![]));
        for bad in [&[""][..], &[","], &["a, a"], &["a", "a"], &["a b"], &["a@b"], &["\"a\""]] {
            assert_eq!(tokens(bad), Err(InvalidList), "{bad:?}");
        }
    }

    #[test]
    fn s9_1_extensions_with_parameters() {
        let got = extensions(&headers(&["foo; a; b=1; a=\"2\\2\" , bar", "foo"]), &FIELD).unwrap();
        let param = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let foo = vec![param("a", None), param("b", Some("1")), param("a", Some("22"))];
        assert_eq!(
            got,
            [
                Extension { name: "foo".into(), params: foo },
                Extension { name: "bar".into(), params: vec![] },
                Extension { name: "foo".into(), params: vec![] },
            ]
        );
    }

    #[test]
    fn s9_1_what_is_no_extension() {
        for bad in [
            "",
            ",",
            ";",
            "foo;",
            "foo;;a",
            "foo; =1",
            "foo; a=",
            "foo; a=\"\"",
            "foo; a=\"b",
            "foo; a=\"b,c\"",
            "foo; a=\"b\\",
            "foo; a=b c",
            "foo bar",
            "foo; a =1",
            "foo; a= 1",
            "f@o",
            "foo; a=\"b\"c",
            "fo\"o",
            "foo; \"a\"",
        ] {
            assert_eq!(extensions(&headers(&[bad]), &FIELD), Err(InvalidList), "{bad:?}");
        }
    }
}
