//! From the form of the file to [`Config`](super::Config), collecting every problem. All looking at the machine goes
//! through [`Environment`](super::Environment).

mod profile;
mod route;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use url::Url;

use super::{
    Admin, CaBundle, Config, ConnectPolicy, Environment, Forward, Limits, ListenAddress, Listener, ListenerMode, Log,
    LogFormat, Scheme, Unmatched, Upstream,
    file::{AdminTable, File, ForwardTable, LimitsTable, ListenerTable, LogTable},
    read::{At, Reader, nearest},
};
use crate::route::{
    path,
    pattern::{Host, HostPattern, split_authority},
};

/// Checks a whole file; `None` where a problem leaves nothing to build.
pub(super) fn config(
    reader: &mut Reader<'_>,
    file: File,
    folder: &Path,
    environment: &dyn Environment,
) -> Option<Config> {
    let mut check = Check { reader, folder, environment };
    let unmatched_written = file.forward.unmatched.is_some();
    let admin = check.admin(file.admin);
    let forward = check.forward(file.forward);
    let listeners = check.listeners(file.listeners, &admin, unmatched_written);
    let profiles = check.profiles(file.profiles);
    let routes = check.routes(file.routes, &profiles, &listeners);
    let limits = check.limits(&file.limits);
    let log = check.log(file.log);
    if check.reader.has_errors() {
        return None;
    }
    let profiles =
        profiles.into_iter().filter_map(|(name, p)| Some((Arc::from(name.as_str()), Arc::new(p?)))).collect();
    Some(Config { listeners, admin, forward, profiles, routes, limits, log })
}

/// What every rule looks at and reports to.
struct Check<'a, 'r> {
    reader: &'a mut Reader<'r>,
    folder: &'a Path,
    environment: &'a dyn Environment,
}

impl Check<'_, '_> {
    fn admin(&mut self, table: AdminTable) -> Admin {
        let default = SocketAddr::from(([127, 0, 0, 1], 9090));
        let Some(at) = table.address else { return Admin { address: default } };
        let address = match tcp_address(&at.value) {
            Ok(address) => address,
            Err(hint) => {
                self.reader.error(&at, format!("{:?} is no address", at.value), hint);
                return Admin { address: default };
            }
        };
        if !address.ip().is_loopback() {
            let hint = "let only those reach it who may reload and stop lanyard: a firewall or a NetworkPolicy";
            self.reader.warning(&at, "the admin listener can be reached from other machines", hint);
        }
        Admin { address }
    }

    fn forward(&mut self, table: ForwardTable) -> Forward {
        Forward {
            unmatched: self
                .choice(table.unmatched, &[("pass", Unmatched::Pass), ("deny", Unmatched::Deny)])
                .unwrap_or(Unmatched::Pass),
            connect: self
                .choice(table.connect, &[("tunnel", ConnectPolicy::Tunnel), ("deny", ConnectPolicy::Deny)])
                .unwrap_or(ConnectPolicy::Tunnel),
        }
    }

