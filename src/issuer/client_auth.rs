//! Who asks, and with which parameters: HTTP Basic, or in the body; a form, or JSON.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Client, Issuer, error::OAuthError};

/// The parameters of a request, each at most once.
pub(super) type Params = BTreeMap<String, String>;

/// Reads the parameters and finds out which client sent them.
///
/// # Errors
/// `invalid_request` where they cannot be read or the client authenticates twice, `invalid_client` where it does not.
pub(super) fn authenticate<'i>(
    issuer: &'i Issuer,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(&'i Client, Params), OAuthError> {
    let params = params(headers, body)?;
    let in_header = headers.get(header::AUTHORIZATION).map(|value| basic(value.as_bytes())).transpose()?;
    let in_body = params
        .get("client_secret")
        .map(|secret| (params.get("client_id").cloned().unwrap_or_default(), secret.clone()));
    let (id, secret) = match (in_header, in_body) {
        (Some(_), Some(_)) => {
            return Err(OAuthError::invalid_request("The client authenticated in two ways at once (RFC 6749 2.3)"));
        }
        (Some(pair), None) | (None, Some(pair)) => pair,
        (None, None) => return Err(OAuthError::invalid_client()),
    };
    if params.get("client_id").is_some_and(|other| *other != id) {
        return Err(OAuthError::invalid_request("client_id in the body is not that of the Authorization header"));
    }
    let client = issuer.settings.clients.iter().find(|client| client.id == id);
    let client =
        client.filter(|client| equal(client.secret.expose(), &secret)).ok_or_else(OAuthError::invalid_client)?;
    Ok((client, params))
}

fn params(headers: &HeaderMap, body: &Bytes) -> Result<Params, OAuthError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| OAuthError::invalid_request("The body is not a JSON object"))?;
        return object
            .into_iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => Ok((name, text)),
                _ => Err(OAuthError::invalid_request(format!("{name} is not a string"))),
            })
            .collect();
    }
    if kind != "application/x-www-form-urlencoded" {
        let description = "The body has to be application/x-www-form-urlencoded or application/json";
        return Err(OAuthError::invalid_request(description));
    }
    let mut params = Params::new();
    for (name, value) in form_urlencoded::parse(body) {
        let name = name.into_owned();
        if params.contains_key(&name) {
            return Err(OAuthError::invalid_request(format!("The parameter {name} is repeated")));
        }
        params.insert(name, value.into_owned());
    }
    Ok(params)
}

/// `Basic base64(form(id) ":" form(secret))` (RFC 6749 2.3.1).
fn basic(value: &[u8]) -> Result<(String, String), OAuthError> {
    let text = std::str::from_utf8(value).map_err(|_| OAuthError::invalid_client())?;
    let (scheme, encoded) = text.split_once(' ').ok_or_else(OAuthError::invalid_client)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(OAuthError::invalid_client());
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.ok_or_else(|| OAuthError::invalid_request("The Basic credentials are not base64"))?;
    let (id, secret) = pair.split_once(':').ok_or_else(OAuthError::invalid_client)?;
    Ok((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    // The parser splits at these, which an encoded text does not have.
    let safe = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(safe.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// Compares without telling by its time where the texts differ.
fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
