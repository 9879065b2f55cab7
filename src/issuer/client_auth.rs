//! Who is asking? Client authentication by HTTP Basic or by body parameters (RFC 6749 section 2.3.1), never by both.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{client::Client, error::OAuthError, parameters::Parameters};
use crate::secret::Secret;

/// The registered clients.
pub(super) struct Clients(HashMap<String, Client>);

impl Clients {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self(clients.into_iter().map(|client| (client.id.clone(), client)).collect())
    }

    pub(super) fn get(&self, id: &str) -> Option<&Client> {
        self.0.get(id)
    }

    /// Every scope that some client may have, sorted.
    pub(super) fn scopes(&self) -> Vec<&str> {
        let mut scopes: Vec<&str> = self.0.values().flat_map(|client| &client.scopes).map(String::as_str).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    /// The client that these credentials belong to.
    pub(super) fn authenticate(&self, credentials: &Credentials) -> Result<&Client, OAuthError> {
        // An unknown client costs the same comparison as a known one.
        let client = self.get(&credentials.id);
        let secret = client.map_or("", |client| client.secret.expose());
        let matches = same(secret, credentials.secret.expose());
        match client {
            Some(client) if matches => Ok(client),
            Some(_) | None if self.meant_raw(credentials) => Err(OAuthError::invalid_client(
                "Client authentication failed: id and secret were not form-encoded before base64 (RFC 6749 2.3.1)",
            )),
            Some(_) | None => Err(OAuthError::invalid_client("Client authentication failed")),
        }
    }

    /// Whether Basic credentials are right, but were sent without the encoding that RFC 6749 asks for.
    fn meant_raw(&self, credentials: &Credentials) -> bool {
        let Some((id, secret)) = &credentials.raw else { return false };
        self.get(id).is_some_and(|client| same(client.secret.expose(), secret.expose()))
    }
}

/// What a client presented. Without a check, nothing in it is true.
pub(super) struct Credentials {
    pub(super) id: String,
    secret: Secret,
    /// Id and secret of HTTP Basic before form-decoding.
    raw: Option<(String, Secret)>,
}

impl Credentials {
    pub(super) fn from_request(headers: &HeaderMap, parameters: &Parameters) -> Result<Self, OAuthError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = values.next();
        if values.next().is_some() {
            return Err(OAuthError::invalid_request("More than one Authorization header"));
        }
        let (id, secret) = (parameters.get("client_id"), parameters.get("client_secret"));
        if parameters.get("client_assertion").is_some() {
            return Err(match authorization.is_some() || secret.is_some() {
                true => OAuthError::invalid_request(MORE_THAN_ONE),
                false => OAuthError::invalid_client("client_assertion is not supported; use the client secret"),
            });
        }
        let Some(authorization) = authorization else {
            return match (id, secret) {
                (Some(id), Some(secret)) => Ok(Self { id: id.to_owned(), secret: Secret::new(secret), raw: None }),
                (Some(_), None) => Err(OAuthError::invalid_client("Missing client_secret parameter")),
                (None, Some(_)) => Err(OAuthError::invalid_client("Missing client_id parameter")),
                (None, None) => Err(OAuthError::invalid_client(
                    "No client authentication: send HTTP Basic, or client_id and client_secret in the body",
                )),
            };
        };
        if secret.is_some() {
            return Err(OAuthError::invalid_request(MORE_THAN_ONE));
        }
        let credentials = Self::from_basic(authorization)?;
        if id.is_some_and(|id| id != credentials.id) {
            return Err(OAuthError::invalid_request("client_id is another than that of the Authorization header"));
        }
        Ok(credentials)
    }

    fn from_basic(authorization: &HeaderValue) -> Result<Self, OAuthError> {
        let malformed = || OAuthError::invalid_client("Malformed Authorization header: no base64 of ID:SECRET");
        let text = authorization.to_str().map_err(|_| malformed())?;
        let (scheme, encoded) = text.trim().split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("Basic") {
            return Err(OAuthError::invalid_client("The Authorization scheme must be Basic"));
        }
        let decoded = STANDARD.decode(encoded.trim()).map_err(|_| malformed())?;
        let decoded = Secret::new(String::from_utf8(decoded).map_err(|_| malformed())?);
        let (id, secret) = decoded.expose().split_once(':').ok_or_else(malformed)?;
        Ok(Self {
            id: form_decode(id),
            secret: Secret::new(form_decode(secret)),
            raw: Some((id.to_owned(), Secret::new(secret))),
        })
    }
}

/// Decodes one value of `application/x-www-form-urlencoded`. The separators of a whole form mean nothing in it.
fn form_decode(value: &str) -> String {
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// Compares in a time that depends neither on where two texts differ nor on their lengths.
fn same(left: &str, right: &str) -> bool {
    Sha256::digest(left).ct_eq(&Sha256::digest(right)).into()
}

const MORE_THAN_ONE: &str = "More than one way of client authentication in one request";