    fn listeners(&mut self, tables: Vec<At<ListenerTable>>, admin: &Admin, unmatched_written: bool) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        if tables.is_empty() {
            let address = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
            let mode = ListenerMode::Forward;
            listeners.push(Listener { address, mode, allowed_hosts: Vec::new(), allow_browsers: false });
        }
        for table in tables {
            let place = At { value: (), key: table.key.clone(), line: table.line };
            let table = table.value;
            let Some(at) = table.address else {
                self.reader.error(&place, "a listener without `address`", "write address = \"127.0.0.1:8080\"");
                continue;
            };
            let Some(address) = self.listen_address(&at) else { continue };
            let taken =
                |other: &ListenAddress| *other == address && !matches!(address, ListenAddress::Tcp(a) if a.port() == 0);
            if listeners.iter().any(|other| taken(&other.address)) || taken(&ListenAddress::Tcp(admin.address)) {
                let hint = "give each listener, and [admin], an address of its own";
                self.reader.error(&at, format!("{address} is listened on twice"), hint);
            }
            let upstream = table.upstream.as_ref().map(|at| self.upstream(at));
            let mode = match upstream {
                Some(Some(upstream)) => ListenerMode::Reverse(upstream),
                Some(None) => continue,
                None => ListenerMode::Forward,
            };
            let public = matches!(&address, ListenAddress::Tcp(tcp) if !tcp.ip().is_loopback());
            if mode == ListenerMode::Forward && public && !unmatched_written {
                self.reader.error(
                    &at,
                    "a forward listener that other machines can reach does not say what it does with other hosts",
                    "write [forward] unmatched = \"deny\" (only what has a route), or \"pass\" (an open proxy)",
                );
            }
            let mut allowed_hosts = Vec::new();
            if let Some(hosts) = table.allowed_hosts {
                if mode == ListenerMode::Forward {
                    self.reader.error(
                        &hosts,
                        "`allowed_hosts` on a forward listener",
                        "it is for reverse listeners: remove it",
                    );
                }
                for host in &hosts.value {
                    match HostPattern::parse(host) {
                        Ok(pattern) => allowed_hosts.push(pattern),
                        Err(e) => self.reader.error(
                            &hosts,
                            format!("{host:?}: {e}"),
                            "write \"name\", \"name:port\" or \"*.name\"",
                        ),
                    }
                }
            }
            let allow_browsers = table.allow_browsers.is_some_and(|at| at.value);
            listeners.push(Listener { address, mode, allowed_hosts, allow_browsers });
        }
        listeners
    }

    fn listen_address(&mut self, at: &At<String>) -> Option<ListenAddress> {
        if let Some(path) = at.value.strip_prefix("unix:") {
            if path.is_empty() {
                self.reader.error(at, "a Unix socket without a path", "write \"unix:/run/lanyard/lanyard.sock\"");
                return None;
            }
            return Some(ListenAddress::Unix(self.folder.join(path)));
        }
        match tcp_address(&at.value) {
            Ok(address) => Some(ListenAddress::Tcp(address)),
            Err(hint) => {
                self.reader.error(at, format!("{:?} is no address", at.value), hint);
                None
            }
        }
    }

    fn limits(&mut self, table: &LimitsTable) -> Limits {
        Limits {
            max_connections: self.number(table.max_connections.as_ref(), 10_000, 1_000_000),
            header_timeout: self.positive(table.header_timeout.as_ref(), Duration::from_secs(10)),
            max_header_size: {
                let size = table.max_header_size.as_ref().map(|at| At {
                    value: at.value.0,
                    key: at.key.clone(),
                    line: at.line,
                });
                // The parser behind takes no more.
                self.number(size.as_ref(), 64 * 1024, 1024 * 1024 - 1)
            },
            max_headers: self.number(table.max_headers.as_ref(), 100, 256),
            idle_timeout: self.positive(table.idle_timeout.as_ref(), Duration::from_secs(60)),
            body_timeout: self.positive(table.body_timeout.as_ref(), Duration::from_secs(30)),
            drain_timeout: table.drain_timeout.as_ref().map_or(Duration::from_secs(25), |at| at.value),
        }
    }

    fn log(&mut self, table: LogTable) -> Log {
        use tracing::Level;
        let levels = [
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ];
        Log {
            format: self.choice(table.format, &[("json", LogFormat::Json), ("text", LogFormat::Text)]),
            level: self.choice(table.level, &levels).unwrap_or(Level::INFO),
            access: table.access.is_none_or(|at| at.value),
        }
    }

    /// One word of several; what it means.
    fn choice<T: Copy>(&mut self, at: Option<At<String>>, choices: &[(&'static str, T)]) -> Option<T> {
        let at = at?;
        if let Some((_, meaning)) = choices.iter().find(|(word, _)| *word == at.value) {
            return Some(*meaning);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let hint = match nearest(&at.value, &words) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of: \"{}\"", words.join("\", \"")),
        };
        self.reader.error(&at, format!("{:?}", at.value), hint);
        None
    }

    /// A number from 1 to `most`.
    fn number(&mut self, at: Option<&At<usize>>, default: usize, most: usize) -> usize {
        let Some(at) = at else { return default };
        if (1..=most).contains(&at.value) {
            return at.value;
        }
        self.reader.error(at, at.value.to_string(), format!("write 1 to {most}"));
        default
    }

    /// A duration that is not zero.
    fn positive(&mut self, at: Option<&At<Duration>>, default: Duration) -> Duration {
        let Some(at) = at else { return default };
        if at.value.is_zero() {
            self.reader.error(at, "no time at all", format!("leave it out for {default:?}, or write a longer one"));
        }
        at.value
    }

    /// `https://HOST[:PORT][/PATH]`.
    fn upstream(&mut self, at: &At<String>) -> Option<Upstream> {
        let hint = "write https://HOST[:PORT][/PATH], or http:// where clear text is meant";
        let parts = at.value.split_once("://").and_then(|(scheme, rest)| match scheme {
            "http" => Some((Scheme::Http, rest)),
            "https" => Some((Scheme::Https, rest)),
            _ => None,
        });
        let Some((scheme, rest)) = parts else {
            self.reader.error(at, format!("{:?} is no http or https URL", at.value), hint);
            return None;
        };
        if rest.contains(['?', '#']) {
            self.reader.error(at, "an upstream with a query or a fragment", hint);
            return None;
        }
        let (authority, path) = rest.find('/').and_then(|slash| rest.split_at_checked(slash)).unwrap_or((rest, ""));
        let (host, port) = match split_authority(authority) {
            Ok(split) => split,
            Err(e) => {
                // The authority may hold a password: it is not shown.
                self.reader.error(at, format!("the upstream cannot be told: {e}"), hint);
                return None;
            }
        };
        let path = match (path, path::normalise(path)) {
            ("" | "/", _) => None,
            (path, Some(normal)) if normal == path => Some(path.to_owned()),
            (path, _) => {
                self.reader.error(
                    at,
                    format!("the path {path:?} is not in its normal form"),
                    "write it without dots and needless escapes",
                );
                return None;
            }
        };
        Some(Upstream { scheme, host, port: port.unwrap_or_else(|| scheme.default_port()), path })
    }

    /// Reads a file of PEM certificates.
    fn ca_bundle(&mut self, at: &At<String>) -> Option<CaBundle> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let path = self.folder.join(&at.value);
        let pem = match self.environment.read(&path) {
            Ok(pem) => pem,
            Err(e) => {
                self.reader.error(
                    at,
                    format!("{} cannot be read: {e}", path.display()),
                    "name a PEM file that lanyard may read",
                );
                return None;
            }
        };
        let parsed: Result<Vec<Vec<u8>>, _> =
            CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec())).collect();
        let hint = "it has to hold certificates: -----BEGIN CERTIFICATE-----";
        let certificates = match parsed {
            Ok(certificates) if !certificates.is_empty() => certificates,
            Ok(_) => {
                self.reader.error(at, format!("{} holds no certificate", path.display()), hint);
                return None;
            }
            Err(e) => {
                self.reader.error(at, format!("{} is no good PEM: {e}", path.display()), hint);
                return None;
            }
        };
        let mut roots = rustls::RootCertStore::empty();
        for (number, der) in certificates.iter().enumerate() {
            if let Err(e) = roots.add(CertificateDer::from(der.as_slice())) {
                let which = number + 1;
                self.reader.error(at, format!("certificate {which} of {} is not usable: {e}", path.display()), hint);
                return None;
            }
        }
        Some(CaBundle { path, certificates: certificates.into() })
    }

    /// An http or https URL with a host and without userinfo or fragment. The text is not shown: it may hold a secret.
    fn url(&mut self, at: &At<String>, example: &str) -> Option<Url> {
        let hint = format!("write it like {example}");
        let url = match Url::parse(&at.value) {
            Ok(url) => url,
            Err(e) => {
                self.reader.error(at, format!("no URL: {e}"), hint);
                return None;
            }
        };
        let problem = if !matches!(url.scheme(), "http" | "https") {
            "a URL that is neither http nor https"
        } else if url.host_str().is_none_or(str::is_empty) {
            "a URL without a host"
        } else if url.fragment().is_some() {
            "a URL with a fragment"
        } else {
            return Some(url);
        };
        self.reader.error(at, problem, hint);
        None
    }
}

/// `IP:PORT` or `localhost:PORT`; otherwise what to write.
fn tcp_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = |text: &str| text.parse::<u16>().ok();
    if let Some(port) = text.strip_prefix("localhost:").and_then(port) {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Some(port) = port(text.trim_start_matches(':')) {
        return Err(format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every interface"));
    }
    match Host::parse(text) {
        Ok(host) if host.ip().is_some() => Err(format!("add the port: \"{host}:8080\"")),
        _ => Err("write \"127.0.0.1:8080\" (an IP address and a port) or \"unix:/path/of/socket\"".to_owned()),
    }
}
