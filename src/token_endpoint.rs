//! `[token_endpoint]`: a token endpoint of lanyard's own, for applications that fetch tokens themselves and are not to
//! have the client's secret any more (RFC 6749 4.4, as far as such an application asks).
//!
//! What it gives is the profile's token, or a placeholder: the latter is worth nothing, and the request that carries it gets
//! the real one on its way out. Any `POST` is a token request; which profile it is for, its path says (`/NAME/...`), or its
//! `client_id`, or there is only one.

use std::time::Duration;

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;

use crate::{
    config::{CredentialKind, Placement, TokenEndpoint, TokenGiven},
    guard::guard,
    secret::Secret,
    snapshot::{Current, Profile},
    telemetry::RequestId,
    token::{Form, Unavailable},
};

/// The listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The running configuration.
    pub current: Current,
}

impl Listener {
    /// Serves until the process has drained.
    pub async fn serve(self, listener: TcpListener, until: impl Future<Output = ()> + Send + 'static) {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "token endpoint is listening");
        }
        let router = Router::new().fallback(answer).layer(middleware::from_fn(guard)).with_state(self);
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
            tracing::error!(%error, "token endpoint ended");
        }
    }
}

async fn answer(State(listener): State<Listener>, request: Request) -> Response {
    let request_id = RequestId::new();
    let snapshot = listener.current.load();
    let Some(settings) = &snapshot.config.token_endpoint else {
        return refused(
            StatusCode::NOT_FOUND,
            "invalid_request",
            "[token_endpoint] was taken out of the configuration",
        );
    };
    if request.method() == Method::GET && request.uri().path().starts_with("/.well-known/") {
        return metadata(request.headers());
    }
    if request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "a token request is a POST");
    }
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large"),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body did not arrive in time"),
    };
    let asked = match Asked::read(&parts.headers, &body) {
        Ok(asked) => asked,
        Err(problem) => return refused(StatusCode::BAD_REQUEST, "invalid_request", problem),
    };
    let result = give(settings, &snapshot.profiles, &path, &asked, request_id).await;
    let (profile, told) = match &result {
        Ok((profile, _)) => (Some(&**profile), "issued"),
        Err(refusal) => (None, refusal.code),
    };
    tracing::info!(%request_id, profile, result = told, "token endpoint");
    match result {
        Ok((_, body)) => uncached(StatusCode::OK, &body),
        Err(refusal) => refusal.into_response(),
    }
}

/// What is given to whom, or why not.
async fn give(
    settings: &TokenEndpoint,
    profiles: &std::collections::BTreeMap<std::sync::Arc<str>, std::sync::Arc<Profile>>,
    path: &str,
    asked: &Asked,
    request_id: RequestId,
) -> Result<(String, Value), Refusal> {
    match asked.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => {
            let detail = "this endpoint gives tokens for client_credentials; lanyard has the grant of the profile";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", detail));
        }
        None => return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is missing")),
    }
    let listed: Vec<(&Profile, TokenGiven)> =
        settings.profiles.iter().filter_map(|(name, given)| Some((&**profiles.get(name)?, *given))).collect();
    let named = path.split('/').nth(1).unwrap_or_default();
    let by_path = listed.iter().find(|(profile, _)| &*profile.config.name == named);
    let id = asked.client_id.as_deref();
    // A name is one profile's alone; a client's id may be that of many, and another one's name.
    let by_name = || listed.iter().find(|(profile, _)| id == Some(&*profile.config.name));
    let by_id = || {
        let mut with_id = listed.iter().filter(|(profile, _)| id.is_some() && id == own_id(profile));
        with_id.next().filter(|_| with_id.next().is_none())
    };
    let only = || listed.first().filter(|_| listed.len() == 1);
    let (profile, given) = *by_path.or_else(by_name).or_else(by_id).or_else(only).ok_or_else(|| {
        let detail = "no one profile of [token_endpoint] is meant: ask at /NAME/token, or with its name as client_id";
        Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", detail)
    })?;
    if let Some(source) = &settings.client_secret {
        let expected = source.read().await.map_err(|error| {
            tracing::error!(%error, "client_secret of [token_endpoint] cannot be read");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "see the log of lanyard")
        })?;
        let presented = asked.client_secret.as_ref().map_or("", Secret::expose);
        if !same(expected.expose(), presented) {
            let detail = "the client_secret is not that of [token_endpoint]";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_client", detail));
        }
    }
    let name = profile.config.name.to_string();
    let body = match given {
        TokenGiven::Placeholder => json!({
            "access_token": format!("{PLACEHOLDER}{name}"),
            "token_type": "Bearer",
            "expires_in": PLACEHOLDER_LIFETIME.as_secs(),
        }),
        TokenGiven::Token => real(profile, request_id).await?,
    };
    Ok((name, body))
}

