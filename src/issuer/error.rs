//! Errors as RFC 6749 5.2 has them: a code, a description that says what to change, the right status.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A refusal of the token, introspection or revocation endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OAuthError {
    pub(super) code: &'static str,
    pub(super) description: String,
}

impl OAuthError {
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { code, description: description.into() }
    }

    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn invalid_client() -> Self {
        Self::new("invalid_client", "Client authentication failed")
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code, "error_description": self.description });
        if self.code == "invalid_client" {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"lanyard issuer\"")];
            return (StatusCode::UNAUTHORIZED, challenge, no_store(&body)).into_response();
        }
        (StatusCode::BAD_REQUEST, no_store(&body)).into_response()
    }
}

/// JSON that nobody may keep (RFC 6749 5.1).
pub(super) fn no_store(body: &serde_json::Value) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    (headers, body.to_string()).into_response()
}
