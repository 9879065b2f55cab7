//! The connection side: whose bytes are these, and who gets them?
//!
//! A connection is accepted, its request heads are read whole (`head`), and each goes to the request side (`proxy`) or,
//! if it is a CONNECT, to `connect`. What the kernel redirected is looked at by `transparent` first. Nothing of HTTP semantics is decided here, nothing of sockets there.

mod alarm;
mod connect;
mod h2;
pub mod head;
mod intercept;
mod sniff;
mod stream;
mod transparent;
mod tunnel;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use pingora::{apps::HttpServerApp, protocols::http::ServerSession, proxy::HttpProxy, server::ShutdownWatch};
use prometheus::IntGauge;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::Notify,
    time::Instant,
};

use self::{
    head::{Body, Kind},
    stream::{ClientStream, Socket},
};
use crate::{
    config::{self, Limits, ListenAddress},
    egress::connect::Dialer,
    metrics::{Metrics, Outcome},
    proxy::{
        Injector,
        context::{Connection, Due},
        dialled::Dialled,
        direct::{Direct, Next, Room},
        refusal::{Code, Refusal},
        target::{Listening, Role},
    },
    snapshot::Current,
    telemetry::RequestId,
};

/// What every connection is served with.
pub struct Front {
    /// The way of plain requests.
    pub direct: Direct,
    /// The way of all others.
    pub proxy: Arc<HttpProxy<Injector>>,
    /// The running configuration.
    pub current: Current,
    /// Names to addresses, and the sockets of this process, for tunnels.
    pub dialer: Dialer,
    /// Counts.
    pub metrics: Metrics,
    /// What this process has just connected to.
    pub dialled: Dialled,
    /// The connections that are open.
    pub open: Open,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("open", &self.open).finish_non_exhaustive()
    }
}

/// A socket that is bound, with what its connections are.
#[derive(Debug)]
pub struct Bound {
    socket: ListenSocket,
    definition: config::Listener,
    role: Arc<Role>,
    /// Its TCP address with the real port.
    address: Option<SocketAddr>,
    /// Its address with the real port, for logs and metrics.
    name: Arc<str>,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Counts connections, and tells when the last one ended.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<(AtomicUsize, Notify)>);

impl Open {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.0.load(Ordering::Acquire)
    }

    /// Ends when there is none.
    pub async fn none(&self) {
        loop {
            let ended = self.0.1.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// One more, unless there are `limit` already.
    fn enter(&self, limit: usize, gauge: &IntGauge) -> Option<Guard> {
        if self.0.0.fetch_add(1, Ordering::AcqRel) >= limit {
            self.leave();
            return None;
        }
        gauge.inc();
        Some(Guard { open: self.clone(), gauge: gauge.clone() })
    }

    fn leave(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_waiters();
        }
    }
}

/// Lives as long as its connection.
struct Guard {
    open: Open,
    gauge: IntGauge,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.gauge.dec();
        self.open.leave();
    }
}

