//! A protected API to try tokens on: every path and method, among them `/api/v1/protected-resource` and `/resource`.
//!
//! It checks a token for real (signature, issuer, expiry, revocation, audience, scope) and answers as RFC 6750 says:
//! 401 without an error code where there is no token, 401 `invalid_token`, 403 `insufficient_scope`, 400
//! `invalid_request`. A success says whose token it was, never the token.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::json;

use super::{
    Issuer,
    claims::{Claims, TokenProblem},
    error::{describable, uncached},
    incoming::peer_of,
    tls::Peer,
};

/// What the protected API asks of a token, other than being good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// `aud` must hold this. None: any audience.
    pub audience: Option<String>,
    /// The scope for GET, HEAD and OPTIONS. None: no scope is needed.
    pub read_scope: Option<String>,
    /// The scope for every other method. None: no scope is needed.
    pub write_scope: Option<String>,
}

impl Requirements {
    /// What goes with [`Settings::development`](super::Settings::development): `api:read` to read, `api:write` to write.
    pub fn development() -> Self {
        Self { audience: None, read_scope: Some("api:read".to_owned()), write_scope: Some("api:write".to_owned()) }
    }

    fn scope(&self, method: &Method) -> Option<&str> {
        if method.is_safe() { self.read_scope.as_deref() } else { self.write_scope.as_deref() }
    }
}

/// The protected API, for tokens of `issuer`. It may share a router with the issuer's own: known paths win.
pub fn router(issuer: Arc<Issuer>, requirements: Requirements) -> Router {
    Router::new()
        .route("/", any(answer))
        .route("/{*path}", any(answer))
        .with_state(Arc::new(Resource { issuer, requirements }))
}

struct Resource {
    issuer: Arc<Issuer>,
    requirements: Requirements,
}

async fn answer(State(resource): State<Arc<Resource>>, request: Request) -> Response {
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    let result = resource.admit(&parts.method, &parts.headers, &peer);
    tracing::info!(
        target: "lanyard::issuer",
        method = %parts.method,
        path = parts.uri.path(),
        client_id = result.as_ref().ok().map(|claims| claims.client_id.as_str()),
        result = result.as_ref().map_or_else(Denial::code, |_| "admitted"),
        "protected resource"
    );
    match result {
        Err(denial) => denial.into_response(),
        Ok(claims) => uncached(&json!({
            "message": "Access granted",
            "sub": claims.sub,
            "scope": claims.scope.unwrap_or_default(),
            "client_id": claims.client_id,
            "method": parts.method.as_str(),
            "path": parts.uri.path(),
            "body_bytes": drain(body).await,
        })),
    }
}

impl Resource {
    fn admit(&self, method: &Method, headers: &HeaderMap, peer: &Peer) -> Result<Claims, Denial> {
        let claims = self.issuer.verify(bearer(headers)?).map_err(Denial::BadToken)?;
        Issuer::check_binding(&claims, peer).map_err(Denial::BadToken)?;
        if self.requirements.audience.as_ref().is_some_and(|wanted| !claims.aud.contains(wanted)) {
            return Err(Denial::OtherAudience);
        }
        match self.requirements.scope(method) {
            Some(scope) if !claims.has_scope(scope) => Err(Denial::MissingScope(scope.to_owned())),
            Some(_) | None => Ok(claims),
        }
    }
}

/// The token in the `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Denial> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Denial::NoToken)?;
    if values.next().is_some() {
        return Err(Denial::Malformed("More than one Authorization header"));
    }
    let text = value.to_str().map_err(|_| Denial::Malformed("Malformed Authorization header"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Denial::NoToken);
    }
    let token = token.trim_matches(' ');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(allowed) {
        return Err(Denial::Malformed("Malformed Authorization header: expected Bearer and one token"));
    }
    Ok(token)
}

/// Why a request is not let in.
#[derive(Debug)]
enum Denial {
    NoToken,
    Malformed(&'static str),
    BadToken(TokenProblem),
    OtherAudience,
    MissingScope(String),
}

impl Denial {
    fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "unauthorized",
            Self::Malformed(_) => "invalid_request",
            Self::BadToken(_) | Self::OtherAudience => "invalid_token",
            Self::MissingScope(_) => "insufficient_scope",
        }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let code = self.code();
        let (status, description) = match &self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "No bearer token in the Authorization header".to_owned()),
            Self::Malformed(problem) => (StatusCode::BAD_REQUEST, (*problem).to_owned()),
            Self::BadToken(problem) => (StatusCode::UNAUTHORIZED, problem.to_string()),
            Self::OtherAudience => (StatusCode::UNAUTHORIZED, "Token is for another audience".to_owned()),
            Self::MissingScope(scope) => (StatusCode::FORBIDDEN, format!("This needs the scope {scope}")),
        };
        let mut challenge = format!("Bearer realm=\"{REALM}\"");
        // RFC 6750 section 3.1: a request without any token is told no error code.
        if !matches!(self, Self::NoToken) {
            challenge.push_str(&format!(", error=\"{code}\", error_description=\"{}\"", describable(&description)));
        }
        if let Self::MissingScope(scope) = &self {
            challenge.push_str(&format!(", scope=\"{}\"", describable(scope)));
        }
        let body = json!({ "error": code, "error_description": description });
        let mut response = (status, uncached(&body)).into_response();
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Reads a body of any size to its end, and tells its length.
async fn drain(mut body: Body) -> u64 {
    let mut length = 0;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    length
}

const REALM: &str = "lanyard demo";
