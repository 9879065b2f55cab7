//! Every reason not to forward a request, and the one table that maps it to a status.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use serde::Serialize;

use crate::telemetry::RequestId;

/// A request that is not forwarded: why, and what to do about it. Never holds a token or a secret.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which reason.
    pub code: Code,
    /// What happened, in one line.
    pub detail: String,
    /// What to do about it, in one line.
    pub hint: String,
    /// The profile that the request would have taken.
    pub profile: Option<Arc<str>>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident;)+) => {
        /// The reasons; each has one name and one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name in answers, logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The status that a client sees.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }
        }
    };
}

codes! {
    /// The target cannot be told, or the request is not well-formed.
    BadRequest = "bad_request", BAD_REQUEST;
    /// TRACE.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// The head is larger than `max_header_size` or has more than `max_headers` fields.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The head did not arrive within `header_timeout`.
    HeaderTimeout = "header_timeout", REQUEST_TIMEOUT;
    /// No byte of the body arrived for `body_timeout`.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// No route is for it and `forward.unmatched` is `deny`, or its address is never dialled.
    RouteDenied = "route_denied", FORBIDDEN;
    /// CONNECT where tunnels are not allowed.
    ConnectDenied = "connect_denied", FORBIDDEN;
    /// It would come back to lanyard itself.
    LoopDetected = "loop_detected", LOOP_DETECTED;
    /// Its Host does not mean this listener.
    Misdirected = "misdirected", MISDIRECTED_REQUEST;
    /// The profile signs requests, and this one cannot be signed: its body is too large for that.
    Unsignable = "unsignable", PAYLOAD_TOO_LARGE;
    /// The profile acts on behalf of its callers, and the request does not say on whose.
    SubjectTokenMissing = "subject_token_missing", UNAUTHORIZED;
    /// The same, and the authorization server does not take the token that it came with.
    SubjectTokenRefused = "subject_token_refused", UNAUTHORIZED;
    /// The profile has no token.
    TokenUnavailable = "token_unavailable", SERVICE_UNAVAILABLE;
    /// The upstream's name does not resolve.
    UpstreamUnresolved = "upstream_unresolved", BAD_GATEWAY;
    /// No connection to the upstream, or it broke before an answer.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY;
    /// The upstream's certificate is not good, or TLS failed otherwise.
    UpstreamTls = "upstream_tls", BAD_GATEWAY;
    /// The upstream's answer is not HTTP.
    UpstreamProtocol = "upstream_protocol", BAD_GATEWAY;
    /// No connection within `connect_timeout`, or no answer within `response_timeout`.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT;
    /// `max_connections` are open.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE;
    /// An error of lanyard's own.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR;
}

impl Code {
    /// How a client is to prove itself (RFC 6750 3), where that is what it lacks.
    const fn challenge(self) -> Option<&'static str> {
        match self {
            Self::SubjectTokenMissing => Some("Bearer"),
            Self::SubjectTokenRefused => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }

    /// Whether the upstream is at fault, and not the request or us.
    pub const fn is_of_upstream(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnresolved
                | Self::UpstreamUnreachable
                | Self::UpstreamTls
                | Self::UpstreamProtocol
                | Self::UpstreamTimeout
        )
    }
}

