//! URLs of WebSockets (RFC 6455 section 3) and the credentials in them (RFC 3986 section 3.2.1, RFC 7617).

use core::net::Ipv6Addr;
use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{error::HandshakeError, server::is_host_and_port};

/// A request for the WebSocket at this URL (RFC 6455 section 3), to which an application may add fields.
///
/// `http` and `https` stand for `ws` and `wss`. A user and password in the URL become an `Authorization` field (RFC
/// 7617), percent-decoded. `ws+unix:/run/chat.sock:/room?x=1` is the target `/room?x=1` at a socket of the file system,
/// which the request carries as a [`UnixSocket`]; a colon in the path of the socket is written `%3A`.
///
/// ```
/// let request = ws_proto::handshake::client_request("ws://me:secret@example.com/chat?room=1")?;
/// assert_eq!(request.uri(), "ws://example.com/chat?room=1");
/// assert_eq!(request.headers()["authorization"], "Basic bWU6c2VjcmV0");
/// assert!(ws_proto::handshake::client_request("ftp://example.com").is_err());
/// # Ok::<(), ws_proto::HandshakeError>(())
/// ```
///
/// # Errors
///
/// [`HandshakeError::Url`] says what is wrong with the URL.
pub fn client_request(url: &str) -> Result<Request<()>, HandshakeError> {
    parse(url).map_err(HandshakeError::Url)
}

/// Where a [`Request`] goes if not over TCP to its URI's host: a socket of the file system. It is one of the request's
/// [`extensions`](Request::extensions).
///
/// ```
/// use ws_proto::handshake::{UnixSocket, client_request};
///
/// let request = client_request("ws+unix:/run/chat.sock:/room")?;
/// assert_eq!(request.uri(), "ws://localhost/room");
/// assert_eq!(request.extensions().get(), Some(&UnixSocket("/run/chat.sock".into())));
///
/// // The same, with a `Host` of one's own.
/// let mut request = client_request("ws://chat.example/room")?;
/// request.extensions_mut().insert(UnixSocket("/run/chat.sock".into()));
/// # Ok::<(), ws_proto::HandshakeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket(pub PathBuf);

fn parse(url: &str) -> Result<Request<()>, &'static str> {
    if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("there is a space or a control character");
    }
    if url.contains('#') {
        return Err("a fragment has no meaning for a WebSocket");
    }
    if let Some(prefix) = url.get(..UNIX.len())
        && prefix.eq_ignore_ascii_case(UNIX)
    {
        return parse_unix(&url[UNIX.len()..]);
    }
    let (secure, rest) = split_scheme(url)?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let scheme = if secure { "wss" } else { "ws" };
    let mut request = build(scheme.parse().expect("this is a scheme"), parse_host(host)?, target)?;
    if let Some(authorization) = credentials(userinfo)? {
        request.headers_mut().insert(header::AUTHORIZATION, basic_auth(&authorization)?);
    }
    Ok(request)
}

/// Whether it is encrypted, and what stands behind `//`.
fn split_scheme(url: &str) -> Result<(bool, &str), &'static str> {
    let (scheme, rest) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).ok_or(NO_SCHEME)?;
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => false,
        "wss" | "https" => true,
        // A host and a port look like this, too.
        _ if !rest.starts_with('/') => return Err(NO_SCHEME),
        _ => return Err("the scheme is not ws, wss, http, https or ws+unix"),
    };
    Ok((secure, rest.strip_prefix("//").ok_or("there is no // behind the scheme")?))
}

/// RFC 3986 section 3.1.
pub(super) fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A host and a port; neither with credentials in front.
pub(super) fn parse_host(host: &str) -> Result<Authority, &'static str> {
    if !host.is_ascii() {
        return Err("a host of other characters than ASCII is written in Punycode (xn--...)");
    }
    if host.is_empty() || host.starts_with(':') {
        return Err("there is no host");
    }
    if let Some(address) = host.strip_prefix('[') {
        let (address, _) = address.split_once(']').ok_or("a bracket in the host is not closed")?;
        address.parse::<Ipv6Addr>().map_err(|_| "there is no IPv6 address in the brackets")?;
    }
    let name = host.split(':').next().unwrap_or_default();
    let authority = Authority::try_from(host);
    let valid = authority.as_ref().is_ok_and(|authority| !authority.host().is_empty());
    match authority {
        Ok(authority) if valid && is_host_and_port(&authority) => Ok(authority),
        // What is wrong stands behind the name, or in it.
        _ if host.starts_with('[') || Authority::try_from(name).is_ok() => {
            Err("the port is no number up to 65535")
        }
        _ => Err("the host has characters that no host has"),
    }
}

