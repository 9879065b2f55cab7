//! A protected API to try tokens on: every path and method, among them `/api/v1/protected-resource` and `/resource`.
//!
//! It checks a token for real (signature, issuer, expiry, revocation, binding to a certificate or key, audience, scope)
//! and answers as RFC 6750 and RFC 9449 say: 401 without an error code where there is no token, 401 `invalid_token`,
//! `invalid_dpop_proof` or `use_dpop_nonce`, 403 `insufficient_scope`, 400 `invalid_request`. A success says whose token it was, never the token.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::json;

use super::{
    Issuer,
    claims::{Claims, TokenProblem},
    dpop::{self, Nonces, Refusal},
    error::{NEEDS_NONCE, add_nonce, describable, uncached},
    incoming::peer_of,
    jwk::short,
    jws::{self, Problem},
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
    /// The URL that clients reach the API by, which DPoP proofs are for (`https://api.example.com`). None: what each
    /// request says in its `Host` header.
    pub url: Option<String>,
}

impl Requirements {
    /// What goes with [`Settings::development`](super::Settings::development): `api:read` to read, `api:write` to write.
    pub fn development() -> Self {
        Self {
            audience: None,
            read_scope: Some("api:read".to_owned()),
            write_scope: Some("api:write".to_owned()),
            url: None,
        }
    }

    fn scope(&self, method: &Method) -> Option<&str> {
        if method.is_safe() { self.read_scope.as_deref() } else { self.write_scope.as_deref() }
    }
}

/// The protected API, for tokens of `issuer`. It may share a router with the issuer's own: known paths win.
pub fn router(issuer: Arc<Issuer>, requirements: Requirements) -> Router {
    Router::new().route("/", any(answer)).route("/{*path}", any(answer)).with_state(Arc::new(Resource {
        nonces: issuer.nonce_policy.map(Nonces::new),
        issuer,
        requirements,
    }))
}

struct Resource {
    issuer: Arc<Issuer>,
    requirements: Requirements,
    /// Its own, that are no good at the token endpoint.
    nonces: Option<Nonces>,
}

async fn answer(State(resource): State<Arc<Resource>>, request: Request) -> Response {
    let peer = peer_of(&request);
    let (parts, body) = request.into_parts();
    let result = resource.admit(&parts, &peer);
    tracing::info!(
        target: "lanyard::issuer",
        method = %parts.method,
        path = parts.uri.path(),
        client_id = result.as_ref().ok().map(|claims| claims.client_id.as_str()),
        result = result.as_ref().map_or_else(Denial::code, |_| "admitted"),
        "protected resource"
    );
    let mut response = match result {
        Err(denial) => denial.into_response(),
        Ok(claims) => uncached(&json!({
            "message": "Access granted",
            "sub": claims.sub,
            "scope": claims.scope.as_deref().unwrap_or_default(),
            "client_id": claims.client_id,
            "method": parts.method.as_str(),
            "path": parts.uri.path(),
            "token_type": claims.token_type(),
            "body_bytes": drain(body).await,
        })),
    };
    add_nonce(&mut response, resource.nonces.as_ref(), resource.issuer.now());
    response
}

impl Resource {
    fn admit(&self, parts: &Parts, peer: &Peer) -> Result<Claims, Denial> {
        let (scheme, token) = presented(&parts.headers)?;
        let claims = self.issuer.verify(token).map_err(|problem| Denial::BadToken(problem, scheme))?;
        Issuer::check_binding(&claims, peer).map_err(|problem| Denial::BadToken(problem, scheme))?;
        match (scheme, claims.jkt()) {
            (Scheme::Bearer, None) => {}
            // RFC 9449 section 7.2: whoever has stolen a token must not get by without its key.
            (Scheme::Bearer, Some(_)) => return Err(Denial::BadToken(TokenProblem::NoProof, Scheme::Dpop)),
            (Scheme::Dpop, None) => return Err(Denial::BadToken(TokenProblem::NotBound, Scheme::Bearer)),
            (Scheme::Dpop, Some(jkt)) => self.check_proof(parts, peer, token, jkt)?,
        }
        if let Some(wanted) = self.requirements.audience.as_ref().filter(|wanted| !claims.aud.contains(wanted)) {
            let text =
                format!("Token is for another audience: aud is {}, expected {wanted}", short(&claims.aud.list()));
            return Err(Denial::OtherAudience(text, scheme));
        }
        match self.requirements.scope(&parts.method) {
            Some(scope) if !claims.has_scope(scope) => Err(Denial::MissingScope(scope.to_owned(), scheme)),
            Some(_) | None => Ok(claims),
        }
    }

