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

/// What an upstream wants, as far as its `WWW-Authenticate` says what a new token would not mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Another scope: `insufficient_scope` (RFC 6750 3.1).
    Scope,
    /// A proof with its nonce: `use_dpop_nonce` (RFC 9449 9).
    Nonce,
    /// Anything else.
    Other,
}

impl Challenge {
    /// What the fields of an answer say.
    pub fn read<F: Fields + ?Sized>(fields: &F) -> Self {
        let mut found = Self::Other;
        for field in fields.all(&header::WWW_AUTHENTICATE) {
            let text = std::str::from_utf8(field).unwrap_or_default().to_ascii_lowercase().replace([' ', '"'], "");
            if text.contains("error=insufficient_scope") {
                return Self::Scope;
            }
            if text.contains("error=use_dpop_nonce") {
                found = Self::Nonce;
            }
        }
        found
    }
}

/// After an answer: fetches a new token if this one was rejected, or learns the nonce that its proof lacked. Whether the
/// request is to be sent again with it: not where it is the same text, nor where the body cannot be replayed. Then the answer
/// goes back to the client, and the next request has what this one lacked.
pub(super) async fn renew(
    context: &mut Context,
    status: StatusCode,
    nonce: Option<&HeaderValue>,
    challenge: impl FnOnce() -> Challenge,
    replays: impl Fn(usize) -> bool,
) -> bool {
    let Carried::Token { profile, subject, token: rejected } = &context.credential else { return false };
    let limit = profile.config.replay_limit;
    let is_401 = status == StatusCode::UNAUTHORIZED;
    let learns = if let (Form::Signer(signer), Some(nonce), Some(to)) = (&rejected.form, nonce, &context.destination) {
        signer.learn(to.scheme.as_str(), &to.authority(), nonce)
    } else {
        false
    };
    if !is_401 && !profile.config.retry_statuses.contains(&status) {
        return false;
    }
    let challenge = challenge();
    let wants_nonce = is_401 && challenge == Challenge::Nonce && matches!(rejected.form, Form::Signer(_));
    // The nonce need not be new: another request that was on its way at the same time may have learned it.
    if is_401 && (learns || wants_nonce) && !context.challenged && replays(limit) {
        context.challenged = true;
        return true;
    }
    // The token is good; the next request has the nonce.
    if wants_nonce || challenge == Challenge::Scope {
        return false;
    }
    if context.retried || !profile.config.retry_statuses.contains(&status) {
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
    if !renew(context, answer.status, nonce, || Challenge::read(&answer.headers), replays).await {
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
    fn what_a_new_token_does_not_mend_is_told_from_other_challenges() {
        for (challenge, expected) in [
            ("Bearer error=\"invalid_token\"", Challenge::Other),
            ("Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"a\"", Challenge::Scope),
            ("Bearer error = insufficient_scope", Challenge::Scope),
            ("DPoP error=\"use_dpop_nonce\", algs=\"ES256\"", Challenge::Nonce),
            ("DPoP error=\"invalid_dpop_proof\"", Challenge::Other),
        ] {
            let fields = [httparse::Header { name: "www-authenticate", value: challenge.as_bytes() }];
            assert_eq!(Challenge::read(&fields[..]), expected, "{challenge}");
        }
    }
}
