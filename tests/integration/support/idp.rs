//! A token endpoint that does as it is told: counts, remembers, delays, and misbehaves on the wire.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

use super::CANARY;

/// The server. Ends when it is dropped.
pub struct Idp {
    address: SocketAddr,
    state: Arc<State>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Bound and never listening: nobody else gets the port while it is down.
    _held: TcpSocket,
}

struct State {
    calls: AtomicU64,
    tokens: AtomicU64,
    usual: Mutex<(Duration, Reply)>,
    requests: Mutex<Vec<String>>,
    /// The only secret that is taken; any, if none is set.
    secret: Mutex<Option<String>>,
}

/// What a call is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A new token `canary-token-N` that lives so many seconds; `None`: it does not tell.
    Token(Option<u64>),
    /// These bytes of JSON (or anything) with this status and extra header lines.
    Json(u16, &'static str, String),
    /// Nothing, and the connection stays open.
    Hang,
    /// Half a body, then nothing.
    HalfBody,
    /// The connection is closed at once.
    Close,
}

/// A socket that shares its address with others of ours.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Idp {
    /// Starts one that gives tokens of an hour.
    pub async fn start() -> Self {
        let held = bound("127.0.0.1:0".parse().unwrap());
        let state = State {
            calls: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            usual: Mutex::new((Duration::ZERO, Reply::Token(Some(3600)))),
            requests: Mutex::default(),
            secret: Mutex::default(),
        };
        let idp =
            Self { address: held.local_addr().unwrap(), state: Arc::new(state), task: Mutex::default(), _held: held };
        idp.up().await;
        idp
    }

    fn accept(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let mut connections = tokio::task::JoinSet::new();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                connections.spawn(async move { drop(serve(stream, &state).await) });
            }
        });
        *self.task.lock().unwrap() = Some(task);
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// From now on every call is answered so.
    pub fn always(&self, reply: Reply) {
        self.state.usual.lock().unwrap().1 = reply;
    }

    /// From now on every call takes so long.
    pub fn delay(&self, delay: Duration) {
        self.state.usual.lock().unwrap().0 = delay;
    }

    /// From now on other secrets are refused with `invalid_client`; `None`: any is taken.
    pub fn accept_secret(&self, secret: Option<&str>) {
        *self.state.secret.lock().unwrap() = secret.map(str::to_owned);
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// The token given last.
    pub fn last_token(&self) -> String {
        format!("{CANARY}token-{}", self.state.tokens.load(Ordering::SeqCst))
    }

    /// Whole requests, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Connections are refused from now on.
    pub async fn down(&self) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            drop(task.await);
        }
    }

    /// On the same port again.
    pub async fn up(&self) {
        self.accept(bound(self.address).listen(1024).unwrap());
    }

    /// A profile in TOML that uses it.
    pub fn profile(&self, name: &str) -> String {
        format!(
            "[profiles.{name}]\ntoken_endpoint = \"{}\"\nclient_id = \"client\"\nclient_secret = \"{}\"\n",
            self.url(),
            super::SECRET
        )
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    loop {
        let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
        state.calls.fetch_add(1, Ordering::SeqCst);
        let known = state.secret.lock().unwrap().as_ref().is_none_or(|secret| authenticates(&request, secret));
        state.requests.lock().unwrap().push(request);
        let (delay, mut reply) = state.usual.lock().unwrap().clone();
        if !known {
            let body = "{\"error\":\"invalid_client\",\"error_description\":\"Client authentication failed\"}";
            reply = Reply::Json(401, "WWW-Authenticate: Basic\r\n", body.to_owned());
        }
        tokio::time::sleep(delay).await;
        match reply {
            Reply::Token(lifetime) => {
                let number = state.tokens.fetch_add(1, Ordering::SeqCst) + 1;
                let lifetime = lifetime.map(|s| format!(",\"expires_in\":{s}")).unwrap_or_default();
                let body =
                    format!("{{\"access_token\":\"{CANARY}token-{number}\",\"token_type\":\"Bearer\"{lifetime}}}");
                stream.write_all(answer(200, "", &body).as_bytes()).await?;
            }
            Reply::Json(status, headers, body) => stream.write_all(answer(status, headers, &body).as_bytes()).await?,
            Reply::Hang => std::future::pending().await,
            Reply::HalfBody => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":").await?;
                std::future::pending().await
            }
            Reply::Close => return Ok(()),
        }
    }
}

/// Whether a request has this secret, by HTTP Basic or in its body.
fn authenticates(request: &str, secret: &str) -> bool {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("client:{secret}")));
    request.contains(&basic) || request.contains(&format!("client_secret={secret}"))
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Ok(Some(text));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}