impl Refusal {
    /// A refusal with its reason, what happened, and what to do.
    pub fn new(code: Code, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), hint: hint.into(), profile: None, retry_after: None }
    }

    /// The same, naming the profile that the request would have taken.
    pub fn for_profile(mut self, profile: &Arc<str>) -> Self {
        self.profile = Some(Arc::clone(profile));
        self
    }

    /// The same, saying when to try again.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The answer's body: one JSON object and a line end.
    pub fn body(&self, request_id: RequestId) -> Bytes {
        let body = Body {
            error: self.code.as_str(),
            detail: &self.detail,
            hint: &self.hint,
            profile: self.profile.as_deref(),
            request_id: &request_id.to_string(),
        };
        let mut bytes = serde_json::to_vec(&body).unwrap_or_default();
        bytes.push(b'\n');
        bytes.into()
    }

    /// The answer for a session of pingora's.
    ///
    /// # Errors
    /// None in practice: every name and value is legal.
    pub fn header(&self, body: &Bytes) -> pingora::Result<ResponseHeader> {
        let mut answer = ResponseHeader::build(self.code.status(), Some(6))?;
        answer.insert_header(header::CONTENT_TYPE, "application/json")?;
        answer.insert_header(header::CONTENT_LENGTH, body.len())?;
        answer.insert_header(header::CACHE_CONTROL, "no-store")?;
        answer.insert_header("X-Lanyard-Error", self.code.as_str())?;
        if let Some(seconds) = self.retry_after_seconds() {
            answer.insert_header(header::RETRY_AFTER, seconds)?;
        }
        if let Some(challenge) = self.code.challenge() {
            answer.insert_header(header::WWW_AUTHENTICATE, challenge)?;
        }
        if self.code == Code::MethodNotAllowed {
            answer.insert_header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")?;
        }
        Ok(answer)
    }

    /// The whole answer as bytes, for a connection that never became a session.
    pub fn to_http1(&self, request_id: RequestId) -> Vec<u8> {
        let body = self.body(request_id);
        let status = self.code.status();
        let retry_after =
            self.retry_after_seconds().map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let challenge = self.code.challenge();
        let challenge = challenge.map(|text| format!("WWW-Authenticate: {text}\r\n")).unwrap_or_default();
        let mut answer = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Lanyard-Error: {}\r\n{retry_after}{challenge}Connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len(),
            self.code.as_str(),
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        answer
    }

    /// Whole seconds, rounded up, at least one.
    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|wait| wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    detail: &'a str,
    hint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    request_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_statuses_of_the_contract() {
        for (code, status) in [
            ("bad_request", 400),
            ("method_not_allowed", 405),
            ("headers_too_large", 431),
            ("header_timeout", 408),
            ("route_denied", 403),
            ("connect_denied", 403),
            ("loop_detected", 508),
            ("misdirected", 421),
            ("unsignable", 413),
            ("subject_token_missing", 401),
            ("subject_token_refused", 401),
            ("token_unavailable", 503),
            ("upstream_unresolved", 502),
            ("upstream_unreachable", 502),
            ("upstream_tls", 502),
            ("upstream_timeout", 504),
            ("overloaded", 503),
        ] {
            let found = Code::ALL.iter().find(|c| c.as_str() == code).unwrap();
            assert_eq!(found.status().as_u16(), status, "{code}");
        }
    }

    #[test]
    fn an_answer_says_what_where_and_what_to_do() {
        let refusal = Refusal::new(Code::TokenUnavailable, "it \"failed\"", "mend it")
            .for_profile(&"billing".into())
            .retry_after(Duration::from_millis(1200));
        let id = RequestId::new();
        let body = refusal.body(id);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            format!(
                "{{\"error\":\"token_unavailable\",\"detail\":\"it \\\"failed\\\"\",\"hint\":\"mend it\",\
                 \"profile\":\"billing\",\"request_id\":\"{id}\"}}\n"
            )
        );
        let header = refusal.header(&body).unwrap();
        assert_eq!(header.status, 503);
        for (name, value) in [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("x-lanyard-error", "token_unavailable"),
            ("retry-after", "2"),
        ] {
            assert_eq!(header.headers.get(name).unwrap(), value);
        }
        let bytes = String::from_utf8(refusal.to_http1(id)).unwrap();
        assert!(bytes.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{bytes}");
        assert!(
            bytes.contains("\r\nRetry-After: 2\r\n") && bytes.ends_with(&format!("\"request_id\":\"{id}\"}}\n")),
            "{bytes}"
        );
    }
}
