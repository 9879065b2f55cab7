//! Clients: whole requests with reqwest, raw bytes by hand.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// `X-Lanyard-Error`.
    pub fn refusal(&self) -> Option<&str> {
        self.headers.get("x-lanyard-error").map(|v| v.to_str().unwrap())
    }

    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

/// A client that uses no proxy but this one, if one is named (`HOST:PORT`).
pub fn client(proxy: Option<&str>) -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
    match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(format!("http://{proxy}")).unwrap()),
        None => builder,
    }
    .build()
    .unwrap()
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, body: answer.text().await.unwrap() }
}

/// GET without a proxy.
pub async fn get(url: &str) -> Answer {
    send(client(None).get(url)).await
}

/// POST without a proxy.
pub async fn post(url: &str, body: &str) -> Answer {
    send(client(None).post(url).body(body.to_owned())).await
}

/// GET through lanyard as a forward proxy.
pub async fn get_via(proxy: &str, url: &str) -> Answer {
    send(client(Some(proxy)).get(url)).await
}

/// Sends raw bytes and reads until the other side closes, at most 10 s.
pub async fn raw(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    drop(tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("it closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a raw answer; 0 if there is none.
pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A raw answer's header field.
pub fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Status and refusal code of a raw answer.
pub fn verdict(answer: &str) -> (u16, &str) {
    (status_of(answer), field(answer, "x-lanyard-error").unwrap_or(""))
}

/// A client's connection, by hand.
pub struct Wire<S = TcpStream> {
    pub stream: S,
    ahead: Vec<u8>,
}

impl Wire {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection that is there.
    pub fn over(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Some more bytes, within 30 s; empty at the end.
    pub async fn more(&mut self) -> Vec<u8> {
        if !self.ahead.is_empty() {
            return std::mem::take(&mut self.ahead);
        }
        let mut chunk = vec![0; 64 * 1024];
        let read = self.stream.read(&mut chunk);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await.expect("bytes, or the end");
        chunk.truncate(read.unwrap_or(0));
        chunk
    }

    /// Everything up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        loop {
            let at = bytes.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = at {
                self.ahead = bytes.split_off(at + end.len());
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            let more = self.more().await;
            assert!(!more.is_empty(), "closed before {end:?}: {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend(more);
        }
    }

    /// Exactly so many bytes.
    pub async fn exactly(&mut self, length: usize) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let more = self.more().await;
            assert!(!more.is_empty(), "closed after {} of {length} bytes", bytes.len());
            bytes.extend(more);
        }
        self.ahead = bytes.split_off(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One answer with its body, which has a Content-Length or is chunked.
    pub async fn answer(&mut self) -> String {
        let head = self.until("\r\n\r\n").await;
        let body = match field(&head, "content-length") {
            Some(length) => self.exactly(length.parse().unwrap()).await,
            None if field(&head, "transfer-encoding").is_some() => self.until("0\r\n\r\n").await,
            None => String::new(),
        };
        head + &body
    }

    /// Waits for the other side to close, within 30 s, and gives what it sent before.
    pub async fn closed(mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let more = self.more().await;
            if more.is_empty() {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            bytes.extend(more);
        }
    }
}
