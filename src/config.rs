//! The configuration in its checked form: what `proxy.toml` means once every key has been read and found good.
//!
//! `file` has the form of the file, `resolve` turns it into this one and collects every problem, `error` shows them.

pub mod error;
mod file;
mod profile;
mod read;
mod resolve;

pub use error::{ConfigError, Problem, Severity};
pub use profile::{
    Assertion, AssertionAudience, Authentication, AwsCredentials, AwsSigV4, AzureManagedIdentity, CredentialKind, Dpop,
    Endpoint, Exec, Existing, FileToken, GitHubApp, GoogleMetadata, Grant, Issuer, OAuth2, OnUnavailable, Payload,
    Placement, Profile, RequestFormat, SignedJwt, SigningKeySource, Static, Subject,
};

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::Method;

use crate::{
    egress::Egress,
    route::pattern::{Host, HostPattern, PathPrefix},
    secret::SecretSource,
};

/// A whole configuration, checked: nothing in it can still be wrong on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The sockets that are accepted on, at least one.
    pub listeners: Vec<Listener>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[token_endpoint]`, if there is one.
    pub token_endpoint: Option<TokenEndpoint>,
    /// `[forward]`.
    pub forward: Forward,
    /// `[egress_proxy]`: what blind tunnels and requests without a route go through.
    pub egress_proxy: Arc<Egress>,
    /// `[profiles.NAME]`, by name.
    pub profiles: BTreeMap<Arc<str>, Arc<Profile>>,
    /// `[[routes]]`, in the order of the file. No two match the same requests equally well.
    pub routes: Vec<Route>,
    /// `[ca]`.
    pub ca: Ca,
    /// `[limits]`.
    pub limits: Limits,
    /// `[log]`.
    pub log: Log,
}

/// `[token_endpoint]`: where applications that fetch tokens themselves get them.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEndpoint {
    /// `address`: loopback.
    pub address: SocketAddr,
    /// `profiles`: for which it answers, and with what.
    pub profiles: Vec<(Arc<str>, TokenGiven)>,
    /// `client_secret`: what applications have to present; `None`: anything.
    pub client_secret: Option<SecretSource>,
}

/// What an application is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenGiven {
    /// The profile's token.
    Token,
    /// A text in its place, which lanyard swaps for the token on the way out.
    Placeholder,
}

/// One `[[listeners]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it accepts.
    pub address: ListenAddress,
    /// What arrives there.
    pub mode: ListenerMode,
    /// Further hosts that `Host` may name on a reverse listener.
    pub allowed_hosts: Vec<HostPattern>,
    /// Whether requests that a browser marks as foreign get a credential (default false).
    pub allow_browsers: bool,
}

/// What a listener is for.
#[derive(Clone, Debug, PartialEq)]
pub enum ListenerMode {
    /// A proxy setting points at it.
    Forward,
    /// A base URL points at it: all that arrives goes to this upstream.
    Reverse(Upstream),
    /// `transparent`: the kernel redirects connections to it (Linux), and tells where they were meant to go.
    Transparent,
}

/// `HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket, created with mode 0600.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where `/metrics`, `/livez`, ... are served (default 127.0.0.1:9090).
    pub address: SocketAddr,
}

/// `[forward]`: what a forward or transparent listener does with what no route is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Requests that no route matches (default: pass).
    pub unmatched: Unmatched,
    /// CONNECT to a host that is not intercepted (default: tunnel).
    pub connect: ConnectPolicy,
}

/// `forward.unmatched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// Forward without a credential.
    Pass,
    /// Refuse with `route_denied`.
    Deny,
}

/// `forward.connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectPolicy {
    /// A blind tunnel, counted as bypassed.
    Tunnel,
    /// Refuse with `connect_denied`.
    Deny,
}

/// `[ca]`: the local CA that interception signs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ca {
    /// `directory`, where its files are; `None`: the user's own (`~/.local/share/lanyard`).
    pub directory: Option<PathBuf>,
    /// `ephemeral` (false): a new CA at each start, in no file.
    pub ephemeral: bool,
}

impl Config {
    /// The hosts that are intercepted.
    pub fn intercepted(&self) -> Vec<HostPattern> {
        self.routes.iter().filter(|route| route.intercept).map(|route| route.host.clone()).collect()
    }

    /// The environment variables that secrets are read from.
    pub fn secret_variables(&self) -> Vec<&str> {
        let egress = self.profiles.values().filter_map(|profile| profile.kind.egress());
        let egress = egress.chain(self.routes.iter().map(|route| &route.egress_proxy)).chain([&self.egress_proxy]);
        let logins = egress.flat_map(|egress| {
            [&egress.http, &egress.https].into_iter().flatten().filter_map(|proxy| proxy.login.as_ref())
        });
        let secrets = self.profiles.values().flat_map(|profile| profile.kind.secrets());
        let secrets = secrets.chain(logins.map(|login| &login.password));
        let secrets = secrets.chain(self.token_endpoint.iter().filter_map(|endpoint| endpoint.client_secret.as_ref()));
        let variables = secrets.filter_map(|secret| match secret {
            SecretSource::Env(name) => Some(name.as_str()),
            SecretSource::File(_) | SecretSource::Literal(_) => None,
        });
        variables.collect()
    }
}

