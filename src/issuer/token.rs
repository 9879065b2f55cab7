//! `POST /oauth/token`: access tokens for what is presented, which `grant.rs` judges.
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
    claims::{Claims, Confirmation},
    client::{AuthMethod, Client, GrantType},
    client_auth::Credentials,
    dpop,
    error::{Code, OAuthError, add_nonce, uncached},
    grant::{Grant, client_of},
    incoming::Incoming,
    keys::random_text,
    ledger::Refresh,
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
    let mut response = result.map_or_else(IntoResponse::into_response, |body| uncached(&body));
    add_nonce(&mut response, issuer.nonces.as_ref(), issuer.now());
    response
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
    // Before anything is used up: who is asked for a nonce can repeat the request with the same assertion or token.
    let jkt = issuer.check_proof(&dpop::Request {
        headers: &incoming.headers,
        method: "POST",
        urls: &incoming.urls,
        access_token: None,
        nonces: issuer.nonces.as_ref(),
    })?;
    let authenticated = match GrantType::parse(grant_type) {
        Some(GrantType::JwtBearer) => by_grant(issuer, &incoming, credentials)?,
        _ => issuer.authenticate(&incoming, credentials)?,
    };
    let (client, method) = authenticated;
    facts.client_id.clone_from(&client.id);
    let kind = issuer.allowed(client, grant_type)?;
    let cnf = issuer.confirmation(client, method, jkt, &incoming)?;
    let grant = issuer.redeem(kind, authenticated, cnf.as_ref(), &incoming)?;
    issuer.issue(client, tenant, grant, cnf)
}

/// The client of an assertion grant: beside the assertion there need not be any other authentication (RFC 7523
/// section 3.1), not of a client that authenticates by assertions anyway.
fn by_grant<'a>(
    issuer: &'a Issuer,
    incoming: &Incoming,
    credentials: Option<Credentials<'_>>,
) -> Result<(&'a Client, AuthMethod), OAuthError> {
    let Some(credentials) = credentials else { return Ok((client_of(issuer, incoming)?, AuthMethod::PrivateKeyJwt)) };
    let known = issuer.clients.get(&credentials.id).filter(|it| it.methods.contains(&AuthMethod::PrivateKeyJwt));
    match known {
        Some(named) if credentials.is_bare() => match client_of(issuer, incoming)? {
            client if client.id == named.id => Ok((client, AuthMethod::PrivateKeyJwt)),
            _ => Err(OAuthError::invalid_client("The assertion is of another client than client_id")),
        },
        _ => issuer.authenticate(incoming, Some(credentials)),
    }
}

impl Issuer {
    /// Whether the client may ask for tokens in this way.
    pub(super) fn may(&self, client: &Client, grant: GrantType) -> bool {
        let has = |grant: GrantType| client.grant_types.contains(&grant);
        has(grant) && (grant != GrantType::RefreshToken || self.send_refresh_token || has(GrantType::Password))
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
        jkt: Option<String>,
        incoming: &Incoming,
    ) -> Result<Option<Confirmation>, OAuthError> {
        if client.dpop_bound && jkt.is_none() {
            let text =
                "This client's tokens are bound to a key (dpop_bound_access_tokens), and there is no DPoP header";
            return Err(OAuthError::invalid_request(text));
        }
        let by_certificate = matches!(method, AuthMethod::TlsClientAuth | AuthMethod::SelfSignedTlsClientAuth);
        let x5t = if by_certificate || client.certificate_bound {
            Some(certificate_auth::thumbprint(&incoming.peer).ok_or_else(|| {
                OAuthError::invalid_request(
                    "This client's tokens are bound to its certificate (tls_client_certificate_bound_access_tokens), \
                     and the connection has none",
                )
            })?)
        } else {
            None
        };
        Ok((x5t.is_some() || jkt.is_some()).then_some(Confirmation { x5t, jkt }))
    }

    fn issue(
        &self,
        client: &Client,
        tenant: &Tenant,
        grant: Grant,
        cnf: Option<Confirmation>,
    ) -> Result<Issued, OAuthError> {
        let now = self.now();
        let exp = now.saturating_add(self.lifetime.as_secs()).min(grant.not_after.unwrap_or(u64::MAX));
        let claims = Claims {
            iss: self.identifier_of(tenant),
            sub: grant.sub,
            client_id: client.id.clone(),
            aud: grant.aud,
            exp,
            iat: now,
            jti: random_text::<16>(),
            scope: grant.scope,
            act: grant.act,
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
        let token_type = claims.token_type();
        self.tokens_issued.fetch_add(1, Ordering::Relaxed);
        let refresh_token = grant.lineage.map(|lineage| {
            let token = random_text::<32>();
            let refresh = Refresh {
                iss: claims.iss,
                client_id: claims.client_id,
                sub: claims.sub,
                scope: lineage.scope,
                aud: claims.aud,
                // What a client cannot prove by its credentials it has to prove by its key (RFC 9449 section 5).
                cnf: claims.cnf.filter(|_| client.is_public()),
                exp: now.saturating_add(REFRESH_LIFETIME),
                family: lineage.family,
                used: false,
            };
            self.ledger().remember_refresh(&token, refresh, (&claims.jti, exp), now);
            token
        });
        Ok(Issued {
            access_token,
            issued_token_type: grant.issued_token_type,
            token_type,
            expires_in: self.send_expires_in.then(|| exp.saturating_sub(now)),
            scope: claims.scope,
            refresh_token,
        })
    }
}

/// The answer to a token request (RFC 6749 section 5.1). What is `None` is left out.
#[derive(Serialize)]
struct Issued {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// How long an unused refresh token is good for, in seconds: a day.
const REFRESH_LIFETIME: u64 = 24 * 3600;
