//! `/config`: the running configuration with every default filled in, and no secret.

mod kind;

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    config::{
        Config, ConnectPolicy, Existing, Listener, ListenerMode, LogFormat, OnUnavailable, Placement, Profile, Route,
        TokenEndpoint, TokenGiven, Unmatched, Upstream,
    },
    egress::{Egress, Proxy},
    secret::SecretSource,
};

/// The whole of it, in the keys of `proxy.toml`.
pub(super) fn config(config: &Config) -> Value {
    let profiles: Map<String, Value> = config.profiles.values().map(|p| (p.name.to_string(), profile(p))).collect();
    let limits = &config.limits;
    json!({
        "listeners": config.listeners.iter().map(listener).collect::<Vec<_>>(),
        "admin": { "address": config.admin.address.to_string() },
        "token_endpoint": config.token_endpoint.as_ref().map(token_endpoint),
        "forward": {
            "unmatched": match config.forward.unmatched { Unmatched::Pass => "pass", Unmatched::Deny => "deny" },
            "connect": match config.forward.connect { ConnectPolicy::Tunnel => "tunnel", ConnectPolicy::Deny => "deny" },
        },
        "egress_proxy": egress(&config.egress_proxy),
        "profiles": profiles,
        "routes": config.routes.iter().map(route).collect::<Vec<_>>(),
        "ca": {
            "directory": config.ca.directory.as_ref().map(|directory| directory.display().to_string()),
            "ephemeral": config.ca.ephemeral,
        },
        "limits": {
            "max_connections": limits.max_connections,
            "header_timeout": duration(limits.header_timeout),
            "max_header_size": limits.max_header_size,
            "max_headers": limits.max_headers,
            "idle_timeout": duration(limits.idle_timeout),
            "body_timeout": duration(limits.body_timeout),
            "drain_timeout": duration(limits.drain_timeout),
        },
        "log": {
            "format": config.log.format.map(|f| match f { LogFormat::Json => "json", LogFormat::Text => "text" }),
            "level": config.log.level().as_str().to_ascii_lowercase(),
            "access": config.log.access,
        },
    })
}

fn token_endpoint(endpoint: &TokenEndpoint) -> Value {
    let given = |given| match given {
        TokenGiven::Token => "token",
        TokenGiven::Placeholder => "placeholder",
    };
    let profiles = endpoint.profiles.iter().map(|(name, what)| (name.to_string(), json!(given(*what))));
    json!({
        "address": endpoint.address.to_string(),
        "profiles": profiles.collect::<Map<_, _>>(),
        "client_secret": endpoint.client_secret.as_ref().map(secret),
    })
}

fn listener(listener: &Listener) -> Value {
    json!({
        "address": listener.address.to_string(),
        "transparent": listener.mode == ListenerMode::Transparent,
        "upstream": match &listener.mode {
            ListenerMode::Reverse(to) => Some(upstream(to)),
            ListenerMode::Forward | ListenerMode::Transparent => None,
        },
        "allowed_hosts": listener.allowed_hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "allow_browsers": listener.allow_browsers,
    })
}

fn route(route: &Route) -> Value {
    json!({
        "host": route.host.to_string(),
        "path_prefix": route.path_prefix.as_ref().map(ToString::to_string),
        "methods": route.methods.as_ref().map(|m| m.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "profile": route.profile.as_deref().unwrap_or(crate::metrics::NO_PROFILE),
        "upstream": route.upstream.as_ref().map(upstream),
        "ca_file": route.ca_file.as_ref().map(|bundle| bundle.path.display().to_string()),
        "server_name": route.server_name.as_ref().map(ToString::to_string),
        "egress_proxy": egress(&route.egress_proxy),
        "connect_timeout": duration(route.connect_timeout),
        "response_timeout": duration(route.response_timeout),
        "intercept": route.intercept,
    })
}

fn profile(profile: &Profile) -> Value {
    let mut keys = kind::of(&profile.kind, &profile.placement);
    match &profile.placement {
        Placement::Header { name, prefix } => {
            keys.extend([("header".to_owned(), json!(name.as_str())), ("prefix".to_owned(), json!(prefix))])
        }
        Placement::Query { parameter } => drop(keys.insert("parameter".to_owned(), json!(parameter))),
        Placement::Signature { .. } => {}
    }
    keys.extend([
        (
            "existing".to_owned(),
            json!(match profile.existing {
                Existing::Replace => "replace",
                Existing::Keep => "keep",
                Existing::Reject => "reject",
            }),
        ),
        ("prefetch".to_owned(), json!(profile.prefetch)),
        ("required".to_owned(), json!(profile.required)),
        ("refresh_before".to_owned(), duration(profile.refresh_before)),
        ("default_token_lifetime".to_owned(), duration(profile.default_token_lifetime)),
        ("token_wait".to_owned(), duration(profile.token_wait)),
        ("idle_after".to_owned(), profile.idle_after.map_or(Value::Null, duration)),
        (
            "retry_statuses".to_owned(),
            json!(profile.retry_statuses.iter().map(http::StatusCode::as_u16).collect::<Vec<_>>()),
        ),
        ("replay_limit".to_owned(), json!(profile.replay_limit)),
        ("reject_interval".to_owned(), duration(profile.reject_interval)),
        (
            "on_unavailable".to_owned(),
            json!(match profile.on_unavailable {
                OnUnavailable::Fail => "fail",
                OnUnavailable::Pass => "pass",
            }),
        ),
    ]);
    Value::Object(keys)
}

fn secret(source: &SecretSource) -> Value {
    match source {
        SecretSource::File(path) => json!({ "file": path.display().to_string() }),
        SecretSource::Env(name) => json!({ "env": name }),
        SecretSource::Literal(_) => json!(REDACTED),
    }
}

/// What counts, wherever it was written: one proxy, or by the target's scheme where the environment names two.
fn egress(egress: &Egress) -> Value {
    let proxy = |proxy: &Option<Arc<Proxy>>| {
        proxy.as_ref().map(|proxy| {
            json!({
                "url": proxy.name(),
                "username": proxy.login.as_ref().map(|_| REDACTED),
                "password": proxy.login.as_ref().map(|login| secret(&login.password)),
            })
        })
    };
    let mut value = match (proxy(&egress.http), proxy(&egress.https)) {
        (None, None) => return json!("none"),
        (Some(http), Some(https)) if http == https => http,
        (http, https) => json!({ "http": http, "https": https }),
    };
    if let Value::Object(keys) = &mut value {
        keys.insert("no_proxy".to_owned(), json!(egress.no_proxy.to_string()));
    }
    value
}

fn upstream(to: &Upstream) -> String {
    format!("{}://{}:{}{}", to.scheme.as_str(), to.host, to.port, to.path.as_deref().unwrap_or_default())
}

fn duration(duration: Duration) -> Value {
    json!(format!("{duration:?}"))
}

const REDACTED: &str = "[redacted]";
