//! Transparent mode: connections that the kernel redirected here, and the address that each was meant to go to.
//!
//! HTTP is served as requests; TLS for a host that is intercepted is ended here; everything else, and all of it that no
//! rule of ours is for, goes through to that address as if nobody were in between. A client that waits for its server to
//! speak first gets the connection that it waits for, and is still looked at if it speaks first after all.

use std::{net::SocketAddr, sync::Arc};

use pingora::server::ShutdownWatch;
use tokio::{net::TcpStream, time::Instant};

use super::{
    Front, draining, intercept, refuse, serve_connection,
    sniff::{self, Opening, PATIENCE},
    stream::ClientStream,
    tunnel::{Passage, dial},
};
use crate::{
    config::{ConnectPolicy, Unmatched},
    proxy::{
        dialled::own_traffic,
        peer::vetted,
        refusal::{Code, Refusal},
        target::not_redirected,
    },
    route::pattern::Host,
    snapshot::Snapshot,
};

/// Where a connection was meant to go; `None`: it came straight to us.
#[cfg(target_os = "linux")]
pub(super) fn original_destination(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
    let original = match local.ip().to_canonical() {
        std::net::IpAddr::V4(_) => ip_original_dst(stream).map(SocketAddr::from),
        std::net::IpAddr::V6(_) => ipv6_original_dst(stream).map(SocketAddr::from),
    };
    // A kernel that tracks the connection names our own address where nothing was changed.
    let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    original.ok().filter(|original| plain(*original) != plain(local))
}

/// Only Linux tells.
#[cfg(not(target_os = "linux"))]
pub(super) const fn original_destination(_stream: &TcpStream, _local: SocketAddr) -> Option<SocketAddr> {
    None
}

/// Serves one connection to its end.
pub(super) async fn serve(front: &Arc<Front>, mut client: ClientStream, mut shutdown: ShutdownWatch) {
    let snapshot = front.current.load();
    let limits = &snapshot.config.limits;
    let deadline = Instant::now() + limits.header_timeout;
    let max_line = limits.max_header_size;
    let mut opening = sniff::opening(&mut client, PATIENCE, deadline, max_line).await;
    if opening == Opening::Gone {
        return;
    }
    let original = match meant_for(front, &client) {
        Ok(original) => original,
        Err(refusal) => return turn_away(front, &snapshot, client, opening, &refusal).await,
    };
    let mut ahead = None;
    if opening == Opening::Silence {
        match open(front, &snapshot, original, None).await {
            // Whoever speaks first decides.
            Ok(upstream) => {
                let spoken = tokio::select! {
                    read = client.fill() => matches!(read, Ok(1..)),
                    _ = upstream.readable() => false,
                };
                if spoken {
                    let deadline = Instant::now() + limits.header_timeout;
                    opening = sniff::opening(&mut client, PATIENCE, deadline, max_line).await;
                }
                ahead = Some(upstream);
            }
            // What the client says may be allowed all the same.
            Err(refusal) if matches!(refusal.code, Code::RouteDenied | Code::ConnectDenied) => {
                opening = tokio::select! {
                    opening = sniff::opening(&mut client, limits.header_timeout, deadline, max_line) => opening,
                    () = draining(&mut shutdown) => return,
                };
            }
            Err(refusal) => return turn_away(front, &snapshot, client, opening, &refusal).await,
        }
    }
    let name = match opening {
        Opening::Http => return serve_connection(front, client, shutdown).await,
        Opening::Tls => tokio::select! {
            name = sniff::server_name(&mut client, deadline.max(Instant::now() + PATIENCE)) => name,
            () = draining(&mut shutdown) => return,
        },
        Opening::Other | Opening::Silence | Opening::Gone => None,
    };
    if let (Some(host), Some(leaves)) = (&name, &snapshot.interception)
        && snapshot.routes.intercepts(host.as_str(), original.port())
    {
        tracing::debug!(%host, %original, "a redirected connection is intercepted");
        return intercept::serve(front, client, leaves, host, original.port(), shutdown).await;
    }
    pass(front, &snapshot, client, original, name.as_ref(), ahead).await;
}

