//! Where a request really goes: the vetted address, the TLS settings, and a pool key that keeps profiles apart.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::{Version, header};
use pingora::{http::RequestHeader, protocols::ALPN, upstreams::peer::HttpPeer, utils::tls::WrappedX509};
use smallvec::SmallVec;

use super::{
    refusal::{Code, Refusal},
    target::{NamedBy, Target, join, under},
    tunnel::{self, Tunnel},
    upgrade,
};
use crate::{
    config::{Route, Scheme},
    dns::{self, DnsError, Names},
    egress::{Egress, Proxy, connect::Dialer},
    route::{
        path,
        pattern::{Host, HostPort},
    },
    snapshot::RouteEntry,
};

/// The scheme, host, port and path that a request goes out with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Whether TLS is spoken.
    pub scheme: Scheme,
    /// What is resolved, verified and named in `Host`.
    pub host: Host,
    /// The port that is connected to.
    pub port: u16,
    /// Path and query.
    pub path_and_query: Arc<str>,
    /// Whether an operator wrote the host as an address into `upstream`: such a one is not vetted.
    pub named_literally: bool,
    /// Where its name is looked up.
    pub names: Names,
    /// The egress proxy on the way there, which then looks up the name.
    pub through: Option<Arc<Proxy>>,
    /// The address that a redirected connection was meant to go to: no name is looked up, and `Host` stays as it came.
    pub fixed: Option<SocketAddr>,
}

impl Destination {
    /// Decides it from the target and the route; `egress` is for what takes none.
    pub fn of(target: &Target, route: Option<&Route>, egress: &Egress) -> Self {
        let by_operator = target.named_by == NamedBy::Operator;
        let (scheme, host, port, named_literally) = match route {
            Some(Route { upstream: Some(upstream), .. }) => {
                (upstream.scheme, upstream.host.clone(), upstream.port, upstream.host.ip().is_some())
            }
            _ if by_operator => (target.scheme, target.host.clone(), target.port, target.host.ip().is_some()),
            None => (target.scheme, target.host.clone(), target.port, false),
            // A matched target goes out as TLS: port 80 is then what the client had to write, not what is meant.
            Some(_) => {
                let port =
                    if target.port == Scheme::Http.default_port() { Scheme::Https.default_port() } else { target.port };
                (Scheme::Https, target.host.clone(), port, false)
            }
        };
        let path_and_query = route
            .and_then(|route| mapped_path(target, route))
            .map_or_else(|| Arc::clone(&target.path_and_query), Arc::from);
        // A client that names its target by Host alone was led here by a hosts file, which leads us here too.
        let by_hosts_file = target.named_by == NamedBy::Host && route.is_none_or(|route| route.upstream.is_none());
        let names = if by_hosts_file { Names::PastHosts } else { Names::System };
        let egress = route.map_or(egress, |route| &route.egress_proxy);
        // A Host that lies leads nobody to another address, and nothing of ours goes with it.
        let fixed = match (route, target.named_by) {
            (None, NamedBy::Redirected(original)) => Some(original),
            _ => None,
        };
        let through = egress.through(scheme, host.as_str()).filter(|_| fixed.is_none()).cloned();
        Self { scheme, host, port, path_and_query, named_literally, names, through, fixed }
    }

