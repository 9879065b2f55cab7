use super::*;

/// What the client gets, what follows, and whether the connection may be used again.
fn told(head: &str, method: &Method) -> Option<(String, String, bool)> {
    let mut out = Vec::new();
    let answer = read(head.as_bytes(), method, &mut out).ok()?.unwrap();
    let body = match answer.body {
        Body::Exact(length) => length.to_string(),
        Body::Chunked(_) => "chunks".to_owned(),
        Body::UntilClose => "close".to_owned(),
        Body::Unframed => "unframed".to_owned(),
    };
    Some((without_date(&String::from_utf8(out).unwrap()), body, answer.reusable))
}

/// The head without the one date that a final answer has.
fn without_date(head: &str) -> String {
    let is_date = |line: &&str| line.starts_with("Date: ");
    let interim = head.starts_with("HTTP/1.1 1");
    assert_eq!(head.split_inclusive("\r\n").filter(is_date).count(), usize::from(!interim), "{head}");
    head.split_inclusive("\r\n").filter(|line| !is_date(line)).collect()
}

#[test]
fn an_answer_keeps_its_date_and_one_without_gets_it() {
    let mut out = Vec::new();
    read(b"HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n\r\n", &Method::GET, &mut out).unwrap();
    assert_eq!(out, b"HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n");
    out.clear();
    read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &Method::GET, &mut out).unwrap();
    let head = String::from_utf8(out).unwrap();
    let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap();
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
}

#[test]
fn a_body_has_one_end() {
    for (fields, body, reusable) in [
        ("Content-Length: 3\r\n", "3", true),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "3", true),
        ("Content-Length: 3, 3\r\n", "3", true),
        ("Transfer-Encoding: chunked\r\n", "chunks", true),
        ("Transfer-Encoding: gzip, Chunked\r\n", "chunks", true),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "chunks", false),
        ("Transfer-Encoding: gzip\r\n", "close", false),
        ("Transfer-Encoding: chunked, gzip\r\nContent-Length: 3\r\n", "close", false),
        ("", "unframed", false),
        ("Content-Length: 3\r\nConnection: close\r\n", "3", false),
        ("Content-Length: 3\r\nConnection: x, Close\r\n", "3", false),
    ] {
        let (out, found, kept) = told(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), &Method::GET).unwrap();
        assert_eq!((found.as_str(), kept), (body, reusable), "{fields:?}");
        assert!(!(out.contains("Transfer-Encoding") && out.contains("Content-Length")), "{out}");
        assert!(out.matches("Content-Length").count() <= 1, "{out}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let expected = (format!("HTTP/1.1 {status}\r\n"), "0".to_owned(), true);
        assert_eq!(told(&head, &Method::GET), Some(expected));
    }
    for (status, length) in [("103 Early Hints", ""), ("204 No Content", ""), ("304 X", "Content-Length: 3\r\n")] {
        let (out, body, _) = told(&format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\n"), &Method::GET).unwrap();
        assert_eq!((out, body), (format!("HTTP/1.1 {status}\r\n{length}"), "0".to_owned()));
    }
    let (out, ..) = told("HTTP/1.1 200 OK\r\nContent-Length: 3 , 3\r\n\r\n", &Method::GET).unwrap();
    assert_eq!(out, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n");
    let (out, ..) = told("HTTP/1.1 200 OK\r\nX: y\r\n\r\n", &Method::GET).unwrap();
    assert_eq!(out, "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n");
    let head = told("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", &Method::HEAD).unwrap();
    assert_eq!(head, ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n".to_owned(), "0".to_owned(), true));
}

#[test]
fn old_answers_end_their_connection() {
    for (fields, reusable) in [("", false), ("Connection: keep-alive\r\n", true)] {
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n");
        assert_eq!(told(&head, &Method::GET).unwrap().2, reusable, "{fields}");
    }
    let chunks = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
    assert!(!told(chunks, &Method::GET).unwrap().2);
}

#[test]
fn what_is_meant_for_us_only_stays_here() {
    let head = "HTTP/1.1 407 No\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nX-Public: 2\r\nKeep-Alive: timeout=7\r\n\
                Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nproxy-connection: y\r\nContent-Length: 0\r\n\r\n";
    let (out, ..) = told(head, &Method::GET).unwrap();
    assert_eq!(out, "HTTP/1.1 407 No\r\nX-Public: 2\r\nContent-Length: 0\r\n");
    let answer = read(head.as_bytes(), &Method::GET, &mut Vec::new()).unwrap().unwrap();
    assert_eq!(answer.granted, Some(Duration::from_secs(7)));
    // A folded field, as old servers write them, is one line.
    let (out, ..) = told("HTTP/1.1 200 OK\r\nX-Long: a\r\n b\r\nContent-Length: 0\r\n\r\n", &Method::GET).unwrap();
    assert_eq!(out, "HTTP/1.1 200 OK\r\nX-Long: a   b\r\nContent-Length: 0\r\n");
}

#[test]
fn what_has_no_one_meaning_is_no_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
    ] {
        assert_eq!(told(head, &Method::GET), None, "{head:?}");
    }
    assert!(read(b"HTTP/1.1 200 OK\r\nContent-Le", &Method::GET, &mut Vec::new()).unwrap().is_none());
}
