//! Redirects (RFC 9110 section 15.4): whether one is followed, and what goes along.

use http::{Request, Response, StatusCode, header};

use super::{
    error::HandshakeError,
    url::{UnixSocket, build, client_request, host_field, is_scheme, is_secure},
};

/// Counts the redirects of one attempt to connect, and makes of each the next request.
///
/// ```
/// use ws_proto::{HandshakeError, handshake::{Redirects, client_request}, http::Response};
///
/// let mut request = client_request("wss://a.example/chat")?;
/// request.headers_mut().insert("cookie", "a=1".parse().unwrap());
/// let answer = Response::builder().status(302).header("location", "wss://b.example/");
/// let refusal = HandshakeError::Status(Box::new(answer.body("".into()).unwrap()));
///
/// let next = Redirects::new(10).follow(&request, refusal)?;
/// assert_eq!(next.uri(), "wss://b.example/");
/// assert!(next.headers().is_empty(), "b.example is to know nothing of the cookie");
/// # Ok::<(), HandshakeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Redirects {
    limit: usize,
    count: usize,
}

impl Redirects {
    /// Follows at most so many; 0 is none.
    pub fn new(limit: usize) -> Self {
        Self { limit, count: 0 }
    }

    /// The request that follows this one, which failed with this error.
    ///
    /// It has the fields of the first, but where it goes to another host or port (the default ones of `ws` and `wss`
    /// count as the same), to a socket of the file system or away from one: `Authorization`, `Cookie`,
    /// `Proxy-Authorization` and `Host` stay behind. So do the first three where it leaves TLS. Credentials in the
    /// `Location` are not used.
    ///
    /// # Errors
    ///
    /// The error itself if it is no redirect, or none is to be followed; [`HandshakeError::TooManyRedirects`];
    /// [`HandshakeError::Location`] if the redirect leads to no WebSocket.
    pub fn follow(
        &mut self,
        request: &Request<()>,
        error: HandshakeError,
    ) -> Result<Request<()>, HandshakeError> {
        let HandshakeError::Status(response) = &error else { return Err(error) };
        let Some(location) = location(response).filter(|_| self.limit > 0) else { return Err(error) };
        if self.count == self.limit {
            return Err(HandshakeError::TooManyRedirects { limit: self.limit });
        }
        self.count += 1;
        let invalid = |fault| {
            let location = String::from_utf8_lossy(location).into_owned();
            HandshakeError::Location { location, fault }
        };
        let text = std::str::from_utf8(location).map_err(|_| invalid("it is not UTF-8"))?;
        next(request, text).map_err(|error| match error {
            HandshakeError::Url(fault) => invalid(fault),
            error => error,
        })
    }
}

/// Where the answer leads, if it is a redirect.
pub(super) fn location<B>(response: &Response<B>) -> Option<&[u8]> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let location =
        response.headers().get(header::LOCATION).filter(|_| redirects.contains(&response.status()));
    location.map(|location| location.as_bytes())
}

fn next(request: &Request<()>, location: &str) -> Result<Request<()>, HandshakeError> {
    let target = resolve(request, location)?;
    let mut next = request.clone();
    *next.uri_mut() = target.uri().clone();
    let socket = target.extensions().get::<UnixSocket>();
    match socket {
        Some(socket) => drop(next.extensions_mut().insert(socket.clone())),
        None => drop(next.extensions_mut().remove::<UnixSocket>()),
    }
    let same_host = host_field(request.uri())?.eq_ignore_ascii_case(&host_field(next.uri())?)
        && request.extensions().get::<UnixSocket>() == socket;
    if !same_host || is_secure(request.uri()) && !is_secure(next.uri()) {
        for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
            next.headers_mut().remove(name);
        }
    }
    if !same_host {
        next.headers_mut().remove(header::HOST);
    }
    Ok(next)
}

