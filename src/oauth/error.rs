//! What a token endpoint's refusal means, and what an operator should do about it (RFC 6749 5.2). Pure.
//!
//! Tolerant of what servers really send: errors with status 200, 403 without a body, errors in objects and lists,
//! HTML. Everything a server wrote passes the [`Scrubber`] before it is shown.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use serde_json::Value;
use url::Url;

use super::scrub::Scrubber;
use crate::{
    config::{Assertion, Authentication, Grant, OAuth2, RequestFormat},
    credential::{FetchError, FetchErrorKind},
};

/// One answer of a token endpoint. Its body may hold a token, so it has no `Debug`.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its whole body.
    pub body: &'a [u8],
}

/// What was asked, by whom and when: what an answer is understood by.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The token endpoint as it may be shown: without userinfo, query and fragment.
    pub endpoint: &'a str,
    /// The token endpoint, whole.
    pub url: &'a Url,
    /// The profile's settings.
    pub config: &'a OAuth2,
    /// Knows the secrets that were sent.
    pub scrubber: &'a Scrubber,
    /// Wall-clock time of the answer.
    pub now: SystemTime,
}

/// What a server says about an error, fit to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The error code, if it is one: a few characters that RFC 6749 allows.
    pub code: Option<String>,
    /// The explanation.
    pub description: Option<String>,
}

impl Said {
    /// Finds an error in a JSON object; `None` where it holds none.
    pub fn find(object: &serde_json::Map<String, Value>, scrubber: &Scrubber) -> Option<Self> {
        let (code, nested) = match object.get("error") {
            Some(Value::String(code)) => (Some(code.as_str()), None),
            Some(Value::Object(error)) => (first_text(error, &["code", "status", "type", "error"]), Some(error)),
            Some(Value::Null | Value::Bool(false)) | None => {
                let first = object.get("errors").and_then(Value::as_array).and_then(|errors| errors.first());
                match first {
                    Some(Value::Object(error)) => (first_text(error, &["code", "error", "type"]), Some(error)),
                    // A list of plain texts, of which the first explains.
                    Some(Value::String(text)) => {
                        return Some(Self { code: None, description: shown(text, scrubber) });
                    }
                    Some(_) => (None, None),
                    None => return None,
                }
            }
            Some(_) => (None, None),
        };
        let code = code.and_then(|code| legal_code(code, scrubber));
        let description =
            nested.and_then(|error| first_text(error, &DESCRIPTIONS)).or_else(|| first_text(object, &DESCRIPTIONS));
        Some(Self { code, description: description.and_then(|text| shown(text, scrubber)) })
    }

    /// Finds what is said in the body of a refusal, also where it is not an error of OAuth's form (RFC 9457, `message`).
    fn in_body(body: &[u8], scrubber: &Scrubber) -> Self {
        let Ok(Value::Object(object)) = serde_json::from_slice(super::response::without_bom(body)) else {
            return Self::default();
        };
        Self::find(&object, scrubber).unwrap_or_else(|| Self {
            code: None,
            description: first_text(&object, &DESCRIPTIONS).and_then(|text| shown(text, scrubber)),
        })
    }
}

/// Turns an answer that is no success into the error it means.
pub fn refusal(answer: Answer<'_>, asked: &Asked<'_>) -> FetchError {
    let said = Said::in_body(answer.body, asked.scrubber);
    refusal_saying(&said, answer, asked)
}

/// As [`refusal`], where what the server says has been found already: an error with status 200.
pub fn refusal_saying(said: &Said, answer: Answer<'_>, asked: &Asked<'_>) -> FetchError {
    let kind = kind(answer.status, said.code.as_deref());
    let mut detail = format!("token endpoint {} answered {}", asked.endpoint, answer.status.as_u16());
    match (&said.code, answer.status.canonical_reason()) {
        (Some(code), _) => detail.extend([" ", code]),
        (None, Some(reason)) => detail.extend([" ", reason]),
        (None, None) => {}
    }
    if let Some(description) = &said.description {
        detail.extend([": ", description]);
    }
    let hint = by_code(said.code.as_deref(), answer.status, asked).unwrap_or_else(|| hint(kind, answer.status, asked));
    FetchError { kind, detail, hint, retry_after: retry_after(answer.headers, asked.now) }
}

