//! From the form of the file to [`Config`](super::Config), collecting every problem. All looking at the machine goes
//! through [`Environment`](super::Environment).

mod egress;
mod profile;
mod route;
mod token_endpoint;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use url::Url;

use super::{
    Admin, Ca, CaBundle, Config, ConnectPolicy, Environment, Forward, Limits, ListenAddress, Listener, ListenerMode,
    Log, LogFormat, Profile, Route, Scheme, Unmatched, Upstream,
    file::{AdminTable, CaTable, File, ForwardTable, LimitsTable, ListenerTable, LogTable},
    read::{At, Reader, Size, nearest},
};
use crate::{
    egress::Egress,
    route::{
        path,
        pattern::{Host, HostPattern, split_authority},
    },
};

/// Checks a whole file; `None` where there is an error.
pub(super) fn config(
    reader: &mut Reader<'_>,
    file: File,
    folder: &Path,
    environment: &dyn Environment,
) -> Option<Config> {
    let mut check = Check { reader, folder, environment, own: Vec::new(), egress: Arc::default() };
    let unmatched_written = file.forward.unmatched.is_some() || check.reader.is_wrong("forward", "unmatched");
    let admin = check.admin(file.admin);
    let forward = check.forward(file.forward);
    let listeners = check.listeners(file.listeners, admin.as_ref(), unmatched_written);
    check.own = sockets(&listeners, admin.as_ref());
    let token_address = check.token_address(file.token_endpoint.as_ref());
    check.own.extend(token_address);
    check.egress = check.egress(file.egress_proxy);
    let profiles = check.profiles(file.profiles);
    let token_endpoint = file.token_endpoint.and_then(|at| check.own_token_endpoint(at, token_address, &profiles));
    let (routes, narrowed) = check.routes(file.routes, &profiles, &listeners);
    let ca = check.ca(file.ca);
    let limits = check.limits(&file.limits);
    let log = check.log(file.log);
    if check.reader.has_errors() {
        return None;
    }
    let listeners = listeners.into_iter().map(|at| at.value).collect();
    let profiles = profiles.into_iter().filter_map(|(_, profile)| profile.value);
    let profiles = profiles.map(|profile| at_rest(profile, &routes, &narrowed)).chain(narrowed.iter().cloned());
    let profiles = profiles.map(|profile| (Arc::clone(&profile.name), Arc::new(profile))).collect();
    let egress_proxy = check.egress;
    let admin = admin?.value;
    Some(Config { listeners, admin, token_endpoint, forward, egress_proxy, profiles, routes, ca, limits, log })
}

/// A profile that only narrowed ones are made from carries nothing itself: it asks for no token unless it is told to.
fn at_rest(mut profile: Profile, routes: &[Route], narrowed: &[Profile]) -> Profile {
    let is_used = routes.iter().any(|route| route.profile.as_ref() == Some(&profile.name));
    if !is_used && narrowed.iter().any(|other| route::base(&other.name) == &*profile.name) {
        profile.prefetch = false;
        profile.required = false;
    }
    profile
}

/// What every rule looks at and reports to.
struct Check<'a, 'r> {
    reader: &'a mut Reader<'r>,
    folder: &'a Path,
    environment: &'a dyn Environment,
    /// Our own sockets, as far as the file tells them.
    own: Vec<SocketAddr>,
    /// `[egress_proxy]`: what counts where a profile or a route says nothing.
    egress: Arc<Egress>,
}

