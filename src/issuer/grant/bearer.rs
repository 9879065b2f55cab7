//! `grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523 section 2.1): a JWT that names whom the token will
//! stand for, signed by the client itself or by a trusted issuer.

use super::Grant;
use crate::issuer::{
    Issuer,
    assertion::{Expected, LONGEST, LONGEST_FEDERATED, Single},
    client::{Client, GrantType},
    error::{Code, OAuthError},
    incoming::Incoming,
    jwk::{KeySet, short},
    jws::{Jwt, Problem},
};

/// The client of a request that has no other client authentication than its assertion: the one that signs it, or the
/// one that its issuer vouches for. [`redeem`] checks that.
pub(in crate::issuer) fn client_of<'a>(issuer: &'a Issuer, incoming: &Incoming) -> Result<&'a Client, OAuthError> {
    let (jwt, iss, sub) = read(incoming)?;
    let id = match issuer.trusted(&iss) {
        None => Some(&iss),
        Some(trusted) => trusted.subjects.get(&sub),
    };
    drop(jwt);
    id.and_then(|id| issuer.clients.get(id)).ok_or_else(|| {
        let text = format!("No client authentication, and the assertion of iss {} stands for no client", short(&iss));
        OAuthError::invalid_client(text)
    })
}

pub(super) fn redeem(issuer: &Issuer, client: &Client, incoming: &Incoming) -> Result<Grant, OAuthError> {
    let (jwt, iss, sub) = read(incoming)?;
    check(issuer, client, incoming, &jwt, &iss).map_err(|problem| refused(&problem.0))?;
    issuer.grant_to(client, sub, GrantType::JwtBearer, incoming, jwt.text("scope"))
}

fn read(incoming: &Incoming) -> Result<(Jwt<'_>, String, String), OAuthError> {
    let jwt = Jwt::parse(incoming.parameters.require("assertion")?).map_err(|problem| refused(&problem.0))?;
    let claim = |name: &str| match jwt.text(name).filter(|text| !text.is_empty()) {
        Some(text) => Ok(text.to_owned()),
        None => Err(refused(&format!("{name} is missing, or no string"))),
    };
    let (iss, sub) = (claim("iss")?, claim("sub")?);
    Ok((jwt, iss, sub))
}

fn check(issuer: &Issuer, client: &Client, incoming: &Incoming, jwt: &Jwt<'_>, iss: &str) -> Result<(), Problem> {
    let mut audiences = issuer.audiences(incoming);
    let (keys, longest): (&KeySet, u64) = match issuer.trusted(iss) {
        Some(trusted) => {
            audiences.extend(trusted.audiences.iter().cloned());
            (&trusted.keys, LONGEST_FEDERATED)
        }
        None if iss == client.id && client.keys.is_empty() => {
            return Err(Problem("its issuer, this client, has no registered keys".to_owned()));
        }
        None if iss == client.id => (&client.keys, LONGEST),
        None => {
            let text = format!("iss {} is neither this client nor a trusted issuer", short(iss));
            return Err(Problem(text));
        }
    };
    jwt.verify(keys)?;
    issuer.check_claims(jwt, &Expected { audiences: &audiences, longest, jti: Single::IfNamed })
}

fn refused(problem: &str) -> OAuthError {
    OAuthError::new(Code::InvalidGrant, format!("assertion: {problem}"))
}