/// When to ask again, from `Retry-After` in seconds or as a date; at most [`MAX_RETRY_AFTER`].
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only digits: what does not fit is more than any limit.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The status decides where it is about the server, else the code does, else what is left of the status.
fn kind(status: StatusCode, code: Option<&str>) -> FetchErrorKind {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return FetchErrorKind::RateLimited;
    }
    if status.is_server_error() {
        return FetchErrorKind::ServerError;
    }
    match code {
        Some("invalid_client") => FetchErrorKind::InvalidClient,
        Some("unauthorized_client") => FetchErrorKind::UnauthorizedClient,
        Some("invalid_scope") => FetchErrorKind::InvalidScope,
        Some("invalid_grant") => FetchErrorKind::InvalidGrant,
        Some("invalid_request") => FetchErrorKind::InvalidRequest,
        Some("invalid_target") => FetchErrorKind::InvalidTarget,
        Some("unsupported_grant_type") => FetchErrorKind::UnsupportedGrantType,
        Some("server_error" | "temporarily_unavailable") => FetchErrorKind::ServerError,
        _ if status == StatusCode::UNAUTHORIZED => FetchErrorKind::InvalidClient,
        None if status == StatusCode::FORBIDDEN => FetchErrorKind::InvalidClient,
        _ if status == StatusCode::REQUEST_TIMEOUT => FetchErrorKind::Timeout,
        _ => FetchErrorKind::Refused,
    }
}

/// What to do about codes of extensions, and about those of RFC 6749 that servers use in a sense of their own.
fn by_code(code: Option<&str>, status: StatusCode, asked: &Asked<'_>) -> Option<String> {
    let Asked { profile, config, .. } = asked;
    let client = client(config);
    Some(match code? {
        // Keycloak says so of a wrong secret too, with 401.
        "unauthorized_client" if status == StatusCode::UNAUTHORIZED => format!(
            "{}; or the server knows {client} and does not allow it {}",
            invalid_client(config, profile),
            grant(config)
        ),
        // Auth0's word for a wrong secret.
        "access_denied" if status == StatusCode::UNAUTHORIZED => invalid_client(config, profile),
        // Auth0, and Keycloak's token exchange.
        "access_denied" => {
            let lacks = if config.audience.is_none() {
                format!(" (some want to be told which: set `audience` of profile {profile})")
            } else {
                String::new()
            };
            format!("the server does not allow {client} to use this API: grant it access there{lacks}")
        }
        // DocuSign, and Entra ID where it acts on behalf of somebody.
        "consent_required" | "interaction_required" => format!(
            "the server wants a person to agree first: let the user, or an administrator for all, give {client} consent \
             once, in a browser"
        ),
        // RFC 9449 5 and 8.
        "invalid_dpop_proof" | "use_dpop_nonce" if config.dpop.is_none() => format!(
            "the server wants tokens that are bound to a key (RFC 9449): set dpop = true in profile {profile}, or let it \
             give {client} bearer tokens"
        ),
        "invalid_dpop_proof" => format!(
            "check this machine's clock, and that the server takes the algorithm of dpop_key and sees the address of \
             token_endpoint of profile {profile} as lanyard does"
        ),
        _ => return None,
    })
}