/// RFC 3986 section 5.2: a reference relative to the URL of the request.
fn resolve(base: &Request<()>, location: &str) -> Result<Request<()>, HandshakeError> {
    let scheme_end = location.find([':', '/', '?', '#']).filter(|&at| location[at..].starts_with(':'));
    if scheme_end.is_some_and(|end| is_scheme(&location[..end])) {
        return client_request(location);
    }
    let parts = base.uri().clone().into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(HandshakeError::Url("it is relative to a URL without a scheme or a host"));
    };
    if location.starts_with("//") {
        return client_request(&format!("{scheme}:{location}"));
    }
    if location.contains('#') {
        return Err(HandshakeError::Url("a fragment has no meaning for a WebSocket"));
    }
    let (path, query) = location.split_at(location.find('?').unwrap_or(location.len()));
    let path = match base.uri().path() {
        _ if path.starts_with('/') => without_dots(path),
        base_path if path.is_empty() => base_path.to_owned(),
        base_path => without_dots(&format!("{}/{path}", base_path.rsplit_once('/').unwrap_or_default().0)),
    };
    let mut target = build(scheme, authority, &format!("{path}{query}")).map_err(HandshakeError::Url)?;
    if let Some(socket) = base.extensions().get::<UnixSocket>() {
        target.extensions_mut().insert(socket.clone());
    }
    Ok(target)
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, location: Option<&str>) -> HandshakeError {
        let mut response = Response::new(bytes::Bytes::new());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(location) = location {
            let location = http::HeaderValue::from_bytes(location.as_bytes()).unwrap();
            response.headers_mut().insert(header::LOCATION, location);
        }
        HandshakeError::Status(Box::new(response))
    }

    fn follow(url: &str, location: &str) -> Result<Request<()>, HandshakeError> {
        let mut request = client_request(url).unwrap();
        for name in ["authorization", "cookie", "proxy-authorization", "host", "x-kept", "origin"] {
            request.headers_mut().insert(name, http::HeaderValue::from_static("x"));
        }
        Redirects::new(1).follow(&request, refusal(302, Some(location)))
    }

    fn url(request: &Request<()>) -> String {
        let socket = request.extensions().get::<UnixSocket>();
        let socket = socket.map(|UnixSocket(path)| format!("{} ", path.display()));
        format!("{}{}", socket.unwrap_or_default(), request.uri())
    }

    #[test]
    fn s9110_10_2_2_locations_are_resolved() {
        for (base, location, expected) in [
            ("ws://a/b/c?d", "wss://e:1/f?g", "wss://e:1/f?g"),
            ("ws://a/b/c?d", "http://e", "ws://e/"),
            ("ws://a/b/c?d", "HTTPS://e/", "wss://e/"),
            ("ws://a/b/c?d", "ws://user:pw@a/", "ws://a/"),
            ("wss://a/b/c?d", "//e/f", "wss://e/f"),
            ("ws://a:8/b/c?d", "/f?g", "ws://a:8/f?g"),
            ("ws://a/b/c?d", "f", "ws://a/b/f"),
            ("ws://a/b/c?d", "f/g:h", "ws://a/b/f/g:h"),
            ("ws://a/b/c?d", "./f:g", "ws://a/b/f:g"),
            ("ws://a/b/c?d", "?e", "ws://a/b/c?e"),
            ("ws://a/b/c?d", "", "ws://a/b/c"),
            ("ws://a", "f", "ws://a/f"),
            ("ws://a/b/c/d", "../f", "ws://a/b/f"),
            ("ws://a/b/c/d", "../../../f", "ws://a/f"),
            ("ws://a/b/c/d", "..", "ws://a/b/"),
            ("ws://a/b/c/d", ".", "ws://a/b/c/"),
            ("ws://a/b", "/x/./y/../z?../q", "ws://a/x/z?../q"),
            ("ws+unix:/s:/b/c", "/f", "/s ws://localhost/f"),
            ("ws+unix:/s:/b/c", "ws+unix:/t:/f", "/t ws://localhost/f"),
            ("ws+unix:/s:/b/c", "ws://a/f", "ws://a/f"),
            ("ws://a/b", "ws+unix:/t:/f", "/t ws://localhost/f"),
        ] {
            assert_eq!(url(&follow(base, location).unwrap()), expected, "{location:?} at {base}");
        }
    }

    #[test]
    fn locations_that_lead_nowhere_are_named() {
        for (location, fault) in [
            ("ftp://a/", "the scheme is not ws, wss, http, https or ws+unix"),
            ("javascript:alert(1)", "there is no scheme"),
            ("http:///", "there is no host"),
            ("//", "there is no host"),
            ("ws://a:x/", "the port is no number up to 65535"),
            ("/a b", "the path or the query has characters that none has"),
            ("/ä", "other characters than ASCII must be percent-encoded"),
            ("/#x", "a fragment has no meaning for a WebSocket"),
            ("ws+unix:", "there is no path of a socket"),
        ] {
            let error = follow("ws://a/", location).unwrap_err();
            assert_eq!(error.to_string(), format!("redirected to {location:?}: {fault}"));
        }
    }

    #[test]
    fn ws6_8_redirects_credentials_do_not_cross_hosts_or_leave_tls() {
        let all = &["authorization", "cookie", "proxy-authorization", "host", "x-kept", "origin"][..];
        let host = &["host", "x-kept", "origin"][..];
        let none = &["x-kept", "origin"][..];
        for (from, to, kept) in [
            ("ws://a/", "ws://a/b", all),
            ("ws://a/", "/b", all),
            ("ws://a/", "ws://A:80/", all),
            ("ws://a/", "wss://a/", all),
            ("ws://a:9/", "wss://a:9/", all),
            ("wss://a/", "https://a:443/b", all),
            ("wss://a/", "ws://a/", host),
            ("wss://a:9/", "http://a:9/", host),
            ("ws://a/", "ws://b/", none),
            ("ws://a/", "ws://a:81/", none),
            ("ws://a/", "ws://b.a/", none),
            ("ws://a/", "wss://b/", none),
            ("wss://a/", "ws://b/", none),
            ("ws://a/", "//b/", none),
            ("ws://localhost/", "ws+unix:/s:/", none),
            ("ws+unix:/s:/", "ws+unix:/s:/b", all),
            ("ws+unix:/s:/", "/b", all),
            ("ws+unix:/s:/", "ws+unix:/t:/", none),
            ("ws+unix:/s:/", "ws://localhost/", none),
        ] {
            let next = follow(from, to).unwrap();
            let names: Vec<_> = next.headers().keys().map(|name| name.as_str()).collect();
            assert_eq!(names.len(), kept.len(), "{from} to {to}: {names:?}");
            assert!(kept.iter().all(|name| names.contains(name)), "{from} to {to}: {names:?}");
        }
    }

    #[test]
    fn ws6_8_redirects_first_userinfo_wins() {
        let request = client_request("ws://first:one@a/").unwrap();
        let next = Redirects::new(1).follow(&request, refusal(301, Some("ws://second:two@a/"))).unwrap();
        assert_eq!(next.headers()["authorization"], request.headers()["authorization"]);
        let next = Redirects::new(1).follow(&request, refusal(301, Some("ws://second:two@b/"))).unwrap();
        assert!(next.headers().is_empty());
    }

    #[test]
    fn s9110_15_4_only_redirects_with_a_location_are_followed() {
        let request = client_request("ws://a/").unwrap();
        for status in [301, 302, 303, 307, 308] {
            assert!(Redirects::new(1).follow(&request, refusal(status, Some("/b"))).is_ok(), "{status}");
        }
        let others = [200, 201, 300, 304, 305, 306, 309, 401, 500].map(|status| refusal(status, Some("/b")));
        for error in others.into_iter().chain([refusal(302, None), HandshakeError::Eof]) {
            let text = error.to_string();
            assert_eq!(Redirects::new(1).follow(&request, error).unwrap_err().to_string(), text);
        }
        let off = Redirects::new(0).follow(&request, refusal(302, Some("/b")));
        assert!(matches!(off, Err(HandshakeError::Status(_))));
    }

    #[test]
    fn redirects_are_followed_up_to_their_limit() {
        for limit in [1, 2, 10] {
            let mut redirects = Redirects::new(limit);
            let mut request = client_request("ws://a/").unwrap();
            for i in 0..limit {
                request = redirects.follow(&request, refusal(302, Some(&format!("/{i}")))).unwrap();
            }
            let error = redirects.follow(&request, refusal(302, Some("/more"))).unwrap_err();
            assert!(matches!(error, HandshakeError::TooManyRedirects { limit: l } if l == limit));
        }
    }
}
