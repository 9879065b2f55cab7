//! `grant_type=password` (RFC 6749 section 4.3): a user's name and password, known to the client.

use super::Grant;
use crate::issuer::{
    Issuer,
    client::{Client, GrantType},
    client_auth::same,
    error::{Code, OAuthError},
    incoming::Incoming,
};

pub(super) fn redeem(issuer: &Issuer, client: &Client, incoming: &Incoming) -> Result<Grant, OAuthError> {
    let (name, password) = (incoming.parameters.require("username")?, incoming.parameters.require("password")?);
    // An unknown user costs the same comparison as a known one, and which of the two is wrong is not told.
    let user = client.users.iter().find(|user| user.name == name);
    let matches = same(user.map_or("", |user| user.password.expose()), password);
    let Some(user) = user.filter(|_| matches) else {
        return Err(OAuthError::new(Code::InvalidGrant, "username or password is wrong"));
    };
    issuer.grant_to(client, user.name.clone(), GrantType::Password, incoming, None)
}
