//! What a token endpoint's answer is: a token, or what is wrong with it. Pure.
//!
//! Lenient where servers differ (`expires_in` as text, no `token_type`, further members), strict where a mistake would put
//! something into a header that is no bearer token.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use http::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Map, Value};

use super::error::{Answer, Asked, Said, refusal, refusal_saying};
use crate::{
    config::{Assertion, Grant, OAuth2},
    credential::{FetchError, FetchErrorKind},
    secret::Secret,
};

/// What a server grants.
#[derive(Debug)]
pub struct Granted {
    /// The access token: visible ASCII without spaces, so it can stand in a header field.
    pub token: Secret,
    /// How long it lives from now; `None` where nobody tells. Zero: it is already over.
    pub lifetime: Option<Duration>,
    /// The refresh token to use from now on.
    pub refresh_token: Option<Secret>,
    /// What an operator should know besides.
    pub warnings: Vec<String>,
}

/// Understands a whole answer.
///
/// The lifetime is `expires_in`; else, for a JWT, `exp` less the wall clock's now (not less `iat`: a server may hand out
/// a token it made a while ago); else unknown. It is never negative and at most [`MAX_LIFETIME`].
///
/// # Errors
/// The server refuses, sends us elsewhere, or its success is none.
pub fn read(answer: Answer<'_>, asked: &Asked<'_>) -> Result<Granted, FetchError> {
    if answer.status.is_redirection() {
        return Err(redirected(answer, asked));
    }
    if !answer.status.is_success() {
        return Err(refusal(answer, asked));
    }
    let object = object(answer, asked)?;
    let token = match (object.get("access_token"), object.get("id_token")) {
        (Some(Value::String(token)), _) => token,
        // Google's answer to `target_audience`: an id_token and nothing else, for Cloud Run and IAP to take as a bearer token.
        (None, Some(Value::String(token))) if wants_id_token(asked.config) => token,
        (Some(Value::Null) | None, _) => return Err(no_token(&object, answer, asked)),
        (Some(other), _) => return Err(wrong(asked, &format!("access_token is {}, not text", name(other)), REPORT)),
    };
    check_token(token).map_err(|problem| wrong(asked, &problem, REPORT))?;
    check_type(&object, asked)?;

    let mut warnings = Vec::new();
    let lifetime = match told(object.get("expires_in")) {
        Ok(told) => told.or_else(|| jwt_lifetime(token, asked.now)),
        Err(()) => {
            warnings.push("expires_in of the token response is no number and was ignored".to_owned());
            jwt_lifetime(token, asked.now)
        }
    };
    warnings.extend(narrower(asked.config.scope.as_deref(), object.get("scope")));
    let refresh_token = match object.get("refresh_token") {
        Some(Value::String(text)) if !text.is_empty() => Some(Secret::new(text.as_str())),
        _ => None,
    };
    Ok(Granted { token: Secret::new(token.as_str()), lifetime, refresh_token, warnings })
}

/// Whether the assertion asks for an ID token: its audience stands in there, by Google's name for it.
fn wants_id_token(config: &OAuth2) -> bool {
    match &config.grant {
        Grant::JwtBearer(Assertion::Signed { claims, .. } | Assertion::ServiceAccount { claims, .. }) => {
            claims.contains_key("target_audience")
        }
        _ => false,
    }
}

