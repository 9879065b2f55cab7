//! The load: sessions that ask one thing again and again, as fast as they are answered (`Load::closed`) or each at the
//! moment when it is due (`Load::open`), whatever became of the one before.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use crate::{
    net::{Http, Stream},
    upstream::MESSAGE,
};

/// How to reach the far end through the proxy.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) proxy: SocketAddr,
    /// CONNECT to this authority first.
    pub(crate) connect: Option<String>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What stands before the path in a request's first line.
    pub(crate) prefix: String,
    pub(crate) host: String,
}

impl Way {
    async fn open(&self) -> io::Result<Stream> {
        let mut stream = Stream::Plain(Stream::connect(self.proxy).await?);
        if let Some(authority) = &self.connect {
            let mut http = Http::new(stream);
            http.write(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
            let status = http.head(|head| head.get(9..12) == Some(b"200")).await?;
            if status != Some(true) {
                return Err(io::Error::other("CONNECT was refused"));
            }
            stream = http.stream;
        }
        match (&self.tls, stream) {
            (Some(config), Stream::Plain(stream)) => Stream::tls(stream, config, "api.test").await,
            (_, stream) => Ok(stream),
        }
    }

    fn request(&self, method: &str, path: &str, fields: &str, body: usize) -> Bytes {
        let length = if body > 0 { format!("Content-Length: {body}\r\n") } else { String::new() };
        let mut request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nAccept: */*\r\n{fields}{length}\r\n",
            self.prefix, self.host
        )
        .into_bytes();
        request.resize(request.len() + body, b'x');
        request.into()
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    Get(String),
    /// The same, each on a connection of its own.
    Fresh(String),
    Upload(usize),
    Grpc,
    Message,
    /// A tunnel through which bytes come for ever: one ask is one read, and what counts is `bytes`.
    Bytes,
}

enum Session {
    Http { http: Http, request: Bytes },
    Fresh { way: Way, request: Bytes },
    Grpc { sender: h2::client::SendRequest<Bytes>, uri: http::Uri },
    Socket(Stream),
    Raw(Http),
}

impl Session {
    async fn open(way: &Way, ask: &Ask) -> io::Result<Self> {
        Ok(match ask {
            Ask::Get(path) => {
                Self::Http { http: Http::new(way.open().await?), request: way.request("GET", path, "", 0) }
            }
            Ask::Fresh(path) => {
                Self::Fresh { way: way.clone(), request: way.request("GET", path, "Connection: close\r\n", 0) }
            }
            Ask::Upload(length) => {
                Self::Http { http: Http::new(way.open().await?), request: way.request("POST", "/upload", "", *length) }
            }
            Ask::Grpc => {
                let (sender, connection) = h2::client::handshake(way.open().await?).await.map_err(io::Error::other)?;
                tokio::spawn(async move { drop(connection.await) });
                let uri = format!("http://{}/bench.Echo/Say", way.host).parse().map_err(io::Error::other)?;
                Self::Grpc { sender, uri }
            }
            Ask::Message => {
                let mut http = Http::new(way.open().await?);
                let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                http.ask(&way.request("GET", "/socket", upgrade, 0)).await?.expect(101)?;
                Self::Socket(http.stream)
            }
            Ask::Bytes => {
                let mut http = Http::new(way.open().await?);
                http.write(b"x").await?;
                Self::Raw(http)
            }
        })
    }

    async fn once(&mut self, bytes: &AtomicU64) -> io::Result<()> {
        match self {
            Self::Http { http, request } => http.ask(request).await?.expect(200),
            Self::Fresh { way, request } => Http::new(way.open().await?).ask(request).await?.expect(200),
            Self::Grpc { sender, uri } => grpc(sender, uri).await,
            Self::Socket(stream) => {
                let mut frame = [0; 6 + MESSAGE];
                frame[0] = 0x82;
                frame[1] = 0x80 | u8::try_from(MESSAGE).unwrap();
                stream.write_all(&frame).await?;
                stream.flush().await?;
                stream.read_exact(&mut frame[4..]).await?;
                if frame[4] == 0x82 { Ok(()) } else { Err(io::Error::other("another frame came back")) }
            }
            Self::Raw(http) => match http.read_some().await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    bytes.fetch_add(read as u64, Ordering::Relaxed);
                    Ok(())
                }
            },
        }
    }
}

async fn grpc(sender: &h2::client::SendRequest<Bytes>, uri: &http::Uri) -> io::Result<()> {
    let mut ready = sender.clone().ready().await.map_err(io::Error::other)?;
    let request = http::Request::post(uri.clone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(io::Error::other)?;
    let (answer, mut body) = ready.send_request(request, false).map_err(io::Error::other)?;
    let mut message = vec![0; 5 + MESSAGE];
    message[4] = u8::try_from(MESSAGE).unwrap();
    body.send_data(message.into(), true).map_err(io::Error::other)?;
    let mut body = answer.await.map_err(io::Error::other)?.into_body();
    let mut length = 0;
    while let Some(part) = body.data().await {
        let part = part.map_err(io::Error::other)?;
        length += part.len();
        body.flow_control().release_capacity(part.len()).map_err(io::Error::other)?;
    }
    let trailers = body.trailers().await.map_err(io::Error::other)?;
    let fine = trailers.is_some_and(|fields| fields.get("grpc-status").is_some_and(|status| status == "0"));
    if fine && length == 5 + MESSAGE { Ok(()) } else { Err(io::Error::other("the gRPC call failed")) }
}

/// A load that runs until it is dropped.
pub(crate) struct Load {
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    done: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    failure: Mutex<Option<String>>,
    measuring: AtomicBool,
    /// Nanoseconds, while `measuring`.
    latencies: Mutex<Vec<u64>>,
}

impl State {
    fn note(&self, began: Instant, result: &io::Result<()>) {
        match result {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                if self.measuring.load(Ordering::Relaxed) {
                    self.latencies.lock().unwrap().push(began.elapsed().as_nanos() as u64);
                }
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.failure.lock().unwrap().get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Load {
    async fn sessions(way: &Way, ask: &Ask, connections: usize) -> Result<Vec<Session>, String> {
        let mut sessions = Vec::with_capacity(connections);
        for _ in 0..connections {
            sessions.push(Session::open(way, ask).await.map_err(|error| format!("no session: {error}"))?);
        }
        Ok(sessions)
    }

    pub(crate) async fn closed(way: &Way, ask: &Ask, connections: usize) -> Result<Self, String> {
        let state = Arc::new(State::default());
        let sessions = Self::sessions(way, ask, connections).await?.into_iter();
        let tasks = sessions
            .map(|mut session| {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    loop {
                        let began = Instant::now();
                        let result = session.once(&state.bytes).await;
                        state.note(began, &result);
                        if result.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        Ok(Self { state, tasks })
    }

    /// Requests at a fixed rate over so many connections. A request that finds none idle waits, and its time counts from
    /// when it was due.
    pub(crate) async fn open(way: &Way, ask: &Ask, connections: usize, rate: f64) -> Result<Self, String> {
        let state = Arc::new(State::default());
        let idle: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut tasks = Vec::new();
        for mut session in Self::sessions(way, ask, connections).await? {
            let (sender, mut due) = tokio::sync::mpsc::unbounded_channel::<Instant>();
            idle.lock().unwrap().push(sender.clone());
            let (state, idle) = (Arc::clone(&state), Arc::clone(&idle));
            tasks.push(tokio::spawn(async move {
                while let Some(due) = due.recv().await {
                    let result = session.once(&state.bytes).await;
                    state.note(due, &result);
                    if result.is_err() {
                        return;
                    }
                    idle.lock().unwrap().push(sender.clone());
                }
            }));
        }
        let began = Instant::now();
        tasks.push(tokio::spawn(async move {
            let mut waiting = VecDeque::new();
            let mut sent = 0_u64;
            // It never sleeps: a timer has milliseconds, and this core has nothing better to do.
            loop {
                let now = Instant::now();
                loop {
                    let due = began + Duration::from_secs_f64(sent as f64 / rate);
                    if due > now {
                        break;
                    }
                    waiting.push_back(due);
                    sent += 1;
                }
                while let Some(due) = waiting.front() {
                    let Some(session) = idle.lock().unwrap().pop() else { break };
                    if session.send(*due).is_ok() {
                        waiting.pop_front();
                    }
                }
                tokio::task::yield_now().await;
            }
        }));
        Ok(Self { state, tasks })
    }

    pub(crate) fn done(&self) -> u64 {
        self.state.done.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self) {
        self.state.measuring.store(true, Ordering::Relaxed);
    }

    pub(crate) fn latencies(&self) -> Vec<u64> {
        self.state.measuring.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.state.latencies.lock().unwrap())
    }

    /// An error if a request failed.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &*self.state.failure.lock().unwrap() {
            Some(failure) => {
                Err(format!("{} failed, the first: {failure}", self.state.failures.load(Ordering::Relaxed)))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Connections that do nothing, and then one request each.
pub(crate) struct Crowd(Vec<Session>);

impl Crowd {
    pub(crate) async fn gather(way: &Way, ask: &Ask, connections: usize) -> Result<Self, String> {
        Ok(Self(Load::sessions(way, ask, connections).await?))
    }

    pub(crate) async fn ask_each(&mut self) -> Result<(), String> {
        for session in &mut self.0 {
            session.once(&AtomicU64::new(0)).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Sends so many requests over some connections, and no more.
pub(crate) async fn exactly(way: &Way, ask: &Ask, connections: usize, requests: usize) -> Result<(), String> {
    let mut tasks = tokio::task::JoinSet::new();
    for mut session in Load::sessions(way, ask, connections).await? {
        tasks.spawn(async move {
            for _ in 0..requests / connections {
                session.once(&AtomicU64::new(0)).await?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(())
}
