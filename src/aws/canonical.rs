//! The canonical request: the text of a request on which both sides agree, whatever happened to it on the way.

use std::ops::Range;

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::Request;

/// How a service reads paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathStyle {
    /// S3: each octet of an object's name counts, and it is encoded once, so that a slash is one however it was sent.
    Object,
    /// All others: dot segments and empty ones go, and what is on the wire is encoded once more.
    Normalized,
}

/// A canonical request, and the names of the header fields in it.
pub(super) struct Canonical {
    pub(super) text: Vec<u8>,
    /// In order, with a semicolon between.
    pub(super) signed_headers: String,
}

/// Writes the canonical request. `own` are the fields that the signer sets, `host` among them; those of the request with
/// the same names are not looked at.
pub(super) fn request(
    style: PathStyle,
    request: &Request<'_>,
    own: &[(&HeaderName, &[u8])],
    payload: &str,
) -> Canonical {
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(request.method.as_bytes());
    text.push(b'\n');
    write_path(style, request.path, &mut text);
    text.push(b'\n');
    write_query(request.query.unwrap_or_default(), &mut text);
    text.push(b'\n');
    let signed_headers = write_headers(request.headers, own, &mut text);
    text.push(b'\n');
    text.extend_from_slice(signed_headers.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload.as_bytes());
    Canonical { text, signed_headers }
}

fn write_path(style: PathStyle, path: &str, out: &mut Vec<u8>) {
    match style {
        PathStyle::Object => {
            if !path.starts_with('/') {
                out.push(b'/');
            }
            decoded(path, false).for_each(|octet| push_encoded(octet, true, out));
        }
        PathStyle::Normalized => {
            let mut segments: SmallVec<[&str; 16]> = SmallVec::new();
            for segment in path.split('/') {
                match segment {
                    "" | "." => {}
                    ".." => drop(segments.pop()),
                    name => segments.push(name),
                }
            }
            for segment in &segments {
                out.push(b'/');
                segment.bytes().for_each(|octet| push_encoded(octet, false, out));
            }
            if segments.is_empty() || path.ends_with('/') {
                out.push(b'/');
            }
        }
    }
}

/// Pairs in the order of their encoded names, then values; a plus sign is a space, as in a form, which is how AWS reads it.
fn write_query(query: &str, out: &mut Vec<u8>) {
    let mut encoded = Vec::with_capacity(query.len() + 16);
    let mut pairs: SmallVec<[(Range<usize>, Range<usize>); 8]> = SmallVec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut part = |text| {
            let start = encoded.len();
            decoded(text, true).for_each(|octet| push_encoded(octet, false, &mut encoded));
            start..encoded.len()
        };
        pairs.push((part(name), part(value)));
    }
    let text = |range: &Range<usize>| encoded.get(range.clone()).unwrap_or_default();
    pairs.sort_by(|a, b| (text(&a.0), text(&a.1)).cmp(&(text(&b.0), text(&b.1))));
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(text(name));
        out.push(b'=');
        out.extend_from_slice(text(value));
    }
}

/// A field with the signer's value, or with those of the request.
type Field<'a> = (&'a HeaderName, Option<&'a [u8]>);

/// Writes the fields, one a line, in the order of their names, and returns the names.
fn write_headers(headers: &HeaderMap, own: &[(&HeaderName, &[u8])], out: &mut Vec<u8>) -> String {
    let mut fields: SmallVec<[Field<'_>; 24]> = own.iter().map(|(name, value)| (*name, Some(*value))).collect();
    for name in headers.keys() {
        if is_signed(name.as_str()) && own.iter().all(|(own, _)| *own != name) {
            fields.push((name, None));
        }
    }
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    let mut signed = String::with_capacity(fields.iter().map(|(name, _)| name.as_str().len() + 1).sum());
    for (name, value) in fields {
        if !signed.is_empty() {
            signed.push(';');
        }
        signed.push_str(name.as_str());
        out.extend_from_slice(name.as_str().as_bytes());
        out.push(b':');
        match value {
            Some(value) => push_trimmed(value, out),
            None => {
                for (index, value) in headers.get_all(name).iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    push_trimmed(value.as_bytes(), out);
                }
            }
        }
        out.push(b'\n');
    }
    signed
}

/// Whether a field arrives as it was sent. A signed field that something on the way changes makes the request void, and
/// nothing but `host` and `x-amz-*` has to be signed.
fn is_signed(name: &str) -> bool {
    let hop_by_hop = matches!(
        name,
        "connection"
            | "expect"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            // Written anew by whatever frames the body.
            | "content-length"
    );
    let rewritten = matches!(
        name,
        // Set by the signer.
        "authorization" | "host"
            // Changed by clients' libraries, proxies and front ends.
            | "accept-encoding"
            | "b3"
            | "baggage"
            | "forwarded"
            | "max-forwards"
            | "traceparent"
            | "tracestate"
            | "user-agent"
            | "via"
            | "x-amzn-trace-id"
            | "x-real-ip"
    );
    !hop_by_hop && !rewritten && !name.starts_with("x-forwarded-") && !name.starts_with("x-b3-")
}

/// A field's value without white space around it, and with one space for each run of it inside.
fn push_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// The octets of a percent-encoded text; a percent sign that encodes nothing stands for itself.
fn decoded(text: &str, plus_is_space: bool) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (first, others) = rest.split_first()?;
        rest = others;
        match (first, others) {
            (b'%', [high, low, after @ ..]) => {
                let Some(octet) = hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low) else {
                    return Some(b'%');
                };
                rest = after;
                Some(octet)
            }
            (b'+', _) if plus_is_space => Some(b' '),
            _ => Some(*first),
        }
    })
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// UriEncode of the specification: unreserved characters (RFC 3986 section 2.3) stay, and slashes if asked for.
fn push_encoded(octet: u8, keep_slash: bool, out: &mut Vec<u8>) {
    const fn digit(value: u8) -> u8 {
        if value < 10 { b'0' + value } else { b'A' + value - 10 }
    }
    let unreserved = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~');
    if unreserved || keep_slash && octet == b'/' {
        out.push(octet);
    } else {
        out.extend_from_slice(&[b'%', digit(octet >> 4), digit(octet & 15)]);
    }
}
