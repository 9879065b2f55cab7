//! What the command finds in its environment: pure, what was there before comes in as a function.

use std::{ffi::OsString, net::SocketAddr, path::Path};

use super::trust::Trust;
use crate::config::Config;

/// What the environment is made from.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The forward listener.
    pub(super) proxy: SocketAddr,
    pub(super) config: &'a Config,
    /// Where hosts are intercepted.
    pub(super) trust: Option<&'a Trust>,
}

/// Variables with their new values; `None`: removed.
pub(super) type Changes = Vec<(String, Option<OsString>)>;

/// What of the user's own environment may keep the command from lanyard.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Warning {
    pub(super) variable: &'static str,
    pub(super) what: String,
    pub(super) hint: &'static str,
}

impl Surroundings<'_> {
    /// What is different from the environment that was there.
    pub(super) fn changes(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> (Changes, Vec<Warning>) {
        let mut changes = Changes::new();
        let mut warnings = Vec::new();
        let mut set = |name: &str, value: OsString| changes.push((name.to_owned(), Some(value)));

        let proxy = format!("http://{}", self.proxy);
        for name in PROXY {
            set(name, proxy.clone().into());
        }
        if variable(NODE).is_none() {
            set(NODE, "1".into());
        }
        let exceptions = self.exceptions(variable, &mut warnings);
        for name in NO_PROXY {
            set(name, exceptions.join(",").into());
        }
        for (name, file) in self.trust.iter().flat_map(|trust| &trust.variables) {
            set(name, file.into());
        }
        set(JAVA, self.java(variable(JAVA), &exceptions, &mut warnings));
        // What lanyard logs in with is not the command's.
        changes.extend(self.config.secret_variables().into_iter().map(|name| (name.to_owned(), None)));
        (changes, warnings)
    }

    /// `NO_PROXY`: all that the user has there, and this machine, unless a route is for it.
    fn exceptions(&self, variable: &dyn Fn(&str) -> Option<OsString>, warnings: &mut Vec<Warning>) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        let mut add = |entry: &str| {
            if !entry.is_empty() && !entries.iter().any(|known| known == entry) {
                entries.push(entry.to_owned());
            }
        };
        for name in NO_PROXY {
            let value = variable(name).unwrap_or_default().to_string_lossy().into_owned();
            value.split([',', ' ']).for_each(&mut add);
        }
        let routed = |entry: &str| self.config.routes.iter().find(|route| covers(entry, route.host.host.as_str()));
        for entry in &entries {
            if let Some(route) = routed(entry) {
                warnings.push(Warning {
                    variable: "NO_PROXY",
                    what: format!("\"{entry}\" keeps requests for {} from lanyard: they get no token", route.host),
                    hint: "take it out of NO_PROXY and no_proxy for this command",
                });
            }
        }
        // Some programs take a star for one only where it stands alone.
        if entries.iter().any(|entry| entry == "*") {
            return vec!["*".to_owned()];
        }
        let here = THIS_MACHINE.iter().filter(|name| routed(name).is_none() && !entries.iter().any(|e| e == *name));
        let here: Vec<String> = here.map(|name| (*name).to_owned()).collect();
        entries.extend(here);
        entries
    }

    /// `JAVA_TOOL_OPTIONS`: what was there, and after it what Java has in the place of these variables. Later ones win.
    fn java(&self, before: Option<OsString>, exceptions: &[String], warnings: &mut Vec<Warning>) -> OsString {
        let mut options = before.unwrap_or_default();
        let text = options.to_string_lossy().into_owned();
        let mut add = |option: &str| {
            if !options.is_empty() {
                options.push(" ");
            }
            options.push(option);
        };
        for scheme in ["http", "https"] {
            add(&format!("-D{scheme}.proxyHost={} -D{scheme}.proxyPort={}", self.proxy.ip(), self.proxy.port()));
        }
        if !text.contains("-Dhttp.nonProxyHosts=") {
            let hosts: Vec<String> = exceptions.iter().flat_map(|entry| java_hosts(entry)).collect();
            add(&format!("-Dhttp.nonProxyHosts={}", hosts.join("|")));
        }
        match self.trust {
            Some(_) if text.contains("-Djavax.net.ssl.trustStore=") => warnings.push(Warning {
                variable: JAVA,
                what: "it names a truststore, so Java programs do not trust the CA of lanyard".to_owned(),
                hint: "import the CA into that truststore: `lanyard ca install-hint`",
            }),
            Some(trust) => {
                let store = quoted(&trust.truststore);
                add(&format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStoreType=PKCS12"));
            }
            None => {}
        }
        options
    }
}

/// Whether an entry of `NO_PROXY` means a host, as most programs read it: the host itself, and all below it.
fn covers(entry: &str, host: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    let name = name.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(name, |(address, _)| address);
    // A port, unless it is an IPv6 address.
    let name = if name.matches(':').count() == 1 { name.split(':').next().unwrap_or(name) } else { name };
    let below = || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    entry == "*" || (!name.is_empty() && (host == name || below()))
}

/// An entry of `NO_PROXY` in the form of Java's `http.nonProxyHosts`, which knows neither ports nor networks.
fn java_hosts(entry: &str) -> Vec<String> {
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    if entry == "*" {
        vec!["*".to_owned()]
    } else if name.parse::<std::net::Ipv6Addr>().is_ok() {
        vec![format!("[{name}]")]
    } else if name.parse::<std::net::Ipv4Addr>().is_ok() {
        vec![name.to_owned()]
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        Vec::new()
    } else if name == entry {
        vec![name.to_owned(), format!("*.{name}")]
    } else {
        vec![format!("*.{name}")]
    }
}

/// A path as the JVM reads its options.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

/// curl reads the small letters alone, Java none of them. `ALL_PROXY` is for other protocols than HTTP, and stays.
const PROXY: [&str; 5] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Node 22.21 and 24 read the proxy variables if it is set.
const NODE: &str = "NODE_USE_ENV_PROXY";
const JAVA: &str = "JAVA_TOOL_OPTIONS";
const THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests;