fn hint(kind: FetchErrorKind, status: StatusCode, asked: &Asked<'_>) -> String {
    let Asked { profile, config, .. } = asked;
    let scope = config.scope.as_deref();
    match kind {
        FetchErrorKind::InvalidClient => invalid_client(config, profile),
        FetchErrorKind::UnauthorizedClient => format!(
            "the server knows {} but does not allow it this: enable {} for it there",
            client(config),
            grant(config)
        ),
        FetchErrorKind::InvalidScope => match scope {
            Some(scope) => format!(
                "the server does not grant one of `{scope}` to this client: ask for it there, \
                 or change `scope` of profile {profile}"
            ),
            None => format!("the server wants to be told a scope: set `scope` of profile {profile}"),
        },
        FetchErrorKind::InvalidGrant => invalid_grant(config, profile),
        // RFC 8693 2.2.2: so a server says that it does not take one of the tokens.
        FetchErrorKind::InvalidRequest if matches!(config.grant, Grant::TokenExchange { .. }) => {
            let hint = invalid_grant(config, profile);
            format!("{hint}, or the server wants another parameter: compare profile {profile} with its documentation")
        }
        FetchErrorKind::InvalidRequest => {
            let lacks: Vec<&str> = [
                ("client_id", config.client_id.is_none()),
                ("scope", scope.is_none()),
                ("audience", config.audience.is_none()),
                ("resource", config.resource.is_empty()),
            ]
            .into_iter()
            .filter_map(|(name, lacks)| lacks.then_some(name))
            .collect();
            let wants = if lacks.is_empty() { String::new() } else { format!(" (some want {})", lacks.join(" or ")) };
            format!(
                "the server misses a parameter or refuses one{wants}: compare profile {profile} with its documentation"
            )
        }
        FetchErrorKind::InvalidTarget => {
            format!("the server does not know this `resource` or `audience`: check those of profile {profile}")
        }
        FetchErrorKind::UnsupportedGrantType => format!(
            "enable {} for {} at the server, and check that token_endpoint is the right one",
            grant(config),
            client(config)
        ),
        FetchErrorKind::RateLimited => {
            "the server limits how often it is asked: lanyard waits as told; look for other users of this client"
                .to_owned()
        }
        FetchErrorKind::ServerError => "the server has a fault of its own: lanyard tries again".to_owned(),
        FetchErrorKind::Timeout => "the server gave up waiting for the request: lanyard tries again".to_owned(),
        _ => hint_by_status(status, asked),
    }
}

/// Who asks, in a sentence.
fn client(config: &OAuth2) -> String {
    config.client_id.as_ref().map_or_else(|| "this client".to_owned(), |id| format!("client `{id}`"))
}

/// What it asks by, in a sentence.
const fn grant(config: &OAuth2) -> &'static str {
    match &config.grant {
        Grant::ClientCredentials => "client credentials",
        Grant::RefreshToken { .. } => "refresh tokens",
        Grant::Password { .. } => "the password grant",
        Grant::JwtBearer(_) => "the jwt-bearer grant",
        Grant::TokenExchange { .. } => "token exchange",
    }
}

fn invalid_client(config: &OAuth2, profile: &str) -> String {
    let other = |method: &str| {
        format!(
            "check client_id and client_secret of profile {profile}; \
             some servers want token_endpoint_auth_method = \"{method}\""
        )
    };
    match &config.authentication {
        Authentication::ClientSecretBasic(_) => other("client_secret_post"),
        Authentication::ClientSecretPost(_) => other("client_secret_basic"),
        Authentication::SignedJwt { key, .. } if key.algorithm.is_some_and(|one| one.is_symmetric()) => format!(
            "check client_id and client_secret of profile {profile}, and that the server takes client_secret_jwt; \
             some want client_assertion_audience = \"issuer\", others \"token_endpoint\""
        ),
        Authentication::SignedJwt { .. } => format!(
            "check that the server has the public key of profile {profile} (key_id, too) for its client_id, and this \
             machine's clock; some want client_assertion_audience = \"issuer\", others \"token_endpoint\", or a shorter \
             assertion_lifetime"
        ),
        Authentication::Assertion(_) => format!(
            "check that the server trusts who made client_assertion of profile {profile}, for its `sub` and `aud`, and \
             that it is fresh"
        ),
        Authentication::Tls { .. } => format!(
            "check that the server has the certificate of profile {profile} (or its subject) for its client_id, and \
             that token_endpoint is the address which asks for certificates"
        ),
        Authentication::None => {
            format!("the server wants this client to prove itself: set token_endpoint_auth_method of profile {profile}")
        }
    }
}

