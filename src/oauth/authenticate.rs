//! How a token request says who asks: the client's credentials in the header or the body, and the body's format. Pure.
//!
//! RFC 6749 2.3.1: `client_secret_basic` form-encodes both parts before base64 (appendix B), which is what lets a secret
//! hold a `:` or a `%`. One method a request, never both, and never in the URL.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::secrets::Proof;
use crate::{
    config::{Authentication, OAuth2, RequestFormat},
    secret::Secret,
};

/// A token request, ready for the wire.
pub struct TokenRequest {
    /// Its header fields; those that hold a credential are marked sensitive.
    pub headers: HeaderMap,
    /// Its body, which may hold secrets.
    pub body: Secret,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of `headers` are credentials of the operator's own making too.
        f.debug_struct("TokenRequest").finish_non_exhaustive()
    }
}

/// Writes the token request of `config` with `parameters` and what the client proves itself by.
///
/// The profile's own `headers` come first; what says how to read the body and who asks is never theirs to change.
pub fn token_request(config: &OAuth2, parameters: &[(&str, &str)], proof: &Proof) -> TokenRequest {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, _) in &config.headers {
        headers.remove(name);
    }
    for (name, value) in &config.headers {
        let mut value = value.clone();
        value.set_sensitive(true);
        headers.append(name, value);
    }

    let mut parameters = parameters.to_vec();
    let client_id = config.client_id.as_deref().map(|id| ("client_id", id));
    match (proof, &config.authentication) {
        (Proof::Secret(secret), Authentication::ClientSecretBasic(_)) => {
            let credentials = basic(config.client_id.as_deref().unwrap_or_default(), secret);
            // Base64 is always a legal field value.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", credentials.expose())) {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        (Proof::Secret(secret), _) => {
            parameters.extend(client_id);
            parameters.push(("client_secret", secret.expose()));
        }
        (Proof::Assertion(assertion), _) => {
            parameters.extend(client_id);
            parameters.push(("client_assertion_type", JWT_BEARER));
            parameters.push(("client_assertion", assertion.expose()));
        }
        // A public client, or one that its certificate proves (RFC 8705 2), says who it is.
        (Proof::None, _) => parameters.extend(client_id),
    }

    let (content_type, body) = match config.request_format {
        RequestFormat::Form => ("application/x-www-form-urlencoded", form(&parameters)),
        RequestFormat::Json => ("application/json", json(&parameters)),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    TokenRequest { headers, body: Secret::new(body) }
}

/// The credentials of `Authorization: Basic`: base64 of the form-encoded id, a colon and the form-encoded secret.
pub fn basic(client_id: &str, secret: &Secret) -> Secret {
    let pair = Secret::new(format!("{}:{}", encode(client_id), encode(secret.expose())));
    Secret::new(BASE64.encode(pair.expose()))
}

/// `application/x-www-form-urlencoded`, one value (RFC 6749 appendix B).
pub fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn json(parameters: &[(&str, &str)]) -> String {
    // Strings and lists of strings under string keys: there is nothing that could fail.
    serde_json::to_string(&Object(parameters)).unwrap_or_default()
}

/// Parameters as a JSON object in their order; those that stand more than once become one list.
struct Object<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            if self.0.iter().take(index).any(|(earlier, _)| earlier == name) {
                continue;
            }
            let values: Vec<&str> = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect();
            if values.len() == 1 {
                map.serialize_entry(name, value)?;
            } else {
                map.serialize_entry(name, &values)?;
            }
        }
        map.end()
    }
}

/// RFC 7523 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests;
