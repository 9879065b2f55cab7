//! `POST /oauth/token`: access tokens for client credentials, and for refresh tokens where they are given out.
//!
//! The order of checks is the order of the answers: what the request looks like, who asks, for which grant, for what.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    Issuer, certificate_auth,
    claims::{Audience, Claims, Confirmation},
    client::{AuthMethod, Client, GrantType, is_scope_token},
    error::{Code, OAuthError, uncached},
    incoming::Incoming,
    keys::random_text,
    ledger::Refresh,
    parameters::Parameters,
    tenant::Tenant,
};

pub(super) async fn token(State(issuer): State<Arc<Issuer>>, tenant: Tenant, request: Request) -> Response {
    issuer.token_requests.fetch_add(1, Ordering::Relaxed);
    let mut facts = Facts { client_id: "unknown".to_owned(), grant_type: "none" };
    let result = answer(&issuer, &tenant, request, &mut facts).await;
    tracing::info!(
        target: "lanyard::issuer",
        client_id = facts.client_id,
        grant_type = facts.grant_type,
        tenant = tenant.name(),
        result = result.as_ref().map_or_else(|error| error.code.as_str(), |_| "issued"),
        "token request"
    );
    result.map_or_else(IntoResponse::into_response, |body| uncached(&body))
}

/// What the log may say of a request. A client is named only if there is one of that name: any other text may be a
/// secret in the wrong place.
struct Facts {
    client_id: String,
    grant_type: &'static str,
}

async fn answer(issuer: &Issuer, tenant: &Tenant, request: Request, facts: &mut Facts) -> Result<Issued, OAuthError> {
    let incoming = Incoming::read(issuer, tenant.clone(), request).await?;
    let parameters = &incoming.parameters;
    facts.grant_type = match parameters.get("grant_type") {
        None => "none",
        Some(name) => GrantType::parse(name).map_or("other", GrantType::name),
    };
    let grant_type = parameters.require("grant_type")?;
    let credentials = issuer.credentials(&incoming)?;
    if let Some(known) = credentials.as_ref().and_then(|credentials| issuer.clients.get(&credentials.id)) {
        facts.client_id.clone_from(&known.id);
    }
    let (client, method) = issuer.authenticate(&incoming, credentials)?;
    let grant = match issuer.allowed(client, grant_type)? {
        GrantType::ClientCredentials if method == AuthMethod::None => {
            let text = "A public client (token_endpoint_auth_method none) has no credentials to ask by (RFC 6749 4.4)";
            return Err(OAuthError::new(Code::UnauthorizedClient, text));
        }
        GrantType::ClientCredentials => Grant {
            scope: client_scope(client, parameters.get("scope"))?,
            aud: audience(issuer, client, tenant, parameters)?,
            refreshable: None,
        },
        GrantType::RefreshToken => redeem(issuer, client, tenant, parameters)?,
        GrantType::Password | GrantType::JwtBearer | GrantType::TokenExchange => {
            return Err(issuer.unsupported(grant_type));
        }
    };
    let cnf = issuer.confirmation(client, method, &incoming)?;
    issuer.issue(client, tenant, grant, cnf)
}

/// What a token will be good for.
struct Grant {
    scope: Option<String>,
    aud: Audience,
    /// The scope of the next refresh token, where that is another: narrowing the access token does not narrow it.
    refreshable: Option<Option<String>>,
}

impl Issuer {
    /// Whether the client may ask for tokens in this way.
    pub(super) fn may(&self, client: &Client, grant: GrantType) -> bool {
        client.grant_types.contains(&grant) && (grant != GrantType::RefreshToken || self.send_refresh_token)
    }

    /// The grant of this name, if the client may ask for it.
    fn allowed(&self, client: &Client, name: &str) -> Result<GrantType, OAuthError> {
        match GrantType::parse(name) {
            Some(grant) if self.may(client, grant) => Ok(grant),
            Some(grant) if self.clients.iter().any(|client| self.may(client, grant)) => {
                let text = format!("This client may not use the grant type {name}: it is not in its grant_types");
                Err(OAuthError::new(Code::UnauthorizedClient, text))
            }
            Some(_) | None => Err(self.unsupported(name)),
        }
    }

    fn unsupported(&self, name: &str) -> OAuthError {
        let known: String = name.chars().take(60).collect();
        let supported = self.grant_types().join(", ");
        let text = format!("Grant type '{known}' is not supported; supported: {supported}");
        OAuthError::new(Code::UnsupportedGrantType, text)
    }

    /// What the new token is bound to.
    fn confirmation(
        &self,
        client: &Client,
        method: AuthMethod,
        incoming: &Incoming,
    ) -> Result<Option<Confirmation>, OAuthError> {
        let by_certificate = matches!(method, AuthMethod::TlsClientAuth | AuthMethod::SelfSignedTlsClientAuth);
        if !by_certificate && !client.certificate_bound {
            return Ok(None);
        }
        match certificate_auth::thumbprint(&incoming.peer) {
            Some(x5t) => Ok(Some(Confirmation { x5t: Some(x5t) })),
            None => Err(OAuthError::invalid_request(
                "This client's tokens are bound to its certificate (tls_client_certificate_bound_access_tokens), and the \
                 connection has none",
            )),
        }
    }

