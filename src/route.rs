//! Which route a target takes: `Table::find`, pure and in constant time for any number of routes.

pub mod path;
pub mod pattern;
pub mod query;

use std::collections::HashMap;

use http::Method;

use crate::config::Route;

/// Routes by host, each list from the most specific to the least.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<Box<str>, Vec<Entry<T>>>,
    wildcard: HashMap<Box<str>, Vec<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    route: Route,
    value: T,
}

impl<T> Table<T> {
    /// Builds the table from routes and what belongs to each.
    pub fn new(routes: impl IntoIterator<Item = (Route, T)>) -> Self {
        let mut table = Self { exact: HashMap::new(), wildcard: HashMap::new() };
        for (route, value) in routes {
            let by_host = if route.host.wildcard { &mut table.wildcard } else { &mut table.exact };
            by_host.entry(route.host.host.as_str().into()).or_default().push(Entry { route, value });
        }
        for entries in table.exact.values_mut().chain(table.wildcard.values_mut()) {
            entries.sort_by_key(|entry| std::cmp::Reverse(specificity(&entry.route)));
        }
        table
    }

    /// The most specific route for a request: exact host before wildcard, longer suffix before shorter, with port
    /// before without, longer path prefix first, with methods before without. `path` has no query.
    ///
    /// # Errors
    /// The path hides a separator (`%2f`, `%5c`, `\`), and the two ways to read it take different routes.
    pub fn find(&self, host: &str, port: u16, path: &str, method: &Method) -> Result<Option<&T>, Ambiguous> {
        if path::is_plain(path) {
            return Ok(self.first(&Request { host, port, normal_path: Some(path), method }));
        }
        let strict = path::normalise(path);
        let found = self.first(&Request { host, port, normal_path: strict.as_deref(), method });
        if !path::has_hidden_separator(path) {
            return Ok(found);
        }
        let lax = path::normalise_lax(path);
        let other = self.first(&Request { host, port, normal_path: lax.as_deref(), method });
        match (found, other) {
            (None, None) => Ok(None),
            (Some(found), Some(other)) if std::ptr::eq(found, other) => Ok(Some(found)),
            _ => Err(Ambiguous),
        }
    }

    /// The most specific route for one reading of the path.
    fn first(&self, request: &Request<'_>) -> Option<&T> {
        if let Some(found) = self.exact.get(request.host).and_then(|entries| request.first(entries)) {
            return Some(found);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut suffix = request.host;
        while let Some((_, rest)) = suffix.split_once('.') {
            suffix = rest;
            if let Some(found) = self.wildcard.get(suffix).and_then(|entries| request.first(entries)) {
                return Some(found);
            }
        }
        None
    }

    /// Whether any route is for this host and port, whatever the path and method: all that a CONNECT tells.
    pub fn knows(&self, host: &str, port: u16) -> bool {
        let exact = self.exact.get(host).into_iter().flatten();
        let wildcards = host.match_indices('.').filter_map(|(at, _)| self.wildcard.get(host.get(at + 1..)?)).flatten();
        exact.chain(wildcards).any(|entry| entry.route.host.matches(host, port))
    }
}

impl<T> Table<T> {
    /// Whether CONNECT to this host and port is intercepted: by the routes for the host that are the most specific, so
    /// that an exact host without `intercept` is kept out of a wildcard with it.
    pub fn intercepts(&self, host: &str, port: u16) -> bool {
        let exact = self.exact.get(host);
        let wildcards = host.match_indices('.').filter_map(|(at, _)| self.wildcard.get(host.get(at + 1..)?));
        exact.into_iter().chain(wildcards).find_map(|entries| {
            let mut meant = entries.iter().filter(|entry| entry.route.host.matches(host, port)).peekable();
            meant.peek()?;
            Some(meant.any(|entry| entry.route.intercept))
        }) == Some(true)
    }
}

/// A path that can be read in two ways which take different routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// What a route is compared with.
struct Request<'a> {
    host: &'a str,
    port: u16,
    /// `None` where the path has no normal form: then no prefix matches.
    normal_path: Option<&'a str>,
    method: &'a Method,
}

impl Request<'_> {
    fn first<'t, T>(&self, entries: &'t [Entry<T>]) -> Option<&'t T> {
        entries.iter().find(|entry| self.matches(&entry.route)).map(|entry| &entry.value)
    }

    fn matches(&self, route: &Route) -> bool {
        let path_matches = match (&route.path_prefix, self.normal_path) {
            (None, _) => true,
            (Some(prefix), Some(path)) => prefix.matches(path),
            (Some(_), None) => false,
        };
        path_matches
            && route.host.matches(self.host, self.port)
            && route.methods.as_ref().is_none_or(|methods| methods.contains(self.method))
    }
}

/// Compares routes of the same host: with port, then the length of the prefix, then with methods.
fn specificity(route: &Route) -> (bool, usize, bool) {
    let prefix = route.path_prefix.as_ref().map_or(0, |prefix| prefix.as_str().len());
    (route.host.port.is_some(), prefix, route.methods.is_some())
}

#[cfg(test)]
mod tests;
