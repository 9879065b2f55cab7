//! One event a request: where it went, as whom, how it ended and how long it took. Never a query, a header or a body.

use super::context::{Carried, Context};
use crate::telemetry::millis;

/// Writes it.
pub(super) fn write(context: &Context, method: &str, status: u16, error: Option<&'static str>) {
    let outcome = context.outcome().as_str();
    let profile = context.profile().map(|profile| &*profile.config.name);
    let serial = match &context.credential {
        Carried::Token { token, .. } => Some(token.serial),
        Carried::Nothing(_) | Carried::Stripped(_) => None,
    };
    let withheld = match &context.credential {
        Carried::Nothing(why) if profile.is_some() && context.refusal.is_none() => Some(*why),
        Carried::Stripped(_) => Some("unavailable"),
        _ => None,
    };
    tracing::info!(
        request_id = %context.request_id,
        listener = context.connection.as_ref().map(|c| &*c.listener),
        client = context.connection.as_ref().and_then(|c| c.peer).map(tracing::field::display),
        method,
        target = context.target.as_ref().map(|t| tracing::field::display(t.authority())),
        original = context
            .connection
            .as_ref()
            .and_then(|connection| connection.listening.original)
            .map(tracing::field::display),
        path = context.target.as_ref().map(super::target::Target::path),
        upstream = context.destination.as_ref().map(|d| tracing::field::display(d.name())),
        egress_proxy = context.destination.as_ref().and_then(|d| d.through.as_ref()).map(|proxy| proxy.name()),
        profile,
        outcome,
        status,
        upstream_status = context.upstream_status,
        serial,
        withheld,
        retried = context.retried,
        sends = context.sends,
        token_wait_ms = millis(context.token_wait),
        duration_ms = millis(context.elapsed()),
        code = context.refusal.as_ref().map(|r| r.code.as_str()),
        detail = context.refusal.as_ref().map(|r| &*r.detail),
        hint = context.refusal.as_ref().map(|r| &*r.hint),
        error,
        "request"
    );
}
