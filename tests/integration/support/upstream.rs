//! A resource server: remembers what it saw, echoes it, and can want a token.
//!
//! Paths: `/status/N` answers N; `/slow/MS` answers after MS milliseconds; anything else echoes as JSON: method, path,
//! version, headers, length of the body.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::net::TcpListener;

/// The server. Ends when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    pub seen: Seen,
    task: tokio::task::JoinHandle<()>,
}

/// What it saw and what it wants.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    requests: Vec<Request1>,
    revoked: HashSet<String>,
    refuses_all: bool,
    wants_token: bool,
    connections: u64,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request1 {
    pub method: String,
    pub path: String,
    pub version: Version,
    /// `:authority`, or that of an absolute URI.
    pub authority: Option<String>,
    pub headers: HeaderMap,
}

impl Request1 {
    /// Every value of a header field.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }
}

impl Upstream {
    /// A plain one.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0", None).await
    }

    /// One that speaks TLS.
    pub async fn start_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::start_at("127.0.0.1:0", Some(tls)).await
    }

    /// One at an address of its own, with or without TLS.
    pub async fn start_at(address: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let router = Router::new().fallback(echo).with_state(seen.clone());
        let counter = seen.clone();
        let task = serve(listener, tls, router, move || counter.0.lock().unwrap().connections += 1);
        Self { address, seen, task }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A route in TOML that leads a host here in clear text.
    pub fn route(&self, host: &str, profile: &str) -> String {
        format!("[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"{}\"\n", self.url())
    }
}

impl Seen {
    /// Every request so far.
    pub fn requests(&self) -> Vec<Request1> {
        self.0.lock().unwrap().requests.clone()
    }

    /// The last one.
    pub fn last(&self) -> Request1 {
        self.requests().pop().expect("a request")
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.0.lock().unwrap().connections
    }

    /// From now on a request without a bearer token gets 401.
    pub fn want_token(&self) {
        self.0.lock().unwrap().wants_token = true;
    }

    /// From now on a request with this token gets 401.
    pub fn revoke(&self, token: &str) {
        self.0.lock().unwrap().revoked.insert(format!("Bearer {token}"));
    }

    /// From now on every request gets 401.
    pub fn refuse_all(&self) {
        self.0.lock().unwrap().refuses_all = true;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves HTTP/1.1 and HTTP/2 until the task is aborted. `accepted` is called for each connection.
pub fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    accepted: impl Fn() + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let mut connections = tokio::task::JoinSet::new();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            accepted();
            let service = TowerToHyperService::new(router.clone());
            let tls = tls.clone();
            connections.spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                // A client that leaves is nobody's failure.
                match tls {
                    None => drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                            drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
                        }
                    }
                }
            });
        }
    })
}

async fn echo(State(seen): State<Seen>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let authorization = parts.headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str()).to_owned();
    let refused = {
        let mut inner = seen.0.lock().unwrap();
        inner.requests.push(Request1 {
            method: parts.method.to_string(),
            path: path.clone(),
            version: parts.version,
            authority: parts.uri.authority().map(ToString::to_string),
            headers: parts.headers.clone(),
        });
        inner.refuses_all
            || (inner.wants_token && !authorization.as_ref().is_some_and(|a| a.starts_with("Bearer ")))
            || authorization.as_ref().is_some_and(|a| inner.revoked.contains(a))
    };
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|n| n.split('?').next()?.parse::<u64>().ok());
    if let Some(millis) = number("/slow/") {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    if refused {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "no").into_response();
    }
    let length = axum::body::to_bytes(body, usize::MAX).await.map_or(0, |body| body.len());
    if let Some(status) = number("/status/") {
        return StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap().into_response();
    }
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let told = json!({
        "method": parts.method.as_str(),
        "path": path,
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "length": length,
    });
    ([(header::CONTENT_TYPE, "application/json")], told.to_string()).into_response()
}

/// A server that does with each connection what the test says. Ends when it is dropped.
pub struct ByHand {
    pub address: SocketAddr,
    accepted: Arc<std::sync::atomic::AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl ByHand {
    pub async fn start<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", serve).await
    }

    /// One at an address of its own.
    pub async fn start_at<F>(address: &str, serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&accepted);
        let mut connections = tokio::task::JoinSet::new();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                connections.spawn(serve(stream));
            }
        });
        Self { address, accepted, task }
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.accepted.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// A route in TOML that leads a host here in clear text.
    pub fn route(&self, host: &str, profile: &str) -> String {
        format!("[[routes]]\nhost = \"{host}\"\nprofile = \"{profile}\"\nupstream = \"http://{}\"\n", self.address)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request's head; what comes after it may be in there too.
pub async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
