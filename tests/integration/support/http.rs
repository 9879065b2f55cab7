//! Clients: whole requests with reqwest, raw bytes by hand.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
