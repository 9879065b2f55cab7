//! One request head: read whole under one deadline and one size cap, checked strictly, and only then handed on.
//!
//! pingora has neither a deadline for a whole head nor a cap of its own below 1 MiB, repairs what should be refused
//! (bare line feeds, `Content-Length` beside `Transfer-Encoding`) and answers without a body. What passes here is one
//! well-formed HTTP/1.x head with one meaning.

use std::mem::MaybeUninit;

use http::Method;

use crate::{
    config::Limits,
    proxy::refusal::{Code, Refusal},
    route::pattern::check_authority,
};

/// A head that has one meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// How many bytes it has.
    pub length: usize,
    /// What follows it.
    pub body: Body,
    /// What it asks for.
    pub kind: Kind,
    /// The head to put in its place, where it has to be rewritten.
    pub rewritten: Option<Vec<u8>>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes, perhaps none.
    Exact(u64),
    /// Chunks, or whatever an upgraded connection carries.
    Open,
}

/// What a head asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request to forward.
    Request,
    /// `CONNECT` to this authority.
    Connect(String),
    /// The connection goes on in HTTP/2 (RFC 9113 3.4); its preface is still to be read.
    Http2,
}

/// Looks for a whole head at the beginning of `bytes`, of which the first `scanned` were looked at before.
///
/// # Errors
/// It is too large, not HTTP/1.x, or has more than one meaning.
pub fn find(bytes: &[u8], scanned: usize, limits: &Limits) -> Result<Option<Head>, Refusal> {
    if bytes.starts_with(HTTP2_PREFACE) {
        return Ok(Some(Head { length: 0, body: Body::Open, kind: Kind::Http2, rewritten: None }));
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return Ok(None);
    }
    not_another_protocol(bytes)?;
    let from = scanned.saturating_sub(END.len() - 1);
    let end = bytes.get(from..).and_then(|new| memchr::memmem::find(new, END));
    let length = match end {
        Some(at) => from + at + END.len(),
        None if bytes.len() > limits.max_header_size => return Err(too_large(limits)),
        None => return Ok(None),
    };
    if length > limits.max_header_size {
        return Err(too_large(limits));
    }
    let bytes = bytes.get(..length).unwrap_or(bytes);
    examine(bytes, limits).map(Some)
}

/// Clients that speak something else get told so at their first bytes.
fn not_another_protocol(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Err(bad("this listener speaks plain HTTP, and the client began with TLS")
            .hinting("write the proxy's or base URL with http://, not https://: lanyard speaks TLS to the upstream"));
    }
    Ok(())
}

