//! CONNECT (RFC 9110 9.3.6): intercepted where a route says so, else a blind tunnel, counted as bypassed, or a refusal.

use std::sync::Arc;

use pingora::server::ShutdownWatch;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Front, intercept,
    stream::ClientStream,
    tunnel::{Passage, dial},
};
use crate::{
    ca::Leaves,
    config::{ConnectPolicy, Scheme, Unmatched},
    dns::Names,
    proxy::{
        peer::{DEFAULT_CONNECT_TIMEOUT, Destination, addresses},
        refusal::{Code, Refusal},
        target::Role,
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
            client.farewell(&refusal.to_http1(&passage.request_id)).await;
            passage.refused(front, &refusal, Some(refusal.code.status().as_u16()));
        }
        Ok(Way::Intercept { leaves, host, port }) => {
            if establish(&mut client).await.is_ok() {
                tracing::debug!(request_id = passage.request_id, target = authority, "CONNECT is intercepted");
                intercept::serve(front, client, &leaves, &host, port, shutdown).await;
            }
        }
        Ok(Way::Tunnel(upstream)) => {
            if let Err(error) = establish(&mut client).await {
                tracing::debug!(request_id = passage.request_id, %error, "the client left before its tunnel");
            }
            passage.carry(front, client, upstream).await;
        }
    }
}

/// Where a CONNECT leads.
enum Way {
    /// To its target, and nobody looks inside.
    Tunnel(TcpStream),
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
    let destination = Destination {
        scheme: Scheme::Https,
        host,
        port,
        path_and_query: String::new(),
        named_literally: false,
        names: Names::System,
        fixed: None,
    };
    let candidates = addresses(&destination, &front.resolver, &front.own, DEFAULT_CONNECT_TIMEOUT).await?;
    dial(candidates, &destination.authority(), &front.dialled).await.map(Way::Tunnel)
}

/// Answers the CONNECT: what comes next is not ours to read as a request of the same connection.
async fn establish(client: &mut ClientStream) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    client.flush().await
}

fn bad(why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the target of CONNECT cannot be told: {why}"), "send CONNECT HOST:PORT")
}
