//! An upstream that keeps requests as they came, and how a client asks it both ways.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;

use crate::support::*;

/// An upstream that keeps every request as it came, and says yes.
pub struct Recorder {
    pub server: ByHand,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub async fn start() -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let server = ByHand::start(move |stream| {
            let seen = Arc::clone(&seen);
            async move {
                let mut wire = Wire::over(stream);
                loop {
                    let mut bytes = wire.more().await;
                    while !bytes.is_empty() && !is_whole(&bytes) {
                        bytes.extend(wire.more().await);
                    }
                    if bytes.is_empty() {
                        return;
                    }
                    seen.lock().unwrap().push(String::from_utf8(bytes).unwrap());
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if wire.stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { server, requests }
    }

    /// The last of the test's own requests, which a load in the background does not hide.
    pub fn last(&self) -> String {
        let requests = self.requests.lock().unwrap();
        requests.iter().rev().find(|request| request.contains("X-One: 1\r\n")).cloned().expect("a request")
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let end: &[u8] = if bytes.starts_with(b"POST") { b"\r\n0\r\n\r\n" } else { b"\r\n\r\n" };
    bytes.ends_with(end)
}

/// Asks both ways: a plain request, which lanyard writes itself, and a chunked upload, which goes by pingora.
/// The heads as the upstream saw them.
pub async fn both_ways(lanyard: &Lanyard, upstream: &Recorder, host: &str, path: &str) -> [String; 2] {
    let mut heads = Vec::new();
    for (method, fields, body) in [("GET", "", ""), ("POST", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")]
    {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-One: 1\r\n{fields}Connection: close\r\n\r\n{body}");
        let answer = raw(lanyard.address(), request).await;
        assert!(status_of(&answer) == 200 && answer.ends_with("ok"), "{host} {method}: {answer}");
        let seen = upstream.last();
        let (head, _) = seen.split_once("\r\n\r\n").unwrap();
        heads.push(head.to_owned());
    }
    heads.try_into().unwrap()
}

/// A field's only value.
pub fn only<'a>(head: &'a str, name: &str) -> &'a str {
    let values: Vec<&str> = head
        .lines()
        .filter_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values.len(), 1, "{name} in {head}");
    values[0]
}