    /// `host:port`, for people.
    pub const fn name(&self) -> HostPort<'_> {
        HostPort(&self.host, self.port)
    }

    /// Writes what `Host` says.
    pub(super) fn write_authority(&self, out: &mut Vec<u8>) {
        let host = self.host.as_str();
        if host.contains(':') {
            out.extend_from_slice(b"[");
            out.extend_from_slice(host.as_bytes());
            out.extend_from_slice(b"]");
        } else {
            out.extend_from_slice(host.as_bytes());
        }
        if self.port != self.scheme.default_port() {
            let mut digits = [0; 6];
            let (mut at, mut rest) = (digits.len(), self.port);
            for digit in digits.iter_mut().rev() {
                at -= 1;
                if rest == 0 {
                    *digit = b':';
                    break;
                }
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            out.extend_from_slice(digits.get(at..).unwrap_or_default());
        }
    }

    /// What `Host` says: without the port where it is the scheme's.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The path where the upstream's takes the place of the matched prefix; `None` where it stays as it is.
fn mapped_path(target: &Target, route: &Route) -> Option<String> {
    let base = route.upstream.as_ref()?.path.as_deref()?;
    let whole = &*target.path_and_query;
    if whole == "*" {
        return None;
    }
    let (path, query) = match whole.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (whole, String::new()),
    };
    let Some(prefix) = &route.path_prefix else { return under(base, whole) };
    // A route with a prefix matched, so the path has a normal form, and the prefix is the beginning of it.
    let normal = path::normalise(path)?;
    let rest = prefix.rest_of(&normal)?;
    Some(join(base, &format!("{rest}{query}")))
}

/// What is dialled, the first to try last.
pub type Addresses = SmallVec<[SocketAddr; MAX_ADDRESSES]>;

fn one(address: SocketAddr) -> Addresses {
    [address].into_iter().collect()
}

/// Resolves and vets the addresses that are dialled for a destination, the first to try last: its own, or those of the
/// egress proxy on the way.
///
/// # Errors
/// No address; only forbidden ones; our own.
pub async fn addresses(destination: &Destination, dialer: &Dialer, limit: Duration) -> Result<Addresses, Refusal> {
    if let Some(fixed) = destination.fixed {
        return vetted(fixed, &dialer.own).map(|()| one(fixed));
    }
    if let (Some(ip), true, None) = (destination.host.ip(), destination.named_literally, &destination.through) {
        let address = SocketAddr::new(ip, destination.port);
        let own = dns::is_own(address, &dialer.own);
        return if own { Err(ourselves(destination, address)) } else { Ok(one(address)) };
    }
    if let Some(proxy) = &destination.through {
        return addresses_of_proxy(destination, proxy, dialer, limit).await;
    }
    let host = &destination.host;
    let ips = match dialer.resolver.known(host, destination.names) {
        Some(known) => known,
        None => look_up(host, destination.names, dialer, limit).await?,
    };
    let mut addresses: Addresses =
        ips.into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, destination.port)).collect();
    if let Some(mine) = addresses.iter().find(|address| dns::is_own(**address, &dialer.own)) {
        return Err(ourselves(destination, *mine));
    }
    addresses.reverse();
    Ok(addresses)
}

async fn look_up(host: &Host, names: Names, dialer: &Dialer, limit: Duration) -> Result<dns::Addresses, Refusal> {
    let found = tokio::time::timeout(limit, dialer.resolver.resolve(host, names)).await.map_err(|_| {
        let detail = format!("{host} did not resolve within connect_timeout ({limit:?})");
        Refusal::new(
            Code::UpstreamTimeout,
            detail,
            "look at the name servers of this machine, or raise connect_timeout",
        )
    })?;
    found.map_err(|error| match error {
        DnsError::Unresolved { .. } => {
            Refusal::new(Code::UpstreamUnresolved, error.to_string(), "check the name, and this machine's name servers")
        }
        DnsError::Forbidden { .. } => forbidden(&error),
    })
}

/// A name is the proxy's to look up. An address is vetted here as it always is.
async fn addresses_of_proxy(
    destination: &Destination,
    proxy: &Proxy,
    dialer: &Dialer,
    limit: Duration,
) -> Result<Addresses, Refusal> {
    if let Some(ip) = destination.host.ip() {
        if let Some(kind) = dns::forbidden(ip).filter(|_| !destination.named_literally) {
            return Err(forbidden(&DnsError::Forbidden { host: destination.host.to_string(), address: ip, kind }));
        }
        let address = SocketAddr::new(ip, destination.port);
        if dns::is_own(address, &dialer.own) {
            return Err(ourselves(destination, address));
        }
    }
    let found = tokio::time::timeout(limit, dialer.addresses(proxy)).await;
    let found = found.unwrap_or(Err(crate::egress::connect::Why::TimedOut(limit)));
    let found = found.map_err(|why| tunnel::refusal(&why.told(proxy, &destination.name().to_string())))?;
    Ok(found.into_iter().collect())
}