/// The body as a JSON object.
fn object(answer: Answer<'_>, asked: &Asked<'_>) -> Result<Map<String, Value>, FetchError> {
    let body = without_bom(answer.body).trim_ascii();
    if body.is_empty() {
        let problem = format!("{} with an empty body", answer.status.as_u16());
        return Err(wrong(asked, &problem, "check that token_endpoint is the address of the token endpoint"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(wrong(asked, &format!("JSON that is {}, not an object", name(&other)), REPORT)),
        Err(_) if is_html(answer, body) => {
            Err(wrong(asked, "HTML instead of JSON", "this looks like a web page, is token_endpoint right?"))
        }
        Err(e) if e.is_eof() => Err(wrong(
            asked,
            &format!("JSON that ends too early, after {} bytes", body.len()),
            "the server, or a proxy before it, cuts its answers short: look there",
        )),
        // serde_json's message may quote the body; line and column cannot.
        Err(e) => {
            let problem = format!("a body that is not JSON (line {}, column {})", e.line(), e.column());
            Err(wrong(asked, &problem, "check that token_endpoint is the address of the token endpoint"))
        }
    }
}

fn no_token(object: &Map<String, Value>, answer: Answer<'_>, asked: &Asked<'_>) -> FetchError {
    if let Some(said) = Said::find(object, asked.scrubber) {
        return refusal_saying(&said, answer, asked);
    }
    let also = if object.contains_key("id_token") { ", only an id_token" } else { "" };
    wrong(
        asked,
        &format!("{} without an access_token{also}", answer.status.as_u16()),
        "check that token_endpoint is the address of the token endpoint and issues access tokens",
    )
}

/// Visible ASCII (RFC 6750's b64token and what servers use besides): nothing that could end or split a header field.
fn check_token(token: &str) -> Result<(), String> {
    if token.is_empty() {
        return Err("an empty access_token".to_owned());
    }
    if token.len() > MAX_TOKEN {
        return Err(format!("an access_token of {} bytes, more than {MAX_TOKEN}", token.len()));
    }
    let Some((at, illegal)) = token.bytes().enumerate().find(|(_, b)| !b.is_ascii_graphic()) else { return Ok(()) };
    let what = match illegal {
        b'\r' | b'\n' => "a line end",
        b' ' => "a space",
        0x80.. => "a character beyond ASCII",
        _ => "a control character",
    };
    Err(format!("an access_token with {what} at byte {at}"))
}

/// A token may only be used as its type says (RFC 6749 7.1), and Bearer is the one that a header carries as it is.
fn check_type(object: &Map<String, Value>, asked: &Asked<'_>) -> Result<(), FetchError> {
    let token_type = match object.get("token_type") {
        None | Some(Value::Null) if asked.config.dpop.is_none() => return Ok(()),
        None | Some(Value::Null) => "",
        Some(Value::String(token_type)) => token_type.trim(),
        Some(other) => return Err(wrong(asked, &format!("token_type is {}, not text", name(other)), REPORT)),
    };
    if asked.config.dpop.is_some() {
        // A token that is bound to nothing would go out as if it were (RFC 9449 5).
        if token_type.eq_ignore_ascii_case("dpop") {
            return Ok(());
        }
        let shown = asked.scrubber.clean(token_type, MAX_TYPE);
        let hint = "the server does not bind its tokens to a key: allow DPoP for this client there, or remove `dpop`";
        return Err(wrong(asked, &format!("a token of type `{shown}`, not DPoP"), hint));
    }
    // Apigee says BearerToken.
    if token_type.is_empty() || ["bearer", "bearertoken"].iter().any(|good| token_type.eq_ignore_ascii_case(good)) {
        return Ok(());
    }
    let hint = match token_type.to_ascii_lowercase().as_str() {
        "dpop" => "the server binds its tokens to a key (RFC 9449): set dpop = true in this profile",
        "mac" => {
            "the server wants signed requests (MAC), which lanyard does not do: allow Bearer tokens for this client"
        }
        "n_a" => {
            "what the server issues is no access token (N_A, RFC 8693): set requested_token_type = \"access_token\""
        }
        _ => "lanyard can only use Bearer tokens: let the server issue those to this client",
    };
    let shown = asked.scrubber.clean(token_type, MAX_TYPE);
    Err(wrong(asked, &format!("a token of type `{shown}`, not Bearer"), hint))
}

/// `expires_in` as number or as text; `Err` where it is neither.
fn told(expires_in: Option<&Value>) -> Result<Option<Duration>, ()> {
    let seconds = match expires_in {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    seconds.filter(|seconds: &f64| seconds.is_finite()).map(clamped).map(Some).ok_or(())
}

/// The lifetime that a JWT tells of itself by `exp`, from `now`. Nothing is verified: it is the resource server that has to trust it.
pub fn jwt_lifetime(token: &str, now: SystemTime) -> Option<Duration> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = BASE64URL.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&claims).ok()?;
    let expiry = claims.get("exp")?.as_f64()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(clamped(expiry - now.as_secs_f64()))
}

fn clamped(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64()))
}

/// The scopes that were asked for but not granted. A response without `scope` grants what was asked (RFC 6749 5.1).
fn narrower(asked: Option<&str>, granted: Option<&Value>) -> Option<String> {
    let granted: Vec<&str> = match granted? {
        Value::String(text) => text.split([' ', ',']).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let missing: Vec<&str> = asked?.split(' ').filter(|one| !one.is_empty() && !granted.contains(one)).collect();
    (!missing.is_empty())
        .then(|| format!("the server granted a narrower scope than asked for, without `{}`", missing.join(" ")))
}

fn redirected(answer: Answer<'_>, asked: &Asked<'_>) -> FetchError {
    let to = answer
        .headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|location| asked.url.join(location).ok())
        .and_then(|url| url.host_str().map(|host| asked.scrubber.clean(host, MAX_HOST)));
    let to = to.map_or_else(String::new, |host| format!(", a redirect to {host}"));
    FetchError {
        kind: FetchErrorKind::Refused,
        detail: format!("token endpoint {} answered {}{to}", asked.endpoint, answer.status.as_u16()),
        hint: format!(
            "redirects are not followed, so that the client secret goes nowhere else: \
             set token_endpoint of profile {} to the final address",
            asked.profile
        ),
        retry_after: None,
    }
}

fn wrong(asked: &Asked<'_>, problem: &str, hint: &str) -> FetchError {
    FetchError {
        kind: FetchErrorKind::InvalidResponse,
        detail: format!("token endpoint {} sent no usable token: {problem}", asked.endpoint),
        hint: hint.to_owned(),
        retry_after: None,
    }
}

fn is_html(answer: Answer<'_>, body: &[u8]) -> bool {
    let declared = answer.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    declared || body.starts_with(b"<")
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A body without the byte order mark that some servers begin with.
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The longest lifetime that is believed: 10 years. Servers say "for ever" by numbers that no clock can count to.
pub const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The longest token, bytes: more does not fit into a header that servers accept.
pub const MAX_TOKEN: usize = 16 * 1024;
const MAX_TYPE: usize = 40;
const MAX_HOST: usize = 253;
const REPORT: &str = "this is a fault of the server: report it there";

#[cfg(test)]
mod tests;
