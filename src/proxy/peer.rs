//! Where a request really goes: the vetted address, the TLS settings, and a pool key that keeps profiles apart.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Version, header};
use pingora::{http::RequestHeader, protocols::ALPN, upstreams::peer::HttpPeer, utils::tls::WrappedX509};

use super::{
    refusal::{Code, Refusal},
    target::{NamedBy, Target, join, under},
};
use crate::{
    config::{Route, Scheme},
    dns::{DnsError, Names, Resolver, forbidden},
    route::{path, pattern::Host},
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
    pub path_and_query: String,
    /// Whether an operator wrote the host as an address into `upstream`: such a one is not vetted.
    pub named_literally: bool,
    /// Where its name is looked up.
    pub names: Names,
    /// The address that a redirected connection was meant to go to: no name is looked up, and `Host` stays as it came.
    pub fixed: Option<SocketAddr>,
}

impl Destination {
    /// Decides it from the target and the route.
    pub fn of(target: &Target, route: Option<&Route>) -> Self {
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
        let path_and_query =
            route.and_then(|route| mapped_path(target, route)).unwrap_or_else(|| target.path_and_query.clone());
        // A client that names its target by Host alone was led here by a hosts file, which leads us here too.
        let by_hosts_file = target.named_by == NamedBy::Host && route.is_none_or(|route| route.upstream.is_none());
        let names = if by_hosts_file { Names::PastHosts } else { Names::System };
        // A Host that lies leads nobody to another address, and nothing of ours goes with it.
        let fixed = match (route, target.named_by) {
            (None, NamedBy::Redirected(original)) => Some(original),
            _ => None,
        };
        Self { scheme, host, port, path_and_query, named_literally, names, fixed }
    }

    /// `host:port`, for people.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
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
    let whole = &target.path_and_query;
    if whole == "*" {
        return None;
    }
    let (path, query) = match whole.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (whole.as_str(), String::new()),
    };
    let Some(prefix) = &route.path_prefix else { return under(base, whole) };
    // A route with a prefix matched, so the path has a normal form, and the prefix is the beginning of it.
    let normal = path::normalise(path)?;
    let rest = prefix.rest_of(&normal)?;
    Some(join(base, &format!("{rest}{query}")))
}

/// Resolves and vets the addresses of a destination, the first to try last.
///
/// # Errors
/// No address; only forbidden ones; our own.
pub async fn addresses(
    destination: &Destination,
    resolver: &Resolver,
    own: &[SocketAddr],
    limit: Duration,
) -> Result<Vec<SocketAddr>, Refusal> {
    if let Some(fixed) = destination.fixed {
        return vetted(fixed, own).map(|()| vec![fixed]);
    }
    let host = &destination.host;
    let looked_up = async {
        let names = destination.names;
        if destination.named_literally {
            resolver.lookup(host, names).await
        } else {
            resolver.resolve(host, names).await
        }
    };
    let found = tokio::time::timeout(limit, looked_up).await.map_err(|_| {
        let detail = format!("{host} did not resolve within connect_timeout ({limit:?})");
        Refusal::new(
            Code::UpstreamTimeout,
            detail,
            "look at the name servers of this machine, or raise connect_timeout",
        )
    })?;
    let ips = found.map_err(|error| match error {
        DnsError::Unresolved { .. } => {
            Refusal::new(Code::UpstreamUnresolved, error.to_string(), "check the name, and this machine's name servers")
        }
        DnsError::Forbidden { .. } => Refusal::new(Code::RouteDenied, error.to_string(), MEANT),
    })?;
    let mut addresses: Vec<SocketAddr> =
        ips.into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, destination.port)).collect();
    if let Some(mine) = addresses.iter().find(|address| is_own(**address, own)) {
        let detail = format!("{host}:{} is lanyard itself ({mine})", destination.port);
        let hint = "set `upstream` of the route to where the service really listens";
        return Err(Refusal::new(Code::LoopDetected, detail, hint));
    }
    addresses.reverse();
    Ok(addresses)
}

/// Vets the address that a redirected connection was meant to go to.
///
/// # Errors
/// It is never dialled, or our own.
pub fn vetted(original: SocketAddr, own: &[SocketAddr]) -> Result<(), Refusal> {
    if let Some(kind) = forbidden(original.ip()) {
        let detail = format!("{original} is a {kind} address: lanyard does not connect there");
        return Err(Refusal::new(Code::RouteDenied, detail, "if it is meant, leave it out of the redirect"));
    }
    if is_own(original, own) {
        let detail = format!("a connection to lanyard itself ({original}) was redirected");
        return Err(Refusal::new(
            Code::LoopDetected,
            detail,
            "leave loopback and lanyard's own ports out of the redirect",
        ));
    }
    Ok(())
}

/// Whether an address leads back to one of our own sockets.
fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|mine| {
        let my_ip = mine.ip().to_canonical();
        mine.port() == address.port() && (my_ip == ip || (ip.is_loopback() && my_ip.is_unspecified()))
    })
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
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if is_upgrade {
            Self::Http1
        } else if head.version == Version::HTTP_2 && (is_grpc || destination.fixed.is_some()) {
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
/// What to do about an address that is never dialled.
const MEANT: &str = "if it is meant, write the address itself into the `upstream` of a route";
/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 3;
/// Where no route says it.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where no route says it.
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the idle timeouts of common servers (nginx 75 s, AWS ALB 60 s), so that we close first.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Upstream,
        route::pattern::{HostPattern, PathPrefix},
    };

    fn target(scheme: Scheme, port: u16, path: &str) -> Target {
        let host = Host::parse("api.example.com").unwrap();
        Target { scheme, host, port, path_and_query: path.to_owned(), named_by: NamedBy::Url }
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
            connect_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            intercept: false,
            line: 0,
        }
    }

    fn url(target: &Target, route: Option<&Route>) -> String {
        let to = Destination::of(target, route);
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
        let bare = Destination::of(&to, None);
        assert_eq!((bare.scheme, bare.fixed), (Scheme::Http, Some(original)));
        let matched = Destination::of(&to, Some(&route(None, None)));
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
            let destination = Destination::of(&target(Scheme::Http, 80, path), Some(&route(prefix, to)));
            assert_eq!(destination.path_and_query, expected, "{prefix:?} {path}");
        }
    }

    #[test]
    fn our_own_sockets_are_known_by_every_name() {
        let own: Vec<SocketAddr> = ["127.0.0.1:8080", "0.0.0.0:8081", "[::1]:8082"].map(|a| a.parse().unwrap()).into();
        for (address, expected) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.2:8080", false),
            ("10.0.0.1:8080", false),
            ("127.0.0.9:8081", true),
            ("[::1]:8081", true),
            ("[::1]:8082", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8083", false),
        ] {
            assert_eq!(is_own(address.parse().unwrap(), &own), expected, "{address}");
        }
    }
}
