//! A token endpoint that follows a script: one step for each request, on however many connections they come.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::config::CaBundle;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answers it.
    Answer(Reply),
    /// Sends this, and closes.
    Raw(&'static str),
    /// This status, and a body without end.
    Endless(&'static str),
    /// Never a byte.
    Silence,
    /// A body, byte by byte, without end.
    Trickle,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// This status, and closes in the middle of the body.
    CutShort(&'static str),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: String,
    headers: String,
    body: String,
}

impl Reply {
    pub(crate) fn new(status: &str) -> Self {
        Self { status: status.to_owned(), headers: String::new(), body: String::new() }
    }

    pub(crate) fn json(body: &str) -> Self {
        Self::new("200 OK").header("content-type", "application/json").body(body)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }
}

/// What the connections share.
struct Shared {
    script: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    greeting: Mutex<Option<&'static str>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) async fn start(script: Vec<Step>) -> Self {
        Self::listen(script, None).await
    }

    pub(crate) async fn start_tls(certified: &Certified, script: Vec<Step>) -> Self {
        Self::listen(script, Some(certified.acceptor())).await
    }

    /// An address where nobody listens.
    pub(crate) async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// More of the script.
    pub(crate) fn then(&self, script: Vec<Step>) {
        self.shared.script.lock().unwrap().extend(script);
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Sends this on each new connection, whatever comes in.
    pub(crate) fn speak_first(&self, text: &'static str) {
        *self.shared.greeting.lock().unwrap() = Some(text);
    }

    async fn listen(script: Vec<Step>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into()),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            greeting: Mutex::default(),
        });
        let served = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.connections.fetch_add(1, Ordering::SeqCst);
                let (served, tls) = (served.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &served).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &served).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self { address, shared }
    }
}

/// A stream that can be reset.
trait Resettable {
    fn reset_on_close(&self);
}

impl Resettable for TcpStream {
    fn reset_on_close(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Resettable for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Resettable + Unpin>(mut stream: S, shared: &Shared) -> std::io::Result<()> {
    let greeting = *shared.greeting.lock().unwrap();
    if let Some(greeting) = greeting {
        stream.write_all(greeting.as_bytes()).await?;
        stream.read_u8().await?;
        return Ok(());
    }
    while let Some(request) = read_request(&mut stream).await? {
        shared.requests.lock().unwrap().push(request);
        let step = shared.script.lock().unwrap().pop_front().unwrap_or(Step::Close);
        match step {
            Step::Answer(Reply { status, headers, body }) => {
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await?;
            }
            Step::Raw(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Step::Endless(status) => {
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await?;
                loop {
                    stream.write_all(&[b' '; 8192]).await?;
                }
            }
            Step::Silence => std::future::pending().await,
            Step::Trickle => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Step::Close => return stream.shutdown().await,
            Step::Reset => {
                stream.reset_on_close();
                return Ok(());
            }
            Step::CutShort(status) => {
                let body = "{\"access_token\":\"canary";
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await?;
                return stream.shutdown().await;
            }
        }
    }
    Ok(())
}

/// One request with its body; `None` where the client is done.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && bytes.is_empty() => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(head + &String::from_utf8(body).unwrap()))
}

/// A certificate that signs itself, and its key.
pub(crate) struct Certified(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Certified {
    pub(crate) fn new(name: &str) -> Self {
        Self(rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap())
    }

    /// As a `ca_file` that trusts it.
    pub(crate) fn bundle(&self) -> CaBundle {
        CaBundle { path: "/etc/ca.pem".into(), certificates: vec![self.0.cert.der().to_vec()].into() }
    }

    fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key)
            .unwrap();
        Arc::new(config).into()
    }
}