    fn issue(
        &self,
        client: &Client,
        tenant: &Tenant,
        grant: Grant,
        cnf: Option<Confirmation>,
    ) -> Result<Issued, OAuthError> {
        let now = self.now();
        let lifetime = self.lifetime.as_secs();
        let claims = Claims {
            iss: self.identifier_of(tenant),
            sub: client.id.clone(),
            client_id: client.id.clone(),
            aud: grant.aud,
            exp: now.saturating_add(lifetime),
            iat: now,
            jti: random_text::<16>(),
            scope: grant.scope,
            cnf,
        };
        let access_token = match self.keys.sign(&claims) {
            Some(signed) => signed.map_err(|error| {
                tracing::error!(target: "lanyard::issuer", %error, "cannot sign a token");
                OAuthError::new(Code::ServerError, "The token could not be signed")
            })?,
            None => {
                let token = random_text::<32>();
                self.ledger().remember(&token, claims.clone(), now);
                token
            }
        };
        self.tokens_issued.fetch_add(1, Ordering::Relaxed);
        let refresh_token = self.may(client, GrantType::RefreshToken).then(|| {
            let token = random_text::<32>();
            let refresh = Refresh {
                iss: claims.iss,
                client_id: claims.client_id,
                scope: grant.refreshable.unwrap_or_else(|| claims.scope.clone()),
                aud: claims.aud,
                exp: now.saturating_add(REFRESH_LIFETIME),
            };
            self.ledger().remember_refresh(&token, refresh, now);
            token
        });
        Ok(Issued {
            access_token,
            token_type: "Bearer",
            expires_in: self.send_expires_in.then_some(lifetime),
            scope: claims.scope,
            refresh_token,
        })
    }
}

/// The answer to a token request (RFC 6749 section 5.1). What is `None` is left out.
#[derive(Serialize)]
struct Issued {
    access_token: String,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// The scope of a new token: what is asked for, if the client may have it; else all that it may have.
fn client_scope(client: &Client, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    match asked {
        None if client.scopes.is_empty() => Ok(None),
        None => Ok(Some(client.scopes.join(" "))),
        Some(asked) => {
            let may_have = |scope: &str| client.scopes.is_empty() || client.scopes.iter().any(|one| one == scope);
            checked_scope(asked, may_have).map(Some)
        }
    }
}

/// The scopes in `asked`, each once, if all of them are allowed.
fn checked_scope(asked: &str, allowed: impl Fn(&str) -> bool) -> Result<String, OAuthError> {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        if !is_scope_token(scope) {
            return Err(OAuthError::new(Code::InvalidScope, "Malformed scope: expected names separated by spaces"));
        }
        if !allowed(scope) {
            let text =
                format!("Scope '{}' is not allowed for this client", scope.chars().take(100).collect::<String>());
            return Err(OAuthError::new(Code::InvalidScope, text));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        return Err(OAuthError::new(Code::InvalidScope, "Malformed scope: expected names separated by spaces"));
    }
    Ok(scopes.join(" "))
}

/// `aud` of a new token: all that `audience` and `resource` name, if the client may name it.
fn audience(
    issuer: &Issuer,
    client: &Client,
    tenant: &Tenant,
    parameters: &Parameters,
) -> Result<Audience, OAuthError> {
    let mut audiences: Vec<String> = Vec::new();
    for resource in parameters.resources() {
        if url::Url::parse(resource).is_err() || resource.contains('#') {
            let text = "resource must be an absolute URI without a fragment (RFC 8707 section 2)";
            return Err(OAuthError::new(Code::InvalidTarget, text));
        }
    }
    for asked in parameters.audiences().iter().chain(parameters.resources()).map(String::as_str) {
        if !client.audiences.is_empty() && !client.audiences.iter().any(|one| one == asked) {
            let text =
                format!("Audience '{}' is not allowed for this client", asked.chars().take(200).collect::<String>());
            return Err(OAuthError::new(Code::InvalidTarget, text));
        }
        if !audiences.iter().any(|one| one == asked) {
            audiences.push(asked.to_owned());
        }
    }
    if audiences.is_empty() {
        audiences.push(issuer.default_audience.clone().unwrap_or_else(|| issuer.identifier_of(tenant)));
    }
    Ok(audiences.into())
}

/// Takes a refresh token for what it is good for. It is used up by that (RFC 9700 section 4.14).
fn redeem(issuer: &Issuer, client: &Client, tenant: &Tenant, parameters: &Parameters) -> Result<Grant, OAuthError> {
    let invalid = || OAuthError::new(Code::InvalidGrant, "Refresh token is unknown, expired, revoked or already used");
    let token = parameters.require("refresh_token")?;
    let known = issuer.ledger().refresh(token, issuer.now());
    let refresh = known
        .filter(|refresh| refresh.client_id == client.id && refresh.iss == issuer.identifier_of(tenant))
        .ok_or_else(invalid)?;
    let granted = refresh.scope.as_deref().unwrap_or_default();
    let scope = match parameters.get("scope") {
        None => refresh.scope.clone(),
        Some(asked) => Some(checked_scope(asked, |scope| granted.split(' ').any(|one| one == scope))?),
    };
    if !issuer.ledger().forget_refresh(token) {
        return Err(invalid());
    }
    Ok(Grant { scope, aud: refresh.aud, refreshable: Some(refresh.scope) })
}

/// How long an unused refresh token is good for, in seconds: a day.
const REFRESH_LIFETIME: u64 = 24 * 3600;
