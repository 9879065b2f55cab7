//! Introspection (RFC 7662) and revocation (RFC 7009), for authenticated clients.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Issuer,
    client_auth::authenticate,
    error::{OAuthError, no_store},
};

pub(super) async fn introspect(State(issuer): State<Arc<Issuer>>, headers: HeaderMap, body: Bytes) -> Response {
    let token = match token(&issuer, &headers, &body) {
        Ok(token) => token,
        Err(error) => return error.into_response(),
    };
    no_store(&match issuer.verify(&token) {
        Err(_) => json!({ "active": false }),
        Ok(claims) => json!({
            "active": true,
            "scope": claims.scope,
            "client_id": claims.client_id,
            "token_type": "Bearer",
            "exp": claims.exp,
            "iat": claims.iat,
            "sub": claims.sub,
            "aud": claims.aud,
            "iss": claims.iss,
            "jti": claims.jti,
        }),
    })
}

pub(super) async fn revoke(State(issuer): State<Arc<Issuer>>, headers: HeaderMap, body: Bytes) -> Response {
    let token = match token(&issuer, &headers, &body) {
        Ok(token) => token,
        Err(error) => return error.into_response(),
    };
    // RFC 7009 2.2: a token that is not good any more is no error.
    if let Ok(claims) = issuer.verify(&token) {
        issuer.issued().revoked.insert(claims.jti);
    }
    no_store(&json!({}))
}

fn token(issuer: &Issuer, headers: &HeaderMap, body: &Bytes) -> Result<String, OAuthError> {
    let (_, mut params) = authenticate(issuer, headers, body)?;
    params.remove("token").ok_or_else(|| OAuthError::invalid_request("Missing token parameter"))
}
