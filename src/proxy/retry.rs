//! The 401 loop: one rejected token costs one fetch, and the request goes out once more if its body can be replayed.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::{Error, ErrorType, http::ResponseHeader, proxy::Session};

use super::{
    admit::Fields,
    context::{Carried, Context},
};
use crate::token::Form;

/// The error that makes pingora send a request again.
pub const REJECTED: ErrorType = ErrorType::Custom("token_rejected");

/// Whether a challenge says `insufficient_scope` (RFC 6750 3.1): a refusal that no new token mends.
pub fn wants_scope<F: Fields + ?Sized>(fields: &F) -> bool {
    fields.all(&header::WWW_AUTHENTICATE).any(|challenge| {
        std::str::from_utf8(challenge)
            .is_ok_and(|text| text.to_ascii_lowercase().replace([' ', '"'], "").contains("error=insufficient_scope"))
    })
}

/// After an answer: fetches a new token if this one was rejected, or learns the nonce that its proof lacked. Whether the
/// request is to be sent again with it: not where it is the same text, nor where the body cannot be replayed. Then the answer
/// goes back to the client, and the next request has what this one lacked.
pub(super) async fn renew(
    context: &mut Context,
    status: StatusCode,
    nonce: Option<&HeaderValue>,
    wants_scope: impl FnOnce() -> bool,
    replays: impl Fn(usize) -> bool,
) -> bool {
    let Carried::Token { profile, subject, token: rejected } = &context.credential else { return false };
    let limit = profile.config.replay_limit;
    if let (Form::Signer(signer), Some(nonce), Some(to)) = (&rejected.form, nonce, &context.destination)
        && signer.learn(to.scheme.as_str(), &to.authority(), nonce)
        && status == StatusCode::UNAUTHORIZED
        && !context.challenged
        && replays(limit)
    {
        context.challenged = true;
        return true;
    }
    if context.retried || !profile.config.retry_statuses.contains(&status) || wants_scope() {
        return false;
    }
    let (profile, subject) = (Arc::clone(profile), subject.clone());
    let slot = subject.as_deref().unwrap_or(&profile.slot);
    let Some(newer) = slot.reject(rejected.serial, context.request_id).await else { return false };
    // A secret that was read anew and did not change would be refused once more.
    if newer.form.is_same(&rejected.form) || !replays(limit) {
        return false;
    }
    context.retried = true;
    context.credential = Carried::Token { profile, subject, token: newer };
    true
}

/// The time at an upstream (`Date`) that refused a request with this status, where signatures may be about it.
pub(super) fn refused_at<F: Fields + ?Sized>(status: StatusCode, fields: &F) -> Option<SystemTime> {
    if !matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
        return None;
    }
    let date = std::str::from_utf8(fields.all(&header::DATE).next()?).ok()?;
    httpdate::parse_http_date(date).ok()
}

/// Tells the signer, if there is one, when it was at the upstream that refused its request.
pub(super) fn tell(context: &Context, refused_at: Option<SystemTime>) {
    if let (Some(date), Some(signer)) = (refused_at, context.credential.signer()) {
        signer.refused_at(date);
    }
}

/// The error that sends a request of pingora's again, where that is to be.
pub(super) async fn after_answer(
    session: &Session,
    context: &mut Context,
    answer: &ResponseHeader,
) -> Option<Box<Error>> {
    tell(context, refused_at(answer.status, &answer.headers));
    let body = session.as_ref();
    let replays = |limit| !body.retry_buffer_truncated() && body.body_bytes_read() <= limit;
    let nonce = answer.headers.get(&DPOP_NONCE);
    if !renew(context, answer.status, nonce, || wants_scope(&answer.headers), replays).await {
        return None;
    }
    let mut again = Error::explain(REJECTED, "sent again with a new token");
    again.set_retry(true);
    Some(again.into_up())
}

/// RFC 9449 8.
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insufficient_scope_is_told_from_other_challenges() {
        for (challenge, expected) in [
            ("Bearer error=\"invalid_token\"", false),
            ("Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"a\"", true),
            ("Bearer error = insufficient_scope", true),
        ] {
            let fields = [httparse::Header { name: "www-authenticate", value: challenge.as_bytes() }];
            assert_eq!(wants_scope(&fields[..]), expected, "{challenge}");
        }
    }
}
