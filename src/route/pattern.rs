//! One host, one host pattern, one path prefix: parsed once, compared without allocation.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// A normalised host: lower-case, without trailing dot, an IPv6 address without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    text: Arc<str>,
    /// The address, if it is one: asked for with each request, and parsed once.
    ip: Option<IpAddr>,
}

impl Host {
    /// Parses and normalises a host as it stands in a URL or a `Host` field, without port.
    ///
    /// # Errors
    /// Anything that is not a plain DNS name of A-labels, an IPv4 address in its usual form, or a bracketed IPv6 address.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        Ok(match checked(text)? {
            Checked::V6(address) => Self { text: address.to_string().into(), ip: Some(address.into()) },
            Checked::V4(text, address) => Self { text: text.into(), ip: Some(address.into()) },
            Checked::Name(name) if name.bytes().any(|b| b.is_ascii_uppercase()) => {
                Self { text: name.to_ascii_lowercase().into(), ip: None }
            }
            Checked::Name(name) => Self { text: name.into(), ip: None },
        })
    }

    /// The normalised text, an IPv6 address without brackets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, if the host is one.
    pub const fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// Whether it names this machine by a loopback address or a `localhost` name (RFC 6761 6.3).
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => &*self.text == "localhost" || self.text.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for Host {
    /// As in a URL: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.ip, Some(IpAddr::V6(_))) { write!(f, "[{}]", self.text) } else { f.write_str(&self.text) }
    }
}

/// `HOST:PORT`, for people: written where it is read, without a string in between.
#[derive(Clone, Copy, Debug)]
pub struct HostPort<'a>(pub &'a Host, pub u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl FromStr for Host {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// Why a text is not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No host at all.
    #[error("the host is empty")]
    Empty,
    /// Two dots in a row, or one in front.
    #[error("a label of the host is empty")]
    EmptyLabel,
    /// Over 63 bytes a label or 253 in all (RFC 1035 2.3.4).
    #[error("the host is longer than DNS allows")]
    TooLong,
    /// Not a letter, digit, hyphen or underscore: non-ASCII names have to be written as A-labels (xn--...).
    #[error("the host has a character that is not a letter, digit, '-', '_' or '.'")]
    Character,
    /// `[...]` that is not an IPv6 address.
    #[error("the brackets do not hold an IPv6 address")]
    Bracket,
    /// `0x7f.1`, `2130706433`, `0177.0.0.1`: read differently by different programs.
    #[error("the host is an IPv4 address in an unusual form")]
    OddAddress,
    /// Not 1 to 65535, or not digits alone.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// `user@` in front of the host.
    #[error("the authority has userinfo")]
    UserInfo,
    /// `*` somewhere else than as the whole first label, or alone.
    #[error("a wildcard is '*.' and at least one whole label")]
    Wildcard,
}

/// A host that is well-formed, as it was written.
enum Checked<'a> {
    Name(&'a str),
    V4(&'a str, Ipv4Addr),
    V6(Ipv6Addr),
}

fn checked(text: &str) -> Result<Checked<'_>, HostError> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(HostError::Bracket)?;
        return inner.parse().map(Checked::V6).map_err(|_| HostError::Bracket);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::TooLong);
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(HostError::EmptyLabel);
        }
        if label.len() > 63 {
            return Err(HostError::TooLong);
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(HostError::Character);
        }
    }
    // A last label of digits (or 0x...) is an IPv4 address in some resolvers' eyes: only the usual form may pass.
    let last = name.rsplit('.').next().unwrap_or(name);
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || (last.len() >= 2 && last.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x")));
    if numeric {
        return name.parse().map(|address| Checked::V4(name, address)).map_err(|_| HostError::OddAddress);
    }
    Ok(Checked::Name(name))
}

/// Splits `HOST[:PORT]` (an authority without userinfo), strictly.
///
/// # Errors
/// Userinfo, a bad host, a port that is not 1 to 65535 in plain digits. An empty port (`host:`) is none.
pub fn split_authority(text: &str) -> Result<(Host, Option<u16>), HostError> {
    let (host, port) = parts(text)?;
    Ok((Host::parse(host)?, port))
}

/// Whether [`split_authority`] would take it.
///
/// # Errors
/// As there.
pub fn check_authority(text: &str) -> Result<(), HostError> {
    checked(parts(text)?.0).map(drop)
}

fn parts(text: &str) -> Result<(&str, Option<u16>), HostError> {
    if text.contains('@') {
        return Err(HostError::UserInfo);
    }
    let (host, port) = match text.rfind(']') {
        Some(end) => {
            let (host, rest) = text.split_at_checked(end + 1).ok_or(HostError::Bracket)?;
            if rest.is_empty() { (host, None) } else { (host, Some(rest.strip_prefix(':').ok_or(HostError::Bracket)?)) }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => Some(parse_port(digits)?),
    };
    Ok((host, port))
}

/// A port in plain digits, 1 to 65535.
///
/// # Errors
/// Anything else: a sign, a space, a leading zero, zero.
fn parse_port(digits: &str) -> Result<u16, HostError> {
    let plain = !digits.starts_with('0') && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().map_err(|_| HostError::Port) } else { Err(HostError::Port) }
}

/// `api.example.com`, `*.example.com`, either with `:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// Whether `*.` stood in front: one label or more, never none.
    pub wildcard: bool,
    /// The host, or what follows `*.`.
    pub host: Host,
    /// The only port it matches; `None`: every port.
    pub port: Option<u16>,
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A bad host or port, or a `*` that is not the whole first label of at least two.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(HostError::Wildcard);
        }
        let (host, port) = split_authority(rest)?;
        if wildcard && host.ip().is_some() {
            return Err(HostError::Wildcard);
        }
        Ok(Self { wildcard, host, port })
    }

    /// Whether a request for this host and port is meant. Whole labels only.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host_matches = if self.wildcard {
            host.strip_suffix(self.host.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty())
        } else {
            host == self.host.as_str()
        };
        // An `http` URL without a port goes out to 443: a route for that port is meant.
        host_matches && self.port.is_none_or(|p| p == port || (p == 443 && port == 80))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        write!(f, "{}", self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// `path_prefix`: matches on a path-segment boundary. `/v1` means `/v1` and `/v1/...`; `/v1/` means `/v1/...` alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(Arc<str>);

impl PathPrefix {
    /// Parses a prefix: it begins with `/` and is already in normal form.
    ///
    /// # Errors
    /// Says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path prefix begins with '/': write \"/{text}\""));
        }
        if text.contains(['?', '#']) {
            return Err("a path prefix has no query and no fragment".to_owned());
        }
        match super::path::normalise(text).filter(|_| !super::path::has_hidden_separator(text)) {
            None => Err(
                "the path is ambiguous ('%2f', '%5c', '\\', '//' or '..' that climbs out): no request could match it"
                    .to_owned(),
            ),
            Some(normal) if normal != text => Err(format!("write the path in its normal form: \"{normal}\"")),
            Some(_) => Ok(Self(text.into())),
        }
    }

    /// The prefix as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a normalised path begins with this prefix at a segment boundary.
    pub fn matches(&self, normal_path: &str) -> bool {
        self.rest_of(normal_path).is_some()
    }

    /// What follows the prefix in a normalised path, if the prefix matches.
    pub fn rest_of<'a>(&self, normal_path: &'a str) -> Option<&'a str> {
        let rest = normal_path.strip_prefix(&*self.0)?;
        (self.0.ends_with('/') || rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
