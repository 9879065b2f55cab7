//! `/status`: what an operator at 3 a.m. wants to know; never a token or a secret.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::snapshot::{Profile, Snapshot};

/// The whole of it.
pub(super) fn of(snapshot: &Snapshot) -> Value {
    let profiles: Map<String, Value> =
        snapshot.profiles.values().map(|p| (p.config.name.to_string(), profile(p))).collect();
    let routes: Vec<Value> = snapshot
        .config
        .routes
        .iter()
        .map(|route| {
            json!({
                "host": route.host.to_string(),
                "path_prefix": route.path_prefix.as_ref().map(ToString::to_string),
                "methods": route.methods.as_ref().map(|m| m.iter().map(ToString::to_string).collect::<Vec<_>>()),
                "profile": route.profile.as_deref().unwrap_or(crate::metrics::NO_PROFILE),
                "line": route.line,
            })
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config_generation": snapshot.generation,
        "profiles": profiles,
        "routes": routes,
    })
}

fn profile(profile: &Profile) -> Value {
    let status = profile.slot.status();
    let token = status.token.map(|(serial, age, left)| {
        json!({
            "serial": serial,
            "age_seconds": age.as_secs(),
            "expires": left.is_some(),
            "expires_in_seconds": left.map(|left| left.as_secs()),
        })
    });
    let last_error = status.last_error.map(|error| {
        json!({
            "kind": error.kind.as_str(),
            "detail": error.detail,
            "hint": error.hint,
            "failures": status.failures,
            "retry_in_seconds": status.retry_after.map(|d| d.as_secs()),
        })
    });
    json!({
        "ready": token.is_some(),
        "required": profile.config.required,
        "token": token,
        "fetching": status.fetching,
        "token_requests": status.rounds,
        "last_success_timestamp": status.last_success.map(|(arrived, _)| unix_seconds(arrived)),
        "last_error": last_error,
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
