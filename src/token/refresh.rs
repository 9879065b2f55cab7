//! The one task of a slot: fetches when a token is due, wanted or refused, and waits out failures.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::task::JoinSet;

use super::{
    schedule,
    slot::{Form, Reason, Shared, Token, Wanted},
};
use crate::{
    clock::Moment,
    config::Placement,
    credential::{Credential, FetchError, FetchErrorKind, Fetched, Material},
    route::query,
    secret::Secret,
};

/// Runs until it is aborted (when the last handle of the slot is dropped).
pub(super) async fn run(shared: Arc<Shared>, credential: Arc<dyn Credential>) {
    let mut serial = 0;
    loop {
        match next_step(&shared) {
            Step::Fetch(wanted) => round(&shared, &credential, wanted, &mut serial).await,
            Step::Wait(Some(until)) => {
                // Tokio's clock stops while the machine sleeps: look at the real one now and then.
                let nap = (until - shared.clock.now()).min(LONGEST_NAP);
                tokio::select! {
                    () = tokio::time::sleep(nap) => {}
                    () = shared.wake.notified() => {}
                }
            }
            Step::Wait(None) => shared.wake.notified().await,
        }
    }
}

/// What the task does next.
enum Step {
    Fetch(Wanted),
    /// Until this moment, or until somebody wants something.
    Wait(Option<Moment>),
}

/// Decides it from what is there: nothing is remembered between two steps.
fn next_step(shared: &Shared) -> Step {
    let now = shared.clock.now();
    let mut step = Step::Wait(None);
    shared.rounds.send_if_modified(|rounds| {
        let current = shared.current.load();
        let usable = current.as_ref().is_some_and(|token| now < token.expires_at);
        if usable && matches!(&rounds.wanted, Some(w) if w.reason == Reason::Demand) {
            rounds.wanted = None;
        }
        let wanted = rounds.wanted.clone();
        let forced = matches!(&wanted, Some(w) if matches!(w.reason, Reason::Rejected | Reason::SourceChanged));
        let at_will = |reason| Wanted { reason, request_id: None };

        let (due, wanted) = if let Some(wanted) = wanted {
            // A failure's back-off was asked about before the wish was taken, and a changed secret is worth a try.
            (if forced { now } else { rounds.earliest() }, wanted)
        } else if shared.is_idle(now) {
            return false;
        } else if matches!(rounds.outcome, Some(Err(_))) {
            (rounds.retry_at.max(rounds.earliest()), at_will(Reason::Retry))
        } else if let Some(token) = current.as_ref() {
            (token.refresh_at.max(rounds.earliest()), at_will(Reason::Refresh))
        } else if shared.policy.prefetch && rounds.started == 0 {
            (now, at_will(Reason::Prefetch))
        } else {
            return false;
        };
        if due > now {
            step = Step::Wait(Some(due));
            return false;
        }
        rounds.wanted = None;
        rounds.started += 1;
        rounds.started_at = Some(now);
        step = Step::Fetch(wanted);
        false
    });
    step
}

/// One token request, from asking to telling everyone who waits.
async fn round(shared: &Shared, credential: &Arc<dyn Credential>, wanted: Wanted, serial: &mut u64) {
    let asked = shared.clock.now();
    let fetched = fetch(credential).await;
    let now = shared.clock.now();
    let took = now - asked;

    let outcome = fetched.and_then(|fetched| {
        *serial += 1;
        let warning = fetched.warning.clone();
        Ok((Arc::new(token(shared, fetched, asked, *serial)?), warning))
    });
    log(shared, &wanted, &outcome, took);
    shared.metrics.token_request(outcome.as_ref().map_or_else(|e| e.kind.as_str(), |_| "success"), took.as_secs_f64());

    let outcome = match outcome {
        Ok((token, _)) => {
            if token.expires_at > token.fetched_at {
                shared.current.store(Some(Arc::clone(&token)));
            }
            Ok(token)
        }
        Err(error) => Err(Arc::new(error)),
    };
    shared.rounds.send_modify(|rounds| {
        match &outcome {
            Ok(token) => {
                let arrived = SystemTime::now();
                rounds.failures = 0;
                let expires = token.expires().then(|| arrived + (token.expires_at - now));
                rounds.last_success = Some((arrived, expires));
            }
            Err(error) => {
                rounds.failures = rounds.failures.saturating_add(1);
                let wait = schedule::backoff(rounds.failures, error.is_transient(), error.retry_after, fastrand::f64());
                rounds.retry_at = now + wait;
            }
        }
        // A wish for any token is met by this round, whatever it brought; a changed source may have come too late.
        if rounds.wanted.as_ref().is_some_and(|wanted| wanted.reason != Reason::SourceChanged) {
            rounds.wanted = None;
        }
        rounds.outcome = Some(outcome);
        rounds.finished = rounds.started;
    });
}

