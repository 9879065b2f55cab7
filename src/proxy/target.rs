//! What a request is for: decided once, from one source of truth, before anything else is (RFC 9112 3.2, 3.3).

use std::{net::SocketAddr, sync::Arc};

use http::Method;

use super::refusal::{Code, Refusal};
use crate::{
    config::{self, ListenerMode, Scheme, Upstream},
    route::{
        path,
        pattern::{Host, HostPattern, HostPort, split_authority},
    },
};

/// The (scheme, host, port) that a request is for, and its path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the client named it; a matched `http` target goes out as TLS all the same.
    pub scheme: Scheme,
    /// Normalised.
    pub host: Host,
    /// The port that routes are matched by, and that is connected to unless the route says otherwise.
    pub port: u16,
    /// Path and query as they came, beginning with `/` (or `*`).
    pub path_and_query: Arc<str>,
    /// Who named it.
    pub named_by: NamedBy,
}

/// Who named a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The client, by an absolute URL: it knows that it talks to a proxy.
    Url,
    /// The client, by `Host` alone: it believes to talk to that host, so only a route may take it.
    Host,
    /// The client, by `Host`, on a connection that was redirected here on its way to this address.
    Redirected(SocketAddr),
    /// The operator, as the `upstream` of a reverse listener: scheme and port are meant as they are written.
    Operator,
}

impl Target {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split_once('?').map_or(&*self.path_and_query, |(path, _)| path)
    }

    /// The refusal where the path could leave the one that it is put under.
    pub fn no_normal_form(&self) -> Refusal {
        no_normal_form()
    }

    /// The refusal where the path can be read in two ways that take different routes.
    pub fn ambiguous(&self) -> Refusal {
        let detail = "the path hides a separator ('%2f', '%5c', '\\' or '//'), and read with and without it takes different routes";
        bad(detail, "send the path without it, or give both readings the same route (a shorter path_prefix)")
    }

    /// The refusal where this parameter is to be written and there is no query: RFC 9112 3.2.4 has `*` stand alone.
    pub fn no_query(&self, parameter: &str) -> Option<Refusal> {
        let detail = || format!("a request for * has no query, and so no place for the parameter {parameter}");
        let hint = "send it for a path, or let another profile serve it: OPTIONS in `methods` of a route";
        (&*self.path_and_query == "*").then(|| bad(detail(), hint))
    }

    /// `host:port` for logs.
    pub const fn authority(&self) -> HostPort<'_> {
        HostPort(&self.host, self.port)
    }
}

/// What the way in contributes to the decision.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What the connection is for.
    pub role: Arc<Role>,
    /// The address that it arrived at, if it is TCP.
    pub local: Option<SocketAddr>,
    /// The address that it was meant to go to, if it was redirected here.
    pub original: Option<SocketAddr>,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// A proxy setting points at the listener.
    Forward,
    /// A base URL points at the listener.
    Reverse {
        /// Where all that arrives goes.
        upstream: Upstream,
        /// Further hosts that `Host` may name.
        allowed_hosts: Vec<HostPattern>,
    },
    /// It was redirected here on its way to another address.
    Transparent,
    /// It is the inside of a CONNECT or of redirected TLS that is intercepted: every request in it is for the host that
    /// CONNECT or SNI named.
    Tunnel {
        /// Whether the client speaks TLS in it.
        scheme: Scheme,
        /// The host that CONNECT or SNI named.
        host: Host,
        /// And the port.
        port: u16,
    },
}

impl From<&config::Listener> for Role {
    fn from(listener: &config::Listener) -> Self {
        match &listener.mode {
            ListenerMode::Forward => Self::Forward,
            ListenerMode::Transparent => Self::Transparent,
            ListenerMode::Reverse(upstream) => {
                Self::Reverse { upstream: upstream.clone(), allowed_hosts: listener.allowed_hosts.clone() }
            }
        }
    }
}

/// What the request says about its target.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request-target as it stands in the request line.
    pub request_target: &'a [u8],
    /// The one `Host` field, if there is one. Two were refused before.
    pub host: Option<&'a [u8]>,
}

