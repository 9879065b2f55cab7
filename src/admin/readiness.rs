//! What `/startupz` and `/readyz` still wait for, and why.

use serde_json::{Value, json};

use crate::snapshot::{Profile, Snapshot};

/// Profiles with `prefetch` whose first answer is out.
pub(super) fn awaited_at_start(snapshot: &Snapshot) -> Vec<Value> {
    let profiles = snapshot.profiles.values();
    profiles.filter(|p| p.config.prefetch && !p.slot.has_answer()).map(|p| told(p)).collect()
}

/// Profiles that are `required`, were fetched once or are being prefetched, and have no usable token.
pub(super) fn awaited(snapshot: &Snapshot) -> Vec<Value> {
    let profiles = snapshot.profiles.values();
    let counts = |p: &Profile| p.config.required && (p.config.prefetch || p.slot.has_answer());
    profiles.filter(|p| counts(p) && !p.slot.is_ready() && !sleeps(p)).map(|p| told(p)).collect()
}

/// A profile that stopped refreshing because nobody used it is not broken.
fn sleeps(profile: &Profile) -> bool {
    profile.config.idle_after.is_some() && profile.slot.has_answer() && profile.slot.status().last_error.is_none()
}

fn told(profile: &Profile) -> Value {
    let status = profile.slot.status();
    let error = status.last_error.as_deref();
    json!({
        "profile": &*profile.config.name,
        "error": error.map(|e| &*e.detail),
        "hint": error.map(|e| &*e.hint),
        "retry_in_seconds": status.retry_after.map(|d| d.as_secs()),
    })
}
