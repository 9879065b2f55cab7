//! CONNECT (RFC 9110 9.3.6): a blind tunnel, counted as bypassed, or a refusal.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncWriteExt, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::Instant,
};

use super::{Front, stream::ClientStream};
use crate::{
    config::{ConnectPolicy, ListenerMode, Scheme, Unmatched},
    dns::Names,
    egress::{self, Proxy, connect::Why},
    metrics::Outcome,
    proxy::{
        peer::{DEFAULT_CONNECT_TIMEOUT, Destination, addresses},
        refusal::{Code, Refusal},
        tunnel,
    },
    route::pattern::split_authority,
    snapshot::Snapshot,
};

/// Serves one CONNECT to its end.
pub(super) async fn serve(front: &Front, mut client: ClientStream, authority: &str) {
    let request_id = crate::telemetry::new_id();
    let started = Instant::now();
    let snapshot = front.current.load();
    let facts = Arc::clone(client.facts());
    let opened = open(front, &snapshot, &client, authority).await;
    let (outcome, status, bytes, refusal) = match opened {
        Err(refusal) => {
            front.metrics.refused(refusal.code.as_str());
            let outcome = if refusal.code.is_of_upstream() { Outcome::UpstreamError } else { Outcome::Refused };
            client.farewell(&refusal.to_http1(&request_id)).await;
            (outcome, refusal.code.status().as_u16(), (0, 0), Some(refusal))
        }
        Ok(mut upstream) => {
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
            hint = refusal.as_ref().map(|r| &*r.hint),
            "request"
        );
    }
}

/// Decides whether there may be a tunnel, and connects it.
async fn open(
    front: &Front,
    snapshot: &Snapshot,
    client: &ClientStream,
    authority: &str,
) -> Result<TcpStream, Refusal> {
    if let ListenerMode::Reverse(upstream) = &client.facts().listening.mode {
        let detail = format!("this listener stands for {} and is no proxy", upstream.host);
        return Err(Refusal::new(Code::ConnectDenied, detail, "point the proxy setting at a forward listener"));
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
    if snapshot.config.forward.connect == ConnectPolicy::Deny {
        let detail = format!("CONNECT to {host}:{port}: nothing can be injected into a tunnel");
        let hint = "let the client send http:// URLs (lanyard speaks TLS to the upstream), use a reverse listener, or \
                    set forward.connect = \"tunnel\"";
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
    match &destination.through {
        None => dial(candidates, &destination.authority()).await,
        Some(proxy) => dial_through(proxy, candidates, &destination.name()).await,
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
    client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    client.flush().await?;
    copy_bidirectional_with_sizes(client, upstream, TUNNEL_BUFFER, TUNNEL_BUFFER).await
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the target of CONNECT cannot be told: {why}"), "send CONNECT HOST:PORT")
}

/// Each way, bytes.
const TUNNEL_BUFFER: usize = 32 * 1024;
