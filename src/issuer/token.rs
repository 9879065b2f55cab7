//! The token endpoint: client credentials (RFC 6749 4.4).

use std::sync::{Arc, atomic::Ordering};

use axum::{
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Claims, Client, Issuer,
    client_auth::{Params, authenticate},
    error::{OAuthError, no_store},
    keys, unix_now,
};

pub(super) async fn grant(State(issuer): State<Arc<Issuer>>, headers: HeaderMap, body: Bytes) -> Response {
    issuer.requests.fetch_add(1, Ordering::Relaxed);
    let granted = authenticate(&issuer, &headers, &body)
        .and_then(|(client, params)| issue(&issuer, client, &params).map(|answer| (client.id.clone(), answer)));
    match granted {
        Ok((client_id, answer)) => {
            tracing::info!(client_id, "token issued");
            no_store(&answer)
        }
        Err(error) => {
            tracing::info!(error = error.code, description = error.description, "token refused");
            error.into_response()
        }
    }
}

fn issue(issuer: &Issuer, client: &Client, params: &Params) -> Result<serde_json::Value, OAuthError> {
    match params.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        None | Some("") => return Err(OAuthError::invalid_request("Missing grant_type parameter")),
        Some(_) => {
            let description = "This server supports grant_type=client_credentials only";
            return Err(OAuthError::new("unsupported_grant_type", description));
        }
    }
    let scope = scope(client, params.get("scope").map_or("", String::as_str))?;
    let audience = params.get("audience").or_else(|| params.get("resource"));
    if let Some(audience) = audience
        && !client.audiences.is_empty()
        && !client.audiences.contains(audience)
    {
        let description = format!("This client may not ask for the audience {audience}");
        return Err(OAuthError::new("invalid_target", description));
    }
    let settings = &issuer.settings;
    let now = unix_now();
    let claims = Claims {
        iss: settings.issuer.clone(),
        sub: client.id.clone(),
        aud: audience.cloned().or_else(|| settings.default_audience.clone()),
        exp: now + settings.lifetime.as_secs(),
        iat: now,
        jti: keys::random(),
        scope,
        client_id: client.id.clone(),
    };
    let access_token = match issuer.keys.sign(&claims) {
        Some(signed) => signed.map_err(|e| OAuthError::new("server_error", e.to_string()))?,
        None => {
            let token = keys::random();
            let mut issued = issuer.issued();
            issued.opaque.retain(|_, claims| claims.exp > now);
            issued.opaque.insert(token.clone(), claims.clone());
            token
        }
    };
    let mut answer = serde_json::Map::from_iter([
        ("access_token".to_owned(), json!(access_token)),
        ("token_type".to_owned(), json!("Bearer")),
        ("scope".to_owned(), json!(claims.scope)),
    ]);
    if settings.send_expires_in {
        answer.insert("expires_in".to_owned(), json!(settings.lifetime.as_secs()));
    }
    Ok(answer.into())
}

/// The scopes that are granted: those asked for, if the client may have them all; without any, all of its own.
fn scope(client: &Client, asked: &str) -> Result<String, OAuthError> {
    let asked: Vec<&str> = asked.split(' ').filter(|word| !word.is_empty()).collect();
    if asked.is_empty() {
        return Ok(client.scopes.join(" "));
    }
    match asked.iter().find(|word| !client.scopes.iter().any(|scope| scope == *word)) {
        Some(foreign) => {
            let description =
                format!("This client may not have the scope {foreign}; it may have: {}", client.scopes.join(" "));
            Err(OAuthError::new("invalid_scope", description))
        }
        None => Ok(asked.join(" ")),
    }
}
