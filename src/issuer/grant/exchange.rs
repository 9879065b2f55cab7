//! `grant_type=urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693): a token for another, of the same subject and
//! with no longer a life.

use serde_json::{Map, Value, json};

use super::{Grant, audience, checked_scope, client_scope, may_have};
use crate::issuer::{
    Issuer,
    assertion::{Expected, LONGEST_FEDERATED, Single},
    client::Client,
    error::{Code, OAuthError},
    incoming::Incoming,
    jwk::short,
    jws::Jwt,
};

/// Whom a token stands for, once it is checked.
struct Party {
    sub: String,
    iss: String,
    exp: u64,
    /// What this server granted; none for a token of another issuer.
    scope: Option<String>,
    act: Option<Value>,
    /// Who may act for it (RFC 8693 section 4.4).
    may_act: Option<Value>,
}

pub(super) fn redeem(issuer: &Issuer, client: &Client, incoming: &Incoming) -> Result<Grant, OAuthError> {
    let parameters = &incoming.parameters;
    let issued_token_type = match parameters.get("requested_token_type") {
        None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
        Some(JWT) if issuer.keys.makes_jwts() => JWT,
        Some(other) => {
            let supported =
                if issuer.keys.makes_jwts() { format!("{ACCESS_TOKEN}, {JWT}") } else { ACCESS_TOKEN.to_owned() };
            return Err(unsupported("requested_token_type", other, &supported));
        }
    };
    let subject = party(issuer, client, incoming, "subject_token")?;
    let actor = match (parameters.get("actor_token"), parameters.get("actor_token_type")) {
        (None, None) => None,
        (Some(_), _) => Some(party(issuer, client, incoming, "actor_token")?),
        (None, Some(_)) => return Err(OAuthError::invalid_request("actor_token_type without an actor_token")),
    };
    let acting = actor.as_ref().map_or(client.id.as_str(), |actor| actor.sub.as_str());
    if let Some(named) = subject.may_act.as_ref().and_then(|may_act| may_act.get("sub")).and_then(Value::as_str)
        && named != acting
    {
        let text = format!("subject_token: may_act is for {}, and the actor is {}", short(named), short(acting));
        return Err(OAuthError::invalid_request(text));
    }
    let scope = scope(client, &subject, parameters.get("scope"))?;
    let aud = audience(issuer, client, &incoming.tenant, parameters)?;
    let not_after = Some(actor.as_ref().map_or(subject.exp, |actor| actor.exp.min(subject.exp)));
    let act = match actor {
        // Without an actor the client takes the subject's place, and whoever acted before still does.
        None => subject.act,
        Some(actor) => {
            let mut act = Map::from_iter([("sub".to_owned(), json!(actor.sub)), ("iss".to_owned(), json!(actor.iss))]);
            act.extend(subject.act.map(|before| ("act".to_owned(), before)));
            Some(Value::Object(act))
        }
    };
    // RFC 8693 section 2.2.1 advises against refresh tokens here: they would outlive the subject token.
    Ok(Grant {
        sub: subject.sub,
        scope,
        aud,
        act,
        not_after,
        issued_token_type: Some(issued_token_type),
        lineage: None,
    })
}

/// Never more than the subject token has, if that is one of ours, nor than the client may have.
fn scope(client: &Client, subject: &Party, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    let Some(granted) = &subject.scope else { return client_scope(client, asked) };
    let has = |scope: &str| granted.split(' ').any(|one| one == scope);
    match asked {
        Some(asked) => {
            checked_scope(asked, has, "is not in the scope of the subject_token")?;
            client_scope(client, Some(asked))
        }
        None => {
            let both: Vec<&str> =
                granted.split(' ').filter(|scope| !scope.is_empty() && may_have(client, scope)).collect();
            Ok(if both.is_empty() { None } else { Some(both.join(" ")) })
        }
    }
}

/// Checks the token of this name. RFC 8693 section 2.2.2: one that is no good makes the request invalid.
fn party(issuer: &Issuer, client: &Client, incoming: &Incoming, name: &str) -> Result<Party, OAuthError> {
    let token = incoming.parameters.require(name)?;
    let type_name = format!("{name}_type");
    let kind = incoming.parameters.require(&type_name)?;
    let refused = |problem: &str| OAuthError::invalid_request(format!("{name}: {problem}"));
    if ![ACCESS_TOKEN, JWT, ID_TOKEN].contains(&kind) {
        return Err(unsupported(&type_name, kind, &[ACCESS_TOKEN, JWT, ID_TOKEN].join(", ")));
    }
    let jwt = match Jwt::parse(token) {
        Ok(jwt) => Some(jwt),
        Err(_) if kind == ACCESS_TOKEN => None,
        Err(problem) => return Err(refused(&problem.0)),
    };
    if let Some(jwt) = &jwt
        && let Some(iss) = jwt.text("iss")
        && let Some(trusted) = issuer.trusted(iss)
    {
        let mut audiences = issuer.audiences(incoming);
        audiences.extend(trusted.audiences.iter().cloned());
        audiences.push(client.id.clone());
        let expected = Expected { audiences: &audiences, longest: LONGEST_FEDERATED, jti: Single::Never };
        jwt.verify(&trusted.keys).and_then(|()| issuer.check_claims(jwt, &expected)).map_err(|it| refused(&it.0))?;
        let sub = jwt.text("sub").filter(|sub| !sub.is_empty()).ok_or_else(|| refused("sub is missing"))?;
        // The leeway of clocks is no reason to issue a token that has expired already.
        let exp = jwt.time("exp").map_err(|it| refused(&it.0))?.filter(|exp| *exp > issuer.now());
        let exp = exp.ok_or_else(|| refused("it has expired (exp)"))?;
        let claim = |name: &str| jwt.claims.get(name).cloned();
        let (act, may_act) = (claim("act"), claim("may_act"));
        return Ok(Party { sub: sub.to_owned(), iss: iss.to_owned(), exp, scope: None, act, may_act });
    }
    if kind == ID_TOKEN {
        return Err(refused("it is from no trusted issuer, and this server issues no ID tokens"));
    }
    let claims = match issuer.verify(token) {
        Ok(claims) => claims,
        Err(problem) => {
            let iss = jwt.as_ref().and_then(|jwt| jwt.text("iss")).filter(|iss| !issuer.is_own(iss));
            return Err(refused(&match iss {
                Some(iss) => format!("iss {} is neither this server nor a trusted issuer", short(iss)),
                None => problem.to_string(),
            }));
        }
    };
    if claims.iss != issuer.identifier_of(&incoming.tenant) {
        return Err(refused("it belongs to another tenant"));
    }
    let scope = Some(claims.scope.unwrap_or_default());
    Ok(Party { sub: claims.sub, iss: claims.iss, exp: claims.exp, scope, act: claims.act, may_act: None })
}

fn unsupported(name: &str, value: &str, supported: &str) -> OAuthError {
    let text = format!("{name} {} is not supported; supported: {supported}", short(value));
    OAuthError::new(Code::InvalidRequest, text)
}

/// RFC 8693 section 3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
