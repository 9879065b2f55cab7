//! What a token will be good for, by the grant that is presented: one file for each that has more to it than a client's
//! own credentials.

mod bearer;
mod exchange;
mod password;
mod refresh;

pub(super) use self::bearer::client_of;

use serde_json::Value;

use super::{
    Issuer,
    claims::{Audience, Confirmation},
    client::{AuthMethod, Client, GrantType, is_scope_token},
    error::{Code, OAuthError},
    incoming::Incoming,
    jwk::short,
    keys::random_text,
    parameters::Parameters,
    tenant::Tenant,
};

/// What a token will be good for.
pub(super) struct Grant {
    /// Whom it stands for.
    pub(super) sub: String,
    pub(super) scope: Option<String>,
    pub(super) aud: Audience,
    /// Who acts for `sub` (RFC 8693 section 4.1).
    pub(super) act: Option<Value>,
    /// When it ends at the latest, in seconds since 1970.
    pub(super) not_after: Option<u64>,
    /// RFC 8693 section 2.2.1.
    pub(super) issued_token_type: Option<&'static str>,
    /// The refresh token that goes with it.
    pub(super) lineage: Option<Lineage>,
}

/// The refresh tokens that follow one another from one grant.
pub(super) struct Lineage {
    pub(super) family: String,
    /// What the next one is good for: narrowing the access token does not narrow it.
    pub(super) scope: Option<String>,
}

impl Issuer {
    /// Takes what is presented for what it is good for.
    pub(super) fn redeem(
        &self,
        kind: GrantType,
        (client, method): (&Client, AuthMethod),
        cnf: Option<&Confirmation>,
        incoming: &Incoming,
    ) -> Result<Grant, OAuthError> {
        match kind {
            GrantType::ClientCredentials if method == AuthMethod::None => {
                let text =
                    "A public client (token_endpoint_auth_method none) has no credentials to ask by (RFC 6749 4.4)";
                Err(OAuthError::new(Code::UnauthorizedClient, text))
            }
            GrantType::ClientCredentials => self.grant_to(client, client.id.clone(), kind, incoming, None),
            GrantType::RefreshToken => refresh::redeem(self, client, cnf, incoming),
            GrantType::Password => password::redeem(self, client, incoming),
            GrantType::JwtBearer => bearer::redeem(self, client, incoming),
            GrantType::TokenExchange => exchange::redeem(self, client, incoming),
        }
    }

    /// What the request asks for, on behalf of `sub`; `scope`: what is asked for where the request does not say.
    fn grant_to(
        &self,
        client: &Client,
        sub: String,
        kind: GrantType,
        incoming: &Incoming,
        scope: Option<&str>,
    ) -> Result<Grant, OAuthError> {
        let scope = client_scope(client, incoming.parameters.get("scope").or(scope))?;
        let aud = audience(self, client, &incoming.tenant, &incoming.parameters)?;
        let lineage =
            self.refreshes(client, kind).then(|| Lineage { family: random_text::<16>(), scope: scope.clone() });
        Ok(Grant { sub, scope, aud, act: None, not_after: None, issued_token_type: None, lineage })
    }

    /// Whether a refresh token goes with such a grant: always for a password, else as the settings say.
    fn refreshes(&self, client: &Client, kind: GrantType) -> bool {
        client.grant_types.contains(&GrantType::RefreshToken)
            && (self.send_refresh_token || kind == GrantType::Password)
    }
}

/// The scope of a new token: what is asked for, if the client may have it; else all that it may have.
fn client_scope(client: &Client, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    match asked {
        None if client.scopes.is_empty() => Ok(None),
        None => Ok(Some(client.scopes.join(" "))),
        Some(asked) => {
            checked_scope(asked, |scope| may_have(client, scope), "is not allowed for this client").map(Some)
        }
    }
}

fn may_have(client: &Client, scope: &str) -> bool {
    client.scopes.is_empty() || client.scopes.iter().any(|one| one == scope)
}

/// The scopes in `asked`, each once, if all of them are allowed.
fn checked_scope(asked: &str, allowed: impl Fn(&str) -> bool, why_not: &str) -> Result<String, OAuthError> {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        if !is_scope_token(scope) {
            return Err(OAuthError::new(Code::InvalidScope, "Malformed scope: expected names separated by spaces"));
        }
        if !allowed(scope) {
            return Err(OAuthError::new(Code::InvalidScope, format!("Scope '{}' {why_not}", short(scope))));
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
    for asked in parameters.audiences().iter().chain(parameters.resources()) {
        if !client.audiences.is_empty() && !client.audiences.contains(asked) {
            let text = format!("Audience '{}' is not allowed for this client", short(asked));
            return Err(OAuthError::new(Code::InvalidTarget, text));
        }
        if !audiences.contains(asked) {
            audiences.push(asked.clone());
        }
    }
    if audiences.is_empty() {
        audiences.push(issuer.default_audience.clone().unwrap_or_else(|| issuer.identifier_of(tenant)));
    }
    Ok(audiences.into())
}
