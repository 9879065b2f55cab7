//! `POST /oauth/introspect` (RFC 7662) and `POST /oauth/revoke` (RFC 7009), for registered clients only.
//!
//! Any client may introspect any token, as a resource server does; only the client that has a token may revoke it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Issuer,
    claims::Claims,
    client::Client,
    error::{Code, OAuthError, uncached},
    incoming::Incoming,
    tenant::Tenant,
};

pub(super) async fn introspect(
    State(issuer): State<Arc<Issuer>>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, OAuthError> {
    let (token, client) = presented(&issuer, &tenant, request).await?;
    if client.is_public() {
        // RFC 7662 section 2.1: or anybody could try tokens here.
        return Err(OAuthError::invalid_client(
            "A public client may not introspect tokens: anybody can say its client_id",
        ));
    }
    let iss = issuer.identifier_of(&tenant);
    if let Some(claims) = issuer.verify(&token).ok().filter(|claims| claims.iss == iss) {
        return Ok(uncached(&Active { active: true, token_type: claims.token_type(), claims: &claims }));
    }
    let refresh = issuer.ledger().refresh(&token, issuer.now()).filter(|refresh| refresh.iss == iss && !refresh.used);
    Ok(uncached(&match refresh {
        None => json!({ "active": false }),
        Some(refresh) => json!({
            "active": true,
            "client_id": refresh.client_id,
            "sub": refresh.sub,
            "scope": refresh.scope.unwrap_or_default(),
            "aud": refresh.aud,
            "iss": refresh.iss,
            "exp": refresh.exp,
        }),
    }))
}

/// An access token that is good.
#[derive(Serialize)]
struct Active<'a> {
    active: bool,
    token_type: &'static str,
    #[serde(flatten)]
    claims: &'a Claims,
}

pub(super) async fn revoke(
    State(issuer): State<Arc<Issuer>>,
    tenant: Tenant,
    request: Request,
) -> Result<Response, OAuthError> {
    let (token, client) = presented(&issuer, &tenant, request).await?;
    let client_id = &client.id;
    let iss = issuer.identifier_of(&tenant);
    let now = issuer.now();
    let access = issuer.verify(&token).ok().filter(|claims| claims.iss == iss);
    let refresh = issuer.ledger().refresh(&token, now).filter(|refresh| refresh.iss == iss);
    let owner = access.as_ref().map(|it| &it.client_id).or_else(|| refresh.as_ref().map(|it| &it.client_id));
    if owner.is_some_and(|owner| owner != client_id) {
        return Err(OAuthError::new(Code::UnauthorizedClient, "The token was issued to another client"));
    }
    if let Some(claims) = &access {
        issuer.ledger().revoke(claims, now);
    }
    if let Some(refresh) = &refresh {
        // RFC 7009 section 2.1: with a refresh token goes all that came of the same grant.
        issuer.ledger().revoke_family(&refresh.family);
    }
    tracing::info!(target: "lanyard::issuer", client_id, found = owner.is_some(), "revocation request");
    // A token that is unknown is as good as revoked (RFC 7009 section 2.2).
    Ok(StatusCode::OK.into_response())
}

/// The token that a request is about, and the client that presents it.
async fn presented<'a>(
    issuer: &'a Issuer,
    tenant: &Tenant,
    request: Request,
) -> Result<(String, &'a Client), OAuthError> {
    let incoming = Incoming::read(issuer, tenant.clone(), request).await?;
    let (client, _) = issuer.authenticate(&incoming, issuer.credentials(&incoming)?)?;
    Ok((incoming.parameters.require("token")?.to_owned(), client))
}
