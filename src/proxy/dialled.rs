//! The connections that this process has just opened, so that one that the kernel redirects back to us is known.
//!
//! An operator may forget to leave lanyard's own traffic out of the redirect. Then each connection that it opens arrives
//! here as a client's, and answering it by another one would go on for ever.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, OrErr,
    connectors::l4::Connect,
    protocols::l4::{socket, stream::Stream},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::refusal::{Code, Refusal};

/// What was dialled of late: from where, to where.
#[derive(Clone, Debug, Default)]
pub struct Dialled(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    since: HashMap<Ends, Instant>,
    order: VecDeque<(Instant, Ends)>,
}

/// Address and port of both ends, without what else a socket address has.
type Ends = [(IpAddr, u16); 2];

impl Dialled {
    /// Remembers a connection before a byte is written to it: what is read of it later is then known.
    pub fn note(&self, stream: &TcpStream) {
        if let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) {
            self.remember(local, remote, Instant::now());
        }
    }

    /// Whether we opened the connection that came from `peer` and was meant to go to `original`.
    pub fn is_ours(&self, peer: SocketAddr, original: SocketAddr) -> bool {
        self.knows(peer, original, Instant::now())
    }

    fn remember(&self, local: SocketAddr, remote: SocketAddr, now: Instant) {
        let ends = ends(local, remote);
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.forget(now);
        recent.since.insert(ends, now);
        recent.order.push_back((now, ends));
    }

    fn knows(&self, peer: SocketAddr, original: SocketAddr, now: Instant) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.forget(now);
        recent.since.contains_key(&ends(peer, original))
    }
}

impl Recent {
    /// Forgets what is so old that its port may belong to another by now.
    fn forget(&mut self, now: Instant) {
        while let Some((at, ends)) = self.order.front().copied().filter(|(at, _)| now.duration_since(*at) > MEMORY) {
            self.order.pop_front();
            if self.since.get(&ends) == Some(&at) {
                self.since.remove(&ends);
            }
        }
    }
}

/// Opens pingora's connections, and remembers them.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) dialled: Dialled,
    pub(super) limit: Duration,
}

#[async_trait]
impl Connect for Noted {
    async fn connect(&self, address: &socket::SocketAddr) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        let connected = timeout(self.limit, TcpStream::connect(address)).await;
        let connected = connected.or_err(ErrorType::ConnectTimedout, "connect_timeout is over")?;
        let stream = connected.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "no connection", error)
        })?;
        self.dialled.note(&stream);
        Ok(stream.into())
    }
}

/// The refusal of what we sent ourselves.
pub fn own_traffic(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::LoopDetected, detail, EXCLUDE)
}

fn ends(one: SocketAddr, other: SocketAddr) -> Ends {
    [one, other].map(|end| (end.ip().to_canonical(), end.port()))
}

/// A redirected connection arrives at once; so long, no system gives its port to another for the same destination.
const MEMORY: Duration = Duration::from_secs(5);
/// What the operator has to do.
pub const EXCLUDE: &str = "exclude lanyard's own traffic from the redirect: run it as a user of its own, and put `-m owner \
                           --uid-owner UID -j RETURN` (nft: `meta skuid UID return`) before the REDIRECT rule";

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_known_by_both_ends_and_for_a_while() {
        let dialled = Dialled::default();
        let (local, remote) = (address("10.0.0.2:40000"), address("10.0.0.9:443"));
        let start = Instant::now();
        dialled.remember(local, remote, start);
        assert!(dialled.knows(local, remote, start));
        assert!(dialled.knows(address("[::ffff:10.0.0.2]:40000"), remote, start));
        assert!(!dialled.knows(local, address("10.0.0.9:80"), start));
        assert!(!dialled.knows(address("10.0.0.2:40001"), remote, start));
        // The same ends once more: the later time counts.
        dialled.remember(local, remote, start + MEMORY);
        assert!(dialled.knows(local, remote, start + MEMORY + Duration::from_secs(1)));
        assert!(!dialled.knows(local, remote, start + MEMORY * 2 + Duration::from_millis(1)));
        let recent = dialled.0.lock().unwrap();
        assert!(recent.since.is_empty() && recent.order.is_empty());
    }
}