/// Checks a whole head.
fn examine(bytes: &[u8], limits: &Limits) -> Result<Head, Refusal> {
    let bare = memchr::memchr3_iter(b'\n', b'\r', 0, bytes).any(|at| match bytes.get(at) {
        Some(b'\n') => at == 0 || bytes.get(at - 1) != Some(&b'\r'),
        Some(b'\r') => bytes.get(at + 1) != Some(&b'\n'),
        _ => true,
    });
    if bare {
        return Err(bad("the head has a bare CR, a bare LF or a NUL").hinting("end each line with CR LF"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; PARSED_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head is not whole")),
        Err(httparse::Error::TooManyHeaders) => return Err(too_many(limits)),
        Err(error) => return Err(bad(format!("the head is not HTTP/1.1: {error}"))),
    }
    if request.headers.len() > limits.max_headers {
        return Err(too_many(limits));
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad("the request line is not whole"));
    };
    // pingora would cut it off in silence.
    if target.contains('#') {
        return Err(bad("the request target has a fragment").hinting("leave the part from '#' out"));
    }
    let named = |name: &'static str| {
        request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let body = framing(version, named("transfer-encoding"), named("content-length"))?;
    let mut hosts = named("host");
    let (host, further) = (hosts.next(), hosts.next());
    let named_by_target = method == Method::CONNECT.as_str() || absolute_authority(target).is_some();
    one_host(host, further, version, named_by_target)?;

    if method == Method::CONNECT.as_str() {
        // RFC 9110 9.3.6 gives it no meaning: what one reads as the body is the beginning of the tunnel for another.
        if body != Body::Exact(0) {
            return Err(bad("CONNECT with a body").hinting("send the body inside the tunnel, after the answer"));
        }
        return Ok(Head {
            length: bytes.len(),
            body: Body::Open,
            kind: Kind::Connect(target.to_owned()),
            rewritten: None,
        });
    }
    let absolute = absolute_authority(target);
    // pingora would refuse it without a word.
    if absolute.is_none() && !target.starts_with('/') && target != "*" {
        return Err(bad("the request target is neither a path nor a URL").hinting("send '/path' or 'http://host/path'"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/?&=%+:@,;!$'()*".contains(&byte);
    // Those need no closer look, which would cost a copy.
    if !(target.starts_with('/') && target.bytes().all(plain)) && http::Uri::try_from(target).is_err() {
        return Err(bad("the request target has a character that is none of a URL's").hinting("percent-encode it"));
    }
    let (body, ignore_upgrade) = upgrade(named("upgrade"), named("connection"), body)?;
    let host = match absolute {
        Some(authority) => {
            check_authority(authority)
                .map_err(|e| bad(format!("the target cannot be told: {e}")).hinting("send http://HOST[:PORT]/PATH"))?;
            // RFC 9112 3.2.2: the Host that came is ignored and replaced.
            (host != Some(authority.as_bytes())).then_some(authority)
        }
        None => None,
    };
    let rewritten = (host.is_some() || ignore_upgrade).then(|| rewrite(&request, host, ignore_upgrade));
    Ok(Head { length: bytes.len(), body, kind: Kind::Request, rewritten })
}

/// How long the body is (RFC 9112 6.3), where there is only one way to read it.
pub(super) fn framing<'a>(
    version: u8,
    mut transfer_encodings: impl Iterator<Item = &'a [u8]>,
    mut content_lengths: impl Iterator<Item = &'a [u8]>,
) -> Result<Body, Refusal> {
    let (coding, length) = (transfer_encodings.next(), content_lengths.next());
    if transfer_encodings.next().is_some() || content_lengths.next().is_some() || (coding.is_some() && length.is_some())
    {
        return Err(bad(
            "the body's length is told twice: Transfer-Encoding and Content-Length, or one of them repeated",
        )
        .hinting("send exactly one of them"));
    }
    match (coding, length) {
        (None, None) => Ok(Body::Exact(0)),
        (Some(_), _) if version == 0 => Err(bad("Transfer-Encoding in an HTTP/1.0 request")),
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Open),
        (Some(_), _) => {
            Err(bad("a Transfer-Encoding other than \"chunked\"")
                .hinting("send the body chunked or with a Content-Length"))
        }
        (None, Some(length)) => {
            let plain = !length.is_empty()
                && length.len() <= 18
                && length.iter().all(u8::is_ascii_digit)
                && (length == b"0" || !length.starts_with(b"0"));
            let length = std::str::from_utf8(length).ok().filter(|_| plain).and_then(|text| text.parse().ok());
            length.map(Body::Exact).ok_or_else(|| bad("Content-Length is not a plain number"))
        }
    }
}

/// Exactly one Host that names one host; none is needed where HTTP/1.0 names the target itself (RFC 9112 3.2), as the
/// CONNECT of Python before 3.12 does.
fn one_host(host: Option<&[u8]>, further: Option<&[u8]>, version: u8, named_by_target: bool) -> Result<(), Refusal> {
    match (host, further) {
        (None, _) if version == 0 && named_by_target => Ok(()),
        (None, _) => Err(bad("the request has no Host").hinting("send the Host header field")),
        (Some(host), None) => {
            let text = std::str::from_utf8(host)
                .map_err(|_| bad("Host is not ASCII").hinting("send its A-label (xn--...)"))?;
            // An absolute target decides alone, but a Host that means nothing is refused all the same.
            check_authority(text)
                .map_err(|e| bad(format!("Host cannot be told: {e}")).hinting("send HOST or HOST:PORT"))
        }
        (Some(_), Some(_)) => Err(bad("the request has more than one Host").hinting("send one")),
    }
}

/// The authority of an absolute-form target.
fn absolute_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
        return None;
    }
    rest.split(['/', '?', '#']).next()
}