fn forbidden(error: &DnsError) -> Refusal {
    let hint = "if it is meant, write the address itself into the `upstream` of a route";
    Refusal::new(Code::RouteDenied, error.to_string(), hint)
}

fn ourselves(destination: &Destination, mine: SocketAddr) -> Refusal {
    let detail = format!("{} is lanyard itself ({mine})", destination.name());
    let hint = "set `upstream` of the route to where the service really listens";
    Refusal::new(Code::LoopDetected, detail, hint)
}

/// Vets the address that a redirected connection was meant to go to.
///
/// # Errors
/// It is never dialled, or our own.
pub fn vetted(original: SocketAddr, own: &[SocketAddr]) -> Result<(), Refusal> {
    if let Some(kind) = dns::forbidden(original.ip()) {
        let detail = format!("{original} is a {kind} address: lanyard does not connect there");
        return Err(Refusal::new(Code::RouteDenied, detail, "if it is meant, leave it out of the redirect"));
    }
    if dns::is_own(original, own) {
        let detail = format!("a connection to lanyard itself ({original}) was redirected");
        let hint = "leave loopback and lanyard's own ports out of the redirect";
        return Err(Refusal::new(Code::LoopDetected, detail, hint));
    }
    Ok(())
}

/// Which versions of HTTP a request can go out in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1: clear text has no way to agree.
    Either,
    /// HTTP/1.1: an upgrade (WebSocket) is its.
    Http1,
    /// HTTP/2, in clear text too: gRPC is made of its streams and trailers, and a client that begins with it knows that
    /// the server which it was redirected from speaks it.
    Http2,
}

impl Speaks {
    /// Decides it from the request.
    pub fn of(head: &RequestHeader, is_upgrade: bool, destination: &Destination) -> Self {
        let is_grpc = || {
            let content_type = head.headers.get(header::CONTENT_TYPE);
            content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
        };
        if is_upgrade {
            Self::Http1
        } else if head.version == Version::HTTP_2 && (destination.fixed.is_some() || is_grpc()) {
            Self::Http2
        } else {
            Self::Either
        }
    }
}

/// The peer that pingora connects to. `roots`: what is trusted where the route has no CAs of its own; `None`: what
/// pingora loaded from the system.
pub fn peer(
    destination: &Destination,
    address: SocketAddr,
    entry: Option<&Arc<RouteEntry>>,
    roots: Option<&Arc<[WrappedX509]>>,
    speaks: Speaks,
) -> HttpPeer {
    let tls = destination.scheme == Scheme::Https;
    let server_name = entry.and_then(|entry| entry.route.server_name.as_ref()).unwrap_or(&destination.host);
    // Never empty: some TLS libraries take an empty name as "verify nothing".
    let mut peer = HttpPeer::new(address, tls, server_name.as_str().to_owned());
    let connect_timeout = entry.map_or(DEFAULT_CONNECT_TIMEOUT, |entry| entry.route.connect_timeout);
    if let Some(entry) = entry {
        peer.group_key = entry.group_key;
    }
    if speaks == Speaks::Http2 {
        // The pool's key has no version of HTTP.
        peer.group_key ^= HTTP2_ONLY;
    }
    let through = destination.through.as_ref().map(|proxy| {
        // pingora's own key has the address alone, and that is the proxy's for every target.
        peer.group_key = tunnel_key(peer.group_key, destination, proxy);
        Arc::new(Tunnel { proxy: Arc::clone(proxy), target: destination.name().to_string() })
    });
    if speaks == Speaks::Http1 {
        peer.group_key ^= UPGRADES;
        peer.options.custom_l4 = Some(Arc::new(upgrade::Dial { through }));
    } else if let Some(tunnel) = through {
        peer.options.custom_l4 = Some(tunnel);
    }
    peer.options.ca = entry.and_then(|entry| entry.trusted.as_ref()).or(roots).cloned();
    let options = &mut peer.options;
    options.alpn = match speaks {
        Speaks::Http2 => ALPN::H2,
        Speaks::Either if tls => ALPN::H2H1,
        Speaks::Either | Speaks::Http1 => ALPN::H1,
    };
    options.max_h2_streams = 100;
    options.connection_timeout = Some(connect_timeout);
    options.total_connection_timeout = Some(connect_timeout);
    // The first byte of an answer is waited for by `Due`: this one would also cut a silent stream.
    options.read_timeout = None;
    options.write_timeout = None;
    options.idle_timeout = Some(UPSTREAM_IDLE_TIMEOUT);
    peer
}