impl Check<'_, '_> {
    fn admin(&mut self, table: AdminTable) -> Option<At<Admin>> {
        let Some(at) = table.address else {
            let default = Admin { address: SocketAddr::from(([127, 0, 0, 1], 9090)) };
            let absent = At { value: default, key: "admin.address".to_owned(), line: 1 };
            return (!self.reader.is_wrong("admin", "address")).then_some(absent);
        };
        let address = match tcp_address(&at.value) {
            Ok(address) => address,
            Err(hint) => {
                self.reader.error(&at, format!("{} is no address", shown(&at.value)), hint);
                return None;
            }
        };
        if !address.ip().is_loopback() {
            let hint = "let only those reach it who may reload and stop lanyard: a firewall or a NetworkPolicy";
            self.reader.warning(&at, "the admin listener can be reached from other machines", hint);
        }
        Some(at.with(Admin { address }))
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

    /// The listeners, each with the place that says what it is for: its `upstream`, or its address.
    fn listeners(
        &mut self,
        tables: Vec<At<ListenerTable>>,
        admin: Option<&At<Admin>>,
        unmatched_written: bool,
    ) -> Vec<At<Listener>> {
        let twice = "give each listener, and [admin], an address of its own";
        let admin = admin.map(|at| at.with(ListenAddress::Tcp(at.value.address)));
        if tables.is_empty() {
            let address = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
            if let Some(admin) = admin.filter(|admin| same_socket(&address, &admin.value)) {
                let what = format!("{} is listened on twice: by default a listener is there", admin.value);
                self.reader.error(&admin, what, twice);
            }
            let mode = ListenerMode::Forward;
            let value = Listener { address, mode, allowed_hosts: Vec::new(), allow_browsers: false };
            return vec![At { value, key: "listeners".to_owned(), line: 1 }];
        }
        let mut listeners: Vec<At<Listener>> = Vec::new();
        for At { value: table, key, line } in tables {
            let place = At { value: (), key, line };
            let address = match &table.address {
                Some(at) => self.listen_address(at).map(|address| at.with(address)),
                None => {
                    self.missing(&place, "address", "write address = \"127.0.0.1:8080\"");
                    None
                }
            };
            let reverse = table.upstream.is_some() || self.reader.is_wrong(&place.key, "upstream");
            let transparent = table.transparent.as_ref().filter(|at| at.value);
            if let Some(at) = transparent {
                self.transparent(at, address.as_ref(), reverse);
            }
            let mode = match &table.upstream {
                Some(at) => self.upstream(at).map(ListenerMode::Reverse),
                None if transparent.is_some() => Some(ListenerMode::Transparent),
                None => (!reverse).then_some(ListenerMode::Forward),
            };
            let kind = if transparent.is_some() { "transparent" } else { "forward" };
            let allowed_hosts =
                table.allowed_hosts.map(|at| self.allowed_hosts(&at, reverse, kind)).unwrap_or_default();
            let Some(address) = address else { continue };
            let taken = |other: &ListenAddress| same_socket(other, &address.value);
            if admin.iter().any(|admin| taken(&admin.value))
                || listeners.iter().any(|other| taken(&other.value.address))
            {
                self.reader.error(&address, format!("{} is listened on twice", address.value), twice);
            }
            let public = matches!(address.value, ListenAddress::Tcp(tcp) if !tcp.ip().is_loopback());
            if matches!(mode, Some(ListenerMode::Forward | ListenerMode::Transparent)) && public && !unmatched_written {
                self.reader.error(
                    &address,
                    format!(
                        "a {kind} listener that other machines can reach does not say what it does with other hosts"
                    ),
                    "write [forward] unmatched = \"deny\" (only what has a route), or \"pass\" (an open proxy)",
                );
            }
            let Some(mode) = mode else { continue };
            let place = table.upstream.as_ref().map_or_else(|| address.place(), At::place);
            let allow_browsers = table.allow_browsers.is_some_and(|at| at.value);
            listeners.push(place.with(Listener { address: address.value, mode, allowed_hosts, allow_browsers }));
        }
        listeners
    }

    /// What a transparent listener cannot be at the same time.
    fn transparent(&mut self, at: &At<bool>, address: Option<&At<ListenAddress>>, reverse: bool) {
        if !self.environment.redirects() {
            let hint = "remove it: a forward or reverse listener works on every system";
            self.reader.error(at, "`transparent` on a system that is not Linux: only its kernel redirects so", hint);
        }
        if reverse {
            let hint = "remove one of them: a redirected connection goes where it was meant to, or where a route says";
            self.reader.error(at, "`transparent` and `upstream` on the same listener", hint);
        }
        if let Some(unix) = address.filter(|address| matches!(address.value, ListenAddress::Unix(_))) {
            let hint = "write the TCP address that the redirect names: \"127.0.0.1:15001\"";
            self.reader.error(unix, "a transparent listener on a Unix socket: only TCP is redirected", hint);
        }
    }

    fn allowed_hosts(&mut self, at: &At<Vec<String>>, reverse: bool, kind: &str) -> Vec<HostPattern> {
        if !reverse {
            let hint = "it is for reverse listeners: remove it";
            self.reader.error(at, format!("`allowed_hosts` on a {kind} listener"), hint);
        }
        let mut patterns = Vec::new();
        for host in &at.value {
            match HostPattern::parse(host) {
                Ok(pattern) => patterns.push(pattern),
                Err(e) => {
                    let hint = "write \"name\", \"name:port\" or \"*.name\"";
                    self.reader.error(at, format!("{}: {e}", shown(host)), hint);
                }
            }
        }
        patterns
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
                self.reader.error(at, format!("{} is no address", shown(&at.value)), hint);
                None
            }
        }
    }

    fn ca(&mut self, table: CaTable) -> Ca {
        if let (Some(directory), Some(true)) = (&table.directory, table.ephemeral.as_ref().map(|at| at.value)) {
            self.reader.error(directory, "`directory` of a CA that is ephemeral", "remove one of them");
        }
        Ca {
            directory: table.directory.map(|at| self.folder.join(at.value)),
            ephemeral: table.ephemeral.is_some_and(|at| at.value),
        }
    }

    fn limits(&mut self, table: &LimitsTable) -> Limits {
        Limits {
            max_connections: self.number(table.max_connections.as_ref(), 10_000, 1_000_000),
            header_timeout: self.positive(table.header_timeout.as_ref(), Duration::from_secs(10)),
            max_header_size: self.header_size(table.max_header_size.as_ref()),
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
            level: self.choice(table.level, &levels),
            access: table.access.is_none_or(|at| at.value),
        }
    }

    /// A key that has to be there.
    fn missing(&mut self, place: &At<()>, key: &str, hint: &str) {
        if !self.reader.is_wrong(&place.key, key) {
            self.reader.error(place, format!("`{key}` is missing"), hint);
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
        self.reader.error(at, format!("the number {}", at.value), format!("write 1 to {most}"));
        default
    }

    fn header_size(&mut self, at: Option<&At<Size>>) -> usize {
        let Some(at) = at else { return 64 * 1024 };
        let Size(size) = at.value;
        if size == 0 || size > MAX_HEADER_SIZE {
            self.reader.error(at, format!("{size} bytes"), "write \"1B\" to \"1023KiB\"");
        }
        size
    }

    /// A duration that is not zero.
    fn positive(&mut self, at: Option<&At<Duration>>, default: Duration) -> Duration {
        at.map_or(default, |at| self.positive_or(at, &format!("{default:?}")))
    }

    /// The same where the key is there; `default` is what leaving it out means.
    fn positive_or(&mut self, at: &At<Duration>, default: &str) -> Duration {
        if at.value.is_zero() {
            self.reader.error(at, "no time at all", format!("leave it out for {default}, or write a longer one"));
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
            self.reader.error(at, format!("{} is no http or https URL", shown(&at.value)), hint);
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
        let path = match (path, path::normalise(path).filter(|_| !path::has_hidden_separator(path))) {
            ("" | "/", _) => None,
            (path, Some(normal)) if normal == path && path.bytes().all(is_path_byte) => Some(path.to_owned()),
            _ => {
                self.reader.error(
                    at,
                    "the upstream's path is not in its normal form",
                    "write it without dots and needless escapes; what is not visible ASCII is percent-encoded: %20",
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

/// The TCP addresses that are known before they are bound.
fn sockets(listeners: &[At<Listener>], admin: Option<&At<Admin>>) -> Vec<SocketAddr> {
    let listeners = listeners.iter().filter_map(|listener| match listener.value.address {
        ListenAddress::Tcp(address) => Some(address),
        ListenAddress::Unix(_) => None,
    });
    listeners.chain(admin.map(|admin| admin.value.address)).filter(|address| address.port() != 0).collect()
}

/// Whether one of two addresses cannot be listened on while the other is.
fn same_socket(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            let every_interface = one.ip().is_unspecified() || other.ip().is_unspecified();
            let same_ip = one.ip() == other.ip() || (every_interface && one.is_ipv4() == other.is_ipv4());
            one.port() != 0 && one.port() == other.port() && same_ip
        }
        (one, other) => one == other,
    }
}

/// A text in a message. One with an `@` is not shown: it may be a URL with a password.
fn shown(text: &str) -> String {
    if text.contains('@') { "a text with '@' (not shown)".to_owned() } else { format!("{text:?}") }
}

/// Whether a byte can stand in the path of a request.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'`')
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

/// The parser behind takes no more of a request's head, bytes.
const MAX_HEADER_SIZE: usize = 1024 * 1024 - 1;