/// What follows a head that may ask for an upgrade (RFC 9110 7.8), and whether its `Upgrade` is to be ignored: it counts
/// only where `Connection` names it. An offer of HTTP/2 (Java's client and `curl --http2` make one with each request)
/// never does: RFC 9113 3.1 has done away with it, and requests behind a 101 would pass unseen and without a token.
fn upgrade<'a>(
    upgrades: impl Iterator<Item = &'a [u8]>,
    mut connections: impl Iterator<Item = &'a [u8]>,
    body: Body,
) -> Result<(Body, bool), Refusal> {
    let mut upgrades = upgrades.peekable();
    if upgrades.peek().is_none() {
        return Ok((body, false));
    }
    let has = |value: &[u8], wanted: &[u8]| {
        value.split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    if upgrades.any(|value| has(value, b"h2c")) || !connections.any(|value| has(value, b"upgrade")) {
        return Ok((body, true));
    }
    match body {
        Body::Exact(0) => Ok((Body::Open, false)),
        _ => Err(bad("an Upgrade with a body").hinting("send the body before or after the upgrade")),
    }
}

/// The head with this Host in place of what it had, and without `Upgrade` if that is to be ignored.
fn rewrite(request: &httparse::Request<'_, '_>, host: Option<&str>, ignore_upgrade: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(request.method.unwrap_or_default().as_bytes());
    head.push(b' ');
    head.extend_from_slice(request.path.unwrap_or_default().as_bytes());
    head.extend_from_slice(if request.version == Some(0) { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    let mut push = |name: &str, value: &[u8]| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    if let Some(host) = host {
        push("Host", host.as_bytes());
    }
    for field in request.headers.iter() {
        let replaced = host.is_some() && field.name.eq_ignore_ascii_case("host");
        let ignored = ignore_upgrade && field.name.eq_ignore_ascii_case("upgrade");
        if !replaced && !ignored {
            push(field.name, field.value);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// HTTP/2 after an HTTP/1.1 request.
pub(super) fn late_http2() -> Refusal {
    bad("the connection changed from HTTP/1.1 to HTTP/2 between two requests").hinting("open a new one for HTTP/2")
}

/// A head that did not arrive in time.
pub(super) fn too_slow(limits: &Limits) -> Refusal {
    Refusal::new(
        Code::HeaderTimeout,
        format!("the request's head did not arrive within header_timeout ({:?})", limits.header_timeout),
        "send it faster, or raise limits.header_timeout",
    )
}

fn too_large(limits: &Limits) -> Refusal {
    let detail = format!("the request's head is larger than max_header_size ({} bytes)", limits.max_header_size);
    Refusal::new(Code::HeadersTooLarge, detail, "send less (cookies?), or raise limits.max_header_size")
}

fn too_many(limits: &Limits) -> Refusal {
    let detail = format!("the request has more than max_headers ({}) header fields", limits.max_headers);
    Refusal::new(Code::HeadersTooLarge, detail, "send fewer, or raise limits.max_headers")
}

fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, detail, "look at what the client sends")
}

impl Refusal {
    /// The same with another hint.
    fn hinting(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.hint);
        self
    }
}

const END: &[u8] = b"\r\n\r\n";
/// What an HTTP/2 client says first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First byte of a TLS record that carries a ClientHello (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// As many as pingora parses.
const PARSED_FIELDS: usize = 256;

#[cfg(test)]
mod tests;
