//! What a connection of any protocol begins with: HTTP, TLS, something else, or nothing.

use rustls::server::Acceptor;
use tokio::time::{Duration, Instant, timeout_at};

use super::stream::ClientStream;
use crate::route::pattern::Host;

/// What a client's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A request line of HTTP/1.x, or the preface of HTTP/2.
    Http,
    /// A ClientHello.
    Tls,
    /// No protocol that is known here.
    Other,
    /// Nothing so far: the client may wait for the server to speak first.
    Silence,
    /// The client left without a word.
    Gone,
}

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    Surely(Opening),
    /// More bytes tell; this, if none come.
    Perhaps(Opening),
}

/// Looks at what the client sends first, until it tells, nothing more comes for `patience`, or `deadline` is over.
pub(super) async fn opening(
    client: &mut ClientStream,
    patience: Duration,
    deadline: Instant,
    max_line: usize,
) -> Opening {
    loop {
        let so_far = match guess(&client.buffer, max_line) {
            Guess::Surely(opening) => return opening,
            Guess::Perhaps(opening) => opening,
        };
        let until = Instant::now().checked_add(patience).map_or(deadline, |at| at.min(deadline));
        match timeout_at(until, client.fill()).await {
            Ok(Ok(read)) if read > 0 => {}
            Ok(_) if client.buffer.is_empty() => return Opening::Gone,
            Ok(_) | Err(_) => return so_far,
        }
    }
}

/// What bytes are the beginning of.
pub(super) fn guess(bytes: &[u8], max_line: usize) -> Guess {
    match bytes {
        [] => Guess::Perhaps(Opening::Silence),
        [TLS_HANDSHAKE] => Guess::Perhaps(Opening::Other),
        [TLS_HANDSHAKE, TLS_MAJOR, ..] => Guess::Surely(Opening::Tls),
        [TLS_HANDSHAKE, ..] => Guess::Surely(Opening::Other),
        text => guess_text(text, max_line),
    }
}

/// RFC 9112 3: `METHOD SP request-target SP HTTP/1.x`, perhaps after an empty line.
fn guess_text(bytes: &[u8], max_line: usize) -> Guess {
    let empty_lines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = bytes.get(empty_lines..).unwrap_or_default();
    let (line, whole) = match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (text.get(..at).unwrap_or_default(), true),
        None => (text, text.len() > max_line),
    };
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    let is_method = method.len() <= LONGEST_METHOD && method.iter().all(|byte| is_token(*byte));
    if empty_lines > MOST_EMPTY || !is_method || (target.is_some() && method.is_empty()) {
        return Guess::Surely(Opening::Other);
    }
    let Some(target) = target else {
        return if whole { Guess::Surely(Opening::Other) } else { Guess::Perhaps(Opening::Other) };
    };
    let likely = target.starts_with(b"/") || target.starts_with(b"*") || target.starts_with(b"http");
    let opening = if likely { Opening::Http } else { Opening::Other };
    if !whole {
        return Guess::Perhaps(opening);
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let too_long = text.len() == line.len();
    let is_http = matches!(version, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'])
        || line == b"PRI * HTTP/2.0"
        || (too_long && likely);
    Guess::Surely(if is_http { Opening::Http } else { Opening::Other })
}

/// RFC 9110 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// The name that a ClientHello asks for (SNI, RFC 6066 3), read until `deadline` at most; `None`: it has none, or is no
/// ClientHello that can be read. What was read stays in front of the client's bytes.
pub(super) async fn server_name(client: &mut ClientStream, deadline: Instant) -> Option<Host> {
    let (mut acceptor, mut fed) = (Acceptor::default(), 0);
    loop {
        let mut fresh = client.buffer.get(fed..)?;
        while !fresh.is_empty() {
            if acceptor.read_tls(&mut fresh).ok()? == 0 {
                return None;
            }
            if let Some(accepted) = acceptor.accept().ok()? {
                return accepted.client_hello().server_name().and_then(|name| Host::parse(name).ok());
            }
        }
        fed = client.buffer.len();
        if fed > LARGEST_HELLO || !matches!(timeout_at(deadline, client.fill()).await, Ok(Ok(1..))) {
            return None;
        }
    }
}

/// How long a silent client is waited for before its server may be one that speaks first.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);
/// First byte of a TLS record that carries a ClientHello, and the one after it (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// See [`TLS_HANDSHAKE`].
const TLS_MAJOR: u8 = 3;
/// A ClientHello with every extension and post-quantum keys has about 2 KiB.
const LARGEST_HELLO: usize = 64 * 1024;
/// The longest that is registered (UPDATEREDIRECTREF) has 17.
const LONGEST_METHOD: usize = 32;
/// CR and LF before a request line.
const MOST_EMPTY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        use Guess::{Perhaps, Surely};
        use Opening::{Http, Other, Silence, Tls};
        for (bytes, expected) in [
            (&b""[..], Perhaps(Silence)),
            (b"GET / HTTP/1.1\r\n", Surely(Http)),
            (b"\r\nGET / HTTP/1.0\r\n", Surely(Http)),
            (b"GET http://a/ HTTP/1.1\n", Surely(Http)),
            (b"CONNECT a:443 HTTP/1.1\r\n", Surely(Http)),
            (b"PRI * HTTP/2.0\r\n", Surely(Http)),
            (b"PRI * HT", Perhaps(Http)),
            (b"G", Perhaps(Other)),
            (b"GET ", Perhaps(Other)),
            (b"GET /a b", Perhaps(Http)),
            (b"GET key\r\n", Surely(Other)),
            (b"PING\r\n", Surely(Other)),
            (b"*1\r\n$4\r\nPING\r\n", Surely(Other)),
            (b"EHLO mail.test\r\n", Surely(Other)),
            (b"OPTIONS rtsp://a RTSP/1.0\r\n", Surely(Other)),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Surely(Other)),
            (b"SSH-2.0", Perhaps(Other)),
            (b" GET / HTTP/1.1\r\n", Surely(Other)),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Surely(Other)), // PostgreSQL asks for TLS
            (b"\x16", Perhaps(Other)),
            (b"\x16\x03", Surely(Tls)),
            (b"\x16\x02\x00", Surely(Other)),
            (b"\r\n\r\n\r\n\r\n\r\n", Surely(Other)),
        ] {
            assert_eq!(guess(bytes, 1024), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let long = [b"GET /".as_slice(), &[b'x'; 1100]].concat();
        assert_eq!(guess(&long, 1024), Surely(Http), "the request side says that it is too long");
    }
}