/// Any number, to be told from the key of the same route's other connections.
const HTTP2_ONLY: u64 = 0x6832_6f6e_6c79_0000;
/// Another: an upgrade never takes a connection that was there before.
const UPGRADES: u64 = 0x7570_6772_6164_6500;
/// Keeps tunnels apart by what is at their ends: the proxy and whom it knows us as, and the target.
fn tunnel_key(group_key: u64, destination: &Destination, proxy: &Proxy) -> u64 {
    let mut hasher = DefaultHasher::new();
    (group_key, proxy, destination.scheme, &destination.host, destination.port).hash(&mut hasher);
    hasher.finish()
}

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 3;
/// Where no route says it.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where no route says it.
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the idle timeouts of common servers (nginx 75 s, AWS ALB 60 s), so that we close first.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Upstream,
        route::pattern::{HostPattern, PathPrefix},
    };

    fn target(scheme: Scheme, port: u16, path: &str) -> Target {
        let host = Host::parse("api.example.com").unwrap();
        Target { scheme, host, port, path_and_query: path.into(), named_by: NamedBy::Url }
    }

    fn route(prefix: Option<&str>, upstream: Option<(Scheme, &str, u16, Option<&str>)>) -> Route {
        Route {
            host: HostPattern::parse("api.example.com").unwrap(),
            path_prefix: prefix.map(|p| PathPrefix::parse(p).unwrap()),
            methods: None,
            profile: None,
            upstream: upstream.map(|(scheme, host, port, path)| Upstream {
                scheme,
                host: Host::parse(host).unwrap(),
                port,
                path: path.map(str::to_owned),
            }),
            ca_file: None,
            server_name: None,
            egress_proxy: Arc::default(),
            connect_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            intercept: false,
            line: 0,
        }
    }

    fn url(target: &Target, route: Option<&Route>) -> String {
        let to = Destination::of(target, route, &Egress::direct());
        format!("{}://{}{}", to.scheme.as_str(), to.authority(), to.path_and_query)
    }

    #[test]
    fn a_matched_target_goes_out_as_tls_and_an_unmatched_one_as_it_is() {
        use Scheme::{Http, Https};
        for (target, route, expected) in [
            (target(Http, 80, "/x"), Some(route(None, None)), "https://api.example.com/x"),
            (target(Https, 443, "/x"), Some(route(None, None)), "https://api.example.com/x"),
            (target(Http, 8443, "/x"), Some(route(None, None)), "https://api.example.com:8443/x"),
            (target(Http, 80, "/x"), None, "http://api.example.com/x"),
            (target(Https, 443, "/x"), None, "https://api.example.com/x"),
            (target(Http, 80, "/x"), Some(route(None, Some((Http, "localhost", 81, None)))), "http://localhost:81/x"),
        ] {
            assert_eq!(url(&target, route.as_ref()), expected);
        }
    }

    #[test]
    fn a_redirected_request_without_a_route_goes_to_where_it_was_meant_to_and_no_other() {
        let original: SocketAddr = "192.0.2.9:8080".parse().unwrap();
        let mut to = target(Scheme::Http, 8080, "/x");
        to.named_by = NamedBy::Redirected(original);
        let bare = Destination::of(&to, None, &Egress::direct());
        assert_eq!((bare.scheme, bare.fixed), (Scheme::Http, Some(original)));
        let matched = Destination::of(&to, Some(&route(None, None)), &Egress::direct());
        assert_eq!((matched.scheme, matched.fixed, matched.names), (Scheme::Https, None, Names::System));
        assert_eq!(url(&to, Some(&route(None, None))), "https://api.example.com:8080/x");
    }

    #[test]
    fn where_a_redirected_connection_never_goes() {
        let own = ["127.0.0.1:15001".parse().unwrap()];
        for (address, expected) in [
            ("192.0.2.9:80", None),
            ("127.0.0.1:80", None),
            ("169.254.169.254:80", Some(Code::RouteDenied)),
            ("[::ffff:169.254.169.254]:80", Some(Code::RouteDenied)),
            ("127.0.0.1:15001", Some(Code::LoopDetected)),
        ] {
            let refused = vetted(address.parse().unwrap(), &own).err().map(|refusal| refusal.code);
            assert_eq!(refused, expected, "{address}");
        }
    }

    #[test]
    fn a_reverse_listeners_upstream_is_meant_as_it_is_written() {
        let mut to = target(Scheme::Http, 80, "/x");
        to.named_by = NamedBy::Operator;
        assert_eq!(url(&to, Some(&route(None, None))), "http://api.example.com/x");
        assert_eq!(url(&to, None), "http://api.example.com/x");
        let other = route(None, Some((Scheme::Https, "other.test", 443, None)));
        assert_eq!(url(&to, Some(&other)), "https://other.test/x");
    }

    #[test]
    fn the_path_of_an_upstream_takes_the_place_of_the_prefix() {
        let to = Some((Scheme::Http, "localhost", 8081, Some("/resource")));
        for (prefix, path, expected) in [
            (Some("/foo"), "/foo", "/resource"),
            (Some("/foo"), "/foo/1?x", "/resource/1?x"),
            (Some("/foo"), "/foo?x", "/resource?x"),
            (Some("/foo/"), "/foo/1", "/resource/1"),
            (Some("/foo"), "/a/../foo/%31", "/resource/1"),
            (None, "/foo?x", "/resource/foo?x"),
        ] {
            let destination =
                Destination::of(&target(Scheme::Http, 80, path), Some(&route(prefix, to)), &Egress::direct());
            assert_eq!(&*destination.path_and_query, expected, "{prefix:?} {path}");
        }
    }
    #[test]
    fn a_tunnel_is_shared_by_what_has_both_ends_in_common_and_by_nothing_else() {
        let through = |url: &str, host: &str, scheme: Scheme, port: u16| {
            let egress = Egress::all(Proxy::parse(url).unwrap(), Default::default());
            let target = Target { host: Host::parse(host).unwrap(), ..target(scheme, port, "/") };
            Destination::of(&target, None, &egress)
        };
        let address = "192.0.2.1:3128".parse().unwrap();
        let key = |destination: &Destination| {
            let peer = peer(destination, address, None, None, Speaks::Either);
            assert!(peer.options.custom_l4.is_some() && peer.group_key != 0);
            peer.group_key
        };
        let usual = key(&through("http://proxy:3128", "api.example.com", Scheme::Https, 443));
        assert_eq!(usual, key(&through("http://PROXY:3128/", "api.example.com", Scheme::Https, 443)));
        for (url, host, scheme, port) in [
            ("http://other:3128", "api.example.com", Scheme::Https, 443),
            ("http://proxy:3129", "api.example.com", Scheme::Https, 443),
            ("http://user:password@proxy:3128", "api.example.com", Scheme::Https, 443),
            ("http://proxy:3128", "other.example.com", Scheme::Https, 443),
            ("http://proxy:3128", "api.example.com", Scheme::Http, 443),
            ("http://proxy:3128", "api.example.com", Scheme::Https, 8443),
        ] {
            assert_ne!(key(&through(url, host, scheme, port)), usual, "{url} {host} {port}");
        }
    }
}