/// Where a connection was meant to go, unless it came straight to us or from us.
fn meant_for(front: &Front, client: &ClientStream) -> Result<SocketAddr, Refusal> {
    let facts = client.facts();
    let original = facts.listening.original.ok_or_else(not_redirected)?;
    if facts.peer.is_some_and(|peer| front.dialled.is_ours(peer, original)) {
        let refusal = own_traffic(format!("lanyard's own connection to {original} was redirected back to it"));
        let listener = &*facts.listener;
        tracing::error!(listener, %original, hint = refusal.hint, "lanyard's own traffic is redirected to it");
        return Err(refusal);
    }
    Ok(original)
}

/// Ends a connection: who speaks HTTP gets an answer.
async fn turn_away(front: &Front, snapshot: &Arc<Snapshot>, client: ClientStream, opening: Opening, refusal: &Refusal) {
    if opening == Opening::Http {
        return refuse(front, client, refusal).await;
    }
    let target = client.facts().listening.original.map(|original| original.to_string());
    Passage::new(client.facts(), snapshot, None, target).refused(front, refusal, None);
}

/// Lets a connection through to where it was meant to go. `ahead`: it is open already.
async fn pass(
    front: &Front,
    snapshot: &Arc<Snapshot>,
    client: ClientStream,
    original: SocketAddr,
    name: Option<&Host>,
    ahead: Option<TcpStream>,
) {
    let target = name.map_or_else(|| original.to_string(), |host| format!("{host}:{}", original.port()));
    let passage = Passage::new(client.facts(), snapshot, None, Some(target));
    let opened = match ahead {
        Some(upstream) => may_pass(front, snapshot, original, name).map(|()| upstream),
        None => open(front, snapshot, original, name).await,
    };
    match opened {
        Ok(upstream) => passage.carry(front, client, upstream, knows(snapshot, original, name)).await,
        Err(refusal) => passage.refused(front, &refusal, None),
    }
}

/// Connects to where a connection was meant to go, if it may.
async fn open(
    front: &Front,
    snapshot: &Snapshot,
    original: SocketAddr,
    name: Option<&Host>,
) -> Result<TcpStream, Refusal> {
    may_pass(front, snapshot, original, name)?;
    dial(vec![original], &original.to_string(), &front.dialled).await
}

/// Whether a connection may go where it was meant to, and nobody looks inside.
fn may_pass(front: &Front, snapshot: &Snapshot, original: SocketAddr, name: Option<&Host>) -> Result<(), Refusal> {
    let forward = &snapshot.config.forward;
    if !knows(snapshot, original, name) && forward.unmatched == Unmatched::Deny {
        let detail = match name {
            Some(host) => format!("no route is for {host}:{}", original.port()),
            None => format!("a connection to {original} that names no host, so no route can be for it"),
        };
        let hint = "add a route for it, set forward.unmatched = \"pass\", or leave it out of the redirect";
        return Err(Refusal::new(Code::RouteDenied, detail, hint));
    }
    if forward.connect == ConnectPolicy::Deny {
        let detail = format!("a connection to {original} that is neither plain HTTP nor intercepted");
        let hint = "let the client send http:// URLs, set intercept = true on the route, or leave it out of the \
                    redirect; forward.connect = \"tunnel\" lets it through";
        return Err(Refusal::new(Code::ConnectDenied, detail, hint));
    }
    vetted(original, &front.dialer.own)
}

/// Whether a route is for the host that a client named, at the port that it went to.
fn knows(snapshot: &Snapshot, original: SocketAddr, name: Option<&Host>) -> bool {
    name.is_some_and(|host| snapshot.routes.knows(host.as_str(), original.port()))
}
