//! `grant_type=refresh_token` (RFC 6749 section 6): each is good for one use and brings the next; a second use tells that
//! somebody else has it, and ends all that came of that grant (RFC 9700 section 4.14).

use super::{Grant, Lineage, checked_scope};
use crate::issuer::{
    Issuer,
    claims::Confirmation,
    client::Client,
    error::{Code, OAuthError},
    incoming::Incoming,
};

pub(super) fn redeem(
    issuer: &Issuer,
    client: &Client,
    cnf: Option<&Confirmation>,
    incoming: &Incoming,
) -> Result<Grant, OAuthError> {
    let invalid = |text: &str| OAuthError::new(Code::InvalidGrant, text);
    let token = incoming.parameters.require("refresh_token")?;
    let known = issuer.ledger().refresh(token, issuer.now());
    let refresh = known
        // That of another client is not this one's to use up.
        .filter(|refresh| refresh.client_id == client.id && refresh.iss == issuer.identifier_of(&incoming.tenant))
        .ok_or_else(|| invalid("Refresh token is unknown, expired or revoked, or it is another client's"))?;
    if refresh.used {
        issuer.ledger().revoke_family(&refresh.family);
        return Err(invalid(REUSED));
    }
    if refresh.cnf.is_some() && refresh.cnf.as_ref() != cnf {
        return Err(invalid("Refresh token is bound to a key, and the request has proof of none or of another"));
    }
    let granted = refresh.scope.as_deref().unwrap_or_default();
    let has = |scope: &str| granted.split(' ').any(|one| one == scope);
    let scope = match incoming.parameters.get("scope") {
        None => refresh.scope.clone(),
        Some(asked) => Some(checked_scope(asked, has, "is not in the grant of this refresh token")?),
    };
    if !issuer.ledger().use_refresh(token) {
        // Two requests at once: which of them is the thief's nobody knows.
        issuer.ledger().revoke_family(&refresh.family);
        return Err(invalid(REUSED));
    }
    let lineage = Some(Lineage { family: refresh.family, scope: refresh.scope });
    Ok(Grant {
        sub: refresh.sub,
        scope,
        aud: refresh.aud,
        act: None,
        not_after: None,
        issued_token_type: None,
        lineage,
    })
}

const REUSED: &str = "Refresh token was already used: all tokens of its grant are revoked now";
