//! What the server tells everybody about itself: `GET /.well-known/jwks.json`,
//! `/.well-known/oauth-authorization-server` (RFC 8414), `/.well-known/openid-configuration`, and
//! `/api/v1/tenant/{tenant}/strategies`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde::Serialize;
use serde_json::json;

use super::{Issuer, error, tenant::Tenant};

pub(super) async fn jwks(State(issuer): State<Arc<Issuer>>, _tenant: Tenant) -> Response {
    error::json(&issuer.keys.public())
}

pub(super) async fn oauth(State(issuer): State<Arc<Issuer>>, tenant: Tenant) -> Response {
    error::json(&issuer.metadata(&tenant))
}

/// The same for clients that look where OpenID Connect puts it. There are no ID tokens here, and no login.
pub(super) async fn openid(State(issuer): State<Arc<Issuer>>, tenant: Tenant) -> Response {
    let mut metadata = issuer.metadata(&tenant);
    metadata.subject_types_supported = Some(["public"]);
    metadata.id_token_signing_alg_values_supported = Some(issuer.keys.public_algorithm().into_iter().collect());
    error::json(&metadata)
}

pub(super) async fn strategies(tenant: Tenant) -> Response {
    let id = tenant.name().unwrap_or_default();
    error::json(&json!({
        "tenant_id": id,
        "tenant_name": title(id),
        "strategies": [{ "name": "oauth2", "type": "OAuth2 Authorization Server" }],
    }))
}

/// RFC 8414 section 2. What is `None` is left out.
#[derive(Serialize)]
struct Metadata<'a> {
    issuer: String,
    token_endpoint: String,
    token_endpoint_auth_methods_supported: [&'static str; 2],
    grant_types_supported: &'static [&'static str],
    /// There is no authorization endpoint, so there are none; but the member is required.
    response_types_supported: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_types_supported: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token_signing_alg_values_supported: Option<Vec<&'static str>>,
}

impl Issuer {
    fn metadata(&self, tenant: &Tenant) -> Metadata<'_> {
        let issuer = self.identifier_of(tenant);
        let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
        Metadata {
            token_endpoint: at("/oauth/token"),
            token_endpoint_auth_methods_supported: AUTH_METHODS,
            grant_types_supported: self.grant_types(),
            response_types_supported: [],
            jwks_uri: self.keys.public_algorithm().map(|_| at("/.well-known/jwks.json")),
            scopes_supported: self.clients.scopes(),
            introspection_endpoint: at("/oauth/introspect"),
            introspection_endpoint_auth_methods_supported: AUTH_METHODS,
            revocation_endpoint: at("/oauth/revoke"),
            revocation_endpoint_auth_methods_supported: AUTH_METHODS,
            subject_types_supported: None,
            id_token_signing_alg_values_supported: None,
            issuer,
        }
    }
}

/// `test-tenant` as `Test Tenant`.
fn title(id: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    id.split(['-', '_']).filter(|word| !word.is_empty()).map(capital).collect::<Vec<_>>().join(" ")
}

const AUTH_METHODS: [&str; 2] = ["client_secret_basic", "client_secret_post"];
