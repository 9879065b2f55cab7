//! CONNECT (RFC 9110 9.3.6): intercepted where a route says so, else a blind tunnel, counted as bypassed, or a refusal.

use std::{net::SocketAddr, sync::Arc};

use pingora::server::ShutdownWatch;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::Instant,
};

use super::{Front, intercept, stream::ClientStream};
use crate::{
    ca::Leaves,
    config::{ConnectPolicy, Scheme, Unmatched},
    dns::Names,
    egress::{self, Proxy, connect::Why},
    metrics::Outcome,
    proxy::{
        peer::{DEFAULT_CONNECT_TIMEOUT, Destination, addresses},
        refusal::{Code, Refusal},
        target::Role,
        tunnel,
    },
    route::pattern::{Host, split_authority},
    snapshot::Snapshot,
};

/// Serves one CONNECT to its end.
pub(super) async fn serve(front: &Arc<Front>, mut client: ClientStream, authority: &str, shutdown: ShutdownWatch) {
    let request_id = crate::telemetry::new_id();
    let started = Instant::now();
    let snapshot = front.current.load();
    let facts = Arc::clone(client.facts());
    let opened = open(front, &snapshot, &client, authority).await;
    let mut passed_by = false;
    let (outcome, status, bytes, refusal) = match opened {
        Err(refusal) => {
            front.metrics.refused(refusal.code.as_str());
            let outcome = if refusal.code.is_of_upstream() { Outcome::UpstreamError } else { Outcome::Refused };
            client.farewell(&refusal.to_http1(&request_id)).await;
            (outcome, refusal.code.status().as_u16(), (0, 0), Some(refusal))
        }
        Ok(Way::Intercept { leaves, host, port }) => {
            if establish(&mut client).await.is_ok() {
                tracing::debug!(request_id, target = authority, "CONNECT is intercepted");
                intercept::serve(front, client, &leaves, &host, port, shutdown).await;
            }
            return;
        }
        Ok(Way::Tunnel { mut upstream, host, port, has_route }) => {
            if establish(&mut client).await.is_err() {
                return;
            }
            if has_route && begins_with_http(&mut client, &upstream).await {
                drop(upstream);
                return intercept::serve_clear(front, client, &host, port, shutdown).await;
            }
            passed_by = has_route;
            front.metrics.tunnels().inc();
            let bytes = match tunnel(&mut client, &mut upstream).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::debug!(request_id, %error, "tunnel ended");
                    (0, 0)
                }
            };
            (Outcome::Bypassed, 200, bytes, None)
        }
    };
    snapshot.bare_metrics.request(outcome, started.elapsed().as_secs_f64());
    if snapshot.config.log.access {
        tracing::info!(
            request_id,
            listener = &*facts.listener,
            client = facts.peer.map(tracing::field::display),
            method = "CONNECT",
            target = authority,
            outcome = outcome.as_str(),
            status,
            bytes_sent = bytes.0,
            bytes_received = bytes.1,
            duration_ms = crate::telemetry::millis(started.elapsed()),
            code = refusal.as_ref().map(|r| r.code.as_str()),
            detail = refusal.as_ref().map(|r| &*r.detail),
            hint = refusal.as_ref().map(|r| &*r.hint).or_else(|| passed_by.then_some(NOT_INTERCEPTED)),
            "request"
        );
    }
}

/// Where a CONNECT leads.
enum Way {
    /// To its target, and nobody looks inside.
    Tunnel { upstream: TcpStream, host: Host, port: u16, has_route: bool },
    /// To lanyard itself.
    Intercept { leaves: Arc<Leaves>, host: Host, port: u16 },
}