/// One `[[routes]]`: which requests get which profile, and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `host`, with an optional port.
    pub host: HostPattern,
    /// `path_prefix`.
    pub path_prefix: Option<PathPrefix>,
    /// `methods`, sorted; `None`: every method.
    pub methods: Option<Vec<Method>>,
    /// `profile`; `None` stands for `"none"`: forward bare.
    pub profile: Option<Arc<str>>,
    /// `upstream`; `None`: `https://` the target.
    pub upstream: Option<Upstream>,
    /// `ca_file`: trusted for this route besides the system's roots.
    pub ca_file: Option<CaBundle>,
    /// `server_name`: sent as SNI and verified, in place of the upstream's host.
    pub server_name: Option<Host>,
    /// `egress_proxy`: what its upstream is reached through; that of the file where the route has none.
    pub egress_proxy: Arc<Egress>,
    /// `connect_timeout` (5 s): name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// `response_timeout` (60 s): from the request's head to the first byte of the answer.
    pub response_timeout: Duration,
    /// `intercept` (false): CONNECT to its host is answered by lanyard itself, with a certificate of the local CA.
    pub intercept: bool,
    /// Line of `[[routes]]` in the file, from 1.
    pub line: usize,
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS, verified.
    Https,
}

impl Scheme {
    /// The port that a URL of this scheme means when it names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where requests really go: `https://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Whether TLS is spoken to it.
    pub scheme: Scheme,
    /// Its host, normalised.
    pub host: Host,
    /// Its port, the scheme's default if the URL names none.
    pub port: u16,
    /// The path that takes the place of the matched `path_prefix`; `None` where the URL has none (or just `/`).
    pub path: Option<String>,
}

/// A file of PEM certificates, read and parsed when the configuration was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaBundle {
    /// Where it was read from; reload watches it.
    pub path: PathBuf,
    /// The certificates, DER.
    pub certificates: Arc<[Vec<u8>]>,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Connections in all (10,000).
    pub max_connections: usize,
    /// For a whole request head, from its first byte (10 s).
    pub header_timeout: Duration,
    /// A request head, bytes (64 KiB).
    pub max_header_size: usize,
    /// Header fields of a request (100).
    pub max_headers: usize,
    /// Between requests of a connection (60 s).
    pub idle_timeout: Duration,
    /// Without a byte of a request's body (30 s).
    pub body_timeout: Duration,
    /// For what is in flight at shutdown (25 s).
    pub drain_timeout: Duration,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `format`; `None`: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// `level`; `None`: info, and under `lanyard exec` warn.
    pub level: Option<tracing::Level>,
    /// `access` (true): one event a request.
    pub access: bool,
}

impl Log {
    /// The level of a server's log.
    pub fn level(&self) -> tracing::Level {
        self.level.unwrap_or(tracing::Level::INFO)
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A configuration that can be run, and what is worth a second look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked form.
    pub config: Config,
    /// What works but may not be meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file.
///
/// # Errors
/// Every problem it has, each with its line.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let whole = |what: String, hint: &str| ConfigError::whole_file(&file, what, hint);
    let size = std::fs::metadata(path).map_err(|e| {
        whole(format!("cannot be read: {e}"), "name the file with --config, or run where proxy.toml is")
    })?;
    if !size.is_file() || size.len() > MAX_FILE_SIZE {
        return Err(whole(
            format!("is not a regular file of at most {MAX_FILE_SIZE} bytes"),
            "name the configuration file itself",
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| whole(format!("cannot be read: {e}"), "look at its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8 text".to_owned(), "save it as UTF-8"))?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    parse(&text, &file, &folder, &System)
}

/// Checks a configuration's text. `file` is what problems call it; relative paths in it are taken from `folder`.
///
/// # Errors
/// Every problem it has, each with its line.
pub fn parse(text: &str, file: &str, folder: &Path, environment: &dyn Environment) -> Result<Loaded, ConfigError> {
    let mut reader = read::Reader::new(text, file);
    let tables = file::File::read(&mut reader);
    let config = tables.and_then(|tables| resolve::config(&mut reader, tables, folder, environment));
    let problems = reader.into_problems();
    match config {
        Some(config) => Ok(Loaded { config, warnings: problems }),
        None => Err(ConfigError(problems)),
    }
}

/// What checking a configuration looks at besides its text.
pub trait Environment {
    /// Reads a file of at most [`MAX_FILE_SIZE`] bytes.
    ///
    /// # Errors
    /// As reading does.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether everybody may read a file.
    fn is_world_readable(&self, path: &Path) -> bool;
    /// The value of an environment variable, if it is set and UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// Whether an environment variable is set and not empty.
    fn has_variable(&self, name: &str) -> bool {
        self.variable(name).is_some_and(|value| !value.is_empty())
    }
    /// Whether the kernel redirects connections and tells where they were meant to go, as Linux does.
    fn redirects(&self) -> bool;
}

/// The real one.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Environment for System {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = std::fs::metadata(path)?;
        if !file.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if file.len() > MAX_FILE_SIZE {
            return Err(io::Error::other(format!("it is {} bytes, more than {MAX_FILE_SIZE}", file.len())));
        }
        std::fs::read(path)
    }

    fn is_world_readable(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn redirects(&self) -> bool {
        cfg!(target_os = "linux")
    }
}

/// Of the configuration and of CA files, bytes.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