impl Bound {
    /// Binds a listener's socket.
    ///
    /// # Errors
    /// The address is taken or not ours; another process listens on the Unix socket.
    pub async fn bind(definition: &config::Listener) -> io::Result<Self> {
        let (socket, address) = match &definition.address {
            ListenAddress::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = socket.local_addr()?;
                (ListenSocket::Tcp(socket), Some(address))
            }
            ListenAddress::Unix(path) => (ListenSocket::Unix(bind_unix(path).await?), None),
        };
        let name = address.map_or_else(|| definition.address.to_string(), |address| address.to_string()).into();
        Ok(Self { socket, definition: definition.clone(), role: Arc::new(Role::from(definition)), address, name })
    }

    /// Its address with the real port, for logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP address, if it has one.
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Accepts until shutdown; each connection is a task of its own.
    pub async fn serve(self, front: Arc<Front>, mut shutdown: ShutdownWatch) {
        let gauge = front.metrics.connections(&self.name);
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = shutdown.changed() => break,
            };
            match accepted {
                Ok((socket, facts)) => {
                    let limits = front.current.limits();
                    let guard = front.open.enter(limits.max_connections, &gauge);
                    let (front, shutdown) = (Arc::clone(&front), shutdown.clone());
                    let client = ClientStream::new(socket, Arc::new(facts));
                    tokio::spawn(async move {
                        match guard {
                            Some(guard) => {
                                match *client.facts().listening.role {
                                    Role::Transparent => transparent::serve(&front, client, shutdown).await,
                                    _ => serve_connection(&front, client, shutdown).await,
                                }
                                drop(guard);
                            }
                            None => overloaded(&front, client, &limits).await,
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(listener = &*self.name, %error, "connection not accepted: out of file descriptors?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let ListenAddress::Unix(path) = &self.definition.address
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(listener = &*self.name, %error, "socket file not removed");
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Connection)> {
        let mut original = None;
        let (socket, peer, local) = match &self.socket {
            ListenSocket::Tcp(listener) => {
                let (stream, peer): (TcpStream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A socket that is bound to one address has no other.
                let local = match self.address.filter(|address| !address.ip().is_unspecified()) {
                    Some(address) => address,
                    None => stream.local_addr()?,
                };
                if *self.role == Role::Transparent {
                    original = transparent::original_destination(&stream, local);
                }
                (Socket::Tcp(stream), Some(peer), Some(local))
            }
            ListenSocket::Unix(listener) => (Socket::Unix(listener.accept().await?.0), None, None),
        };
        let facts = Connection {
            listener: Arc::clone(&self.name),
            listening: Listening { role: Arc::clone(&self.role), local, original },
            allow_browsers: self.definition.allow_browsers,
            peer,
            answer_due: Due::default(),
        };
        Ok((socket, facts))
    }
}

/// Serves requests until either side has enough.
async fn serve_connection(front: &Arc<Front>, mut client: ClientStream, shutdown: ShutdownWatch) {
    let (mut first, mut room) = (true, Room::default());
    let mut stopping = shutdown.clone();
    let mut stopping = std::pin::pin!(draining(&mut stopping));
    loop {
        let limits = front.current.limits();
        let head = tokio::select! {
            biased;
            head = read_head(&mut client, &limits, first) => head,
            () = &mut stopping, if client.buffer.is_empty() => return,
        };
        let head = match head {
            Ok(Some(head::Head { kind: Kind::Http2, .. })) if !first => {
                return refuse(front, client, &head::late_http2()).await;
            }
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(refusal) => return refuse(front, client, &refusal).await,
        };
        first = false;
        match head.kind {
            Kind::Http2 => {
                client.begin_request(0, head.body);
                return h2::serve(front, client, shutdown).await;
            }
            Kind::Connect(authority) => {
                consume(&mut client, head.length);
                client.begin_request(0, head.body);
                return connect::serve(front, client, &authority, shutdown).await;
            }
            Kind::Request => {
                let length = head.rewritten.as_ref().map_or(head.length, Vec::len);
                if let Some(rewritten) = head.rewritten {
                    consume(&mut client, head.length);
                    put_back(&mut client, &rewritten);
                }
                let bytes = client.buffer.get(..length).unwrap_or_default();
                let plan = match head.body {
                    Body::Exact(length) => front.direct.plan(bytes, length, client.facts(), &mut room),
                    Body::Open => None,
                };
                if let Some(plan) = plan {
                    consume(&mut client, length);
                    client.begin_request(0, head.body);
                    match front.direct.serve(plan, &mut room, &mut client, &shutdown).await {
                        Next::Again => continue,
                        Next::Close => return,
                        Next::Last(answer) => return client.farewell(&answer).await,
                        Next::NotPlain(read) => put_back(&mut client, &read),
                    }
                }
                client.begin_request(length, head.body);
                match Box::pin(serve_request(front, client, &limits, &shutdown)).await {
                    Some(reusable) => client = reusable,
                    None => return,
                }
            }
        }
    }
}

/// One request through the request side; the connection if it may carry another.
async fn serve_request(
    front: &Arc<Front>,
    client: ClientStream,
    limits: &Limits,
    shutdown: &ShutdownWatch,
) -> Option<ClientStream> {
    let mut session = ServerSession::new_http1(Box::new(client));
    let keep = !*shutdown.borrow();
    session.set_keepalive(keep.then(|| limits.idle_timeout.as_secs().max(1)));
    let reused = front.proxy.process_new_http(session, shutdown).await?;
    let (stream, _) = reused.consume();
    stream.into_any().downcast::<ClientStream>().ok().map(|stream| *stream)
}

/// Reads the next head. `None`: the client left, or was silent for too long between two requests.
async fn read_head(client: &mut ClientStream, limits: &Limits, first: bool) -> Result<Option<head::Head>, Refusal> {
    // RFC 9112 2.2: an empty line before a request line is ignored.
    let skip_empty = |client: &mut ClientStream| {
        while client.buffer.starts_with(b"\r\n") {
            consume(client, 2);
        }
    };
    skip_empty(client);
    // The first request of a connection is due from the start; later ones may be long in coming.
    let accepted = Instant::now();
    if client.buffer.is_empty() {
        let patience = if first { limits.header_timeout } else { limits.idle_timeout };
        match client.fill_until(accepted.checked_add(patience)).await {
            Ok(read) if read > 0 => {}
            _ => return Ok(None),
        }
    }
    let mut deadline = first.then(|| accepted + limits.header_timeout);
    let mut scanned = 0;
    loop {
        skip_empty(client);
        if let Some(head) = head::find(&client.buffer, scanned.min(client.buffer.len()), limits)? {
            return Ok(Some(head));
        }
        scanned = client.buffer.len();
        let due = *deadline.get_or_insert_with(|| Instant::now() + limits.header_timeout);
        match client.fill_until(Some(due)).await {
            Ok(read) if read > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(head::too_slow(limits)),
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

fn consume(client: &mut ClientStream, length: usize) {
    client.buffer.advance(length.min(client.buffer.len()));
}

/// Puts bytes in front of those that were read ahead.
fn put_back(client: &mut ClientStream, bytes: &[u8]) {
    let rest = std::mem::replace(&mut client.buffer, BytesMut::from(bytes));
    client.buffer.unsplit(rest);
}

/// Ends when the process is to stop.
async fn draining(shutdown: &mut ShutdownWatch) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::trace!("the process stops");
    }
}

async fn overloaded(front: &Front, client: ClientStream, limits: &Limits) {
    let detail = format!("max_connections ({}) are open", limits.max_connections);
    let hint = "look for clients that leave connections open, or raise limits.max_connections";
    let refusal = Refusal::new(Code::Overloaded, detail, hint).retry_after(Duration::from_secs(1));
    refuse(front, client, &refusal).await;
}

/// Answers a connection that has no request, and closes it.
async fn refuse(front: &Front, client: ClientStream, refusal: &Refusal) {
    let request_id = count_refusal(front, client.facts(), refusal);
    client.farewell(&refusal.to_http1(request_id)).await;
}

/// Counts and logs a refusal that the request side never sees; the `request_id` for the answer.
fn count_refusal(front: &Front, facts: &Connection, refusal: &Refusal) -> RequestId {
    let request_id = RequestId::new();
    front.metrics.refused(refusal.code.as_str());
    front.current.load().bare_metrics.request(Outcome::Refused, 0.0);
    tracing::info!(
        %request_id,
        listener = &*facts.listener,
        client = facts.peer.map(tracing::field::display),
        outcome = "refused",
        status = refusal.code.status().as_u16(),
        code = refusal.code.as_str(),
        detail = refusal.detail,
        hint = refusal.hint,
        "request"
    );
    request_id
}

/// Binds a Unix socket of mode 0600, in the place of one that nobody listens on.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