/// Decides what a request is for.
///
/// # Errors
/// 405 for TRACE; 400 where the target cannot be told; 421 where a reverse listener is not meant.
pub fn decide(listening: &Listening, named: Named<'_>) -> Result<Target, Refusal> {
    let method = named.method.as_str();
    if method.eq_ignore_ascii_case("TRACE") || method.eq_ignore_ascii_case("TRACK") {
        let hint = "TRACE would show the injected credential to the caller: use another method";
        return Err(Refusal::new(Code::MethodNotAllowed, "TRACE is not forwarded", hint));
    }
    let request_target = std::str::from_utf8(named.request_target)
        .map_err(|_| bad("the request target is not ASCII", "percent-encode it"))?;
    let form = Form::parse(request_target, named.method)?;
    match &*listening.role {
        Role::Forward => forward(listening.local, form, named.host),
        Role::Transparent => transparent(listening.original.ok_or_else(not_redirected)?, form, named.host),
        Role::Reverse { upstream, allowed_hosts } => {
            reverse(listening.local, upstream, allowed_hosts, form, named.host)
        }
        Role::Tunnel { scheme, host, port } => tunnel(*scheme, host, *port, form, named.host),
    }
}

/// The forms of RFC 9112 3.2 that a request can have (CONNECT's never gets here).
enum Form {
    Absolute { scheme: Scheme, host: Host, port: Option<u16>, path_and_query: Arc<str> },
    Origin { path_and_query: Arc<str> },
}

impl Form {
    fn parse(text: &str, method: &Method) -> Result<Self, Refusal> {
        if text.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            return Err(bad("the request target has a space, a control byte or is not ASCII", "percent-encode it"));
        }
        if text.contains('#') {
            return Err(bad("the request target has a fragment", "leave the part from '#' out"));
        }
        if text.starts_with('/') || (text == "*" && *method == Method::OPTIONS) {
            return Ok(Self::Origin { path_and_query: text.into() });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("the request target is neither a path nor a URL", "send '/path' or 'http://host/path'"));
        };
        let scheme = if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else {
            return Err(bad(format!("the scheme of the URL is {scheme:?}"), "only http and https are proxied"));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (host, port) = authority_of(authority)?;
        let path_and_query = match path_and_query {
            "" if *method == Method::OPTIONS => "*".into(), // RFC 9112 3.2.4
            path if path.starts_with('/') => path.into(),
            query => format!("/{query}").into(),
        };
        Ok(Self::Absolute { scheme, host, port, path_and_query })
    }
}

fn forward(local: Option<SocketAddr>, form: Form, host_field: Option<&[u8]>) -> Result<Target, Refusal> {
    match form {
        // RFC 9112 3.2.2: the Host field is ignored, and replaced on the way out.
        Form::Absolute { scheme, host, port, path_and_query } => Ok(Target {
            scheme,
            host,
            port: port.unwrap_or_else(|| scheme.default_port()),
            path_and_query,
            named_by: NamedBy::Url,
        }),
        Form::Origin { path_and_query } => {
            let (host, port) = host_of(host_field)?;
            // A hosts-file entry brings the client to our port: it does not say what port the real service has.
            let port = port.filter(|port| local.is_none_or(|local| local.port() != *port));
            let port = port.unwrap_or(Scheme::Http.default_port());
            Ok(Target { scheme: Scheme::Http, host, port, path_and_query, named_by: NamedBy::Host })
        }
    }
}

/// The client believes to talk to the host itself. The port is the one that it really connected to: what Host says of it
/// decides nothing.
fn transparent(original: SocketAddr, form: Form, host_field: Option<&[u8]>) -> Result<Target, Refusal> {
    let (host, path_and_query) = match form {
        Form::Absolute { host, path_and_query, .. } => (host, path_and_query),
        Form::Origin { path_and_query } => (host_of(host_field)?.0, path_and_query),
    };
    let named_by = NamedBy::Redirected(original);
    Ok(Target { scheme: Scheme::Http, host, port: original.port(), path_and_query, named_by })
}

/// The refusal of a connection that came straight to a transparent listener: there is nowhere to lead it.
pub fn not_redirected() -> Refusal {
    let detail = "the connection was not redirected: it came straight to a transparent listener";
    let hint = "point clients and probes elsewhere: at a forward or reverse listener, or at /readyz of [admin]";
    Refusal::new(Code::LoopDetected, detail, hint)
}