fn invalid_grant(config: &OAuth2, profile: &str) -> String {
    match &config.grant {
        Grant::ClientCredentials => format!(
            "the server refuses the grant itself: check that {} is active there and may use client credentials",
            client(config)
        ),
        Grant::RefreshToken { .. } => {
            let key = if config.dpop.is_some() { ", or bound to another dpop_key" } else { "" };
            format!(
                "the refresh token is used up, revoked or expired{key}: log in again and write the new one where \
                 refresh_token of profile {profile} says"
            )
        }
        Grant::Password { .. } => format!("check username and password of profile {profile}: log in with them once"),
        Grant::JwtBearer(Assertion::Caller { .. } | Assertion::Given(_)) => format!(
            "the server refuses the assertion, which profile {profile} has from elsewhere: check iss, sub and aud in it: that \
             its `aud` is what the server wants, and that the server has the key of its `iss`; that it is fresh (many are \
             good for one use), and that its user or an administrator has approved this client"
        ),
        Grant::JwtBearer(_) => format!(
            "the server refuses the assertion: check iss, sub and aud (claims of profile {profile}), the key that it has \
             for them, that `sub` or an administrator has approved this client, and this machine's clock"
        ),
        Grant::TokenExchange { .. } => format!(
            "the server refuses the subject token: is it fresh, from an issuer that the server trusts, and of the \
             subject_token_type of profile {profile}?"
        ),
    }
}

fn hint_by_status(status: StatusCode, asked: &Asked<'_>) -> String {
    let profile = asked.profile;
    match status.as_u16() {
        404 | 405 | 410 => {
            format!("there is no token endpoint at this address: check token_endpoint of profile {profile}")
        }
        407 => {
            format!("a proxy wants a login: name it as egress_proxy of profile {profile}, with username and password")
        }
        415 => {
            let other = match asked.config.request_format {
                RequestFormat::Form => "json",
                RequestFormat::Json => "form",
            };
            format!("the server wants another format: try request_format = \"{other}\" in profile {profile}")
        }
        _ => format!(
            "the server refuses this request: see what it says, and its own log, about {}",
            client(asked.config)
        ),
    }
}

/// A code as RFC 6749 5.2 allows it, short enough to be one, and none of our secrets.
fn legal_code(code: &str, scrubber: &Scrubber) -> Option<String> {
    let legal = !code.is_empty()
        && code.len() <= MAX_CODE
        && code.bytes().all(|b| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    // A registered code is its own proof, whatever the secret is.
    if REGISTERED.contains(&code) {
        return Some(code.to_owned());
    }
    legal.then(|| scrubber.clean(code, MAX_CODE))
}

fn shown(text: &str, scrubber: &Scrubber) -> Option<String> {
    let clean = scrubber.clean(text, MAX_DESCRIPTION);
    (!clean.is_empty()).then_some(clean)
}

fn first_text<'a>(object: &'a serde_json::Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| object.get(*name).and_then(Value::as_str)).filter(|text| !text.is_empty())
}

/// The longest time a server can make a profile wait.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// The longest error code, characters.
const MAX_CODE: usize = 64;
/// How much of an explanation is shown, characters: Entra ID's end with the ids that its support asks for.
pub(super) const MAX_DESCRIPTION: usize = 400;
/// Where servers put their explanations.
const DESCRIPTIONS: [&str; 6] = ["error_description", "message", "description", "detail", "details", "title"];
/// RFC 6749 5.2, RFC 8707 2 and two that servers borrow from 4.1.2.1.
const REGISTERED: [&str; 9] = [
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "invalid_grant",
    "invalid_request",
    "invalid_target",
    "unsupported_grant_type",
    "server_error",
    "temporarily_unavailable",
];

#[cfg(test)]
mod tests;