/// Fetches in a task of its own: a panic in a credential is a failed fetch, and not the end of the profile.
async fn fetch(credential: &Arc<dyn Credential>) -> Result<Fetched, FetchError> {
    let mut task = JoinSet::new();
    let credential = Arc::clone(credential);
    task.spawn(async move { credential.fetch().await });
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Err(FetchError {
            kind: FetchErrorKind::InvalidResponse,
            detail: "the token request ended in an internal error of lanyard".to_owned(),
            hint: "report it, with the log line that names the file and line of the panic".to_owned(),
            retry_after: None,
        }),
    }
}

/// The token as requests will carry it.
fn token(shared: &Shared, fetched: Fetched, asked: Moment, serial: u64) -> Result<Token, FetchError> {
    let policy = &shared.policy;
    let lifetime = fetched.lifetime.unwrap_or(policy.default_token_lifetime);
    let refresh_after = schedule::refresh_after(lifetime, policy.refresh_before, fastrand::f64());
    Ok(Token {
        form: form(&policy.placement, fetched.material)?,
        serial,
        fetched_at: asked,
        expires_at: asked + lifetime,
        refresh_at: asked + refresh_after,
    })
}

/// A credential in the form that requests carry.
fn form(placement: &Placement, material: Material) -> Result<Form, FetchError> {
    match (placement, material) {
        (_, Material::Signer(signer)) => Ok(Form::Signer(signer)),
        (Placement::Header { prefix, .. }, Material::Token(token)) => header_value(prefix, &token).map(Form::Header),
        (Placement::Query { .. }, Material::Token(token)) => Ok(Form::Query(query::encode(&token))),
        (Placement::Signature { .. }, Material::Token(_)) => Err(FetchError {
            kind: FetchErrorKind::InvalidResponse,
            detail: "a token came where requests have to be signed".to_owned(),
            hint: "report it".to_owned(),
            retry_after: None,
        }),
    }
}

fn header_value(prefix: &str, token: &Secret) -> Result<HeaderValue, FetchError> {
    let text = if prefix.is_empty() {
        Secret::new(token.expose())
    } else {
        Secret::new(format!("{prefix} {}", token.expose()))
    };
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_| FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: "the token cannot stand in a header field: it has a line end or another control character".to_owned(),
        hint: "look at what the provider puts into access_token".to_owned(),
        retry_after: None,
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn log(shared: &Shared, wanted: &Wanted, outcome: &Result<(Arc<Token>, Option<String>), FetchError>, took: Duration) {
    let profile = &*shared.policy.profile;
    let request_id = wanted.request_id.unwrap_or_default();
    let reason = wanted.reason.as_str();
    let duration_ms = took.as_secs_f64() * 1000.0;
    match outcome {
        Ok((token, warning)) => {
            // Not told of what does not expire.
            let lifetime_s = token.expires().then(|| (token.expires_at - token.fetched_at).as_secs());
            tracing::info!(
                profile,
                %request_id,
                reason,
                duration_ms,
                serial = token.serial,
                lifetime_s,
                "token fetched"
            );
            if let Some(warning) = warning {
                tracing::warn!(profile, %request_id, warning, "token fetched, with a warning");
            }
            if lifetime_s == Some(0) {
                tracing::warn!(profile, %request_id, "token is already expired: it is not cached");
            }
        }
        Err(error) => {
            let (kind, detail, hint) = (error.kind.as_str(), &*error.detail, &*error.hint);
            let serving = shared.usable(shared.clock.now()).is_some();
            if serving && error.is_transient() {
                tracing::warn!(
                    profile,
                    %request_id,
                    reason,
                    duration_ms,
                    kind,
                    detail,
                    hint,
                    serving,
                    "token request failed"
                );
            } else {
                tracing::error!(
                    profile,
                    %request_id,
                    reason,
                    duration_ms,
                    kind,
                    detail,
                    hint,
                    serving,
                    "token request failed"
                );
            }
        }
    }
}

/// After a sleep of the machine the real clock is looked at within this time.
const LONGEST_NAP: Duration = Duration::from_secs(30);
