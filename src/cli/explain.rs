//! `lanyard explain`: what would become of a request.

use std::sync::Arc;

use clap::Args;
use http::Method;

use super::{ConfigFile, Failed, say, say_error};
use crate::{
    config::{Config, ConnectPolicy, Existing, ListenerMode, OnUnavailable, Placement, Route, Scheme, Unmatched},
    egress::Egress,
    proxy::{
        peer::Destination,
        refusal::Refusal,
        target::{self, Listening, Named, Role, Target},
    },
    route::{Ambiguous, Table},
    snapshot::wire_name,
};

/// Tell what would become of a request.
///
/// Says which route and profile it would take, where it would go, which header fields would change, or why it would be
/// refused. Nothing is sent. Exits with 1 if it would be refused.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// GET, POST, ...
    method: String,
    /// The URL as the application has it: http://api.example.com/v1/x, or that of a reverse listener
    url: String,
    #[command(flatten)]
    file: ConfigFile,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failed> {
        let config = self.file.load()?.config;
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes()).map_err(|_| {
            say_error(&format!("{:?} is no method", self.method));
            Failed::Usage
        })?;
        match explain(&config, &method, &self.url) {
            Ok(lines) => {
                lines.iter().for_each(|line| say(line));
                Ok(())
            }
            Err(refusal) => {
                say(&format!("refused: {} {}", refusal.code.status().as_u16(), refusal.code.as_str()));
                say(&format!("    why:  {}", refusal.detail));
                say(&format!("    hint: {}", refusal.hint));
                Err(Failed::AtRunTime)
            }
        }
    }
}

fn explain(config: &Config, method: &Method, url: &str) -> Result<Vec<String>, Refusal> {
    let (listening, through) = listening(config, url);
    let named = Named { method, request_target: url.as_bytes(), host: None };
    let target = target::decide(&listening, named)?;
    let mut lines = vec![
        format!("listener: {through}"),
        format!("target:   {} {}{}", target.scheme.as_str(), target.authority(), target.path()),
    ];

    let table = Table::new(config.routes.iter().map(|route| (route.clone(), route)));
    let route = table.find(target.host.as_str(), target.port, target.path(), method);
    let route = route.map_err(|Ambiguous| target.ambiguous())?.copied();
    if *listening.role == Role::Forward && target.scheme == Scheme::Https {
        lines.push(tunnel(config, &table, &target));
    }
    let Some(route) = route else {
        return unmatched(config, &target, method).map(|more| {
            lines.extend(more);
            lines
        });
    };
    lines.push(format!(
        "route:    line {}: host {}{}{}",
        route.line,
        route.host,
        route.path_prefix.as_ref().map(|p| format!(", path_prefix {p}")).unwrap_or_default(),
        route
            .methods
            .as_ref()
            .map(|m| format!(", methods {}", m.iter().map(Method::as_str).collect::<Vec<_>>().join(" ")))
            .unwrap_or_default(),
    ));
    let destination = Destination::of(&target, Some(route), &config.egress_proxy);
    lines.push(goes_to(&destination));
    lines.extend(through_proxy(&destination, &route.egress_proxy));
    lines.push(format!("Host:     {}", destination.authority()));
    match route.profile.as_ref().and_then(|name| config.profiles.get(name)) {
        None => lines.push("profile:  none: forwarded bare, the client's own Authorization stays".to_owned()),
        Some(profile) => {
            lines.push(format!("profile:  {}", profile.name));
            let own = match &profile.placement {
                Placement::Header { name, prefix } => {
                    let header = wire_name(name);
                    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix} ") };
                    lines.push(format!("header:   {header}: {prefix}<token>"));
                    header
                }
                Placement::Query { parameter } => {
                    if let Some(refusal) = target.no_query(parameter) {
                        return Err(refusal);
                    }
                    lines.push(format!("query:    {parameter}=<token>"));
                    format!("parameter {parameter}")
                }
                Placement::Signature { fields } => {
                    let names: Vec<String> = fields.iter().map(wire_name).collect();
                    lines.push(format!("signed:   {}", names.join(", ")));
                    names.into_iter().next().unwrap_or_default()
                }
            };
            if let Some(proxy) = profile.kind.proxy() {
                lines.push(format!("token:    fetched through egress proxy {}", proxy.name()));
            }
            lines.push(match profile.existing {
                Existing::Replace => format!("existing: the client's own {own} is replaced"),
                Existing::Keep => format!("existing: if the client sends its own {own}, nothing is injected"),
                Existing::Reject => format!("existing: if the client sends its own {own}, it is refused (400)"),
            });
            if profile.on_unavailable == OnUnavailable::Pass {
                lines.push("note:     without a token it is forwarded without any credential".to_owned());
            }
            if destination.scheme == Scheme::Http && !destination.host.is_loopback() {
                lines.push("warning:  the token goes out in clear text".to_owned());
            }
        }
    }
    lines.push("removed:  Proxy-Authorization, Proxy-Connection, Keep-Alive, TE, and what Connection names".to_owned());
    Ok(lines)
}

