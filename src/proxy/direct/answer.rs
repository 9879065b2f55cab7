//! An upstream's answer: its head read and written anew for the client, and where its body ends (RFC 9112 6.3).

use std::{
    mem::MaybeUninit,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, StatusCode, header};

use super::chunks::Chunks;
use crate::proxy::{admit::Fields, retry};

/// A head, as it counts.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// How many bytes the head has.
    pub(super) length: usize,
    /// What follows it.
    pub(super) body: Body,
    /// Whether the upstream's connection may carry another request, once the body has ended.
    pub(super) reusable: bool,
    /// For how long the upstream keeps it.
    pub(super) granted: Option<Duration>,
    /// What it wants, where a new token would not help.
    pub(super) challenge: retry::Challenge,
    /// The nonce that the upstream gives for the next proof (RFC 9449 8.2).
    pub(super) nonce: Option<HeaderValue>,
    /// The time at the upstream, if it refused the request.
    pub(super) refused_at: Option<SystemTime>,
}

/// What follows a head.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes more.
    Exact(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection ends.
    UntilClose,
    /// The same, and the client gets it in chunks: then it sees whether it is whole, and its connection goes on.
    Unframed,
}

/// Not an answer of HTTP/1.x, or one whose end cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the head at the beginning of `bytes` and writes it to `out` as the client gets it, but for the empty line at
/// its end. `None`: it is not whole.
///
/// # Errors
/// It is malformed, or larger than [`MAX_HEAD`].
pub(super) fn read(bytes: &[u8], method: &Method, out: &mut Vec<u8>) -> Result<Option<Answer>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let mut parser = httparse::ParserConfig::default();
    // As pingora reads them: servers that write such answers are old, and known.
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let length = match parser.parse_response_with_uninit_headers(&mut answer, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD => return Ok(None),
        Ok(_) | Err(_) => return Err(Malformed),
    };
    let status = StatusCode::from_u16(answer.code.unwrap_or_default()).map_err(|_| Malformed)?;
    let fields: &[httparse::Header<'_>] = answer.headers;

    let interim = status.is_informational();
    let bodiless =
        interim || *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let coding = fields.all(&header::TRANSFER_ENCODING).last();
    let content_length = content_length(fields)?;
    let body = match (coding, content_length) {
        _ if bodiless => Body::Exact(0),
        (Some(coding), _) if ends_in_chunks(coding) => Body::Chunked(Chunks::default()),
        (None, Some(length)) => Body::Exact(length),
        (Some(_), _) => Body::UntilClose,
        (None, None) => Body::Unframed,
    };

    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(answer.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let connection = Connection::of(fields);
    // An interim answer and a 204 may not tell a length (RFC 9110 8.6): somebody could believe it.
    let mut length_is_told = coding.is_some() || interim || status == StatusCode::NO_CONTENT;
    for field in fields {
        let kind = Kind::of(field.name);
        let kept = match kind {
            Kind::OneHop => false,
            Kind::Framing => !(bodiless && field.name.len() == header::TRANSFER_ENCODING.as_str().len()),
            Kind::Length => !std::mem::replace(&mut length_is_told, true),
            Kind::Other => !connection.names(fields, field.name),
        };
        if kept {
            let value = if kind == Kind::Length { first(field.value) } else { field.value };
            push_unfolded(out, field.name, value);
        }
    }
    if !interim && !fields.has(&header::DATE) {
        // RFC 9110 6.6.1.
        push_field(out, "Date", pingora::protocols::http::date::get_cached_date().as_bytes());
    }
    if matches!(body, Body::Unframed) {
        push_field(out, "Transfer-Encoding", b"chunked");
    }

    let version_keeps = answer.version == Some(1) || connection.keeps;
    let ended_by_itself = !matches!(body, Body::UntilClose | Body::Unframed);
    let old_chunks = answer.version == Some(0) && coding.is_some();
    // Told in two ways (RFC 9112 6.3): whoever wrote it may mean another end than we do.
    let told_twice = coding.is_some() && content_length.is_some();
    Ok(Some(Answer {
        status,
        length,
        body,
        reusable: version_keeps && !connection.closes && ended_by_itself && !old_chunks && !told_twice,
        granted: granted(fields),
        challenge: retry::Challenge::read(fields),
        nonce: fields.all(&retry::DPOP_NONCE).next().and_then(|nonce| HeaderValue::from_bytes(nonce).ok()),
        refused_at: retry::refused_at(status, fields),
    }))
}

/// Writes one field.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field of an answer, on one line: of a folded one (RFC 9112 5.2) each piece of the fold becomes a space.
fn push_unfolded(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if memchr::memchr2(b'\n', b'\r', value).is_none() {
        return push_field(out, name, value);
    }
    let value: Vec<u8> = value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect();
    push_field(out, name, &value);
}

/// What a field of an answer is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Meant for the connection to us only.
    OneHop,
    /// Says how the body is framed.
    Framing,
    /// Content-Length.
    Length,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            10 if is("connection") || is("keep-alive") => Self::OneHop,
            14 if is("content-length") => Self::Length,
            16 if is("proxy-connection") => Self::OneHop,
            17 if is("transfer-encoding") => Self::Framing,
            18 if is("proxy-authenticate") => Self::OneHop,
            25 if is("proxy-authentication-info") => Self::OneHop,
            _ => Self::Other,
        }
    }
}

/// What `Connection` says.
#[derive(Default)]
struct Connection {
    keeps: bool,
    closes: bool,
    /// Whether it names other fields (RFC 9110 7.6.1).
    nominates: bool,
}

impl Connection {
    fn of(fields: &[httparse::Header<'_>]) -> Self {
        let mut said = Self::default();
        for option in options(fields) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                said.keeps = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                said.closes = true;
            } else {
                said.nominates = true;
            }
        }
        said
    }

    fn names(&self, fields: &[httparse::Header<'_>], name: &str) -> bool {
        self.nominates && options(fields).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn options<'a>(fields: &'a [httparse::Header<'_>]) -> impl Iterator<Item = &'a [u8]> {
    fields.all(&header::CONNECTION).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The one length that is told, however often (RFC 9110 8.6).
fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<u64>, Malformed> {
    let mut told = None;
    for value in fields.all(&header::CONTENT_LENGTH).flat_map(|value| value.split(|byte| *byte == b',')) {
        let digits = std::str::from_utf8(value.trim_ascii()).map_err(|_| Malformed)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let length = digits.parse().ok().filter(|_| plain).ok_or(Malformed)?;
        if told.is_some_and(|before| before != length) {
            return Err(Malformed);
        }
        told = Some(length);
    }
    Ok(told)
}

/// Of a list.
fn first(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

fn ends_in_chunks(coding: &[u8]) -> bool {
    let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// `Keep-Alive: timeout=SECONDS`.
fn granted(fields: &[httparse::Header<'_>]) -> Option<Duration> {
    let mut kept = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("keep-alive"));
    let value = std::str::from_utf8(kept.next()?.value).ok()?;
    let seconds = value.split(',').find_map(|parameter| parameter.trim().strip_prefix("timeout="))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// As many fields as pingora reads.
const MAX_FIELDS: usize = 256;
/// As large as a head may be, bytes.
pub(super) const MAX_HEAD: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
