//! The API at the far end: it asks the issuer about each token that it has not seen, and answers 401 without a good one.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes |
//! | `/upload` | reads the body, answers 2 bytes |
//! | `/worn` | a token is good for nine such requests, and is rejected from the tenth on |
//! | with `Upgrade: websocket` | 101, then each message of 64 bytes comes back |
//!
//! One port speaks HTTP/1.1 and clear-text HTTP/2, one TLS with HTTP/1.1, one TLS with HTTP/2, one sends bytes for ever.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    net::{Certificates, Http, Stream, field},
    proxies::STATIC_TOKEN,
};

/// Payload of a WebSocket message, and of a gRPC one.
pub(crate) const MESSAGE: usize = 64;
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) h2c: u16,
    pub(crate) tls: u16,
    pub(crate) tls_h2: u16,
    pub(crate) raw: u16,
}

#[derive(Default)]
pub(crate) struct Upstream {
    tokens: Mutex<HashMap<Vec<u8>, Known>>,
    issuers: Mutex<Vec<SocketAddr>>,
    pub(crate) rejected: AtomicU64,
}

struct Known {
    until: Instant,
    worn: u32,
}

impl Upstream {
    pub(crate) async fn start(certificates: &Certificates) -> (Arc<Self>, Ports) {
        let upstream = Arc::new(Self::default());
        let known = Known { until: Instant::now() + Duration::from_secs(86_400), worn: 0 };
        upstream.tokens.lock().unwrap().insert(format!("Bearer {STATIC_TOKEN}").into_bytes(), known);
        let ports = Ports {
            plain: upstream.listen(Speaks::Http).await,
            h2c: upstream.listen(Speaks::H2(None)).await,
            tls: upstream.listen(Speaks::Https(certificates.server(&["http/1.1"]).into())).await,
            tls_h2: upstream.listen(Speaks::H2(Some(certificates.server(&["h2"]).into()))).await,
            raw: upstream.listen(Speaks::Bytes).await,
        };
        (upstream, ports)
    }

    pub(crate) fn trust(&self, issuer: SocketAddr) {
        self.issuers.lock().unwrap().push(issuer);
    }

    async fn listen(self: &Arc<Self>, speaks: Speaks) -> u16 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(4096).unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (upstream, speaks) = (Arc::clone(&upstream), speaks.clone());
                tokio::spawn(async move {
                    // A client that is killed closes its connections in any way.
                    drop(upstream.serve(stream, speaks).await);
                });
            }
        });
        port
    }

    async fn serve(&self, stream: TcpStream, speaks: Speaks) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match speaks {
            Speaks::Http => self.http(Stream::Plain(stream)).await,
            Speaks::Https(tls) => self.http(Stream::Tls(Box::new(tls.accept(stream).await?.into()))).await,
            Speaks::H2(None) => self.h2(Stream::Plain(stream)).await,
            Speaks::H2(Some(tls)) => self.h2(Stream::Tls(Box::new(tls.accept(stream).await?.into()))).await,
            Speaks::Bytes => {
                let mut stream = stream;
                let mut first = [0];
                stream.read_exact(&mut first).await?;
                let chunk = vec![b'x'; 256 * 1024];
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
        }
    }

    async fn http(&self, stream: Stream) -> io::Result<()> {
        let mut http = Http::new(stream);
        let kib = answer(1024);
        while let Some(request) = http.head(Request::parse).await? {
            if request.chunked {
                http.skip_chunks().await?;
            } else {
                http.skip(request.length).await?;
            }
            if !self.admits(request.authorization.as_deref(), request.what == What::Worn).await {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                http.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n")
                    .await?;
                continue;
            }
            match request.what {
                What::Bytes(1024) | What::Worn => http.write(&kib).await?,
                What::Bytes(length) => {
                    let chunk = vec![b'x'; length.min(256 * 1024)];
                    http.write(format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: {length}\r\n\r\n").as_bytes()).await?;
                    let mut left = length;
                    while left > 0 {
                        let now = left.min(chunk.len());
                        http.write(&chunk[..now]).await?;
                        left -= now;
                    }
                }
                What::Upload => http.write(&answer(2)).await?,
                What::Socket => return echo(http.stream).await,
            }
        }
        Ok(())
    }

    /// HTTP/2: `/bytes/N`, and everything else is gRPC, whose answer is the request's message.
    async fn h2(&self, stream: Stream) -> io::Result<()> {
        let mut connection = h2::server::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .max_concurrent_streams(1000)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        let kib = Bytes::from(vec![b'x'; 1024]);
        while let Some(next) = connection.accept().await {
            let (request, mut respond) = next.map_err(io::Error::other)?;
            let credential = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
            let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
            let mut answer = http::Response::builder().header("content-type", "application/octet-stream");
            if !self.admits(credential.as_deref(), false).await {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                let refused = http::Response::builder().status(401).body(()).unwrap();
                drop(respond.send_response(refused, true));
                continue;
            }
            if !grpc {
                let head = answer.header("content-length", "1024").body(()).unwrap();
                if let Ok(mut body) = respond.send_response(head, false) {
                    drop(body.send_data(kib.clone(), true));
                }
                continue;
            }
            answer = answer.header("content-type", "application/grpc");
            let mut body = request.into_body();
            // In a task: the body comes only while the connection is looked after.
            tokio::spawn(async move {
                let mut message = Vec::new();
                while let Some(Ok(part)) = body.data().await {
                    drop(body.flow_control().release_capacity(part.len()));
                    message.extend_from_slice(&part);
                }
                let Ok(mut reply) = respond.send_response(answer.body(()).unwrap(), false) else { return };
                drop(reply.send_data(message.into(), false));
                let trailers = [("grpc-status", "0")]
                    .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
                drop(reply.send_trailers(trailers.into_iter().collect()));
            });
        }
        Ok(())
    }

    /// Whether a credential is good, and whether it still is when it wears out.
    async fn admits(&self, credential: Option<&[u8]>, wears: bool) -> bool {
        let Some(credential) = credential else { return false };
        for _ in 0..2 {
            if let Some(known) = self.tokens.lock().unwrap().get_mut(credential) {
                if wears {
                    known.worn += 1;
                }
                return known.until > Instant::now() && known.worn < 10;
            }
            if !self.ask_issuers(credential).await {
                return false;
            }
        }
        false
    }

    async fn ask_issuers(&self, credential: &[u8]) -> bool {
        let issuers = self.issuers.lock().unwrap().clone();
        let Some(token) = credential.strip_prefix(b"Bearer ").and_then(|token| std::str::from_utf8(token).ok()) else {
            return false;
        };
        for issuer in issuers {
            if let Ok(Some(lifetime)) = introspect(issuer, token).await {
                let known = Known { until: Instant::now() + lifetime, worn: 0 };
                let mut tokens = self.tokens.lock().unwrap();
                if tokens.len() > 10_000 {
                    let now = Instant::now();
                    tokens.retain(|_, known| known.until > now && known.worn < 10);
                }
                tokens.entry(credential.to_vec()).or_insert(known);
                return true;
            }
        }
        false
    }
}