/// What becomes of a CONNECT, with which most clients begin for an `https://` URL.
fn tunnel(config: &Config, table: &Table<&Route>, target: &Target) -> String {
    let (host, port) = (target.host.as_str(), target.port);
    let told = if table.intercepts(host, port) {
        "CONNECT is intercepted: the client has to trust the file that `lanyard ca path` names"
    } else if config.forward.connect == ConnectPolicy::Deny {
        "CONNECT is refused (403 connect_denied)"
    } else if table.knows(host, port) {
        "CONNECT passes by without a token: set intercept = true on the route, or have the client use http://"
    } else {
        "CONNECT passes by"
    };
    format!("tunnel:   {told}")
}

fn unmatched(config: &Config, target: &Target, method: &Method) -> Result<Vec<String>, Refusal> {
    match config.forward.unmatched {
        Unmatched::Pass => {
            let destination = Destination::of(target, None, &config.egress_proxy);
            let route = "route:    none: forwarded without a credential (forward.unmatched = \"pass\")".to_owned();
            Ok([route, goes_to(&destination)]
                .into_iter()
                .chain(through_proxy(&destination, &config.egress_proxy))
                .collect())
        }
        Unmatched::Deny => Err(Refusal::new(
            crate::proxy::refusal::Code::RouteDenied,
            format!(
                "no route is for {method} {}{}, and forward.unmatched is \"deny\"",
                target.authority(),
                target.path()
            ),
            "add a route for it (profile = \"none\" to forward it bare)",
        )),
    }
}

fn goes_to(destination: &Destination) -> String {
    format!(
        "goes to:  {}://{}{}",
        destination.scheme.as_str(),
        destination.authority(),
        destination.path_and_query.split('?').next().unwrap_or_default()
    )
}

/// The egress proxy on the way, where there could be one.
fn through_proxy(destination: &Destination, egress: &Egress) -> Option<String> {
    match &destination.through {
        Some(proxy) => Some(format!("through:  egress proxy {} (CONNECT {})", proxy.name(), destination.name())),
        None if egress.is_direct() => None,
        None => Some("through:  nothing: no_proxy names it, or no proxy is for its scheme".to_owned()),
    }
}

/// The reverse listener whose address the URL has, or a forward one.
fn listening(config: &Config, url: &str) -> (Listening, String) {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()).unwrap_or_default();
    let reverse = config.listeners.iter().find(|listener| {
        let address = listener.address.to_string();
        let port = address.rsplit_once(':').map(|(_, port)| port);
        let local = authority.rsplit_once(':').is_some_and(|(host, p)| {
            Some(p) == port && crate::route::pattern::Host::parse(host).is_ok_and(|host| host.is_loopback())
        });
        matches!(listener.mode, ListenerMode::Reverse(_)) && (address == authority || local)
    });
    match reverse {
        Some(listener) => {
            let listening = Listening { role: Arc::new(Role::from(listener)), local: None, original: None };
            (listening, format!("{} (reverse)", listener.address))
        }
        None => {
            let listening = Listening { role: Arc::new(Role::Forward), local: None, original: None };
            // What is redirected takes the same routes; without one it goes to the address that it was meant for.
            let has = |mode| config.listeners.iter().any(|listener| listener.mode == mode);
            let transparent = !has(ListenerMode::Forward) && has(ListenerMode::Transparent);
            (listening, if transparent { "transparent" } else { "forward" }.to_owned())
        }
    }
}