/// Decides whether there may be a tunnel, and connects it.
async fn open(front: &Front, snapshot: &Snapshot, client: &ClientStream, authority: &str) -> Result<Way, Refusal> {
    match &*client.facts().listening.role {
        Role::Forward => {}
        Role::Reverse { upstream, .. } => {
            let detail = format!("this listener stands for {} and is no proxy", upstream.host);
            return Err(Refusal::new(Code::ConnectDenied, detail, "point the proxy setting at a forward listener"));
        }
        Role::Tunnel { host, port, .. } => {
            let detail = format!("CONNECT inside the CONNECT to {host}:{port}, which is intercepted");
            return Err(Refusal::new(Code::ConnectDenied, detail, "send it to the proxy itself"));
        }
    }
    let told = split_authority(authority).map_err(|e| e.to_string());
    let (host, port) = match told {
        Ok((host, Some(port))) => (host, port),
        Ok((_, None)) => return Err(bad("it names no port")),
        Err(why) => return Err(bad(&why)),
    };
    let known = snapshot.routes.knows(host.as_str(), port);
    if !known && snapshot.config.forward.unmatched == Unmatched::Deny {
        let detail = format!("no route is for {host}:{port}");
        return Err(Refusal::new(Code::RouteDenied, detail, "add a route for it, or set forward.unmatched = \"pass\""));
    }
    if let Some(leaves) = snapshot.interception.as_ref().filter(|_| snapshot.routes.intercepts(host.as_str(), port)) {
        return Ok(Way::Intercept { leaves: Arc::clone(leaves), host, port });
    }
    if snapshot.config.forward.connect == ConnectPolicy::Deny {
        let detail = format!("CONNECT to {host}:{port}: nothing can be injected into a tunnel");
        let hint = "let the client send http:// URLs (lanyard speaks TLS to the upstream), use a reverse listener, or \
                    set intercept = true on its route; forward.connect = \"tunnel\" lets it through";
        return Err(Refusal::new(Code::ConnectDenied, detail, hint));
    }
    let through = snapshot.config.egress_proxy.through(Scheme::Https, host.as_str()).cloned();
    let destination = Destination {
        scheme: Scheme::Https,
        host,
        port,
        path_and_query: String::new(),
        named_literally: false,
        names: Names::System,
        through,
    };
    let candidates = addresses(&destination, &front.dialer, DEFAULT_CONNECT_TIMEOUT).await?;
    let upstream = match &destination.through {
        None => dial(candidates, &destination.authority()).await?,
        Some(proxy) => dial_through(proxy, candidates, &destination.name()).await?,
    };
    Ok(Way::Tunnel { upstream, host: destination.host, port, has_route: known })
}

/// Whether the client sends plain HTTP into its tunnel, as some do for `http://` URLs (undici, grpcio, WebSocket
/// clients). Where the other side speaks first it is another protocol, but for HTTP/2, where both do.
async fn begins_with_http(client: &mut ClientStream, upstream: &TcpStream) -> bool {
    let mut ask_server = true;
    loop {
        if let Some(is_http) = looks_like_http(&client.buffer) {
            return is_http;
        }
        let read = tokio::select! {
            read = client.fill() => read,
            settings = begins_with_settings(upstream), if ask_server => {
                if !settings {
                    return false;
                }
                ask_server = false;
                continue;
            }
        };
        if !matches!(read, Ok(1..)) {
            return false;
        }
    }
}

/// Whether the first thing that a server says is the SETTINGS frame of HTTP/2 (RFC 9113 4.1, 6.5).
async fn begins_with_settings(upstream: &TcpStream) -> bool {
    let mut header = [0; 9];
    match upstream.peek(&mut header).await {
        Ok(9) => matches!(header, [_, _, _, 4, 0, 0, 0, 0, 0]),
        Ok(_) | Err(_) => false,
    }
}

/// Whether bytes are the beginning of an HTTP request; `None` while they may become one.
fn looks_like_http(bytes: &[u8]) -> Option<bool> {
    let method = |method: &&str| bytes.starts_with(method.as_bytes());
    let prefix = |method: &&str| method.as_bytes().starts_with(bytes);
    if METHODS.iter().any(method) {
        Some(true)
    } else if METHODS.iter().any(prefix) {
        None
    } else {
        Some(false)
    }
}