fn reverse(
    local: Option<SocketAddr>,
    upstream: &Upstream,
    allowed_hosts: &[HostPattern],
    form: Form,
    host_field: Option<&[u8]>,
) -> Result<Target, Refusal> {
    let (host, port, path_and_query) = match form {
        Form::Absolute { host, port, path_and_query, scheme } => {
            (host, port.unwrap_or_else(|| scheme.default_port()), path_and_query)
        }
        Form::Origin { path_and_query } => {
            let (host, port) = host_of(host_field)?;
            (host, port.unwrap_or(Scheme::Http.default_port()), path_and_query)
        }
    };
    let is_local_address = local.is_some_and(|local| host.ip().is_some_and(|ip| ip == local.ip()));
    let meant = host.is_loopback()
        || is_local_address
        || host == upstream.host
        || allowed_hosts.iter().any(|pattern| pattern.matches(host.as_str(), port));
    if !meant {
        return Err(Refusal::new(
            Code::Misdirected,
            format!("Host {host} does not mean this listener, which stands for {}", upstream.host),
            "if clients may call it so, add the name to allowed_hosts of the listener",
        ));
    }
    let path_and_query = match &upstream.path {
        Some(base) if &*path_and_query != "*" => under(base, &path_and_query).ok_or_else(no_normal_form)?.into(),
        _ => path_and_query,
    };
    Ok(Target {
        scheme: upstream.scheme,
        host: upstream.host.clone(),
        port: upstream.port,
        path_and_query,
        named_by: NamedBy::Operator,
    })
}

fn tunnel(scheme: Scheme, host: &Host, port: u16, form: Form, host_field: Option<&[u8]>) -> Result<Target, Refusal> {
    let (named, named_port, path_and_query) = match form {
        Form::Absolute { host, port, path_and_query, .. } => (host, port, path_and_query),
        Form::Origin { path_and_query } => {
            let (host, port) = host_of(host_field)?;
            (host, port, path_and_query)
        }
    };
    if named != *host || named_port.is_some_and(|named| named != port) {
        let named = named_port.map_or_else(|| named.to_string(), |port| format!("{named}:{port}"));
        return Err(Refusal::new(
            Code::Misdirected,
            format!("the request names {named}, and its connection is for {host}:{port}"),
            "open a connection (or send a CONNECT) of its own for each host",
        ));
    }
    Ok(Target { scheme, host: host.clone(), port, path_and_query, named_by: NamedBy::Url })
}

/// A request's path and query under a base, which its dots cannot leave; `None` where it has no normal form.
pub fn under(base: &str, path_and_query: &str) -> Option<String> {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let joined = join(base, &path::normalise(path)?);
    Some(query.map_or_else(|| joined.clone(), |query| format!("{joined}?{query}")))
}

fn no_normal_form() -> Refusal {
    bad("the path has no normal form (a NUL, a broken escape, or '..' that climbs out)", "send the path without it")
}

/// The path under another one, with exactly one `/` where they meet. `rest` may begin with `?` or be empty.
pub fn join(base: &str, rest: &str) -> String {
    let (stem, tail) = (base.strip_suffix('/').unwrap_or(base), rest.strip_prefix('/').unwrap_or(rest));
    let meets = tail.is_empty() && rest.is_empty() || tail.starts_with('?') && tail.len() == rest.len();
    if meets { format!("{base}{rest}") } else { format!("{stem}/{tail}") }
}

fn host_of(field: Option<&[u8]>) -> Result<(Host, Option<u16>), Refusal> {
    let field = field.ok_or_else(|| bad("the request has no Host", "send the Host header field"))?;
    let text = std::str::from_utf8(field).map_err(|_| bad("Host is not ASCII", "send its A-label (xn--...)"))?;
    authority_of(text.trim_matches([' ', '\t']))
}

fn authority_of(text: &str) -> Result<(Host, Option<u16>), Refusal> {
    split_authority(text).map_err(|e| bad(format!("the target cannot be told: {e}"), "send HOST or HOST:PORT"))
}

fn bad(detail: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Code::BadRequest, detail, hint)
}

#[cfg(test)]
mod tests;
