//! Names to vetted addresses, asynchronously: TTLs, search domains and the hosts file as the system has them.
//!
//! Addresses that no application means to reach through a proxy (link-local, cloud metadata, "this network") are
//! refused here, after resolution and before the connection, and exactly the vetted address is dialled.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::route::pattern::Host;

/// The one resolver of the process, also for token endpoints.
#[derive(Clone)]
pub struct Resolver(Arc<ArcSwap<Resolvers>>);

/// With the hosts file, and past it.
struct Resolvers {
    system: Lookups,
    past_hosts: Lookups,
}

struct Lookups {
    resolver: TokioResolver,
    /// What it found of late. The resolver has a cache of its own, but that is behind a lock and costs a copy of each
    /// record.
    known: ArcSwap<HashMap<Box<str>, Known>>,
}

/// The addresses of a name that may be dialled.
#[derive(Clone)]
struct Known {
    addresses: Addresses,
    until: Instant,
}

/// Where names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As the system does: the hosts file, then the name servers.
    System,
    /// By the name servers alone: for a name that a hosts file leads to lanyard itself.
    PastHosts,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

/// The addresses of a name.
pub type Addresses = SmallVec<[IpAddr; 4]>;

/// Why a name has no address to go to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// It does not resolve.
    #[error("{host} does not resolve: {reason}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// Every address of it is one that is never dialled.
    #[error("{host} is at {address}, a {kind} address: lanyard does not connect there")]
    Forbidden {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
        /// Why.
        kind: &'static str,
    },
}

impl Resolver {
    /// Reads the system's settings.
    ///
    /// # Errors
    /// They cannot be read or hold nothing usable.
    pub fn system() -> Result<Self, String> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Resolvers::build()?))))
    }

    /// Reads the system's settings anew: the laptop moved to another network, the hosts file changed.
    ///
    /// # Errors
    /// They cannot be read; the old ones stay.
    pub fn reload(&self) -> Result<(), String> {
        self.0.store(Arc::new(Resolvers::build()?));
        Ok(())
    }

    /// The addresses of a host that was looked up before and whose time to live is not over, vetted as those of
    /// [`Resolver::resolve`] are. No wait, no lock.
    pub fn known(&self, host: &Host, names: Names) -> Option<Addresses> {
        let resolvers = self.0.load();
        let known = resolvers.lookups(names).known.load();
        let found = known.get(host.as_str()).filter(|found| Instant::now() < found.until)?;
        Some(found.addresses.clone())
    }

    /// The addresses of a host, those that are never dialled left out.
    ///
    /// # Errors
    /// No address, or only forbidden ones.
    pub async fn resolve(&self, host: &Host, names: Names) -> Result<Addresses, DnsError> {
        let resolvers = self.0.load_full();
        let (all, until) = match host.ip() {
            Some(ip) => ([ip].into_iter().collect(), None),
            None => resolvers.lookup(host.as_str(), names).await.map(|(all, until)| (all, Some(until)))?,
        };
        let allowed: Addresses = all.iter().copied().filter(|ip| forbidden(*ip).is_none()).collect();
        if !allowed.is_empty() {
            if let Some(until) = until {
                resolvers.remember(host.as_str(), names, Known { addresses: allowed.clone(), until });
            }
            return Ok(allowed);
        }
        let (address, kind) = all
            .first()
            .and_then(|ip| forbidden(*ip).map(|kind| (*ip, kind)))
            .ok_or_else(|| unresolved(host.as_str(), "it has no address"))?;
        Err(DnsError::Forbidden { host: host.to_string(), address, kind })
    }

    /// The addresses of a host, unvetted: for what an operator named literally.
    ///
    /// # Errors
    /// No address.
    pub async fn lookup(&self, host: &Host, names: Names) -> Result<Addresses, DnsError> {
        match host.ip() {
            Some(ip) => Ok([ip].into_iter().collect()),
            None => self.lookup_name(host.as_str(), names).await,
        }
    }

    async fn lookup_name(&self, name: &str, names: Names) -> Result<Addresses, DnsError> {
        Ok(self.0.load_full().lookup(name, names).await?.0)
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.lookup_name(name.as_str(), Names::System).await?;
            // The port is the URL's: reqwest puts it in where it is 0.
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as reqwest::dns::Addrs)
        })
    }
}

/// Whether an address leads back to one of our own sockets.
pub fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|mine| {
        let my_ip = mine.ip().to_canonical();
        mine.port() == address.port() && (my_ip == ip || (ip.is_loopback() && my_ip.is_unspecified()))
    })
}

/// What kind of address this is, if it is one that is never dialled unless an operator names it literally.
pub fn forbidden(ip: IpAddr) -> Option<&'static str> {
    match embedded(ip) {
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if METADATA_V4.contains(&v4) => Some("cloud metadata"),
        IpAddr::V4(v4) if v4.octets().starts_with(&[0]) => Some("\"this network\""),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.is_multicast() => Some("broadcast or multicast"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if METADATA_V6.contains(&v6) => Some("cloud metadata"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("multicast"),
        _ => None,
    }
}

/// The IPv4 address inside a mapped (`::ffff:a.b.c.d`), compatible or NAT64 (`64:ff9b::a.b.c.d`, RFC 6052) one.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high @ 1..=u16::MAX, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => ip,
    }
}

fn unresolved(host: &str, reason: &str) -> DnsError {
    DnsError::Unresolved { host: host.to_owned(), reason: reason.to_owned() }
}

impl Resolvers {
    fn build() -> Result<Self, String> {
        let builder = || match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            // No resolv.conf, as in an empty container image: the hosts file and literal addresses still work.
            Err(error) => {
                tracing::warn!(%error, "the system's resolver settings cannot be read: only the hosts file is used");
                let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
            }
        };
        Self::finish(builder(), builder())
    }

    fn finish(mut system: Builder, mut past_hosts: Builder) -> Result<Self, String> {
        system.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        past_hosts.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        past_hosts.options_mut().use_hosts_file = ResolveHosts::Never;
        let built = |builder: Builder| {
            let resolver = builder.build().map_err(|e| e.to_string())?;
            Ok::<_, String>(Lookups { resolver, known: ArcSwap::default() })
        };
        Ok(Self { system: built(system)?, past_hosts: built(past_hosts)? })
    }

    const fn lookups(&self, names: Names) -> &Lookups {
        match names {
            Names::System => &self.system,
            Names::PastHosts => &self.past_hosts,
        }
    }

    /// The addresses of a name, and until when they are good.
    async fn lookup(&self, name: &str, names: Names) -> Result<(Addresses, Instant), DnsError> {
        let found = self.lookups(names).resolver.lookup_ip(name).await.map_err(|e| unresolved(name, &e.to_string()))?;
        let addresses: Addresses = found.iter().collect();
        if addresses.is_empty() {
            return Err(unresolved(name, "it has no address"));
        }
        Ok((addresses, Instant::from_std(found.valid_until())))
    }

    fn remember(&self, name: &str, names: Names, found: Known) {
        self.lookups(names).known.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() >= MAX_KNOWN {
                let now = Instant::now();
                known.retain(|_, found| now < found.until);
            }
            if known.len() < MAX_KNOWN {
                known.insert(name.into(), found.clone());
            }
            known
        });
    }
}

/// As many names as are kept at hand; those beyond are looked up in the resolver's own cache.
const MAX_KNOWN: usize = 1024;

type Builder = ResolverBuilder<TokioRuntimeProvider>;

/// Where clouds answer for instance credentials outside the link-local range: Alibaba, Azure's wire server, Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same on IPv6: AWS.
const METADATA_V6: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

#[cfg(test)]
mod tests;