fn parse_unix(rest: &str) -> Result<Request<()>, &'static str> {
    let (path, target) = rest.split_once(':').unwrap_or((rest, ""));
    // `ws+unix:///path` is as good as `ws+unix:/path`, as with `file`.
    let path = percent_decode(path.strip_prefix("//").unwrap_or(path))?;
    if path.is_empty() || path == "/" {
        return Err("there is no path of a socket");
    }
    if !target.is_empty() && !target.starts_with(['/', '?']) {
        return Err("the target behind the path of the socket does not begin with a slash");
    }
    if path.contains('\0') {
        return Err("the path of the socket has a zero byte");
    }
    let scheme = "ws".parse().expect("this is a scheme");
    let mut request = build(scheme, Authority::from_static("localhost"), target)?;
    request.extensions_mut().insert(UnixSocket(path.into()));
    Ok(request)
}

/// A request for a target at a host.
pub(super) fn build(scheme: Scheme, authority: Authority, target: &str) -> Result<Request<()>, &'static str> {
    if !target.is_ascii() {
        return Err("other characters than ASCII must be percent-encoded");
    }
    let target = if target.is_empty() { "/" } else { target };
    let target =
        PathAndQuery::try_from(target).map_err(|_| "the path or the query has characters that none has")?;
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.map_err(|_| "it is too long")?;
    Ok(request)
}

/// `user:password`, percent-decoded; `None` without a user.
pub(super) fn credentials(userinfo: &str) -> Result<Option<(String, String)>, &'static str> {
    if userinfo.is_empty() {
        return Ok(None);
    }
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Ok(Some((percent_decode(user)?, percent_decode(password)?)))
}

/// The value of `Authorization` and `Proxy-Authorization` by the scheme Basic (RFC 7617 section 2).
pub(crate) fn basic_auth((user, password): &(String, String)) -> Result<HeaderValue, &'static str> {
    if user.contains(':') {
        return Err("a user of the scheme Basic has no colon");
    }
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err("there is a control character in the credentials");
    }
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::try_from(value).map_err(|_| "the credentials are too long")?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit(), digit());
                high.zip(low)
                    .map(|(high, low)| (high * 16 + low) as u8)
                    .ok_or("a % without two digits behind it")?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8")
}

/// Whether what this URI names is reached by TLS.
pub(crate) fn is_secure(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("wss" | "https"))
}

/// The port that the URI names or its scheme implies.
pub(crate) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or_else(|| default_port(uri))
}

fn default_port(uri: &Uri) -> u16 {
    if is_secure(uri) { 443 } else { 80 }
}

/// The host as a resolver takes it: an IPv6 address without its brackets.
pub(crate) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The value of `Host`: without userinfo, and without the port where it is the scheme's own.
pub(super) fn host_field(uri: &Uri) -> Result<String, HandshakeError> {
    let authority = uri.authority().ok_or(HandshakeError::Url("there is no host"))?;
    Ok(match authority.port_u16() {
        Some(port) if port != default_port(uri) => format!("{}:{port}", authority.host()),
        _ => authority.host().to_owned(),
    })
}

