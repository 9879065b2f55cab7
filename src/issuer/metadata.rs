//! What the server tells of itself: its keys, RFC 8414 metadata, and a tenant's strategies.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::Issuer;

pub(super) async fn jwks(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    Json(issuer.keys.jwks())
}

pub(super) async fn server(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let base = issuer.settings.issuer.trim_end_matches('/');
    let scopes: std::collections::BTreeSet<&String> = issuer.settings.clients.iter().flat_map(|c| &c.scopes).collect();
    let methods = ["client_secret_basic", "client_secret_post"];
    Json(json!({
        "issuer": issuer.settings.issuer,
        "token_endpoint": format!("{base}/oauth/token"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "introspection_endpoint": format!("{base}/oauth/introspect"),
        "revocation_endpoint": format!("{base}/oauth/revoke"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "scopes_supported": scopes,
    }))
}

pub(super) async fn strategies(Path(tenant): Path<String>) -> Json<Value> {
    Json(json!({
        "tenant_id": tenant,
        "tenant_name": tenant,
        "strategies": [{ "name": "oauth2", "type": "OAuth2 Authorization Server" }],
    }))
}
