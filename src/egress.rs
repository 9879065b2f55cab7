//! Through which HTTP proxy, if any, lanyard dials: the one place that decides it, for upstreams, for blind tunnels and
//! for token endpoints.
//!
//! `no_proxy` says which hosts need none, `environment` reads the variables that name one, `connect` opens the tunnel.
//! Everything goes through a tunnel (CONNECT), clear text too: the proxy never sees a request of ours, and its
//! credentials never go past it.

pub mod connect;
pub mod environment;
pub mod no_proxy;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use url::Url;

use self::no_proxy::NoProxy;
use crate::{
    config::Scheme,
    route::pattern::Host,
    secret::{Secret, SecretError, SecretSource},
};

/// Which proxy is for which target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// For targets of `http://`.
    pub http: Option<Arc<Proxy>>,
    /// For targets of `https://`, and for blind tunnels.
    pub https: Option<Arc<Proxy>>,
    /// The targets that need none.
    pub no_proxy: NoProxy,
}

impl Egress {
    /// No proxy at all.
    pub fn direct() -> Self {
        Self::default()
    }

    /// This one for all but `no_proxy`.
    pub fn all(proxy: Proxy, no_proxy: NoProxy) -> Self {
        let proxy = Arc::new(proxy);
        Self { http: Some(Arc::clone(&proxy)), https: Some(proxy), no_proxy }
    }

    /// The proxy on the way to a host (an IPv6 address without brackets); `None`: lanyard goes there directly.
    pub fn through(&self, scheme: Scheme, host: &str) -> Option<&Arc<Proxy>> {
        let proxy = match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        proxy.as_ref().filter(|_| !self.no_proxy.covers(host))
    }

    /// Whether there is a proxy for anything.
    pub const fn is_direct(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }
}

/// An HTTP proxy that lanyard dials through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: Host,
    /// Its port: 80 where its URL names none, as in any URL of `http://`.
    pub port: u16,
    /// What it wants to be told.
    pub login: Option<Login>,
}

/// Credentials for a proxy (RFC 7617). No `Debug`: even the name may be a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// `username`: without a colon.
    pub username: String,
    /// `password`, read at each use.
    pub password: SecretSource,
}

impl Proxy {
    /// Parses `http://[USERNAME:PASSWORD@]HOST[:PORT]`.
    ///
    /// # Errors
    /// Another scheme, no host, or more than that. The reason holds nothing of the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "a proxy that is no URL")?;
        if url.scheme() != "http" {
            return Err("a proxy that is not http://");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("a proxy with a path, a query or a fragment");
        }
        let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or("a proxy without a good host")?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("a proxy with port 0")?;
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (name, Some(password)) => {
                let part = |text: &str| decoded(text).ok_or("userinfo that is not percent-encoded UTF-8");
                let (username, password) = (part(name)?, part(password)?);
                if !is_username(&username) || password.is_empty() || password.chars().any(char::is_control) {
                    return Err("userinfo that is not USERNAME:PASSWORD");
                }
                Some(Login { username, password: SecretSource::Literal(Secret::new(password)) })
            }
            (_, None) => return Err("userinfo without a password"),
        };
        Ok(Self { host, port, login })
    }

    /// `http://HOST:PORT`, for people.
    pub fn name(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// What `Proxy-Authorization` says, marked sensitive; the password is read now.
    ///
    /// # Errors
    /// The password cannot be had.
    pub async fn authorization(&self) -> Result<Option<HeaderValue>, SecretError> {
        let Some(Login { username, password }) = &self.login else { return Ok(None) };
        let password = password.read().await?;
        let plain = Secret::new(format!("{username}:{}", password.expose()));
        let text = Secret::new(format!("Basic {}", BASE64_STANDARD.encode(plain.expose())));
        let mut value = HeaderValue::from_str(text.expose())
            .map_err(|_| SecretError { place: "egress proxy".to_owned(), problem: "no header value".to_owned() })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The file that its password is read from, if it is one.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.login.as_ref().and_then(|login| login.password.file())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("name", &self.name()).field("login", &self.login.is_some()).finish()
    }
}

impl Hash for Proxy {
    /// As whom we come counts, and by what password does not: a rotated one leaves connections as good as they were.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        self.port.hash(state);
        self.login.as_ref().map(|login| &login.username).hash(state);
    }
}

/// Whether HTTP Basic can carry it as a name.
pub fn is_username(text: &str) -> bool {
    !text.is_empty() && !text.contains(':') && !text.chars().any(char::is_control)
}

/// Percent-decoded; `None` where that is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
