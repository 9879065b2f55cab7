//! `[[routes]]`, and the profiles of those that narrow what their token is for.

use std::sync::Arc;

use http::Method;

use super::{Check, is_path_byte, profile::Profiles, shown};
use crate::{
    config::{CredentialKind, Grant, Listener, ListenerMode, Profile, Route, Scheme, file::RouteTable, read::At},
    metrics::NO_PROFILE,
    proxy::peer::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_RESPONSE_TIMEOUT},
    route::pattern::{Host, HostPattern, PathPrefix},
};

impl Check<'_, '_> {
    pub(super) fn routes(
        &mut self,
        tables: Vec<At<RouteTable>>,
        profiles: &Profiles,
        listeners: &[At<Listener>],
    ) -> (Vec<Route>, Vec<Profile>) {
        let mut routes: Vec<Route> = Vec::new();
        let mut narrowed: Vec<Profile> = Vec::new();
        for mut table in tables {
            let place = table.place();
            let narrowing = self.narrowing(&mut table.value);
            let Some(mut route) = self.route(&place, table.value, profiles) else { continue };
            if let Some(narrowing) = narrowing {
                self.narrow(&mut route, narrowing, profiles, &mut narrowed);
            }
            if let Some(other) = routes.iter().find(|other| equally_specific(other, &route)) {
                let what = format!("it matches the same requests as the route of line {}, equally well", other.line);
                self.reader.error(&place, what, "tell them apart by host, port, path_prefix or methods, or remove one");
            }
            routes.push(route);
        }
        for (name, profile) in profiles {
            let is_used = |route: &Route| route.profile.as_deref().is_some_and(|used| base(used) == name);
            let used = routes.iter().any(is_used);
            if profile.value.is_some() && !used {
                self.reader.warning(profile, "no route uses this profile", "add a [[routes]] with it, or remove it");
            }
        }
        for listener in listeners {
            let ListenerMode::Reverse(upstream) = &listener.value.mode else { continue };
            let meant = |route: &&Route| route.host.matches(upstream.host.as_str(), upstream.port);
            if !routes.iter().any(|route| meant(&route)) {
                let what = format!("nothing injects a token into what arrives at {}", listener.value.address);
                self.reader.warning(listener, what, format!("add a route with host = \"{}\"", upstream.host));
            }
            let injected = routes.iter().filter(meant).any(|r| r.profile.is_some() && r.upstream.is_none());
            if injected && upstream.scheme == Scheme::Http && !upstream.host.is_loopback() {
                let hint = "write https:// if the upstream speaks TLS";
                self.reader.warning(listener, "the token goes out in clear text", hint);
            }
        }
        (routes, narrowed)
    }

    /// `scope`, `audience` and `resource` of a route, if there is one of them.
    fn narrowing(&mut self, table: &mut RouteTable) -> Option<At<Narrowing>> {
        let places = [
            table.scope.as_ref().map(At::place),
            table.audience.as_ref().map(At::place),
            table.resource.as_ref().map(At::place),
        ];
        let place = places.into_iter().flatten().next()?;
        let scope = table.scope.take().and_then(|at| self.scope(&at));
        let audience = table.audience.take().map(|at| at.value);
        let resource = table.resource.take().map(|at| self.resources(&at));
        Some(place.with(Narrowing { scope, audience, resource }))
    }