    /// Checks that the request is signed with the token's key.
    fn check_proof(&self, parts: &Parts, peer: &Peer, token: &str, jkt: &str) -> Result<(), Denial> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let base = match &self.requirements.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("{}://{host}", if peer.tls { "https" } else { "http" }),
        };
        let request = dpop::Request {
            headers: &parts.headers,
            method: parts.method.as_str(),
            urls: &[format!("{base}{}", parts.uri.path())],
            access_token: Some(token),
            nonces: self.nonces.as_ref(),
        };
        match self.issuer.check_proof(&request).map_err(Denial::BadProof)? {
            None => Err(Denial::BadProof(Refusal::Invalid(Problem("there is no DPoP header".to_owned())))),
            Some(proven) if proven != jkt => Err(Denial::BadToken(TokenProblem::OtherKey, Scheme::Dpop)),
            Some(_) => Ok(()),
        }
    }
}

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

/// The token in the `Authorization` header.
fn presented(headers: &HeaderMap) -> Result<(Scheme, &str), Denial> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Denial::NoToken)?;
    if values.next().is_some() {
        return Err(Denial::Malformed("More than one Authorization header"));
    }
    let text = value.to_str().map_err(|_| Denial::Malformed("Malformed Authorization header"))?;
    let (name, token) = text.split_once(' ').unwrap_or((text, ""));
    let scheme = match name {
        bearer if bearer.eq_ignore_ascii_case("Bearer") => Scheme::Bearer,
        dpop if dpop.eq_ignore_ascii_case("DPoP") => Scheme::Dpop,
        _ => return Err(Denial::NoToken),
    };
    let token = token.trim_matches(' ');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(allowed) {
        return Err(Denial::Malformed(match scheme {
            Scheme::Bearer => "Malformed Authorization header: expected Bearer and one token",
            Scheme::Dpop => "Malformed Authorization header: expected DPoP and one token",
        }));
    }
    Ok((scheme, token))
}

/// Why a request is not let in.
#[derive(Debug)]
enum Denial {
    NoToken,
    Malformed(&'static str),
    BadToken(TokenProblem, Scheme),
    BadProof(Refusal),
    OtherAudience(String, Scheme),
    MissingScope(String, Scheme),
}

impl Denial {
    fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "unauthorized",
            Self::Malformed(_) => "invalid_request",
            Self::BadToken(..) | Self::OtherAudience(..) => "invalid_token",
            Self::BadProof(Refusal::Invalid(_)) => "invalid_dpop_proof",
            Self::BadProof(Refusal::Nonce) => "use_dpop_nonce",
            Self::MissingScope(..) => "insufficient_scope",
        }
    }

    /// The scheme that the challenge is of: that by which it could have worked.
    const fn scheme(&self) -> Scheme {
        match self {
            Self::NoToken | Self::Malformed(_) => Scheme::Bearer,
            Self::BadProof(_) => Scheme::Dpop,
            Self::BadToken(_, scheme) | Self::OtherAudience(_, scheme) | Self::MissingScope(_, scheme) => *scheme,
        }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let code = self.code();
        let (status, description) = match &self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "No bearer token in the Authorization header".to_owned()),
            Self::Malformed(problem) => (StatusCode::BAD_REQUEST, (*problem).to_owned()),
            Self::BadToken(problem, _) => (StatusCode::UNAUTHORIZED, problem.to_string()),
            Self::BadProof(Refusal::Invalid(problem)) => (StatusCode::UNAUTHORIZED, format!("DPoP: {problem}")),
            Self::BadProof(Refusal::Nonce) => (StatusCode::UNAUTHORIZED, NEEDS_NONCE.to_owned()),
            Self::OtherAudience(text, _) => (StatusCode::UNAUTHORIZED, text.clone()),
            Self::MissingScope(scope, _) => (StatusCode::FORBIDDEN, format!("This needs the scope {scope}")),
        };
        let description = describable(&description);
        let mut challenge = match self.scheme() {
            Scheme::Bearer => format!("Bearer realm=\"{REALM}\""),
            Scheme::Dpop => {
                let algs: Vec<&str> = jws::names(false).collect();
                format!("DPoP realm=\"{REALM}\", algs=\"{}\"", algs.join(" "))
            }
        };
        // RFC 6750 section 3.1: a request without any token is told no error code.
        if !matches!(self, Self::NoToken) {
            challenge.push_str(&format!(", error=\"{code}\", error_description=\"{description}\""));
        }
        if let Self::MissingScope(scope, _) = &self {
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
