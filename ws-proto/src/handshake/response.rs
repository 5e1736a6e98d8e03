//! Heads written as bytes. Names and values come as `http` types, which hold nothing that could end a line.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

/// The bytes of a refusal. It closes the connection and says how long its body is, so that the other side
/// knows its end; the body is left out where the request was HEAD.
pub(super) fn refusal(response: &Response<Bytes>, head_only: bool) -> Vec<u8> {
    let mut out = status_line(response.status());
    for (name, value) in response.headers() {
        // The framing is ours.
        if ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name) {
            field(&mut out, name.as_str(), value.as_bytes());
        }
    }
    field(&mut out, "connection", b"close");
    // RFC 9110 sections 15.3.5 and 15.4.5: these have no body.
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if !bodiless {
        field(&mut out, "content-length", response.body().len().to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if !head_only && !bodiless {
        out.extend_from_slice(response.body());
    }
    out
}

pub(super) fn status_line(status: StatusCode) -> Vec<u8> {
    format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes()
}

pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    // As most software spells them: there are peers that forget that the case does not matter.
    let mut initial = true;
    for byte in name.bytes() {
        out.push(if initial { byte.to_ascii_uppercase() } else { byte });
        initial = byte == b'-';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(out, name.as_str(), value.as_bytes());
    }
}
