//! The parameters of a request to an OAuth endpoint: form or JSON, in the body, each at most once.

use std::{collections::HashMap, fmt, time::Duration};

use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, header},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::error::OAuthError;

/// What a client sent. Holds secrets and tokens: it has no `Debug`.
#[derive(Default)]
pub(super) struct Parameters {
    single: HashMap<String, String>,
    resources: Vec<String>,
    audiences: Vec<String>,
}

impl Parameters {
    /// Reads the body of a request; also returns the headers.
    pub(super) async fn read(request: Request) -> Result<(HeaderMap, Self), OAuthError> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| NEVER_IN_URL.contains(&&*name)) {
            return Err(OAuthError::invalid_request("Parameters go into the body, never into the URL"));
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(OAuthError::body_too_large(BODY_LIMIT)),
            Err(_) => return Err(OAuthError::body_too_slow()),
        };
        let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let parameters = match media_type.as_str() {
            "application/x-www-form-urlencoded" => Self::from_form(&body)?,
            "application/json" => Self::from_json(&body)?,
            _ if body.is_empty() => Self::default(),
            _ => {
                return Err(OAuthError::invalid_request(
                    "Content-Type must be application/x-www-form-urlencoded or application/json",
                ));
            }
        };
        Ok((parts.headers, parameters))
    }

    /// The parameter's value. One that was sent empty counts as not sent (RFC 6749 section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.single.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The parameter's value, or the error that it is missing.
    pub(super) fn require(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("Missing {name} parameter")))
    }

    /// All values of `resource`, which may be repeated (RFC 8707 section 2).
    pub(super) fn resources(&self) -> &[String] {
        &self.resources
    }

    /// All values of `audience`, which may be repeated (RFC 8693 section 2.1).
    pub(super) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub(super) fn from_form(body: &[u8]) -> Result<Self, OAuthError> {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            parameters.add(name.into_owned(), value.into_owned())?;
        }
        Ok(parameters)
    }

    pub(super) fn from_json(body: &[u8]) -> Result<Self, OAuthError> {
        // The parser's own message may quote the body, and with it a secret.
        let Members(members) = serde_json::from_slice(body)
            .map_err(|error| OAuthError::invalid_request(format!("The body is no JSON object {}", place(&error))))?;
        let mut parameters = Self::default();
        for (name, value) in members {
            match value {
                Value::Null => {}
                Value::String(value) => parameters.add(name, value)?,
                Value::Array(values) if name == RESOURCE || name == AUDIENCE => {
                    for value in values {
                        let Value::String(value) = value else { return Err(not_a_string(&name)) };
                        parameters.add(name.clone(), value)?;
                    }
                }
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    return Err(not_a_string(&name));
                }
            }
        }
        Ok(parameters)
    }

    fn add(&mut self, name: String, value: String) -> Result<(), OAuthError> {
        let list = match name.as_str() {
            RESOURCE => Some(&mut self.resources),
            AUDIENCE => Some(&mut self.audiences),
            _ => None,
        };
        if let Some(list) = list {
            if !value.is_empty() {
                list.push(value);
            }
            return Ok(());
        }
        if self.single.contains_key(&name) {
            return Err(OAuthError::invalid_request(format!("Repeated parameter {}", short(&name))));
        }
        self.single.insert(name, value);
        Ok(())
    }
}

/// The members of a JSON object in their order, also those whose name came before: serde_json's own map would keep the
/// last one and say nothing.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

fn place(error: &serde_json::Error) -> String {
    format!("(line {} column {})", error.line(), error.column())
}

fn not_a_string(name: &str) -> OAuthError {
    OAuthError::invalid_request(format!("Parameter {} must be a string", short(name)))
}

/// A name that a client made up, cut to what an error message can hold.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

const RESOURCE: &str = "resource";
const AUDIENCE: &str = "audience";

/// URLs end up in logs (RFC 6749 section 2.3.1).
const NEVER_IN_URL: [&str; 12] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "scope",
    "token",
    "refresh_token",
    "username",
    "password",
    "assertion",
    "subject_token",
    "actor_token",
];

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a body may take: a slow client must not keep the server from shutting down.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