    /// Gives a route a profile of its own: that which it names, but for what is narrowed. Routes that narrow it alike
    /// share one.
    fn narrow(&mut self, route: &mut Route, at: At<Narrowing>, profiles: &Profiles, narrowed: &mut Vec<Profile>) {
        let Some(name) = &route.profile else {
            self.reader.error(&at, "a token that is narrowed, and no profile", "name the profile, or remove the key");
            return;
        };
        let found = profiles.iter().find(|(known, _)| **known == **name).and_then(|(_, at)| at.value.as_ref());
        // One that is wrong itself has been reported.
        let Some(profile) = found else { return };
        let CredentialKind::OAuth2(oauth2) = &profile.kind else {
            let what = format!("profile {name} is not OAuth2: its credential cannot be narrowed");
            self.reader.error(&at, what, "remove the key, or write a profile for this route");
            return;
        };
        if let Grant::RefreshToken { .. } = oauth2.grant {
            let what = format!("profile {name} has one refresh token: two tokens of it would use up each other's");
            self.reader.error(&at, what, "write a profile for this route, with a refresh token of its own");
            return;
        }
        let Narrowing { scope, audience, resource } = at.value;
        let mut oauth2 = oauth2.clone();
        oauth2.scope = scope.or(oauth2.scope);
        oauth2.audience = audience.or(oauth2.audience);
        oauth2.resource = resource.unwrap_or(oauth2.resource);
        let mut own = Profile { kind: CredentialKind::OAuth2(oauth2), ..profile.clone() };
        let same = narrowed.iter().find(|other| base(&other.name) == &**name && other.kind == own.kind);
        if let Some(same) = same {
            route.profile = Some(Arc::clone(&same.name));
            return;
        }
        let prefix = route.path_prefix.as_ref().map(ToString::to_string).unwrap_or_default();
        let plain = format!("{name}{NARROWED}{}{prefix}", route.host);
        let taken = |name: &str| narrowed.iter().any(|other| &*other.name == name);
        let mut unique = plain.clone();
        let mut number = 1;
        while taken(&unique) {
            number += 1;
            unique = format!("{plain}#{number}");
        }
        own.name = unique.into();
        route.profile = Some(Arc::clone(&own.name));
        narrowed.push(own);
    }

    fn route(&mut self, place: &At<()>, table: RouteTable, profiles: &Profiles) -> Option<Route> {
        let host = match &table.host {
            Some(at) => self.host_pattern(at),
            None => {
                self.missing(place, "host", "write host = \"api.example.com\"");
                None
            }
        };
        let profile = match &table.profile {
            Some(at) => self.profile_exists(at, profiles).then(|| at.value.clone()),
            None => {
                self.missing(place, "profile", "write profile = \"NAME\", or \"none\" to forward bare");
                None
            }
        };
        let path_prefix = table.path_prefix.as_ref().and_then(|at| self.path_prefix(at));
        let methods = table.methods.as_ref().map(|at| self.methods(at));
        let upstream = table.upstream.as_ref().and_then(|at| self.upstream(at));
        let ca_file = table.ca_file.as_ref().and_then(|at| self.ca_bundle(at));
        let server_name = table.server_name.as_ref().and_then(|at| match Host::parse(&at.value) {
            Ok(name) => Some(name),
            Err(e) => {
                self.reader.error(
                    at,
                    format!("{} is no server name: {e}", shown(&at.value)),
                    "write the name in the certificate",
                );
                None
            }
        });
        let plain = upstream.as_ref().is_some_and(|upstream| upstream.scheme == Scheme::Http);
        for (key, at) in [("ca_file", &table.ca_file), ("server_name", &table.server_name)] {
            if let Some(at) = at.as_ref().filter(|_| plain) {
                self.reader.error(
                    at,
                    format!("`{key}` with an upstream of http://"),
                    "there is no TLS there: remove one of them",
                );
            }
        }
        let has_profile = profile.as_deref().is_some_and(|name| name != NO_PROFILE);
        if let (Some(at), Some(to)) = (&table.upstream, &upstream)
            && plain
            && has_profile
            && !to.host.is_loopback()
        {
            self.reader.warning(at, "the token goes out in clear text", "write https:// if the upstream speaks TLS");
        }
        let place_of_proxy = table.egress_proxy.as_ref().map_or_else(|| place.place(), At::place);
        let egress_proxy = self.egress(table.egress_proxy);
        if let Some(to) = &upstream {
            self.loopback_goes_directly(&place_of_proxy, &egress_proxy, to.scheme, &to.host.to_string());
        }
        Some(Route {
            host: host?,
            path_prefix,
            methods,
            profile: profile.filter(|_| has_profile).map(Arc::from),
            upstream,
            ca_file,
            server_name,
            egress_proxy,
            connect_timeout: self.positive(table.connect_timeout.as_ref(), DEFAULT_CONNECT_TIMEOUT),
            response_timeout: self.positive(table.response_timeout.as_ref(), DEFAULT_RESPONSE_TIMEOUT),
            intercept: table.intercept.is_some_and(|at| at.value),
            line: place.line,
        })
    }

