//! The head of an HTTP/1.1 message (RFC 9112), from the first byte to the empty line, in time linear in its
//! bytes however they are cut.
//!
//! Stricter than it must be where leniency has let attackers in: lines end with CRLF and nothing else, a line
//! does not continue on the next one, and there are no control characters.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use super::{error::HandshakeError, list};
use crate::{buffer::Buffer, config::HeadLimits};

/// A head as far as it came, and what came behind it.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Buffer,
    /// Bytes that were looked at; what was looked at is well-formed.
    scanned: usize,
    /// Bytes of the current line that were looked at.
    column: usize,
    /// Complete lines that were looked at, the empty ones in front not among them.
    lines: usize,
    limits: HeadLimits,
    is_request: bool,
}

impl Head {
    pub(super) fn of_request(limits: &HeadLimits) -> Self {
        Self::new(limits, true)
    }

    pub(super) fn of_response(limits: &HeadLimits) -> Self {
        Self::new(limits, false)
    }

    fn new(limits: &HeadLimits, is_request: bool) -> Self {
        let limits = limits.clone();
        Self { bytes: Buffer::default(), scanned: 0, column: 0, lines: 0, limits, is_request }
    }

    pub(super) fn recv_space(&mut self) -> &mut [u8] {
        self.bytes.reserve(MIN_READ)
    }

    pub(super) fn fill(&mut self, len: usize) {
        self.bytes.fill(len);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn release(&mut self) {
        self.bytes.release();
    }

    /// Bytes that came behind the head, once it was taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.pending()
    }

    /// The same, to be consumed.
    pub(super) fn rest_mut(&mut self) -> &mut Buffer {
        &mut self.bytes
    }

    /// Looks at what came since the last look: the length of the head if it is complete.
    fn scan(&mut self) -> Result<Option<usize>, HandshakeError> {
        while let Some(&byte) = self.bytes.pending().get(self.scanned) {
            let previous = self.scanned.checked_sub(1).map(|before| self.bytes.pending()[before]);
            if self.scanned >= self.limits.max_len {
                let in_first_line = self.lines == 0 && self.is_request;
                return Err(if in_first_line {
                    HandshakeError::TargetTooLong
                } else {
                    HandshakeError::HeadTooLong
                });
            }
            self.scanned += 1;
            match byte {
                b'\n' if previous != Some(b'\r') => {
                    return Err(HandshakeError::Malformed("a line ends without CR"));
                }
                _ if previous == Some(b'\r') && byte != b'\n' => {
                    return Err(HandshakeError::Malformed("a CR without LF"));
                }
                b'\n' if self.column == 0 && self.lines > 0 => return Ok(Some(self.scanned)),
                // RFC 9112 section 2.2: empty lines in front of a message are skipped.
                b'\n' if self.column == 0 => {}
                b'\n' => {
                    self.lines += 1;
                    self.column = 0;
                }
                b'\r' => {}
                // Section 5.2: a line that begins with a space would continue the one before.
                b' ' | b'\t' if self.column == 0 => {
                    return Err(HandshakeError::Malformed("a line begins with white space"));
                }
                b'\t' if self.lines > 0 => self.column += 1,
                // RFC 9112 section 3: a request line is ASCII; only a reason phrase may be more.
                0x80.. if self.lines == 0 && self.is_request => {
                    return Err(HandshakeError::Malformed("the request line is not ASCII"));
                }
                0..=0x1f | 0x7f => return Err(HandshakeError::Malformed("a control character")),
                byte if self.column == 0 && !list::is_tchar(byte) => {
                    return Err(HandshakeError::Malformed("a line begins with no token"));
                }
                _ => self.column += 1,
            }
        }
        Ok(None)
    }

    /// The request, once its head is complete.
    pub(super) fn take_request(&mut self) -> Result<Option<Request<()>>, HandshakeError> {
        let Some(len) = self.scan()? else { return Ok(None) };
        let mut fields = self.fields()?;
        let mut parsed = httparse::Request::new(&mut fields);
        let head = &self.bytes.pending()[..len];
        parsed.parse(head).map_err(|fault| match error(fault) {
            HandshakeError::HttpVersion if !names_http(head) => HandshakeError::Malformed("the request line"),
            error => error,
        })?;
        let method = parsed.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        let target = parsed.path.and_then(|target| Uri::try_from(target).ok());
        let mut request = Request::new(());
        *request.method_mut() = method.ok_or(HandshakeError::Malformed("the method"))?;
        *request.uri_mut() = target.ok_or(HandshakeError::Malformed("the request target"))?;
        *request.version_mut() = version(parsed.version);
        *request.headers_mut() = headers(parsed.headers)?;
        self.take(len);
        Ok(Some(request))
    }

    /// The response, once its head is complete.
    pub(super) fn take_response(&mut self) -> Result<Option<Response<()>>, HandshakeError> {
        let Some(len) = self.scan()? else { return Ok(None) };
        let mut fields = self.fields()?;
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(&self.bytes.pending()[..len]).map_err(error)?;
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let mut response = Response::new(());
        *response.status_mut() = status.ok_or(HandshakeError::Malformed("the status"))?;
        *response.version_mut() = version(parsed.version);
        *response.headers_mut() = headers(parsed.headers)?;
        self.take(len);
        Ok(Some(response))
    }

    /// A place for each field of a complete head: each is a line, and so is the first.
    fn fields<'a>(&self) -> Result<Vec<httparse::Header<'a>>, HandshakeError> {
        let count = self.lines - 1;
        if count > self.limits.max_fields {
            return Err(HandshakeError::TooManyFields);
        }
        Ok(vec![httparse::EMPTY_HEADER; count])
    }

    /// Leaves the head behind. One may follow, if it was of an interim response.
    fn take(&mut self, len: usize) {
        self.bytes.consume(len);
        self.limits.max_len -= len;
        (self.scanned, self.column, self.lines) = (0, 0, 0);
    }
}

/// Whether the third word of the request line is a version of HTTP, if not one that is spoken.
fn names_http(head: &[u8]) -> bool {
    let mut words = head.split(|&byte| byte == b'\r').find(|line| !line.trim_ascii().is_empty());
    let mut words = words.take().unwrap_or_default().trim_ascii().split(|&byte| byte == b' ').skip(2);
    words.next().is_some_and(|version| version.starts_with(b"HTTP/")) && words.next().is_none()
}

fn version(minor: Option<u8>) -> http::Version {
    if minor == Some(1) { http::Version::HTTP_11 } else { http::Version::HTTP_10 }
}

fn headers(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HandshakeError> {
    let mut headers =
        HeaderMap::try_with_capacity(fields.len()).map_err(|_| HandshakeError::TooManyFields)?;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(HandshakeError::Malformed("a header field"));
        };
        // Requests end up in logs, by `Debug`.
        value.set_sensitive(SECRETS.contains(&name));
        headers.try_append(name, value).map_err(|_| HandshakeError::TooManyFields)?;
    }
    Ok(headers)
}

fn error(error: httparse::Error) -> HandshakeError {
    match error {
        httparse::Error::TooManyHeaders => HandshakeError::TooManyFields,
        httparse::Error::Version => HandshakeError::HttpVersion,
        httparse::Error::HeaderName => HandshakeError::Malformed("the name of a header field"),
        httparse::Error::HeaderValue => HandshakeError::Malformed("the value of a header field"),
        httparse::Error::Status => HandshakeError::Malformed("the status"),
        httparse::Error::NewLine | httparse::Error::Token => HandshakeError::Malformed("the first line"),
    }
}

const SECRETS: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];

const MIN_READ: usize = 4096;
