use std::time::Duration;

use super::*;

fn limits() -> Limits {
    Limits {
        max_connections: 1,
        header_timeout: Duration::from_secs(1),
        max_header_size: 512,
        max_headers: 5,
        idle_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(1),
    }
}

fn ask(text: &str) -> Result<Head, Code> {
    find(text.as_bytes(), 0, &limits()).map(|head| head.expect("a whole head")).map_err(|refusal| refusal.code)
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let length = text.len() - 4;
    for cut in 0..length {
        assert_eq!(find(&text[..cut], cut.saturating_sub(1), &limits()).unwrap(), None, "{cut}");
        let found = find(text, cut, &limits()).unwrap().unwrap();
        assert_eq!((found.length, found.body, found.kind), (length, Body::Exact(0), Kind::Request), "{cut}");
    }
}

#[test]
fn a_body_has_one_length() {
    for (fields, expected) in [
        ("", Ok(Body::Exact(0))),
        ("Content-Length: 0", Ok(Body::Exact(0))),
        ("content-length: 12", Ok(Body::Exact(12))),
        ("Transfer-Encoding: Chunked", Ok(Body::Open)),
        ("Upgrade: websocket\r\nConnection: keep-alive, Upgrade", Ok(Body::Open)),
        ("Upgrade: websocket", Ok(Body::Exact(0))),
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", Ok(Body::Exact(0))),
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 3", Ok(Body::Exact(3))),
        ("Upgrade: websocket, H2C\r\nConnection: Upgrade", Ok(Body::Exact(0))),
        ("Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade", Ok(Body::Exact(0))),
        ("Upgrade: websocket\r\nContent-Length: 3", Ok(Body::Exact(3))),
        ("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3", Err(Code::BadRequest)),
        ("Upgrade: a\r\nConnection: upgrade\r\nTransfer-Encoding: chunked", Err(Code::BadRequest)),
        ("Content-Length: 1\r\nContent-Length: 1", Err(Code::BadRequest)),
        ("Content-Length: 1, 1", Err(Code::BadRequest)),
        ("Content-Length: +2", Err(Code::BadRequest)),
        ("Content-Length: 010", Err(Code::BadRequest)),
        ("Content-Length: ", Err(Code::BadRequest)),
        ("Content-Length: 99999999999999999999", Err(Code::BadRequest)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Err(Code::BadRequest)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Code::BadRequest)),
        ("Transfer-Encoding: gzip, chunked", Err(Code::BadRequest)),
        ("Transfer-Encoding: identity", Err(Code::BadRequest)),
        ("Transfer-Encoding: \x0bchunked", Err(Code::BadRequest)),
        ("Transfer-Encoding : chunked", Err(Code::BadRequest)),
        ("X: a\r\n b", Err(Code::BadRequest)),
        ("X: a\nY: b", Err(Code::BadRequest)),
        ("X: a\rY: b", Err(Code::BadRequest)),
        ("X: a\0b", Err(Code::BadRequest)),
    ] {
        let separator = if fields.is_empty() { "" } else { "\r\n" };
        let text = format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}{separator}\r\n");
        assert_eq!(ask(&text).map(|head| head.body), expected, "{fields:?}");
    }
    assert_eq!(ask("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Code::BadRequest));
}

#[test]
fn there_is_one_host() {
    for (text, good) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET http://a/ HTTP/1.0\r\n\r\n", true),
        ("GET http://a/ HTTP/1.1\r\n\r\n", false),
        ("CONNECT a:443 HTTP/1.0\r\n\r\n", true),
        ("CONNECT a:443 HTTP/1.1\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", false),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", false),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET http://a:0/ HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", false),
        ("GET /\r\nHost: a\r\n\r\n", false),
    ] {
        assert_eq!(ask(text).is_ok(), good, "{text:?}");
    }
}

#[test]
fn an_absolute_target_replaces_host() {
    for (host, rewritten) in [("a.test:80", false), ("A.test:80", true), ("b", true)] {
        let text = format!("GET http://a.test:80/x HTTP/1.1\r\nHost: {host}\r\nX-Y:  z \r\n\r\n");
        let head = ask(&text).unwrap();
        assert_eq!(head.length, text.len());
        let expected = rewritten
            .then(|| "GET http://a.test:80/x HTTP/1.1\r\nHost: a.test:80\r\nX-Y: z\r\n\r\n".to_owned().into_bytes());
        assert_eq!(head.rewritten, expected, "{host}");
    }
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_ignored() {
    let head = ask("GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let expected = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(head.rewritten, Some(expected.as_bytes().to_vec()));
}

#[test]
fn a_target_that_is_no_url_is_told_so() {
    for target in ["/a<b", "/a`b", "http://a/<"] {
        assert_eq!(ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), Err(Code::BadRequest), "{target}");
    }
    for target in ["/a|b^c{d}", "/a\\b", "/~!$&'()*+,;=:@%20", "http://a?x", "/a[0]"] {
        assert!(ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).is_ok(), "{target}");
    }
}

#[test]
fn connect_is_told_apart() {
    let head = ask("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").unwrap();
    assert_eq!((head.kind, head.body), (Kind::Connect("a.test:443".to_owned()), Body::Open));
}

#[test]
fn heads_are_bounded() {
    let five = "X: y\r\n".repeat(4);
    assert!(ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{five}\r\n")).is_ok());
    assert_eq!(ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{five}X: y\r\n\r\n")), Err(Code::HeadersTooLarge));
    assert_eq!(
        ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(300))),
        Err(Code::HeadersTooLarge)
    );

    let padding = "y".repeat(512 - "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len());
    assert!(ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {padding}\r\n\r\n")).is_ok());
    assert_eq!(ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {padding}y\r\n\r\n")), Err(Code::HeadersTooLarge));
    let endless = "y".repeat(513);
    assert_eq!(find(endless.as_bytes(), 0, &limits()).unwrap_err().code, Code::HeadersTooLarge);
}

#[test]
fn other_protocols_are_told_what_is_spoken_here() {
    for (bytes, word) in [(&b"\x16\x03\x01\x02\x00"[..], "TLS"), (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "HTTP/1.1")] {
        let refusal = find(bytes, 0, &limits()).unwrap_err();
        assert!(refusal.code == Code::BadRequest && refusal.detail.contains(word), "{refusal:?}");
    }
}