/// Connects through an egress proxy: a tunnel in a tunnel.
async fn dial_through(proxy: &Proxy, candidates: Vec<SocketAddr>, target: &str) -> Result<TcpStream, Refusal> {
    let opened = tokio::time::timeout(DEFAULT_CONNECT_TIMEOUT, egress::connect::first(proxy, candidates, target)).await;
    let opened = opened.unwrap_or(Err(Why::TimedOut(DEFAULT_CONNECT_TIMEOUT)));
    opened.map_err(|why| tunnel::refusal(&why.told(proxy, target)))
}

/// Connects to the first address that lets us, the first to try last.
async fn dial(mut candidates: Vec<SocketAddr>, authority: &str) -> Result<TcpStream, Refusal> {
    let mut last = Refusal::new(Code::UpstreamUnresolved, format!("{authority} has no address"), "check the name");
    while let Some(address) = candidates.pop() {
        last = match tokio::time::timeout(DEFAULT_CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY not set");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => {
                let detail = format!("no connection to {authority}: {error}");
                Refusal::new(Code::UpstreamUnreachable, detail, "check that it is up")
            }
            Err(_) => {
                let detail = format!("no connection to {authority} within {DEFAULT_CONNECT_TIMEOUT:?}");
                Refusal::new(Code::UpstreamTimeout, detail, "check that it is up and that a firewall lets us through")
            }
        };
    }
    Err(last)
}

/// Copies both ways until both ends are done; no timeout cuts a tunnel that is alive.
async fn tunnel(client: &mut ClientStream, upstream: &mut TcpStream) -> std::io::Result<(u64, u64)> {
    copy_bidirectional_with_sizes(client, upstream, TUNNEL_BUFFER, TUNNEL_BUFFER).await
}

/// Answers the CONNECT: what comes next is not ours to read as a request of the same connection.
async fn establish(client: &mut ClientStream) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    client.flush().await
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the target of CONNECT cannot be told: {why}"), "send CONNECT HOST:PORT")
}

/// How the requests begin that are looked for in a tunnel: RFC 9110, WebDAV (RFC 4918, 3253, 5323, 4791), QUERY, HTTP/2.
const METHODS: [&str; 22] = [
    "GET ",
    "HEAD ",
    "POST ",
    "PUT ",
    "PATCH ",
    "DELETE ",
    "OPTIONS ",
    "TRACE ",
    "CONNECT ",
    "PROPFIND ",
    "PROPPATCH ",
    "MKCOL ",
    "COPY ",
    "MOVE ",
    "LOCK ",
    "UNLOCK ",
    "REPORT ",
    "SEARCH ",
    "MKCALENDAR ",
    "ACL ",
    "QUERY ",
    "PRI * HTTP/2.0\r\n",
];
/// Why a request that has a route carries no token.
const NOT_INTERCEPTED: &str = "a route is for this host, but nothing can be injected into TLS that passes by: set \
                               intercept = true on the route, or have the client use http:// or a reverse listener";
/// Each way, bytes.
const TUNNEL_BUFFER: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::looks_like_http;

    #[test]
    fn only_a_request_looks_like_one() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"G", None),
            (b"GET", None),
            (b"GET /", Some(true)),
            (b"GETS", Some(false)),
            (b"POST http://", Some(true)),
            (b"PRI * HTTP/2", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Some(true)),
            (b"PRIVMSG", Some(false)),
            (b"PROPFIND /", Some(true)),
            (b"QUE", None),
            (b"\x16\x03\x01", Some(false)),
            (b"SSH-2.0", Some(false)),
            (b"get /", Some(false)),
        ] {
            assert_eq!(looks_like_http(bytes), expected, "{bytes:?}");
        }
    }
}
