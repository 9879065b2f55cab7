//! The error answers of the authorization server: RFC 6749 section 5.2, and the HTTP errors around it.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::dpop::{Nonces, Refusal};

/// An error code of an OAuth endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    /// RFC 8707 section 2: an audience or resource that is malformed or not allowed.
    InvalidTarget,
    /// RFC 9449 section 5: the DPoP proof is no good.
    InvalidDpopProof,
    /// RFC 9449 section 8: it has no nonce, or not one that is good; `DPoP-Nonce` has another.
    UseDpopNonce,
    NotFound,
    ServerError,
}

impl Code {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::NotFound => "not_found",
            Self::ServerError => "server_error",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidScope
            | Self::InvalidTarget
            | Self::InvalidDpopProof
            | Self::UseDpopNonce => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request that is refused, and why. It never holds a secret or a token.
#[derive(Debug)]
pub(super) struct OAuthError {
    pub(super) code: Code,
    description: String,
    status: StatusCode,
}

impl OAuthError {
    pub(super) fn new(code: Code, description: impl AsRef<str>) -> Self {
        Self { code, description: describable(description.as_ref()), status: code.status() }
    }

    pub(super) fn invalid_request(description: impl AsRef<str>) -> Self {
        Self::new(Code::InvalidRequest, description)
    }

    pub(super) fn invalid_client(description: impl AsRef<str>) -> Self {
        Self::new(Code::InvalidClient, description)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        let error = Self::invalid_request(format!("The body is larger than {} KiB", limit / 1024));
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..error }
    }

    pub(super) fn body_too_slow() -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, ..Self::invalid_request("The body did not arrive in time") }
    }

    pub(super) fn method_not_allowed() -> Self {
        let error = Self::invalid_request("Method not allowed; the Allow header names those that are");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, ..error }
    }

    pub(super) fn no_such_endpoint(path: &str) -> Self {
        let start: String = path.chars().take(100).collect();
        let text = format!("No endpoint {start}; /.well-known/oauth-authorization-server names the endpoints");
        Self::new(Code::NotFound, text)
    }

    pub(super) fn no_such_tenant() -> Self {
        Self::new(Code::NotFound, "A tenant's name is 1 to 64 letters, digits, - and _")
    }
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(problem) => Self::new(Code::InvalidDpopProof, format!("DPoP: {problem}")),
            Refusal::Nonce => Self::new(Code::UseDpopNonce, NEEDS_NONCE),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code.as_str(), "error_description": self.description });
        let mut response = (self.status, uncached(&body)).into_response();
        if self.code == Code::InvalidClient {
            let challenge = HeaderValue::from_static("Basic realm=\"lanyard issuer\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Puts the nonce for the next proof into an answer (RFC 9449 section 8.2).
pub(super) fn add_nonce(response: &mut Response, nonces: Option<&Nonces>, now: u64) {
    if let Some(nonce) = nonces.and_then(|nonces| HeaderValue::from_str(&nonces.current(now)).ok()) {
        response.headers_mut().insert("dpop-nonce", nonce);
    }
}

/// A JSON answer that no cache may keep (RFC 6749 section 5.1).
pub(super) fn uncached(body: &impl Serialize) -> Response {
    let mut response = json(body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// A JSON answer.
pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The text with what `error_description` may not hold (RFC 6749 section 5.2) replaced; also fit for a quoted string in a header.
pub(super) fn describable(text: &str) -> String {
    let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    text.chars().map(|c| if allowed(c) { c } else { '?' }).collect()
}

/// What to do about [`Refusal::Nonce`].
pub(super) const NEEDS_NONCE: &str = "The DPoP proof needs the nonce in the DPoP-Nonce header of this answer";
