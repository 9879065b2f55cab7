//! The 401 loop: one rejected token costs one fetch, and the request goes out once more if its body can be replayed.

use std::sync::Arc;

use http::{StatusCode, header};
use pingora::{Error, ErrorType, http::ResponseHeader, proxy::Session};

use super::context::{Carried, Context};

/// The error that makes pingora send a request again.
pub const REJECTED: ErrorType = ErrorType::Custom("token_rejected");

/// What an upstream's answer means for the token it was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// The token is no longer good.
    Rejected,
}

/// Decides it. `insufficient_scope` (RFC 6750 3.1) is a refusal that no new token mends.
pub fn verdict(answer: &ResponseHeader, retry_statuses: &[StatusCode]) -> Verdict {
    let refused = retry_statuses.contains(&answer.status);
    let wants_scope = answer.headers.get_all(header::WWW_AUTHENTICATE).iter().any(|challenge| {
        challenge
            .to_str()
            .is_ok_and(|text| text.to_ascii_lowercase().replace([' ', '"'], "").contains("error=insufficient_scope"))
    });
    if refused && !wants_scope { Verdict::Rejected } else { Verdict::Fine }
}

/// After an answer: fetches a new token if this one was rejected, and gives the error that sends the request again.
/// Where that cannot be, the answer goes back to the client, and the next request has the new token.
pub async fn after_answer(session: &mut Session, context: &mut Context, answer: &ResponseHeader) -> Option<Box<Error>> {
    let Carried::Token { profile, token } = &context.credential else { return None };
    if context.retried || verdict(answer, &profile.config.retry_statuses) == Verdict::Fine {
        return None;
    }
    let profile = Arc::clone(profile);
    let newer = profile.slot.reject(token.serial, context.request_id).await?;
    let body = session.as_ref();
    if body.retry_buffer_truncated() || body.body_bytes_read() > profile.config.replay_limit {
        return None;
    }
    context.retried = true;
    context.credential = Carried::Token { profile, token: newer };
    let mut again = Error::explain(REJECTED, "sent again with a new token");
    again.set_retry(true);
    Some(again.into_up())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insufficient_scope_is_no_rejection() {
        let statuses = [StatusCode::UNAUTHORIZED];
        for (status, challenge, expected) in [
            (401, None, Verdict::Rejected),
            (401, Some("Bearer error=\"invalid_token\""), Verdict::Rejected),
            (401, Some("Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"a\""), Verdict::Fine),
            (401, Some("Bearer error = insufficient_scope"), Verdict::Fine),
            (403, None, Verdict::Fine),
            (200, None, Verdict::Fine),
        ] {
            let mut answer = ResponseHeader::build(status, None).unwrap();
            if let Some(challenge) = challenge {
                answer.insert_header(header::WWW_AUTHENTICATE, challenge).unwrap();
            }
            assert_eq!(verdict(&answer, &statuses), expected, "{status} {challenge:?}");
        }
    }
}
