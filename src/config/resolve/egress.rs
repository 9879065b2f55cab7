//! `egress_proxy`: of the file, of a profile, of a route.

use std::sync::Arc;

use super::Check;
use crate::{
    config::{
        Scheme,
        file::{EgressTable, EgressValue},
        read::At,
    },
    dns::is_own,
    egress::{
        Egress, Login, Proxy, environment, is_username,
        no_proxy::{NoProxy, Oddity},
    },
    route::pattern::Host,
    secret::SecretSource,
};

impl Check<'_, '_> {
    /// What is meant by an `egress_proxy`; that of the file where there is none.
    pub(super) fn egress(&mut self, at: Option<At<EgressValue>>) -> Arc<Egress> {
        let Some(at) = at else { return Arc::clone(&self.egress) };
        let place = at.place();
        let egress = match at.value {
            EgressValue::Text(text) if text == "none" => Some(Egress::direct()),
            EgressValue::Text(text) => {
                self.proxy(&place.with(text)).map(|proxy| Egress::all(proxy, NoProxy::default()))
            }
            EgressValue::Table(table) => self.egress_table(&place, *table),
        };
        let egress = egress.unwrap_or_default();
        if [&egress.http, &egress.https].into_iter().flatten().any(|proxy| self.is_ourselves(proxy)) {
            let hint = "name the proxy that leads outside: lanyard never proxies to itself";
            self.reader.error(&place, "the egress proxy is lanyard's own listener", hint);
        }
        Arc::new(egress)
    }

    fn egress_table(&mut self, place: &At<()>, table: EgressTable) -> Option<Egress> {
        let no_proxy = table.no_proxy.map(|at| {
            let (no_proxy, oddities) = NoProxy::parse(&at.value.0.join(","));
            for Oddity { entry, what, hint } in oddities {
                self.reader.error(&at, format!("{}: {what}", super::shown(&entry)), hint);
            }
            no_proxy
        });
        if table.environment.as_ref().is_some_and(|at| at.value) {
            let written = [
                table.url.as_ref().map(At::place),
                table.username.as_ref().map(At::place),
                table.password.as_ref().map(At::place),
            ];
            for at in written.into_iter().flatten() {
                let hint = "write url, or environment = true, and not both";
                self.reader.error(&at, "a proxy of its own beside `environment = true`", hint);
            }
            let mut egress = table.environment.and_then(|at| self.egress_of_environment(&at))?;
            // What is written goes before NO_PROXY, as curl's --noproxy does.
            if let Some(no_proxy) = no_proxy {
                egress.no_proxy = no_proxy;
            }
            return Some(egress);
        }
        let login = self.login(table.username, table.password.map(|at| (at.place(), at)));
        let Some(at) = table.url else {
            self.missing(place, "url", "write url = \"http://proxy.example.com:3128\", or environment = true");
            return None;
        };
        let mut proxy = self.proxy(&at)?;
        if let Some(login) = login {
            if proxy.login.is_some() {
                let hint = "write the URL without userinfo: username and password are keys of their own";
                self.reader.error(&at, "credentials in the URL and beside it", hint);
            }
            proxy.login = Some(login);
        }
        Some(Egress::all(proxy, no_proxy.unwrap_or_default()))
    }

    fn login(
        &mut self,
        username: Option<At<String>>,
        password: Option<(At<()>, At<crate::config::read::SecretValue>)>,
    ) -> Option<Login> {
        let username = username.and_then(|at| {
            if !is_username(&at.value) {
                self.reader.error(&at, "no name for HTTP Basic", "write one that is not empty and has no colon");
                return None;
            }
            Some(at)
        });
        let password = password.and_then(|(place, at)| {
            let source = self.secret(at)?;
            if matches!(&source, SecretSource::Literal(text) if text.expose().chars().any(char::is_control)) {
                self.reader.error(&place, "a password with a control character", "no proxy takes it");
            }
            Some(place.with(source))
        });
        match (username, password) {
            (Some(username), Some(password)) => Some(Login { username: username.value, password: password.value }),
            (Some(at), None) => {
                let path = at.key.strip_suffix(".username").unwrap_or_default().to_owned();
                if !self.reader.is_wrong(&path, "password") {
                    self.reader.error(&at, "`username` without `password`", "write password = { file = \"...\" }");
                }
                None
            }
            (None, Some(at)) => {
                let path = at.key.strip_suffix(".password").unwrap_or_default().to_owned();
                if !self.reader.is_wrong(&path, "username") {
                    self.reader.error(&at, "`password` without `username`", "write username = \"...\"");
                }
                None
            }
            (None, None) => None,
        }
    }

    fn egress_of_environment(&mut self, at: &At<bool>) -> Option<Egress> {
        match environment::read(|name| self.environment.variable(name)) {
            Ok((egress, oddities)) => {
                for Oddity { entry, what, hint } in oddities {
                    let what = format!("NO_PROXY has {}: {what}", super::shown(&entry));
                    self.reader.warning(at, what, hint);
                }
                if egress.is_direct() {
                    let what = "no proxy is named by the environment here";
                    self.reader.warning(at, what, "set HTTPS_PROXY where `lanyard run` is started");
                }
                Some(egress)
            }
            Err(environment::Unusable { variable, what }) => {
                let hint = "lanyard speaks to http://HOST:PORT alone: set it so, or write url in place of environment";
                self.reader.error(at, format!("the environment variable {variable} names {what}"), hint);
                None
            }
        }
    }

    /// `http://[USERNAME:PASSWORD@]HOST[:PORT]`. The text is not shown: it may hold a password.
    fn proxy(&mut self, at: &At<String>) -> Option<Proxy> {
        match Proxy::parse(&at.value) {
            Ok(proxy) => {
                if proxy.login.is_some() {
                    let hint = "write { url, username, password = { file = \"/run/secrets/...\" } }";
                    self.reader.warning(at, "a secret in the configuration itself", hint);
                }
                Some(proxy)
            }
            Err(what) => {
                self.reader.error(at, what, "write http://HOST:PORT, like http://proxy.example.com:3128");
                None
            }
        }
    }

    fn is_ourselves(&self, proxy: &Proxy) -> bool {
        let ip = proxy.host.ip().or_else(|| proxy.host.is_loopback().then_some([127, 0, 0, 1].into()));
        ip.is_some_and(|ip| is_own((ip, proxy.port).into(), &self.own))
    }

    /// A loopback name means another machine where the proxy resolves it.
    pub(super) fn loopback_goes_directly(&mut self, place: &At<()>, egress: &Egress, scheme: Scheme, host: &str) {
        let Ok(host) = Host::parse(host) else { return };
        if host.is_loopback() && egress.through(scheme, host.as_str()).is_some() {
            let hint = format!("add {} to no_proxy, or write egress_proxy = \"none\" here", host.as_str());
            self.reader.warning(
                place,
                format!("{host} is reached through the egress proxy, whose {host} it then is"),
                hint,
            );
        }
    }
}
