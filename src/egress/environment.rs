//! The variables that name a proxy, read in curl's order. Only where the configuration asks for them.
//!
//! For `http://` targets: `http_proxy`, `HTTP_PROXY`, `all_proxy`, `ALL_PROXY`; for `https://` ones and for tunnels
//! `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`. The first that is set and not empty counts. Upper-case
//! `HTTP_PROXY` is not trusted where `REQUEST_METHOD` is set: a CGI server takes it from a request's `Proxy:` field.
//! (curl never reads it; other programs do as we do.) `no_proxy` goes before `NO_PROXY`.

use std::sync::Arc;

use super::{
    Egress, Proxy,
    no_proxy::{NoProxy, Oddity},
};

/// A variable that names something that is no proxy for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it; its value may hold a password and is not told.
    pub what: &'static str,
}

/// What the environment says. `variable` has the values of those that are set.
///
/// # Errors
/// The variable that counts names a proxy that is not `http://`.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<(Egress, Vec<Oddity>), Unusable> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let cgi = set("REQUEST_METHOD").is_some();
    let proxy = |names: &[&'static str]| {
        let mut found = names.iter().filter(|name| !(cgi && **name == "HTTP_PROXY"));
        found.find_map(|name| set(name).map(|value| parse(name, &value))).transpose()
    };
    let http = proxy(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?;
    let https = proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?;
    let (no_proxy, oddities) =
        set("no_proxy").or_else(|| set("NO_PROXY")).map_or_else(Default::default, |text| NoProxy::parse(&text));
    Ok((Egress { http, https, no_proxy }, oddities))
}

/// A URL, or `HOST:PORT` as many write it.
fn parse(variable: &'static str, value: &str) -> Result<Arc<Proxy>, Unusable> {
    let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    Proxy::parse(&url).map(Arc::new).map_err(|what| Unusable { variable, what })
}

#[cfg(test)]
mod tests;