/// The token itself, with the time that it has left.
async fn real(profile: &Profile, request_id: RequestId) -> Result<Value, Refusal> {
    let token = profile.slot.get(request_id).await.map_err(|unavailable| {
        let (detail, retry_after) = match unavailable {
            Unavailable::Failed { error, retry_after } => (error.detail.clone(), retry_after),
            Unavailable::StillWaiting { .. } => {
                ("the token request is still under way".to_owned(), Duration::from_secs(1))
            }
        };
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", detail);
        Refusal { retry_after: Some(retry_after), ..refusal }
    })?;
    let (Form::Header(value), Placement::Header { prefix, .. }) = (&token.form, &profile.config.placement) else {
        // `check` does not let it come to that.
        let detail = "this profile's credential is not one that can be given away";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", detail));
    };
    let text = value.to_str().unwrap_or_default();
    let text = text.strip_prefix(prefix.as_str()).unwrap_or(text).trim_start();
    // What does not expire may still be replaced: the client is to come back for it.
    let left = |left: Option<Duration>| left.unwrap_or(PLACEHOLDER_LIFETIME).as_secs();
    let left = profile.slot.status().token.map_or(0, |(_, _, time)| left(time));
    Ok(json!({ "access_token": text, "token_type": "Bearer", "expires_in": left }))
}

/// What a client asks for, as far as it counts here.
struct Asked {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
}

impl Asked {
    /// From a form, a JSON object, or both halves of HTTP Basic (RFC 6749 2.3.1).
    fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, &'static str> {
        let is_json = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
        let mut asked = Self { grant_type: None, client_id: None, client_secret: None };
        if is_json {
            let object: Value = serde_json::from_slice(body).map_err(|_| "the body is no JSON object")?;
            let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
            asked.grant_type = text("grant_type");
            asked.client_id = text("client_id");
            asked.client_secret = text("client_secret").map(Secret::new);
        } else {
            for (name, value) in form_urlencoded::parse(body) {
                match &*name {
                    "grant_type" => asked.grant_type = Some(value.into_owned()),
                    "client_id" => asked.client_id = Some(value.into_owned()),
                    "client_secret" => asked.client_secret = Some(Secret::new(value)),
                    _ => {}
                }
            }
        }
        if let Some((id, secret)) = basic(headers)? {
            asked.client_id = Some(id);
            asked.client_secret = Some(secret);
        }
        Ok(asked)
    }
}

/// `client_id` of the profile itself.
fn own_id(profile: &Profile) -> Option<&str> {
    match &profile.config.kind {
        CredentialKind::OAuth2(oauth2) => oauth2.client_id.as_deref(),
        _ => None,
    }
}

/// Id and secret of HTTP Basic, if there are any.
fn basic(headers: &HeaderMap) -> Result<Option<(String, Secret)>, &'static str> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let malformed = "Authorization is no HTTP Basic: base64 of ID:SECRET";
    let text = value.to_str().map_err(|_| malformed)?;
    let (scheme, encoded) = text.trim().split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(malformed);
    }
    let decoded = BASE64.decode(encoded.trim()).map_err(|_| malformed)?;
    let decoded = Secret::new(String::from_utf8(decoded).map_err(|_| malformed)?);
    let (id, secret) = decoded.expose().split_once(':').ok_or(malformed)?;
    let plain = |text: &str| {
        let text = text.replace('&', "%26").replace('=', "%3D");
        form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    Ok(Some((plain(id), Secret::new(plain(secret)))))
}

/// Compares in a time that depends neither on where two texts differ nor on their lengths.
fn same(left: &str, right: &str) -> bool {
    Sha256::digest(left).ct_eq(&Sha256::digest(right)).into()
}

/// RFC 8414, for clients that discover.
fn metadata(headers: &HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let issuer = format!("http://{host}");
    uncached(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        }),
    )
}

/// An error of RFC 6749 5.2.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code, "error_description": self.detail });
        let mut response = uncached(self.status, &body);
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Basic realm=\"lanyard\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn refused(status: StatusCode, code: &'static str, detail: &str) -> Response {
    Refusal::new(status, code, detail).into_response()
}

/// A JSON answer that no cache may keep (RFC 6749 5.1).
fn uncached(status: StatusCode, body: &Value) -> Response {
    let fields =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    (status, fields, format!("{body}\n")).into_response()
}

/// What a placeholder begins with: a field that holds one counts as none of the client's own.
pub const PLACEHOLDER: &str = "lanyard-placeholder-";
/// An application asks for another placeholder after this time, though the old one is as good.
const PLACEHOLDER_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The largest token request, bytes.
const BODY_LIMIT: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
