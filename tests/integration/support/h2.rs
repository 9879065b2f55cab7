//! HTTP/2 by hand: a client that shows frames' effects, and an upstream that behaves as a gRPC server does.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// A client's connection.
pub struct H2 {
    pub requests: Requests,
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// The half of a connection that asks; clones ask on the same connection.
#[derive(Clone)]
pub struct Requests(client::SendRequest<Bytes>);

/// A whole answer.
#[derive(Debug)]
pub struct H2Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

/// An answer that is still coming.
pub struct H2Stream {
    pub send: SendStream<Bytes>,
    answer: client::ResponseFuture,
}

impl H2 {
    /// With prior knowledge.
    pub async fn open(address: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Over a stream that is there, such as a tunnel.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = client::handshake(stream).await.unwrap();
        Self { requests: Requests(send), connection: tokio::spawn(connection) }
    }
}

impl Requests {
    /// Begins a request.
    pub async fn begin(&self, request: Request<()>, end: bool) -> H2Stream {
        let mut ready = timeout(Duration::from_secs(10), self.0.clone().ready()).await.unwrap().unwrap();
        let (answer, send) = ready.send_request(request, end).unwrap();
        H2Stream { send, answer }
    }

    /// Whether the server said that it takes no more requests (GOAWAY, RFC 9113 6.8).
    pub async fn were_sent_away(&self) -> bool {
        let ready = timeout(Duration::from_secs(10), self.0.clone().ready()).await.expect("ready, or an error");
        ready.is_err_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
    }

    /// GET, or POST where there is a body.
    pub async fn ask(&self, url: &str, body: &str) -> H2Answer {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = Request::builder().method(method).uri(url).body(()).unwrap();
        let mut stream = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            stream.send.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        stream.answer().await
    }
}

impl H2Stream {
    /// The answer's head and its body's stream, within 20 s.
    pub async fn head(self) -> (Response<RecvStream>, SendStream<Bytes>) {
        let answer = timeout(Duration::from_secs(20), self.answer).await.expect("an answer").unwrap();
        (answer, self.send)
    }

    /// The whole answer.
    pub async fn answer(self) -> H2Answer {
        let (answer, _send) = self.head().await;
        let (parts, mut stream) = answer.into_parts();
        let mut body = Vec::new();
        while let Some(data) = next(&mut stream).await {
            body.extend_from_slice(&data);
        }
        let trailers = timeout(Duration::from_secs(10), stream.trailers()).await.unwrap().unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        H2Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
    }
}

/// The next piece of a body, within 20 s.
pub async fn next(stream: &mut RecvStream) -> Option<Bytes> {
    let data = timeout(Duration::from_secs(20), stream.data()).await.expect("data, or the end")?.unwrap();
    stream.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

impl H2Answer {
    /// `X-Lanyard-Error`.
    pub fn refusal(&self) -> &str {
        self.headers.get("x-lanyard-error").map_or("", |value| value.to_str().unwrap())
    }
}

/// Echoes each message as it comes, and ends with trailers, as a gRPC server does. Ends when it is dropped.
pub struct Grpc {
    pub address: SocketAddr,
    seen: Arc<Mutex<GrpcSeen>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
pub struct GrpcSeen {
    pub heads: Vec<(String, HeaderMap)>,
    /// Streams that their client took back.
    pub cancelled: usize,
}

impl Grpc {
    pub async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(GrpcSeen::default()));
        let shared = Arc::clone(&seen);
        let mut connections = tokio::task::JoinSet::new();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (tls, seen) = (tls.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &seen).await,
                        Some(tls) => {
                            serve(tokio_rustls::TlsAcceptor::from(tls).accept(stream).await.unwrap(), &seen).await
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    pub fn seen(&self) -> GrpcSeen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: &Arc<Mutex<GrpcSeen>>) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let seen = Arc::clone(seen);
        tokio::spawn(async move {
            let (parts, mut body) = request.into_parts();
            seen.lock().unwrap().heads.push((parts.uri.path().to_owned(), parts.headers));
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            loop {
                match body.data().await {
                    Some(Ok(data)) => {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        if send.send_data(data, false).is_err() {
                            break;
                        }
                    }
                    Some(Err(_)) => {
                        seen.lock().unwrap().cancelled += 1;
                        return;
                    }
                    None => break,
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            drop(send.send_trailers(trailers));
        });
    }
}