#[derive(Clone)]
enum Speaks {
    Http,
    Https(tokio_rustls::TlsAcceptor),
    H2(Option<tokio_rustls::TlsAcceptor>),
    Bytes,
}

struct Request {
    what: What,
    authorization: Option<Vec<u8>>,
    length: usize,
    chunked: bool,
}

#[derive(PartialEq)]
enum What {
    Bytes(usize),
    Upload,
    Worn,
    Socket,
}

impl Request {
    fn parse(head: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if let Some(rest) = target.strip_prefix(b"http://") {
            target = rest.iter().position(|byte| *byte == b'/').map_or(b"/".as_slice(), |at| &rest[at..]);
        }
        let what = if field(head, "upgrade").is_some() {
            What::Socket
        } else if target == b"/worn" {
            What::Worn
        } else if let Some(length) = target.strip_prefix(b"/bytes/") {
            What::Bytes(std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0))
        } else {
            What::Upload
        };
        Self {
            what,
            authorization: field(head, "authorization").map(<[u8]>::to_vec),
            length: field(head, "content-length").and_then(|value| text(value).parse().ok()).unwrap_or(0),
            chunked: field(head, "transfer-encoding").is_some(),
        }
    }
}

fn answer(length: usize) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\n{DATE}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer
}

async fn echo(mut stream: Stream) -> io::Result<()> {
    stream.write_all(UPGRADED).await?;
    let mut frame = [0; 6 + MESSAGE];
    loop {
        stream.read_exact(&mut frame).await?;
        frame[4] = 0x82;
        frame[5] = u8::try_from(MESSAGE).unwrap();
        stream.write_all(&frame[4..]).await?;
    }
}

/// How long the issuer says that a token is good for.
async fn introspect(issuer: SocketAddr, token: &str) -> io::Result<Option<Duration>> {
    let mut stream = TcpStream::connect(issuer).await?;
    let body = format!("token={token}");
    let request = format!(
        "POST /oauth/introspect HTTP/1.1\r\nHost: {issuer}\r\nAuthorization: Basic YmVuY2g6YmVuY2gtc2VjcmV0\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let Ok(claims) = serde_json::from_str::<serde_json::Value>(json) else { return Ok(None) };
    if claims["active"] != true {
        return Ok(None);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(claims["exp"].as_u64().map(|exp| Duration::from_secs(exp + 1).saturating_sub(now)))
}

/// A server that has a clock sends it (RFC 9110 6.6.1); what it says is nothing to anybody here.
const DATE: &str = "Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n";
