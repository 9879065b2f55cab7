//! CONNECT (RFC 9110 9.3.6): intercepted where a route says so, else a blind tunnel, counted as bypassed, or a refusal.

use std::{net::SocketAddr, sync::Arc};

use pingora::server::ShutdownWatch;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Front, intercept,
    sniff::{self, Guess, Opening},
    stream::ClientStream,
    tunnel::{Passage, dial},
};
use crate::{
    ca::Leaves,
    config::{ConnectPolicy, Scheme, Unmatched},
    dns::Names,
    egress::{self, Proxy, connect::Why},
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
    let snapshot = front.current.load();
    let passage = Passage::new(client.facts(), &snapshot, Some("CONNECT"), Some(authority.to_owned()));
    match open(front, &snapshot, &client, authority).await {
        Err(refusal) => {
            client.farewell(&refusal.to_http1(passage.request_id)).await;
            passage.refused(front, &refusal, Some(refusal.code.status().as_u16()));
        }
        Ok(Way::Intercept { leaves, host, port }) => {
            if establish(&mut client).await.is_ok() {
                tracing::debug!(request_id = %passage.request_id, target = authority, "CONNECT is intercepted");
                intercept::serve(front, client, &leaves, &host, port, shutdown).await;
            }
        }
        Ok(Way::Tunnel { upstream, host, port, has_route }) => {
            if establish(&mut client).await.is_err() {
                return;
            }
            if has_route && begins_with_http(&mut client, &upstream, snapshot.config.limits.max_header_size).await {
                drop(upstream);
                return intercept::serve_clear(front, client, &host, port, shutdown).await;
            }
            passage.carry(front, client, upstream, has_route).await;
        }
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
        Role::Transparent => {
            let detail = "CONNECT in a redirected connection: it was meant for another proxy";
            let hint = "leave that proxy's port out of the redirect, or point the proxy setting at a forward listener";
            return Err(Refusal::new(Code::ConnectDenied, detail, hint));
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
        path_and_query: "".into(),
        named_literally: false,
        names: Names::System,
        through,
        fixed: None,
    };
    let candidates = addresses(&destination, &front.dialer, DEFAULT_CONNECT_TIMEOUT).await?;
    let upstream = match &destination.through {
        None => dial(candidates.into_vec(), &destination.authority(), &front.dialled).await?,
        Some(proxy) => dial_through(proxy, candidates.into_vec(), &destination.name().to_string()).await?,
    };
    Ok(Way::Tunnel { upstream, host: destination.host, port, has_route: known })
}

/// Whether the client sends plain HTTP into its tunnel, as some do for `http://` URLs (undici, grpcio, WebSocket
/// clients). Where the other side speaks first it is another protocol, but for HTTP/2, where both do.
async fn begins_with_http(client: &mut ClientStream, upstream: &TcpStream, max_line: usize) -> bool {
    let mut ask_server = true;
    loop {
        let so_far = match sniff::guess(&client.buffer, max_line) {
            Guess::Surely(opening) => return opening == Opening::Http,
            Guess::Perhaps(opening) => opening,
        };
        tokio::select! {
            read = client.fill() => {
                if !matches!(read, Ok(1..)) {
                    return false;
                }
            }
            settings = begins_with_settings(upstream), if ask_server => {
                if !settings {
                    return false;
                }
                ask_server = false;
            }
            // It said something, and waits for an answer.
            () = tokio::time::sleep(sniff::PATIENCE), if !client.buffer.is_empty() => return so_far == Opening::Http,
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

/// Connects through an egress proxy: a tunnel in a tunnel.
async fn dial_through(proxy: &Proxy, candidates: Vec<SocketAddr>, target: &str) -> Result<TcpStream, Refusal> {
    let opened = tokio::time::timeout(DEFAULT_CONNECT_TIMEOUT, egress::connect::first(proxy, candidates, target)).await;
    let opened = opened.unwrap_or(Err(Why::TimedOut(DEFAULT_CONNECT_TIMEOUT)));
    opened.map_err(|why| tunnel::refusal(&why.told(proxy, target)))
}

/// Answers the CONNECT: what comes next is not ours to read as a request of the same connection.
async fn establish(client: &mut ClientStream) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    client.flush().await
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the target of CONNECT cannot be told: {why}"), "send CONNECT HOST:PORT")
}
