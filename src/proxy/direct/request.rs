//! A request's head: whether it is plain, and how its upstream gets it.

use std::mem::MaybeUninit;

use http::{HeaderName, HeaderValue, Method, header};

use super::answer::push_field;
use crate::proxy::{headers::is_twin, peer::Destination, target::Named};

/// A plain head.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Its method.
    pub(super) method: Method,
    /// What it names.
    pub(super) target: &'a str,
    /// Its fields.
    pub(super) fields: &'a [httparse::Header<'a>],
    /// Whether it asks for the connection to be closed.
    pub(super) closes: bool,
    host: Option<&'a [u8]>,
}

/// Reads a head that was found well-formed; `None` where it is not plain.
pub(super) fn read<T>(bytes: &[u8], then: impl FnOnce(Request<'_>) -> T) -> Option<T> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(_)) = head.parse_with_uninit_headers(bytes, &mut fields) else { return None };
    let fields: &[httparse::Header<'_>] = head.headers;
    // HTTP/1.0 has an end of the connection for each body, and no interim answers.
    if head.version != Some(1) {
        return None;
    }
    let (mut closes, mut host, mut has_cookie) = (false, None, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") => host = Some(field.value),
            // Pieces of one would have to be joined.
            6 if is("cookie") && std::mem::replace(&mut has_cookie, true) => return None,
            // Something is to be said before the body, or to be said of the connection or of protocols.
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            10 if is("connection") => {
                if field.value.eq_ignore_ascii_case(b"close") {
                    closes = true;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    let method = Method::from_bytes(head.method?.as_bytes()).ok()?;
    Some(then(Request { method, target: head.path?, fields, closes, host }))
}

impl Request<'_> {
    /// What it says of its target.
    pub(super) fn named(&self) -> Named<'_> {
        Named { method: &self.method, request_target: self.target.as_bytes(), host: self.host }
    }

    /// Writes it for its upstream, all but the credential and the empty line at the end. `credential`: the fields that
    /// will be written, and are taken out wherever they stand.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        destination: &Destination,
        credential: &[HeaderName],
        via: &HeaderValue,
    ) {
        out.clear();
        out.reserve(ROOM);
        for piece in [self.method.as_str(), " ", &destination.path_and_query, " HTTP/1.1\r\nHost: "] {
            out.extend_from_slice(piece.as_bytes());
        }
        destination.write_authority(out);
        out.extend_from_slice(b"\r\n");
        for field in self.fields {
            if is_for_upstream(field.name)
                && !credential.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_str()))
                && !(field.name.contains('_') && self.is_twin(field.name, credential))
            {
                push_field(out, field.name, field.value);
            }
        }
        push_field(out, "Via", via.as_bytes());
    }

    /// Whether a CGI-like server would read this name as that of a field which we write or which frames the body.
    fn is_twin(&self, name: &str, credential: &[HeaderName]) -> bool {
        let names = [&header::TRANSFER_ENCODING, &header::CONTENT_LENGTH];
        names.into_iter().chain(credential).any(|ours| is_twin(name, ours))
    }
}

/// What is not meant for a proxy or for one connection only, and not written anew.
fn is_for_upstream(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        // Trailers are not passed on by HTTP/1.1.
        2 => !is("te"),
        4 => !is("host"),
        7 => !is("trailer"),
        10 => !(is("connection") || is("keep-alive")),
        14 => !is("http2-settings"),
        16 => !is("proxy-connection"),
        18 => !is("proxy-authenticate"),
        19 => !is("proxy-authorization"),
        _ => true,
    }
}

/// Room for most heads, bytes.
const ROOM: usize = 1024;
/// As many fields as there may be.
const MAX_FIELDS: usize = 256;
