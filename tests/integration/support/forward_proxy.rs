//! A forward proxy that does as it is told: knows CONNECT alone, remembers what it was asked and what went through it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::read_head;

/// The proxy. Ends when it is dropped.
pub struct ForwardProxy {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// What it knows of names.
    hosts: Mutex<HashMap<String, SocketAddr>>,
    /// What it answers in place of a tunnel; none: it opens one.
    refusal: Mutex<Option<String>>,
    /// Whether it answers nothing at all.
    silent: Mutex<bool>,
    /// What `Proxy-Authorization` has to be; none: nobody asks.
    login: Mutex<Option<String>>,
    heads: Mutex<Vec<String>>,
    /// Every byte that clients sent into tunnels.
    passed: Mutex<Vec<u8>>,
}

impl ForwardProxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let mut connections = tokio::task::JoinSet::new();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move { drop(serve(stream, &state).await) });
            }
        });
        Self { address, state, task }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this authority is reached at this address.
    pub fn knows(&self, authority: &str, address: SocketAddr) {
        self.state.hosts.lock().unwrap().insert(authority.to_owned(), address);
    }

    /// From now on it answers so in place of a tunnel; `None`: it opens one.
    pub fn refuse_with(&self, answer: Option<&str>) {
        *self.state.refusal.lock().unwrap() = answer.map(str::to_owned);
    }

    /// From now on it takes connections and answers nothing.
    pub fn be_silent(&self, silent: bool) {
        *self.state.silent.lock().unwrap() = silent;
    }

    /// From now on it wants these credentials.
    pub fn want_login(&self, username: &str, password: &str) {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let login = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
        *self.state.login.lock().unwrap() = Some(login);
    }

    /// The heads of every request so far.
    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    /// The authorities of every CONNECT so far.
    pub fn targets(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
    }

    /// What clients sent into tunnels, as far as it is text.
    pub fn passed(&self) -> String {
        String::from_utf8_lossy(&self.state.passed.lock().unwrap()).into_owned()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, state: &State) -> std::io::Result<()> {
    let head = read_head(&mut client).await;
    state.heads.lock().unwrap().push(head.clone());
    if *state.silent.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let login = state.login.lock().unwrap().clone();
    if login.is_some() && field("proxy-authorization") != login {
        let challenge =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno\n";
        return client.write_all(challenge.as_bytes()).await;
    }
    let refusal = state.refusal.lock().unwrap().clone();
    if let Some(answer) = refusal {
        return client.write_all(answer.as_bytes()).await;
    }
    let mut words = head.split(' ');
    let (method, authority) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let address = state.hosts.lock().unwrap().get(authority).copied();
    let (true, Some(address)) = (method == "CONNECT", address) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    };
    let upstream = TcpStream::connect(address).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Proxy: test\r\n\r\n").await?;
    let ((mut from_client, mut to_client), (mut from_upstream, mut to_upstream)) =
        (client.into_split(), upstream.into_split());
    let out = async {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(read) = from_client.read(&mut piece).await {
            if read == 0 {
                break;
            }
            state.passed.lock().unwrap().extend_from_slice(&piece[..read]);
            to_upstream.write_all(&piece[..read]).await?;
        }
        to_upstream.shutdown().await
    };
    let back = async {
        tokio::io::copy(&mut from_upstream, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(out, back).map(drop)
}