    fn host_pattern(&mut self, at: &At<String>) -> Option<HostPattern> {
        let pattern = match HostPattern::parse(&at.value) {
            Ok(pattern) => pattern,
            Err(e) => {
                let hint = "write \"api.example.com\", \"*.example.com\", either with \":PORT\"; no scheme, no path";
                self.reader.error(at, format!("{} is no host: {e}", shown(&at.value)), hint);
                return None;
            }
        };
        let suffix = pattern.host.as_str();
        if pattern.wildcard && !suffix.contains('.') && !PRIVATE_SUFFIXES.contains(&suffix) {
            self.reader.error(
                at,
                format!("{:?} means a whole top-level domain", at.value),
                "name at least two labels after \"*.\"",
            );
            return None;
        }
        Some(pattern)
    }

    fn path_prefix(&mut self, at: &At<String>) -> Option<PathPrefix> {
        if at.value.contains("://") {
            self.reader.error(at, "a path prefix that is a URL", "write its path alone: \"/v1\"");
            return None;
        }
        if let Some(other) = at.value.chars().find(|c| !u8::try_from(*c).is_ok_and(is_path_byte)) {
            let what = format!("a path prefix with {other:?}, that no request's path has");
            self.reader.error(at, what, "write it percent-encoded: a space is %20");
            return None;
        }
        match PathPrefix::parse(&at.value) {
            Ok(prefix) => Some(prefix),
            Err(hint) => {
                self.reader.error(at, format!("{:?} is no path prefix", at.value), hint);
                None
            }
        }
    }

    fn methods(&mut self, at: &At<Vec<String>>) -> Vec<Method> {
        let mut methods: Vec<Method> = Vec::new();
        if at.value.is_empty() {
            self.reader.error(at, "no method at all", "name the methods, or leave the key out for every method");
        }
        for word in &at.value {
            let method = Method::from_bytes(word.as_bytes()).ok();
            match method {
                Some(method) if matches!(word.as_str(), "CONNECT" | "TRACE") => {
                    self.reader.error(at, format!("the method {method}"), "it never takes a route: remove it");
                }
                Some(method) if methods.contains(&method) => {
                    self.reader.error(at, format!("{method} twice"), "name it once");
                }
                Some(method) if word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => methods.push(method),
                _ => {
                    let hint = "write methods in capitals: [\"GET\", \"POST\"]";
                    self.reader.error(at, format!("{word:?} is no method"), hint);
                }
            }
        }
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        methods
    }
}

/// What a route says of its token.
struct Narrowing {
    scope: Option<String>,
    audience: Option<String>,
    resource: Option<Vec<String>>,
}

/// The name of the profile that a narrowed one was made from; its own, if it is none.
pub(super) fn base(name: &str) -> &str {
    name.split_once(NARROWED).map_or(name, |(base, _)| base)
}

/// Stands between the name of a profile and the route that it is narrowed for. No profile in the file has it in its name.
const NARROWED: char = '@';

/// Whether two routes match some request equally well.
fn equally_specific(one: &Route, other: &Route) -> bool {
    let methods_meet = match (&one.methods, &other.methods) {
        (None, None) => true,
        (Some(one), Some(other)) => one.iter().any(|method| other.contains(method)),
        // The one that names methods is the more specific.
        (None, Some(_)) | (Some(_), None) => false,
    };
    one.host == other.host && one.path_prefix == other.path_prefix && methods_meet
}

/// Names that no registry gives away (RFC 6761, RFC 8375, Kubernetes): a wildcard right below them is somebody's own.
const PRIVATE_SUFFIXES: [&str; 8] = ["localhost", "local", "internal", "test", "svc", "lan", "home", "corp"];
