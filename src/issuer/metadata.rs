//! What the server tells everybody about itself: `GET /.well-known/jwks.json`,
//! `/.well-known/oauth-authorization-server` (RFC 8414), `/.well-known/openid-configuration`, and
//! `/api/v1/tenant/{tenant}/strategies`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde::Serialize;
use serde_json::json;

use super::{
    Issuer,
    client::{AuthMethod, GrantType},
    error, jws,
    tenant::Tenant,
};

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
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    grant_types_supported: Vec<&'static str>,
    /// There is no authorization endpoint, so there are none; but the member is required.
    response_types_supported: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    introspection_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revocation_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    /// RFC 9449 section 5.1.
    dpop_signing_alg_values_supported: Vec<&'static str>,
    /// RFC 8705 section 3.3.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_client_certificate_bound_access_tokens: bool,
    /// RFC 8705 section 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtls_endpoint_aliases: Option<Aliases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_types_supported: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token_signing_alg_values_supported: Option<Vec<&'static str>>,
}

/// The endpoints as clients with certificates have to name them.
#[derive(Serialize)]
struct Aliases {
    token_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
}

impl Issuer {
    /// The ways in which some registered client can say who it is, here and now.
    fn methods(&self) -> Vec<&'static str> {
        let by_certificate = [AuthMethod::TlsClientAuth, AuthMethod::SelfSignedTlsClientAuth];
        let usable = |method: &AuthMethod| {
            (self.has_tls() || !by_certificate.contains(method))
                && self.clients.iter().any(|client| client.methods.contains(method))
        };
        AuthMethod::ALL.into_iter().filter(usable).map(AuthMethod::name).collect()
    }

    /// The grants that some registered client may ask for.
    pub(super) fn grant_types(&self) -> Vec<&'static str> {
        let usable = |grant: &GrantType| self.clients.iter().any(|client| self.may(client, *grant));
        GrantType::ALL.into_iter().filter(usable).map(GrantType::name).collect()
    }

    /// The algorithms of assertions.
    fn assertion_algorithms(&self) -> Vec<&'static str> {
        let some = |method: AuthMethod| self.clients.iter().any(|client| client.methods.contains(&method));
        let shared = some(AuthMethod::ClientSecretJwt).then(|| jws::names(true)).into_iter().flatten();
        let public = some(AuthMethod::PrivateKeyJwt).then(|| jws::names(false)).into_iter().flatten();
        shared.chain(public).collect()
    }

    fn metadata(&self, tenant: &Tenant) -> Metadata<'_> {
        let issuer = self.identifier_of(tenant);
        let confidential = self.methods().into_iter().filter(|name| *name != AuthMethod::None.name()).collect();
        let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
        Metadata {
            token_endpoint: at("/oauth/token"),
            token_endpoint_auth_methods_supported: self.methods(),
            token_endpoint_auth_signing_alg_values_supported: self.assertion_algorithms(),
            grant_types_supported: self.grant_types(),
            response_types_supported: [],
            jwks_uri: self.keys.public_algorithm().map(|_| at("/.well-known/jwks.json")),
            scopes_supported: self.clients.scopes(),
            introspection_endpoint: at("/oauth/introspect"),
            introspection_endpoint_auth_methods_supported: confidential,
            introspection_endpoint_auth_signing_alg_values_supported: self.assertion_algorithms(),
            revocation_endpoint: at("/oauth/revoke"),
            revocation_endpoint_auth_methods_supported: self.methods(),
            revocation_endpoint_auth_signing_alg_values_supported: self.assertion_algorithms(),
            dpop_signing_alg_values_supported: jws::names(false).collect(),
            tls_client_certificate_bound_access_tokens: self.has_tls(),
            mtls_endpoint_aliases: self.alias_of(tenant).map(|base| Aliases {
                token_endpoint: format!("{base}/oauth/token"),
                introspection_endpoint: format!("{base}/oauth/introspect"),
                revocation_endpoint: format!("{base}/oauth/revoke"),
            }),
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