const UNIX: &str = "ws+unix:";
const NO_SCHEME: &str = "there is no scheme";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fault(url: &str) -> &'static str {
        match client_request(url) {
            Err(HandshakeError::Url(what)) => what,
            other => panic!("{url:?}: {other:?}"),
        }
    }

    #[test]
    fn s3_each_fault_of_a_url_is_named() {
        let scheme = "the scheme is not ws, wss, http, https or ws+unix";
        let host = "the host has characters that no host has";
        let port = "the port is no number up to 65535";
        let space = "there is a space or a control character";
        for (url, what) in [
            ("", NO_SCHEME),
            ("example.com", NO_SCHEME),
            ("example.com:80/chat", NO_SCHEME),
            ("localhost:80", NO_SCHEME),
            ("/chat", NO_SCHEME),
            ("//example.com/", NO_SCHEME),
            ("/a?ws://example.com", NO_SCHEME),
            ("://example.com", NO_SCHEME),
            ("1ws://example.com", NO_SCHEME),
            ("ftp://example.com/", scheme),
            ("unix:/run/x.sock", scheme),
            ("ws:example.com", "there is no // behind the scheme"),
            ("ws:/example.com", "there is no // behind the scheme"),
            ("ws://", "there is no host"),
            ("ws:///chat", "there is no host"),
            ("ws://?x", "there is no host"),
            ("ws://:80/", "there is no host"),
            ("ws://user@/", "there is no host"),
            ("ws://exa mple.com/", space),
            ("ws://example.com/a b", space),
            ("ws://example.com/\r\nX: y", space),
            ("ws://example.com/\0", space),
            ("ws://example.com/\x7f", space),
            ("ws://example.com/#fragment", "a fragment has no meaning for a WebSocket"),
            ("ws://example.com/#", "a fragment has no meaning for a WebSocket"),
            ("ws://example.com:port/", port),
            ("ws://example.com:65536/", port),
            ("ws://example.com:-1/", port),
            ("ws://example.com:+80/", port),
            ("ws://example.com:80:80/", port),
            ("ws://[::1]80/", port),
            ("ws://[::1]:x/", port),
            ("ws://[::1/", "a bracket in the host is not closed"),
            ("ws://[]/", "there is no IPv6 address in the brackets"),
            ("ws://[example.com]/", "there is no IPv6 address in the brackets"),
            ("ws://exa<mple.com/", host),
            ("ws://a%20b/", host),
            ("ws://ex]ample/", host),
            ("ws://exämple.com/", "a host of other characters than ASCII is written in Punycode (xn--...)"),
            ("ws://example.com/ä", "other characters than ASCII must be percent-encoded"),
            ("ws://example.com/?q=ä", "other characters than ASCII must be percent-encoded"),
            ("ws://a%zz@example.com/", "a % without two digits behind it"),
            ("ws://a%4@example.com/", "a % without two digits behind it"),
            ("ws://a:%ff@example.com/", "what is percent-encoded is not UTF-8"),
            ("ws://a%3Ab@example.com/", "a user of the scheme Basic has no colon"),
            ("ws://a:%0d%0aX@example.com/", "there is a control character in the credentials"),
            ("ws+unix:", "there is no path of a socket"),
            ("ws+unix:/", "there is no path of a socket"),
            ("ws+unix::/chat", "there is no path of a socket"),
            ("ws+unix:/x:chat", "the target behind the path of the socket does not begin with a slash"),
            ("ws+unix:/x%00:/", "the path of the socket has a zero byte"),
            ("ws+unix:/x#y", "a fragment has no meaning for a WebSocket"),
        ] {
            assert_eq!(fault(url), what, "{url:?}");
        }
    }

    #[test]
    fn s7617_2_userinfo_becomes_an_authorization_field() {
        for (url, plain) in [
            ("ws://user:pass@example.com/", "user:pass"),
            ("ws://user@example.com/", "user:"),
            ("ws://user:@example.com/", "user:"),
            ("ws://:pass@example.com/", ":pass"),
            ("ws://us%20er:p%3Aa%40s%2Fs@example.com/", "us er:p:a@s/s"),
            ("ws://user:a:b@example.com/", "user:a:b"),
            ("ws://a@b:c@example.com/", "a@b:c"),
            ("ws://%C3%A4:%C3%B6@example.com/", "ä:ö"),
            // The example of RFC 7617 section 2.
            ("ws://Aladdin:open%20sesame@example.com/", "Aladdin:open sesame"),
        ] {
            let request = client_request(url).unwrap();
            assert_eq!(request.uri(), "ws://example.com/", "{url}");
            let value = &request.headers()["authorization"];
            assert_eq!(value, &format!("Basic {}", STANDARD.encode(plain)), "{url}");
            assert!(value.is_sensitive());
        }
        assert!(client_request("ws://@example.com/").unwrap().headers().is_empty());
    }

    #[test]
    fn unix_urls_carry_the_path_of_their_socket() {
        for (url, path, target) in [
            ("ws+unix:/run/a.sock", "/run/a.sock", "/"),
            ("ws+unix:/run/a.sock:", "/run/a.sock", "/"),
            ("ws+unix:/run/a.sock:/chat?x=1:2", "/run/a.sock", "/chat?x=1:2"),
            ("ws+unix:/run/a.sock:?x=1", "/run/a.sock", "/?x=1"),
            ("WS+UNIX:/run/a.sock", "/run/a.sock", "/"),
            ("ws+unix:///run/a.sock:/x", "/run/a.sock", "/x"),
            ("ws+unix:a%3Ab%20c.sock:/x", "a:b c.sock", "/x"),
        ] {
            let request = client_request(url).unwrap();
            assert_eq!(request.extensions().get(), Some(&UnixSocket(path.into())), "{url}");
            assert_eq!(request.uri().to_string(), format!("ws://localhost{target}"), "{url}");
        }
    }
}
