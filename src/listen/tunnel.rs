//! Blind tunnels: bytes go both ways, nobody looks inside, and each is counted and logged once.

use std::{net::SocketAddr, sync::Arc};

use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, time::Instant};

use super::{Front, stream::ClientStream};
use crate::{
    metrics::Outcome,
    proxy::{
        context::Connection,
        dialled::Dialled,
        peer::DEFAULT_CONNECT_TIMEOUT,
        refusal::{Code, Refusal},
    },
    snapshot::Snapshot,
    telemetry::RequestId,
};

/// A tunnel that is asked for, from then to its log line.
pub(super) struct Passage {
    /// In the refusal and the log line.
    pub(super) request_id: RequestId,
    started: Instant,
    facts: Arc<Connection>,
    snapshot: Arc<Snapshot>,
    /// What asked for it, if a request did.
    method: Option<&'static str>,
    /// Where it is to lead, for people, if that is known.
    target: Option<String>,
}

impl Passage {
    /// Begins now.
    pub(super) fn new(
        facts: &Arc<Connection>,
        snapshot: &Arc<Snapshot>,
        method: Option<&'static str>,
        target: Option<String>,
    ) -> Self {
        Self {
            request_id: RequestId::new(),
            started: Instant::now(),
            facts: Arc::clone(facts),
            snapshot: Arc::clone(snapshot),
            method,
            target,
        }
    }

    /// Copies both ways until both ends are done; no timeout cuts a tunnel that is alive.
    /// `has_route`: a route is for its target, and its requests were meant to carry a token.
    pub(super) async fn carry(
        &self,
        front: &Front,
        mut client: ClientStream,
        mut upstream: TcpStream,
        has_route: bool,
    ) {
        front.metrics.tunnels().inc();
        let copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
        let bytes = copied.unwrap_or_else(|error| {
            tracing::debug!(request_id = %self.request_id, %error, "tunnel ended");
            (0, 0)
        });
        self.log(Outcome::Bypassed, Some(200), bytes, None, has_route.then_some(NOT_INTERCEPTED));
    }

    /// There is none. `status`: what the client is told, if anything.
    pub(super) fn refused(&self, front: &Front, refusal: &Refusal, status: Option<u16>) {
        front.metrics.refused(refusal.code.as_str());
        let outcome = if refusal.code.is_of_upstream() { Outcome::UpstreamError } else { Outcome::Refused };
        self.log(outcome, status, (0, 0), Some(refusal), Some(&refusal.hint));
    }

    fn log(
        &self,
        outcome: Outcome,
        status: Option<u16>,
        bytes: (u64, u64),
        refusal: Option<&Refusal>,
        hint: Option<&str>,
    ) {
        self.snapshot.bare_metrics.request(outcome, self.started.elapsed().as_secs_f64());
        if self.snapshot.config.log.access {
            tracing::info!(
                request_id = %self.request_id,
                listener = &*self.facts.listener,
                client = self.facts.peer.map(tracing::field::display),
                method = self.method,
                target = self.target,
                original = self.facts.listening.original.map(tracing::field::display),
                outcome = outcome.as_str(),
                status,
                bytes_sent = bytes.0,
                bytes_received = bytes.1,
                duration_ms = crate::telemetry::millis(self.started.elapsed()),
                code = refusal.map(|r| r.code.as_str()),
                detail = refusal.map(|r| &*r.detail),
                hint,
                "request"
            );
        }
    }
}

/// Connects to the first address that lets us, the first to try last.
///
/// # Errors
/// None does.
pub(super) async fn dial(
    mut candidates: Vec<SocketAddr>,
    authority: &str,
    dialled: &Dialled,
) -> Result<TcpStream, Refusal> {
    let mut last = Refusal::new(Code::UpstreamUnresolved, format!("{authority} has no address"), "check the name");
    while let Some(address) = candidates.pop() {
        last = match tokio::time::timeout(DEFAULT_CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                dialled.note(&stream);
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

/// Why a request that has a route carries no token.
const NOT_INTERCEPTED: &str = "a route is for this host, but nothing can be injected into TLS that passes by: set \
                               intercept = true on the route, or have the client use http:// or a reverse listener";
/// Each way, bytes.
const BUFFER: usize = 32 * 1024;
