//! The upstreams that plain requests go to, and the idle connections to each.
//!
//! What may share a connection has the same key: host, port and scheme, the egress proxy on the way, and the route's
//! profile, CAs and server name. A request reads the map without a lock; a connection is taken and put back under its
//! upstream's own, for as long as a push takes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::link::Link;
use crate::{
    config::Scheme,
    egress::Proxy,
    proxy::peer::{Destination, UPSTREAM_IDLE_TIMEOUT},
    route::pattern::Host,
    snapshot::RouteEntry,
};

/// Every upstream that was asked for of late.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<ArcSwap<HashMap<Key, Arc<Origin>>>>);

/// What may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    scheme: Scheme,
    host: Host,
    port: u16,
    group_key: u64,
    through: Option<Arc<Proxy>>,
}

/// One upstream.
#[derive(Debug, Default)]
pub struct Origin {
    idle: Mutex<Vec<Idle>>,
    /// Whether it was offered HTTP/2 by TLS and chose HTTP/1.1.
    chose_http1: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
    until: Instant,
}

impl Origins {
    /// The upstream that a destination is.
    pub(super) fn of(&self, destination: &Destination, entry: Option<&RouteEntry>) -> Arc<Origin> {
        match entry.filter(|entry| entry.route.upstream.is_some()) {
            // Such a route has one destination.
            Some(named) => Arc::clone(named.origin.get_or_init(|| self.find(destination, entry))),
            None => self.find(destination, entry),
        }
    }

    fn find(&self, destination: &Destination, entry: Option<&RouteEntry>) -> Arc<Origin> {
        let key = Key {
            scheme: destination.scheme,
            host: destination.host.clone(),
            port: destination.port,
            group_key: entry.map_or(0, |entry| entry.group_key),
            through: destination.through.clone(),
        };
        if let Some(known) = self.0.load().get(&key) {
            return Arc::clone(known);
        }
        let new = Arc::new(Origin::default());
        self.0.rcu(|origins| {
            let mut origins = HashMap::clone(origins);
            if origins.len() >= MAX_ORIGINS {
                origins.retain(|_, origin| Arc::strong_count(origin) > 2 || origin.idle() > 0);
            }
            origins.entry(key.clone()).or_insert_with(|| Arc::clone(&new));
            origins
        });
        self.0.load().get(&key).cloned().unwrap_or(new)
    }

    /// An upstream that may choose HTTP/2 answered by HTTP/1.1: from now on it is asked for that.
    pub fn note_http1(&self, destination: &Destination, entry: Option<&RouteEntry>) {
        self.of(destination, entry).chose_http1.store(true, Ordering::Relaxed);
    }

    /// Closes idle connections in time, and those that their upstream closed, for as long as it is polled. Where there
    /// are many, only those that were used of late stay.
    pub async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let (now, origins) = (Instant::now(), self.0.load_full());
            let many = origins.values().map(|origin| origin.idle()).sum::<usize>() > MANY_IDLE;
            let patience = if many { SWEEP } else { UPSTREAM_IDLE_TIMEOUT };
            for origin in origins.values() {
                origin.sweep(now, patience);
            }
        }
    }
}

impl Origin {
    /// Whether it is known to want HTTP/1.1 where TLS could agree on HTTP/2.
    pub(super) fn chose_http1(&self) -> bool {
        self.chose_http1.load(Ordering::Relaxed)
    }

    /// It no longer does, or something else is wrong with TLS.
    pub(super) fn forget_choice(&self) {
        self.chose_http1.store(false, Ordering::Relaxed);
    }

    /// An idle connection to one of these addresses, the one that was used last.
    pub(super) fn take(&self, addresses: &[SocketAddr], now: Instant) -> Option<Link> {
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if addresses.contains(&idle.link.address) && now < idle.until && idle.link.is_quiet() {
                return Some(idle.link);
            }
        }
    }

    /// Keeps a connection for another request, for the time that its upstream grants.
    pub(super) fn put(&self, mut link: Link, since: Instant, granted: Option<Duration>) {
        link.reused = true;
        let until = since + granted.map_or(UPSTREAM_IDLE_TIMEOUT, |limit| limit.min(UPSTREAM_IDLE_TIMEOUT));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { link, since, until });
        }
    }

    /// How many connections are idle.
    fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn sweep(&self, now: Instant, patience: Duration) {
        let mut gone = Vec::new();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, closed) = std::mem::take(&mut *idle)
            .into_iter()
            .partition(|idle: &Idle| now < idle.until && now < idle.since + patience);
        *idle = kept;
        gone.extend(closed);
        gone.extend(idle.extract_if(.., |idle| !idle.link.is_quiet()));
        // Closing them takes no lock.
        drop(idle);
        drop::<Vec<Idle>>(gone);
    }
}

/// As many idle connections to one upstream as are kept.
const MAX_IDLE: usize = 1024;
/// From so many on, they are closed when they were not used for [`SWEEP`]: each takes a file descriptor, and those are few
/// in some places.
const MANY_IDLE: usize = 128;
/// From so many upstreams on, those without a connection are forgotten.
const MAX_ORIGINS: usize = 1024;
/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);
